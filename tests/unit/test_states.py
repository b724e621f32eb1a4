"""How hosts end, and what of a release they lack."""

from typing import Any

import pytest

from patchwave.releases.missing import outstanding
from patchwave.wave.states import Facts, State, end_state
from tests.unit.builders import pending, release


def test_outstanding_is_what_the_package_manager_still_wants_of_the_release() -> None:
    sealed = release(pending(), pending("nginx"))
    offered = {"openssl": "3.0.20-1~deb12u2", "nginx": "9.9", "vim": "1"}
    has = {"openssl": "1", "nginx": "1", "vim": "0"}
    assert outstanding(sealed, "apt", has, offered) == {"openssl": "3.0.20-1~deb12u2"}
    assert outstanding(sealed, "dnf", has, offered) == {}


def facts(**changed: Any) -> Facts:
    base = {"answered": True, "before": {"openssl": "1"}, "todo": {"openssl": "2"}}
    return Facts.model_validate(base | changed)


@pytest.mark.parametrize(
    ("found", "touched", "restored", "after", "state"),
    [
        (facts(), True, None, {"openssl": "2"}, "patched"),
        (facts(todo={}), False, None, {"openssl": "2"}, "already-current"),
        (facts(problem="disk: full"), False, None, {"openssl": "1"}, "deferred"),
        (facts(held=["openssl"]), False, None, {"openssl": "1"}, "held"),
        (facts(waived={"nginx": "W-1"}), True, None, {"openssl": "2"}, "held"),
        (None, False, None, None, "not-attempted"),
        (facts(), False, None, {"openssl": "1"}, "not-attempted"),
        (facts(), True, None, {"openssl": "1"}, "unknown"),
        (facts(), True, None, None, "unknown"),
        (facts(), True, ("failed-restored", "gate"), {"openssl": "1"}, "failed-restored"),
        (facts(), True, ("failed-restored", "gate"), {"openssl": "2"}, "failed-unrestored"),
        (facts(), True, ("failed-restored", "gate"), None, "failed-restored"),
        (facts(), True, ("failed-unrestored", "downgrade failed"), {"openssl": "2"}, "failed-unrestored"),
    ],
)
def test_a_host_ends_in_the_state_that_the_last_scan_bears_out(
    found: Facts | None, touched: bool, restored: tuple[State, str] | None, after: dict[str, str] | None, state: State
) -> None:
    assert end_state(found, left_out=None, touched=touched, restored=restored, after=after)[0] == state


def test_a_host_for_which_its_service_has_no_room_is_deferred() -> None:
    why = "service desk has no room for another host away"
    assert end_state(facts(), left_out=why, touched=False, restored=None, after=None) == ("deferred", why)
