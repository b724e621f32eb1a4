"""Changes every number, name and domain of a project's decisions, which stay valid: `python -m tools.change_decisions`.

Run it in a copy of the project: an adopter's decisions are other ones, and no test may notice.
"""

import re
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from patchwave.authorization.within import complaints
from patchwave.base.documents import as_document
from patchwave.base.errors import Failed
from patchwave.config.settings import SETTINGS, read_stack
from patchwave.config.standard import PATH, parse_standard

DURATION = TypeAdapter(timedelta)
WINDOW = {"recurrence", "zone"}
SPANS = {"duration", "longest"}
LEFT = {"failure_budget", "to", "fifo"}
NAMED = {"service", "patch_after", "ring", "promoted_from", "deploys", "approves", "routine_only", "stacks"}
LISTS = {"services", "fleets", "audience", "policy"}


def main(project: Path) -> None:
    """Rewrites policy/standard.yaml and every Pulumi.STACK.yaml; Failed when what comes out would not be valid."""
    standard = as_document((project / PATH).read_bytes(), str(PATH)).data
    renamed = {name: f"{name}-two" for name in standard["stacks"]}
    roles = {name: f"{name} Two" for name in standard["roles"]}
    changed = {PATH: _changed(standard, (), renamed | roles)}
    for stack, new in renamed.items():
        path = Path(f"Pulumi.{stack}.yaml")
        document = as_document((project / path).read_bytes(), str(path)).data
        settings = document["config"][SETTINGS]
        names = {name: f"{name}-two" for key in ("services", "fleets") for name in settings[key]}
        names |= {ring["name"]: f"{ring['name']}-two" for ring in settings["rollout"]["rings"]}
        config = {key: value for key, value in document["config"].items() if not key.startswith("patchwave:")}
        changed[Path(f"Pulumi.{new}.yaml")] = {"config": config | {SETTINGS: _changed(settings, (), renamed | names)}}
        (project / path).unlink()
    for path, data in changed.items():
        (project / path).write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    rules = parse_standard((project / PATH).read_bytes(), str(PATH))
    for stack in renamed.values():
        path = project / f"Pulumi.{stack}.yaml"
        looser = list(complaints(read_stack(as_document(path.read_bytes(), str(path))).settings, rules, stack))
        if looser:
            raise Failed(f"{path}: {looser[0]}: correct {__name__}")


def _changed(data: Any, path: tuple[str, ...], names: dict[str, str]) -> Any:
    """The same decision with other values; names of stacks, roles, services, fleets and rings as `names` has them."""
    if isinstance(data, dict):
        if data.keys() >= WINDOW:
            data = _later(data, timedelta(hours=1 if "image_window" in path or "image_upgrade" in path else 0.5))
        return {
            (names.get(key, key) if not path or path[-1] in LISTS | {"roles", "stacks"} else key): _changed(
                value, (*path, key), names
            )
            for key, value in data.items()
        }
    if isinstance(data, list):
        return [_changed(one, (*path, "[]"), names) for one in data]
    key = next((one for one in reversed(path) if one != "[]"), "")
    if isinstance(data, str):
        return _text(data, key, path, names)
    if isinstance(data, bool) or data is None or key in LEFT:
        return data
    if isinstance(data, float) or key == "cvss_from":
        return round(data - 0.1, 1) if data > 0.1 else data
    if "weights" in path or (key.endswith("_days") and data > 60):
        return max(data - 1, 0)
    return data - 1 if key.endswith("percent") and data > 5 else data if key == "offset_days" else data + 1


def _text(text: str, key: str, path: tuple[str, ...], names: dict[str, str]) -> str:
    rules: list[tuple[str, Callable[[str], str]]] = [
        (r"P[0-9DT.HMS]+", lambda found: found if key in SPANS else _longer(found)),
        (r"\d{4}-\d\d-\d\d", lambda found: str(date.fromisoformat(found) + timedelta(days=7))),
        (r"10\.(\d+)\.\d+\.\d+/\d+", lambda found: found.replace("10.", "10.1", 1)),
        (r"1\.0\.0", lambda _: "1.0.1"),
        (r"(\d\d)%", lambda found: f"{int(found[:-1]) + 1}%"),
    ]
    for form, change in rules:
        if re.fullmatch(form, text):
            return change(text)
    if key in NAMED | {"name", "stacks", "approvers", "break_glass_approvers"} and text in names:
        return names[text]
    return re.sub(r"@[a-z.-]+", "@two.example", text.replace("westeurope", "northeurope"))


def _longer(text: str) -> str:
    """A tenth more, where there is one; none of the short limits is that near to its greatest."""
    span = DURATION.validate_python(text)
    return DURATION.dump_python(span + span / 10, mode="json")  # type: ignore[no-any-return]


def _later(window: dict[str, Any], shift: timedelta) -> dict[str, Any]:
    """A window or an envelope that opens later and lasts five minutes more."""
    more = timedelta(minutes=5)
    clock = {"earliest": shift, "starts": shift, "latest": shift + more}

    def one(key: str, value: Any) -> Any:
        if key in clock:
            return f"{datetime.fromisoformat(f'2000-01-01T{value}') + clock[key]:%H:%M}"
        return DURATION.dump_python(DURATION.validate_python(value) + more, mode="json") if key in SPANS else value

    return {key: one(key, value) for key, value in window.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
