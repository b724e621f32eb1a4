"""Windows, freezes, break-glass and their openings, against models that find every answer by trying."""

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.testing import CliRunner

from patchwave.base.model import first_problem
from patchwave.calendar.windows import (
    HORIZON,
    LONGEST_CLOSED,
    WEEKDAYS,
    BreakGlass,
    Calendar,
    Freeze,
    Lane,
    Window,
    time_zone,
)
from patchwave.cli import app
from tests.unit.builders import FIXTURE, patch_sunday, weekly
from tests.unit.clocks import (
    BEGIN,
    DAY,
    END,
    HOUR,
    MINUTE,
    ZONES,
    instants,
    offset,
    opens_by_model,
    recurs_by_model,
    transitions,
    windows,
)


def runs_by_model(window: Window, instant: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The window's openings on the days around an instant."""
    for back in range(-2, 4):
        day = instant.date() - timedelta(days=back)
        if recurs_by_model(window, day):
            opens = opens_by_model(window.zone, datetime.combine(day, window.starts))
            yield opens, opens + window.duration


def open_by_model(calendar: Calendar, instant: datetime, lane: Lane) -> bool:
    glass = any(g.starts <= instant < g.ends for g in calendar.break_glass)
    frozen = {f.kind for f in calendar.freezes if f.starts <= instant < f.ends}
    if lane == "emergency":
        return "hard" not in frozen or glass
    in_window = any(
        opens <= instant < closes for window in calendar.windows for opens, closes in runs_by_model(window, instant)
    )
    return in_window and "hard" not in frozen and ("soft" not in frozen or glass)


@st.composite
def calendars(draw: st.DrawFn) -> tuple[Calendar, datetime]:
    """A calendar, with freezes and break-glass near an instant."""
    instant = draw(instants)
    hours = st.integers(-72, 72).map(lambda h: instant + h * HOUR)
    freezes = []
    for _ in range(draw(st.integers(0, 4))):
        starts, lasts, kind = draw(hours), draw(st.integers(1, 96)) * HOUR, draw(st.sampled_from(("hard", "soft")))
        freezes.append(Freeze(starts=starts, ends=starts + lasts, reason="year end", kind=kind))
    glass = []
    for freeze in freezes[: draw(st.integers(0, 2))]:
        starts = freeze.starts + draw(st.integers(-3, 0)) * HOUR
        lasts = draw(st.integers(4, 24)) * HOUR
        glass.append(BreakGlass(starts=starts, ends=starts + lasts, owner="Kim", reason="worm"))
    several = draw(st.lists(windows, min_size=1, max_size=3))
    return Calendar(windows=tuple(several), freezes=tuple(freezes), break_glass=tuple(glass)), instant


@given(calendars(), st.sampled_from(("routine", "emergency")))
def test_allow_less_deny_is_what_every_minute_says(drawn: tuple[Calendar, datetime], lane: Lane) -> None:
    calendar, instant = drawn
    edges = {instant} | {edge for f in (*calendar.freezes, *calendar.break_glass) for edge in (f.starts, f.ends)}
    edges |= {edge for w in calendar.windows for run in runs_by_model(w, instant) for edge in run}
    for edge in edges:
        for at in (edge - MINUTE, edge):
            verdict = calendar.at(at, lane)
            assert verdict.open == open_by_model(calendar, at, lane), (at, lane)
            if verdict.open and verdict.closes:
                assert verdict.closes > at
                assert open_by_model(calendar, verdict.closes - MINUTE, lane)
                assert not open_by_model(calendar, verdict.closes, lane)


@given(calendars(), st.sampled_from(("routine", "emergency")))
def test_openings_are_disjoint_ordered_and_as_long_as_they_can_be(drawn: tuple[Calendar, datetime], lane: Lane) -> None:
    calendar, instant = drawn
    found = calendar.next(instant, 5, lane)
    assert found or calendar.at(instant, lane).closes is None
    for earlier, later in itertools.pairwise(found):
        assert earlier.closes < later.opens
    for opening in found:
        assert opening.opens > instant
        assert open_by_model(calendar, opening.opens, lane)
        assert not open_by_model(calendar, opening.opens - MINUTE, lane)
        assert open_by_model(calendar, opening.closes - MINUTE, lane)
        if opening.closes < instant + HORIZON:
            assert not open_by_model(calendar, opening.closes, lane)


@given(windows, st.dates(date(2026, 1, 1), date(2036, 1, 1)))
def test_a_recurrence_falls_on_its_days_from_the_day_it_is_asked_about(window: Window, since: date) -> None:
    year = (since + timedelta(days=i) for i in range(400))
    wanted = [day for day in year if recurs_by_model(window, day)]
    assert list(itertools.islice(window.recurrence.days(since), len(wanted))) == wanted


@given(windows)
def test_a_window_opens_on_each_of_its_days_for_ten_years_and_on_no_other(window: Window) -> None:
    days = (BEGIN.date() + timedelta(days=i) for i in range(-30, (END - BEGIN).days + 30))
    wanted = [
        opens_by_model(window.zone, datetime.combine(d, window.starts)) for d in days if recurs_by_model(window, d)
    ]
    found = itertools.takewhile(lambda opening: opening.opens < END, window.openings(BEGIN))
    assert [opening.opens for opening in found] == [w for w in wanted if w + window.duration > BEGIN and w < END]


@pytest.mark.parametrize("zone", ZONES)
def test_every_start_around_every_change_of_the_clock_opens_when_the_clock_first_shows_it(zone: str) -> None:
    for change in transitions(zone):
        midst = (change + offset(zone, change - MINUTE)).replace(tzinfo=None)
        for quarter in range(-12, 13):
            wall = midst + quarter * timedelta(minutes=15)
            window = weekly(wall.strftime("%A"), starts=wall.time(), zone=zone)
            opening = next(window.openings(change - DAY))
            assert opening.opens == opens_by_model(zone, wall), (change, wall)
            assert opening.closes - opening.opens == window.duration
            assert next(window.openings(opening.closes - MINUTE)) == opening
            assert next(window.openings(opening.closes)).opens > opening.opens


@pytest.mark.parametrize("zone", ZONES)
def test_an_overnight_window_over_every_change_of_the_clock_is_open_minute_by_minute(zone: str) -> None:
    for change in transitions(zone):
        evening = datetime.combine((change.astimezone(time_zone(zone)) - 12 * HOUR).date(), time(20))
        opens = opens_by_model(zone, evening)
        calendar = Calendar(windows=(weekly(evening.strftime("%A"), starts=time(20), duration=10 * HOUR, zone=zone),))
        for at in {opens - MINUTE, opens, change - MINUTE, change, opens + 10 * HOUR - MINUTE, opens + 10 * HOUR}:
            assert calendar.at(at).open == (opens <= at < opens + 10 * HOUR), (change, at)


def test_the_zones_cover_gaps_and_overlaps_of_every_width() -> None:
    moved = [offset(z, change) - offset(z, change - MINUTE) for z in ZONES for change in transitions(z)]
    assert len([z for z in ZONES if transitions(z)]) >= 30
    assert {abs(step) for step in moved} >= {timedelta(minutes=30), HOUR, 2 * HOUR}
    assert min(moved.count(step) for step in (HOUR, -HOUR)) > 100


PATCH_SUNDAYS = """
    2026  01-18 02-15 03-15 04-19 05-17 06-14 07-19 08-16 09-13 10-18 11-15 12-13
    2027  01-17 02-14 03-14 04-18 05-16 06-13 07-18 08-15 09-19 10-17 11-14 12-19
"""


def test_prod_opens_on_the_sunday_after_patch_tuesday() -> None:
    rows = [line.split() for line in PATCH_SUNDAYS.strip().splitlines()]
    wanted = [datetime.fromisoformat(f"{year}-{day}T02:00Z") for year, *days in rows for day in days]
    found = Calendar(windows=(patch_sunday(),)).next(datetime(2026, 1, 1, tzinfo=UTC), 24)
    assert [o.opens for o in found] == wanted
    assert {o.closes - o.opens for o in found} == {4 * HOUR}


# What `patchwave windows` says of the seeds' stacks, which count in UTC, on the days when clocks change.
TIMETABLE = """
    stack    at                    answer                                        then opens
    dev      2026-03-06T10:59Z     open until Fri 2026-03-06 11:00               Mon 2026-03-09 09:00
    dev      2026-03-08T09:30Z     closed  the US springs forward on a Sunday    Mon 2026-03-09 09:00
    dev      2026-03-09T09:30Z     open until Mon 2026-03-09 11:00               Tue 2026-03-10 09:00
    dev      2026-03-30T08:59Z     closed  Europe sprang forward yesterday       Mon 2026-03-30 09:00
    dev      2026-03-30T09:00Z     open until Mon 2026-03-30 11:00               Tue 2026-03-31 09:00
    dev      2026-10-26T09:00Z     open until Mon 2026-10-26 11:00               Tue 2026-10-27 09:00
    dev      2026-11-02T11:00Z     closed  the US fell back yesterday            Tue 2026-11-03 09:00
    dev      2027-03-15T09:00Z     open until Mon 2027-03-15 11:00               Tue 2027-03-16 09:00
    dev      2027-03-29T09:00Z     open until Mon 2027-03-29 11:00               Tue 2027-03-30 09:00
    dev      2027-11-01T09:00Z     open until Mon 2027-11-01 11:00               Tue 2027-11-02 09:00
    staging  2026-03-25T14:00Z     open until Wed 2026-03-25 16:00               Wed 2026-04-01 14:00
    staging  2026-04-01T13:59Z     closed  the first Wednesday of summer time    Wed 2026-04-01 14:00
    staging  2026-10-28T15:59Z     open until Wed 2026-10-28 16:00               Wed 2026-11-04 14:00
    staging  2027-03-31T14:00Z     open until Wed 2027-03-31 16:00               Wed 2027-04-07 14:00
    staging  2027-11-03T16:00Z     closed  to the minute                         Wed 2027-11-10 14:00
    prod     2026-03-15T01:59Z     closed  Patch Tuesday was the 10th            Sun 2026-03-15 02:00
    prod     2026-03-15T02:00Z     open until Sun 2026-03-15 06:00               Sun 2026-04-19 02:00
    prod     2026-03-29T02:30Z     closed  a Sunday, not the one after           Sun 2026-04-19 02:00
    prod     2026-10-18T05:59Z     open until Sun 2026-10-18 06:00               Sun 2026-11-15 02:00
    prod     2026-10-25T02:30Z     closed  Europe falls back                     Sun 2026-11-15 02:00
    prod     2026-12-13T06:00Z     closed  to the minute                         Sun 2027-01-17 02:00
    prod     2027-03-14T02:30Z     open until Sun 2027-03-14 06:00               Sun 2027-04-18 02:00
    prod     2027-11-07T06:30Z     closed  the US falls back                     Sun 2027-11-14 02:00
    prod     2027-11-14T02:00Z     open until Sun 2027-11-14 06:00               Sun 2027-12-19 02:00
"""


@pytest.mark.parametrize("row", TIMETABLE.strip().splitlines()[1:], ids=lambda row: " ".join(row.split()[:2]))
def test_windows_answers_like_the_timetable(row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stack, at, answer, then = row[4:13].strip(), row[13:35].strip(), row[35:81].strip(), row[81:].strip()
    monkeypatch.chdir(FIXTURE)
    ran = CliRunner().invoke(app, ["windows", "--stack", stack, "--at", at, "--json"])
    shown = json.loads(ran.stdout)
    assert (f"open until {when(shown['closes'])}" if shown["open"] else "closed") == answer.split("  ")[0]
    assert when(shown["next"][0]["opens"]) == then


def test_windows_names_where_update_manager_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FIXTURE)
    words = ["windows", "--stack", "dev", "--at", "2026-12-01T12:00Z"]
    (note,) = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["notes"]
    assert "Update Manager's rings begin 00:30 h apart and may overlap" in note
    assert f"note: {note}" in " ".join(CliRunner().invoke(app, words).stdout.split())


def when(instant: str) -> str:
    return f"{datetime.fromisoformat(instant):%a %Y-%m-%d %H:%M}"


# Windows of 2 h that count in a zone, around its changes of 2026 and 2027.
LOCAL = """
    zone                 local start            opens (UTC)
    Europe/Berlin        Sun 2026-03-22 02:30   2026-03-22 01:30
    Europe/Berlin        Sun 2026-03-29 02:30   2026-03-29 01:30   skipped: 03:30 is shown instead
    Europe/Berlin        Sun 2026-04-05 02:30   2026-04-05 00:30
    Europe/Berlin        Sun 2026-10-25 02:30   2026-10-25 00:30   shown twice: the first
    Europe/Berlin        Sun 2026-11-01 02:30   2026-11-01 01:30
    Europe/Berlin        Sun 2027-03-28 02:30   2027-03-28 01:30   skipped
    Europe/Berlin        Sun 2027-10-31 02:30   2027-10-31 00:30   shown twice
    America/New_York     Sun 2026-03-08 02:00   2026-03-08 07:00   skipped: 03:00 is shown instead
    America/New_York     Sun 2026-11-01 01:30   2026-11-01 05:30   shown twice: the first
    America/New_York     Sun 2027-03-14 02:30   2027-03-14 07:30   skipped
    America/New_York     Sun 2027-11-07 01:30   2027-11-07 05:30   shown twice
    Australia/Lord_Howe  Sun 2026-10-04 02:15   2026-10-03 15:45   half an hour is skipped
    Australia/Lord_Howe  Sun 2027-04-04 01:45   2027-04-03 14:45   half an hour is shown twice
    Antarctica/Troll     Sun 2027-03-28 01:30   2027-03-28 01:30   two hours are skipped
    Africa/Cairo         Fri 2026-04-24 00:30   2026-04-23 22:30   skipped at midnight
    America/Santiago     Sun 2026-09-06 00:00   2026-09-06 04:00   skipped at midnight
    Asia/Kolkata         Sun 2026-03-29 02:30   2026-03-28 21:00   no summer time
"""


@pytest.mark.parametrize("row", LOCAL.strip().splitlines()[1:], ids=lambda row: " ".join(row.split()[:3]))
def test_a_start_that_the_clock_skips_opens_later_and_one_that_it_repeats_opens_first(row: str) -> None:
    zone, _, day, starts, opens_on, opens_at, *_ = row.split()
    wanted = datetime.fromisoformat(f"{opens_on}T{opens_at}Z")
    window = weekly(date.fromisoformat(day).strftime("%A"), starts=time.fromisoformat(starts), zone=zone)
    found = Calendar(windows=(window,)).next(wanted - DAY, 1)[0]
    assert (found.opens, found.closes - found.opens) == (wanted, window.duration)


def test_a_day_long_window_every_day_closes_for_the_hour_that_a_long_day_has_more() -> None:
    calendar = Calendar(windows=(weekly(*WEEKDAYS, starts=time(0), duration=DAY, zone="Europe/Berlin"),))
    assert calendar.next(datetime(2026, 10, 20, tzinfo=UTC), 1)[0].opens == datetime(2026, 10, 25, 23, tzinfo=UTC)
    assert not calendar.at(datetime(2026, 10, 25, 22, 30, tzinfo=UTC)).open
    assert calendar.at(datetime(2026, 3, 29, 12, tzinfo=UTC)).open


def test_a_window_that_never_closes_says_so() -> None:
    verdict = Calendar(windows=(weekly(*WEEKDAYS, starts=time(0), duration=DAY),)).at(BEGIN)
    assert (verdict.open, verdict.closes) == (True, None)
    assert "stays open" in verdict.reason


def test_an_overnight_window_reaches_into_the_next_day() -> None:
    calendar = Calendar(windows=(weekly("Friday", starts=time(23), duration=timedelta(hours=3)),))
    assert calendar.at(datetime(2026, 11, 28, 1, 59, tzinfo=UTC)).open
    assert not calendar.at(datetime(2026, 11, 28, 2, 0, tzinfo=UTC)).open


def test_several_windows_that_touch_are_one_opening() -> None:
    calendar = Calendar(windows=(weekly("Monday", starts=time(11)), weekly("Monday", starts=time(9))))
    opening = calendar.next(datetime(2026, 11, 22, tzinfo=UTC), 1)[0]
    assert opening.closes - opening.opens == 4 * HOUR


def test_only_what_can_finish_may_start() -> None:
    calendar = Calendar(windows=(weekly("Monday"),))
    late = datetime(2026, 11, 23, 10, 40, tzinfo=UTC)
    assert calendar.may_start(late, timedelta(minutes=20)).open
    refused = calendar.may_start(late, timedelta(minutes=21))
    assert not refused.open
    assert "20 min left" in refused.reason


def frozen_monday(kind: str, **glass: str) -> Calendar:
    noon = {"starts": "2026-11-23T00:00:00Z", "ends": "2026-11-24T00:00:00Z", "reason": "launch"}
    return Calendar.model_validate_json(
        json.dumps(
            {
                "windows": [weekly("Monday").model_dump(mode="json")],
                "freezes": [noon | {"kind": kind}],
                "break_glass": [noon | {"owner": "Kim", "reason": "worm"} | glass] if glass else [],
            }
        )
    )


@pytest.mark.parametrize(
    ("kind", "glass", "lane", "allowed"),
    [
        ("soft", False, "routine", False),
        ("soft", True, "routine", True),
        ("hard", False, "routine", False),
        ("hard", True, "routine", False),
        ("soft", False, "emergency", True),
        ("soft", True, "emergency", True),
        ("hard", False, "emergency", False),
        ("hard", True, "emergency", True),
    ],
)
def test_break_glass_lifts_soft_freezes_for_routine_work_and_hard_ones_for_emergencies_only(
    kind: str, glass: bool, lane: Lane, allowed: bool
) -> None:
    calendar = frozen_monday(kind, **({"owner": "Kim"} if glass else {}))
    verdict = calendar.may_start(datetime(2026, 11, 23, 9, 30, tzinfo=UTC), HOUR, lane)
    assert verdict.open == allowed
    assert allowed or "frozen until Tue 2026-11-24 00:00 UTC: launch" in verdict.reason
    if allowed and glass and (kind, lane) != ("soft", "emergency"):
        assert "freeze 'launch' lifted by Kim until Tue 2026-11-24 00:00 UTC: worm" in verdict.reason


def test_break_glass_does_not_open_a_window_and_ends_on_the_minute() -> None:
    calendar = frozen_monday("soft", ends="2026-11-23T10:00:00Z")
    assert calendar.at(datetime(2026, 11, 23, 8, 59, tzinfo=UTC)).reason == "outside every window"
    assert calendar.at(datetime(2026, 11, 23, 9, 59, tzinfo=UTC)).closes == datetime(2026, 11, 23, 10, tzinfo=UTC)
    assert not calendar.at(datetime(2026, 11, 23, 10, 0, tzinfo=UTC)).open


def test_an_emergency_must_finish_before_a_hard_freeze() -> None:
    calendar = frozen_monday("hard")
    night = datetime(2026, 11, 22, 23, 0, tzinfo=UTC)
    assert calendar.may_start(night, HOUR, "emergency").open
    refused = calendar.may_start(night, HOUR + MINUTE, "emergency")
    assert not refused.open
    assert refused.reason == "60 min left before the freeze of Mon 2026-11-23 00:00 UTC, the work needs 61 min"


def test_a_hard_freeze_is_what_a_freeze_is_that_does_not_say() -> None:
    assert Freeze(starts=BEGIN, ends=END, reason="x").kind == "hard"


GOOD_WINDOW = {
    "recurrence": {"every": "week", "weekdays": ["Monday"]},
    "starts": "09:00",
    "duration": "PT2H",
    "zone": "Etc/UTC",
}
FREEZE = {"starts": "2026-12-18T00:00:00Z", "ends": "2027-01-04T00:00:00Z", "reason": "year end"}
SECOND_TUESDAY = {"every": "month", "week": "second", "weekday": "Tuesday"}


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({"zone": "Mars/Olympus"}, "zone: 'Mars/Olympus' is not an IANA time zone: write one such as"),
        ({"zone": "localtime"}, "zone: 'localtime' is not an IANA time zone"),
        ({"zone": "../../etc/passwd"}, "zone: '../../etc/passwd' is not an IANA time zone"),
        ({"duration": "PT24H1M"}, "duration: Input should be less than or equal to 1 day"),
        ({"duration": "PT0S"}, "duration: Input should be greater than 0 seconds"),
        ({"duration": "-PT1H"}, "duration: Input should be greater than 0 seconds"),
        ({"starts": "09:00:30"}, "write HH:MM, the zone stands in its own field"),
        ({"starts": "09:00Z"}, "write HH:MM, the zone stands in its own field"),
        (
            {"recurrence": {"every": "week", "weekdays": []}},
            "recurrence.week.weekdays: Tuple should have at least 1 item",
        ),
        ({"recurrence": {"every": "week", "weekdays": ["Monday", "Monday"]}}, "name each day once"),
        ({"recurrence": SECOND_TUESDAY | {"offset_days": 28}}, "less than or equal to 27"),
        ({"recurrence": SECOND_TUESDAY | {"week": "fifth"}}, "'first', 'second', 'third', 'fourth' or 'last'"),
    ],
)
def test_an_impossible_window_is_refused_in_one_line(window: dict[str, object], message: str) -> None:
    assert Window.model_validate_json(json.dumps(GOOD_WINDOW))
    with pytest.raises(ValidationError) as caught:
        Window.model_validate_json(json.dumps(GOOD_WINDOW | window))
    assert message in (line := first_problem(caught.value))
    assert "\n" not in line


