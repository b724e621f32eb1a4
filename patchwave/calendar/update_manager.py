"""Windows in the words of Azure's maintenance configurations, and what the service makes of them.

The grammar and its limits: https://learn.microsoft.com/azure/virtual-machines/maintenance-configurations and
https://learn.microsoft.com/rest/api/maintenance/maintenance-configurations/create-or-update
"""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AfterValidator, ValidationError, model_validator

from patchwave.base.model import Model
from patchwave.calendar.windows import (
    HORIZON,
    WEEKDAYS,
    WEEKS,
    Calendar,
    Freeze,
    Monthly,
    Opening,
    Window,
    time_zone,
)

Scope = Literal["InGuestPatch", "OSImage"]
LIMITS: Mapping[Scope, tuple[timedelta, timedelta]] = {
    "InGuestPatch": (timedelta(hours=1, minutes=30), timedelta(hours=3, minutes=55)),
    "OSImage": (timedelta(hours=5), timedelta(hours=23, minutes=59)),
}
LEAD = timedelta(minutes=30)
"""By how much a ring goes ahead of the next, at least: the service allots 25 minutes to one installation and reboot.

https://learn.microsoft.com/azure/update-manager/troubleshoot
"""
_MINUTE = timedelta(minutes=1)
LATEST_START = time(23, 45)
FARTHEST_OFFSET = 6

_DAY = f"(?:{'|'.join(WEEKDAYS)})"
_RECURRENCE = re.compile(
    rf"(?P<count>[1-9]\d?)?(?:(?P<daily>Days?)|(?P<weekly>Weeks?)(?: (?P<weekdays>{_DAY}(?:, ?{_DAY})*))?|Months? (?:"
    rf"(?P<dates>day(?:[1-9]|[12]\d|3[01])(?:, ?day(?:[1-9]|[12]\d|3[01]))*)|"
    rf"(?P<week>First|Second|Third|Fourth|Last) (?P<weekday>{_DAY})(?: Offset(?P<offset>-?[0-6]))?))",
    re.IGNORECASE,
)


@cache
def windows_zones() -> Mapping[str, Sequence[str]]:
    """The IANA zones of each Windows zone name, as CLDR has them; the first is the one whose clock it keeps."""
    table = json.loads(Path(__file__).with_name("windows_zones.json").read_text(encoding="utf-8"))
    zones: dict[str, list[str]] = table["zones"]
    return zones


@cache
def _names() -> dict[str, str]:
    return {zone: name for name, zones in windows_zones().items() for zone in zones}


def _start(text: str) -> str:
    if not re.fullmatch(r"2\d{3}-\d\d-\d\d \d\d:\d\d", text):
        raise ValueError(f"{text!r}: write YYYY-MM-DD hh:mm, in the schedule's own zone")
    datetime.fromisoformat(text)
    return text


def _duration(text: str) -> str:
    if not re.fullmatch(r"\d\d:[0-5]\d", text):
        raise ValueError(f"{text!r}: write hh:mm")
    return text


def _zone_name(text: str) -> str:
    if text not in windows_zones():
        raise ValueError(f"{text!r} is not a Windows zone name: write one such as 'W. Europe Standard Time' or 'UTC'")
    return text


def _recurrence(text: str) -> str:
    if not _RECURRENCE.fullmatch(text):
        raise ValueError(f"{text!r}: write a rhythm such as '1Week Monday,Friday' or '1Month Second Tuesday Offset5'")
    return text


class Schedule(Model):
    """When a maintenance configuration runs, in the service's own words: Update Manager's, or a scale set's images."""

    scope: Scope
    start_date_time: Annotated[str, AfterValidator(_start)]
    duration: Annotated[str, AfterValidator(_duration)]
    time_zone: Annotated[str, AfterValidator(_zone_name)]
    recur_every: Annotated[str, AfterValidator(_recurrence)]

    @model_validator(mode="after")
    def _within_its_scope(self) -> Self:
        shortest, longest = LIMITS[self.scope]
        if not shortest <= _length(self.duration) <= longest:
            raise ValueError(
                f"duration {self.duration}: write {_hours(shortest)} to {_hours(longest)} for {self.scope}"
            )
        if self.scope == "OSImage" and "month" in self.recur_every.lower():
            raise ValueError(f"recur_every {self.recur_every!r}: images roll by the day or week, write '1Week Sunday'")
        return self

    @model_validator(mode="after")
    def _starts_on_the_clock(self) -> Self:
        if _skipped(self._first):
            raise ValueError(f"start_date_time {self.start_date_time}: {self.time_zone} skips it, start on another day")
        return self

    def openings(self) -> Iterator[Opening]:
        """Its runs over ten years, earliest first: the first is the first recurrence on or after the start.

        A run lasts elapsed time. What the service does when its clock skips or repeats a later start is documented
        nowhere; those runs are read as the calendar reads them, and `in_doubt` lists them.
        """
        lasts = _length(self.duration)
        return (Opening(start.astimezone(UTC), start.astimezone(UTC) + lasts) for start in self.starts())

    def in_doubt(self) -> Iterator[datetime]:
        """The local starts that its clock skips or repeats."""
        return (start for start in self.starts() if start.utcoffset() != start.replace(fold=1).utcoffset())

    @property
    def _first(self) -> datetime:
        zone = time_zone(windows_zones()[self.time_zone][0])
        return datetime.fromisoformat(self.start_date_time).replace(tzinfo=zone)

    def starts(self) -> Iterator[datetime]:
        """When its runs start on its own clock."""
        first = self._first
        runs_on = _reading(self.recur_every, first.date())
        for day in range(HORIZON.days):
            start = first + timedelta(days=day)
            if runs_on(start.date()):
                yield start


