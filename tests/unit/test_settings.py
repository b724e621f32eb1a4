"""Stack files: every one loads and keeps the standard; each wrong one is refused in one line that names the field."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from patchwave.base.errors import UsageError
from patchwave.config.settings import STACKS, load_stack
from patchwave.config.stackfile import set_release, set_waivers
from tests.unit.builders import STANDARD
from tests.unit.engine import PROJECT


def dev() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((PROJECT / "Pulumi.dev.yaml").read_text(encoding="utf-8"))
    return loaded


def write(folder: Path, document: dict[str, Any]) -> Path:
    (folder / "Pulumi.dev.yaml").write_text(json.dumps(document), encoding="utf-8")
    return folder


@pytest.mark.parametrize("stack", STACKS)
def test_every_stack_file_keeps_the_standard(stack: str) -> None:
    envelope = STANDARD.stacks[stack].window  # type: ignore[index]  # STACKS are the names
    for window in load_stack(PROJECT, stack).settings.calendar.windows:
        assert list(envelope.complaints(window)) == []


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("slots", "live"), "red", "slots.live"),
        (("slots", "instances"), "2", "slots.instances"),
        (("slots", "instances"), 1, "slots.instances"),
        (("slots", "colour"), "blue", "slots.colour: Extra inputs"),
        (("rollout", "failure_budget"), -1, "rollout.failure_budget"),
        (("rollout", "live_out_of_service"), 2, "no live host would be left"),
        (("service", "probe", "interval"), "PT1S", "service.probe.interval"),
        (("service", "units"), ["nginx; reboot"], "service.units.0"),
        (("fleets", "sites", "way_back"), "snapshot", "Azure takes none of arc"),
        (("fleets", "web", "method"), "update_manager", "does not patch scale sets"),
        (
            ("rollout", "host_takes"),
            "PT2H1M",
            "host_takes is 121 min, the longest window lasts 120 min",
        ),
        (("calendar", "windows"), [], "calendar.windows"),
        (("address_space",), "8.8.0.0/16", "private IPv4"),
        (("alerts", "emails"), [], "alerts.emails"),
        (("slots", "rolling", "max_batch_percent"), 80, "first batch would abort"),
    ],
)
def test_a_wrong_decision_is_named_in_one_line(tmp_path: Path, path: tuple[str, ...], value: Any, says: str) -> None:
    document = dev()
    place = document["config"]["patchwave:settings"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(UsageError) as caught:
        load_stack(write(tmp_path, document), "dev")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Pulumi.dev.yaml" in str(caught.value)


@pytest.mark.parametrize(("field", "value"), [("duration", "PT25H"), ("zone", "Mars/Olympus"), ("starts", "25:00")])
def test_one_wrong_field_of_a_window_is_one_complaint(tmp_path: Path, field: str, value: str) -> None:
    document = dev()
    document["config"]["patchwave:settings"]["calendar"]["windows"][0][field] = value
    with pytest.raises(UsageError, match=rf"calendar\.windows\.0\.{field}: ") as caught:
        load_stack(write(tmp_path, document), "dev")
    assert "more)" not in str(caught.value)
    document["config"]["patchwave:settings"]["slots"]["live"] = "red"
    with pytest.raises(UsageError, match=r"\(and 1 more\)"):
        load_stack(write(tmp_path, document), "dev")


@pytest.mark.parametrize("stack", ["qa", "../dev", ""])
def test_an_unknown_stack_is_misuse(stack: str) -> None:
    with pytest.raises(UsageError, match="dev, staging or prod"):
        load_stack(PROJECT, stack)


def test_naming_a_release_changes_that_line_only(tmp_path: Path) -> None:
    before = (PROJECT / "Pulumi.dev.yaml").read_text(encoding="utf-8")
    text = "".join(line for line in before.splitlines(keepends=True) if "patchwave:release" not in line)
    (tmp_path / "Pulumi.dev.yaml").write_text(text.replace("config:\n", "config:\n  # kept\n"), encoding="utf-8")
    assert set_release(tmp_path, "dev", "2026-11-22.1")
    after = (tmp_path / "Pulumi.dev.yaml").read_text(encoding="utf-8")
    assert load_stack(tmp_path, "dev").release == "2026-11-22.1"
    assert "# kept" in after
    assert not set_release(tmp_path, "dev", "2026-11-22.1")
    assert load_stack(tmp_path, "dev").settings == load_stack(PROJECT, "dev").settings


def test_waivers_are_named_and_taken_back_and_the_schema_line_stays(tmp_path: Path) -> None:
    before = (PROJECT / "Pulumi.dev.yaml").read_text(encoding="utf-8")
    (tmp_path / "Pulumi.dev.yaml").write_text(before, encoding="utf-8")
    assert set_waivers(tmp_path, "dev", ["W-1", "W-2"])
    assert load_stack(tmp_path, "dev").waivers == ("W-1", "W-2")
    assert not set_waivers(tmp_path, "dev", ["W-1", "W-2"])
    assert set_waivers(tmp_path, "dev", [])
    assert not set_waivers(tmp_path, "dev", [])
    after = (tmp_path / "Pulumi.dev.yaml").read_text(encoding="utf-8")
    assert after.splitlines()[0] == before.splitlines()[0]
    assert "waivers" not in after


def test_waivers_that_are_no_list_are_named(tmp_path: Path) -> None:
    document = dev()
    document["config"]["patchwave:waivers"] = "W-1"
    with pytest.raises(UsageError, match="patchwave:waivers must be a list"):
        load_stack(write(tmp_path, document), "dev")
