"""Each own rule refuses what it is for and admits its neighbour; over the program itself all are silent."""

import itertools
import shutil
import timeit
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulumi_policy.proxy import UnknownValueError, unknown_checking_proxy

from components import wave as program
from patchwave.authorization import permission
from patchwave.authorization.permission import Aspect
from patchwave.base import clock
from patchwave.base.errors import PatchwaveError, Refused
from patchwave.config.settings import STACKS, load_stack
from patchwave.config.stackfile import set_waivers
from patchwave.config.standard import load_standard
from patchwave.releases import release as releases
from policy import pack, wave
from policy import rule as rules
from policy.declared import Declared
from policy.rule import CannotRun, Context
from tests import reference
from tests.unit.changes import changed
from tests.unit.engine import PROJECT, declare_stack
from tests.unit.policy_cases import (
    CASES,
    CLOSED,
    OPEN,
    PROD,
    SEALED,
    WHOLE_WAVE,
    Case,
    Scene,
    approved,
    asked,
    attached,
    edit,
    keys,
    proved,
    says,
    shown,
    taken_back,
    waiver,
    world,
)
from tests.unit.test_service_rules import JSON, previewed

KEPT = "records-are-kept"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cases")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return world(tmp_path)


def here(project: Path, stack: str = "dev", now: datetime = OPEN, *, preview: bool = False) -> Context:
    return Context(project, stack, now, preview)


def preflight(stack: str = "dev", **environment: str) -> Declared:
    case = Case("waves-bring-what-is-sealed", Scene(), stack=stack)  # type: ignore[arg-type]  # a wrong one fails
    found = shown(case, Scene({f"environment.{name}": value for name, value in environment.items()}))
    assert isinstance(found, Declared)
    return found


def complaints(name: str, declared: Declared, context: Context) -> list[str]:
    wave._decision.cache_clear()  # which a project's files may have outlived
    return asked(pack.BY_NAME[name], declared, context)


def test_every_own_rule_has_a_case_and_every_case_a_rule() -> None:
    assert {case.rule for case in CASES} == {rule.name for rule in pack.OWN_RULES}


def test_a_name_means_one_rule() -> None:
    assert len(pack.BY_NAME) == len(pack.RULES)
    assert len(pack.OWN_RULES) >= 30


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_a_rule_refuses_its_example_with_the_mend_and_admits_the_neighbour(case: Case, folder: Path) -> None:
    found = says(case, case.refused, folder)
    assert found != []
    assert all(": " in complaint and "\n" not in complaint for complaint in found)
    assert says(case, case.admitted, folder) == []


def declared(stack: str, project: Path, release: str | None) -> list[Declared]:
    """The program as it stands in a project; the stack's other commands have all that they wait for."""
    shutil.copy(PROJECT / "__main__.py", project / "__main__.py")
    return [Declared(d.type, d.name, d.props) for d in declare_stack(stack, release, project=project)]


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("release", [None, SEALED.id])
def test_the_program_itself_is_refused_by_no_rule(stack: str, release: str | None, project: Path) -> None:
    keys(project)
    if release:
        proved(project, "dev", OPEN - timedelta(days=10))
        attached(project, "dev", "functional-tests", OPEN - timedelta(days=9))
        if stack == "prod":
            proved(project, "staging", PROD - timedelta(days=10))
            attached(project, "staging", "integration-tests", PROD - timedelta(days=9))
            approved(project)
    now = {"dev": OPEN, "staging": OPEN + timedelta(days=2, hours=5), "prod": PROD}[stack]
    found = {}
    resources = declared(stack, project, release)
    for rule in pack.RULES:
        how = pack.enforced(rule, here(project, stack, now), {})
        seen: list[Any] = [one for one in resources if one.type in rule.types] if rule.types else []
        if rule.name == "waves-go-ring-by-ring":  # the mock engine keeps no dependencies
            continue
        for one in seen if rule.types else [resources]:
            if how.mode == "mandatory" and (said := asked(rule, one, here(project, stack, now))):
                found[rule.name] = said
    assert found == {}
    assert any(one.type == wave.COMMAND for one in resources) == (release is not None)


