"""The solver against waves that are played out slot by slot, with every allowed change tried."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import combinations, product
from typing import NamedTuple
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from patchwave.calendar.windows import WEEKDAYS, Calendar, Opening, Weekly, Window
from patchwave.config.standard import Remedy
from patchwave.schedule import solver
from patchwave.schedule.solver import (
    MOST_CHANGES,
    QUARTER,
    Change,
    Fix,
    HostGroup,
    HostNeeds,
    Limit,
    Openings,
    Question,
    StackWave,
    misses,
    schedule,
)

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
SLOT = timedelta(minutes=15)
SLOTS = 36
REMEDIES: tuple[Remedy, ...] = ("batch", "soak", "window", "emergency")
FIXES = ("a", "b")


class Group(NamedTuple):
    """Which limits bound a batch and its live hosts, its slots, and each host: whether it is live, what it lacks."""

    batch: tuple[int, ...]
    away: int
    takes: int
    hosts: tuple[tuple[bool, frozenset[str]], ...]


class Played(NamedTuple):
    """One stack's wave in whole slots; `limits` are values with how much more is allowed, the maps say what is open."""

    limits: tuple[tuple[int, int], ...]
    groups: tuple[Group, ...]
    room: int
    reserve: int
    before: int
    after: int
    soak_hours: int
    soak_at_least: int
    emergency_soak: int
    routine: tuple[bool, ...]
    emergency: tuple[bool, ...]
    admits: tuple[bool, ...]
    admits_at_most: int


ALWAYS = (True,) * SLOTS
QUIET = Played(((1, 0),), (), 1, 0, 0, 0, 0, 0, 0, ALWAYS, ALWAYS, (False,) * SLOTS, 0)


class Case(NamedTuple):
    waves: tuple[Played, ...]
    due: dict[str, int]
    proved: int | None
    urgent: frozenset[str]


@st.composite
def played(draw: st.DrawFn) -> Played:
    hosts = st.lists(st.tuples(st.booleans(), st.frozensets(st.sampled_from(FIXES))), min_size=1, max_size=3)
    services, rings = draw(st.sampled_from([(1, 2), (2, 1)]))
    rings_of = st.sampled_from([tuple(range(services, services + rings)), (services,)])
    group = st.builds(Group, rings_of, st.integers(0, services - 1), st.integers(1, 2), hosts.map(tuple))
    frozen = range(draw(st.integers(0, SLOTS)), draw(st.integers(0, SLOTS)))
    emergency = tuple(slot not in frozen for slot in range(SLOTS))
    routine, admits = (tuple(e and b for e, b in zip(emergency, draw(blocks()), strict=True)) for _ in range(2))
    soak = draw(st.integers(0, 3))
    limit = st.tuples(st.integers(1, 2), st.integers(0, 2))
    return Played(
        limits=tuple(draw(st.lists(limit, min_size=services + rings, max_size=services + rings))),
        groups=tuple(draw(st.lists(group, min_size=1, max_size=3))),
        room=draw(st.integers(1, 2)),
        reserve=draw(st.integers(0, 1)),
        before=draw(st.integers(0, 1)),
        after=draw(st.integers(0, 1)),
        soak_hours=soak,
        soak_at_least=draw(st.integers(0, soak)),
        emergency_soak=draw(st.integers(0, 4)),
        routine=routine,
        emergency=emergency,
        admits=admits,
        admits_at_most=draw(st.integers(0, 12)),
    )


