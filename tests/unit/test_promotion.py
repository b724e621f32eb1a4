"""A promotion by hand: each reason that refuses it, in one line with exit 3, and that nothing else does."""

import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from patchwave.authorization import criteria, promotion
from patchwave.authorization.decision import decide
from patchwave.authorization.inputs import from_files
from patchwave.config.settings import load_stack
from patchwave.evidence import chain as evidence
from patchwave.releases import release as releases
from patchwave.releases.release import digest
from tests.unit.builders import IN_WINDOW
from tests.unit.proofs import Key, attach
from tests.unit.test_replay import DAY, HOUR, RELEASE, command, made, project, wave

__all__ = ["made", "project"]  # fixtures

PLACE = Path("evidence/patching/staging") / RELEASE.id
Change = Callable[[Path], None]


def nothing(project: Path) -> None:
    pass


def no_evidence(project: Path) -> None:
    shutil.rmtree(project / PLACE)


def of_dev(project: Path) -> None:
    shutil.rmtree(project / PLACE)
    shutil.move(wave(project, "dev", IN_WINDOW - 5 * DAY, decide=False), project / PLACE)


def edited(project: Path) -> None:
    path = project / PLACE / evidence.FILE
    path.write_bytes(path.read_bytes().replace(b"staging-blue-0", b"staging-blue-1"))


def unsigned(project: Path) -> None:
    (project / PLACE / evidence.SIGNATURE).unlink()


def refused_since(project: Path) -> None:
    wave(project, "staging", IN_WINDOW - 4 * DAY)


def sealed_again(project: Path) -> None:
    other = RELEASE.model_copy(update={"author": "somebody@dcmms.com"})
    releases.path_of(project, RELEASE.id).unlink()
    releases.save(project, other.model_copy(update={"digest": digest(other.plain())}))


def edited_release(project: Path) -> None:
    path = releases.path_of(project, RELEASE.id)
    path.write_text(path.read_text(encoding="utf-8").replace("author@dcmms.com", "cto@dcmms.com"), encoding="utf-8")


def nothing_attached(project: Path) -> None:
    shutil.rmtree(project / PLACE / criteria.FOLDER)


def failed_tests(project: Path) -> None:
    key = Key(project / "keys" / evidence.IDENTITY, project / "policy" / "allowed_signers")
    run = evidence.read(project / PLACE)[-1].run
    at = IN_WINDOW - 4 * DAY
    attach(project / PLACE, RELEASE, key, "integration-tests", stack="staging", run=run, at=at, result="fail")


def quarantined(project: Path) -> None:
    package = RELEASE.packages[0]
    entry = {"package": package.name, "version": package.to, "stack": "prod", "release": RELEASE.id, "run": "run-1"}
    shown = {"at": "2026-12-12T00:00:00Z", "reason": "prod-blue-0: 503"}
    (project / "releases" / "quarantine.json").write_text(json.dumps({"entries": [entry | shown]}), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "at", "message"),
    [
        (no_evidence, IN_WINDOW, "has no evidence from staging: patch staging with it first"),
        (of_dev, IN_WINDOW, "the evidence in the place of staging's is dev's: restore staging's own"),
        (edited, IN_WINDOW, "from staging does not verify (record 3: hash does not match its content)"),
        (unsigned, IN_WINDOW, "from staging does not verify (unsigned: evidence.sig is missing"),
        (refused_since, IN_WINDOW, "ended refused on staging: make it succeed there first"),
        (sealed_again, IN_WINDOW, "promote what was proved"),
        (edited_release, IN_WINDOW, "was edited after sealing (digest does not match): restore it from git"),
        (nothing, IN_WINDOW - 4 * DAY, "has soaked 23.9 h of 48.0 h on staging: run again from Thu 2026-12-10 02:05"),
        (nothing, IN_WINDOW - 6 * DAY, "after this decision: the clocks disagree"),
        (nothing, IN_WINDOW + 60 * DAY, "is 64 days old, 45 are allowed: patch staging again"),
        (nothing_attached, IN_WINDOW, "criterion integration-tests is missing (nobody has attached a result)"),
        (failed_tests, IN_WINDOW, "criterion integration-tests has failed (fail, runner on"),
        (quarantined, IN_WINDOW, "taken back on prod on 2026-12-12 (prod-blue-0: 503): seal a release without it"),
    ],
)
def test_each_reason_refuses_a_promotion_in_one_line(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Change,
    at: datetime,
    message: str,
) -> None:
    before = (project / "Pulumi.prod.yaml").read_bytes()
    change(project)
    assert command(monkeypatch, at, "promote", "staging", "prod") == 3
    shown = capsys.readouterr().err
    assert (message in shown, shown.count("\n")) == (True, 1), shown
    assert (project / "Pulumi.prod.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("source", "target", "fix"),
    [
        ("dev", "prod", "`patchwave promote staging prod`"),
        ("prod", "staging", "`patchwave promote dev staging`"),
        ("staging", "dev", "`patchwave seal --stack dev`"),
    ],
)
def test_a_stack_takes_releases_from_the_one_before_it_only(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
    target: str,
    fix: str,
) -> None:
    assert command(monkeypatch, IN_WINDOW, "promote", source, target) == 3
    assert fix in capsys.readouterr().err


def test_an_expired_waiver_is_left_out_by_a_promotion_and_refused_by_a_decision(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waiver = {
        "id": "W-1",
        "scope": {"packages": ["openssl"], "stacks": ["prod"]},
        "severity": "critical",
        "owner": "team@dcmms.com",
        "reason": "certified for the old version only",
        "granted": (IN_WINDOW - 7 * DAY).isoformat(),
        "expires": (IN_WINDOW - DAY).isoformat(),
        "approved_by": [{"role": role, "person": f"{role.lower()}@dcmms.com"} for role in ("CISO", "CTO")],
    }
    (project / "waivers").mkdir()
    (project / "waivers" / "W-1.yaml").write_text(json.dumps(waiver), encoding="utf-8")
    with (project / "Pulumi.prod.yaml").open("a", encoding="utf-8") as file:
        file.write("  patchwave:waivers: [W-1]\n")
    wanted = from_files(project, "prod", RELEASE, needs=HOUR, at=IN_WINDOW, environ={})
    (refusal,) = decide(wanted).refusals
    assert (refusal.about, "relies on waiver W-1, which expired 2026-12-12T02:00:00Z" in refusal.why) == (
        "waivers",
        True,
    )
    assert command(monkeypatch, IN_WINDOW, "promote", "staging", "prod") == 0
    assert load_stack(project, "prod").waivers == ()
    assert capsys.readouterr().err == ""


def test_evidence_of_another_stack_does_not_verify_in_its_place(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of_dev(project)
    assert command(monkeypatch, IN_WINDOW, "evidence", "verify", "--stack", "staging") == 1
    assert "it is the evidence of dev, not of staging" in capsys.readouterr().err
    assert not promotion.is_done(project, "staging", RELEASE.id, RELEASE.digest, [])


def test_a_stack_file_with_a_key_twice_is_named_in_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with (project / "Pulumi.prod.yaml").open("a", encoding="utf-8") as file:
        file.write("  patchwave:release: 2026-01-01.1\n")
    assert command(monkeypatch, IN_WINDOW + timedelta(seconds=1), "promote", "staging", "prod") == 2
    shown = capsys.readouterr().err
    assert ("key 'patchwave:release' stands there twice, first in line" in shown, shown.count("\n")) == (True, 1), shown
