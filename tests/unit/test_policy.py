"""Each own check refuses what it is for and admits its neighbour; over the program itself all are silent."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulumi_policy import (
    EnforcementLevel,
    PolicyResource,
    PolicyResourceOptions,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.policy import PolicyCustomTimeouts
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, UnknownValueError, unknown_checking_proxy

from patchwave.authorization.promotion import folder as evidence_of
from patchwave.base import clock
from patchwave.config.standard import load_standard
from policy import judge
from policy.check import Context, check
from policy.declared import STACK, Declared
from policy.hosts import MACHINE, SCALE_SET
from policy.judge import CHECKS, enforced
from policy.pack import policies
from policy.topics import ADVICE, TOGETHER, TOPICS
from tests import reference
from tests.unit.builders import STANDARD
from tests.unit.changes import changed
from tests.unit.engine import PROJECT, declare_stack
from tests.unit.policy_cases import (
    CASES,
    OPEN,
    PROD,
    SEALED,
    Case,
    Scene,
    approved,
    attached,
    declared_by_the_program,
    edit,
    keys,
    proved,
    released,
    says,
    shown,
    urn,
    world,
)
from tests.unit.test_service_rules import JSON, previewed

KEPT = "records-are-kept"
OWN = [one for one in CHECKS.values() if not one.general]
OPTIONS = PolicyResourceOptions(False, [], None, [], PolicyCustomTimeouts(0, 0, 0), [], None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cases")


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world(tmp_path_factory.mktemp("untouched"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return world(tmp_path)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the time by which the pack judges."""

    def set_time(now: datetime) -> None:
        monkeypatch.setattr(clock, "now", lambda: now)

    set_time(OPEN)
    return set_time


def of_ours(type_: str, props: Mapping[str, Any], stack: str = "prod", name: str = "any") -> Declared:
    return Declared(type_, name, props, urn(stack, type_, name))


def of_others(type_: str, props: Mapping[str, Any]) -> Declared:
    return Declared(type_, "any", props, f"urn:pulumi:playground::others::{type_}::any")


def judged(
    project: Path,
    resources: Sequence[Declared],
    config: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    preview: bool = False,
) -> dict[str, list[str]]:
    """What each policy of the pack reports, called as the library calls it."""
    found: dict[str, list[str]] = {}
    for policy in policies(project, preview=preview):
        said: list[str] = []
        report = lambda message, urn, said=said: said.append(message)  # noqa: E731
        own = (config or {}).get(policy.name)
        if isinstance(policy, ResourceValidationPolicy):
            for one in resources:
                policy.validate(
                    ResourceValidationArgs(one.type, one.props, one.urn, one.name, OPTIONS, None, own), report
                )
        elif isinstance(policy, StackValidationPolicy):
            everything = [
                PolicyResource(o.type, o.props, o.urn, o.name, OPTIONS, None, None, [], {}) for o in resources
            ]
            policy.validate(StackValidationArgs(everything, own), report)
        if said:
            found[policy.name] = said
    return found


def test_every_own_check_has_a_case_and_every_case_a_check() -> None:
    assert {case.check for case in CASES} == {one.name for one in OWN}


def test_a_policy_is_a_topic_with_checks_and_a_parameter_of_a_topic_means_one_check() -> None:
    named = {policy.name for policy in policies(PROJECT, preview=True)}
    assert named == {*TOPICS, ADVICE, TOGETHER} == {one.topic for one in CHECKS.values()} | {ADVICE}
    for topic in TOPICS:
        parameters = [name for one in judge.of_topic(topic) for name in one.parameters.model_fields]
        assert len(parameters) == len(set(parameters))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.check)
def test_a_check_refuses_its_example_with_the_fix_and_admits_the_neighbour(case: Case, folder: Path) -> None:
    refused = says(case, case.refused, folder)
    assert refused != []
    assert all(one.startswith(f"{case.check}: ") and one.count(": ") > 1 and "\n" not in one for one in refused)
    assert says(case, case.admitted, folder) == []


def everything(stack: str, release: bool) -> list[Declared]:
    """The program as it stands; its root component has the sealed release, if any."""
    inputs = released(stack) | ({} if release else {"release": None})
    return [
        of_ours(one.type, one.props | (inputs if one.type == STACK else {}), stack, one.name)
        for one in declare_stack(stack)
    ]


