"""Whether fixes can be everywhere before they are due, and the smallest change that would make it so.

A chain of waves runs one after the other: each stack's wave starts in the first opening that has room for all of it,
once the stack before has been good for the soak. Everything that may be changed only ever makes it earlier, which is
why a smallest change can be searched by halving, and why "nothing helps" needs one look at everything changed at once.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from math import comb
from typing import NamedTuple

from patchwave.base.clock import iso
from patchwave.calendar.windows import Opening
from patchwave.config.standard import Remedy, StackName
from patchwave.schedule.batches import batch_numbers

MOST_CHANGES, MOST_TRIED = 4, 5_000
WHOLE_WAVE = -1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE, QUARTER, HOUR = timedelta(minutes=1), timedelta(minutes=15), timedelta(hours=1)

Openings = Callable[[datetime], Iterator[Opening]]


class Fix(NamedTuple):
    """An advisory and the instant at which it is due on a host."""

    advisory: str
    due: datetime


class HostNeeds(NamedTuple):
    """One host: where it stands in the order of patching, whether users reach it, and which fixes it lacks."""

    name: str
    fleet: str
    service: str
    ring: str
    live: bool
    lacks: frozenset[Fix]


class Limit(NamedTuple):
    """A count in a stack's file, by its field, that bounds how many hosts go together; at most, it may be `at_most`."""

    field: str
    value: int
    at_most: int


class HostGroup(NamedTuple):
    """Hosts that have no order between them, in the order in which they are put together; a batch takes `takes`.

    `batch` and `away` number the wave's limits: a batch has as many hosts as the smallest of `batch` allows, and as
    many live ones as `away` does.
    """

    batch: tuple[int, ...]
    away: int
    takes: timedelta
    hosts: Sequence[HostNeeds]


class StackWave(NamedTuple):
    """One stack's wave: its groups in their order.

    `room` is what the window must have for each batch and `reserve` once more; `before` and `after` is what a wave
    takes before its first and after its last batch. `admits` are the stretches in which the standard admits an
    extra window, of `admits_at_most`. Soaks count from the end of the wave before, in the emergency lane less.
    """

    stack: StackName
    limits: tuple[Limit, ...]
    groups: tuple[HostGroup, ...]
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

    def size(self, group: int, limits: Sequence[int]) -> tuple[int, int]:
        """How many hosts of a group go together under these limits, and how many live ones."""
        one = self.groups[group]
        return min(limits[number] for number in one.batch), limits[one.away]

    def numbers(self, group: int, limits: Sequence[int]) -> list[int]:
        """The batch of each host of a group under these limits."""
        return batch_numbers([host.live for host in self.groups[group].hosts], *self.size(group, limits))

    @property
    def declared(self) -> tuple[int, ...]:
        """The limits as the stack's file has them."""
        return tuple(limit.value for limit in self.limits)


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
    """A chain of waves, the last of which is that of the stack in question.

    `proved` is when the stack before the first one ended its wave. `remedies` may be used, the smallest first;
    `urgent` advisories may take the emergency lane, and in it the chain runs already with `emergency`.
    """

    waves: tuple[StackWave, ...]
    now: datetime
    proved: datetime | None
    emergency: bool
    remedies: Sequence[Remedy]
    urgent: frozenset[str]


def schedule(question: Question) -> tuple[Run, ...] | None:
    """The chain's waves as early as they can be, None where one of them fits into no opening."""
    search = _Search(question)
    return search.runs(search.base, None)


def visits(wave: StackWave, starts: datetime) -> dict[str, Visit]:
    """When each host of a stack is in its batch, by name, in a wave that starts at an instant."""
    found: dict[str, Visit] = {}
    begins, batches = starts + wave.before, 0
    for index, group in enumerate(wave.groups):
        numbers = wave.numbers(index, wave.declared)
        for host, number in zip(group.hosts, numbers, strict=True):
            at = begins + group.takes * (number - 1)
            found[host.name] = Visit(batches + number, at, at + group.takes)
        count = max(numbers, default=0)
        begins, batches = begins + group.takes * count, batches + count
    return found


