"""Windows as Update Manager is told of them: what it reads back is what the calendar means, for ten years."""

import itertools
import re
from datetime import UTC, date, datetime, time, timedelta
from functools import cache

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from patchwave.base.model import first_problem
from patchwave.calendar.update_manager import (
    LEAD,
    LIMITS,
    Part,
    Schedule,
    displaced,
    duration,
    frozen,
    notes,
    parts,
    recur_every,
    schedule,
    windows_zone,
    windows_zones,
)
from patchwave.calendar.windows import (
    HORIZON,
    BreakGlass,
    Calendar,
    Freeze,
    Monthly,
    Opening,
    Window,
    time_zone,
    zone_names,
)
from tests.unit.builders import patch_sunday, weekly
from tests.unit.clocks import HOUR, ZONES, opens_by_model, recurrences, windows

SHORTEST, LONGEST = LIMITS["InGuestPatch"]
NOT_IN_WINDOWS = {"Antarctica/Troll", "Factory"}
TODAY = date(2026, 12, 1)
long_enough = windows.filter(lambda window: window.duration >= SHORTEST)
days = st.dates(date(2026, 1, 1), date(2028, 12, 31))


@cache
def offsets(zone: str) -> list[timedelta | None]:
    """What a zone's clock differs from UTC by, one noon a week for ten years."""
    noon = datetime(2026, 12, 1, 12, tzinfo=UTC)
    return [(noon + timedelta(days=i)).astimezone(time_zone(zone)).utcoffset() for i in range(0, HORIZON.days, 7)]


def keeps_its_clock(zone: str) -> bool:
    return offsets(zone) == offsets(windows_zones()[windows_zone(zone)][0])


def test_every_zone_has_one_windows_name_but_those_that_windows_lacks() -> None:
    named = [zone for zones in windows_zones().values() for zone in zones]
    assert len(named) == len(set(named))
    assert zone_names() - set(named) == NOT_IN_WINDOWS


@given(st.sampled_from(sorted(zone_names() - NOT_IN_WINDOWS)))
@example("Europe/Berlin")
@example("America/Scoresbysund")
def test_a_zone_compiles_exactly_when_its_windows_zone_keeps_its_clock_for_ten_years(zone: str) -> None:
    if keeps_its_clock(zone):
        assert schedule(weekly("Sunday", starts=time(12), zone=zone), TODAY)
    else:
        says = re.escape(f"zone {zone}: Windows has no zone with its clock, '{windows_zone(zone)}' differs from 20")
        with pytest.raises(ValueError, match=says):
            schedule(weekly("Sunday", starts=time(12), zone=zone), TODAY)


@pytest.mark.parametrize("zone", sorted(NOT_IN_WINDOWS))
def test_a_zone_without_a_windows_name_is_refused_with_the_mend(zone: str) -> None:
    with pytest.raises(ValueError, match=r"has no Windows name: count this window in another, such as Etc/UTC"):
        schedule(weekly("Monday", zone=zone), TODAY)


@given(long_enough, days)
def test_ten_years_of_runs_are_the_windows_own_openings_at_the_services_length(window: Window, begins: date) -> None:
    made = compiled(window, begins)
    lasts = min(window.duration, LONGEST)
    first = opens_by_model(window.zone, datetime.combine(begins, window.starts))
    ours = itertools.dropwhile(lambda o: o.opens < first, window.openings(first))
    runs = list(made.openings())
    assert runs == [Opening(o.opens, o.opens + lasts) for o in itertools.islice(ours, len(runs))]
    assert next(ours).opens > first + HORIZON - timedelta(days=2)


def compiled(window: Window, begins: date) -> Schedule:
    """Its schedule; the example is given up when the service cannot be told of such a window."""
    assume(window.zone not in NOT_IN_WINDOWS and keeps_its_clock(window.zone))
    assume(not isinstance(window.recurrence, Monthly) or -13 <= window.recurrence.days_after_first <= 27)
    wall = datetime.combine(begins, window.starts)
    shown = opens_by_model(window.zone, wall).astimezone(time_zone(window.zone))
    assume(shown.replace(tzinfo=None) == wall)
    return schedule(window, begins)


