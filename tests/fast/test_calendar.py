"""Windows, freezes and their openings, against an independent minute-by-minute model."""

import itertools
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from patchwave.calendar import HORIZON, WEEKDAYS, Calendar, Freeze, Monthly, Weekly, Window
from tests.fast.builders import patch_sunday, weekly

ZONES = ("Etc/UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/Santiago")

recurrences = st.one_of(
    st.builds(
        Weekly,
        every=st.just("week"),
        weekdays=st.lists(st.sampled_from(WEEKDAYS), min_size=1, max_size=7, unique=True).map(tuple),
    ),
    st.builds(
        Monthly,
        every=st.just("month"),
        week=st.sampled_from(("first", "second", "third", "fourth", "last")),
        weekday=st.sampled_from(WEEKDAYS),
        offset_days=st.integers(-6, 6),
    ),
)
windows = st.builds(
    Window,
    recurs=recurrences,
    starts=st.builds(time, st.integers(0, 23), st.sampled_from((0, 15, 30))),
    lasts=st.integers(1, 96).map(lambda quarters: timedelta(minutes=15 * quarters)),
    zone=st.sampled_from(ZONES),
)
instants = st.datetimes(datetime(2025, 1, 1), datetime(2035, 1, 1)).map(
    lambda d: d.replace(tzinfo=UTC, second=0, microsecond=0)
)


def open_by_model(window: Window, instant: datetime) -> bool:
    """Walks the wall-clock days around an instant without the code under test."""
    zone = ZoneInfo(window.zone)
    for back in range(-2, 3):
        day = (instant.astimezone(zone) - timedelta(days=back)).date()
        if recurs_by_model(window, day):
            opens = datetime.combine(day, window.starts).replace(tzinfo=zone).astimezone(UTC)
            if opens <= instant < opens + window.lasts:
                return True
    return False


def recurs_by_model(window: Window, day: date) -> bool:
    if isinstance(window.recurs, Weekly):
        return day.strftime("%A") in window.recurs.weekdays
    anchor = day - timedelta(days=window.recurs.offset_days)
    same = [
        d
        for d in (date(anchor.year, anchor.month, 1) + timedelta(days=i) for i in range(31))
        if d.month == anchor.month and d.strftime("%A") == window.recurs.weekday
    ]
    index = {"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1}[window.recurs.week]
    return anchor == same[index]


@settings(max_examples=150, deadline=None)
@given(windows, instants)
def test_a_calendar_is_open_exactly_when_its_window_is(window: Window, instant: datetime) -> None:
    assert Calendar(windows=(window,)).at(instant).open == open_by_model(window, instant)


@settings(max_examples=100, deadline=None)
@given(windows, instants, st.integers(0, 4000), st.integers(1, 3000))
def test_a_freeze_beats_every_window(window: Window, instant: datetime, begins: int, lasts: int) -> None:
    starts = instant - timedelta(minutes=begins)
    freeze = Freeze(starts=starts, ends=starts + timedelta(minutes=lasts), reason="year end")
    verdict = Calendar(windows=(window,), freezes=(freeze,)).at(instant)
    frozen = freeze.starts <= instant < freeze.ends
    assert verdict.open == (open_by_model(window, instant) and not frozen)
    assert not frozen or "year end" in verdict.reason


@settings(max_examples=60, deadline=None)
@given(st.lists(windows, min_size=1, max_size=3), instants)
def test_openings_are_disjoint_ordered_and_open_inside_only(several: list[Window], instant: datetime) -> None:
    calendar = Calendar(windows=tuple(several))
    found = calendar.next(instant, 5)
    for earlier, later in itertools.pairwise(found):
        assert earlier.closes < later.opens
    for opening in found:
        assert calendar.at(opening.opens).open
        assert not calendar.at(opening.opens - timedelta(minutes=1)).open
        if opening.closes < instant + HORIZON - timedelta(days=2):  # what never closes is followed to the horizon only
            assert not calendar.at(opening.closes).open


@pytest.mark.parametrize(
    ("day", "opens"),
    [
        (date(2026, 12, 1), datetime(2026, 12, 13, 2, tzinfo=UTC)),
        (date(2027, 1, 1), datetime(2027, 1, 17, 2, tzinfo=UTC)),
        (date(2027, 6, 1), datetime(2027, 6, 13, 2, tzinfo=UTC)),
        (date(2028, 2, 1), datetime(2028, 2, 13, 2, tzinfo=UTC)),
    ],
)
def test_prod_opens_on_the_sunday_after_patch_tuesday(day: date, opens: datetime) -> None:
    after = datetime.combine(day, time(0), UTC)
    assert Calendar(windows=(patch_sunday(),)).next(after, 1)[0].opens == opens


@pytest.mark.parametrize(
    ("zone", "starts", "on", "opens"),
    [
        ("Europe/Berlin", time(2, 30), date(2026, 3, 29), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        ("Europe/Berlin", time(2, 30), date(2026, 10, 25), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        ("Australia/Lord_Howe", time(2, 15), date(2026, 10, 4), datetime(2026, 10, 3, 15, 45, tzinfo=UTC)),
    ],
)
def test_a_start_in_the_gap_moves_forward_and_one_in_the_overlap_is_the_first(
    zone: str, starts: time, on: date, opens: datetime
) -> None:
    window = weekly(on.strftime("%A"), starts=starts, zone=zone)
    found = Calendar(windows=(window,)).next(opens - timedelta(days=1), 1)[0]
    assert (found.opens, found.closes - found.opens) == (opens, window.lasts)


def test_an_overnight_window_reaches_into_the_next_day() -> None:
    calendar = Calendar(windows=(weekly("Friday", starts=time(23), lasts=timedelta(hours=3)),))
    assert calendar.at(datetime(2026, 11, 28, 1, 59, tzinfo=UTC)).open
    assert not calendar.at(datetime(2026, 11, 28, 2, 0, tzinfo=UTC)).open


def test_only_what_can_finish_may_start() -> None:
    calendar = Calendar(windows=(weekly("Monday"),))
    late = datetime(2026, 11, 23, 10, 40, tzinfo=UTC)
    assert calendar.may_start(late, timedelta(minutes=20)).open
    refused = calendar.may_start(late, timedelta(minutes=21))
    assert not refused.open
    assert "20 min left" in refused.reason


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("zone", '"Mars/Olympus"', "IANA"),
        ("lasts", '"P2D"', "1 day"),
        ("lasts", '"PT0S"', "greater than"),
        ("starts", '"09:00:30"', "HH:MM"),
        ("recurs", '{"every": "week", "weekdays": []}', "at least 1"),
        (
            "recurs",
            '{"every": "month", "week": "second", "weekday": "Tuesday", "offset_days": 7}',
            "less than or equal",
        ),
    ],
)
def test_an_impossible_window_is_refused(field: str, text: str, says: str) -> None:
    good = {"recurs": '{"every": "week", "weekdays": ["Monday"]}', "starts": '"09:00"', "lasts": '"PT2H"'}
    fields = good | {"zone": '"Etc/UTC"'} | {field: text}
    body = "{" + ", ".join(f'"{key}": {value}' for key, value in fields.items()) + "}"
    with pytest.raises(ValidationError) as caught:
        Window.model_validate_json(body)
    assert says in str(caught.value)