EXTRA = {"starts": "2026-12-20T09:00:00Z", "ends": "2026-12-20T11:00:00Z", "reason": "urgent"}
YEAR = {"starts": "2026-12-18T00:00:00Z", "ends": "2027-12-27T00:00:00Z"}


@pytest.mark.parametrize(
    ("calendar", "message"),
    [
        ({"windows": []}, "windows: Tuple should have at least 1 item"),
        ({"freezes": [FREEZE | {"ends": "2026-12-18T00:00:00Z"}]}, "'year end' ends before it starts: swap"),
        ({"freezes": [FREEZE | {"starts": "2026-12-18T00:00:00"}]}, "has no zone: end it with Z or an offset"),
        ({"freezes": [FREEZE | {"ends": "9999-12-31T23:59:59Z"}]}, "out of the years 2000 to 2999"),
        ({"freezes": [FREEZE | {"ends": "9999-12-31T23:59:59-05:00"}]}, "out of reach: write a real date"),
        ({"freezes": [FREEZE | {"reason": ""}]}, "freezes.0.reason: String should have at least 1 character"),
        ({"freezes": [FREEZE | {"kind": "firm"}]}, "freezes.0.kind: Input should be 'hard' or 'soft'"),
        (
            {"freezes": [FREEZE | YEAR]},
            "no window opens from 2026-12-18 to 2027-12-27, over 366 days: shorten freeze 'year end'",
        ),
        (
            {"freezes": [FREEZE | {"ends": "2040-01-01T00:00:00Z"}]},
            "no window opens from 2026-12-18 to 2036-12-18, over 366 days: shorten freeze 'year end'",
        ),
        (
            {
                "freezes": [
                    FREEZE | {"ends": "2027-06-21T10:00:00Z", "reason": "merger"},
                    FREEZE | {"starts": "2027-06-22T00:00:00Z", "ends": "2027-12-26T00:00:00Z"},
                    FREEZE | {"starts": "2027-06-21T10:00:00Z", "ends": "2027-06-22T00:00:00Z"},
                ]
            },
            "shorten freeze 'merger'",
        ),
        (
            {"freezes": [FREEZE], "extra": [EXTRA]},
            "extra window 'urgent' never opens, freeze 'year end' covers it: move one of them",
        ),
        (
            {"freezes": [FREEZE | {"kind": "soft"}], "extra": [EXTRA]},
            "extra window 'urgent' never opens, freeze 'year end' covers it",
        ),
        ({"extra": [EXTRA | {"ends": "2026-12-25T00:00:00Z"}]}, "extra window 'urgent' lasts 4 days"),
        ({"break_glass": [FREEZE]}, "break_glass.0.owner: it is missing"),
        ({"break_glass": [FREEZE | {"owner": "Kim"}]}, "lasts 17 days, 0:00:00: at most 1 day, or end the freeze"),
    ],
)
def test_an_impossible_calendar_is_refused_in_one_line(calendar: dict[str, object], message: str) -> None:
    assert Calendar.model_validate_json(json.dumps({"windows": [GOOD_WINDOW], "freezes": [FREEZE]}))
    with pytest.raises(ValidationError) as caught:
        Calendar.model_validate_json(json.dumps({"windows": [GOOD_WINDOW]} | calendar))
    assert message in (line := first_problem(caught.value))
    assert "\n" not in line