@given(long_enough, days)
def test_in_doubt_are_exactly_the_starts_that_a_clock_does_not_show_once(window: Window, begins: date) -> None:
    zone = time_zone(window.zone)
    doubts = []
    for run in (made := compiled(window, begins)).openings():
        shown = (run.opens + timedelta(minutes=15 * i) for i in range(-16, 17))
        times = [at.astimezone(zone).time() for at in shown]
        if times.count(window.starts) != 1:
            doubts.append(run.opens)
    assert [start.astimezone(UTC) for start in made.in_doubt()] == doubts


def test_enough_zones_can_be_compiled_for_the_properties_to_mean_something() -> None:
    assert len([zone for zone in ZONES if zone not in NOT_IN_WINDOWS and keeps_its_clock(zone)]) >= 40


# The service's own examples, and ours, read from Tuesday 1 December 2026 in a zone.
RUNS = """
    1Month Second Tuesday Offset5   2026-12-13 2027-01-17 2027-02-14
    1Month Third Tuesday Offset1    2026-12-16 2027-01-20 2027-02-17
    Month Third Sunday Offset6      2026-12-26 2027-01-23 2027-02-27
    Month Last Sunday Offset-3      2026-12-24 2027-01-28 2027-02-25
    month fourth monday             2026-12-28 2027-01-25 2027-02-22
    Month First Tuesday Offset-2    2027-01-03 2027-01-31 2027-02-28
    2Months First Tuesday           2026-12-01 2027-02-02 2027-04-06
    Month day23,day24               2026-12-23 2026-12-24 2027-01-23
    1Month day31                    2026-12-31 2027-01-31 2027-03-31
    Week Saturday,Sunday            2026-12-05 2026-12-06 2026-12-12
    3Weeks                          2026-12-01 2026-12-22 2027-01-12
    2Weeks Monday, Friday           2026-12-04 2026-12-14 2026-12-18
    Day                             2026-12-01 2026-12-02 2026-12-03
    20days                          2026-12-01 2026-12-21 2027-01-10
"""


@pytest.mark.parametrize("row", RUNS.strip().splitlines(), ids=lambda row: row[4:33].strip())
def test_a_rhythm_is_read_like_the_timetable(row: str) -> None:
    rhythm, *wanted = row[:32].strip(), *row[32:].split()
    made = Schedule(
        scope="InGuestPatch",
        start_date_time="2026-12-01 23:00",
        duration="03:00",
        time_zone="Tokyo Standard Time",
        recur_every=rhythm,
    )
    found = list(itertools.islice(made.openings(), 3))
    assert [f"{run.opens.astimezone(time_zone('Asia/Tokyo')):%Y-%m-%d}" for run in found] == wanted
    assert found[0].opens.hour == 14
    assert {run.closes - run.opens for run in found} == {3 * HOUR}


@pytest.mark.parametrize(
    ("window", "text"),
    [
        (patch_sunday(), "1Month Second Tuesday Offset5"),
        (weekly("Wednesday"), "1Week Wednesday"),
        (weekly("Monday", "Friday"), "1Week Monday,Friday"),
    ],
)
def test_recurrences_are_written_in_the_services_grammar(window: Window, text: str) -> None:
    assert recur_every(window) == text


@pytest.mark.parametrize(
    ("week", "offset", "text"),
    [
        ("second", 6, "1Month Second Tuesday Offset6"),
        ("second", 7, "1Month Third Tuesday"),
        ("second", 8, "1Month Third Tuesday Offset1"),
        ("second", 14, "1Month Fourth Tuesday"),
        ("second", 20, "1Month Fourth Tuesday Offset6"),
        ("first", -7, "1Month Last Tuesday"),
        ("first", -13, "1Month Last Tuesday Offset-6"),
        ("last", 7, "1Month First Tuesday"),
        ("last", 13, "1Month First Tuesday Offset6"),
        ("fourth", -27, "1Month First Tuesday Offset-6"),
    ],
)
def test_an_offset_beyond_six_days_is_counted_from_another_week(week: str, offset: int, text: str) -> None:
    assert recur_every(moved(week, offset)) == text


def moved(week: str, offset: int) -> Window:
    recurrence = Monthly.model_validate({"every": "month", "week": week, "weekday": "Tuesday", "offset_days": offset})
    return Window(recurrence=recurrence, starts=time(2), duration=2 * HOUR, zone="Etc/UTC")