@st.composite
def blocks(draw: st.DrawFn) -> tuple[bool, ...]:
    """Slots in runs, as windows are."""
    made: list[bool] = []
    while len(made) < SLOTS:
        made += [draw(st.booleans())] * draw(st.integers(4, 16))
    return tuple(made[:SLOTS])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    waves = tuple(draw(st.lists(played(), min_size=1, max_size=2)))
    due = {fix: draw(st.integers(SLOTS // 3, SLOTS)) for fix in FIXES}
    return Case(waves, due, draw(st.none() | st.integers(-12, 0)), draw(st.frozensets(st.sampled_from(FIXES))))


def question(case: Case) -> Question:
    stacks = ("staging", "prod")[-len(case.waves) :]
    return Question(
        waves=tuple(stack_wave(p, name, case.due) for p, name in zip(case.waves, stacks, strict=True)),
        now=NOW,
        proved=None if case.proved is None else NOW + SLOT * case.proved,
        emergency=False,
        remedies=REMEDIES,
        urgent=case.urgent,
    )


def a_host(name: str, live: bool, lacks: frozenset[Fix]) -> HostNeeds:
    return HostNeeds(name, "fleet", "service", "ring", live, lacks)


def stack_wave(p: Played, stack: str, due: Mapping[str, int]) -> StackWave:
    fixes = {fix: Fix(fix, NOW + SLOT * slot) for fix, slot in due.items()}
    return StackWave(
        stack=stack,
        limits=tuple(Limit(str(n), value, value + more) for n, (value, more) in enumerate(p.limits)),
        groups=tuple(
            HostGroup(
                group.batch,
                group.away,
                SLOT * group.takes,
                [
                    a_host(f"{n}-{m}", live, frozenset(fixes[fix] for fix in lacks))
                    for m, (live, lacks) in enumerate(group.hosts)
                ],
            )
            for n, group in enumerate(p.groups)
        ),
        room=SLOT * p.room,
        reserve=SLOT * p.reserve,
        before=SLOT * p.before,
        after=SLOT * p.after,
        soak=timedelta(hours=p.soak_hours),
        soak_at_least=timedelta(hours=p.soak_at_least),
        emergency_soak=SLOT * p.emergency_soak,
        routine=openings(p.routine),
        emergency=openings(p.emergency),
        admits=openings(p.admits),
        admits_at_most=SLOT * p.admits_at_most,
    )


def openings(open_: Sequence[bool]) -> Openings:
    def since(after: datetime) -> Iterator[Opening]:
        begun: int | None = None
        for slot, is_open in enumerate([*open_, False]):
            if is_open and begun is None:
                begun = slot
            elif not is_open and begun is not None:
                yield Opening(opens=NOW + SLOT * begun, closes=NOW + SLOT * slot)
                begun = None

    return since


# --- the same, played out -------------------------------------------------------------------------------------------


class Chosen(NamedTuple):
    """What one choice of changes makes of a wave."""

    limits: tuple[int, ...]
    soak: int
    extra: bool


Adjusted = dict[tuple[int, int, int], int]  # by rank, wave and limit (-1 for what is none): how many steps


def wave(p: Played, chosen: Chosen) -> tuple[int, int, list[tuple[int, frozenset[str]]]]:
    """Slots that a wave takes, that it must find, and after which each host has what it lacks: batch after batch."""
    clock, batches = p.before, 0
    visited: list[tuple[int, frozenset[str]]] = []
    for group in p.groups:
        size, away = min(chosen.limits[n] for n in group.batch), chosen.limits[group.away]
        waiting = list(group.hosts)
        while waiting:
            batch: list[tuple[bool, frozenset[str]]] = []
            rest: list[tuple[bool, frozenset[str]]] = []
            for one in waiting:
                full = len(batch) == size or (one[0] and sum(live for live, _ in batch) == away)
                (rest if full else batch).append(one)
            waiting, clock, batches = rest, clock + group.takes, batches + 1
            visited += [(clock, lacks) for _, lacks in batch]
    return clock + p.after, max(p.room * batches + p.reserve, clock + p.after), visited


def ends(case: Case, adjusted: Adjusted) -> Iterator[dict[str, list[int]]]:
    """When each fix comes to each host that lacks it, for every way in which the chain may start its waves."""
    emergency = (3, 0, -1) in adjusted
    played_out = [wave(p, applied(p, n, adjusted)) for n, p in enumerate(case.waves)]

    def go(number: int, ended: int | None) -> Iterator[dict[str, list[int]]]:
        p, chosen = case.waves[number], applied(case.waves[number], number, adjusted)
        soak = min(chosen.soak * 4, p.emergency_soak) if emergency else chosen.soak * 4
        takes, room, visited = played_out[number]
        for starts in range(0 if ended is None else max(0, ended + soak), SLOTS):
            span = range(starts, starts + room)
            usual = p.emergency if emergency else p.routine
            fits = span.stop <= SLOTS and all(usual[slot] for slot in span)
            own = chosen.extra and room <= p.admits_at_most and span.stop <= SLOTS and all(p.admits[s] for s in span)
            if not (fits or own):
                continue
            if number + 1 == len(case.waves):
                yield {fix: [starts + after for after, lacks in visited if fix in lacks] for fix in FIXES}
            else:
                yield from go(number + 1, starts + takes)

    yield from go(0, case.proved)


def applied(p: Played, number: int, adjusted: Adjusted) -> Chosen:
    return Chosen(
        limits=tuple(value + adjusted.get((0, number, n), 0) for n, (value, _) in enumerate(p.limits)),
        soak=p.soak_hours - adjusted.get((1, number, -1), 0),
        extra=(2, number, -1) in adjusted,
    )


def works(case: Case, fix: str, adjusted: Adjusted) -> bool:
    """Whether the fix reaches every host in time after these changes."""
    return any(max(end[fix]) <= case.due[fix] for end in ends(case, adjusted))


def everything(case: Case, fix: str) -> Adjusted:
    """All that may be changed for a fix, as far as it goes."""
    most = {(3, 0, -1): 1} if fix in case.urgent else {}
    for number, p in enumerate(case.waves):
        most |= {(0, number, n): more for n, (_, more) in enumerate(p.limits)}
        most |= {(1, number, -1): p.soak_hours - p.soak_at_least, (2, number, -1): 1}
    return {key: steps for key, steps in sorted(most.items()) if steps > 0}


def cheapest(case: Case, fix: str) -> Adjusted | None:
    """Of everything that works the least: the fewest changes, the smallest kinds, then the smallest steps."""
    most = everything(case, fix)
    for size in range(1, min(MOST_CHANGES, len(most)) + 1):
        working = (
            (sorted((key[0] for key in keys), reverse=True), keys, steps)
            for keys in combinations(most, size)
            if works(case, fix, {key: most[key] for key in keys})
            for steps in product(*(range(1, most[key] + 1) for key in keys))
            if works(case, fix, dict(zip(keys, steps, strict=True)))
        )
        if least := min(working, default=None):
            return dict(zip(least[1], least[2], strict=True))
    return None


def adjusted_by(case: Case, changes: Sequence[Change]) -> Adjusted:
    """What the solver names, in the same terms."""
    stacks = [one.stack for one in question(case).waves]
    found: Adjusted = {}
    for change in changes:
        number = 0 if change.remedy == "emergency" else stacks.index(change.stack)
        p, rank, limit, steps = case.waves[number], REMEDIES.index(change.remedy), -1, 1
        if change.remedy == "batch":
            limit = int(change.field)
            steps = int(change.value) - p.limits[limit][0]
        elif change.remedy == "soak":
            steps = p.soak_hours - int(change.value[2:-1])
        found[rank, number, limit] = steps
    return found


@given(cases(), st.sampled_from([solver.MOST_TRIED, solver.MOST_TRIED, 0]))
def test_what_is_missed_and_the_smallest_remedy_are_those_of_every_wave_played_out(case: Case, tried: int) -> None:
    with patch.object(solver, "MOST_TRIED", tried):
        found = {miss.fix.advisory: miss for miss in misses(question(case))}
    carried = {fix for group in case.waves[-1].groups for _, lacks in group.hosts for fix in lacks}
    played_out = list(ends(case, {}))
    for fix in carried:
        if any(max(end[fix]) <= case.due[fix] for end in played_out):
            assert fix not in found
            continue
        miss = found.pop(fix)
        soonest = min((end[fix] for end in played_out), key=max, default=None)
        assert miss.earliest == (NOW + SLOT * max(soonest) if soonest else None)
        lacking = sum(fix in lacks for group in case.waves[-1].groups for _, lacks in group.hosts)
        assert miss.hosts == (sum(end > case.due[fix] for end in soonest) if soonest else lacking)
        if miss.remedy is None:
            assert not works(case, fix, everything(case, fix))
            continue
        remedy, least = adjusted_by(case, miss.remedy), cheapest(case, fix)
        if tried and least:
            assert remedy == least
        else:  # too many sets to try, or too many changes: it works, and nothing can be left out
            assert works(case, fix, remedy)
            assert not any(works(case, fix, {k: n for k, n in remedy.items() if k != key}) for key in remedy)
    assert found == {}


ZONES = ("Etc/UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana")


@given(
    zone=st.sampled_from(ZONES),
    hour=st.integers(0, 23),
    duration=st.integers(1, 8),
    year=st.integers(2026, 2028),
    days=st.integers(0, 364),
    needs=st.integers(1, 6),
)
def test_a_wave_starts_in_the_first_opening_with_room_for_it_also_when_clocks_change(
    zone: str, hour: int, duration: int, year: int, days: int, needs: int
) -> None:
    every_day = Weekly(every="week", weekdays=WEEKDAYS)
    window = Window(recurrence=every_day, starts=time(hour), duration=timedelta(hours=duration), zone=zone)
    calendar, now = Calendar(windows=(window,)), datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=days)
    room = timedelta(hours=needs)
    group = HostGroup((0,), 0, room, [a_host("h", False, frozenset({Fix("a", now)}))])
    only = stack_wave(QUIET, "prod", {})._replace(groups=(group,), room=room, routine=calendar.openings)
    runs = schedule(Question((only,), now, None, False, REMEDIES, frozenset()))
    if needs > duration:
        assert runs is None
        return
    assert runs is not None
    (run,) = runs
    assert calendar.may_start(run.starts, room).open
    steps = int((run.starts - now) / QUARTER)
    assert not any(calendar.may_start(now + QUARTER * step, room).open for step in range(steps))
