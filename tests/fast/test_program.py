"""The whole program for each stack, on the mock engine: its shape, its names, its maintenance windows."""

import re
from collections.abc import Iterator
from datetime import datetime, time
from pathlib import Path
from typing import Any

import pytest

from patchwave.decisions.settings import STACKS
from patchwave.releases import release as releases
from tests.fast.builders import release
from tests.fast.engine import PROJECT, Declared, declare_stack

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
def test_declared_maintenance_starts_with_the_stacks_own_window(stack: str) -> None:
    for configuration in [d for d in declare_stack(stack) if d.type.endswith("MaintenanceConfiguration")]:
        starts = datetime.strptime(configuration.props["startDateTime"], "%Y-%m-%d %H:%M")
        own = {"dev": time(9), "staging": time(14), "prod": time(2)}[stack]
        assert starts.time() == (own if configuration.props["maintenanceScope"] == "InGuestPatch" else time(16))