@pytest.mark.parametrize(("week", "offset"), [("second", 21), ("fourth", 7), ("first", -14), ("last", -7)])
def test_an_offset_that_no_week_reaches_is_refused_with_the_reach(week: str, offset: int) -> None:
    with pytest.raises(ValueError, match=r"farther than Update Manager counts, from 6 days before the last .* nearer"):
        schedule(moved(week, offset), TODAY)


@given(recurrences)
def test_every_offset_within_reach_is_written_and_no_other(recurrence: Monthly) -> None:
    assume(isinstance(recurrence, Monthly))
    window = Window(recurrence=recurrence, starts=time(2), duration=2 * HOUR, zone="Etc/UTC")
    try:
        recur_every(window)
    except ValueError:
        assert not -13 <= recurrence.days_after_first <= 27
    else:
        assert -13 <= recurrence.days_after_first <= 27


def test_the_seeds_four_hours_become_the_services_three_fifty_five() -> None:
    assert duration(patch_sunday()) == "03:55"
    assert duration(weekly("Monday", duration=timedelta(hours=3, minutes=54, seconds=59))) == "03:54"
    assert duration(weekly("Monday", duration=timedelta(hours=1, minutes=30))) == "01:30"
    with pytest.raises(ValueError, match=r"too short for InGuestPatch: give it at least 1:30:00"):
        schedule(weekly("Monday", duration=timedelta(hours=1, minutes=29)), TODAY)


def test_a_schedule_begins_on_a_day_whose_clock_shows_its_start() -> None:
    window = weekly("Sunday", starts=time(2, 30), zone="Europe/Berlin")
    with pytest.raises(ValueError, match=r"Europe/Berlin skips 2027-03-28 02:30: begin .* on another day"):
        schedule(window, date(2027, 3, 28))
    assert next(schedule(window, date(2027, 3, 29)).openings()).opens == datetime(2027, 4, 4, 0, 30, tzinfo=UTC)


def test_images_of_scale_sets_roll_by_the_week_in_windows_of_five_hours_and_more() -> None:
    night = weekly("Saturday", starts=time(20), duration=timedelta(hours=24), zone="Europe/Berlin")
    made = schedule(night, TODAY, "OSImage")
    assert (made.duration, made.recur_every) == ("23:59", "1Week Saturday")
    with pytest.raises(ValueError, match=r"too short for OSImage: give it at least 5:00:00"):
        schedule(weekly("Saturday", duration=timedelta(hours=4, minutes=59)), TODAY, "OSImage")
    with pytest.raises(ValueError, match=r"images of scale sets roll by the day or week"):
        schedule(patch_sunday(duration=5 * HOUR), TODAY, "OSImage")


GOOD = {
    "scope": "InGuestPatch",
    "start_date_time": "2026-12-01 02:00",
    "duration": "02:00",
    "time_zone": "W. Europe Standard Time",
    "recur_every": "1Week Monday",
}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("start_date_time", "2026-12-01T02:00", "write YYYY-MM-DD hh:mm"),
        ("start_date_time", "2026-02-30 02:00", "day is out of range for month"),
        ("start_date_time", "2027-03-28 02:30", "W. Europe Standard Time skips it, start on another day"),
        ("start_date_time", None, "write a text"),
        ("duration", "01:29", "write 01:30 to 03:55 for InGuestPatch"),
        ("duration", "03:56", "write 01:30 to 03:55 for InGuestPatch"),
        ("duration", "2:00", "write hh:mm"),
        ("time_zone", "Europe/Berlin", "not a Windows zone name: write one such as 'W. Europe Standard Time'"),
        ("recur_every", "Month", "write a rhythm such as"),
        ("recur_every", "6Hours", "write a rhythm such as"),
        ("recur_every", "0Days", "write a rhythm such as"),
        ("recur_every", "1Month Second Tuesday Offset7", "write a rhythm such as"),
        ("recur_every", "1Month Fifth Tuesday", "write a rhythm such as"),
        ("recur_every", "1Month day32", "write a rhythm such as"),
        ("recur_every", "1Week Mondays", "write a rhythm such as"),
    ],
)
def test_words_that_the_service_does_not_know_are_refused_in_one_line(field: str, value: object, message: str) -> None:
    assert list(itertools.islice(Schedule.model_validate(GOOD).openings(), 1))
    with pytest.raises(ValidationError) as caught:
        Schedule.model_validate(GOOD | {field: value})
    assert message in (line := first_problem(caught.value))
    assert field in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"duration": "04:59"}, "duration 04:59: write 05:00 to 23:59 for OSImage"),
        ({"recur_every": "1Month day1"}, "recur_every '1Month day1': images roll by the day or week"),
    ],
)
def test_what_scale_sets_do_not_take_is_refused(changed: dict[str, str], message: str) -> None:
    images = GOOD | {"scope": "OSImage", "duration": "05:00"}
    assert Schedule.model_validate(images)
    with pytest.raises(ValidationError, match=re.escape(message)):
        Schedule.model_validate(images | changed)


