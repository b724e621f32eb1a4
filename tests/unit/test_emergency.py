"""The emergency lane: it opens on the standard's criteria only; its record says who did what, or is not believed."""

import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwave.authorization import emergency as emergencies
from patchwave.authorization.emergency import Emergency, Facts, Signer
from patchwave.base.errors import Failed, Refused, UsageError
from patchwave.config.standard import Criteria
from patchwave.evidence import chain as evidence
from patchwave.releases.release import Advisory
from tests.unit.builders import DIGEST, NOW, RELEASE_ID, STANDARD, make_keys, release

RULES = STANDARD.emergency
LEAD, CTO = "security-lead@dcmms.com", "cto@dcmms.com"
FACTS = Facts(advisory="CVE-2026-1234", cvss=9.8, exploit="seen on honeypots", affects="site-arc-*", disclosed=NOW)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys"), LEAD, CTO)


def signer(keys: Path, who: str = LEAD, key: str | None = None) -> Signer:
    return Signer(who=who, key=keys / (key or who), signers=keys / "signers")


def opened(project: Path, keys: Path) -> Path:
    return emergencies.home(project) / emergencies.open_(project, FACTS, RULES.criteria, signer(keys), NOW + HOUR)


def read(folder: Path, keys: Path, **named: str) -> Emergency:
    return emergencies.read(folder, keys / "signers", NOW + 30 * HOUR, **named)


def record(folder: Path, keys: Path, step: str, hours: float, who: str = LEAD, **details: Any) -> None:
    emergencies.step(folder, read(folder, keys), step, details, signer(keys, who), NOW + hours * HOUR)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cvss": 8.9}, "CVSS 8.9 is below 9.0"),
        ({"exploit": ""}, "no exploit is named"),
        ({"affects": ""}, "nothing of production is named"),
        ({"disclosed": NOW + 2 * HOUR}, "it is not disclosed before Mon 2026-11-23 11:00 UTC"),
    ],
)
def test_each_criterion_that_is_not_met_keeps_the_lane_closed(
    tmp_path: Path, keys: Path, changed: dict[str, Any], message: str
) -> None:
    facts = FACTS.model_copy(update=changed)
    with pytest.raises(Refused, match="CVE-2026-1234 is no emergency by the standard") as refused:
        emergencies.open_(tmp_path, facts, RULES.criteria, signer(keys), NOW + HOUR)
    assert message in str(refused.value)
    assert not emergencies.home(tmp_path).exists()


@given(
    cvss=st.floats(0.1, 10.0),
    exploit=st.sampled_from(["", "seen"]),
    affects=st.sampled_from(["", "all"]),
    early=st.booleans(),
    wanted=st.tuples(st.floats(0.1, 10.0), st.booleans(), st.booleans(), st.booleans()),
)
def test_a_criterion_is_asked_for_exactly_when_the_standard_wants_it(
    cvss: float, exploit: str, affects: str, early: bool, wanted: tuple[float, bool, bool, bool]
) -> None:
    names = ("cvss_from", "exploit_available", "publicly_disclosed", "affects_production")
    criteria = Criteria.model_validate(dict(zip(names, wanted, strict=True)))
    disclosed = NOW + HOUR if early else NOW
    facts = Facts(advisory="CVE-2026-1", cvss=cvss, exploit=exploit, affects=affects, disclosed=disclosed)
    missed = [cvss < wanted[0], wanted[1] and not exploit, wanted[2] and early, wanted[3] and not affects]
    assert len(list(emergencies.unmet(facts, criteria, NOW))) == sum(missed)


def test_who_did_what_and_when_stands_in_a_whole_signed_record(tmp_path: Path, keys: Path) -> None:
    folder = opened(tmp_path, keys)
    assert folder == tmp_path / "evidence" / "emergencies" / "cve-2026-1234.1"
    record(folder, keys, "notified", 1.5)
    record(folder, keys, "fix-obtained", 3, CTO, release=RELEASE_ID, digest=DIGEST)
    found = read(folder, keys)
    assert (found.problem, found.records, found.facts, found.opened_by) == (None, 3, FACTS, LEAD)
    assert [(one.step, one.who) for one in found.done] == [("notified", LEAD), ("fix-obtained", CTO)]
    assert (found.release, found.digest, found.closed) == (RELEASE_ID, DIGEST, None)