@cache
def schedule(window: Window, starts_on: date, scope: Scope = "InGuestPatch") -> Schedule:
    """The window in the service's terms, from a day on; each of its runs lies at the start of an opening.

    ValueError names what the service cannot express, and the fix. It counts no freezes: see `frozen`.
    """
    if not 2000 <= starts_on.year <= 2999:
        raise ValueError(f"{starts_on} is out of the years 2000 to 2999: begin the schedule on a real day")
    starts = datetime.combine(starts_on, window.starts, time_zone(window.zone))
    if _skipped(starts):
        raise ValueError(f"{window.zone} skips {starts:%Y-%m-%d %H:%M}: begin the schedule on another day")
    words = {
        "start_date_time": f"{starts:%Y-%m-%d %H:%M}",
        "duration": duration(window, scope),
        "time_zone": windows_zone(window.zone),
        "recur_every": recur_every(window, scope),
    }
    try:
        made = Schedule(scope=scope, **words)
    except ValidationError:  # Windows' own zone skips a start that the IANA zone has
        raise _other_clock(window, starts) from None
    lasts = _length(made.duration)
    ours = (opening for opening in window.openings(starts.astimezone(UTC)) if opening.opens >= starts)
    for wanted, run in zip(ours, made.openings(), strict=False):
        if run != Opening(wanted.opens, wanted.opens + lasts):
            raise _other_clock(window, wanted.opens)
    return made


def _other_clock(window: Window, at: datetime) -> ValueError:
    return ValueError(
        f"zone {window.zone}: Windows has no zone with its clock, {windows_zone(window.zone)!r} differs from "
        f"{at:%Y-%m-%d} on: count this window in another zone, such as Etc/UTC"
    )


class Part(NamedTuple):
    """What a ring gets of a window: its own stretch, `lead` after the window's start."""

    ring: str
    whole: Window
    lead: timedelta
    window: Window
    schedule: Schedule