def test_a_rhythm_that_never_comes_has_no_runs() -> None:
    never = GOOD | {"start_date_time": "2027-02-01 02:00", "recur_every": "12Months day30"}
    assert list(Schedule.model_validate(never).openings()) == []


# Rings

RINGS = ("canary", "early", "rest", "late")
apart = st.tuples(windows, st.integers(1, 4)).filter(lambda one: one[0].duration >= SHORTEST + LEAD * (one[1] - 1))


@given(apart, days)
def test_each_ring_runs_in_the_window_after_the_ring_before(given: tuple[Window, int], begins: date) -> None:
    window, count = given
    compiled(window, begins)
    shared = shared_among(window, RINGS[:count], begins)
    wholes = {opens for opens, _ in itertools.islice(window.openings(BEFORE), 2000)}
    for number, part in enumerate(shared):
        skipped = {start.astimezone(UTC) for start in displaced(part)}
        for run in itertools.islice(part.schedule.openings(), 300):
            if run.opens not in skipped:
                opens = run.opens - part.lead
                assert opens in wholes
                assert run.closes <= opens + window.duration
                assert run.closes - run.opens >= SHORTEST
        if number:
            lead = part.lead - shared[number - 1].lead
            assert LEAD <= lead <= SHORTEST
            assert lead == SHORTEST or window.duration < SHORTEST * count
    assert part.schedule.duration == duration(window.model_copy(update={"duration": window.duration - part.lead}))


BEFORE = datetime(2025, 12, 30, tzinfo=UTC)


def shared_among(window: Window, rings: tuple[str, ...], begins: date) -> list[Part]:
    """Its parts; the example is given up when a ring's own part can not be told."""
    try:
        return parts(window, rings, begins)
    except ValueError:
        assume(False)
        raise


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        ("4:00", "02:00+01:30 03:30+02:30"),
        ("3:00", "02:00+01:30 03:30+01:30"),
        ("2:20", "02:00+01:30 02:50+01:30"),
        ("2:00", "02:00+01:30 02:30+01:30"),
        ("8:00", "02:00+01:30 03:30+03:55"),
    ],
)
def test_a_window_is_shared_like_the_timetable(duration: str, expected: str) -> None:
    hours, minutes = map(int, duration.split(":"))
    shared = parts(patch_sunday(duration=timedelta(hours=hours, minutes=minutes)), ["canary", "rest"], TODAY)
    assert " ".join(f"{p.schedule.start_date_time[11:]}+{p.schedule.duration}" for p in shared) == expected


def test_a_window_that_is_too_short_for_its_rings_is_refused_with_what_it_needs() -> None:
    short = weekly("Monday", duration=timedelta(hours=2, minutes=29))
    assert len(parts(short, RINGS[:2], TODAY)) == 2
    with pytest.raises(ValueError, match=r"too short for InGuestPatch of 3 rings, .*: give it at least 2:30:00"):
        parts(short, RINGS[:3], TODAY)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (weekly("Saturday", starts=time(23), duration=4 * HOUR), ["1Week Saturday", "1Week Sunday"]),
        (weekly("Sunday", starts=time(23), duration=4 * HOUR), ["1Week Sunday", "1Week Monday"]),
        (
            patch_sunday(4 * HOUR).model_copy(update={"starts": time(23)}),
            ["1Month Second Tuesday Offset5", "1Month Second Tuesday Offset6"],
        ),
    ],
)
def test_a_ring_that_begins_after_midnight_begins_on_the_next_day(window: Window, expected: list[str]) -> None:
    first, second = parts(window, RINGS[:2], TODAY)
    assert [first.schedule.recur_every, second.schedule.recur_every] == expected
    assert (first.schedule.start_date_time, second.schedule.start_date_time) == ("2026-12-01 23:00", "2026-12-02 00:30")
    runs = zip(first.schedule.openings(), second.schedule.openings(), strict=True)
    assert {after.opens - before.opens for before, after in runs} == {SHORTEST}


