"""Due times and states: the standard's table, hour by hour, and what waivers make of it."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwave.azure.inventory import Host
from patchwave.config.standard import Severity
from patchwave.releases.advisories import NOTHING, Knowledge
from patchwave.releases.release import Advisory
from patchwave.schedule.sla import Fix, Item, Scan, State, current, items, sealed_fixes, unsealed_fixes
from tests.unit.builders import NOW, STANDARD, host, pending, release

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low")


def advisory(severity: Severity = "high", cvss: float | None = None, cve: str = "CVE-2099-0001") -> Advisory:
    return Advisory(
        id="madeup/2-1", source="madeup", version="2-1", cves=(cve,), cvss=cvss, severity=severity, published=NOW
    )


def unwaived(host: Host, package: str, advisory: Advisory, due: datetime) -> tuple[datetime, bool]:
    return due, False


def waived(host: Host, package: str, advisory: Advisory, due: datetime) -> tuple[datetime, bool]:
    return due + 30 * DAY, True


def item(
    severity: Severity = "high",
    *,
    at: datetime,
    installed: str = "1-1",
    offered: str | None = "2-1",
    dated: bool = True,
    may_wait: bool = False,
) -> Item:
    scan = Scan({"madeup": installed}, {"madeup": offered} if offered else {})
    fix = Fix("madeup", "2-1", advisory(severity), dated)
    (found,) = items([host("h")], {"h": scan}, [fix], STANDARD, at, waived if may_wait else unwaived)
    return found


@pytest.mark.parametrize(
    ("severity", "hours"), [("critical", 24), ("high", 7 * 24), ("medium", 30 * 24), ("low", 90 * 24)]
)
def test_a_fix_is_due_so_many_hours_after_it_was_published(severity: Severity, hours: int) -> None:
    in_time = item(severity, at=NOW + hours * HOUR)
    assert (in_time.state, in_time.due, in_time.overdue) == ("due", NOW + hours * HOUR, None)
    late = item(severity, at=NOW + hours * HOUR + timedelta(seconds=90))
    assert (late.state, late.plain()["overdue"]) == ("overdue", "PT1M30S")


@pytest.mark.parametrize(
    ("cvss", "severity"),
    [
        (10.0, "critical"),
        (9.0, "critical"),
        (8.9, "high"),
        (7.0, "high"),
        (6.9, "medium"),
        (4.0, "medium"),
        (3.9, "low"),
    ],
)
def test_scores_fall_into_the_tables_bands(cvss: float, severity: Severity) -> None:
    assert STANDARD.severity(cvss) == severity
    assert STANDARD.severity(cvss, exploited=True) == "critical"


def test_an_unscored_fix_counts_as_high() -> None:
    assert STANDARD.severity(None) == "high"


@pytest.mark.parametrize(
    ("installed", "offered", "dated", "may_wait", "state"),
    [
        ("1-1", "2-1", True, False, "due"),
        ("1-1", "3-1", True, False, "due"),
        ("2-1", None, True, False, "fixed"),
        ("2-1+b1", None, True, False, "fixed"),
        ("2-1~rc1", "2-1", True, False, "due"),
        ("1:0-1", None, True, False, "fixed"),
        ("1-1", None, True, False, "fix-unavailable"),
        ("1-1", "1-2", True, False, "fix-unavailable"),
        ("1-1", "2-1", False, False, "undated"),
        ("1-1", "2-1", True, True, "waived"),
        ("2-1", "3-1", True, True, "fixed"),
    ],
)
def test_the_state_is_what_the_host_shows(
    installed: str, offered: str | None, dated: bool, may_wait: bool, state: State
) -> None:
    found = item(at=NOW + DAY, installed=installed, offered=offered, dated=dated, may_wait=may_wait)
    assert (found.state, found.overdue) == (state, None)


def test_a_fix_that_is_not_offered_is_missed_all_the_same() -> None:
    found = item(at=NOW + 8 * DAY, offered=None)
    assert (found.state, found.overdue) == ("fix-unavailable", DAY)


def test_nothing_is_missed_on_a_host_that_does_not_have_the_package() -> None:
    fix = Fix("madeup", "2-1", advisory(), dated=True)
    assert list(items([host("h")], {"h": Scan({"other": "1"}, {})}, [fix], STANDARD, NOW, unwaived)) == []


@given(st.sampled_from(SEVERITIES), st.integers(0, 100 * 24), st.integers(1, 24 * 100))
def test_a_missing_fix_is_overdue_from_one_instant_on_and_by_exactly_the_time_since(
    severity: Severity, hours: int, more: int
) -> None:
    early, later = (item(severity, at=NOW + h * HOUR) for h in (hours, hours + more))
    assert (early.state, later.state) != ("overdue", "due")
    if early.overdue and later.overdue:
        assert later.overdue - early.overdue == more * HOUR


EXPLOITED = Knowledge({"CVE-2099-0001": 5.0}, frozenset({"CVE-2099-0001"}), {("madeup", "2-1"): NOW - 2 * DAY}, {})


def test_a_sealed_advisory_counts_as_what_has_become_known_since() -> None:
    known = current(advisory("high"), EXPLOITED, STANDARD)
    assert (known.severity, known.cvss, known.exploited) == ("critical", 5.0, True)
    assert known.published == NOW - 2 * DAY
    assert current(advisory("medium", 5.0), NOTHING, STANDARD) == advisory("medium", 5.0)


def test_what_is_offered_and_not_sealed_is_not_forgotten() -> None:
    sealed = sealed_fixes([release()], NOTHING, STANDARD)
    offers = [pending(), pending("madeup", to="2-1"), pending("vim", label="Debian"), pending("later", to="9")]
    (later, noticed) = unsealed_fixes(offers, sealed, EXPLOITED, STANDARD, NOW)
    assert (later.package, later.dated) == ("later", False)
    assert (noticed.package, noticed.dated, noticed.advisory.published) == ("madeup", True, NOW - 2 * DAY)
