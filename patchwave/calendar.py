"""When a stack may be disrupted: recurring windows less freezes, in elapsed time, in the window's own zone."""

import heapq
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field, model_validator

from patchwave.model import Model

Weekday = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
WEEKDAYS: tuple[Weekday, ...] = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
HORIZON = timedelta(days=800)


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"{name!r} is not an IANA time zone: write one such as Europe/Berlin or Etc/UTC")
    return name


def _aware(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError(f"{instant.isoformat()} has no zone: end it with Z or an offset")
    return instant.astimezone(UTC)


Zone = Annotated[str, AfterValidator(_known_zone)]
Instant = Annotated[datetime, AfterValidator(_aware)]


class Weekly(Model):
    """Every week on these days."""

    every: Literal["week"]
    weekdays: Annotated[tuple[Weekday, ...], Field(min_length=1)]

    def on(self, day: date) -> bool:
        return WEEKDAYS[day.weekday()] in self.weekdays

    def __str__(self) -> str:
        return ", ".join(self.weekdays)


class Monthly(Model):
    """The nth weekday of a month, moved by whole days: Patch Tuesday's Sunday is second Tuesday + 5."""

    every: Literal["month"]
    week: Literal["first", "second", "third", "fourth", "last"]
    weekday: Weekday
    offset_days: Annotated[int, Field(ge=-6, le=6)] = 0

    def on(self, day: date) -> bool:
        anchor = day - timedelta(days=self.offset_days)
        if WEEKDAYS[anchor.weekday()] != self.weekday:
            return False
        if self.week == "last":
            return (anchor + timedelta(days=7)).month != anchor.month
        return (anchor.day - 1) // 7 == ("first", "second", "third", "fourth").index(self.week)

    def __str__(self) -> str:
        moved = f" {self.offset_days:+d} days" if self.offset_days else ""
        return f"{self.week} {self.weekday} of the month{moved}"


Recurrence = Annotated[Weekly | Monthly, Field(discriminator="every")]


class Opening(Model):
    """A stretch of UTC in which disruption is allowed; `closes` is the first instant outside."""

    opens: Instant
    closes: Instant


class Window(Model):
    """A recurring stretch: `lasts` is elapsed time, `starts` is wall-clock time in `zone`.

    A start inside a daylight-saving gap moves forward by the gap; one that happens twice means the first.
    """

    recurs: Recurrence
    starts: time
    lasts: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(hours=24))]
    zone: Zone

    @model_validator(mode="after")
    def _wall_clock_start(self) -> Self:
        if self.starts.tzinfo is not None or self.starts.second or self.starts.microsecond:
            raise ValueError(f"starts {self.starts.isoformat()}: write HH:MM, the zone stands in its own field")
        return self

    def openings(self, after: datetime) -> Iterator[Opening]:
        """Openings that close later than `after`, earliest first, for as long as the horizon reaches."""
        zone = ZoneInfo(self.zone)
        day = (after - self.lasts).astimezone(zone).date() - timedelta(days=1)
        last = after.astimezone(zone).date() + HORIZON
        while day <= last:
            if self.recurs.on(day):
                opens = datetime.combine(day, self.starts, zone).astimezone(UTC)
                if opens + self.lasts > after:
                    yield Opening(opens=opens, closes=opens + self.lasts)
            day += timedelta(days=1)

    def __str__(self) -> str:
        hours, minutes = divmod(int(self.lasts.total_seconds()) // 60, 60)
        return f"{self.recurs} {self.starts:%H:%M} for {hours} h {minutes:02d} ({self.zone})"


class Freeze(Model):
    """A stretch in which nothing is disrupted, whatever the windows say."""

    starts: Instant
    ends: Instant
    reason: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.ends <= self.starts:
            raise ValueError(f"freeze {self.reason!r} ends before it starts: swap `starts` and `ends`")
        return self


class Verdict(Model):
    """Whether disruption is allowed at an instant, why, and until when."""

    at: Instant
    open: bool
    reason: str
    closes: datetime | None = None


class Calendar(Model):
    """The union of the windows less the freezes."""

    windows: Annotated[tuple[Window, ...], Field(min_length=1)]
    freezes: tuple[Freeze, ...] = ()

    def openings(self, after: datetime) -> Iterator[Opening]:
        """Maximal open stretches that close later than `after`, disjoint, earliest first."""
        merged: Opening | None = None
        for opening in heapq.merge(*(w.openings(after) for w in self.windows), key=lambda o: (o.opens, o.closes)):
            if merged and opening.opens <= merged.closes:
                merged = Opening(opens=merged.opens, closes=max(merged.closes, opening.closes))
                continue
            if merged:
                yield from self._thawed(merged, after)
            merged = opening
        if merged:
            yield from self._thawed(merged, after)

    def _thawed(self, opening: Opening, after: datetime) -> Iterator[Opening]:
        opens = opening.opens
        for freeze in sorted(self.freezes, key=lambda f: f.starts):
            if freeze.ends <= opens or freeze.starts >= opening.closes:
                continue
            if freeze.starts > opens and freeze.starts > after:
                yield Opening(opens=opens, closes=freeze.starts)
            opens = freeze.ends
        if opens < opening.closes and opening.closes > after:
            yield Opening(opens=opens, closes=opening.closes)

    def next(self, after: datetime, count: int = 1) -> list[Opening]:
        """The next openings that begin later than `after`."""
        found: list[Opening] = []
        for opening in self.openings(after):
            if opening.opens > after:
                found.append(opening)
            if len(found) == count:
                break
        return found

    def at(self, instant: datetime) -> Verdict:
        """The verdict at an instant; a freeze beats a window."""
        for freeze in self.freezes:
            if freeze.starts <= instant < freeze.ends:
                reason = f"frozen until {_utc(freeze.ends)}: {freeze.reason}"
                return Verdict(at=instant, open=False, reason=reason)
        current = next(self.openings(instant), None)
        if current and current.opens <= instant:
            reason = f"inside the window that closes {_utc(current.closes)}"
            return Verdict(at=instant, open=True, reason=reason, closes=current.closes)
        return Verdict(at=instant, open=False, reason="outside every window")

    def may_start(self, instant: datetime, needs: timedelta) -> Verdict:
        """Like `at`, and closed as well when what starts now could not finish before the window closes."""
        verdict = self.at(instant)
        if verdict.closes and instant + needs > verdict.closes:
            left = int((verdict.closes - instant).total_seconds() // 60)
            wants = int(-(-needs.total_seconds() // 60))
            reason = f"{left} min left in the window that closes {_utc(verdict.closes)}, the work needs {wants} min"
            return Verdict(at=instant, open=False, reason=reason, closes=verdict.closes)
        return verdict


def _utc(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%a %Y-%m-%d %H:%M} UTC"
