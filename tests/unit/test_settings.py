"""Decisions: those of both organisations keep their standard; each wrong one is refused in one line, field and fix."""

from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from patchwave.authorization.within import complaints
from patchwave.base.documents import as_document
from patchwave.base.errors import UsageError
from patchwave.calendar.update_manager import parts
from patchwave.calendar.windows import WEEKDAYS, ExtraWindow, Weekly
from patchwave.config.settings import Settings, load_stack, read_stack
from patchwave.config.standard import Envelope, StandardFreeze, load_standard
from tests.unit.builders import FIXTURE, STANDARD, copy_desk, settings, weekly
from tests.unit.changes import Change, changed

GRID = FIXTURE.parent / "grid"
BOTH = [(project, stack) for project in (FIXTURE, GRID) for stack in load_standard(project).stacks]
DEV = yaml.safe_load((FIXTURE / "Pulumi.dev.yaml").read_text(encoding="utf-8"))
RULES = yaml.safe_load((FIXTURE / "policy" / "standard.yaml").read_text(encoding="utf-8"))
GROUP = "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/g/providers/Microsoft.Compute"
SETS = f"{GROUP}/virtualMachineScaleSets"
ARC = {"service": "desk", "method": "dnf", "hosts": {"source": "arc", "tags": {"a": "b"}}}
BALANCER = {"driver": "balancer", "port": 80, "settle": "PT1S"}


def dev(change: Change) -> Settings:
    """The dev stack's settings with some changed, read from a file."""
    document = {"config": DEV["config"] | {"patchwave:settings": changed(DEV["config"]["patchwave:settings"], change)}}
    return read_stack(as_document(yaml.safe_dump(document).encode(), "Pulumi.dev.yaml")).settings


@pytest.mark.parametrize(("project", "stack"), BOTH)
def test_each_stack_of_both_organisations_keeps_its_standard(project: Path, stack: str) -> None:
    standard = load_standard(project)
    assert list(complaints(load_stack(project, stack).settings, standard, stack)) == []