@pytest.mark.parametrize("stack", STANDARD.stacks)
@pytest.mark.parametrize("release", [False, True])
def test_the_program_itself_is_refused_by_no_check(stack: str, release: bool, project: Path, at: Any) -> None:
    keys(project)
    if release:
        proved(project, "dev", OPEN - timedelta(days=10))
        attached(project, "dev", "functional-tests", OPEN - timedelta(days=9))
        if stack == "prod":
            proved(project, "staging", PROD - timedelta(days=10))
            attached(project, "staging", "integration-tests", PROD - timedelta(days=9))
            approved(project)
    at({"dev": OPEN, "staging": OPEN + timedelta(days=2, hours=5), "prod": PROD}[stack])
    found = judged(project, everything(stack, release))
    assert set(found) == (set() if release else {ADVICE})
    assert all("stacks-name-a-release" in one for one in found.get(ADVICE, ()))


UNKNOWN_IN_A_FIRST_PREVIEW = {
    "images-are-pinned",  # the gallery is named by the id of the group
    "contributors-are-of-one-resource",
}


@pytest.mark.parametrize("stack", STANDARD.stacks)
def test_a_first_preview_keeps_few_checks_from_running(stack: str, untouched: Path) -> None:
    waiting, context = set(), Context(untouched, OPEN, preview=True)
    for one in everything(stack, release=False):
        props = unknown_checking_proxy(previewed(one.props, f"patchwave-{stack}"))
        for own in CHECKS.values():
            if one.type in own.types:
                try:
                    own.complaints(one._replace(props=props), context, enforced(own, context, stack, {}).parameters)
                except UnknownValueError:
                    waiting.add(own.name)
    assert waiting <= UNKNOWN_IN_A_FIRST_PREVIEW


def test_what_is_not_known_yet_keeps_no_other_check_of_the_policy_from_running(untouched: Path, at: Any) -> None:
    props = {"upgradePolicy": {"mode": "Manual"}, "virtualMachineProfile": UNKNOWN_STRING_VALUE}
    said: list[str] = []
    policy = next(one for one in policies(untouched, preview=True) if one.name == "scale-sets")
    assert isinstance(policy, ResourceValidationPolicy)
    one = of_ours(SCALE_SET, unknown_checking_proxy(props))
    with pytest.raises(UnknownValueError) as caught:
        policy.validate(
            ResourceValidationArgs(one.type, one.props, one.urn, one.name, OPTIONS, None),
            lambda message, urn: said.append(message),
        )
    assert caught.value.message.startswith(
        "scale-sets-watch-application-health: string value at .virtualMachineProfile"
    )
    assert any(one.startswith("scale-sets-upgrade-in-batches: upgradePolicy.mode is 'Manual'") for one in said)


def places(value: Any, above: str = "") -> list[str]:
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, one in inner for path in (f"{above}{key}", *places(one, f"{above}{key}."))]


@given(data=st.data(), value=JSON)
def test_whatever_a_resource_holds_no_check_has_a_defect(data: st.DataObject, value: Any, untouched: Path) -> None:
    case = data.draw(st.sampled_from([case for case in CASES if CHECKS[case.check].types]))
    one = shown(case, Scene())
    assert isinstance(one, Declared)
    path = data.draw(st.sampled_from(places(one.props) or ["any"]))
    own, context = CHECKS[case.check], Context(untouched, OPEN, preview=False)
    found = own.complaints(
        one._replace(props=changed(one.props, {path: value})), context, enforced(own, context, "any", {}).parameters
    )
    assert not any("this is a defect" in complaint for complaint in found)


def test_of_somebody_elses_program_only_azures_own_rules_hold(untouched: Path, at: Any) -> None:
    bad = {"upgradePolicy": {"mode": "Sometimes"}, "sku": {"name": "B", "capacity": 2}}
    found = judged(untouched, [of_others(SCALE_SET, bad)])
    assert found == {
        "scale-sets": ["scale-sets-upgrade-in-a-known-mode: upgradePolicy.mode is 'Sometimes': set Rolling"],
    }


