"""The schemas say what the models say: good files pass, a broken neighbour fails, and nothing has drifted."""

import copy
import json
from pathlib import Path
from typing import Any

import check_jsonschema
import pytest
import yaml

from patchwave.base.errors import UsageError
from patchwave.cli import schema
from patchwave.config.settings import load_stack
from patchwave.config.standard import Standard
from tests.unit.builders import FIXTURE, copy_desk
from tests.unit.engine import PROJECT
from tests.unit.test_waivers import document

FILES = {
    path: "standard.json" if path.name == "standard.yaml" else "stack.json"
    for project in (FIXTURE, FIXTURE.parent / "grid")
    for path in sorted([*project.glob("Pulumi.*.yaml"), *project.glob("policy/*.yaml")])
}


def passes(path: Path, name: str) -> bool:
    """Whether a validator that knows nothing of the models takes a file, by its schema."""
    with pytest.raises(SystemExit) as ended:
        check_jsonschema.main(["--quiet", "--schemafile", str(PROJECT / schema.FOLDER / name), str(path)])
    assert ended.value.code in (0, 1)
    return ended.value.code == 0


def test_the_schemas_are_those_of_the_models() -> None:
    for name, made in schema.schemas().items():
        kept = (PROJECT / schema.FOLDER / name).read_text(encoding="utf-8")
        assert kept == schema.text(made), f"run `make schemas`: {name} has drifted"


@pytest.mark.parametrize(("path", "name"), FILES.items(), ids=lambda one: getattr(one, "name", one))
def test_the_files_of_both_organisations_pass_their_schema(path: Path, name: str) -> None:
    assert passes(path, name)


def changed(document: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    data = copy.deepcopy(document)
    place: Any = data
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return data


SETTINGS = ("config", "patchwave:settings")
STANDARD_BREAKS: list[tuple[tuple[str | int, ...], Any]] = [
    (("sla", 0, "due"), "24 hours"),
    (("sla", 0, "cvss_from"), 11),
    (("sla", 0, "severity"), "urgent"),
    (("minimum_age", "low"), None),
    (("waiver_longest", "high"), "a month"),
    (("stacks", "dev", "criteria", 0), {"proof": "latency"}),
    (("stacks", "dev", "criteria", 0), {"proof": "hope"}),
    (("stacks", "dev", "window", "earliest"), "9 o'clock"),
    (("stacks", "qa"), {}),
    (("targets", "compliance"), 95),
]
STACK_BREAKS: list[tuple[tuple[str | int, ...], Any]] = [
    ((*SETTINGS, "fleets", "web", "hosts", "live"), "red"),
    ((*SETTINGS, "fleets", "web", "hosts", "instances"), "2"),
    ((*SETTINGS, "colour"), "blue"),
    ((*SETTINGS, "calendar", "windows"), []),
    ((*SETTINGS, "rollout", "batch_timeout"), 10),
    (SETTINGS, None),
    (("config", "patchwave:release"), "latest"),
    (("config", "patchwave:waivers"), ["../W-1"]),
    (("config", "patchwave:realease"), "2026-11-22.1"),
]


@pytest.mark.parametrize(("path", "value"), STANDARD_BREAKS)
def test_schema_and_model_refuse_the_same_standard(tmp_path: Path, path: tuple[str | int, ...], value: Any) -> None:
    shipped = yaml.safe_load((FIXTURE / "policy" / "standard.yaml").read_text(encoding="utf-8"))
    broken = changed(shipped, path, value)
    file = tmp_path / "standard.yaml"
    file.write_text(yaml.safe_dump(broken), encoding="utf-8")
    assert not passes(file, "standard.json")
    with pytest.raises(ValueError, match=r"\d validation error"):
        Standard.model_validate_json(json.dumps(broken))


@pytest.mark.parametrize(("path", "value"), STACK_BREAKS)
def test_schema_refuses_a_broken_stack_file(tmp_path: Path, path: tuple[str | int, ...], value: Any) -> None:
    shipped = yaml.safe_load((FIXTURE / "Pulumi.dev.yaml").read_text(encoding="utf-8"))
    file = copy_desk(tmp_path) / "Pulumi.dev.yaml"
    file.write_text(yaml.safe_dump(changed(shipped, path, value)), encoding="utf-8")
    assert not passes(file, "stack.json")
    if path[:2] == SETTINGS or path[1] == "patchwave:realease":
        with pytest.raises(UsageError):
            load_stack(tmp_path, "dev")


def test_what_pulumi_itself_keeps_in_a_stack_file_passes(tmp_path: Path) -> None:
    data = yaml.safe_load((FIXTURE / "Pulumi.dev.yaml").read_text(encoding="utf-8"))
    data["encryptionsalt"] = "v1:abc"
    data["config"] |= {"patchwave:release": "2026-11-22.1", "patchwave:waivers": ["W-1"], "azure-native:tenantId": "x"}
    file = tmp_path / "Pulumi.dev.yaml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert passes(file, "stack.json")


@pytest.mark.parametrize(("changes", "good"), [({}, True), ({"expires": None}, False), ({"scope": {}}, False)])
def test_a_waiver_is_held_against_its_schema(tmp_path: Path, changes: dict[str, Any], good: bool) -> None:
    file = tmp_path / "W-1.yaml"
    data = {key: value for key, value in document(**changes).items() if value is not None}
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert passes(file, "waiver.json") == good