UNKNOWN_IN_A_FIRST_PREVIEW = {
    "images-are-pinned",  # the gallery is named by the id of the group
    "contributors-are-of-one-resource",
}


@pytest.mark.parametrize("stack", STACKS)
def test_a_first_preview_keeps_few_rules_from_running(stack: str) -> None:
    waiting = set()
    for one in declare_stack(stack):
        props = unknown_checking_proxy(previewed(one.props, f"patchwave-{stack}"))
        for rule in pack.RULES:
            if one.type in rule.types:
                try:
                    asked(rule, Declared(one.type, one.name, props), here(PROJECT, stack, preview=True))
                except UnknownValueError:
                    waiting.add(rule.name)
    assert waiting <= UNKNOWN_IN_A_FIRST_PREVIEW


def test_a_command_that_is_no_wave_may_hold_anything_that_only_an_update_knows() -> None:
    unknown = unknown_checking_proxy(previewed({"create": "GROUP", "environment": {"A": "GROUP"}}, "GROUP"))
    waits = set()
    for rule in pack.RULES:
        if wave.COMMAND in rule.types:
            try:
                assert asked(rule, Declared(wave.COMMAND, "any", unknown), here(PROJECT, preview=True)) == []
            except UnknownValueError:
                waits.add(rule.name)
    assert waits == {"waves-name-what-they-run"}


def places(value: Any, above: str = "") -> list[str]:
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, one in inner for path in (f"{above}{key}", *places(one, f"{above}{key}."))]


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world(tmp_path_factory.mktemp("untouched"))


@given(data=st.data(), value=JSON)
def test_whatever_a_resource_holds_its_rules_can_tell(data: st.DataObject, value: Any, untouched: Path) -> None:
    case = data.draw(st.sampled_from([case for case in CASES if pack.BY_NAME[case.rule].types]))
    rule = pack.BY_NAME[case.rule]
    base = shown(case, Scene())
    assert isinstance(base, Declared)
    path = data.draw(st.sampled_from(places(base.props) or ["any"]))
    told = base._replace(props=changed(base.props, {path: value}))
    try:
        list(rule.check(told, here(untouched, case.stack), **pack.enforced(rule, here(untouched), {}).parameters))
    except PatchwaveError:  # the project lacks what is named
        assert case.rule.startswith("waves-") or case.rule in ("emergencies-follow-their-plan", *LATE)


LATE = ("slas-can-be-met", "missed-slas-are-named")


def test_what_is_neither_proved_nor_approved_is_refused_inside_its_window_for_both(project: Path) -> None:
    inside = here(project, "prod", PROD)
    assert complaints("waves-start-in-an-open-window", preflight("prod"), inside) == []
    (unproved,) = complaints("waves-bring-what-the-stack-before-proved", preflight("prod"), inside)
    (unapproved,) = complaints("waves-have-their-quorum", preflight("prod"), inside)
    assert "has no evidence from staging" in unproved
    assert "normal approval is missing from Security Lead" in unapproved


def test_a_wave_that_has_succeeded_is_no_reason_to_refuse(project: Path) -> None:
    proved(project, "dev", OPEN)
    assert complaints("waves-start-in-an-open-window", preflight(), here(project, now=CLOSED)) == []
    other = preflight(PATCHWAVE_DIGEST="e" * 64)
    assert complaints("waves-start-in-an-open-window", other, here(project, now=CLOSED)) != []


def test_a_rule_of_permission_only_warns_in_a_preview_and_no_other_does() -> None:
    softer = {rule.name for rule in pack.RULES if rule.enforced("mandatory", preview=True) != "mandatory"}
    assert softer == {name for about, name in RULE_OF.items() if about != "waivers"}
    assert all(rule.enforced(mode, preview=True) == mode for rule in pack.RULES for mode in ("advisory", "disabled"))


RULE_OF: dict[Aspect, str] = {
    "calendar": "waves-start-in-an-open-window",
    "quarantine": "waves-bring-nothing-from-quarantine",
    "promotion": "waves-bring-what-the-stack-before-proved",
    "criteria": "waves-meet-the-criteria-before-them",
    "waivers": "waves-rely-on-waivers-that-count",
    "approvals": "waves-have-their-quorum",
    "emergency": "emergencies-follow-their-plan",
}


