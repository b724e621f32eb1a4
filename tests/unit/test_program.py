"""The whole program for each stack, on the mock engine: its shape, its names, its maintenance windows."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from patchwave.calendar.update_manager import notes
from patchwave.calendar.windows import Freeze
from patchwave.config.settings import STACKS
from patchwave.releases import release as releases
from tests.unit.builders import release, settings
from tests.unit.engine import PROJECT, Declared, declare_stack

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


def stack_of(declared: list[Declared]) -> str:
    return next(d.name for d in declared if d.type == "patchwave:index:Site")


def test_every_resource_is_named_for_its_stack(declared: list[Declared]) -> None:
    stack = stack_of(declared)
    assert [d.name for d in declared if not d.name.startswith(stack)] == []


def test_every_taggable_resource_carries_its_stack(declared: list[Declared]) -> None:
    stack = stack_of(declared)
    untagged = {d.type.rsplit(":", 1)[1] for d in declared if d.type.startswith("azure") and "tags" not in d.props}
    assert untagged <= UNTAGGABLE
    assert all(d.props["tags"]["patchwave-stack"] == stack for d in declared if "tags" in d.props)


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


def test_nothing_names_a_fixed_subscription(declared: list[Declared]) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (PROJECT / "components").glob("*.py"))
    assert not re.search(r"/subscriptions/[0-9a-f]{8}", text)


def test_a_release_adds_a_wave_whose_phases_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = release()
    monkeypatch.setattr(releases, "path_of", lambda project, name: tmp_path / f"{name}.json")
    (tmp_path / "releases").mkdir()
    releases.save(tmp_path, sealed)
    commands = [d for d in declare_stack("dev", sealed.id) if d.type == "command:local:Command"]
    assert [d.name.removeprefix("dev-wave-") for d in commands] == [
        "preflight",
        "protect",
        "patch-canary",
        "patch-rest",
        "prove",
    ]
    assert {d.props["environment"]["PATCHWAVE_DIGEST"] for d in commands} == {sealed.digest}
    assert all(d.props["triggers"] == [sealed.digest] for d in commands)


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
    wanted = list(notes(frozen, decided.rollout.ring_names, decided.maintenance.starts_on))
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned == wanted
    assert any("runs in 'year end'" in note for note in wanted)