def test_steps_are_done_late_due_or_overdue_by_the_hours_since_disclosure(tmp_path: Path, keys: Path) -> None:
    folder = opened(tmp_path, keys)
    record(folder, keys, "notified", 2)
    record(folder, keys, "affected", 2.1)
    rows = {row.step: row for row in emergencies.rows(read(folder, keys), RULES, NOW + 7 * HOUR)}
    states = {name: rows[name].state for name in ("notified", "affected", "ticket", "dev-tested", "prod-deployed")}
    assert states == {
        "notified": "done",
        "affected": "late",
        "ticket": "overdue",
        "dev-tested": "overdue",
        "prod-deployed": "due",
    }
    assert [rows[name].due - NOW for name in ("notified", "dev-tested", "prod-deployed", "message-sent")] == [
        2 * HOUR,
        6 * HOUR,
        18 * HOUR,
        24 * HOUR,
    ]
    assert [row.step for row in emergencies.rows(read(folder, keys), RULES, NOW)] == [one.id for one in RULES.steps]


@pytest.mark.parametrize("stack", ["dev", "staging", "prod"])
def test_a_wave_lacks_every_step_before_its_own(tmp_path: Path, keys: Path, stack: Any) -> None:
    before = [step.id for step in RULES.before(stack)]
    fresh = read(opened(tmp_path, keys), keys)
    assert fresh.lacks(RULES, stack) == before
    assert {"notified", "fix-obtained"} <= set(before)
    assert ("staging-deployed" in before) == (stack == "prod")


def test_a_step_is_recorded_once_and_nothing_after_the_end(tmp_path: Path, keys: Path) -> None:
    folder = opened(tmp_path, keys)
    record(folder, keys, "notified", 1)
    with pytest.raises(Refused, match="step notified is recorded already"):
        record(folder, keys, "notified", 2)
    emergencies.close(folder, read(folder, keys), "false alarm", signer(keys), NOW + 3 * HOUR)
    assert read(folder, keys).closed == NOW + 3 * HOUR
    with pytest.raises(Refused, match="was closed Mon 2026-11-23 12:00 UTC"):
        record(folder, keys, "affected", 4)


def test_one_vulnerability_has_one_open_emergency_and_a_new_one_after_that(tmp_path: Path, keys: Path) -> None:
    folder = opened(tmp_path, keys)
    with pytest.raises(Refused, match=r"cve-2026-1234\.1 is open already"):
        opened(tmp_path, keys)
    emergencies.close(folder, read(folder, keys), "done", signer(keys), NOW + 3 * HOUR)
    assert opened(tmp_path, keys).name == "cve-2026-1234.2"


def test_a_key_that_is_not_that_persons_records_nothing(tmp_path: Path, keys: Path) -> None:
    with pytest.raises(Refused, match="signers does not list for security-lead"):
        emergencies.open_(tmp_path, FACTS, RULES.criteria, signer(keys, key=CTO), NOW)
    assert not emergencies.home(tmp_path).exists()


Tamper = Callable[[Path, list[dict[str, Any]]], None]


def rewritten(folder: Path, records: list[dict[str, Any]]) -> None:
    """The chain made anew from these records: whole in itself, whatever is signed in it."""
    shutil.rmtree(folder)
    with evidence.Chain.open(folder) as chain:
        for one in records:
            chain.append(one["kind"], one["run"], one["data"], at=datetime.fromisoformat(one["at"]))


def other_person(folder: Path, records: list[dict[str, Any]]) -> None:
    records[1]["data"]["who"] = CTO
    rewritten(folder, records)


def other_step(folder: Path, records: list[dict[str, Any]]) -> None:
    records[1]["data"]["step"] = "ticket"
    rewritten(folder, records)


def other_digest(folder: Path, records: list[dict[str, Any]]) -> None:
    records[2]["data"]["digest"] = "e" * 64
    rewritten(folder, records)


def other_time(folder: Path, records: list[dict[str, Any]]) -> None:
    records[2]["at"] = records[1]["at"]
    rewritten(folder, records)


def repeated(folder: Path, records: list[dict[str, Any]]) -> None:
    rewritten(folder, [*records, records[2]])


def stranger(folder: Path, records: list[dict[str, Any]]) -> None:
    data = {key: value for key, value in records[1]["data"].items() if key != "signature"}
    key = next(path for path in folder.parents[2].rglob("stranger"))
    signature = emergencies.signing.sign(emergencies._message("emergency-step", data), key, emergencies.NAMESPACE)
    records[1]["data"] = {**data, "signature": signature}
    rewritten(folder, records)


