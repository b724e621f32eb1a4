"""Small, valid pieces for tests to start from."""

import shutil
import subprocess
from datetime import UTC, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from patchwave.authorization import approvals
from patchwave.authorization.approvals import Approval, Found
from patchwave.authorization.emergency import Done, Emergency, Facts
from patchwave.authorization.inputs import Inputs, Subject
from patchwave.authorization.promotion import Proof
from patchwave.azure.inventory import Host
from patchwave.calendar.windows import Calendar, Monthly, Weekly, Window
from patchwave.config.settings import Settings, load_stack
from patchwave.config.standard import StackName, Standard, load_standard
from patchwave.releases.advisories import NOTHING
from patchwave.releases.release import ChangelogEntry, Key, Package, Pending, Release, Sealed, seal
from tests.unit.engine import FIXTURE

STANDARD: Standard = load_standard(FIXTURE)
AUTHOR = "engineer@dcmms.com"
NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
IN_WINDOW = datetime(2026, 12, 13, 2, 0, tzinfo=UTC)
RELEASE_ID = "2026-11-22.1"
DIGEST = "d" * 64


def copy_desk(folder: Path) -> Path:
    """A project of the tests' own decisions, without releases."""
    shutil.copytree(FIXTURE, folder, dirs_exist_ok=True)
    return folder


@cache
def settings(stack: str = "dev") -> Settings:
    return load_stack(FIXTURE, stack).settings


def weekly(
    *days: str, starts: time = time(9), duration: timedelta = timedelta(hours=2), zone: str = "Etc/UTC"
) -> Window:
    recurs = Weekly(every="week", weekdays=tuple(days))  # type: ignore[arg-type]  # a wrong day fails the test
    return Window(recurrence=recurs, starts=starts, duration=duration, zone=zone)


def patch_sunday(duration: timedelta = timedelta(hours=4)) -> Window:
    recurs = Monthly(every="month", week="second", weekday="Tuesday", offset_days=5)
    return Window(recurrence=recurs, starts=time(2), duration=duration, zone="Etc/UTC")


def host(name: str, *, live: bool = False, ring: str = "rest", source: str = "vmss") -> Host:
    return Host.model_validate(
        {
            "id": f"/h/{name}",
            "name": name,
            "address": "10.0.0.1",
            "source": source,
            "fleet": {"vmss": "web", "vm": "machines", "arc": "sites"}[source],
            "service": "desk" if source == "vmss" else "branch",
            "method": "apt",
            "ring": ring,
            "slot": None,
            "os": "Linux",
            "live": live,
        }
    )


def pending(name: str = "openssl", to: str = "3.0.20-1~deb12u2", **changed: Any) -> Pending:
    fields = {
        "name": name,
        "arch": "amd64",
        "from": "3.0.19-1~deb12u2",
        "to": to,
        "origin": "Debian",
        "label": "Debian-Security",
        "suite": "stable-security",
        "trusted": True,
        "size": 1000,
        "sha256": "a" * 64,
        "source": name,
    }
    return Pending.model_validate(fields | changed)


def release(*updates: Pending, release_id: str = "2026-11-22.1") -> Release:
    chosen = updates or (pending(),)
    sealed = Sealed(stack="dev", at=NOW, hosts=("dev-blue-0",))
    entries: dict[Key, list[ChangelogEntry]] = {update.key: [] for update in chosen}
    made, _ = seal(release_id, AUTHOR, sealed, chosen, entries, STANDARD, NOTHING)
    assert made is not None
    return made


def package(release_: Release, name: str) -> Package:
    return next(p for p in release_.packages if p.name == name)


def make_keys(folder: Path, *people: str) -> Path:
    """A key for each person and for a stranger; `signers` lists all but the stranger."""
    listed = ""
    for name in (*people, "stranger"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name]
        subprocess.run(command, check=True)
        if name != "stranger":
            listed += f"{name} {(folder / f'{name}.pub').read_text(encoding='utf-8')}"
    (folder / "signers").write_text(listed, encoding="utf-8")
    return folder


def signed(person: str, role: str, *, kind: str = "normal", problem: str | None = None, **changed: Any) -> Found:
    """An approval for prod as its file is found, an hour before `IN_WINDOW`."""
    at = changed.pop("at", IN_WINDOW - timedelta(hours=1))
    fields = {
        "kind": kind,
        "stack": "prod",
        "release": RELEASE_ID,
        "digest": DIGEST,
        "role": role,
        "person": person,
        "at": at,
        "expires": at + timedelta(hours=24),
        "note": "",
        "rehearsal": False,
    }
    given = Approval.model_validate(fields | changed)
    return Found(file=approvals.name_of(given), sha256="0" * 64, approval=given, problem=problem)


def signed_by_all(kind: str = "normal") -> tuple[Found, ...]:
    """One good approval for each role of the standard."""
    return tuple(signed(people[0], role, kind=kind) for role, people in STANDARD.roles.items())


def critical_emergency(**changed: Any) -> Emergency:
    """An emergency that is bound to the release and has every step before prod."""
    opened = IN_WINDOW - timedelta(hours=12)
    steps = [step.id for step in STANDARD.emergency.before("prod")]
    facts = {"advisory": "CVE-2026-1", "cvss": 9.8, "exploit": "seen", "affects": "all", "disclosed": opened}
    fields = {
        "id": "cve-2026-1.1",
        "facts": Facts.model_validate(facts),
        "opened": opened,
        "opened_by": "security-lead@dcmms.com",
        "closed": None,
        "release": RELEASE_ID,
        "digest": DIGEST,
        "done": tuple(Done(step=step, who="security-lead@dcmms.com", at=opened) for step in steps),
        "records": 1 + len(steps),
        "head": "0" * 64,
        "problem": None,
    }
    return Emergency.model_validate(fields | changed)


def inputs(stack: StackName = "prod", *, calendar: Calendar | None = None, **changed: Any) -> Inputs:
    """A prod wave of a critical release that everything allows, at the beginning of its window."""
    source = STANDARD.stacks[stack].promoted_from
    if stack != "prod" and calendar is None:
        calendar = settings(stack).calendar
    ended = IN_WINDOW - timedelta(days=10)
    proof = source and Proof(
        stack=source,
        problem=None,
        run="run-1",
        outcome="succeeded",
        digest=DIGEST,
        ended=ended,
        really_ended=ended,
        head="0" * 64,
    )
    fields = {
        "stack": stack,
        "at": IN_WINDOW,
        "real": IN_WINDOW,
        "needs": timedelta(hours=1),
        "settings": settings(stack).model_copy(update={"calendar": calendar or Calendar(windows=(patch_sunday(),))}),
        "release": Subject(id=RELEASE_ID, digest=DIGEST, author="author@dcmms.com", severities=("critical",)),
        "quarantined": (),
        "proof": proof,
        "criteria": (),
        "waivers": (),
        "approvals": signed_by_all(),
        "emergency": None,
        "standard": STANDARD,
        "standard_digest": "0" * 64,
        "ordered_standard": None,
        "signers": "0" * 64,
        "rehearsal": False,
    }
    return Inputs.model_construct(**(fields | changed))  # its parts are valid, and its settings slow to validate again
