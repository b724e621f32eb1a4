"""Replay: a run's decisions are made again from what was recorded, and whatever does not fit the files is named."""

import json
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from patchwave import cli
from patchwave.authorization import approvals, criteria, decision, promotion, signatures
from patchwave.authorization import emergency as emergencies
from patchwave.authorization.decision import Decision
from patchwave.authorization.inputs import Inputs, from_files, record
from patchwave.authorization.messages import line
from patchwave.authorization.replay import Replay, replay
from patchwave.base import clock
from patchwave.base.errors import UsageError
from patchwave.config.standard import StackName
from patchwave.evidence import chain as evidence
from patchwave.evidence import signing
from patchwave.releases import release as releases
from patchwave.releases.release import Release, digest
from tests.unit.builders import IN_WINDOW, STANDARD, copy_desk, make_keys, release
from tests.unit.proofs import Key, attach, state

PEOPLE = {role: people[0] for role, people in STANDARD.roles.items()}
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def sealed() -> Release:
    """A release with one critical fix of a CVE."""
    plain = release()
    advisory = plain.advisories[0].model_copy(
        update={"severity": "critical", "cvss": 9.8, "cves": ("CVE-2026-1234",), "published": IN_WINDOW - 20 * DAY}
    )
    draft = plain.model_copy(update={"advisories": (advisory,), "author": "author@dcmms.com"})
    return draft.model_copy(update={"digest": digest(draft.plain())})


RELEASE = sealed()

WAIVER = {
    "id": "made-up",
    "scope": {"advisories": None, "packages": ["openssl"], "stacks": ["prod"], "fleets": None, "hosts": None},
    "severity": "low",
    "owner": "owner@dcmms.com",
    "reason": "nobody knows this one",
    "granted": "2026-12-01T00:00:00Z",
    "expires": "2026-12-31T00:00:00Z",
    "approved_by": [{"role": "Team Lead", "person": "team-lead@dcmms.com"}],
}


def git(project: Path, *arguments: str) -> None:
    names = ("-c", "user.name=Tests", "-c", "user.email=author@dcmms.com", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *names, *arguments], cwd=project, check=True, capture_output=True)


def commit(project: Path) -> None:
    git(project, "add", "-A")
    git(project, "commit", "-qm", "state", "--allow-empty")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in git whose staging has proved the release, with everybody's key beside it."""
    project = tmp_path_factory.mktemp("made") / "project"
    copy_desk(project)
    for stack in STANDARD.stacks:
        with (project / f"Pulumi.{stack}.yaml").open("a", encoding="utf-8") as file:
            file.write(f"  patchwave:release: {RELEASE.id}\n")
    releases.save(project, RELEASE)
    (project / "keys").mkdir()
    make_keys(project / "keys", evidence.IDENTITY, *PEOPLE.values())
    shutil.copy(project / "keys" / "signers", project / "policy" / "allowed_signers")
    (project / ".gitignore").write_text("evidence/\nkeys/\n", encoding="utf-8")
    git(project, "init", "-q")
    wave(project, "staging", IN_WINDOW - 5 * DAY, decide=False)
    for role in ("CISO", "CTO"):
        sign(project, role, IN_WINDOW - HOUR)
    commit(project)
    return project


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it; the runner's key and list are the project's own."""
    for name in (signing.SIGNERS, "ARM_ENDPOINT", "PATCHWAVE_CLOCK_SHIFT"):
        monkeypatch.delenv(name, raising=False)
    copy = tmp_path / "project"
    shutil.copytree(made, copy)
    monkeypatch.chdir(copy)
    return copy


def asks(project: Path, stack: StackName, at: datetime, needs: timedelta = HOUR) -> Inputs:
    return from_files(project, stack, RELEASE, needs=needs, at=at, environ={})


def sign(project: Path, role: str, at: datetime, kind: Any = "normal", note: str = "") -> None:
    given = signatures.draft(asks(project, "prod", at, timedelta(0)), kind, role, PEOPLE[role], note)
    approvals.give(project, given, project / "keys" / PEOPLE[role], project / "policy" / "allowed_signers")


def wave(project: Path, stack: StackName, at: datetime, *, decide: bool = True) -> Path:
    """A wave's evidence as its driver writes it: a decision before the wave and before its one batch."""
    place = promotion.folder(project, stack, RELEASE.id)
    run = f"{at:%Y%m%dT%H%M%SZ}"
    with evidence.Chain.open(place) as chain:

        def say(kind: str, minutes: int, data: dict[str, Any]) -> None:
            chain.append(kind, run, data, at=at + timedelta(minutes=minutes))

        def decides(before: str, minutes: int) -> bool:
            wanted = asks(project, stack, at + timedelta(minutes=minutes))
            decided = decision.decide(wanted)
            earlier = [one.data for one in chain.records if (one.run, one.kind) == (run, "decision")]
            say("decision", minutes, record(before, wanted, decided, earlier))
            return decided.allowed

        outcome = "succeeded"
        started = {"stack": stack, "release": RELEASE.id, "digest": RELEASE.digest, "rehearsal": None, "planned": []}
        say("wave-started", 0, {**started, "waivers": []})
        if not decide or (decides("wave", 0) and decides("batch 1", 2)):
            say("phase", 3, {"phase": "patch", "event": "started", "batch": 1, "hosts": []})
            say("state", 4, state(f"{stack}-blue-0"))
        else:
            outcome = "refused"
        say("wave-ended", 5, {"outcome": outcome, "real_time": at.isoformat(), "reason": ""})
    key = Key(project / "keys" / evidence.IDENTITY, project / "policy" / "allowed_signers")
    evidence.sign(place, key.private)
    for one in criteria.required(STANDARD.stacks[stack].criteria, RELEASE):
        if one.proof == "record":
            ended = at + timedelta(minutes=5)
            attach(place, RELEASE, key, one.name, stack=stack, run=run, at=ended + one.after)
    return place


