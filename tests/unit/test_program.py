"""The whole program for each stack, on the mock engine: its shape, its names, what its root publishes, its wave."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest

from patchwave.calendar.update_manager import notes
from patchwave.calendar.windows import Freeze
from patchwave.config.order import Order
from patchwave.releases import release as releases
from tests.unit.builders import STANDARD, release, settings
from tests.unit.changes import Change
from tests.unit.engine import PROJECT, Declared, declare_stack

STACKS = tuple(STANDARD.stacks)
UNTAGGABLE = {
    "ConfigurationAssignment",
    "ConfigurationAssignmentsForResourceGroup",
    "ProtectedItem",
    "ProtectionPolicy",
    "RoleAssignment",
    "SystemTopicEventSubscription",
    "Table",
}


@pytest.fixture(scope="module", params=STACKS)
def declared(request: pytest.FixtureRequest) -> list[Declared]:
    return declare_stack(request.param)


def root(declared: list[Declared]) -> Declared:
    return next(d for d in declared if d.type == "patchwave:index:Stack")


def test_every_resource_is_named_for_its_stack(declared: list[Declared]) -> None:
    assert [d.name for d in declared if not d.name.startswith(root(declared).name)] == []


def test_every_taggable_resource_carries_its_stack(declared: list[Declared]) -> None:
    untagged = {d.type.rsplit(":", 1)[1] for d in declared if d.type.startswith("azure") and "tags" not in d.props}
    assert untagged <= UNTAGGABLE
    stack = root(declared).name
    assert all(d.props["tags"]["patchwave-stack"] == stack for d in declared if "tags" in d.props)


def test_the_root_publishes_the_decisions_that_were_declared(declared: list[Declared]) -> None:
    published = root(declared).props
    stack = published["stack"]
    assert published["settings"] == settings(stack).model_dump(mode="json", exclude_none=True)
    changed = root(declare_stack(stack, change={"rollout.failure_budget": 3})).props["settings"]
    assert changed["rollout"]["failure_budget"] == 3


def keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys(inner) if key != "tags" else ()
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def test_every_property_is_spelled_as_the_service_spells_it(declared: list[Declared]) -> None:
    azure = [d for d in declared if d.type.startswith("azure")]
    assert [(d.name, key) for d in azure for key in keys(d.props) if "_" in key] == []


def test_both_slots_are_alike_but_for_name_pool_and_tag(declared: list[Declared]) -> None:
    blue, green = sorted((d for d in declared if d.type.endswith("VirtualMachineScaleSet")), key=lambda d: d.name)
    assert str(blue.props).replace("blue", "green") == str(green.props)


def test_nothing_names_a_fixed_subscription() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (PROJECT / "components").glob("*.py"))
    assert not re.search(r"/subscriptions/[0-9a-f]{8}", text)


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    made = release()
    monkeypatch.setattr(releases, "path_of", lambda project, name: tmp_path / f"{name}.json")
    releases.save(tmp_path, made)
    return made.id


def commands(sealed: str, change: Change | None = None) -> list[Declared]:
    return [d for d in declare_stack("dev", sealed, change) if d.type == "command:local:Command"]


def test_a_release_adds_a_wave_whose_phases_follow_each_other(sealed: str) -> None:
    made = commands(sealed)
    assert [d.name.removeprefix("dev-wave-") for d in made] == [
        "preflight",
        "protect",
        "patch-canary",
        "patch-rest",
        "prove",
    ]
    assert [d.props["create"] for d in made][2] == "exec patchwave wave patch --ring canary --stack dev"
    assert {d.props["update"] for d in made} == {"true"}


def test_each_phase_reads_one_order_which_has_all_that_was_declared(sealed: str) -> None:
    change = {"rollout.failure_budget": 2}
    made = commands(sealed, change)
    (text,) = {d.props["stdin"] for d in made}
    order = Order.read(text)
    published = root(declare_stack("dev", sealed, change)).props
    assert order.settings.model_dump(mode="json", exclude_none=True) == published["settings"]
    assert order.release.model_dump() == published["release"]
    assert order.standard == published["standard"]
    assert order.addresses.public == {"web": "http://127.9.9.10/"}
    assert order.addresses.ingestion_url is not None


@pytest.mark.parametrize(
    ("ports", "probe", "url"),
    [
        ([(8080, 80), (80, 81)], {"port": 80}, "http://127.9.9.10:8080/"),
        ([(80, 80), (443, 8443)], {"port": 8443, "protocol": "https"}, "https://127.9.9.10/"),
        ([(443, 8443)], {"port": 9000}, "https://127.9.9.10/"),
    ],
)
def test_the_gate_asks_the_public_port_of_what_the_probe_asks(
    sealed: str, ports: list[tuple[int, int]], probe: Change, url: str
) -> None:
    balancer = "fleets.web.hosts.balancer"
    change: Change = {
        f"{balancer}.ports": [{"port": port, "to": to} for port, to in ports],
        **{f"{balancer}.probe.{key}": value for key, value in probe.items()},
    }
    order = Order.read(commands(sealed, change)[0].props["stdin"])
    assert order.addresses.public == {"web": url}


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"alerts.retention_days": 60}, False),
        ({"fleets.web.hosts.size": "Standard_B4ms", "fleets.web.hosts.live": "green"}, False),
        ({"services.desk.max_unavailable": 2, "fleets.web.hosts.instances": 3}, True),
    ],
)
def test_only_what_concerns_hosts_makes_a_wave_run_again(sealed: str, change: Change, again: bool) -> None:
    before, after = ({str(d.props["triggers"]) for d in commands(sealed, one)} for one in ({}, change))
    assert len(before) == 1
    assert (before != after) is again


def test_permission_is_needed_before_a_wave_begins_and_by_nothing_that_ends_one(
    sealed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound: dict[str, Any] = {}
    registered = pulumi.Resource.__init__

    def seen(self: object, kind: str, name: str, *rest: Any) -> None:
        if kind == "command:local:Command":
            bound[name] = rest[2].hooks and rest[2].hooks.before_create
        registered(self, kind, name, *rest)  # type: ignore[arg-type]  # the SDK's own signature

    monkeypatch.setattr(pulumi.Resource, "__init__", seen)
    commands(sealed)
    assert [name for name, hooks in bound.items() if hooks] == ["dev-wave-preflight"]


@pytest.mark.parametrize("stack", STACKS)
def test_declared_maintenance_starts_ring_after_ring_in_the_stacks_own_window(stack: str) -> None:
    found = {
        d.props["resourceName"].removeprefix(f"{stack}-maintenance-"): d.props["startDateTime"][-5:]
        for d in declare_stack(stack)
        if d.type.endswith("MaintenanceConfiguration") and d.props["maintenanceScope"] == "InGuestPatch"
    }
    canary, rest = {"dev": ("09:00", "09:30"), "staging": ("14:00", "14:30"), "prod": ("02:00", "03:30")}[stack]
    assert found == {"canary": canary, "rest": rest}


@pytest.mark.parametrize("stack", STACKS)
def test_a_preview_warns_once_of_each_difference_of_update_manager(
    stack: str, caplog: pytest.LogCaptureFixture
) -> None:
    freeze = {"starts": "2026-12-01T00:00:00Z", "ends": "2027-01-04T00:00:00Z", "reason": "year end"}
    declare_stack(stack, change={"calendar.freezes": [freeze]})
    decided = settings(stack)
    frozen = decided.calendar.model_copy(update={"freezes": (Freeze.model_validate_json(json.dumps(freeze)),)})
    wanted = list(notes(frozen, decided.rollout.ring_names, decided.starts_on))
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned == wanted
    assert any("runs in 'year end'" in note for note in wanted)
