"""The base of the typed models that files of people are parsed into."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError


class Model(BaseModel):
    """Strict (no coercion), closed (no unknown key) and frozen."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


_TIME, _DURATION = "write a time of day as HH:MM", "write an ISO 8601 duration such as PT2H or P7D"
_INSTANT, _DATE = "write an instant such as 2026-12-24T09:30:00Z", "write a date such as 2026-12-24"
FIXES = {
    **dict.fromkeys(("time_parsing", "time_type"), _TIME),
    **dict.fromkeys(("time_delta_parsing", "time_delta_type"), _DURATION),
    **dict.fromkeys(("datetime_parsing", "datetime_type", "datetime_from_date_parsing"), _INSTANT),
    **dict.fromkeys(("date_parsing", "date_type", "date_from_datetime_parsing"), _DATE),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "write keys and values here"),
    "tuple_type": "write a list here",
    "string_type": "write a text, in quotes where it looks like a number",
    "missing": "it is missing",
    "extra_forbidden": "there is no such key here: correct its name or its indentation",
}
"""What to write instead, by pydantic's kind of error."""


def first_problem(error: ValidationError, data: Any = None) -> str:
    """The first complaint of a validation as `where: what`, on one line; without the where when it is about the whole.

    With the `data` that was validated, the where has only the keys that stand there, without the names of variants.

    A list that is too short only because its items are wrong is not counted as a complaint more.
    """
    found = error.errors(include_url=False)
    problem = found[0]
    where = ".".join(str(part) for part in _written(problem["loc"], data))
    what = FIXES.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    if problem["type"].endswith("_parsing"):
        what = f"{str(problem['input'])[:40]!r} is none: {what}"
    within = [one["loc"][:depth] for one in found for depth in range(len(one["loc"]))]
    more = sum(one["loc"] not in within for one in found[1:])
    return (f"{where}: {what}" if where else what) + (f" (and {more} more)" if more else "")


def _written(loc: tuple[int | str, ...], data: Any) -> Iterator[int | str]:
    """A place without the steps that pydantic puts in for the variant that a discriminator has chosen."""
    for step in loc:
        if isinstance(data, dict) and step not in data and step in data.values():
            continue
        yield step
        inside = (isinstance(data, dict) and step in data) or (isinstance(data, list) and step in range(len(data)))
        data = data[step] if inside else None
