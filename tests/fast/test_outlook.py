"""What a preview says of due times, with the project's own standard and stack files and the seeds' numbers."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from patchwave import evidence, permission
from patchwave import release as releases
from patchwave.feeds import concerning, import_files
from patchwave.outlook import ask, declared, view
from patchwave.release import ChangelogEntry, Release, Sealed
from patchwave.settings import load_stack
from patchwave.solver import Change, Miss, misses
from patchwave.standard import StackName, load_standard
from policy import rules
from policy.rules import RULES, Declared, Moment
from tests.fast.builders import STANDARD, pending
from tests.fast.engine import PROJECT
from tests.fast.test_advisories import NOTHING, vulnerability, write

MONDAY = datetime(2026, 11, 23, 9, tzinfo=UTC)
DAY = timedelta(days=1)
CVE = "CVE-2099-0001"
VECTORS = {
    9.8: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
    7.5: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H",
    5.5: "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:N/I:N/A:H",
}

Edit = Callable[[dict[str, Any]], None]


class Project:
    """A project of its own with the repository's standard and stacks, and a release of one fix."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "policy").mkdir()
        shutil.copy(PROJECT / "policy" / "standard.yaml", root / "policy" / "standard.yaml")
        for stack in ("dev", "staging", "prod"):
            shutil.copy(PROJECT / f"Pulumi.{stack}.yaml", root / f"Pulumi.{stack}.yaml")
        self.release = self._sealed()

    def _sealed(self) -> Release:
        entry = ChangelogEntry(version="2-1", date=MONDAY, urgency="high", cves=(CVE,))
        update = pending("madeup", to="2-1")
        sealed = Sealed(stack="dev", at=MONDAY, hosts=("dev-blue-0",))
        made = releases.seal("2026-11-23.1", sealed, [update], {"madeup": [entry]}, STANDARD, NOTHING)
        releases.save(self.root, made)
        return made

    def scored(self, score: float) -> None:
        record = vulnerability(CVE, ("CVSS_V3", VECTORS[score]))
        import_files(self.root, write(self.root / "exports", record), concerning([self.release]))

    def edit(self, stack: str, change: Edit) -> None:
        path = self.root / f"Pulumi.{stack}.yaml"
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        change(document["config"]["patchwave:settings"])
        path.write_text(yaml.safe_dump(document), encoding="utf-8")

    def make(self, change: Change) -> None:
        """Does what a remedy says, as a person would in the stack's file."""

        def edited(settings: dict[str, Any]) -> None:
            if change.field == "calendar.extra":
                starts, ends = change.value.split("/")
                settings["calendar"]["extra"] = [{"starts": starts, "ends": ends, "reason": "in time for the SLA"}]
            elif change.field == "soak":
                settings["soak"] = change.value
            elif change.field == "rollout.live_out_of_service":
                settings["rollout"]["live_out_of_service"] = int(change.value)
            else:
                name = change.field.split(".")[2]
                (ring,) = (ring for ring in settings["rollout"]["rings"] if ring["name"] == name)
                ring["batch"] = int(change.value)

        self.edit(change.stack, edited)

    def misses(self, stack: StackName, now: datetime = MONDAY) -> dict[str, Miss]:
        """What is missed, each under its line."""
        settings = load_stack(self.root, stack).settings
        seen = view(self.root, stack, settings, self.release, load_standard(self.root))
        found = misses(ask(seen, declared(stack, settings, map(seen.fix, seen.advisories)), now))
        return {seen.line(miss): miss for miss in found}

    def succeeded(self, stack: str, at: datetime) -> None:
        with evidence.Chain.open(permission.folder(self.root, stack, self.release.id)) as chain:
            for kind, data in (
                ("wave-started", {"digest": self.release.digest}),
                ("wave-ended", {"outcome": "succeeded"}),
            ):
                chain.append(kind, "run-1", data, at=at)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_high_fix_misses_prods_monthly_window_and_a_window_on_saturday_would_do(project: Project) -> None:
    (line,) = project.misses("prod")
    assert line == (
        "madeup/2-1 (CVE-2099-0001) on 15 hosts cannot be met: due Mon 2026-11-30 09:00 UTC, "
        "next admissible end Sun 2026-12-13 02:45 UTC, +305.8 h: "
        "add the window 2026-11-28T02:00:00Z/2026-11-28T02:45:00Z to calendar.extra in Pulumi.prod.yaml"
    )
    assert project.misses("dev") == project.misses("staging") == {}


