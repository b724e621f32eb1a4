"""The calendar's answers against the same ones found with python-dateutil's rules, in one run."""

import gc
import heapq
import importlib
import random
import statistics
import subprocess
import sys
import tempfile
import time as clock
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any, NamedTuple

from patchwave.calendar.windows import WEEKDAYS, WEEKS, Calendar, Freeze, Monthly, Opening, Weekly, Window, time_zone
from tests.unit.clocks import ZONES

PEER = "python-dateutil==2.9.0.post0"
BEGIN = datetime(2026, 11, 24, tzinfo=UTC)
YEARS = timedelta(days=3650)
WANTED_MS = 1.0


class Case(NamedTuple):
    """A calendar, the instants at which it is asked, and how many openings are asked for."""

    name: str
    calendar: Calendar
    instants: list[datetime]
    count: int = 1


def cases() -> Iterator[Case]:
    """The same ones in every run."""
    draw = random.Random(5)  # noqa: S311
    instants = [BEGIN + YEARS * i / 100 for i in range(100)]
    patch_sunday = Monthly(every="month", week="second", weekday="Tuesday", offset_days=5)
    prod = Window(recurrence=patch_sunday, starts=time(2), duration=timedelta(hours=4), zone="Etc/UTC")
    yield Case("1 window, 10 freezes", Calendar(windows=(prod,), freezes=freezes(draw, 10)), instants)
    several = tuple(window(draw) for _ in range(50))
    busy = Calendar(windows=several, freezes=freezes(draw, 50))
    yield Case("50 windows, 50 freezes", busy, instants)
    year = Freeze(starts=BEGIN, ends=BEGIN + timedelta(days=360), reason="a year")
    frozen = [BEGIN + timedelta(days=3 * i) for i in range(100)]
    yield Case("50 windows, one freeze of a year", Calendar(windows=several, freezes=(year,)), frozen)
    sundays = [BEGIN + timedelta(days=5 + 7 * i) for i in range(50)]
    each = tuple(Freeze(starts=day, ends=day + timedelta(days=1), reason="a Sunday") for day in sundays)
    on_sundays = tuple(
        Window(
            recurrence=Weekly(every="week", weekdays=("Sunday",)),
            starts=time(i % 20),
            duration=prod.duration,
            zone="Etc/UTC",
        )
        for i in range(50)
    )
    yield Case("50 windows on 50 frozen Sundays", Calendar(windows=on_sundays, freezes=each), frozen[:20])
    yield Case("50 windows, 50 freezes, 1,000 openings", busy, instants[:9], 1000)


def window(draw: random.Random) -> Window:
    recurs: Weekly | Monthly = Weekly(every="week", weekdays=(draw.choice(WEEKDAYS),))
    if draw.random() < 0.5:
        recurs = Monthly.model_validate(
            {
                "every": "month",
                "week": draw.choice(WEEKS),
                "weekday": draw.choice(WEEKDAYS),
                "offset_days": draw.randint(-6, 6),
            }
        )
    return Window(
        recurrence=recurs, starts=time(draw.randrange(24)), duration=timedelta(hours=2), zone=draw.choice(ZONES)
    )


def freezes(draw: random.Random, count: int) -> tuple[Freeze, ...]:
    """Spread over the ten years, from a day to three weeks each."""
    starts = [BEGIN + YEARS * i / count + timedelta(days=draw.randrange(30)) for i in range(count)]
    return tuple(Freeze(starts=s, ends=s + timedelta(days=draw.randint(1, 21)), reason="x") for s in starts)


def by_rules(rules: Any, calendar: Calendar, after: datetime, count: int) -> list[Opening]:
    """The next openings, from one dateutil rule a window that begins shortly before the question."""
    found: list[Opening] = []
    holes = sorted((freeze.starts, freeze.ends) for freeze in calendar.freezes)
    current: Opening | None = None
    for opening in heapq.merge(*(occurrences(rules, w, after) for w in calendar.windows)):
        for opens, closes in less(opening, holes):
            if current and opens <= current.closes:
                current = Opening(current.opens, max(current.closes, closes))
                continue
            if current and current.opens > after:
                found.append(current)
            current = Opening(opens, closes)
        if len(found) == count:
            break
    return found


def occurrences(rules: Any, window: Window, after: datetime) -> Iterator[Opening]:
    zone = time_zone(window.zone)
    since = datetime.combine((after.astimezone(zone) - timedelta(days=40)).date(), window.starts, zone)
    if isinstance(window.recurrence, Weekly):
        moved = timedelta(0)
        rule = rules.rrule(rules.WEEKLY, since, byweekday=[WEEKDAYS.index(day) for day in window.recurrence.weekdays])
    else:
        moved = timedelta(days=window.recurrence.offset_days)
        nth = WEEKS.index(window.recurrence.week) or -1
        weekday = rules.weekday(WEEKDAYS.index(window.recurrence.weekday), nth)
        rule = rules.rrule(rules.MONTHLY, since, byweekday=weekday)
    for start in rule:
        opens = (start + moved).astimezone(UTC)
        if opens + window.duration > after:
            yield Opening(opens, opens + window.duration)


def less(opening: Opening, holes: list[tuple[datetime, datetime]]) -> Iterator[tuple[datetime, datetime]]:
    opens, closes = opening
    for starts, ends in holes:
        if starts < closes and ends > opens:
            if starts > opens:
                yield opens, starts
            opens = ends
    if opens < closes:
        yield opens, closes


def timed(
    ask: Callable[[datetime], list[Opening]], instants: list[datetime]
) -> tuple[list[float], list[list[Opening]]]:
    taken, answers = [], []
    for instant in instants:
        began = clock.process_time()
        answers.append(ask(instant))
        taken.append((clock.process_time() - began) * 1000)
    return taken, answers


def main() -> int:
    """Prints a table of processor times; ends with 1 when the peer answers otherwise or the number is missed."""
    missed = False
    gc.disable()
    with tempfile.TemporaryDirectory(prefix="patchwave-bench-") as place:
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-warn-script-location", "--target", place, PEER],
            check=True,
        )
        sys.path.insert(0, place)
        rules = importlib.import_module("dateutil.rrule")
        print(f"{'next opening over 10 years':<40} {'median':>9} {'worst':>9} {'dateutil':>9}  dateutil / ours")
        for case in cases():
            ours, answers = timed(lambda at, c=case: c.calendar.next(at, c.count), case.instants)
            theirs, wanted = timed(lambda at, c=case: by_rules(rules, c.calendar, at, c.count), case.instants)
            if answers != wanted:
                print(f"{case.name}: the two answer differently")
                missed = True
            middle, peer = statistics.median(ours), statistics.median(theirs)
            print(f"{case.name:<40} {middle:>6.3f} ms {max(ours):>6.3f} ms {peer:>6.2f} ms  {peer / middle:>6.1f}")
            missed |= case.name == "50 windows, 50 freezes" and middle > WANTED_MS
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