def parts(window: Window, rings: Sequence[str], starts_on: date) -> list[Part]:
    """The window shared among rings, each of which begins when the one before it has ended.

    A ring has the service's shortest run and the last ring what is left. In a window that is too short for that,
    rings begin as far apart as it lets them, `LEAD` at least; ValueError names what it would need.
    """
    shortest = LIMITS["InGuestPatch"][0]
    after = len(rings) - 1
    needed = shortest + LEAD * after
    if window.duration < needed:
        raise ValueError(
            f"a window of {window.duration} is too short for InGuestPatch of {len(rings)} rings, each {LEAD} after the "
            f"one before: give it at least {needed}"
        )
    apart = min(shortest, (window.duration - shortest) / after // _MINUTE * _MINUTE) if after else timedelta(0)
    made = []
    for number, ring in enumerate(rings):
        lead = number * apart
        starts = datetime.combine(starts_on, window.starts) + lead
        days = (starts.date() - starts_on).days
        own = Window(
            recurrence=window.recurrence.moved(days),
            starts=starts.time(),
            duration=shortest if number < after else window.duration - lead,
            zone=window.zone,
        )
        made.append(Part(ring, window, lead, own, schedule(own, starts.date())))
    return made


def notes(calendar: Calendar, rings: Sequence[str], starts_on: date) -> Iterator[str]:
    """Where Update Manager will differ from the calendar, each with its fix."""
    for window in calendar.windows:
        shared = parts(window, rings, starts_on)
        if len(shared) > 1 and (apart := shared[1].lead) < (shortest := LIMITS["InGuestPatch"][0]):
            yield (
                f"{window}: Update Manager's rings begin {_hours(apart)} h apart and may overlap: "
                f"a window of {_hours(shortest * len(rings))} h keeps them apart"
            )
        for part in shared:
            yield from _differences(calendar, part)


def _differences(calendar: Calendar, part: Part) -> Iterator[str]:
    window, made = f"{part.window}, ring {part.ring}", part.schedule
    if part.window.duration > LIMITS["InGuestPatch"][1]:
        yield f"{window}: Update Manager stops after {made.duration}, its longest: plan for that"
    if part.window.starts >= LATEST_START:
        yield f"{window}: Update Manager may miss starts from 23:45 to midnight: start at 23:30 or 00:00"
    if start := next(made.in_doubt(), None):
        yield (
            f"{window}: the clock skips or repeats {start:%Y-%m-%d %H:%M}, what Update Manager does then is "
            "documented nowhere: start at an hour that every day has once"
        )
    if start := next(displaced(part), None):
        yield (
            f"{window}: the clock changes while the window is open, first on {start:%Y-%m-%d}, and the run comes too "
            "early or too late: cancel it, or count the window in a zone whose clock keeps still"
        )
    for freeze, runs in itertools.groupby(frozen(calendar, made), key=lambda found: found[1]):
        when = ", ".join(f"{run.opens:%Y-%m-%d %H:%M}" for run, _ in runs)
        yield (
            f"{window}: Update Manager knows no freezes and runs in {freeze.reason!r} at {when} UTC: cancel these runs"
        )


def displaced(part: Part) -> Iterator[datetime]:
    """The local starts of runs that do not come `lead` after their window's, since the clock has changed in between."""
    zone = time_zone(part.whole.zone)
    for start in part.schedule.starts():
        whole = (start.replace(tzinfo=None) - part.lead).replace(tzinfo=zone)
        if start.astimezone(UTC) - whole.astimezone(UTC) != part.lead:
            yield start


def frozen(calendar: Calendar, made: Schedule) -> Iterator[tuple[Opening, Freeze]]:
    """The runs of a schedule that a freeze forbids, wholly or in part, with the first such freeze."""
    for run in made.openings():
        touching = [f for f in calendar.freezes if f.starts < run.closes and run.opens < f.ends]
        if touching and not calendar.may_start(run.opens, run.closes - run.opens).open:
            yield run, touching[0]


def duration(window: Window, scope: Scope = "InGuestPatch") -> str:
    """The window's length as the service takes it, HH:MM, cut at the longest that it takes."""
    shortest, longest = LIMITS[scope]
    if window.duration < shortest:
        raise ValueError(f"a window of {window.duration} is too short for {scope}: give it at least {shortest}")
    return _hours(min(window.duration, longest))


def recur_every(window: Window, scope: Scope = "InGuestPatch") -> str:
    """The window's recurrence in the service's grammar, such as `1Month Second Tuesday Offset5`.

    Offsets reach 6 days there; farther ones are counted from another week, second Tuesday + 8 from the third.
    """
    recurrence = window.recurrence
    if not isinstance(recurrence, Monthly):
        return f"1Week {','.join(recurrence.weekdays)}"
    if scope == "OSImage":
        raise ValueError(
            f"{recurrence}: images of scale sets roll by the day or week, let this window recur every week"
        )
    own = WEEKS.index(recurrence.week)
    for week in sorted(range(len(WEEKS)), key=lambda week: abs(week - own)):
        offset = recurrence.days_after_first - 7 * (week - 1)
        if abs(offset) <= FARTHEST_OFFSET:
            return f"1Month {WEEKS[week].capitalize()} {recurrence.weekday}" + (f" Offset{offset}" if offset else "")
    raise ValueError(
        f"{recurrence} is farther than Update Manager counts, from {FARTHEST_OFFSET} days before the last such "
        f"weekday of a month to {FARTHEST_OFFSET} days after the fourth: choose a nearer day"
    )


def windows_zone(zone: str) -> str:
    """The Windows name of an IANA zone."""
    try:
        return _names()[zone]
    except KeyError:
        raise ValueError(f"zone {zone} has no Windows name: count this window in another, such as Etc/UTC") from None


def _reading(recur_every: str, start: date) -> Callable[[date], bool]:
    """Whether a schedule recurrence on a day; rhythms of several days, weeks or months count from its start's own."""
    found = _RECURRENCE.fullmatch(recur_every)
    assert found is not None
    count = int(found["count"] or 1)
    if found["daily"]:
        return lambda day: (day - start).days % count == 0
    if found["weekly"]:
        names = _listed(found["weekdays"]) or {WEEKDAYS[start.weekday()]}
        monday = start - timedelta(days=start.weekday())
        return lambda day: WEEKDAYS[day.weekday()] in names and (day - monday).days // 7 % count == 0
    if found["dates"]:
        dates = _listed(found["dates"])
        return lambda day: f"Day{day.day}" in dates and _months(start, day) % count == 0
    moved = timedelta(days=int(found["offset"] or 0))
    weekday, week = found["weekday"].capitalize(), WEEKS.index(found["week"].lower())

    def on_nth_weekday(day: date) -> bool:
        anchor = day - moved
        nth = (anchor.day - 1) // 7 + 1 == week if week else (anchor + timedelta(days=7)).month != anchor.month
        return WEEKDAYS[anchor.weekday()] == weekday and nth and _months(start, anchor) % count == 0

    return on_nth_weekday


def _listed(text: str | None) -> set[str]:
    return {part.strip().capitalize() for part in text.split(",")} if text else set()


def _months(since: date, day: date) -> int:
    return (day.year - since.year) * 12 + day.month - since.month


def _skipped(start: datetime) -> bool:
    """Whether its zone's clock never shows this time."""
    return start.astimezone(UTC).astimezone(start.tzinfo).replace(tzinfo=None) != start.replace(tzinfo=None)


def _length(text: str) -> timedelta:
    return timedelta(hours=int(text[:2]), minutes=int(text[3:]))


def _hours(length: timedelta) -> str:
    minutes = int(length.total_seconds()) // 60
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