def test_one_stack_may_come_before_several() -> None:
    standard = load_standard(GRID)
    assert standard.order()[0] == "qa"
    assert standard.follow("qa") == ("prod-eu", "prod-us")
    assert load_stack(GRID, "prod-eu").settings.levels() == {
        "replicas": 0, "plant": 0, "primary": 1, "edge": 2, "pages": 2
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fleets.web.hosts.live": "red"}, "fleets.web.hosts.live"),
        ({"fleets.web.hosts.instances": "2"}, "fleets.web.hosts.instances"),
        ({"fleets.web.hosts.colour": "blue"}, "there is no such key here"),
        ({"fleets.web.service": "desks"}, "fleets.web.service is 'desks': name one of services: branch, desk"),
        ({"services.idle": {"traffic": {"driver": "none"}, "health": {"checks": [{"driver": "tcp", "port": 1}]}}},
         "services.idle is run by no fleet"),
        ({"services.desk.patch_after": ["desk"]}, "services: desk after desk is a circle"),
        ({"services.desk.patch_after": ["other"]}, "services.desk.patch_after names 'other'"),
        ({"fleets.web.patch_after": ["machines"], "fleets.machines.patch_after": ["web"]}, "is a circle"),
        ({"fleets.web.rings": [{"name": "other", "hosts": "rest", "batch": 1}]}, "use names of rollout.rings"),
        ({"fleets.web.rings": []}, "rings is empty"),
        ({"fleets.north": ARC | {"hosts": {"source": "scale_set", "ids": [f"{SETS}/a"]}, "method": "apt"},
          "fleets.south": ARC | {"hosts": {"source": "scale_set", "ids": [f"{SETS.upper()}/A"]}, "method": "apt"}},
         "fleets north and south both claim"),
        ({"fleets.north": ARC | {"hosts": {"source": "scale_set", "ids": [f"{GROUP}/virtualMachines/a"]}}}, "ids.0"),
        ({"services.branch.traffic": BALANCER}, "driver balancer on fleet sites: Azure's pools hold no Arc machine"),
        ({"services.desk.units": []}, "name some in units"),
        ({"services.desk.units": ["nginx; reboot"]}, "services.desk.units.0"),
        ({"services.desk.max_unavailable": "0%"}, "services.desk.max_unavailable"),
        ({"network": None}, "network is missing: the program creates the hosts of fleet machines"),
        ({"administrators": None}, "administrators is missing"),
        ({"snapshots": None}, "snapshots is missing: fleet machines goes back by restore_point"),
        ({"maintenance": None, "fleets.sites.method": "update_manager"}, "maintenance is missing: fleet sites"),
        ({"network.address_space": "8.8.0.0/16"}, "private IPv4"),
        ({"network.subnet_id": "/x"}, "network.subnet_id"),
        ({"fleets.sites.rollback": "restore_point"}, "Azure takes none of arc hosts"),
        ({"fleets.web.method": "update_manager"}, "does not patch scale sets"),
        ({"fleets.machines.method": "image"}, "only scale sets are rolled by image"),
        ({"rollout.failure_budget": -1}, "rollout.failure_budget"),
        ({"rollout.rings": [{"name": "canary", "hosts": "20%", "batch": 1}]}, "add up to less than all hosts"),
        ({"rollout.rings": [{"name": "canary", "hosts": "rest", "batch": 1}] * 2}, "two rings are called 'canary'"),
        ({"rollout.batch_timeout": "PT2H1M"}, "rollout.batch_timeout is 121 min, the longest window lasts 120 min"),
        ({"calendar.windows": []}, "calendar.windows"),
        ({"calendar.windows.0.starts": "9 o'clock"}, "write a time of day as HH:MM"),
        ({"calendar.windows.0.zone": "Mars/Olympus"}, "not an IANA time zone"),
        ({"alerts.emails": []}, "alerts.emails"),
        ({"alerts.emails": ["nobody"]}, "alerts.emails.0"),
        ({"fleets.web.hosts.rolling.max_batch_percent": 80}, "first batch would abort"),
        ({"preflight.clock_skew": "10 s"}, "write an ISO 8601 duration such as PT2H"),
    ],
)  # fmt: skip
def test_a_wrong_decision_is_named_in_one_line(change: Change, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        dev(change)
    shown = str(caught.value)
    assert message in shown
    assert shown.startswith("Pulumi.dev.yaml:")
    assert "\n" not in shown
    assert dev({})


def test_a_refusal_names_the_line_of_its_key(tmp_path: Path) -> None:
    path = copy_desk(tmp_path) / "Pulumi.dev.yaml"
    text = path.read_text(encoding="utf-8")
    for old, new in (
        ("failure_budget: 0", "failure_budget: zero"),
        ("patch_after", ""),
        ("service: desk", "service: d"),
    ):
        wrong = text.replace(old, new, 1) if old in text else text.replace("method: apt", "method: apk", 1)
        path.write_text(wrong, encoding="utf-8")
        line = next(n for n, (a, b) in enumerate(zip(text.splitlines(), wrong.splitlines(), strict=True), 1) if a != b)
        with pytest.raises(UsageError, match=rf"Pulumi\.dev\.yaml:{line}: "):
            load_stack(tmp_path, "dev")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "config has no patchwave:settings object"),
        ("- config\n", "config has no patchwave:settings object"),
        ("config\n", "config has no patchwave:settings object"),
        ("config:\n", "Pulumi.dev.yaml:1: config has no patchwave:settings object"),
        ("config:\n  patchwave:settings:\n", "Pulumi.dev.yaml:2: patchwave:settings: write keys and values here"),
        ("config:\n  patchwave:settings: {}\n  patchwave:realease: x\n", ":3: patchwave:realease is no key of"),
        ("config:\n  patchwave:settings: {}\n  patchwave:release: 1\n", ":3: patchwave:release must be a text"),
        ("config:\n  patchwave:settings: {}\n  patchwave:waivers: W-1\n", ":3: patchwave:waivers must be a list"),
    ],
)
def test_a_stack_file_of_another_form_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (copy_desk(tmp_path) / "Pulumi.dev.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_stack(tmp_path, "dev")
    assert message in str(caught.value)


@pytest.mark.parametrize("stack", ["qa", "../dev", ""])
def test_a_stack_that_the_standard_does_not_name_is_refused_with_those_that_it_does(stack: str) -> None:
    with pytest.raises(UsageError, match=r"policy/standard\.yaml names dev, staging, prod"):
        load_stack(FIXTURE, stack)
    assert load_stack(GRID, "qa")


PLAN = "emergency.plan"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stacks.prod.promoted_from": "qa"}, "stacks.prod.promoted_from names 'qa': name one of stacks"),
        ({"stacks.dev.promoted_from": "prod"}, "is a circle of promotion"),
        ({f"{PLAN}.1.steps.1.deploys": "qa"}, "emergency.plan: step dev-tested names 'qa'"),
        ({f"{PLAN}.2.steps.2.approves": "qa"}, "emergency.plan: step approved names 'qa'"),
        ({f"{PLAN}.1.steps.1.deploys": None}, "emergency.plan deploys to dev in 0 steps"),
        ({"emergency.routine_only": ["dev"]}, "emergency.plan deploys to dev in 1 steps"),
        ({f"{PLAN}.1.steps.1.deploys": None, "emergency.routine_only": ["dev"]}, "and never to dev before"),
        ({"emergency.routine_only": ["qa"]}, "emergency.routine_only names 'qa'"),
        ({"communications.audience.qa": ["all"]}, "communications.audience names 'qa'"),
        ({"policy.qa": {}}, "policy names 'qa'"),
        ({"freezes": [{"starts": "2026-12-20T00:00Z", "ends": "2027-01-05T00:00Z", "reason": "x", "stacks": ["q"]}]},
         "freezes: 'x' names 'q'"),
        ({"stacks.dev.window.longest": "PT9H"}, "longest 9:00:00 does not fit between 09:00 and 17:00"),
        ({"stacks.prod.proof_valid": "PT1H"}, "ends before the soak"),
        ({"stacks.prod.emergency_soak": "P9D"}, "an emergency would wait longer"),
        ({"sla.0.approvers": ["Nobody"]}, "roles names nobody for Nobody"),
        ({"sla": RULES["sla"][:3]}, "give critical, high, medium, low one row each"),
        ({"stacks": {}}, "stacks"),
    ],
)  # fmt: skip
def test_a_standard_that_contradicts_itself_is_refused(tmp_path: Path, change: Change, message: str) -> None:
    path = copy_desk(tmp_path) / "policy" / "standard.yaml"
    path.write_text(yaml.safe_dump(changed(RULES, change)), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_standard(tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stack_without_an_emergency_lane_is_named_as_such(tmp_path: Path) -> None:
    plan = [
        phase | {"steps": [one for one in phase["steps"] if "prod" not in one.values()]}
        for phase in RULES["emergency"]["plan"]
    ]
    change = {"emergency.plan": plan, "emergency.routine_only": ["prod"]}
    path = copy_desk(tmp_path) / "policy" / "standard.yaml"
    path.write_text(yaml.safe_dump(changed(RULES, change)), encoding="utf-8")
    assert load_standard(tmp_path).emergency.routine_only == ("prod",)


ENVELOPES = [("22:00", "04:00"), ("20:00", "00:00"), ("00:00", "00:00"), ("09:00", "17:00"), ("23:30", "00:15")]


def envelope(earliest: str, latest: str, *days: str, longest: timedelta | None = None) -> Envelope:
    whole = Weekly(every="week", weekdays=days or WEEKDAYS)  # type: ignore[arg-type]  # a wrong day fails the test
    begin, end = time.fromisoformat(earliest), time.fromisoformat(latest)
    most = timedelta(minutes=((end.hour - begin.hour) * 60 + end.minute - begin.minute) % 1440 or 1440)
    return Envelope(recurrence=whole, earliest=begin, latest=end, longest=longest or most, zone="Etc/UTC")


@pytest.mark.parametrize(
    ("bounds", "day", "starts", "hours", "refused"),
    [
        (("22:00", "04:00"), "Monday", "22:00", 4, None),
        (("22:00", "04:00"), "Tuesday", "01:00", 3, None),
        (("22:00", "04:00"), "Monday", "01:00", 3, "recurs on Monday"),
        (("22:00", "04:00"), "Tuesday", "22:00", 1, "recurs on Tuesday"),
        (("22:00", "04:00"), "Monday", "04:00", 4, "runs 04:00-08:00: keep it within 22:00-04:00"),
        (("22:00", "04:00"), "Monday", "21:00", 2, "keep it within"),
        (("20:00", "00:00"), "Monday", "20:00", 4, None),
        (("20:00", "00:00"), "Monday", "21:00", 4, "keep it within 20:00-00:00"),
        (("09:00", "17:00"), "Monday", "17:00", 1, "keep it within"),
    ],
)  # fmt: skip
def test_a_window_is_held_against_an_envelope_over_midnight(
    bounds: tuple[str, str], day: str, starts: str, hours: int, refused: str | None
) -> None:
    window = weekly(day, starts=time.fromisoformat(starts), duration=timedelta(hours=hours))
    found = list(envelope(*bounds, "Monday").complaints(window))
    assert [refused in one for one in found if refused] == [True] * bool(refused), found
    assert bool(found) == bool(refused)


@given(
    st.sampled_from(ENVELOPES),
    st.sets(st.sampled_from(WEEKDAYS), min_size=1),
    st.sampled_from(WEEKDAYS),
    st.integers(0, 95),
    st.integers(1, 48),
)
def test_a_window_is_admitted_exactly_when_each_opening_lies_in_one_of_the_envelope(
    bounds: tuple[str, str], days: set[str], day: str, quarter: int, quarters: int
) -> None:
    allowed = envelope(*bounds, *days)
    starts = time(quarter // 4, quarter % 4 * 15)
    window = weekly(day, starts=starts, duration=timedelta(minutes=15 * quarters))
    opening = next(window.openings(datetime(2026, 11, 23, tzinfo=UTC) + timedelta(days=7)))
    around = next(allowed.whole.openings(opening.opens))
    inside = around.opens <= opening.opens and opening.closes <= around.closes
    assert (list(allowed.complaints(window)) == []) == inside


def test_an_extra_window_may_end_at_midnight_and_not_after_the_envelope() -> None:
    def extra(starts: int, hours: int) -> ExtraWindow:
        begins = datetime(2026, 11, 23, starts, tzinfo=UTC)
        return ExtraWindow(starts=begins, ends=begins + timedelta(hours=hours), reason="x")

    for bounds in ENVELOPES[:2]:
        allowed = envelope(*bounds, "Monday")
        assert list(allowed.refuses(extra(allowed.earliest.hour, 24 - allowed.earliest.hour))) == []
        assert any("lies outside" in one for one in allowed.refuses(extra(allowed.earliest.hour - 1, 2)))


def test_update_manager_is_told_of_a_night_in_parts_that_fall_on_both_days() -> None:
    night = weekly("Monday", starts=time(23), duration=timedelta(hours=4))
    first, second = parts(night, ["pilot", "everywhere"], datetime(2026, 11, 23).date())
    assert (first.schedule.recur_every, first.schedule.start_date_time) == ("1Week Monday", "2026-11-23 23:00")
    assert (second.schedule.recur_every, second.schedule.start_date_time) == ("1Week Tuesday", "2026-11-24 00:30")
    (month,) = load_stack(GRID, "prod-us").settings.calendar.windows
    late = month.model_copy(update={"starts": time(23)})
    assert (
        parts(late, ["a", "b"], datetime(2026, 11, 21).date())[1].schedule.recur_every
        == "1Month Third Saturday Offset1"
    )


GLASS = {"starts": "2026-12-01T00:00:00Z", "ends": "2026-12-01T12:00:00Z", "reason": "leak", "owner": "CISO"}
NIGHT = {
    "recurrence": {"every": "week", "weekdays": ["Monday"]},
    "starts": "02:00",
    "duration": "PT2H",
    "zone": "Etc/UTC",
}
UPGRADE = {
    "fleets.web.hosts.image.version": "latest",
    "fleets.web.hosts.image_upgrade": {"defer": True, "window": NIGHT | {"duration": "PT5H"}},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"calendar.windows": [NIGHT]}, "calendar.windows: runs 02:00-04:00: keep it within 09:00-17:00"),
        ({"calendar.extra": [{"starts": "2026-12-05T09:00:00Z", "ends": "2026-12-05T10:00:00Z", "reason": "x"}]},
         "calendar.extra: extra window 'x' lies outside"),
        (UPGRADE, "fleets.web.hosts.image_upgrade: the standard lets no image roll by itself here"),
        ({"calendar.break_glass": [GLASS]}, "calendar.break_glass: 'leak' meets no freeze"),
        ({"fleets.web.hosts.rolling.max_batch_percent": 60, "fleets.web.hosts.rolling.max_unhealthy_percent": 60},
         "fleets.web.hosts.rolling.max_batch_percent: 60 is too much: set at most 50"),
        ({"fleets.web.hosts.rolling.max_unhealthy_upgraded_percent": 21}, "set at most 20"),
    ],
)  # fmt: skip
def test_what_is_looser_than_the_standard_is_named_with_its_fix(change: Change, message: str | None) -> None:
    found = list(complaints(dev(change), STANDARD, "dev"))
    assert [message in one for one in found if message][:1] == [True] * bool(message), found