def again(project: Path) -> Replay:
    return replay(project, "prod", RELEASE.id, None, {})


def problems(project: Path) -> list[str]:
    found = again(project)
    assert not (found.allowed and (found.problems or any(one.problems for one in found.decisions)))
    return [*found.problems, *(problem for one in found.decisions for problem in one.problems)]


def test_a_run_that_was_allowed_is_found_so_again(project: Path) -> None:
    wave(project, "prod", IN_WINDOW)
    found = again(project)
    assert (problems(project), found.allowed) == ([], True)
    assert [(one.before, one.allowed, one.lane) for one in found.decisions] == [
        ("wave", True, "routine"),
        ("batch 1", True, "routine"),
    ]


def test_a_later_decision_records_only_what_is_new(project: Path) -> None:
    first, second = [
        one.data["inputs"] for one in evidence.read(wave(project, "prod", IN_WINDOW)) if one.kind == "decision"
    ]
    assert first.keys() == Inputs.model_fields.keys()
    assert second.keys() == {"at", "real"}


def test_a_run_that_was_refused_is_found_so_again(project: Path) -> None:
    wave(project, "prod", IN_WINDOW + 10 * HOUR)
    found = again(project)
    assert (problems(project), found.allowed) == ([], False)
    assert "outside every window" in found.decisions[0].refusals[0]


def test_what_changed_in_git_since_then_does_not_matter(project: Path) -> None:
    wave(project, "prod", IN_WINDOW)
    for name, old, new in (
        ("policy/standard.yaml", "soak: PT48H", "soak: PT96H"),
        ("Pulumi.prod.yaml", "duration: PT4H", "duration: PT3H"),
    ):
        text = (project / name).read_text(encoding="utf-8")
        assert old in text
        (project / name).write_text(text.replace(old, new), encoding="utf-8")
    sign(project, "CTO", IN_WINDOW + 2 * HOUR, note="signed again")
    (runner, *_) = (project / "keys" / "signers").read_text(encoding="utf-8").splitlines()
    (project / "policy" / "allowed_signers").write_text(f"{runner}\n", encoding="utf-8")
    assert problems(project) == []
    commit(project)
    assert problems(project) == []


def rewrite(place: Path, change: Callable[[str, dict[str, Any]], None], key: Path) -> None:
    """The whole chain made anew with another content and signed by the runner, as somebody with its key could."""
    records = evidence.read(place)
    (place / evidence.FILE).unlink()
    with evidence.Chain.open(place) as chain:
        for record in records:
            data = json.loads(json.dumps(record.data))
            change(record.kind, data)
            chain.append(record.kind, record.run, data, at=datetime.fromisoformat(record.at))
    evidence.sign(place, key)