def test_what_carries_the_tag_is_held_to_the_standard_and_what_it_leaves_out_is_wrong(untouched: Path, at: Any) -> None:
    tagged = of_others(MACHINE, {"tags": {"patchwave-stack": "prod"}})
    found = judged(untouched, [tagged])
    names = {complaint.partition(":")[0] for said in found.values() for complaint in said}
    assert names == {
        "hosts-can-be-found",
        "hosts-are-entered-by-key",
        "images-are-pinned",
        "hosts-are-not-patched-unattended",
    }
    strange = tagged._replace(props={"tags": {"patchwave-stack": "qa"}})
    assert any("'qa', which is no stack of the standard" in one for one in judged(untouched, [strange])["tags"])


def test_permission_warns_in_a_preview_and_refuses_in_an_update_and_advice_never_refuses() -> None:
    for preview, level in ((True, EnforcementLevel.ADVISORY), (False, EnforcementLevel.MANDATORY)):
        levels = {policy.name: policy.enforcement_level for policy in policies(PROJECT, preview=preview)}
        assert levels.pop("permission") == level
        assert levels.pop(ADVICE) == EnforcementLevel.ADVISORY
        assert set(levels.values()) == {EnforcementLevel.MANDATORY}


def test_a_preview_names_every_reason_against_a_wave_and_when_the_next_window_opens(project: Path, at: Any) -> None:
    at(PROD - timedelta(days=1))
    said = judged(project, [declared_by_the_program("prod")["Stack"]], preview=True)["permission"]
    assert [one.split(", ")[0] for one in said] == [
        f"waves-are-permitted: {about}" for about in ("calendar", "promotion", "approvals")
    ]
    assert "run again at Sun 2026-12-13 02:00 UTC, when the next window opens" in said[0]


def test_a_wave_that_has_succeeded_needs_no_permission(project: Path, at: Any) -> None:
    at(OPEN - timedelta(days=1))
    stack = declared_by_the_program("dev")["Stack"]
    assert "permission" in judged(project, [stack])
    proved(project, "dev", OPEN - timedelta(days=1))
    assert evidence_of(project, "dev", SEALED.id).exists()
    assert "permission" not in judged(project, [stack])
    other = stack._replace(props=changed(stack.props, {"release.digest": "e" * 64}))
    assert "permission" in judged(project, [other])


def test_settings_that_cannot_be_read_are_refused_once(untouched: Path, at: Any) -> None:
    stack = declared_by_the_program("dev")["Stack"]
    found = judged(untouched, [stack._replace(props=changed(stack.props, {"settings.calendar.window": []}))])
    ((topic, said),) = found.items()
    assert topic == "settings"
    assert len(said) == 1
    assert said[0].startswith("settings-keep-within-the-standard: cannot be checked: Stack: settings.calendar.window: ")


def test_numbers_as_the_engine_passes_them_are_those_that_were_declared(untouched: Path, at: Any) -> None:
    def passed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: passed(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [passed(inner) for inner in value]
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    stack = declared_by_the_program("dev")["Stack"]
    props = unknown_checking_proxy(passed(changed(stack.props, {})))
    assert judged(untouched, [stack._replace(props=props)]) == {}


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({KEPT: {"parameters": {"days": 100}}}, "policy/standard.yaml: records-are-kept: days: "),
        ({KEPT: {"parameters": {"at_least_days": 29}}}, "records-are-kept: at_least_days: "),
        ({KEPT: {"parameters": {"at_least_days": "x"}}}, "records-are-kept: at_least_days: "),
        ({"records-are-burnt": {"mode": "advisory"}}, "policy: there is no check records-are-burnt: see docs/rules.md"),
    ],
)
def test_a_standard_that_names_what_is_not_there_refuses(project: Path, choice: Any, says: str, at: Any) -> None:
    edit(project, "policy/standard.yaml", {"policy.dev": choice})
    said = judged(project, [of_ours("azure-native:operationalinsights:Workspace", {"retentionInDays": 60}, "dev")])
    assert says in said["monitoring"][0]


