"""A change about to be stored, and the rules that may refuse it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sandbox.azure.resources.errors import AzureError, conflict
from sandbox.azure.resources.store import Row

Json = Any


class View(Protocol):
    """What a rule may look up."""

    def get(self, key: str) -> Row | None: ...

    def of_type(self, type_: str) -> list[Row]: ...

    def children(self, key: str, type_: str) -> list[Row]: ...


@dataclass(frozen=True)
class Change:
    """A body about to be stored over what is there; `rationed` adds the limits that Azure sets by the hour."""

    id: str
    body: Mapping[str, Json]
    old: Mapping[str, Json] | None
    view: View
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    rationed: bool = False

    def at(self, path: str, default: Json = None) -> Json:
        """A value of the new body's properties by dotted path."""
        return dig(self.body.get("properties"), path, default)

    def was(self, path: str) -> Json:
        return dig((self.old or {}).get("properties"), path)

    @property
    def name(self) -> str:
        return self.id.rsplit("/", 1)[-1]

    @property
    def group(self) -> str:
        return self.id.split("/")[4]


Rule = Callable[[Change], Iterator[AzureError]]
RULES: dict[str, list[Rule]] = {}


def refuses(*types: str) -> Callable[[Rule], Rule]:
    """Registers a rule for types of resources."""

    def keep(rule: Rule) -> Rule:
        for type_ in types:
            RULES.setdefault(type_.lower(), []).append(rule)
        return rule

    return keep


def check(type_: str, change: Change) -> None:
    """Raises the first refusal."""
    for rule in RULES.get(type_.lower(), ()):
        for refusal in rule(change):
            raise refusal


def unchangeable(change: Change, *paths: str) -> Iterator[AzureError]:
    """Compute's refusal of another value for a property that is settled at creation; one left out stays as it is."""
    for path in paths if change.old is not None else ():
        new, old = change.at(path), change.was(path)
        if new is not None and _plain(new) != _plain(old):
            yield conflict("PropertyChangeNotAllowed", f"Changing property '{path}' is not allowed.")


def _plain(value: Json) -> Json:
    """Values without regard to the case of ids in them."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return value.lower() if isinstance(value, str) and value.startswith("/") else value


def dig(value: Json, path: str, default: Json = None) -> Json:
    """A value by dotted path, or the default when any part is missing."""
    for part in path.split("."):
        if not isinstance(value, Mapping) or value.get(part) is None:
            return default
        value = value[part]
    return value


def recent(rows: Iterable[Row], now: datetime, seconds: float) -> list[datetime]:
    """When those of the rows were made that are younger than so many seconds, oldest first."""
    made = (
        datetime.fromisoformat(dig(row.body, "properties.timeCreated", "0001-01-01T00:00:00+00:00")) for row in rows
    )
    return sorted(at for at in made if at > now - timedelta(seconds=seconds))


def minutes(text: Json) -> float | None:
    """An ISO 8601 duration in minutes; None when it is none."""
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", str(text))
    if not found or not any(found.groups()):
        return None
    days, hours, mins, seconds = (float(part or 0) for part in found.groups())
    return days * 1440 + hours * 60 + mins + seconds / 60