def tampered(project: Path, change: Callable[[dict[str, Any]], None], at: datetime = IN_WINDOW) -> list[str]:
    """What replay says when the first decision was written otherwise."""
    place = wave(project, "prod", at)
    seen: list[bool] = []

    def once(kind: str, data: dict[str, Any]) -> None:
        if kind == "decision" and not seen:
            seen.append(True)
            change(data)

    rewrite(place, once, project / "keys" / evidence.IDENTITY)
    return problems(project)


def test_a_refusal_that_was_recorded_as_a_permission_differs_loudly(project: Path) -> None:
    def lie(data: dict[str, Any]) -> None:
        data["decision"] |= {"allowed": True, "refusals": []}

    (message,) = tampered(project, lie, IN_WINDOW + 10 * HOUR)
    assert message.startswith(
        "record 2: recorded as allowed, decided again it is refused (they differ in allowed, refus"
    )


def later(data: dict[str, Any]) -> None:
    data["inputs"]["at"] = "2026-12-13T03:00:00Z"


def softer(data: dict[str, Any]) -> None:
    data["inputs"]["standard"]["stacks"]["prod"]["approvals"] = False


def unknown(data: dict[str, Any]) -> None:
    data["inputs"]["standard_digest"] = "0" * 64


def wider(data: dict[str, Any]) -> None:
    data["inputs"]["settings"]["calendar"]["windows"][0]["duration"] = "PT12H"


def minor(data: dict[str, Any]) -> None:
    data["inputs"]["release"]["severities"] = ["low"]


def believed(data: dict[str, Any]) -> None:
    data["inputs"]["approvals"][0]["sha256"] = "0" * 64


def older(data: dict[str, Any]) -> None:
    data["inputs"]["proof"]["ended"] = "2026-12-01T00:00:00Z"


def untested(data: dict[str, Any]) -> None:
    data["inputs"]["criteria"] = []


def praised(data: dict[str, Any]) -> None:
    data["inputs"]["criteria"][0]["detail"] = "99 passed"


def waived(data: dict[str, Any]) -> None:
    data["inputs"]["waivers"] = [{"id": "made-up", "waiver": WAIVER, "problem": None}]


def elsewhere(data: dict[str, Any]) -> None:
    data["inputs"]["proof"]["head"] = "0" * 64


def unlisted(data: dict[str, Any]) -> None:
    data["inputs"]["signers"] = "0" * 64


def garbled(data: dict[str, Any]) -> None:
    del data["inputs"]["needs"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (later, "the clocks disagree"),
        (softer, "the recorded standard is not policy/standard.yaml with that digest"),
        (unknown, "no version of policy/standard.yaml has digest 000000000000"),
        (wider, "no version of Pulumi.prod.yaml has the recorded settings"),
        (minor, "the recorded release is not releases/2026-11-22.1.json"),
        (believed, "no version of approvals/2026-11-22.1/prod.ciso.ciso-dcmms-com.json has digest 000000000000"),
        (older, "the recorded proof is not what the evidence from staging shows"),
        (untested, "the recorded criteria are not what the evidence from staging shows"),
        (praised, "the recorded criteria are not what the evidence from staging shows"),
        (waived, "no version of waivers/made-up.yaml is the recorded waiver"),
        (waived, "decided with other waivers than the wave relied on"),
        (elsewhere, "does not hold the record 000000000000"),
        (unlisted, "no version of allowed_signers has digest 000000000000"),
        (garbled, "are not in the form that this version writes"),
    ],
)
def test_recorded_inputs_that_do_not_match_the_files_are_named(
    project: Path, change: Callable[[dict[str, Any]], None], expected: str
) -> None:
    assert [one for one in tampered(project, change) if one.startswith("record 2: ") and expected in one]


def test_an_approval_that_is_gone_is_named(project: Path) -> None:
    sign(project, "CTO", IN_WINDOW - HOUR / 2, note="never committed")
    wave(project, "prod", IN_WINDOW)
    assert problems(project) == []
    sign(project, "CTO", IN_WINDOW + HOUR, note="signed over it")
    assert "prod.cto.cto-dcmms-com.json has digest" in problems(project)[0]


