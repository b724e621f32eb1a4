"""The solver against waves that are played out slot by slot, with every allowed change tried."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import combinations, product
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from patchwave.calendar.windows import WEEKDAYS, Calendar, Opening, Weekly, Window
from patchwave.config.standard import Remedy
from patchwave.schedule.solver import (
    MOST_CHANGES,
    QUARTER,
    Change,
    Fix,
    Leg,
    Openings,
    Question,
    Ring,
    Seat,
    misses,
    schedule,
)

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
SLOT = timedelta(minutes=15)
SLOTS = 36
REMEDIES: tuple[Remedy, ...] = ("batch", "soak", "window", "emergency")
FIXES = ("a", "b")


class Played(NamedTuple):
    """One stack's wave in whole slots; the maps say which slots are open to whom."""

    rings: tuple[tuple[int, int, int, tuple[tuple[bool, frozenset[str]], ...]], ...]
    away: int
    away_at_most: int
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
QUIET = Played((), 1, 1, 1, 0, 0, 0, 0, 0, 0, ALWAYS, ALWAYS, (False,) * SLOTS, 0)


class Case(NamedTuple):
    legs: tuple[Played, ...]
    due: dict[str, int]
    proved: int | None
    urgent: frozenset[str]


@st.composite
def played(draw: st.DrawFn) -> Played:
    hosts = st.lists(
        st.tuples(st.booleans(), st.frozensets(st.sampled_from(FIXES))).map(lambda h: (h[0], h[1])),
        min_size=1,
        max_size=3,
    ).map(tuple)
    ring = st.tuples(st.integers(1, 2), st.integers(0, 2), st.integers(1, 2), hosts)
    frozen = range(draw(st.integers(0, SLOTS)), draw(st.integers(0, SLOTS)))
    emergency = tuple(slot not in frozen for slot in range(SLOTS))
    routine, admits = (tuple(e and b for e, b in zip(emergency, draw(blocks()), strict=True)) for _ in range(2))
    soak = draw(st.integers(0, 3))
    return Played(
        rings=tuple(draw(st.lists(ring, min_size=1, max_size=2))),
        away=draw(st.integers(1, 2)),
        away_at_most=draw(st.integers(1, 3)),
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
    legs = tuple(draw(st.lists(played(), min_size=1, max_size=2)))
    due = {fix: draw(st.integers(SLOTS // 3, SLOTS)) for fix in FIXES}
    return Case(legs, due, draw(st.none() | st.integers(-12, 0)), draw(st.frozensets(st.sampled_from(FIXES))))


def question(case: Case) -> Question:
    return Question(
        legs=tuple(
            leg(p, name, case.due) for p, name in zip(case.legs, ("staging", "prod")[-len(case.legs) :], strict=True)
        ),
        now=NOW,
        proved=None if case.proved is None else NOW + SLOT * case.proved,
        emergency=False,
        remedies=REMEDIES,
        urgent=case.urgent,
    )


def leg(p: Played, stack: str, due: Mapping[str, int]) -> Leg:
    fixes = {fix: Fix(fix, NOW + SLOT * slot) for fix, slot in due.items()}
    return Leg(
        stack=stack,  # type: ignore[arg-type]
        rings=tuple(
            Ring(
                f"r{n}",
                batch,
                batch + more,
                SLOT * takes,
                [
                    Seat(f"r{n}-{m}", live, frozenset(fixes[fix] for fix in lacks))
                    for m, (live, lacks) in enumerate(hosts)
                ],
            )
            for n, (batch, more, takes, hosts) in enumerate(p.rings)
        ),
        away=p.away,
        away_at_most=p.away_at_most,
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


class Stance(NamedTuple):
    """What one choice of changes makes of a leg."""

    batches: tuple[int, ...]
    away: int
    soak: int
    extra: bool


def wave(p: Played, stance: Stance) -> tuple[int, int, list[tuple[int, frozenset[str]]]]:
    """Slots that a wave takes, that it must find, and after which each host has what it lacks: batch after batch."""
    clock, batches = p.before, 0
    visited: list[tuple[int, frozenset[str]]] = []
    for (_, _, takes, hosts), size in zip(p.rings, stance.batches, strict=True):
        waiting = list(hosts)
        while waiting:
            batch: list[tuple[bool, frozenset[str]]] = []
            rest = []
            for one in waiting:
                full = len(batch) == size or (one[0] and sum(live for live, _ in batch) == stance.away)
                (rest if full else batch).append(one)
            waiting, clock, batches = rest, clock + takes, batches + 1
            visited += [(clock, lacks) for _, lacks in batch]
    return clock + p.after, max(p.room * batches + p.reserve, clock + p.after), visited


def ends(case: Case, stances: Sequence[Stance], emergency: bool) -> Iterator[dict[str, list[int]]]:
    """When each fix comes to each host that lacks it, for every way in which the chain may start its waves."""

    def go(number: int, ended: int | None) -> Iterator[dict[str, list[int]]]:
        p, stance = case.legs[number], stances[number]
        soak = min(stance.soak * 4, p.emergency_soak) if emergency else stance.soak * 4
        takes, room, visited = wave(p, stance)
        for starts in range(0 if ended is None else max(0, ended + soak), SLOTS):
            span = range(starts, starts + room)
            usual = p.emergency if emergency else p.routine
            fits = span.stop <= SLOTS and all(usual[slot] for slot in span)
            own = stance.extra and room <= p.admits_at_most and span.stop <= SLOTS and all(p.admits[s] for s in span)
            if not (fits or own):
                continue
            if number + 1 == len(case.legs):
                yield {fix: [starts + after for after, lacks in visited if fix in lacks] for fix in FIXES}
            else:
                yield from go(number + 1, starts + takes)

    yield from go(0, case.proved)


def choices(case: Case) -> Iterator[tuple[tuple[object, ...], list[Stance], bool]]:
    """Everything that may be changed, with its cost: how many changes, of which kinds, where, and how far."""
    knobs: list[tuple[int, int, int, int]] = []  # rank, leg, part, most
    for number, p in enumerate(case.legs):
        knobs.append((0, number, -1, p.away_at_most - p.away))
        knobs += [(0, number, index, more) for index, (_, more, _, _) in enumerate(p.rings)]
        knobs.append((1, number, -1, p.soak_hours - p.soak_at_least))
        knobs.append((2, number, -1, 1))
    knobs.append((3, 0, -1, 1))
    knobs = sorted(knob for knob in knobs if knob[3] > 0)
    for size in range(1, min(MOST_CHANGES, len(knobs)) + 1):
        for chosen in combinations(knobs, size):
            for amounts in product(*(range(1, knob[3] + 1) for knob in chosen)):
                kinds = sorted((knob[0] for knob in chosen), reverse=True)
                cost = (size, kinds, [knob[:3] for knob in chosen], amounts)
                yield cost, *applied(case, dict(zip((knob[:3] for knob in chosen), amounts, strict=True)))


def applied(case: Case, turned: dict[tuple[int, int, int], int]) -> tuple[list[Stance], bool]:
    stances = [
        Stance(
            batches=tuple(batch + turned.get((0, n, i), 0) for i, (batch, *_) in enumerate(p.rings)),
            away=p.away + turned.get((0, n, -1), 0),
            soak=p.soak_hours - turned.get((1, n, -1), 0),
            extra=(2, n, -1) in turned,
        )
        for n, p in enumerate(case.legs)
    ]
    return stances, (3, 0, -1) in turned


def cost_of(case: Case, changes: Sequence[Change]) -> tuple[object, ...]:
    """The cost of what the solver names, in the same terms."""
    stacks = [leg.stack for leg in question(case).legs]
    keyed = []
    for change in changes:
        number = 0 if change.remedy == "emergency" else stacks.index(change.stack)
        p, rank, part, amount = case.legs[number], REMEDIES.index(change.remedy), -1, 1
        if change.field == "rollout.live_out_of_service":
            amount = int(change.value) - p.away
        elif change.remedy == "batch":
            part = int(change.field.split(".")[2][1:])
            amount = int(change.value) - p.rings[part][0]
        elif change.remedy == "soak":
            amount = p.soak_hours - int(change.value[2:-1])
        keyed.append(((rank, number, part), amount))
    kinds = sorted((key[0] for key, _ in keyed), reverse=True)
    return len(keyed), kinds, [key for key, _ in keyed], tuple(amount for _, amount in keyed)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_what_is_missed_and_the_smallest_remedy_are_those_of_every_wave_played_out(case: Case) -> None:
    found = {miss.fix.advisory: miss for miss in misses(question(case))}
    carried = {fix for _, _, _, hosts in case.legs[-1].rings for _, lacks in hosts for fix in lacks}
    as_it_is, lane = applied(case, {})
    played_out = list(ends(case, as_it_is, lane))
    for fix in carried:
        if any(max(end[fix]) <= case.due[fix] for end in played_out):
            assert fix not in found
            continue
        miss = found.pop(fix)
        soonest = min((end[fix] for end in played_out), key=max, default=None)
        assert miss.earliest == (NOW + SLOT * max(soonest) if soonest else None)
        lacking = sum(fix in lacks for _, _, _, hosts in case.legs[-1].rings for _, lacks in hosts)
        assert miss.hosts == (sum(end > case.due[fix] for end in soonest) if soonest else lacking)
        cheapest = min(
            (
                cost
                for cost, stances, emergency in choices(case)
                if (not emergency or fix in case.urgent)
                and any(max(end[fix]) <= case.due[fix] for end in ends(case, stances, emergency))
            ),
            default=None,
        )
        assert (miss.remedy and cost_of(case, miss.remedy)) == cheapest
    assert found == {}


ZONES = ("Etc/UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana")


@settings(max_examples=60, deadline=None)
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
    ring = Ring("all", 1, 1, room, [Seat("h", False, frozenset({Fix("a", now)}))])
    only = leg(QUIET, "prod", {})._replace(rings=(ring,), room=room, routine=calendar.openings)
    runs = schedule(Question((only,), now, None, False, REMEDIES, frozenset()))
    if needs > duration:
        assert runs is None
        return
    assert runs is not None
    (run,) = runs
    assert calendar.may_start(run.starts, room).open
    steps = int((run.starts - now) / QUARTER)
    assert not any(calendar.may_start(now + QUARTER * step, room).open for step in range(steps))
