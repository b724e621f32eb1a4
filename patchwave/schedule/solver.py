"""Whether fixes can be everywhere before they are due, and the smallest change that would make it so.

A chain of waves runs one after the other: each stack's wave starts in the first opening that has room for all of it,
once the stack before has been good for the soak. Everything that may be changed only ever makes it earlier, which is
why a smallest change can be searched by halving, and why "nothing helps" needs one look at everything changed at once.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import NamedTuple

from patchwave.base.clock import iso
from patchwave.calendar.windows import Opening
from patchwave.config.standard import Remedy, StackName
from patchwave.schedule.rollout import batch_numbers

MOST_CHANGES = 4
LIVE = -1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE, QUARTER, HOUR = timedelta(minutes=1), timedelta(minutes=15), timedelta(hours=1)

Openings = Callable[[datetime], Iterator[Opening]]


class Fix(NamedTuple):
    """An advisory and the instant at which it is due on a host."""

    advisory: str
    due: datetime


class Seat(NamedTuple):
    """One host: whether it is live, and which fixes it lacks."""

    name: str
    live: bool
    lacks: frozenset[Fix]


class Ring(NamedTuple):
    """An ordered part of a fleet, its hosts by name; a batch of at most `batch_at_most` of them takes `takes`."""

    name: str
    batch: int
    batch_at_most: int
    takes: timedelta
    seats: Sequence[Seat]


class Leg(NamedTuple):
    """One stack's wave.

    `room` is what the window must have for each batch and `reserve` once more; `before` and `after` is what a wave
    takes before its first and after its last batch. `admits` are the stretches in which the standard admits an
    extra window, of `admits_at_most`. Soaks count from the end of the wave before, in the emergency lane less.
    """

    stack: StackName
    rings: tuple[Ring, ...]
    away: int
    away_at_most: int
    room: timedelta
    reserve: timedelta
    before: timedelta
    after: timedelta
    soak: timedelta
    soak_at_least: timedelta
    emergency_soak: timedelta
    routine: Openings
    emergency: Openings
    admits: Openings
    admits_at_most: timedelta


class Run(NamedTuple):
    """One wave in time; `extra` where it needs a window of its own, which is as long as `room`."""

    starts: datetime
    ends: datetime
    room: timedelta
    extra: bool


class Visit(NamedTuple):
    """A host's batch, numbered from 1 over the whole wave, and when it begins and ends."""

    batch: int
    begins: datetime
    ends: datetime


class Change(NamedTuple):
    """One edit of one stack's file, or the emergency lane for all of them."""

    remedy: Remedy
    stack: StackName
    field: str
    value: str

    def __str__(self) -> str:
        match self.remedy:
            case "emergency":
                return "take the emergency lane, see `patchwave emergency open`"
            case "window":
                return f"add the window {self.value} to {self.field} in Pulumi.{self.stack}.yaml"
            case _:
                return f"set {self.field} to {self.value} in Pulumi.{self.stack}.yaml"


class Miss(NamedTuple):
    """A fix that comes to hosts of the chain's last stack after it was due; `earliest` is when all of them have it.

    `remedy` is the smallest set of changes that would bring it in time, None where nothing that is allowed does.
    """

    fix: Fix
    hosts: int
    earliest: datetime | None
    remedy: tuple[Change, ...] | None


class Question(NamedTuple):
    """What is asked of a chain of waves, the last of which is the stack in question.

    `proved` is when the stack before the first leg ended its wave. `remedies` may be used, the smallest first;
    `urgent` advisories may take the emergency lane, and in it the chain runs already where `emergency` says so.
    """

    legs: tuple[Leg, ...]
    now: datetime
    proved: datetime | None
    emergency: bool
    remedies: Sequence[Remedy]
    urgent: frozenset[str]


def schedule(question: Question) -> tuple[Run, ...] | None:
    """The chain's waves as early as they can be, None where one of them fits into no opening."""
    search = _Search(question)
    return search.runs(search.base, None)