def test_an_approval_recorded_as_good_that_is_not_is_named(project: Path) -> None:
    signature = project / "approvals" / RELEASE.id / "prod.cto.cto-dcmms-com.json.sig"
    signature.write_text(signature.with_name("prod.ciso.ciso-dcmms-com.json.sig").read_text(), encoding="utf-8")
    commit(project)

    def believe(data: dict[str, Any]) -> None:
        for found in data["inputs"]["approvals"]:
            found["problem"] = None
        data["decision"] |= {"allowed": True, "refusals": []}

    assert any("was recorded as good, verified again it differs" in one for one in tampered(project, believe))


def test_a_batch_without_its_permission_is_named(project: Path) -> None:
    place = wave(project, "staging", IN_WINDOW - 4 * DAY, decide=False)
    shutil.copytree(place, promotion.folder(project, "prod", RELEASE.id))
    message = problems(project)
    assert "it recorded no decision" in message
    assert "record 6: patch began without a decision before batch 1 that allowed it" in message


def test_records_dated_backwards_are_named(project: Path) -> None:
    place = wave(project, "prod", IN_WINDOW)
    run = evidence.read(place)[-1].run
    with evidence.Chain.open(place) as chain:
        chain.append("export", run, {}, at=IN_WINDOW + 4 * timedelta(minutes=1))
        chain.append("wave-ended", run, {"outcome": "succeeded"}, at=IN_WINDOW + 6 * timedelta(minutes=1))
    evidence.sign(place, project / "keys" / evidence.IDENTITY)
    assert problems(project) == ["record 7: dated 60 s before what it follows, the clock ran backwards"]


def test_proof_that_somebody_changed_later_is_named(project: Path) -> None:
    wave(project, "prod", IN_WINDOW)
    path = promotion.folder(project, "staging", RELEASE.id) / evidence.FILE
    path.write_bytes(path.read_bytes().replace(b"succeeded", b"succeedet"))
    assert "record 2: the evidence from staging does not verify any more: record 4" in problems(project)[0]


