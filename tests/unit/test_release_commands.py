"""The commands around a release's way: what they print, what they write, and with which code they end."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from patchwave import cli
from patchwave.authorization import criteria
from patchwave.config.settings import load_stack
from patchwave.config.stackfile import set_release
from patchwave.config.standard import load_standard
from patchwave.evidence import chain as evidence
from patchwave.releases import release as releases
from tests.unit.builders import copy_desk, release
from tests.unit.proofs import make_key, prove
from tests.unit.test_waivers import document, sealed

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder whose dev stack carries a sealed release."""
    copy_desk(tmp_path)
    made = sealed()
    made = made.model_copy(update={"digest": releases.digest(made.plain())})
    releases.save(tmp_path, made)
    set_release(tmp_path, "dev", made.id)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; its code, what it printed and what it complained of, which is one line at most."""

    def command(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["patchwave", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        assert shown.err.count("\n") <= 1
        assert isinstance(ended.value.code, int)
        return ended.value.code, shown.out, shown.err

    return command


def write(project: Path, name: str, days: float, **changed: Any) -> None:
    now = datetime.now(UTC)
    times = {"granted": (now - timedelta(days=9)).isoformat(), "expires": (now + timedelta(days=days)).isoformat()}
    path = project / "waivers" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(document(id=name, **times, **changed)), encoding="utf-8")


def test_waivers_are_listed_with_their_state(project: Path, run: Run) -> None:
    write(project, "W-1", 9)
    write(project, "W-2", -1)
    write(project, "W-3", 9, scope={"packages": ["bash"], "stacks": ["prod"]})
    code, out, _ = run("waivers", "--json")
    assert code == 0
    assert [(one["id"], one["state"]) for one in json.loads(out)["waivers"]] == [
        ("W-1", "active"),
        ("W-2", "expired"),
        ("W-3", "active"),
    ]
    _, out, _ = run("waivers", "--stack", "dev", "--json")
    assert [one["id"] for one in json.loads(out)["waivers"]] == ["W-1", "W-2"]
    assert "W-1" in run("waivers")[1]


def test_a_waiver_without_an_expiry_is_listed_as_refused_and_named(project: Path, run: Run) -> None:
    write(project, "W-1", 9)
    path = project / "waivers" / "W-1.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("expires", "expire"), encoding="utf-8")
    code, out, err = run("waivers", "--json")
    assert (code, json.loads(out)["waivers"][0]["state"]) == (3, "refused")
    assert "waivers/W-1.yaml: expires: it is missing" in err


def test_pinning_names_what_counts_now_and_takes_back_what_does_not(project: Path, run: Run) -> None:
    write(project, "W-1", 9)
    assert run("waivers", "--stack", "dev", "--pin")[0] == 0
    assert load_stack(project, "dev").waivers == ("W-1",)
    write(project, "W-1", -1)
    assert run("waivers", "--stack", "dev", "--pin")[0] == 0
    assert load_stack(project, "dev").waivers == ()
    code, _, err = run("waivers", "--pin")
    assert (code, "--pin needs --stack" in err) == (2, True)


def test_a_waiver_too_mild_for_the_release_is_not_pinned(project: Path, run: Run) -> None:
    agreed = {"role": "Engineering Manager", "person": "engineering-manager@dcmms.com"}
    write(project, "W-1", 9, severity="medium", approved_by=[agreed])
    code, _, err = run("waivers", "--stack", "dev", "--pin")
    assert (code, "it is for medium fixes" in err) == (3, True)
    assert load_stack(project, "dev").waivers == ()


def test_the_scanners_file_is_yaml_that_says_until_when(project: Path, run: Run) -> None:
    write(project, "W-1", 9)
    code, out, _ = run("waivers", "--stack", "dev", "--trivy")
    (row,) = yaml.safe_load(out)["vulnerabilities"]
    assert (code, row["id"]) == (0, "CVE-2026-1000")
    assert datetime.fromisoformat(row["expired_at"]) > datetime.now(UTC)


@pytest.fixture
def proved(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project after a wave on dev that ended an hour ago, and beside it the key of who tests it."""
    key = make_key(project, evidence.IDENTITY, "ann@dcmms.com")
    known = releases.load(project, "2026-11-22.1")
    prove(project, known, key, at=datetime.now(UTC) - timedelta(hours=1))
    monkeypatch.setenv("PATCHWAVE_ALLOWED_SIGNERS", str(key.signers))
    return project