def visits(leg: Leg, starts: datetime) -> dict[str, Visit]:
    """When each host of a stack is in its batch, by name, in a wave that starts at an instant."""
    found: dict[str, Visit] = {}
    begins, batches = starts + leg.before, 0
    for ring in leg.rings:
        numbers = batch_numbers(_live(ring), ring.batch, leg.away)
        for seat, number in zip(ring.seats, numbers, strict=True):
            at = begins + ring.takes * (number - 1)
            found[seat.name] = Visit(batches + number, at, at + ring.takes)
        count = max(numbers, default=0)
        begins, batches = begins + ring.takes * count, batches + count
    return found


def misses(question: Question) -> list[Miss]:
    """Every fix that cannot be met as things stand, the one that is due first first.

    Of all remedies the smallest has the fewest changes; of those the one whose largest kind comes first in the
    question's order; of those the one that changes least, counted from its smallest kind on. One of more than
    `MOST_CHANGES` changes is not looked for.
    """
    search = _Search(question)
    runs = search.runs(search.base, None)
    found = []
    for fix in sorted(search.carried, key=lambda fix: (fix.due, fix.advisory)):
        if search.met(search.base, fix):
            continue
        last = runs[-1] if runs else None
        earliest = last and last.starts + search.layout(search.base, -1).reached[fix]
        found.append(Miss(fix, search.late_hosts(fix, last), earliest, search.remedy(fix)))
    return found


class _Stance(NamedTuple):
    """What one stack's file says, as far as it may be changed."""

    batches: tuple[int, ...]
    away: int
    soak: timedelta
    extra: bool


class _Choice(NamedTuple):
    stances: tuple[_Stance, ...]
    emergency: bool


class _Knob(NamedTuple):
    """Something that may be changed by 1 to `most` steps; `ring` is `LIVE` for what concerns no ring."""

    rank: int
    leg: int
    ring: int
    remedy: Remedy
    most: int


class _Layout(NamedTuple):
    """A wave from its start: how long it takes, the room it must find, and when each fix has reached every host."""

    takes: timedelta
    room: timedelta
    reached: Mapping[Fix, timedelta]


