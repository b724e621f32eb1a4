"""Who is notified of a wave: in time, by the standard's numbers, and not at night."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from patchwave.calendar.windows import Opening
from patchwave.schedule.notices import Notice, notices
from tests.unit.builders import STANDARD

HOUR = timedelta(hours=1)
PATCH_SUNDAY = Opening(datetime(2026, 12, 13, 2, tzinfo=UTC), datetime(2026, 12, 13, 4, tzinfo=UTC))
ALL = ("engineering team", "support team", "key customers")


def notified(now: datetime, *, emergency: bool = False) -> list[Notice]:
    return list(notices("prod", STANDARD, PATCH_SUNDAY, now, emergency=emergency))


def test_prod_is_notified_two_days_ahead_before_the_night_and_within_an_hour_afterwards() -> None:
    assert notified(PATCH_SUNDAY.opens - 100 * HOUR) == [
        Notice("before", ALL, datetime(2026, 12, 10, 22, tzinfo=UTC)),
        Notice("after", ALL, datetime(2026, 12, 13, 5, tzinfo=UTC)),
    ]


def test_an_emergency_is_notified_at_once() -> None:
    now = datetime(2026, 12, 12, 23, 30, tzinfo=UTC)
    assert notified(now, emergency=True)[0] == Notice("before", ALL, now)


def test_dev_notifies_nobody() -> None:
    assert list(notices("dev", STANDARD, PATCH_SUNDAY, PATCH_SUNDAY.opens, emergency=False)) == []


@given(st.datetimes(datetime(2026, 1, 1), datetime(2036, 1, 1), timezones=st.just(UTC)))
def test_a_routine_notice_is_never_due_in_the_night_and_never_later_than_the_standard_asks(opens: datetime) -> None:
    wave = Opening(opens, opens + HOUR)
    before, _ = notices("prod", STANDARD, wave, opens - 1000 * HOUR, emergency=False)
    assert opens - before.by >= STANDARD.stacks["prod"].notice
    assert opens - before.by <= STANDARD.stacks["prod"].notice + 9 * HOUR
    assert 7 <= before.by.hour < 22 or before.by.replace(hour=22, minute=0, second=0, microsecond=0) == before.by
