"""The decisions of a wave: batches, gates and what is late."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwave.config.settings import Ring, Rollout
from patchwave.schedule.rollout import Facts, Sample, State, batches, end_state, gate, outstanding
from tests.unit.builders import STANDARD, host, pending, release, settings


def rollout(batch: int, live: int) -> Rollout:
    rings = (Ring(name="canary", hosts=("c*",), batch=1), Ring(name="rest", hosts=("*",), batch=batch))
    return Rollout(rings=rings, live_out_of_service=live, failure_budget=0, host_takes=timedelta(minutes=5))


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 8), st.integers(1, 3))
def test_every_host_is_in_one_batch_and_the_live_slot_keeps_answering(lives: list[bool], size: int, room: int) -> None:
    hosts = [host(f"h{i}", live=live) for i, live in enumerate(lives)] + [host("c0", ring="canary", live=True)]
    made = batches(hosts, rollout(size, room))
    assert sorted(name for batch in made for name in batch.names) == sorted(h.name for h in hosts)
    assert all(len(batch.hosts) <= size and sum(h.live for h in batch.hosts) <= room for batch in made)
    assert made[0].names == ("c0",)
    assert [batch.number for batch in made] == list(range(1, len(made) + 1))


def test_the_canary_follows_the_live_slot() -> None:
    chosen = settings("dev").rollout
    assert chosen.ring_of("dev-blue-0", "blue").name == "canary"
    assert chosen.ring_of("dev-blue-0", "green").name == "rest"
    assert chosen.ring_of("dev-green-0", "green").name == "canary"


GOOD = Sample(asked=50, failed=0, median_ms=20.0)


@pytest.mark.parametrize(
    ("before", "during", "after", "passed", "says"),
    [
        (GOOD, GOOD, GOOD, True, "50 answers"),
        (Sample(asked=0, failed=0, median_ms=None), GOOD, GOOD, False, "no evidence"),
        (GOOD, GOOD, Sample(asked=3, failed=0, median_ms=20.0), False, "no evidence"),
        (GOOD, GOOD, Sample(asked=50, failed=50, median_ms=None), False, "no evidence"),
        (GOOD, GOOD, Sample(asked=50, failed=3, median_ms=20.0), False, "error rate rose by 6.0 %"),
        (GOOD, Sample(asked=100, failed=5, median_ms=20.0), GOOD, True, "5 failed meanwhile"),
        (GOOD, Sample(asked=100, failed=6, median_ms=20.0), GOOD, False, "during the batch"),
        (GOOD, GOOD, Sample(asked=50, failed=0, median_ms=119.0), True, "119 ms"),
        (GOOD, GOOD, Sample(asked=50, failed=0, median_ms=121.0), False, "from 20 to 121 ms"),
    ],
)
def test_a_gate_needs_positive_evidence(before: Sample, during: Sample, after: Sample, passed: bool, says: str) -> None:
    judged = gate(before, during, after, standard=STANDARD, enough=10)
    assert (judged.passed, says in judged.reason) == (passed, True), judged.reason


def test_outstanding_is_what_apt_still_wants_of_the_release() -> None:
    sealed = release(pending(), pending("nginx"))
    offered = {"openssl": "3.0.20-1~deb12u2", "nginx": "9.9", "vim": "1"}
    assert outstanding(sealed, {"openssl": "1", "nginx": "1", "vim": "0"}, offered) == {"openssl": "3.0.20-1~deb12u2"}


TODO = {"openssl": "2"}


def facts(**changed: Any) -> Facts:
    base = {"looked": True, "before": {"openssl": "1"}, "todo": TODO, "held": [], "waived": {}, "problem": None}
    return Facts.model_validate(base | changed)


@pytest.mark.parametrize(
    ("found", "touched", "restored", "after", "state"),
    [
        (facts(), True, None, {"openssl": "2"}, "patched"),
        (facts(todo={}), False, None, {"openssl": "2"}, "already-current"),
        (facts(problem="disk: full"), False, None, {"openssl": "1"}, "deferred"),
        (facts(held=["openssl"]), False, None, {"openssl": "1"}, "held"),
        (facts(looked=False), False, None, None, "not-attempted"),
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
    found: Facts, touched: bool, restored: tuple[State, str] | None, after: dict[str, str] | None, state: State
) -> None:
    assert end_state(found, touched=touched, restored=restored, after=after)[0] == state