def test_a_failure_budget_is_held_against_the_hosts_that_are_created() -> None:
    own = settings("dev")
    created = own.model_copy(update={"fleets": {name: one for name, one in own.fleets.items() if name != "sites"}})
    risky = created.model_copy(update={"rollout": own.rollout.model_copy(update={"failure_budget": 1})})
    assert list(complaints(created, STANDARD, "dev")) == []
    assert "rollout.failure_budget: 1 of 5 hosts may fail" in next(complaints(risky, STANDARD, "dev"))


def test_restore_points_are_kept_until_the_release_may_go_on() -> None:
    own = settings("staging")
    assert own.snapshots is not None
    short = own.model_copy(update={"snapshots": own.snapshots.model_copy(update={"keep": timedelta(days=1)})})
    (shown,) = complaints(short, STANDARD, "staging")
    assert "snapshots.keep: 1 day, 0:00:00 is less than the soak of 2 days" in shown


def test_break_glass_may_meet_a_freeze_of_the_standard() -> None:
    glass = dev({"calendar.break_glass": [GLASS]})
    freeze = StandardFreeze(
        starts=datetime(2026, 11, 30, tzinfo=UTC), ends=datetime(2026, 12, 3, tzinfo=UTC), reason="audit"
    )
    assert list(complaints(glass, STANDARD.model_copy(update={"freezes": (freeze,)}), "dev")) == []