def test_every_aspect_of_a_permission_has_its_rule() -> None:
    assert set(RULE_OF) == set(get_args(Aspect))
    assert set(RULE_OF.values()) <= set(pack.BY_NAME)


def decided(project: Path, stack: Any, now: datetime) -> permission.Decision:
    settings = load_stack(project, stack).settings
    needs, chosen = settings.rollout.host_takes, releases.load(project, SEALED.id)
    return permission.decide(permission.gather(project, stack, chosen, settings.calendar, needs=needs, at=now))


FAULTS = ("closed", "unproved", "untested", "taken back", "unapproved", "expired waiver")
"""What is untested and unproved at once is only unproved: there is no run to judge."""


@pytest.mark.parametrize("count", range(len(FAULTS) + 1))
def test_rules_and_hook_refuse_together_and_for_the_reasons_of_the_decision(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARM_ENDPOINT", "https://127.0.0.1:1")
    for number, faults in enumerate(itertools.combinations(FAULTS, count)):
        project = world(tmp_path / str(number))
        prepare(project, faults)
        now = PROD - timedelta(days=1) if "closed" in faults else PROD
        expected = decided(project, "prod", now)
        found = {
            (about, why)
            for about, name in RULE_OF.items()
            for why in complaints(name, preflight("prod"), here(project, "prod", now))
        }
        assert found == {(refusal.about, refusal.why) for refusal in expected.refusals}
        assert bool(found) == bool(faults)
        monkeypatch.setenv(clock.SHIFT, str(round((now - datetime.now(now.tzinfo)).total_seconds()) + 5))
        assert hook_refuses(project) == bool(faults)


def prepare(project: Path, faults: tuple[str, ...]) -> None:
    """A wave of prod that is allowed but for its faults."""
    keys(project)
    if "unproved" not in faults:
        proved(project, "staging", PROD - timedelta(days=10))
        if "untested" not in faults:
            attached(project, "staging", "integration-tests", PROD - timedelta(days=9))
    if "unapproved" not in faults:
        approved(project)
    if "taken back" in faults:
        taken_back(project)
    if "expired waiver" in faults:
        edit(project, "waivers/W-1.yaml", waiver("2026-12-01T09:00:00Z"))
        set_waivers(project, "prod", ["W-1"])


def hook_refuses(project: Path) -> bool:
    guard = program._guard(project, "prod", load_stack(project, "prod").settings, releases.load(project, SEALED.id))
    try:
        guard(None)  # type: ignore[arg-type]  # it asks for nothing of what is about to run
    except Refused:
        return True
    return False


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({KEPT: {"parameters": {"days": 100}}}, "policy/standard.yaml: records-are-kept: days: Extra inputs"),
        ({KEPT: {"parameters": {"at_least_days": 29}}}, "at_least_days: Input should be greater than or equal to 30"),
        ({KEPT: {"parameters": {"at_least_days": "x"}}}, "at_least_days: Input should be a valid integer"),
        ({"records-are-burnt": {"mode": "advisory"}}, "policy: there is no rule records-are-burnt: see docs/rules.md"),
    ],
)
def test_a_standard_that_asks_for_what_is_not_there_refuses(project: Path, choice: Any, says: str) -> None:
    edit(project, "policy/standard.yaml", {"policy.dev": choice})
    with pytest.raises(CannotRun, match=r"^the rule cannot run, so it refuses: policy/standard\.yaml: ") as caught:
        pack.enforced(pack.BY_NAME[KEPT], here(project), {})
    assert says in str(caught.value)