def misses(question: Question) -> list[Miss]:
    """Every fix that cannot be met as things stand, the one that is due first first.

    Of all remedies the smallest has the fewest changes; of those the one whose largest kind comes first in the
    question's order; of those the one that changes least, counted from its smallest kind on. Where more than
    `MOST_CHANGES` are needed, or more than `MOST_TRIED` sets of one size are possible, it is one that works and of
    which no change can be left out.
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


class _WaveChoice(NamedTuple):
    """What one stack's file decides, as far as it may be changed; `extra` admits a window of the wave's own."""

    limits: tuple[int, ...]
    soak: timedelta
    extra: bool


class _Choice(NamedTuple):
    waves: tuple[_WaveChoice, ...]
    emergency: bool


class _Adjustment(NamedTuple):
    """Something that may be changed by 1 to `most` steps; `limit` is `WHOLE_WAVE` for what is no limit."""

    rank: int
    wave: int
    limit: int
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
        waves = question.waves
        self.base = _Choice(tuple(_WaveChoice(w.declared, w.soak, extra=False) for w in waves), question.emergency)
        self.adjustments = sorted(one for one in self._adjustments() if one.most > 0)
        self.last_hosts = [[_last_hosts(group) for group in wave.groups] for wave in waves]
        self.carried = frozenset(fix for group in self.last_hosts[-1] for fix in group)
        self.latest = max((fix.due for fix in self.carried), default=question.now)
        now = question.now
        self.routine = [_Track(wave.routine(now)) for wave in waves]
        self.emergency = [_Track(wave.emergency(now)) for wave in waves]
        self.admits = [_Track(wave.admits(now)) for wave in waves]
        self.numbers = [waves[-1].numbers(index, waves[-1].declared) for index in range(len(waves[-1].groups))]
        self._groups: dict[tuple[int, int, int, int], tuple[int, dict[Fix, int]]] = {}
        self._layouts: dict[tuple[int, tuple[int, ...]], _Layout] = {}
        self._runs: dict[tuple[_Choice, datetime | None], tuple[Run, ...] | None] = {}

    def layout(self, choice: _Choice, wave: int) -> _Layout:
        """The shape of one wave of the chain."""
        limits, wave = choice.waves[wave].limits, wave % len(self.question.waves)
        key = (wave, limits)
        if key not in self._layouts:
            self._layouts[key] = self._lay_out(wave, limits)
        return self._layouts[key]

    def _lay_out(self, number: int, limits: tuple[int, ...]) -> _Layout:
        wave = self.question.waves[number]
        elapsed, batches = wave.before, 0
        reached: dict[Fix, timedelta] = {}
        for index, group in enumerate(wave.groups):
            count, last = self._group(number, index, limits)
            reached |= {fix: elapsed + group.takes * batch for fix, batch in last.items()}
            elapsed += group.takes * count
            batches += count
        takes = elapsed + wave.after
        return _Layout(takes, max(wave.room * batches + wave.reserve, takes), reached)

    def _group(self, number: int, index: int, limits: tuple[int, ...]) -> tuple[int, dict[Fix, int]]:
        """How many batches a group has, and in which of them each fix reaches its last host."""
        wave = self.question.waves[number]
        key = (number, index, *wave.size(index, limits))
        if key not in self._groups:
            numbers = wave.numbers(index, limits)
            last = {fix: max(numbers[host] for host in hosts) for fix, hosts in self.last_hosts[number][index].items()}
            self._groups[key] = max(numbers, default=0), last
        return self._groups[key]

    def runs(self, choice: _Choice, until: datetime | None) -> tuple[Run, ...] | None:
        """The chain as early as it can be, None where a wave fits nowhere, or not before `until`."""
        key = (choice, until)
        if key not in self._runs:
            self._runs[key] = self._run(choice, until)
        return self._runs[key]

    def _run(self, choice: _Choice, until: datetime | None) -> tuple[Run, ...] | None:
        made: list[Run] = []
        ended = self.question.proved
        for number, (wave, chosen) in enumerate(zip(self.question.waves, choice.waves, strict=True)):
            soak = min(chosen.soak, wave.emergency_soak) if choice.emergency else chosen.soak
            ready = max(self.question.now, ended + soak) if ended else self.question.now
            layout = self.layout(choice, number)
            track = self.emergency[number] if choice.emergency else self.routine[number]
            starts, extra = track.fit(ready, layout.room, until), False
            if chosen.extra and layout.room <= wave.admits_at_most:
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
        wave, late = self.question.waves[-1], 0
        begins = run.starts + wave.before if run else None
        for group, numbers in zip(wave.groups, self.numbers, strict=True):
            lacking = [number for number, host in zip(numbers, group.hosts, strict=True) if fix in host.lacks]
            late += sum(begins is None or begins + group.takes * number > fix.due for number in lacking)
            begins = begins and begins + group.takes * max(numbers, default=0)
        return late

    def remedy(self, fix: Fix) -> tuple[Change, ...] | None:
        """The smallest set of changes that meets a fix."""
        urgent = fix.advisory in self.question.urgent
        usable = [one for one in self.adjustments if urgent or one.remedy != "emergency"]
        if not self._meets(usable, fix):
            return None
        chosen = self._smallest(usable, fix) or self._sufficient(usable, fix)
        steps = {one: one.most for one in chosen}
        for one in chosen:
            steps[one] = self._least(steps, one, fix)
        return self._changes(steps)

    def _meets(self, changed: Iterable[_Adjustment], fix: Fix) -> bool:
        return self.met(self._adjusted({one: one.most for one in changed}), fix)

    def _smallest(self, usable: Sequence[_Adjustment], fix: Fix) -> tuple[_Adjustment, ...] | None:
        """The smallest set that meets a fix, None where it would be too large or too long in coming."""
        needed = [one for one in usable if not self._meets((other for other in usable if other != one), fix)]
        others = [one for one in usable if one not in needed]
        for more in range(0 if needed else 1, MOST_CHANGES - len(needed) + 1):
            if comb(len(others), more) > MOST_TRIED:
                return None
            subsets = [tuple(sorted((*needed, *added))) for added in combinations(others, more)]
            subsets.sort(key=lambda s: (sorted((one.rank for one in s), reverse=True), s))
            if found := next((subset for subset in subsets if self._meets(subset, fix)), None):
                return found
        return None

    def _sufficient(self, usable: Sequence[_Adjustment], fix: Fix) -> tuple[_Adjustment, ...]:
        """A set that meets a fix and of which nothing can be left out; the largest kind is left out first."""
        kept = list(usable)
        for one in reversed(usable):
            rest = [other for other in kept if other != one]
            kept = rest if self._meets(rest, fix) else kept
        return tuple(kept)

    def _least(self, steps: Mapping[_Adjustment, int], one: _Adjustment, fix: Fix) -> int:
        """How far one thing must be changed at least while the others stay as they are."""
        amounts = range(1, one.most + 1)
        return amounts[bisect_left(amounts, True, key=lambda n: self.met(self._adjusted({**steps, one: n}), fix))]

    def _adjustments(self) -> Iterator[_Adjustment]:
        for rank, remedy in enumerate(self.question.remedies):
            if remedy == "emergency":
                yield _Adjustment(rank, 0, WHOLE_WAVE, remedy, 0 if self.question.emergency else 1)
                continue
            for number, wave in enumerate(self.question.waves):
                match remedy:
                    case "batch":
                        for index, limit in enumerate(wave.limits):
                            yield _Adjustment(rank, number, index, remedy, limit.at_most - limit.value)
                    case "soak":
                        most = -((wave.soak_at_least - wave.soak) // HOUR)
                        yield _Adjustment(rank, number, WHOLE_WAVE, remedy, most)
                    case "window":
                        yield _Adjustment(rank, number, WHOLE_WAVE, remedy, 1)

    def _adjusted(self, steps: Mapping[_Adjustment, int]) -> _Choice:
        waves, emergency = list(self.base.waves), self.base.emergency
        for one, by in steps.items():
            chosen, wave = waves[one.wave], self.question.waves[one.wave]
            match one.remedy:
                case "batch":
                    limits = list(chosen.limits)
                    limits[one.limit] += by
                    chosen = chosen._replace(limits=tuple(limits))
                case "soak":
                    chosen = chosen._replace(soak=max(wave.soak_at_least, wave.soak - by * HOUR))
                case "window":
                    chosen = chosen._replace(extra=True)
                case "emergency":
                    emergency = True
            waves[one.wave] = chosen
        return _Choice(tuple(waves), emergency)

    def _changes(self, steps: Mapping[_Adjustment, int]) -> tuple[Change, ...]:
        choice = self._adjusted(steps)
        runs = self.runs(choice, self.latest)
        assert runs is not None
        made = []
        for one in steps:
            wave, chosen, run = self.question.waves[one.wave], choice.waves[one.wave], runs[one.wave]
            match one.remedy:
                case "batch":
                    field, value = wave.limits[one.limit].field, str(chosen.limits[one.limit])
                case "soak":
                    field, value = "calendar.soak", f"PT{chosen.soak // HOUR}H"
                case "window":
                    field, value = "calendar.extra", f"{iso(run.starts)}/{iso(_up(run.starts + run.room, MINUTE))}"
                case "emergency":
                    field, value = "lane", "emergency"
            made.append(Change(one.remedy, wave.stack, field, value))
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


def _last_hosts(group: HostGroup) -> dict[Fix, list[int]]:
    """For each fix the last live and the last other host that lacks it: no host is in a later batch than these."""
    last: dict[tuple[bool, frozenset[Fix]], int] = {}
    for number, host in enumerate(group.hosts):
        last[host.live, host.lacks] = number
    found: dict[Fix, dict[bool, int]] = {}
    for (live, lacks), number in last.items():
        for fix in lacks:
            known = found.setdefault(fix, {})
            known[live] = max(known.get(live, 0), number)
    return {fix: list(by_kind.values()) for fix, by_kind in found.items()}


def _up(instant: datetime, grid: timedelta) -> datetime:
    """The first instant of a grid, counted from the epoch, that is not before this one."""
    return EPOCH - ((EPOCH - instant) // grid) * grid
