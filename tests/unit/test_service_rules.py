"""Each rule of the service refuses what Azure is documented to refuse, admits its neighbour, and raises nothing."""

from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, unknown_checking_proxy

from patchwave.base.documents import parse
from patchwave.base.errors import UsageError
from patchwave.config.settings import Settings
from policy import service
from policy.declared import Declared
from tests.unit.builders import FIXTURE, STANDARD
from tests.unit.changes import changed
from tests.unit.engine import GROUP, declare_stack
from tests.unit.service_rules_cases import (
    BASES,
    CASES,
    STACK_CASES,
    Case,
    StackCase,
)
from tests.unit.service_settings_cases import MODEL_CASES, ModelCase

RULES = {rule.name: rule for rule in service.RULES}
STACK_RULES = {rule.name: rule for rule in service.STACK_RULES}
DEV = yaml.safe_load((FIXTURE / "Pulumi.dev.yaml").read_text(encoding="utf-8"))["config"]["patchwave:settings"]


def all_complaints(type_: str, props: Mapping[str, Any]) -> list[str]:
    return [complaint for rule in service.BY_TYPE[type_] for complaint in rule.check(props)]


def base(case: Case) -> dict[str, Any]:
    return BASES[case.base or RULES[case.rule].types[0].removeprefix("azure-native:")]


def test_every_rule_has_a_case_and_every_case_a_rule() -> None:
    assert {case.rule for case in CASES} == set(RULES)
    assert {case.rule for case in STACK_CASES} == set(STACK_RULES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_a_rule_refuses_its_example_and_admits_the_neighbour(case: Case) -> None:
    rule = RULES[case.rule]
    found = list(rule.check(changed(base(case), case.refused)))
    assert found != []
    assert all(": " in complaint and "\n" not in complaint for complaint in found)
    for type_ in rule.types:
        assert all_complaints(type_, changed(base(case), case.admitted)) == []


@pytest.mark.parametrize("case", STACK_CASES, ids=lambda case: case.rule)
def test_a_rule_over_a_stack_refuses_its_example_and_admits_the_neighbour(case: StackCase) -> None:
    rule = STACK_RULES[case.rule]
    assert list(rule.check(case.refused)) != []
    assert list(rule.check(case.admitted)) == []


@pytest.mark.parametrize("case", MODEL_CASES, ids=lambda case: case.says)
def test_the_models_refuse_it_in_one_line_that_names_it(case: ModelCase) -> None:
    before = changed(DEV, case.given)
    with pytest.raises(UsageError) as caught:
        parse(changed(before, case.refused), Settings, "settings")
    assert case.says in str(caught.value)
    assert "\n" not in str(caught.value)
    parse(changed(before, case.admitted), Settings, "settings")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def paths(value: Any, above: str = "") -> list[str]:
    """Every place in a base, by dotted path."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, one in inner for path in (f"{above}{key}", *paths(one, f"{above}{key}."))]


PLACES = [(name, path) for name, props in BASES.items() for path in paths(props)]


@given(place=st.sampled_from(PLACES), value=JSON)
def test_whatever_is_written_no_rule_raises(place: tuple[str, str], value: Any) -> None:
    name, path = place
    props = changed(BASES[name], {path: value})
    for rule in service.RULES:
        list(rule.check(props))
    resources = [Declared(type_, "any", props) for type_ in service.BY_TYPE]
    for stack_rule in service.STACK_RULES:
        list(stack_rule.check(resources))


@given(props=st.dictionaries(st.text(), JSON, max_size=4))
def test_no_rule_raises_over_anything_at_all(props: dict[str, Any]) -> None:
    for rule in service.RULES:
        list(rule.check(props))


def previewed(value: Any, group: str) -> Any:
    """What a preview of a new stack shows to a rule: what comes from other resources is not known yet."""
    if isinstance(value, dict):
        return {key: previewed(inner, group) for key, inner in value.items()}
    if isinstance(value, list):
        return [previewed(inner, group) for inner in value]
    return UNKNOWN_STRING_VALUE if value == group or GROUP in str(value) else value


@pytest.mark.parametrize("stack", STANDARD.stacks)
def test_a_preview_of_the_program_keeps_no_rule_from_running(stack: str) -> None:
    unknown = 0
    for declared in declare_stack(stack):
        if declared.type in service.BY_TYPE:
            props = previewed(declared.props, f"patchwave-{stack}")
            unknown += props != declared.props
            assert all_complaints(declared.type, unknown_checking_proxy(props)) == []
    assert unknown > 10
