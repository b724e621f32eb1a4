"""Stage criteria: one that is missing, failed or stale holds a release back and is named; its neighbour does not."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from patchwave.authorization import criteria
from patchwave.authorization.criteria import Finding
from patchwave.base.errors import Refused, UsageError
from patchwave.config.standard import StackName
from patchwave.evidence import chain as evidence
from patchwave.releases.release import Release
from tests.unit.builders import NOW, STANDARD, pending, release
from tests.unit.proofs import RUN, Key, attach, gate, make_key, prove, state

VALID = timedelta(days=30)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return make_key(tmp_path_factory.mktemp("key"), evidence.IDENTITY, "ann@dcmms.com")


def judged(
    place: Path, key: Key | None, sealed: Release, after: timedelta = timedelta(hours=1), run: str = RUN
) -> dict[str, Finding]:
    records = [record for record in evidence.read(place) if record.run == run]
    attached = criteria.attachments(place, key and key.signers)
    found = criteria.judge(records, attached, sealed, STANDARD, at=NOW + after, valid=VALID)
    return {one.name: one for one in found}


def objection(found: dict[str, Finding]) -> str:
    message = list(criteria.objections(list(found.values()), release().id))
    assert not any("\n" in one for one in message)
    return message[0]


def test_a_wave_that_showed_everything_goes_on(tmp_path: Path, key: Key) -> None:
    place = prove(tmp_path, release(), key)
    attach(place, release(), key, "functional-tests", by="ann@dcmms.com")
    found = judged(place, key, release())
    assert {one.state for one in found.values()} == {"met"}
    assert list(criteria.objections(list(found.values()), release().id)) == []
    assert evidence.verify(place, key.signers).verified


def test_a_result_that_nobody_attached_is_missing_and_the_mend_is_named(tmp_path: Path, key: Key) -> None:
    message = objection(judged(prove(tmp_path, release(), key), key, release()))
    assert "criterion functional-tests is missing" in message
    assert "patchwave evidence attach --stack dev --criterion functional-tests" in message


@pytest.mark.parametrize(
    ("record", "name", "text"),
    [
        (("gate", gate(passed=False)), "gates", "batch 1"),
        (("restore", {"host": "dev-blue-0", "reason": "503"}), "gates", "dev-blue-0: 503"),
        (("gate", gate(before=1000.0, after=1101.0)), "latency", "median 1000 ms before, 1101 ms after"),
    ],
)
def test_what_the_wave_itself_shows_can_hold_it_back(
    tmp_path: Path, key: Key, record: tuple[str, dict[str, Any]], name: str, text: str
) -> None:
    place = prove(tmp_path, release(), key, records=(record, ("state", state())))
    attach(place, release(), key, "functional-tests")
    found = judged(place, key, release())
    assert found[name].state == "failed"
    assert text in objection(found)


@pytest.mark.parametrize(("before", "after"), [(1000.0, 1100.0), (20.0, 119.0)])
def test_ten_percent_and_noise_are_no_degradation(tmp_path: Path, key: Key, before: float, after: float) -> None:
    place = prove(tmp_path, release(), key, records=(("gate", gate(before=before, after=after)), ("state", state())))
    assert judged(place, key, release())["latency"].state == "met"


def test_latency_is_compared_over_the_whole_wave_and_not_gate_by_gate(tmp_path: Path, key: Key) -> None:
    steps = tuple(("gate", gate(before=b, after=b * 1.08)) for b in (2000.0, 2160.0, 2332.0))
    place = prove(tmp_path, release(), key, records=steps)
    assert judged(place, key, release())["latency"].state == "failed"


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([state()], "met"),
        ([state(), state("b", "already-current")], "met"),
        ([state(), state("b", "held", openssl="W-1")], "met"),
        ([state(), state("b", "held")], "failed"),
        ([state(), state("b", "deferred")], "failed"),
        ([state(), state("b", "unknown")], "failed"),
        ([], "missing"),
    ],
)
def test_a_release_is_remediated_when_the_scan_finds_it_wherever_no_waiver_is(
    tmp_path: Path, key: Key, states: list[dict[str, Any]], expected: str
) -> None:
    place = prove(tmp_path, release(), key, stack="staging", records=tuple(("state", one) for one in states))
    assert judged(place, key, release())["remediated"].state == expected


@pytest.mark.parametrize(
    ("changed", "after", "state", "text"),
    [
        ({"result": "fail"}, timedelta(hours=1), "failed", "fail, runner"),
        ({"run": "another-run"}, timedelta(hours=1), "stale", "about run another-run"),
        ({"at": NOW - timedelta(minutes=1)}, timedelta(hours=1), "stale", "it counts from"),
        ({"at": NOW + timedelta(hours=2)}, timedelta(hours=1), "failed", "clocks disagree"),
        ({}, VALID + timedelta(seconds=1), "stale", "older than 30 days"),
        ({"stack": "staging"}, timedelta(hours=1), "failed", "about staging"),
        ({}, VALID, "met", "pass, runner"),
    ],
)
def test_a_result_counts_for_its_own_run_after_its_end_and_for_a_while(
    tmp_path: Path, key: Key, changed: dict[str, Any], after: timedelta, state: str, text: str
) -> None:
    place = prove(tmp_path, release(), key)
    attach(place, release(), key, "functional-tests", **changed)
    found = judged(place, key, release(), after)["functional-tests"]
    assert (found.state, text in found.detail) == (state, True), found.detail


def test_the_newest_result_decides(tmp_path: Path, key: Key) -> None:
    place = prove(tmp_path, release(), key)
    for result, expected in (("pass", "met"), ("fail", "failed"), ("pass", "met")):
        attach(place, release(), key, "functional-tests", result=result)  # type: ignore[arg-type]
        assert judged(place, key, release())["functional-tests"].state == expected


def test_another_releases_result_proves_nothing(tmp_path: Path, key: Key) -> None:
    place = prove(tmp_path, release(), key)
    attach(place, release(pending("nginx")), key, "functional-tests")
    assert judged(place, key, release())["functional-tests"].state == "failed"


def test_a_key_that_nobody_vouches_for_cannot_attach(tmp_path: Path, key: Key) -> None:
    place = prove(tmp_path, release(), key)
    stranger = make_key(tmp_path)
    with pytest.raises(Refused, match="does not list for runner"):
        attach(place, release(), stranger._replace(signers=key.signers), "functional-tests")
    with pytest.raises(Refused, match=r"does not list for ben@dcmms\.com"):
        attach(place, release(), key, "functional-tests", by="ben@dcmms.com")
    assert criteria.attachments(place, key.signers) == ()


def test_a_forged_result_is_failed_and_says_so(tmp_path: Path, key: Key) -> None:
    """A claim whose signature is somebody else's, as a chain that anybody can append to may hold it."""
    place = prove(tmp_path, release(), key)
    attach(place, release(), key, "functional-tests", result="fail")
    (claimed,) = evidence.read(place / criteria.FOLDER)
    with evidence.Chain.open(place / criteria.FOLDER) as chain:
        chain.append(claimed.kind, claimed.run, {**claimed.data, "result": "pass"}, at=NOW)
    found = judged(place, key, release())["functional-tests"]
    assert (found.state, "signature does not fit" in found.detail) == ("failed", True), found.detail


