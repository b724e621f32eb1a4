"""When a stack may be disrupted: recurring windows less freezes, in elapsed time, in the window's own zone."""

import heapq
import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from patchwave.base.model import Model

Weekday = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
WEEKDAYS: tuple[Weekday, ...] = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
WEEKS = ("last", "first", "second", "third", "fourth")
Lane = Literal["routine", "emergency"]
HORIZON = timedelta(days=3653)
LONGEST_CLOSED = timedelta(days=366)
LEAP = timedelta(days=36)  # no recurrence pauses longer


@cache
def time_zone(name: str) -> ZoneInfo:
    """A zone as the pinned `tzdata` has it: the machine's own zone files may be older and open other windows."""
    with (files("tzdata") / "zoneinfo" / name).open("rb") as rules:
        return ZoneInfo.from_file(rules, key=name)


@cache
def zone_names() -> frozenset[str]:
    """Every zone of the pinned `tzdata`, aliases included."""
    return frozenset((files("tzdata") / "zones").read_text(encoding="utf-8").split())


def _known_zone(name: str) -> str:
    if name not in zone_names():
        raise ValueError(f"{name!r} is not an IANA time zone: write one such as Europe/Berlin or Etc/UTC")
    return name


def _aware(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError(f"{instant.isoformat()} has no zone: end it with Z or an offset")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{instant.isoformat()} is out of reach: write a real date") from None


Zone = Annotated[str, AfterValidator(_known_zone)]
Instant = Annotated[datetime, AfterValidator(_aware)]
Text = Annotated[str, Field(min_length=1)]


class Weekly(Model):
    """Every week on these days."""

    every: Literal["week"]
    weekdays: Annotated[tuple[Weekday, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_day_once(self) -> Self:
        if len(set(self.weekdays)) < len(self.weekdays):
            raise ValueError(f"weekdays {', '.join(self.weekdays)}: name each day once")
        return self

    def days(self, since: date) -> Iterator[date]:
        """The days on or after `since`, earliest first, without end."""
        ahead = sorted((WEEKDAYS.index(name) - since.weekday()) % 7 for name in self.weekdays)
        for week in itertools.count(step=7):
            for days in ahead:
                yield since + timedelta(days=week + days)

    def moved(self, days: int) -> Self:
        """The same, some days later."""
        later = tuple(WEEKDAYS[(WEEKDAYS.index(day) + days) % 7] for day in self.weekdays)
        return self.model_copy(update={"weekdays": later})

    def __str__(self) -> str:
        return ", ".join(self.weekdays)


class Monthly(Model):
    """The nth weekday of a month, moved by whole days: Patch Tuesday's Sunday is second Tuesday + 5."""

    every: Literal["month"]
    week: Literal["first", "second", "third", "fourth", "last"]
    weekday: Weekday
    offset_days: Annotated[int, Field(ge=-27, le=27)] = 0

    @property
    def days_after_first(self) -> int:
        """Days from the first such weekday of a month; a last one stands a week before the next month's first."""
        return 7 * (WEEKS.index(self.week) - 1) + self.offset_days

    def days(self, since: date) -> Iterator[date]:
        """The days on or after `since`, earliest first, without end."""
        moved = timedelta(days=self.days_after_first)
        anchor = since - moved
        for month in itertools.count(anchor.year * 12 + anchor.month - 1):
            begins = date(month // 12, month % 12 + 1, 1)
            first = begins + timedelta(days=(WEEKDAYS.index(self.weekday) - begins.weekday()) % 7)
            if first >= anchor:
                yield first + moved

    def moved(self, days: int) -> Self:
        """The same, some days later; its offset may go beyond what a calendar takes."""
        return self.model_copy(update={"offset_days": self.offset_days + days})

    def __str__(self) -> str:
        moved = f" {self.offset_days:+d} days" if self.offset_days else ""
        return f"{self.week} {self.weekday} of the month{moved}"


Recurrence = Annotated[Weekly | Monthly, Field(discriminator="every")]


class Opening(NamedTuple):
    """A stretch of UTC; `closes` is the first instant outside."""

    opens: datetime
    closes: datetime


class Window(Model):
    """A recurring stretch: `duration` is elapsed time, `starts` is wall-clock time in `zone`.

    A start inside a daylight-saving gap moves forward by the gap; one that happens twice means the first.
    """

    recurrence: Recurrence
    starts: time
    duration: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(hours=24))]
    zone: Zone

    @model_validator(mode="after")
    def _wall_clock_start(self) -> Self:
        if self.starts.tzinfo is not None or self.starts.second or self.starts.microsecond:
            raise ValueError(f"starts {self.starts.isoformat()}: write HH:MM, the zone stands in its own field")
        return self

    def openings(self, after: datetime) -> Iterator[Opening]:
        """Openings that close later than `after`, earliest first, without end."""
        zone = time_zone(self.zone)
        # a day early: a start that the clock skips can fall on the next local day
        for day in self.recurrence.days((after - self.duration).astimezone(zone).date() - timedelta(days=1)):
            opens = datetime.combine(day, self.starts, zone).astimezone(UTC)
            if opens + self.duration > after:
                yield Opening(opens, opens + self.duration)

    def __str__(self) -> str:
        hours, minutes = divmod(int(self.duration.total_seconds()) // 60, 60)
        return f"{self.recurrence} {self.starts:%H:%M} for {hours} h {minutes:02d} ({self.zone})"


class Stretch(Model):
    """A dated stretch of time and why it is there; `ends` is the first instant outside."""

    starts: Instant
    ends: Instant
    reason: Text

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.ends <= self.starts:
            raise ValueError(f"{self.reason!r} ends before it starts: swap `starts` and `ends`")
        if self.starts.year < 2000 or self.ends.year > 2999:
            raise ValueError(f"{self.reason!r} reaches out of the years 2000 to 2999: write real dates")
        return self

    def holds(self, instant: datetime) -> bool:
        """Whether the instant lies inside."""
        return self.starts <= instant < self.ends


class Freeze(Stretch):
    """A stretch in which nothing is disrupted, whatever the windows allow.

    A soft freeze holds routine work, and break-glass lifts it. A hard one holds routine work without exception, and
    emergencies unless break-glass lifts it for them.
    """

    kind: Literal["hard", "soft"] = "hard"


class ExtraWindow(Stretch):
    """A dated stretch, a day at most, that is open like a window: for what cannot wait for the next one."""

    @model_validator(mode="after")
    def _short(self) -> Self:
        if self.ends - self.starts > timedelta(days=1):
            raise ValueError(f"extra window {self.reason!r} lasts {self.ends - self.starts}: at most 1 day")
        return self


class BreakGlass(Stretch):
    """A stretch, a day at most, in which its owner answers for lifting what `Freeze` allows to be lifted."""

    owner: Text

    @model_validator(mode="after")
    def _short(self) -> Self:
        if self.ends - self.starts > timedelta(days=1):
            raise ValueError(
                f"break-glass {self.reason!r} lasts {self.ends - self.starts}: at most 1 day, or end the freeze"
            )
        return self


class Verdict(Model):
    """Whether disruption is allowed at an instant, why, and until when."""

    at: Instant
    open: bool
    reason: str
    closes: datetime | None = None


class Calendar(Model):
    """The union of the windows, recurring and extra, less the freezes that nothing lifts.

    The emergency lane needs no window and heeds hard freezes only. `soak` is how long a release must have been good on
    the stack before, where that is longer than the standard's.
    """

    windows: Annotated[tuple[Window, ...], Field(min_length=1)]
    extra: tuple[ExtraWindow, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    break_glass: tuple[BreakGlass, ...] = ()
    soak: Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(days=60))] = timedelta(0)

    @model_validator(mode="after")
    def _opens_every_year(self) -> Self:
        for frozen in self._denied("routine"):
            opens = next((opening.opens for opening in self.openings(frozen.opens)), frozen.opens + HORIZON)
            if opens - frozen.opens > LONGEST_CLOSED:
                reason = next(freeze.reason for freeze in self.freezes if freeze.holds(frozen.opens))
                raise ValueError(
                    f"no window opens from {frozen.opens:%Y-%m-%d} to {opens:%Y-%m-%d}, "
                    f"over {LONGEST_CLOSED.days} days: shorten freeze {reason!r}"
                )
        return self

    @model_validator(mode="after")
    def _extra_windows_open(self) -> Self:
        denied = self._denied("routine")
        for extra in self.extra:
            if not any(_less(Opening(extra.starts, extra.ends), denied)):
                frozen = next(freeze.reason for freeze in self.freezes if freeze.holds(extra.starts))
                raise ValueError(
                    f"extra window {extra.reason!r} never opens, freeze {frozen!r} covers it: move one of them"
                )
        return self

    def openings(self, after: datetime, lane: Lane = "routine") -> Iterator[Opening]:
        """Maximal open stretches that close later than `after`, disjoint, earliest first, as far as the horizon."""
        denied = self._denied(lane)
        until = after + HORIZON
        if lane == "emergency":
            yield from _less(Opening(after, until), denied)
            return
        thaws = [frozen.closes for frozen in denied]
        extra = sorted(piece for e in self.extra for piece in _less(Opening(e.starts, e.ends), denied))
        dated = [piece for piece in extra if piece.closes > after and piece.opens < until]
        recurring = (_thawed(window, after, until, denied, thaws) for window in self.windows)
        yield from _union(heapq.merge(dated, *recurring))

    def next(self, after: datetime, count: int = 1, lane: Lane = "routine") -> list[Opening]:
        """The next openings that begin later than `after`."""
        return list(itertools.islice((o for o in self.openings(after, lane) if o.opens > after), count))

    def at(self, instant: datetime, lane: Lane = "routine") -> Verdict:
        """The verdict at an instant; a freeze beats a window."""
        glass = next((glass for glass in self.break_glass if glass.holds(instant)), None)
        lifted = ""
        for freeze in sorted(self.freezes, key=lambda freeze: freeze.ends, reverse=True):
            if not freeze.holds(instant) or (lane == "emergency" and freeze.kind == "soft"):
                continue
            if glass is None or freeze.kind != _lifted_for(lane):
                reason = f"frozen until {_utc(freeze.ends)}: {freeze.reason}"
                return Verdict(at=instant, open=False, reason=reason)
            lifted = f", freeze {freeze.reason!r} lifted by {glass.owner} until {_utc(glass.ends)}: {glass.reason}"
        current = next(self.openings(instant, lane), None)
        if current is None or current.opens > instant:
            return Verdict(at=instant, open=False, reason="outside every window")
        closes = current.closes if current.closes < instant + HORIZON else None
        if lane == "emergency":
            where = "in the emergency lane" + (f", which a freeze closes {_utc(closes)}" if closes else "")
        else:
            where = f"inside the window that closes {_utc(closes)}" if closes else "inside a window that stays open"
        return Verdict(at=instant, open=True, reason=where + lifted, closes=closes)

    def may_start(self, instant: datetime, needs: timedelta, lane: Lane = "routine") -> Verdict:
        """Like `at`, and closed as well when what starts now could not finish before the window closes."""
        verdict = self.at(instant, lane)
        if verdict.closes and instant + needs > verdict.closes:
            left = int((verdict.closes - instant).total_seconds() // 60)
            wants = int(-(-needs.total_seconds() // 60))
            until = "in the window that closes" if lane == "routine" else "before the freeze of"
            reason = f"{left} min left {until} {_utc(verdict.closes)}, the work needs {wants} min"
            return Verdict(at=instant, open=False, reason=reason, closes=verdict.closes)
        return verdict

    def _denied(self, lane: Lane) -> list[Opening]:
        """The stretches in which a lane is frozen, disjoint, earliest first."""
        glass = list(_union(sorted(Opening(glass.starts, glass.ends) for glass in self.break_glass)))
        held: list[Opening] = []
        for freeze in self.freezes:
            whole = Opening(freeze.starts, freeze.ends)
            if freeze.kind == _lifted_for(lane):
                held += _less(whole, glass)
            elif lane == "routine":
                held.append(whole)
        return list(_union(sorted(held)))


def _lifted_for(lane: Lane) -> Literal["hard", "soft"]:
    """The kind of freeze that break-glass lifts for a lane."""
    return "soft" if lane == "routine" else "hard"


def _thawed(
    window: Window, after: datetime, until: datetime, denied: Sequence[Opening], thaws: Sequence[datetime]
) -> Iterator[Opening]:
    """A window's openings outside the denied stretches, which end at `thaws`; a long one is leapt over."""
    openings = window.openings(after)
    while (opening := next(openings)).opens < until:
        ahead = bisect_right(thaws, opening.opens)
        left = list(_less(opening, denied[ahead:]))
        yield from (piece for piece in left if piece.closes > after)
        if not left and thaws[ahead] - opening.closes > LEAP:
            openings = window.openings(thaws[ahead])


def _less(whole: Opening, holes: Sequence[Opening]) -> Iterator[Opening]:
    """What is left of a stretch outside others, which are disjoint, earliest first."""
    opens = whole.opens
    for hole in holes:
        if hole.opens >= whole.closes:
            break
        if hole.opens > opens:
            yield Opening(opens, hole.opens)
        opens = max(opens, hole.closes)
    if opens < whole.closes:
        yield Opening(opens, whole.closes)


def _union(stretches: Iterable[Opening]) -> Iterator[Opening]:
    """Stretches that come earliest first, with those that overlap or touch made one."""
    current: Opening | None = None
    for stretch in stretches:
        if current and stretch.opens <= current.closes:
            current = Opening(current.opens, max(current.closes, stretch.closes))
            continue
        if current:
            yield current
        current = stretch
    if current:
        yield current


def _utc(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%a %Y-%m-%d %H:%M} UTC"
