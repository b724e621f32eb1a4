"""A fix that would come late fails the real engine's preview, which passes after exactly the change that it names."""

import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from patchwave.evidence.chain import canonical
from patchwave.releases import release as releases
from patchwave.releases.advisories import NOTHING
from patchwave.releases.release import ChangelogEntry, Sealed
from tests.laboratory import Laboratory
from tests.unit.builders import AUTHOR, STANDARD, pending
from tests.unit.test_advisories import CRITICAL, catalog, vulnerability

MONDAY = datetime(2026, 11, 23, 9, tzinfo=UTC)
RELEASE = "2026-11-23.9"
CVE = "CVE-2099-0001"
LEAD = "security-lead@dcmms.com"
CHANGES = re.compile(r"(?:set|add the window) (\S+) to (\S+) in Pulumi\.(\w+)\.yaml")


@pytest.fixture
def lab_with_fix(lab: Laboratory) -> Iterator[Laboratory]:
    """The laboratory with a sealed release of one fix that is published on Monday, and no wave of it."""
    update = pending("madeup", to="2-1")
    entry = ChangelogEntry(version="2-1", date=MONDAY, urgency="high", cves=(CVE,))
    sealed = Sealed(stack="dev", at=MONDAY, hosts=("dev-web-blue-0",))
    made, _ = releases.seal(RELEASE, AUTHOR, sealed, [update], {update.key: [entry]}, STANDARD, NOTHING)
    assert made is not None
    stacks = {path: path.read_bytes() for path in lab.project.glob("Pulumi.*.yaml")}
    releases.save(lab.project, made)
    try:
        yield lab
    finally:
        for path, content in stacks.items():
            path.write_bytes(content)
        releases.path_of(lab.project, RELEASE).unlink()
        for name in ("advisories", "evidence/emergencies"):
            shutil.rmtree(lab.project / name, ignore_errors=True)


def edit(lab: Laboratory, stack: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes a stack's file as a person would; it names the release as well."""
    path = lab.project / f"Pulumi.{stack}.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["config"]["patchwave:release"] = RELEASE
    change(document["config"]["patchwave:settings"])
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


def shift(minutes: int = 0) -> str:
    return str(round((MONDAY - datetime.now(UTC)).total_seconds()) + 60 * minutes)


def preview(lab: Laboratory, stack: str, *, late: bool) -> str:
    """What the preview says of due times; it fails when a fix that could be in time is late."""
    command = ("pulumi", "preview", "--stack", stack, "--policy-pack", "policy")
    printed = lab.run(*command, code=255 if late else 0, PATCHWAVE_CLOCK_SHIFT=shift(minutes=3))
    lines = [line.strip() for line in printed.splitlines() if "cannot be met" in line]
    assert ("slas-can-be-met" in printed, len(lines)) == (late, int(late)), printed[-6000:]
    return "".join(lines)


def carry_out(lab: Laboratory, line: str) -> list[str]:
    """Makes every change that a line names; the fields that it changed."""
    done = []
    for first, second, stack in CHANGES.findall(line):
        field, value = (second, first) if second == "calendar.extra" else (first, second)

        def made(settings: dict[str, Any], field: str = field, value: str = value) -> None:
            if field == "calendar.extra":
                starts, ends = value.split("/")
                settings["calendar"]["extra"] = [{"starts": starts, "ends": ends, "reason": "in time for the SLA"}]
            elif field == "services.desk.max_unavailable":
                settings["services"]["desk"]["max_unavailable"] = int(value)
            else:
                rings = {f"rollout.rings[{one['name']}].batch": one for one in settings["rollout"]["rings"]}
                rings[field]["batch"] = int(value)

        edit(lab, stack, made)
        done.append(field)
    return done


def forty(settings: dict[str, Any]) -> None:
    settings["fleets"]["web"]["hosts"]["instances"] = 40


def as_it_is(settings: dict[str, Any]) -> None:
    pass


@pytest.mark.parametrize(
    ("stack", "change", "kinds"),
    [
        ("prod", as_it_is, {"calendar.extra"}),
        ("staging", forty, {"services.desk.max_unavailable", "rollout.rings[rest].batch"}),
    ],
)
def test_a_preview_passes_after_exactly_the_change_that_it_named(
    lab_with_fix: Laboratory, stack: str, change: Callable[[dict[str, Any]], None], kinds: set[str]
) -> None:
    lab = lab_with_fix
    lab.sandbox("preview", "--stack", stack)
    edit(lab, stack, change)
    line = preview(lab, stack, late=True)
    assert set(carry_out(lab, line)) == kinds
    preview(lab, stack, late=False)


def test_what_is_exploited_is_in_time_once_its_emergency_is_open(lab_with_fix: Laboratory, tmp_path: Path) -> None:
    lab = lab_with_fix
    lab.sandbox("preview", "--stack", "prod")
    exports = {"osv.json": vulnerability(CVE, ("CVSS_V3", CRITICAL)), "kev.json": catalog(CVE)}
    for name, document in exports.items():
        (tmp_path / name).write_bytes(canonical(document))
    lab.run("patchwave", "advisories", "import", str(tmp_path))
    edit(lab, "prod", as_it_is)
    assert preview(lab, "prod", late=True).endswith("take the emergency lane, see `patchwave emergency open`")
    signer = ("--as", LEAD, "--key", str(lab.folder / "keys" / "people" / "security-lead-dcmms-com"))
    facts = ("--advisory", CVE, "--cvss", "9.8", "--disclosed", MONDAY.isoformat(), "--exploit", "seen")
    open_ = ("patchwave", "emergency", "open", *facts, "--affects", "all hosts", *signer)
    lab.run(*open_, PATCHWAVE_CLOCK_SHIFT=shift(minutes=1))
    bind = ("patchwave", "emergency", "step", "fix-obtained", "--release", RELEASE, *signer)
    lab.run(*bind, PATCHWAVE_CLOCK_SHIFT=shift(minutes=2))
    preview(lab, "prod", late=False)