class _Search:
    """One question with what has been worked out for it."""

    def __init__(self, question: Question) -> None:
        self.question = question
        stances = [_Stance(tuple(r.batch for r in leg.rings), leg.away, leg.soak, extra=False) for leg in question.legs]
        self.base = _Choice(tuple(stances), question.emergency)
        self.knobs = sorted(knob for knob in self._knobs() if knob.most > 0)
        self.last_hosts = [[_last_hosts(ring) for ring in leg.rings] for leg in question.legs]
        self.carried = frozenset(fix for ring in self.last_hosts[-1] for fix in ring)
        self.latest = max((fix.due for fix in self.carried), default=question.now)
        now = question.now
        self.routine = [_Track(leg.routine(now)) for leg in question.legs]
        self.emergency = [_Track(leg.emergency(now)) for leg in question.legs]
        self.admits = [_Track(leg.admits(now)) for leg in question.legs]
        last = question.legs[-1]
        self.numbers = [batch_numbers(_live(ring), ring.batch, last.away) for ring in last.rings]
        self._rings: dict[tuple[int, int, int, int], tuple[int, dict[Fix, int]]] = {}
        self._layouts: dict[tuple[int, tuple[int, ...], int], _Layout] = {}
        self._runs: dict[tuple[_Choice, datetime | None], tuple[Run, ...] | None] = {}
        self._subsets: dict[bool, list[tuple[_Knob, ...]]] = {}

    def layout(self, choice: _Choice, leg: int) -> _Layout:
        """The shape of one leg's wave."""
        stance, leg = choice.stances[leg], leg % len(self.question.legs)
        key = (leg, stance.batches, stance.away)
        if key not in self._layouts:
            self._layouts[key] = self._lay_out(leg, stance)
        return self._layouts[key]

    def _lay_out(self, number: int, stance: _Stance) -> _Layout:
        leg = self.question.legs[number]
        elapsed, batches = leg.before, 0
        reached: dict[Fix, timedelta] = {}
        for index, (ring, size) in enumerate(zip(leg.rings, stance.batches, strict=True)):
            count, last = self._ring(number, index, size, stance.away)
            reached |= {fix: elapsed + ring.takes * batch for fix, batch in last.items()}
            elapsed += ring.takes * count
            batches += count
        takes = elapsed + leg.after
        return _Layout(takes, max(leg.room * batches + leg.reserve, takes), reached)

    def _ring(self, leg: int, index: int, size: int, away: int) -> tuple[int, dict[Fix, int]]:
        """How many batches a ring has, and in which of them each fix reaches its last host."""
        key = (leg, index, size, away)
        if key not in self._rings:
            numbers = batch_numbers(_live(self.question.legs[leg].rings[index]), size, away)
            last = {fix: max(numbers[host] for host in hosts) for fix, hosts in self.last_hosts[leg][index].items()}
            self._rings[key] = max(numbers, default=0), last
        return self._rings[key]

    def runs(self, choice: _Choice, until: datetime | None) -> tuple[Run, ...] | None:
        """The chain as early as it can be, None where a wave fits nowhere, or not before `until`."""
        key = (choice, until)
        if key not in self._runs:
            self._runs[key] = self._run(choice, until)
        return self._runs[key]

    def _run(self, choice: _Choice, until: datetime | None) -> tuple[Run, ...] | None:
        made: list[Run] = []
        ended = self.question.proved
        for number, (leg, stance) in enumerate(zip(self.question.legs, choice.stances, strict=True)):
            soak = min(stance.soak, leg.emergency_soak) if choice.emergency else stance.soak
            ready = max(self.question.now, ended + soak) if ended else self.question.now
            layout = self.layout(choice, number)
            track = self.emergency[number] if choice.emergency else self.routine[number]
            starts, extra = track.fit(ready, layout.room, until), False
            if stance.extra and layout.room <= leg.admits_at_most:
                own = self.admits[number].fit(ready, layout.room, until, QUARTER)
                if own and (starts is None or own < starts):
                    starts, extra = own, True
            if starts is None:
                return None
            ended = starts + layout.takes
            made.append(Run(starts, ended, layout.room, extra))
        return tuple(made)

    def met(self, choice: _Choice, fix: Fix) -> bool:
        """Whether a fix has reached every host of the last stack when it is due."""
        runs = self.runs(choice, self.latest)
        return runs is not None and runs[-1].starts + self.layout(choice, -1).reached[fix] <= fix.due

    def late_hosts(self, fix: Fix, run: Run | None) -> int:
        """How many hosts of the last stack get a fix after it is due, when its wave runs like this."""
        leg, late = self.question.legs[-1], 0
        begins = run.starts + leg.before if run else None
        for ring, numbers in zip(leg.rings, self.numbers, strict=True):
            lacking = [number for number, seat in zip(numbers, ring.seats, strict=True) if fix in seat.lacks]
            late += sum(begins is None or begins + ring.takes * number > fix.due for number in lacking)
            begins = begins and begins + ring.takes * max(numbers, default=0)
        return late

    def remedy(self, fix: Fix) -> tuple[Change, ...] | None:
        """The smallest set of changes that meets a fix."""
        urgent = fix.advisory in self.question.urgent
        knobs = [knob for knob in self.knobs if urgent or knob.remedy != "emergency"]
        if not self.met(self._turned({knob: knob.most for knob in knobs}), fix):
            return None
        for subset in self._by_size(urgent, knobs):
            turns = {knob: knob.most for knob in subset}
            if not self.met(self._turned(turns), fix):
                continue
            for knob in subset:
                turns[knob] = self._least(turns, knob, fix)
            return self._changes(turns)
        return None

    def _least(self, turns: Mapping[_Knob, int], knob: _Knob, fix: Fix) -> int:
        """How far one knob must be turned at least while the others stand where they are."""
        amounts = range(1, knob.most + 1)
        return amounts[bisect_left(amounts, True, key=lambda n: self.met(self._turned({**turns, knob: n}), fix))]

    def _by_size(self, urgent: bool, knobs: Sequence[_Knob]) -> list[tuple[_Knob, ...]]:
        if urgent not in self._subsets:
            subsets = [s for size in range(1, MOST_CHANGES + 1) for s in combinations(knobs, size)]
            subsets.sort(key=lambda s: (len(s), sorted((knob.rank for knob in s), reverse=True), s))
            self._subsets[urgent] = subsets
        return self._subsets[urgent]

    def _knobs(self) -> Iterator[_Knob]:
        for rank, remedy in enumerate(self.question.remedies):
            if remedy == "emergency":
                yield _Knob(rank, 0, LIVE, remedy, 0 if self.question.emergency else 1)
                continue
            for number, leg in enumerate(self.question.legs):
                match remedy:
                    case "batch":
                        yield _Knob(rank, number, LIVE, remedy, leg.away_at_most - leg.away)
                        for index, ring in enumerate(leg.rings):
                            yield _Knob(rank, number, index, remedy, ring.batch_at_most - ring.batch)
                    case "soak":
                        yield _Knob(rank, number, LIVE, remedy, -((leg.soak_at_least - leg.soak) // HOUR))
                    case "window":
                        yield _Knob(rank, number, LIVE, remedy, 1)

    def _turned(self, turns: Mapping[_Knob, int]) -> _Choice:
        stances, emergency = list(self.base.stances), self.base.emergency
        for knob, steps in turns.items():
            stance, leg = stances[knob.leg], self.question.legs[knob.leg]
            match knob.remedy:
                case "batch" if knob.ring == LIVE:
                    stance = stance._replace(away=stance.away + steps)
                case "batch":
                    batches = list(stance.batches)
                    batches[knob.ring] += steps
                    stance = stance._replace(batches=tuple(batches))
                case "soak":
                    stance = stance._replace(soak=max(leg.soak_at_least, leg.soak - steps * HOUR))
                case "window":
                    stance = stance._replace(extra=True)
                case "emergency":
                    emergency = True
            stances[knob.leg] = stance
        return _Choice(tuple(stances), emergency)

    def _changes(self, turns: Mapping[_Knob, int]) -> tuple[Change, ...]:
        choice = self._turned(turns)
        runs = self.runs(choice, self.latest)
        assert runs is not None
        made = []
        for knob in turns:
            leg, stance, run = self.question.legs[knob.leg], choice.stances[knob.leg], runs[knob.leg]
            match knob.remedy:
                case "batch" if knob.ring == LIVE:
                    field, value = "rollout.live_out_of_service", str(stance.away)
                case "batch":
                    field, value = f"rollout.rings.{leg.rings[knob.ring].name}.batch", str(stance.batches[knob.ring])
                case "soak":
                    field, value = "calendar.soak", f"PT{stance.soak // HOUR}H"
                case "window":
                    field, value = "calendar.extra", f"{iso(run.starts)}/{iso(_up(run.starts + run.room, MINUTE))}"
                case "emergency":
                    field, value = "lane", "emergency"
            made.append(Change(knob.remedy, leg.stack, field, value))
        return tuple(made)


class _Track:
    """Openings from an instant on, read once and no further than needed."""

    def __init__(self, openings: Iterator[Opening]) -> None:
        self._coming = openings
        self._known: list[Opening] = []

    def fit(
        self, ready: datetime, room: timedelta, until: datetime | None, grid: timedelta | None = None
    ) -> datetime | None:
        """The first instant from `ready` to `until`, on the grid, from which an opening has this room."""
        for opening in self._since(ready):
            starts = max(opening.opens, ready)
            if grid:
                starts = _up(starts, grid)
            if until and starts > until:
                return None
            if starts + room <= opening.closes:
                return starts
        return None

    def _since(self, ready: datetime) -> Iterator[Opening]:
        number = bisect_right(self._known, ready, key=lambda opening: opening.closes)
        while True:
            if number == len(self._known):
                coming = next(self._coming, None)
                if coming is None:
                    return
                self._known.append(coming)
            if self._known[number].closes > ready:
                yield self._known[number]
            number += 1


def _live(ring: Ring) -> list[bool]:
    return [seat.live for seat in ring.seats]


def _last_hosts(ring: Ring) -> dict[Fix, list[int]]:
    """For each fix the last live and the last other host that lacks it: no host is in a later batch than these."""
    last: dict[tuple[bool, frozenset[Fix]], int] = {}
    for number, seat in enumerate(ring.seats):
        last[seat.live, seat.lacks] = number
    found: dict[Fix, dict[bool, int]] = {}
    for (live, lacks), number in last.items():
        for fix in lacks:
            known = found.setdefault(fix, {})
            known[live] = max(known.get(live, 0), number)
    return {fix: list(by_kind.values()) for fix, by_kind in found.items()}


def _up(instant: datetime, grid: timedelta) -> datetime:
    """The first instant of a grid, counted from the epoch, that is not before this one."""
    return EPOCH - ((EPOCH - instant) // grid) * grid
