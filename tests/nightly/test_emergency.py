"""One vulnerability from its advisory to its evidence, through three stacks of real hosts, out of every window."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Patched
from tests.laboratory import Laboratory
from tests.unit.test_advisories import affected, catalog, notice, vulnerability

HOUR = timedelta(hours=1)
LEAD = "security-lead@dcmms.com"
SMALL = (
    ("instances: 6", "instances: 2"),
    ("max_unavailable: 2", "max_unavailable: 1"),
    ("{source: machines, instances: 2", "{source: machines, instances: 1"),
)


class Case:
    """The emergency: everything about it happens so many hours after its disclosure, on a Friday night."""

    def __init__(self, lab: Laboratory, exports: Path) -> None:
        self.lab, self.exports, self.calls = lab, exports, 0
        now = datetime.now(UTC)
        friday = now + timedelta(days=(4 - now.weekday()) % 7 or 7)
        self.disclosed = friday.replace(hour=22, minute=10, second=0, microsecond=0)
        published = re.search(r"fieldops-desk_(1\.0\.(\d+))_all", lab.sandbox("fault", "none"))
        assert published is not None
        self.version, self.cve = published[1], f"CVE-2026-99{int(published[2]) + 1:03}"

    def at(self, hours: float) -> datetime:
        return self.disclosed + hours * HOUR

    def shift(self, hours: float) -> str:
        """Each call is clearly later than the one before of the same hour, however long that took to begin."""
        self.calls += 1
        return str(round((self.at(hours) - datetime.now(UTC)).total_seconds()) + 10 * self.calls)

    def run(self, *words: str, hours: float, code: int = 0) -> str:
        return self.lab.run("patchwave", *words, code=code, PATCHWAVE_CLOCK_SHIFT=self.shift(hours))

    def shown(self, *words: str, hours: float) -> dict[str, Any]:
        return self.lab.shown(*words, PATCHWAVE_CLOCK_SHIFT=self.shift(hours))

    def emergency(self, *words: str, hours: float, code: int = 0) -> str:
        """An entry that the Security Lead signs."""
        return self.run("emergency", *words, *self.signer("security-lead"), hours=hours, code=code)

    def step(self, *names: str, hours: float) -> None:
        for name in names:
            self.emergency("step", name, hours=hours)

    def signer(self, person: str) -> tuple[str, ...]:
        key = self.lab.folder / "keys" / "people" / f"{person}-dcmms-com"
        return "--as", f"{person}@dcmms.com", "--key", str(key)

    def up(self, stack: str, *, hours: float, code: int = 0) -> str:
        return self.lab.sandbox("up", "--stack", stack, "--at", self.at(hours).isoformat(), code=code)

    def rewrite_prod(self, old: str, new: str) -> None:
        path = self.lab.project / "Pulumi.prod.yaml"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def overdue(self, hours: float) -> list[str]:
        found: list[str] = self.shown("emergency", "show", hours=hours)["overdue"]
        return found

    def publish(self) -> None:
        """Imports what the world says of the vulnerability: a notice, its score, and that it is exploited."""
        fixed = [affected("fieldops-desk", fixed=self.version)]
        now = datetime.now(UTC).isoformat()
        dates = {"published": now, "modified": now}
        documents = (
            vulnerability(self.cve, **dates, affected=fixed),
            notice(id="DSA-6999-1", **dates, upstream=[self.cve], affected=fixed),
            catalog(self.cve, released=now),
        )
        for number, document in enumerate(documents):
            (self.exports / f"{number}.json").write_text(json.dumps(document), encoding="utf-8")
        self.lab.run("patchwave", "advisories", "import", str(self.exports))


@pytest.fixture(scope="module")
def case(patched: Patched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """A prod of the size of dev, and a new fix that is pending."""
    lab = patched.lab
    path = lab.project / "Pulumi.prod.yaml"
    text = path.read_text(encoding="utf-8")
    made = Case(lab, tmp_path_factory.mktemp("exports"))
    for old, new in SMALL:
        made.rewrite_prod(old, new)
    yield made
    path.write_text(text, encoding="utf-8")
    (lab.project / "advisories" / "store.json").unlink()


def test_an_import_makes_a_sealed_fix_critical_and_it_is_sealed_anew(case: Case) -> None:
    assert case.lab.shown("seal", "--stack", "dev")["new"]
    before = case.lab.release()
    case.publish()
    assert case.lab.shown("seal", "--stack", "dev")["new"]
    assert case.lab.release() != before
    assert not case.lab.shown("seal", "--stack", "dev")["new"]
    sealed = json.loads((case.lab.project / "releases" / f"{case.lab.release()}.json").read_bytes())
    (fix,) = (one for one in sealed["advisories"] if case.cve in one["cves"])
    assert (fix["severity"], fix["cvss"], fix["exploited"]) == ("critical", 9.8, True)


def test_dev_waits_for_every_step_before_it_and_then_needs_no_window(case: Case) -> None:
    facts = ("--advisory", case.cve, "--cvss", "9.8", "--disclosed", case.disclosed.isoformat())
    unseen = case.emergency("open", *facts, "--affects", "the desk", hours=0.8, code=3)
    assert "is no emergency by the standard: no exploit is named" in unseen
    case.emergency("open", *facts, "--affects", "the desk", "--exploit", "CISA's catalogue", hours=0.8)
    case.step("notified", "affected", "assessed", "ticket", hours=1)
    case.emergency("step", "fix-obtained", "--release", case.lab.release(), hours=1.2)
    assert case.overdue(1.9) == []
    assert case.overdue(2.1) == ["leaders-notified"]
    assert "lacks leaders-notified" in case.up("dev", hours=2.2, code=3)
    assert case.lab.records() == []
    case.step("leaders-notified", hours=2.3)
    case.up("dev", hours=2.5)
    case.step("dev-tested", "deployment-planned", "rollback-identified", "message-drafted", hours=3)
    states = {row["step"]: row["state"] for row in case.shown("emergency", "show", hours=3)["steps"]}
    assert (states["leaders-notified"], states["dev-tested"]) == ("late", "done")


def test_staging_has_it_after_an_hour(case: Case) -> None:
    assert "of 1.0 h on dev: run again from" in case.run("promote", "dev", "staging", hours=3.2, code=3)
    case.up("staging", hours=4)
    case.step("staging-deployed", "critical-paths-tested", hours=4.5)
    criteria = case.shown("evidence", "criteria", "--stack", "staging", hours=4.5)["criteria"]
    assert {one["state"] for one in criteria} == {"met"}
    assert "load-test" in {one["name"] for one in criteria}  # asked of critical fixes only


def test_prod_needs_the_signature_of_each_role_that_an_emergency_asks(case: Case) -> None:
    release = case.lab.release("dev")
    message = case.up("prod", hours=6, code=3)
    assert "emergency approval of release" in message
    assert "is missing from Security Lead, Engineering Manager, CTO, CISO" in message
    assert not list((case.lab.folder / "hosts").glob("prod-*"))
    case.run("approve", "--stack", "prod", "--role", "CTO", *case.signer("cto"), hours=5.5)
    assert "it is normal, emergency is needed" in case.emergency("step", "approved", hours=5.6, code=3)
    case.lab.sandbox("approve", "--stack", "prod", "--kind", "emergency", "--at", case.at(6.6).isoformat())
    case.step("approved", hours=6)
    signed = sorted(path.name for path in (case.lab.project / "approvals" / release).glob("prod.*.sig"))
    assert [name.split(".")[1] for name in signed] == ["ciso", "cto", "engineering-manager", "security-lead"]


def test_inside_a_hard_freeze_prod_is_patched_only_where_approved_break_glass_lifts_it(case: Case) -> None:
    freeze = f'{{starts: "{case.at(0).isoformat()}", ends: "{case.at(72).isoformat()}", reason: end of the year}}'
    glass = f'{{starts: "{case.at(6).isoformat()}", ends: "{case.at(12).isoformat()}", reason: exploited, owner: CISO}}'
    case.rewrite_prod("freezes: []", f"freezes: [{freeze}]")
    message = case.up("prod", hours=6.2, code=3)
    assert "frozen until" in message
    assert "lift it with calendar.break_glass in Pulumi.prod.yaml" in message
    case.rewrite_prod(f"freezes: [{freeze}]", f"freezes: [{freeze}]\n      break_glass: [{glass}]")
    message = case.up("prod", hours=6.4, code=3)
    assert "break-glass approval of release" in message
    assert "is missing from CISO, CTO" in message
    assert case.lab.records("prod") == []
    case.lab.sandbox("approve", "--stack", "prod", "--kind", "break-glass", "--at", case.at(7.5).isoformat())
    case.up("prod", hours=7)


def test_what_is_on_prod_is_proved_and_the_lane_is_closed_behind_it(case: Case) -> None:
    lab = case.lab
    shown = case.shown("evidence", "show", "--stack", "prod", hours=8)
    assert (shown["outcome"], len(shown["hosts"])) == ("succeeded", 6)
    assert {host["state"] for host in shown["hosts"]} == {"patched"}
    for host in shown["hosts"]:
        assert lab.ssh(host["name"], "dpkg-query -W -f '${Version}' fieldops-desk") == case.version
    decisions = [r["data"]["decision"] for r in lab.records("prod") if r["kind"] == "decision"]
    assert {(one["allowed"], one["lane"]) for one in decisions} == {(True, "emergency")}
    assert {role for one in decisions for role in one["approved"]} >= {"Security Lead", "Engineering Manager"}
    case.step("prod-deployed", hours=8)
    assert case.overdue(18.1) == ["monitored"]
    case.step("monitored", hours=18.2)
    case.step("scan-confirmed", hours=19)
    message = case.emergency("close", "--note", "fixed, nobody was in", hours=20)
    assert "never recorded: exploitation-watched, documented, metrics-updated, message-sent" in message
    assert "was closed" in case.emergency("step", "documented", "--id", f"{case.cve.lower()}.1", hours=21, code=3)
    for stack in ("dev", "staging", "prod"):
        assert case.shown("evidence", "verify", "--stack", stack, hours=21)["verified"]
        replayed = case.shown("evidence", "replay", "--stack", stack, hours=21)
        assert (replayed["consistent"], replayed["allowed"]) == (True, True)
        assert {one["lane"] for one in replayed["decisions"]} == {"emergency"}