def test_a_stack_has_its_own_mode_and_parameters_and_the_run_goes_before_them(project: Path) -> None:
    choice = {KEPT: {"mode": "advisory", "parameters": {"at_least_days": 60}}}
    edit(project, "policy/standard.yaml", {"policy.dev": choice})
    rule = pack.BY_NAME[KEPT]
    assert pack.enforced(rule, here(project), {}) == ("advisory", {"at_least_days": 60})
    assert pack.enforced(rule, here(project, "staging"), {}) == ("mandatory", {"at_least_days": 30})
    assert pack.enforced(rule, here(project, "anything"), {}) == ("mandatory", {"at_least_days": 30})
    run: pack.Asked = {KEPT: ("mandatory", {"at_least_days": 90.0})}
    assert pack.enforced(rule, here(project), run) == ("mandatory", {"at_least_days": 90})


def test_every_rule_that_the_standard_names_is_there_and_takes_its_parameters() -> None:
    for stack in STACKS:
        for rule in pack.RULES:
            pack.enforced(rule, here(PROJECT, stack), {})
    assert load_standard(PROJECT).policy


def test_a_rule_that_raises_refuses_and_says_so_on_one_line(project: Path) -> None:
    releases.path_of(project, SEALED.id).unlink()
    with pytest.raises(CannotRun, match=r"cannot run, so it refuses: .*2026-11-23\.1\.json is missing") as caught:
        complaints("waves-start-in-an-open-window", preflight(), here(project))
    assert "\n" not in str(caught.value)


def test_a_resource_is_judged_by_all_rules_in_half_a_millisecond() -> None:
    resources = [Declared(d.type, d.name, d.props) for d in declare_stack("prod") if d.type.startswith("azure-native:")]
    context = here(PROJECT, "prod")
    of_type = {
        one.type: [(rule, pack.enforced(rule, context, {})) for rule in pack.RULES if one.type in rule.types]
        for one in resources
    }

    def judge() -> None:
        for one in resources:
            for rule, how in of_type[one.type]:
                rules.complaints(rule, one, context, how.parameters)

    assert min(timeit.repeat(judge, number=1, repeat=20)) / len(resources) < 0.0005


def test_a_rule_is_named_described_and_parametrised_by_its_function() -> None:
    for rule in pack.OWN_RULES:
        assert rule.description.endswith(".")
        assert "\n" not in rule.description
        assert set(rule.parameters.model_fields) == set(pack.enforced(rule, here(PROJECT, "any"), {}).parameters)
        assert all(field.default is not None for field in rule.parameters.model_fields.values())


@pytest.mark.parametrize(
    ("at_least", "days", "refused"), [(30, 30.0, False), (31, 30.0, True), (365, 364, True), (365, 730, False)]
)
def test_a_parameter_decides(at_least: int, days: float, refused: bool) -> None:
    workspace = Declared("azure-native:operationalinsights:Workspace", "w", {"retentionInDays": days})
    found = list(pack.BY_NAME[KEPT].check(workspace, here(PROJECT), at_least_days=at_least))
    assert bool(found) == refused


def test_a_variable_that_the_stack_allows_need_not_be_a_secret() -> None:
    rule = pack.BY_NAME["environments-hold-only-marked-secrets"]
    command = Declared(wave.COMMAND, "run", {"environment": {"PUBLIC_TOKEN": "not-secret-at-all"}})
    assert list(rule.check(command, here(PROJECT))) != []
    assert list(rule.check(command, here(PROJECT), allowed=("PUBLIC_TOKEN",))) == []


def test_the_program_declares_the_wave_that_the_cases_are_made_of(project: Path) -> None:
    commands = [one.props["create"] for one in declared("dev", project, SEALED.id) if one.type == wave.COMMAND]
    assert sorted(commands) == sorted(one["props"]["create"] for one in WHOLE_WAVE.values())


def test_the_reference_page_is_up_to_date() -> None:
    assert (PROJECT / "docs" / "rules.md").read_text(encoding="utf-8") == reference.page()


def test_a_preview_says_once_what_a_wave_lacks_and_an_update_before_each_command(project: Path) -> None:
    first = preflight()
    later = first._replace(props=changed(first.props, {"create": "exec patchwave wave prove --stack dev"}))
    for preview, counts in ((True, [1, 0]), (False, [1, 1])):
        context = here(project, now=CLOSED, preview=preview)
        assert [len(complaints("waves-start-in-an-open-window", one, context)) for one in (first, later)] == counts