def test_a_ring_that_a_change_of_the_clock_moves_out_of_step_is_named() -> None:
    night = weekly("Sunday", starts=time(2), duration=4 * HOUR, zone="Europe/Berlin")
    first, rest = parts(night, RINGS[:2], TODAY)
    assert list(displaced(first)) == []
    assert [f"{start:%Y-%m-%d}" for start in itertools.islice(displaced(rest), 2)] == ["2027-03-28", "2027-10-31"]
    assert any(
        "ring early: the clock changes while the window is open, first on 2027-03-28" in note
        for note in notes(Calendar(windows=(night,)), RINGS[:2], TODAY)
    )


def test_rings_that_may_overlap_are_said_once_a_window() -> None:
    calendar = Calendar(windows=(weekly("Monday"), weekly("Tuesday", duration=3 * HOUR)))
    (note,) = notes(calendar, RINGS[:2], TODAY)
    assert note.startswith("Monday 09:00 for 2 h 00 (Etc/UTC): Update Manager's rings begin 00:30 h apart and may")


YEAR_END = Freeze(
    starts=datetime(2026, 12, 12, tzinfo=UTC), ends=datetime(2027, 1, 4, tzinfo=UTC), reason="year end", kind="soft"
)


def test_what_fits_the_service_needs_no_note() -> None:
    assert list(notes(Calendar(windows=(weekly("Monday"), weekly("Tuesday"))), ["all"], TODAY)) == []


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (patch_sunday(), "for 4 h 00 (Etc/UTC), ring all: Update Manager stops after 03:55"),
        (weekly("Monday", starts=time(23, 45)), "may miss starts from 23:45 to midnight: start at 23:30 or 00:00"),
        (
            weekly("Sunday", starts=time(2, 30), zone="Europe/Berlin"),
            "the clock skips or repeats 2027-03-28 02:30, what Update Manager does then is documented nowhere",
        ),
    ],
)
def test_where_the_service_differs_it_is_said(window: Window, message: str) -> None:
    (note,) = notes(Calendar(windows=(window,)), ["all"], TODAY)
    assert message in note


def test_runs_in_a_freeze_are_named_since_the_service_knows_none() -> None:
    calendar = Calendar(windows=(patch_sunday(duration=2 * HOUR), weekly("Monday")), freezes=(YEAR_END,))
    assert [note.split("runs in ")[1] for note in notes(calendar, ["all"], TODAY)] == [
        "'year end' at 2026-12-13 02:00 UTC: cancel these runs",
        "'year end' at 2026-12-14 09:00, 2026-12-21 09:00, 2026-12-28 09:00 UTC: cancel these runs",
    ]


def test_a_run_that_a_freeze_only_touches_is_frozen_and_one_beside_it_is_not() -> None:
    made = schedule(weekly("Monday"), TODAY)
    for starts, count in ((10, 1), (11, 0)):
        freeze = Freeze(
            starts=datetime(2026, 12, 7, starts, tzinfo=UTC), ends=datetime(2026, 12, 14, 9, tzinfo=UTC), reason="x"
        )
        assert len(list(frozen(Calendar(windows=(weekly("Monday"),), freezes=(freeze,)), made))) == count


def test_a_run_whose_soft_freeze_is_lifted_is_not_frozen() -> None:
    glass = BreakGlass(
        starts=datetime(2026, 12, 13, tzinfo=UTC), ends=datetime(2026, 12, 14, tzinfo=UTC), owner="Kim", reason="worm"
    )
    lifted = Calendar(windows=(patch_sunday(duration=2 * HOUR),), freezes=(YEAR_END,), break_glass=(glass,))
    assert list(notes(lifted, ["all"], TODAY)) == []