def command(monkeypatch: pytest.MonkeyPatch, at: datetime, *arguments: str) -> int:
    monkeypatch.setattr(clock, "now", lambda environ=None: at)
    monkeypatch.setattr("sys.argv", ["patchwave", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_says_whether_a_run_was_allowed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wave(project, "prod", IN_WINDOW)
    wanted = ("evidence", "replay", "--stack", "prod")
    assert command(monkeypatch, IN_WINDOW, *wanted, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["consistent"], shown["allowed"], len(shown["decisions"])) == (True, True, 2)
    (project / "releases" / f"{RELEASE.id}.json").unlink()
    assert command(monkeypatch, IN_WINDOW, *wanted) == 1
    message = capsys.readouterr()
    assert message.err.count("\n") == 1
    assert "was not allowed" in message.out


def test_from_approvals_to_a_promotion_by_hand(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str, at: datetime = IN_WINDOW - HOUR) -> tuple[int, str]:
        code = command(monkeypatch, at, *arguments)
        message = capsys.readouterr()
        return code, message.out + message.err

    shutil.rmtree(project / "approvals")
    shown = json.loads(run("approvals", "--stack", "prod", "--json")[1])
    assert [(one["role"], one["person"]) for one in shown["lists"][0]["roles"]] == [("CISO", None), ("CTO", None)]
    assert (shown["complete"], shown["files"]) == (False, [])
    ciso = ("--as", "ciso@dcmms.com", "--key", "keys/ciso@dcmms.com")
    for arguments, code, expected in (
        (("--role", "CISO", *ciso, "--note", "fine"), 0, "prod.ciso.ciso-dcmms-com.json"),
        (("--role", "CTO", *ciso), 3, "ciso@dcmms.com is not CTO by the standard"),
        (("--role", "Team Lead", *ciso), 2, "it is from CISO, CTO"),
        (("--role", "CTO", "--as", "cto@dcmms.com", "--key", "keys/stranger"), 3, "does not list for cto@dcmms.com"),
        (("--role", "CTO", "--as", "cto@dcmms.com", "--key", "keys/none"), 2, "there is no such key"),
        (("--role", "CISO", "--emergency", *ciso), 3, "no open emergency is bound"),
        (("--role", "CISO", "--emergency", "--break-glass", *ciso), 2, "give only that"),
    ):
        got, message = run("approve", "--stack", "prod", *arguments)
        assert (got, expected in message) == (code, True), message
    shown = json.loads(run("approvals", "--stack", "prod", "--json", at=IN_WINDOW)[1])
    assert [one["refused"] for one in shown["files"]] == [None]
    late = run("approvals", "--stack", "prod", at=IN_WINDOW + 4 * DAY)
    assert "it expired Wed 2026-12-16 01:00 UTC" in late[1]
    code, message = run("promote", "staging", "prod", "--json", at=IN_WINDOW)
    assert (code, json.loads(message)["soak"]["stack"]) == (0, "staging")
    code, message = run("promote", "staging", "prod", at=IN_WINDOW - 4 * DAY)
    assert (code, "has soaked 23.9 h of 48.0 h" in message) == (3, True)


def test_an_emergency_from_its_advisory_to_the_permission_for_prod(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = IN_WINDOW + 10 * DAY
    lead = ("--as", PEOPLE["Security Lead"], "--key", f"keys/{PEOPLE['Security Lead']}")

    def run(*arguments: str, hours: float, code: int = 0) -> str:
        got = command(monkeypatch, begin + hours * HOUR, *arguments)
        message = capsys.readouterr()
        assert got == code, message
        return message.out + message.err

    def step(name: str, *more: str, hours: float, code: int = 0) -> str:
        return run("emergency", "step", name, *lead, *more, hours=hours, code=code)

    facts = ("--advisory", "CVE-2026-1234", "--disclosed", begin.isoformat(), "--affects", "all", *lead)
    assert "CVSS 8.0 is below 9.0" in run(
        "emergency", "open", *facts, "--cvss", "8.0", "--exploit", "seen", hours=1, code=3
    )
    assert "no exploit is named" in run("emergency", "open", *facts, "--cvss", "9.8", hours=1, code=3)
    assert "cve-2026-1234.1" in run("emergency", "open", *facts, "--cvss", "9.8", "--exploit", "seen", hours=1)
    for name in ("notified", "affected", "assessed", "ticket"):
        step(name, hours=1.5)
    assert "the standard's plan has notified" in step("sleep", hours=1.5, code=2)
    assert "no release is named yet" in step("dev-tested", hours=2.5, code=3)
    assert "add --release" in step("fix-obtained", hours=2.5, code=2)
    step("fix-obtained", "--release", RELEASE.id, hours=2.5)
    shown = json.loads(run("emergency", "show", "--json", hours=3))
    assert (shown["overdue"], shown["digest"], shown["problem"]) == (["leaders-notified"], RELEASE.digest, None)

    assert "lacks leaders-notified" in line(*decided(project, "dev", begin + 3 * HOUR))
    step("leaders-notified", hours=3)
    assert decision.decide(asks(project, "dev", begin + 3 * HOUR)).lane == "emergency"
    assert decision.decide(asks(project, "dev", begin + 3 * HOUR)).allowed
    assert "has no evidence from dev" in step("dev-tested", hours=4, code=3)
    wave(project, "dev", begin + 4 * HOUR)
    for name in ("dev-tested", "deployment-planned", "rollback-identified", "message-drafted"):
        step(name, hours=5)
    refused = line(*decided(project, "staging", begin + 4.5 * HOUR))
    assert "has soaked 0.4 h of 1.0 h on dev" in refused
    shutil.rmtree(promotion.folder(project, "staging", RELEASE.id))
    wave(project, "staging", begin + 6 * HOUR)
    step("staging-deployed", hours=7)
    step("critical-paths-tested", hours=8)
    assert "emergency approval is missing from" in step("approved", hours=8, code=3)
    for role in ("Security Lead", "Engineering Manager", "CTO", "CISO"):
        sign(project, role, begin + 8 * HOUR, "emergency")
    assert "lacks approved" in line(*decided(project, "prod", begin + 8 * HOUR))
    step("approved", hours=8)
    wave(project, "prod", begin + 9 * HOUR)
    found = again(project)
    assert (problems(project), found.allowed, {one.lane for one in found.decisions}) == ([], True, {"emergency"})
    step("prod-deployed", hours=10)
    run("emergency", "close", "--note", "fixed", *lead, hours=20)
    assert problems(project) == []
    assert "outside every window" in line(*decided(project, "prod", begin + 21 * HOUR))
    with pytest.raises(UsageError, match=r"no emergency is open: .*, or name one of cve-2026-1234\.1 with --id"):
        emergencies.find(project, None, None, begin)


def decided(project: Path, stack: StackName, at: datetime) -> tuple[Inputs, Decision]:
    wanted = asks(project, stack, at)
    return wanted, decision.decide(wanted)
