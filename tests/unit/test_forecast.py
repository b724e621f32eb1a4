"""What a preview says of due times, with the tests' own standard and stack files."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from patchwave.authorization import emergency as emergencies
from patchwave.authorization import promotion
from patchwave.config.settings import load_stack
from patchwave.config.stackfile import set_waivers
from patchwave.config.standard import StackName, load_standard
from patchwave.evidence import chain as evidence
from patchwave.releases import release as releases
from patchwave.releases.advisories import NOTHING
from patchwave.releases.feeds import concerning, import_files
from patchwave.releases.release import ChangelogEntry, Release, Sealed
from patchwave.schedule.forecast import Forecast, forecast
from patchwave.schedule.solver import Change, Miss, misses
from tests.unit.builders import AUTHOR, STANDARD, make_keys, pending
from tests.unit.engine import FIXTURE
from tests.unit.test_advisories import catalog, vulnerability, write

MONDAY = datetime(2026, 11, 23, 9, tzinfo=UTC)
DAY = timedelta(days=1)
CVE = "CVE-2099-0001"
LEAD = "security-lead@dcmms.com"
VECTORS = {
    9.8: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
    7.5: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H",
    5.5: "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:N/I:N/A:H",
}

Edit = Callable[[dict[str, Any]], None]


class Project:
    """A project of its own with the tests' standard and stacks, and a release of one fix."""

    def __init__(self, root: Path, decided: Path = FIXTURE) -> None:
        self.root = root
        shutil.copytree(decided, root, dirs_exist_ok=True)
        self.release = self._sealed()
        self.keys = make_keys(root, evidence.IDENTITY, LEAD)
        shutil.copy(root / "signers", root / "policy" / "allowed_signers")

    def _sealed(self) -> Release:
        entry = ChangelogEntry(version="2-1", date=MONDAY, urgency="high", cves=(CVE,))
        update = pending("madeup", to="2-1")
        sealed = Sealed(stack="dev", at=MONDAY, hosts=("dev-blue-0",))
        made, _ = releases.seal("2026-11-23.1", AUTHOR, sealed, [update], {update.key: [entry]}, STANDARD, NOTHING)
        assert made is not None
        releases.save(self.root, made)
        return made

    def scored(self, score: float, *, exploited: bool = False) -> None:
        documents = [vulnerability(CVE, ("CVSS_V3", VECTORS[score])), *([catalog(CVE)] if exploited else [])]
        import_files(self.root, write(self.root / "exports", *documents), concerning([self.release]))

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
            elif change.field == "calendar.soak":
                settings["calendar"]["soak"] = change.value
            elif change.field.endswith(".max_unavailable"):
                settings["services"][change.field.split(".")[1]]["max_unavailable"] = int(change.value)
            else:
                *where, last = change.field.removesuffix(".batch").split(".")
                for key in where:
                    settings = settings[key]
                (ring,) = (ring for ring in settings["rings"] if last == f"rings[{ring['name']}]")
                ring["batch"] = int(change.value)

        self.edit(change.stack, edited)

    def forecast(self, stack: StackName, now: datetime = MONDAY) -> Forecast:
        file, standard = load_stack(self.root, stack), load_standard(self.root)
        return forecast(self.root, stack, file.settings, self.release, file.waivers, standard, now, {})

    def misses(self, stack: StackName, now: datetime = MONDAY) -> dict[str, Miss]:
        """What is missed, each under its line."""
        seen = self.forecast(stack, now)
        found = misses(seen.question(seen.declared(now), now))
        return {seen.line(miss): miss for miss in found}

    def waive(self, granted: datetime, expires: datetime, **scope: Any) -> None:
        """A waiver for prod, which prod's file names."""
        narrowed = {"stacks": ["prod"], "packages": ["madeup"], **scope}
        waiver = {
            "id": "W-1",
            "scope": narrowed,
            "severity": "high",
            "owner": "team@dcmms.com",
            "reason": "The vendor's agent breaks with the new library",
            "granted": granted.isoformat(),
            "expires": expires.isoformat(),
            "approved_by": [{"role": "Security Lead", "person": LEAD}],
        }
        (self.root / "waivers").mkdir()
        (self.root / "waivers" / "W-1.yaml").write_text(yaml.safe_dump(waiver), encoding="utf-8")
        set_waivers(self.root, "prod", ["W-1"])

    def succeeded(self, stack: str, at: datetime, outcome: str = "succeeded", rehearsal: Any = None) -> None:
        place = promotion.folder(self.root, stack, self.release.id)
        with evidence.Chain.open(place) as chain:
            started = {"stack": stack, "digest": self.release.digest, "rehearsal": rehearsal, "waivers": []}
            chain.append("wave-started", "run-1", started, at=at)
            chain.append("wave-ended", "run-1", {"outcome": outcome, "real_time": at.isoformat()}, at=at)
        evidence.sign(place, self.keys / evidence.IDENTITY)

    def emergency(self, at: datetime) -> None:
        """Opens the emergency lane and binds it to the release."""
        standard, signers = load_standard(self.root), self.root / "policy" / "allowed_signers"
        by = emergencies.Signer(who=LEAD, key=self.keys / LEAD, signers=signers)
        facts = emergencies.Facts(advisory=CVE, cvss=9.8, exploit="seen", affects="all hosts", disclosed=at)
        folder = emergencies.home(self.root) / emergencies.open_(self.root, facts, standard.emergency.criteria, by, at)
        (names,) = (step.id for step in standard.emergency.steps if step.release)
        bound = {"release": self.release.id, "digest": self.release.digest}
        emergencies.step(folder, emergencies.read(folder, signers, at), names, bound, by, at)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_high_fix_misses_prods_monthly_window_and_a_window_on_saturday_would_do(project: Project) -> None:
    (line,) = project.misses("prod")
    assert line == (
        "madeup/2-1 (CVE-2099-0001) on 15 hosts cannot be met: due Mon 2026-11-30 09:00 UTC, "
        "next admissible end Sun 2026-12-13 03:05 UTC, +306.1 h: "
        "add the window 2026-11-28T02:00:00Z/2026-11-28T03:05:00Z to calendar.extra in Pulumi.prod.yaml"
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


def test_what_is_waived_everywhere_is_missed_nowhere_and_later_its_time_is_left_out(project: Project) -> None:
    project.waive(MONDAY, MONDAY + 19 * DAY)
    assert project.misses("prod") == {}
    project.succeeded("staging", MONDAY + 2 * DAY)
    assert project.misses("prod", MONDAY + 19 * DAY) == {}  # the waiver is over, prod opens on the day after
    (line,) = project.misses("prod", MONDAY + 20 * DAY)
    assert "due Sat 2026-12-19 09:00 UTC" in line  # 7 days, and the 19 that it was waived


def test_a_waiver_for_some_hosts_excuses_the_others_from_nothing(project: Project) -> None:
    project.waive(MONDAY, MONDAY + 20 * DAY, hosts=["prod-blue-0"])
    assert len(project.misses("prod")) == 1


def test_what_is_exploited_may_take_the_emergency_lane_and_is_met_in_it(project: Project) -> None:
    project.scored(9.8, exploited=True)
    (miss,) = project.misses("prod").values()
    assert miss.remedy is not None
    assert [change.remedy for change in miss.remedy] == ["emergency"]
    project.emergency(MONDAY)
    assert project.misses("prod") == {}


@pytest.mark.parametrize("fault", [None, "unsigned", "rolled-back", "rehearsed"])
def test_only_what_is_proved_need_not_be_gone_through_again(project: Project, fault: str | None) -> None:
    outcome = "rolled-back" if fault == "rolled-back" else "succeeded"
    project.succeeded("dev", MONDAY, outcome=outcome, rehearsal={} if fault == "rehearsed" else None)
    if fault == "unsigned":
        (promotion.folder(project.root, "dev", project.release.id) / evidence.SIGNATURE).unlink()
    wednesday = MONDAY + 2 * DAY + timedelta(hours=1)  # a wave on dev now would have to soak over staging's window
    assert bool(project.misses("staging", wednesday)) == (fault is not None)


def test_what_dev_and_staging_have_proved_is_not_waited_for_again(project: Project) -> None:
    project.succeeded("dev", MONDAY)
    project.succeeded("staging", MONDAY + DAY)
    (miss,) = project.misses("prod", MONDAY + DAY).values()
    assert miss.remedy is not None
    (change,) = miss.remedy
    assert change.value.startswith("2026-11-28T02:00:00Z")
    assert next(iter(project.misses("prod", datetime(2026, 12, 13, 1, tzinfo=UTC)))).endswith("would do")


def test_a_longer_soak_than_the_standards_is_the_first_to_be_shortened(project: Project) -> None:
    project.edit("staging", soaking("P6D"))
    (miss,) = project.misses("staging").values()
    assert miss.remedy == (Change("soak", "staging", "calendar.soak", "PT53H"),)


def soaking(span: str) -> Edit:
    return lambda settings: settings["calendar"].update(soak=span)


def forty(settings: dict[str, Any]) -> None:
    settings["fleets"]["web"]["hosts"]["instances"] = 40


def test_a_wave_that_fits_no_window_takes_more_hosts_at_once(project: Project) -> None:
    project.edit("staging", forty)
    (miss,) = project.misses("staging").values()
    assert (miss.hosts, miss.earliest) == (82, None)
    assert miss.remedy is not None
    assert [change.remedy for change in miss.remedy] == ["batch", "batch"]


def test_a_stack_waits_for_those_that_it_is_promoted_from_and_for_no_other(tmp_path: Path) -> None:
    project = Project(tmp_path, FIXTURE.parent / "grid")
    for stack in ("prod-eu", "prod-us"):
        assert [wave.stack for wave in project.forecast(stack).before.waves] == ["qa"]
    project.succeeded("qa", MONDAY)
    assert project.forecast("prod-eu", MONDAY + DAY).before == ((), MONDAY)


def test_services_and_fleets_are_waited_for_in_their_order_with_counts_of_their_own(tmp_path: Path) -> None:
    seen = Project(tmp_path, FIXTURE.parent / "grid").forecast("prod-eu")
    wave = seen.question(seen.declared(MONDAY), MONDAY).waves[-1]
    order = [(group.hosts[0].ring, sorted({host.fleet for host in group.hosts})) for group in wave.groups]
    assert order == [
        ("pilot", ["replicas"]),
        ("pilot", ["plant"]),
        ("pilot", ["edge", "pages"]),
        ("everywhere", ["primary"]),
        ("everywhere", ["edge"]),
    ]
    fields = {limit.field: limit.value for limit in wave.limits}
    assert fields["services.site.max_unavailable"] == 1  # a quarter of the two live ones
    assert [wave.limits[number].field for number in wave.groups[3].batch] == ["fleets.primary.rings[everywhere].batch"]
    assert [wave.limits[number].field for number in wave.groups[4].batch] == ["rollout.rings[everywhere].batch"]


def own_rings(settings: dict[str, Any]) -> None:
    forty(settings)
    settings["fleets"]["web"]["rings"] = [
        {"name": "canary", "hosts": "10%", "batch": 1},
        {"name": "rest", "hosts": "rest", "batch": 3},
    ]


def two_services(settings: dict[str, Any]) -> None:
    """The machines run a service of their own, which is patched before the other."""
    forty(settings)
    settings["services"]["store"] = {**settings["services"]["desk"], "max_unavailable": "25%", "gates": []}
    settings["services"]["desk"]["patch_after"] = ["store"]
    settings["fleets"]["machines"]["service"] = "store"


@pytest.mark.parametrize(
    ("stack", "edit"),
    [
        ("prod", lambda settings: None),
        ("staging", soaking("P6D")),
        ("staging", forty),
        ("staging", own_rings),
        ("staging", two_services),
        ("prod", forty),
        ("prod", soaking("P20D")),
    ],
)
def test_nothing_is_missed_after_the_changes_that_are_named(project: Project, stack: StackName, edit: Edit) -> None:
    project.edit(stack, edit)
    (miss,) = project.misses(stack).values()
    assert miss.remedy
    for change in miss.remedy:
        project.make(change)
    assert project.misses(stack) == {}