def test_an_extra_window_opens_where_a_freeze_ends_or_glass_is_broken() -> None:
    partly = EXTRA | {"starts": "2027-01-03T23:00:00Z", "ends": "2027-01-04T01:00:00Z"}
    glass = FREEZE | {"owner": "Kim", "starts": "2026-12-20T10:00:00Z", "ends": "2026-12-20T12:00:00Z"}
    lifted = {"freezes": [FREEZE | {"kind": "soft"}], "extra": [EXTRA], "break_glass": [glass]}
    for calendar, opens in (
        ({"freezes": [FREEZE], "extra": [partly]}, datetime(2027, 1, 4, 0, tzinfo=UTC)),
        (lifted, datetime(2026, 12, 20, 10, tzinfo=UTC)),
    ):
        made = Calendar.model_validate_json(json.dumps({"windows": [GOOD_WINDOW], **calendar}))
        assert made.next(datetime(2026, 12, 19, tzinfo=UTC), 1)[0].opens == opens


def test_a_freeze_may_swallow_a_whole_year_of_openings_but_no_more() -> None:
    starts = datetime(2026, 11, 23, 9, tzinfo=UTC)
    ends = starts + LONGEST_CLOSED - timedelta(days=2)
    allowed = Calendar(windows=(weekly("Monday"),), freezes=(Freeze(starts=starts, ends=ends, reason="x"),))
    assert allowed.next(starts, 1)[0].opens == datetime(2027, 11, 22, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    "at", ["0001-01-01T00:00:00+05:00", "1999-12-31T00:00:00Z", "9999-12-31T23:59:59Z", "2026-11-23T09:00:00", "noon"]
)
def test_windows_refuses_an_instant_that_it_cannot_judge(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FIXTURE)
    ran = CliRunner().invoke(app, ["windows", "--stack", "dev", "--at", at])
    assert "UsageError" in repr(ran.exception)


def test_openings_are_shown_on_the_clock_of_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FIXTURE)
    words = ["windows", "--stack", "prod", "--at", "2027-03-13T12:00Z", "--zone", "America/New_York", "--count", "2"]
    assert CliRunner().invoke(app, words).stdout.splitlines()[1:] == [
        "  next  Sat 2027-03-13 21:00 - Sun 01:00 EST",
        "  next  Sat 2027-04-17 22:00 - Sun 02:00 EDT",
    ]
    berlin = [*words[:4], "2026-10-24T12:00Z", "--zone", "Europe/Berlin", "--count", "1"]
    assert CliRunner().invoke(app, berlin).stdout.splitlines()[1:] == ["  next  Sun 2026-11-15 03:00 - Sun 07:00 CET"]