def criterion(*words: str, by: str = "ann@dcmms.com") -> tuple[str, ...]:
    named = ("--criterion", "functional-tests", "--by", by, "--key", "key")
    return ("evidence", "attach", "--stack", "dev", *named, *words)


def test_an_attached_result_is_shown_as_met(proved: Path, run: Run) -> None:
    (proved / "junit.xml").write_text("<testsuite/>", encoding="utf-8")
    _, out, _ = run("evidence", "criteria", "--stack", "dev", "--json")
    states = {one["name"]: one["state"] for one in json.loads(out)["criteria"]}
    assert states == {"gates": "met", "latency": "met", "functional-tests": "missing"}
    assert run(*criterion("--result", "pass", "--file", "junit.xml"))[0] == 0
    _, out, _ = run("evidence", "criteria", "--stack", "dev", "--json")
    assert {one["state"] for one in json.loads(out)["criteria"]} == {"met"}
    assert len(list((proved / "evidence/patching/dev/2026-11-22.1" / criteria.FOLDER).glob("*-junit.xml"))) == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (criterion("--result", "maybe"), 2, "maybe"),
        (criterion("--result", "pass", by="ben@dcmms.com"), 3, "does not list for ben@dcmms.com"),
        (criterion("--result", "pass", "--file", "nowhere"), 2, "no such file"),
        (
            ("evidence", "attach", "--stack", "dev", "--criterion", "x", "--by", "a", "--result", "pass"),
            2,
            "the criteria of dev are",
        ),
    ],
)
def test_a_result_that_would_prove_nothing_is_not_attached(
    proved: Path, run: Run, words: tuple[str, ...], code: int, message: str
) -> None:
    ended, _, err = run(*words)
    assert (ended, message in err) == (code, True), err
    assert not (proved / "evidence/patching/dev/2026-11-22.1" / criteria.FOLDER / evidence.FILE).exists()


def test_a_wave_that_has_not_ended_takes_no_result(proved: Path, run: Run) -> None:
    place = proved / "evidence/patching/dev/2026-11-22.1"
    with evidence.Chain.open(place) as chain:
        started = {"stack": "dev", "release": "2026-11-22.1", "digest": release().digest, "waivers": []}
        chain.append("wave-started", "run-2", started, at=datetime.now(UTC))
    code, _, err = run(*criterion("--result", "pass"))
    assert (code, "run-2 of 2026-11-22.1 has not ended" in err) == (3, True)


STACK, RULES = "Pulumi.dev.yaml", "policy/standard.yaml"


@pytest.mark.parametrize(
    ("file", "text", "words", "message"),
    [
        (RULES, "- sla\n", ["waivers"], "policy/standard.yaml: write keys and values here"),
        (RULES, "sla: []\nsla: []\n", ["waivers"], "policy/standard.yaml:2: key 'sla' stands there twice"),
        (RULES, "a: [\n", ["waivers"], "policy/standard.yaml:2: it is not YAML"),
        (STACK, "config:\n", ["approvals", "--stack", "dev"], "Pulumi.dev.yaml:1: config has no patchwave:settings"),
        (STACK, "config:\n  patchwave:release: 1\n", ["seal", "--stack", "dev"], "config has no patchwave:settings"),
        (STACK, "", ["approvals", "--stack", "qa"], "stack 'qa': policy/standard.yaml names dev, staging, prod"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line_and_wrong_use(
    project: Path, run: Run, file: str, text: str, words: list[str], message: str
) -> None:
    (project / file).write_text(text, encoding="utf-8")
    load_standard.cache_clear()
    code, _, err = run(*words)
    assert (code, message in err) == (2, True), err


def test_a_waiver_with_a_key_twice_is_refused_with_its_line(project: Path, run: Run) -> None:
    write(project, "W-1", 9)
    with (project / "waivers" / "W-1.yaml").open("a", encoding="utf-8") as file:
        file.write("severity: critical\n")
    code, _, err = run("waivers")
    assert code == 3
    assert "waivers/W-1.yaml: line " in err
    assert "key 'severity' stands there twice, first in line " in err
