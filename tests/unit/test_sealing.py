"""Sealing: who seals, which release is named again, and what a waiver leaves pending without asking for another one."""

import json
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from patchwave.azure.inventory import Inventory
from patchwave.base.errors import Refused, UsageError
from patchwave.releases.advisories import NOTHING
from patchwave.releases.release import Key, LeftOut, Pending
from patchwave.releases.waivers import Waiver
from patchwave.schedule import sealing
from patchwave.schedule.scans import HostScan, Scans, offer
from tests.unit.builders import AUTHOR, NOW, STANDARD, copy_desk, host, pending, release
from tests.unit.test_waivers import document


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository in which nobody is known, whatever this machine's own configuration says."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


def test_the_author_is_who_the_environment_names_else_who_git_knows(repository: Path) -> None:
    subprocess.run(["git", "config", "user.email", "ann@dcmms.com"], cwd=repository, check=True)
    assert sealing.author(repository, {}) == "ann@dcmms.com"
    assert sealing.author(repository, {"PATCHWAVE_AUTHOR": "ben@dcmms.com"}) == "ben@dcmms.com"


@pytest.mark.parametrize(
    ("environ", "message"),
    [({}, "nobody is known who seals"), ({"PATCHWAVE_AUTHOR": "the release team"}, "is no e-mail address")],
)
def test_a_release_without_an_author_is_not_sealed(repository: Path, environ: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sealing.author(repository, environ)


def row(**changed: Any) -> dict[str, Any]:
    """A row of a host's scan, as the module returns it."""
    return {**json.loads(pending().model_dump_json(by_alias=True)), **changed}


def test_a_scans_row_without_an_old_version_is_a_new_package() -> None:
    assert offer(row()).from_ == "3.0.19-1~deb12u2"
    assert offer(row(**{"from": ""})).from_ is None


@pytest.mark.parametrize(
    "wrong", [{"sha256": "MD5"}, {"size": "12"}, {"trusted": "yes"}, {"name": "a;b"}, {"method": "npm"}]
)
def test_a_scans_row_that_is_not_what_apt_says_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="1 validation error"):
        offer(row(**wrong))


def seal(monkeypatch: pytest.MonkeyPatch, project: Path, scans: Scans) -> sealing.Sealing:
    hosts = (host("web-0"), host("web-1"))
    monkeypatch.setattr(sealing, "discover", lambda *_: Inventory(hosts=hosts))
    monkeypatch.setattr(sealing, "scan", lambda *_, refresh: scans)
    monkeypatch.setattr(sealing, "_changelogs", lambda *_: {pending().key: []})
    return sealing.seal(copy_desk(project), "dev", NOW, AUTHOR, ())


def test_a_host_that_does_not_answer_is_named_and_what_the_others_are_offered_is_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacks = HostScan({"openssl": "3.0.19-1~deb12u2"}, (pending(),), ())
    made = seal(monkeypatch, tmp_path, Scans({"web-0": lacks}, {"web-1": "unreachable"}))
    assert made.release is not None
    assert made.release.sealed.hosts == ("web-0",)
    assert made.scans.rows == [{"name": "web-1", "reason": "unreachable"}]


def test_nothing_is_sealed_from_no_answer_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="no host has answered, so there is nothing to seal: web-0: unreachable"):
        seal(monkeypatch, tmp_path, Scans({}, {"web-0": "unreachable", "web-1": "unreachable"}))


def offered(*names: str, to: str = "3.0.20-1~deb12u2") -> dict[Key, Pending]:
    return {update.key: update for update in (pending(name, to) for name in names)}


@pytest.mark.parametrize(
    ("names", "holds"),
    [(("openssl", "nginx"), True), (("openssl",), True), (("openssl", "bash"), False), (("young",), True)],
)
def test_a_release_holds_what_is_pending_when_it_has_all_of_it_or_waits_for_it(
    names: tuple[str, ...], holds: bool
) -> None:
    waits = LeftOut(name="young", to="3.0.20-1~deb12u2", reason="young", until=NOW + timedelta(days=1))
    known = release(pending(), pending("nginx")).model_copy(update={"left_out": (waits,)})
    assert sealing.still_holds(known, offered(*names), NOW) == holds
    assert not sealing.still_holds(known, offered(*names, to="9"), NOW)
    assert not sealing.still_holds(known, offered("young"), NOW + timedelta(days=1))


@pytest.mark.parametrize(
    ("cvss", "exploited", "is_understated"),
    [(None, (), False), (5.5, (), False), (7.5, (), False), (9.8, (), True), (5.5, ("CVE-2026-1",), True)],
)
def test_a_release_is_understated_when_more_is_known_against_it_than_it_says(
    cvss: float | None, exploited: tuple[str, ...], is_understated: bool
) -> None:
    known = release()
    advisory = known.advisories[0].model_copy(update={"cves": ("CVE-2026-1",)})
    assert advisory.severity == STANDARD.unscored == "high"
    scores = {} if cvss is None else {"CVE-2026-1": cvss}
    knowledge = NOTHING._replace(scores=scores, exploited=frozenset(exploited))
    named = known.model_copy(update={"advisories": (advisory,)})
    assert sealing.understated(named, knowledge, STANDARD) == is_understated


def test_what_a_waiver_leaves_pending_on_its_host_asks_for_no_other_release() -> None:
    known = release(pending(), pending("nginx"))
    scope = {"packages": ["openssl"], "stacks": ["dev"], "hosts": ["dev-blue-0"]}
    waiver = Waiver.model_validate_json(json.dumps(document(scope=scope)))
    updates = [pending(), pending("nginx"), pending("openssl-tool")]

    def left(name: str, *some: Waiver, to: str = "3.0.20-1~deb12u2") -> list[str]:
        rows = [one.model_copy(update={"to": to}) if one.name == "openssl" else one for one in updates]
        return [one.name for one in sealing.without_waived(rows, known, some, "dev", host(name))]

    assert left("dev-blue-0", waiver) == ["nginx", "openssl-tool"]
    assert left("dev-blue-1", waiver) == ["openssl", "nginx", "openssl-tool"]
    assert left("dev-blue-0") == ["openssl", "nginx", "openssl-tool"]
    assert "openssl" in left("dev-blue-0", waiver, to="3.0.21-1")
