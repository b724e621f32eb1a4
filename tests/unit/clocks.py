"""Windows in zones of every kind, and models that find by trying when a clock shows what."""

import itertools
from datetime import UTC, date, datetime, time, timedelta
from functools import cache

from hypothesis import strategies as st

from patchwave.calendar.windows import WEEKDAYS, Monthly, Weekly, Window, time_zone

# Zones with every kind of clock change, and some without any.
ZONES = (
    "Africa/Cairo", "Africa/Casablanca", "Africa/Johannesburg", "America/Anchorage", "America/Asuncion",
    "America/Chicago", "America/Halifax", "America/Havana", "America/Los_Angeles", "America/Mexico_City",
    "America/Miquelon", "America/New_York", "America/Nuuk", "America/Santiago", "America/Sao_Paulo",
    "America/Scoresbysund", "America/St_Johns", "America/Tijuana", "America/Vancouver", "Antarctica/Troll",
    "Asia/Beirut", "Asia/Famagusta", "Asia/Gaza", "Asia/Jerusalem", "Asia/Kathmandu", "Asia/Kolkata",
    "Asia/Shanghai", "Asia/Tehran", "Asia/Tokyo", "Atlantic/Azores", "Atlantic/Bermuda", "Australia/Adelaide",
    "Australia/Eucla", "Australia/Lord_Howe", "Australia/Sydney", "Etc/UTC", "Europe/Athens", "Europe/Berlin",
    "Europe/Chisinau", "Europe/Dublin", "Europe/Istanbul", "Europe/Kyiv", "Europe/Lisbon", "Europe/London",
    "Pacific/Apia", "Pacific/Auckland", "Pacific/Chatham", "Pacific/Easter", "Pacific/Kiritimati",
    "Pacific/Norfolk",
)  # fmt: skip
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

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
        offset_days=st.integers(-27, 27),
    ),
)
windows = st.builds(
    Window,
    recurrence=recurrences,
    starts=st.builds(time, st.integers(0, 23), st.sampled_from((0, 15, 30))),
    duration=st.integers(1, 96).map(lambda quarters: timedelta(minutes=15 * quarters)),
    zone=st.sampled_from(ZONES),
)
instants = st.datetimes(datetime(2026, 1, 1), datetime(2036, 1, 1)).map(
    lambda d: d.replace(tzinfo=UTC, second=0, microsecond=0)
)


def offset(zone: str, instant: datetime) -> timedelta:
    found = instant.astimezone(time_zone(zone)).utcoffset()
    assert found is not None
    return found


@cache
def transitions(zone: str) -> tuple[datetime, ...]:
    """The first minute of each new offset, found by halving."""
    found = []
    steps = [BEGIN + i * timedelta(hours=12) for i in range(2 * (END - BEGIN).days)]
    for early, late in itertools.pairwise(steps):
        if offset(zone, early) != offset(zone, late):
            while late - early > MINUTE:
                middle = early + (late - early) // 2 // MINUTE * MINUTE
                early, late = (middle, late) if offset(zone, middle) == offset(zone, early) else (early, middle)
            found.append(late)
    return tuple(found)


def opens_by_model(zone: str, wall: datetime) -> datetime:
    """When a zone's clock first shows a time: by trying every offset around; in a gap, by the offset before it."""
    as_if = wall.replace(tzinfo=UTC)
    offsets = {offset(zone, as_if + hours * HOUR) for hours in range(-26, 27)}
    shows = [as_if - each for each in offsets if offset(zone, as_if - each) == each]
    return min(shows, default=as_if - offset(zone, as_if - max(offsets)))


def recurs_by_model(window: Window, day: date) -> bool:
    if isinstance(window.recurrence, Weekly):
        return day.strftime("%A") in window.recurrence.weekdays
    anchor = day - timedelta(days=window.recurrence.offset_days)
    if anchor.strftime("%A") != window.recurrence.weekday:
        return False
    same = [d for d in (anchor + timedelta(weeks=i) for i in range(-4, 5)) if d.month == anchor.month]
    index = {"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1}[window.recurrence.week]
    return anchor == same[index]