def test_a_chain_of_results_that_was_edited_is_refused(tmp_path: Path, key: Key) -> None:
    place = prove(tmp_path, release(), key)
    attach(place, release(), key, "functional-tests", result="fail")
    path = place / criteria.FOLDER / evidence.FILE
    path.write_bytes(path.read_bytes().replace(b'"fail"', b'"pass"'))
    with pytest.raises(Refused, match="record 1: hash does not match its content"):
        criteria.attachments(place, key.signers)


def test_without_a_list_of_signers_nothing_is_believed(tmp_path: Path, key: Key) -> None:
    place = prove(tmp_path, release(), key)
    attach(place, release(), key, "functional-tests")
    assert judged(place, None, release())["functional-tests"].state == "failed"


def test_what_shows_a_result_is_kept_under_its_digest(tmp_path: Path, key: Key) -> None:
    place, shown = prove(tmp_path, release(), key), tmp_path / "junit.xml"
    shown.write_text("<testsuite/>", encoding="utf-8")
    attach(place, release(), key, "functional-tests", file=shown)
    (one,) = criteria.attachments(place, key.signers)
    assert one.claim.file is not None
    kept = place / criteria.FOLDER / f"{one.claim.file.sha256}-junit.xml"
    assert criteria.sha256_of(kept) == one.claim.file.sha256
    with pytest.raises(UsageError, match="no such file"):
        attach(place, release(), key, "functional-tests", file=tmp_path / "nowhere")


@pytest.mark.parametrize("by", ["", "-oProxyCommand=x", "a b", "ann\nben"])
def test_a_hostile_identity_is_no_signer(tmp_path: Path, key: Key, by: str) -> None:
    place = prove(tmp_path, release(), key)
    with pytest.raises(UsageError, match="by"):
        attach(place, release(), key, "functional-tests", by=by)


def test_a_load_test_is_asked_of_critical_fixes_and_a_day_of_watching_of_databases() -> None:
    plain, database = release(), release(pending("postgresql-15"))
    (advisory,) = plain.advisories
    critical = plain.model_copy(update={"advisories": (advisory.model_copy(update={"severity": "critical"}),)})

    def names(stack: StackName, sealed: Release) -> set[str]:
        return {one.name for one in criteria.required(STANDARD.stacks[stack].criteria, sealed)}

    assert names("staging", critical) - names("staging", plain) == {"load-test"}
    assert names("prod", database) - names("prod", plain) == {"database-watch"}


def test_prod_is_watched_for_an_hour_before_a_result_counts(tmp_path: Path, key: Key) -> None:
    place = prove(tmp_path, release(), key, stack="prod")
    attach(place, release(), key, "health-watch", stack="prod", at=NOW + timedelta(minutes=59))
    assert judged(place, key, release())["health-watch"].state == "stale"
    attach(place, release(), key, "health-watch", stack="prod", at=NOW + timedelta(minutes=60))
    assert judged(place, key, release())["health-watch"].state == "met"