def test_a_stack_has_its_own_mode_and_parameters_and_the_run_goes_before_them(project: Path, at: Any) -> None:
    edit(
        project,
        "policy/standard.yaml",
        {"policy.dev": {KEPT: {"mode": "advisory", "parameters": {"at_least_days": 60}}}},
    )

    def kept(stack: str, config: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, list[str]]:
        one = of_ours("azure-native:operationalinsights:Workspace", {"retentionInDays": 59.0}, stack)
        return judged(project, [one], config)

    assert kept("dev") == {ADVICE: ["records-are-kept: retentionInDays is 59: keep at least 60"]}
    assert kept("staging") == {}
    run = {"monitoring": {"at_least_days": 90.0}, ADVICE: {"at_least_days": 90.0}}
    assert judged(project, [declared_by_the_program("prod")["ActionGroup"]], run) == {}
    assert kept("staging", run) == {"monitoring": ["records-are-kept: retentionInDays is 59: keep at least 90"]}
    assert kept("dev", run) == {ADVICE: ["records-are-kept: retentionInDays is 59: keep at least 90"]}
    edit(project, "policy/standard.yaml", {"policy.dev": {KEPT: {"mode": "disabled"}}})
    load_standard.cache_clear()
    assert kept("dev", {}) == {}


def test_a_parameter_of_the_run_that_no_check_has_refuses(untouched: Path, at: Any) -> None:
    one = of_ours("azure-native:operationalinsights:Workspace", {"retentionInDays": 60})
    said = judged(untouched, [one], {"monitoring": {"days": 90}})
    assert said == {
        "monitoring": [
            "monitoring: the run's policy configuration: monitoring has no parameter days: see docs/rules.md"
        ]
    }


def test_every_check_that_the_standard_of_this_project_names_is_there_and_takes_its_parameters() -> None:
    context = Context(PROJECT, OPEN, preview=False)
    for stack in load_standard(PROJECT).stacks:
        for one in CHECKS.values():
            enforced(one, context, stack, {})


def test_a_defect_in_a_check_refuses_on_one_line(untouched: Path) -> None:
    @check("machines", MACHINE)
    def machines_are_wrong(declared: Declared, context: Context) -> Iterator[str]:
        """Machines are wrong."""
        yield "one: mend it" if declared.props["none"] else "\n"

    context = Context(untouched, OPEN, preview=False)
    (said,) = machines_are_wrong.complaints(of_ours(MACHINE, {}), context, {})
    assert said == "machines-are-wrong: cannot be checked, KeyError: 'none': this is a defect of the check, report it"


def test_a_project_without_a_standard_refuses_on_one_line(tmp_path: Path, at: Any) -> None:
    (said,) = judged(tmp_path, [of_others(MACHINE, {})])["machines"]
    assert (
        said
        == f"machines: {tmp_path}/policy/standard.yaml is missing: restore it from git or name another project folder"
    )


def test_a_clock_that_cannot_be_believed_refuses_on_one_line(untouched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(clock.SHIFT, "60")
    monkeypatch.setenv("ARM_ENDPOINT", "https://management.azure.com")
    (said,) = judged(untouched, [of_others(MACHINE, {})])["machines"]
    assert "ARM_ENDPOINT is not the sandbox" in said


def test_what_may_be_a_secret_is_never_printed(untouched: Path, at: Any) -> None:
    hidden = "correct-horse"
    machine = {"tags": {"patchwave-stack": "prod"}, "osProfile": {"adminPassword": hidden, "customData": hidden}}
    hook = {"destination": {"endpointType": "WebHook", "endpointUrl": f"http://a.example?code={hidden}"}}
    found = judged(
        untouched,
        [
            of_others(MACHINE, machine),
            of_others("azure-native:eventgrid:SystemTopicEventSubscription", hook),
            of_ours("azure-native:monitor:ActionGroup", {"webhookReceivers": [{"serviceUri": hidden}]}),
        ],
    )
    assert {"machines", "events", "monitoring"} <= set(found)
    assert hidden not in str(found)


def test_a_check_is_named_and_described_by_its_function_and_its_parameters_have_defaults() -> None:
    for one in CHECKS.values():
        assert one.description.endswith(".")
        assert "\n" not in one.description
        one.parameters()


def test_the_reference_page_is_up_to_date() -> None:
    assert (PROJECT / "docs" / "rules.md").read_text(encoding="utf-8") == reference.page()
