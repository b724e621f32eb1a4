"""JSON schemas of the files that people write, from the models that parse them: `python -m patchwave.cli.schema`."""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from patchwave.config.settings import RELEASE, SETTINGS, WAIVERS, Settings
from patchwave.config.standard import Standard
from patchwave.releases.release import ReleaseId
from patchwave.releases.waivers import Waiver, WaiverId

FOLDER = "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
DURATION = r"^P(?=\d|T\d)(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?$"
WALL_CLOCK = r"^([01]\d|2[0-3]):[0-5]\d$"


class _Schema(GenerateJsonSchema):
    """Durations as ISO 8601 without years and months, times of day as HH:MM, and no titles that repeat a name."""

    def timedelta_schema(self, schema: core_schema.TimedeltaSchema) -> JsonSchemaValue:
        return {"type": "string", "pattern": DURATION, "description": "an ISO 8601 duration such as PT2H or P7D"}

    def time_schema(self, schema: core_schema.TimeSchema) -> JsonSchemaValue:
        return {"type": "string", "pattern": WALL_CLOCK, "description": "a time of day, HH:MM"}

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _of(kind: Any) -> JsonSchemaValue:
    return TypeAdapter(kind).json_schema(schema_generator=_Schema, ref_template="#/$defs/{model}")


def schemas() -> dict[str, JsonSchemaValue]:
    """Each schema by the name of its file."""
    found = {"standard.json": _of(Standard), "stack.json": _stack(), "waiver.json": _of(Waiver)}
    return {name: {"$schema": DIALECT, **schema} for name, schema in found.items()}


def _stack() -> JsonSchemaValue:
    """Settings inside a Pulumi stack file, beside whatever else Pulumi keeps there."""
    settings = _of(Settings)
    definitions = settings.pop("$defs")
    keys = {SETTINGS: settings, RELEASE: _of(ReleaseId), WAIVERS: {"type": "array", "items": _of(WaiverId)}}
    others = "|".join(f"{name.removeprefix('patchwave:')}$" for name in keys)
    config = {
        "type": "object",
        "required": [SETTINGS],
        "properties": keys,
        "propertyNames": {"not": {"pattern": f"^patchwave:(?!{others})"}},
    }
    return {"type": "object", "required": ["config"], "properties": {"config": config}, "$defs": definitions}


def text(schema: JsonSchemaValue) -> str:
    """A schema as its file holds it."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def write(project: Path) -> list[Path]:
    """Every schema, and those whose file changed."""
    folder = project / FOLDER
    folder.mkdir(exist_ok=True)
    changed = []
    for name, schema in schemas().items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text(schema):
            path.write_text(text(schema), encoding="utf-8")
            changed.append(path)
    return changed


if __name__ == "__main__":
    for path in write(Path(__file__).resolve().parents[2]):
        sys.stdout.write(f"{path.name} is new\n")
