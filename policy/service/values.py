"""Properties as a rule may read them: whatever was written, nothing here raises."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?=\d)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


def at(value: Any, *keys: str) -> Any:
    """A value by its path, None where any part is missing."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def items(value: Any) -> Sequence[Any]:
    """A list as it stands; anything else has no items."""
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def table(value: Any) -> Mapping[str, Any]:
    """An object as it stands; anything else has no keys."""
    return value if isinstance(value, Mapping) else {}


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects in a list."""
    return [one for one in items(value) if isinstance(one, Mapping)]


def number(value: Any) -> float | None:
    """A number; a flag and a text are none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def outside(value: Any, low: float, high: float) -> bool:
    """Whether a value that was written is no number of this range; what was left out has the service's default."""
    return value is not None and ((found := number(value)) is None or not low <= found <= high)


def plain(value: Any) -> str:
    """A value as a complaint shows it: engines pass whole numbers as fractions."""
    return repr(int(value)) if isinstance(value, float) and value.is_integer() else repr(value)


def elapsed(value: Any) -> timedelta | None:
    """An ISO 8601 duration of days and smaller."""
    found = _DURATION.fullmatch(str(value))
    if not found or not any(found.groups()) or any(len(part or "") > 9 for part in found.groups()):
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def clock(value: Any) -> timedelta | None:
    """`HH:mm`."""
    found = _CLOCK.fullmatch(str(value))
    return timedelta(hours=int(found[1]), minutes=int(found[2])) if found else None


def moment(value: Any) -> datetime | None:
    """`YYYY-MM-DD hh:mm`, with or without seconds."""
    for form in ("%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"):
        try:
            return datetime.strptime(str(value), form)
        except ValueError:
            continue
    return None


def strangers(value: Any, known: Iterable[str]) -> list[Any]:
    """What stands in a list and is none of the known words."""
    allowed = set(known)
    return [one for one in items(value) if not isinstance(one, str) or one not in allowed]