@pytest.mark.parametrize("score", [5.5, 7.5])
def test_the_score_decides_when_it_is_due(project: Project, score: float) -> None:
    project.scored(score)
    assert bool(project.misses("prod")) == (score == 7.5)  # 30 days reach the next Sunday after Patch Tuesday


def test_a_critical_fix_reaches_prod_in_24_hours_by_no_change_of_a_file(project: Project) -> None:
    project.scored(9.8)
    (line,) = project.misses("prod")
    assert "due Tue 2026-11-24 09:00 UTC" in line
    assert line.endswith("nothing that the standard allows would do")
    assert project.misses("dev") == {}


def test_what_dev_and_staging_have_proved_is_not_waited_for_again(project: Project) -> None:
    project.succeeded("dev", MONDAY)
    project.succeeded("staging", MONDAY + DAY)
    (miss,) = project.misses("prod", MONDAY + DAY).values()
    assert miss.remedy is not None
    (change,) = miss.remedy
    assert change.value.startswith("2026-11-28T02:00:00Z")
    assert next(iter(project.misses("prod", datetime(2026, 12, 13, 1, tzinfo=UTC)))).endswith("would do")


def test_a_longer_soak_than_the_standards_is_the_first_to_be_shortened(project: Project) -> None:
    project.edit("staging", lambda settings: settings.update(soak="P6D"))
    (miss,) = project.misses("staging").values()
    assert miss.remedy == (Change("soak", "staging", "soak", "PT54H"),)


def forty(settings: dict[str, Any]) -> None:
    settings["slots"]["instances"] = 40


def test_a_wave_that_fits_no_window_takes_more_hosts_at_once(project: Project) -> None:
    project.edit("staging", forty)
    (miss,) = project.misses("staging").values()
    assert (miss.hosts, miss.earliest) == (82, None)
    assert miss.remedy is not None
    assert [change.remedy for change in miss.remedy] == ["batch", "batch"]


@pytest.mark.parametrize(
    ("stack", "edit"),
    [
        ("prod", lambda settings: None),
        ("staging", lambda settings: settings.update(soak="P6D")),
        ("staging", forty),
        ("prod", forty),
        ("prod", lambda settings: settings.update(soak="P20D")),
    ],
)
def test_the_preview_fails_and_passes_after_the_change_that_it_names(
    project: Project, monkeypatch: pytest.MonkeyPatch, stack: StackName, edit: Edit
) -> None:
    monkeypatch.setattr(rules, "PROJECT", project.root)
    project.edit(stack, edit)
    command = Declared(
        rules.COMMAND,
        f"{stack}-wave-preflight",
        {
            "create": f"exec patchwave wave preflight --stack {stack}",
            "environment": {
                "PATCHWAVE_STACK": stack,
                "PATCHWAVE_RELEASE": project.release.id,
                "PATCHWAVE_DIGEST": project.release.digest,
            },
        },
    )
    (rule,) = (rule for rule in RULES if rule.name == "slas-can-be-met")
    preview = Moment(MONDAY, preview=True)
    (miss,) = project.misses(stack).values()
    assert miss.remedy is not None
    (complaint,) = rules.complaints(rule, command, preview)
    assert all(str(change) in complaint for change in miss.remedy)
    for change in miss.remedy:
        project.make(change)
    assert list(rules.complaints(rule, command, preview)) == []
    assert project.misses(stack) == {}
