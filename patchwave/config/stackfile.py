"""Names a release and waivers in a stack file by changing the lines of that key; every other byte stays as it was."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from patchwave.base.documents import Document, Place, as_document, read_document
from patchwave.base.errors import UsageError
from patchwave.config.settings import RELEASE, WAIVERS, stack_path
from patchwave.config.standard import StackName

_PLAIN = re.compile(r"\d{4}-\d\d-\d\d\.\d+|[A-Za-z]+-[A-Za-z0-9-]+")
"""What every reader of YAML takes for a text: ids of releases and the usual ids of waivers."""


def set_release(project: Path, stack: StackName, release_id: str) -> bool:
    """Whether the file changed; it is replaced whole or not at all."""
    return _set(stack_path(project, stack), RELEASE, release_id)


def set_waivers(project: Path, stack: StackName, ids: Sequence[str]) -> bool:
    """Whether the file changed; it names exactly these waivers afterwards."""
    return _set(stack_path(project, stack), WAIVERS, list(ids))


def _set(path: Path, key: str, value: str | list[str]) -> bool:
    before = read_document(path)
    config = before.data.get("config") if isinstance(before.data, dict) else None
    if not isinstance(config, dict) or not config:
        raise before.refusal(("config",), f"config has no keys beside which {key} could stand: fix it by hand")
    if (config.get(key) or []) == value:
        return False
    text = _edited(before, ("config", key), value)
    if not _differs_only_in(before, text, key, value):
        raise before.refusal(("config", key), f"{key} cannot be set in this layout: write {_spelled(value)} by hand")
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    fresh.write_bytes(text.encode())
    shutil.copymode(path, fresh)
    fresh.replace(path)
    return True


def _differs_only_in(before: Document, text: str, key: str, value: str | list[str]) -> bool:
    try:
        after = as_document(text.encode(), before.where).data
    except UsageError:
        return False
    old, new = dict(before.data["config"]), dict(after["config"])
    old.pop(key, None)
    return (new.pop(key, None) or []) == value and (old, {**before.data, "config": 0}) == (new, {**after, "config": 0})


def _spelled(value: str | list[str]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_spelled, value))}]"
    return value if _PLAIN.fullmatch(value) else f'"{value}"'


def _edited(file: Document, key: tuple[str, ...], value: str | list[str]) -> str:
    text, config = file.text, file.places[key[:-1]]
    if key in file.places:
        place = file.places[key]
        if not value and not config.flow:
            return text[: text.rfind("\n", 0, place.key_ends) + 1] + text[_next_line(text, place.ends) :]
        return f"{text[: place.key_ends]}: {_spelled(value)}{text[max(place.ends, _after_colon(text, place)) :]}"
    line = f"{key[-1]}: {_spelled(value)}"
    if config.flow:
        last = max(place.ends for other, place in file.places.items() if other[: len(key) - 1] == key[:-1] != other)
        return f"{text[:last]}, {line}{text[last:]}"
    column = next(place.column for other, place in file.places.items() if other[:-1] == key[:-1])
    end = "\r\n" if "\r\n" in text else "\n"
    at = _next_line(text, config.ends)
    opening = "" if text[:at].endswith("\n") else end
    return f"{text[:at]}{opening}{' ' * column}{line}{end if not opening else ''}{text[at:]}"


def _after_colon(text: str, place: Place) -> int:
    return text.index(":", place.key_ends) + 1


def _next_line(text: str, index: int) -> int:
    """Where the line after the one that ends a value begins."""
    if text[:index].endswith("\n"):
        return index
    found = text.find("\n", index)
    return len(text) if found < 0 else found + 1