def byte(folder: Path, records: list[dict[str, Any]]) -> None:
    path = folder / evidence.FILE
    path.write_bytes(path.read_bytes().replace(b"site-arc", b"site-ark"))


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (other_person, "record 2: its signature does not fit"),
        (other_step, "record 2: its signature does not fit"),
        (other_digest, "record 3: its signature does not fit"),
        (other_time, "record 3: it was signed for Mon 2026-11-23 12:00 UTC"),
        (repeated, "record 4: it repeats an earlier entry"),
        (stranger, "record 2: it is signed by SHA256:"),
        (byte, "record 1: hash does not match its content"),
    ],
)
def test_a_record_that_somebody_touched_is_named_and_nothing_follows_it(
    tmp_path: Path, tamper: Tamper, message: str
) -> None:
    mine = make_keys(tmp_path, LEAD, CTO)
    folder = opened(tmp_path, mine)
    record(folder, mine, "notified", 2)
    record(folder, mine, "fix-obtained", 3, release=RELEASE_ID, digest=DIGEST)
    lines = (folder / evidence.FILE).read_text(encoding="utf-8").splitlines()
    tamper(folder, [json.loads(line) for line in lines])
    found = read(folder, mine)
    assert str(found.problem).startswith(message)
    with pytest.raises(Refused, match="nothing may follow it"):
        emergencies.step(folder, found, "affected", {}, signer(mine), NOW + 4 * HOUR)


def test_a_record_from_another_emergency_does_not_belong(tmp_path: Path, keys: Path) -> None:
    folder = opened(tmp_path, keys)
    shutil.copytree(folder, folder.with_name("cve-2026-9999.1"))
    found = read(folder.with_name("cve-2026-9999.1"), keys)
    assert found.problem == "record 1: it belongs to emergency cve-2026-1234.1"


def test_a_record_without_its_opening_fails_in_one_line(tmp_path: Path, keys: Path) -> None:
    folder = tmp_path / "evidence" / "emergencies" / "x.1"
    with evidence.Chain.open(folder) as chain:
        chain.append("emergency-step", "x.1", {}, at=NOW)
    with pytest.raises(Failed, match="does not begin with an opening"):
        read(folder, keys)


def test_a_record_can_be_read_as_it_was_at_an_earlier_head(tmp_path: Path, keys: Path) -> None:
    folder = opened(tmp_path, keys)
    before = read(folder, keys)
    record(folder, keys, "notified", 2)
    assert read(folder, keys, head=before.head) == before
    with pytest.raises(Failed):
        read(folder, keys, head="f" * 64)


def scored(cvss: float | None) -> Advisory:
    sealed = release().advisories[0]
    return sealed.model_copy(update={"cves": ("CVE-2026-1234",), "cvss": cvss})


def test_only_a_release_that_brings_the_fix_is_bound() -> None:
    plain = release()
    assert "brings no fix of CVE-2026-1234" in str(emergencies.unfit(FACTS, RULES.criteria, plain))
    for cvss, fits in ((None, True), (9.8, True), (7.5, False)):
        fixing = plain.model_copy(update={"advisories": (scored(cvss),)})
        assert (emergencies.unfit(FACTS, RULES.criteria, fixing) is None) == fits
    named = FACTS.model_copy(update={"advisory": plain.advisories[0].id})
    assert emergencies.unfit(named, RULES.criteria, plain) is None


def test_the_emergency_of_a_release_is_the_open_one(tmp_path: Path, keys: Path) -> None:
    def of(digest: str) -> Emergency | None:
        return emergencies.of_release(tmp_path, digest, keys / "signers", NOW + 30 * HOUR)

    assert of(DIGEST) is None
    first = opened(tmp_path, keys)
    record(first, keys, "fix-obtained", 2, release=RELEASE_ID, digest=DIGEST)
    assert of("e" * 64) is None
    emergencies.close(first, read(first, keys), "wrong fix", signer(keys), NOW + 3 * HOUR)
    assert of(DIGEST) == read(first, keys)
    second = opened(tmp_path, keys)
    record(second, keys, "fix-obtained", 2, release=RELEASE_ID, digest=DIGEST)
    assert of(DIGEST) == read(second, keys)


def test_the_only_open_emergency_needs_no_name(tmp_path: Path, keys: Path) -> None:
    signers, at = keys / "signers", NOW + 30 * HOUR
    with pytest.raises(UsageError, match="no emergency is open: open one"):
        emergencies.find(tmp_path, None, signers, at)
    folder = opened(tmp_path, keys)
    assert emergencies.find(tmp_path, None, signers, at)[0] == folder
    other = FACTS.model_copy(update={"advisory": "CVE-2026-5678"})
    emergencies.open_(tmp_path, other, RULES.criteria, signer(keys), NOW + HOUR)
    with pytest.raises(UsageError, match=r"2 emergencies are open: name one of cve-2026-1234\.1, cve-2026-5678\.1"):
        emergencies.find(tmp_path, None, signers, at)
    with pytest.raises(UsageError, match="write the name of a folder"):
        emergencies.find(tmp_path, "../../releases", signers, at)
    with pytest.raises(UsageError, match="no evidence in"):
        emergencies.find(tmp_path, "cve-2026-1.1", signers, at)
