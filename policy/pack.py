"""All rules, and how a stack has them enforced."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from patchwave.base.errors import PatchwaveError
from patchwave.base.model import first_problem
from patchwave.config.standard import Mode, RuleChoice, load_standard
from policy import commands, decisions, estate, service, wave
from policy.rule import CannotRun, Context, Parameters, Rule, rules_of


def _of_service(rule: service.ServiceRule | service.ServiceStackRule) -> Rule:
    """A rule of the service among ours: it needs neither the standard nor the hour."""

    def check(shown: Any, context: Context) -> Iterator[str]:
        return rule.check(shown.props) if isinstance(rule, service.ServiceRule) else rule.check(shown)

    return Rule(
        name=rule.name,
        description=str(rule.check.__doc__),
        check=check,
        types=rule.types if isinstance(rule, service.ServiceRule) else (),
        severity="high",
        mode="mandatory",
        in_preview="mandatory",
        source=rule.source,
        parameters=Parameters,
    )


OWN_RULES: tuple[Rule, ...] = tuple(rule for module in (wave, decisions, estate, commands) for rule in rules_of(module))
RULES: tuple[Rule, ...] = (*OWN_RULES, *map(_of_service, service.RULES), *map(_of_service, service.STACK_RULES))
BY_NAME: Mapping[str, Rule] = {rule.name: rule for rule in RULES}


class Enforced(NamedTuple):
    """How a stack has a rule."""

    mode: Mode
    parameters: Mapping[str, Any]


Asked = Mapping[str, tuple[Mode, Mapping[str, Any]]]
"""Modes and parameters by the name of the rule, as a run's `--policy-pack-config` has them."""


def standing(rule: Rule, context: Context) -> Mode:
    """The mode by the standard, else by the rule itself; CannotRun when the standard cannot tell."""
    return _chosen(rule, context).mode or rule.mode


def enforced(rule: Rule, context: Context, asked: Asked) -> Enforced:
    """By what the run was asked for on its command line, else by the standard, else by the rule itself.

    CannotRun names a rule that there is not, or a parameter that the rule does not have or take.
    """
    chosen = _chosen(rule, context)
    if strangers := [name for name in asked if name not in BY_NAME and name != "all"]:
        raise CannotRun(f"the run's policy configuration: there is no rule {strangers[0]}: see docs/rules.md")
    mode, parameters = chosen.mode or rule.mode, dict(chosen.parameters)
    _valid(rule, parameters, "policy/standard.yaml")
    if rule.name in asked:
        mode, asked_parameters = asked[rule.name]
        parameters |= asked_parameters
    valid = _valid(rule, parameters, "the run's policy configuration")
    return Enforced(mode, {name: getattr(valid, name) for name in type(valid).model_fields})


def _chosen(rule: Rule, context: Context) -> RuleChoice:
    """What the standard says of a rule on a stack; CannotRun when it does not parse, or names a rule that is none."""
    try:
        choices: dict[str, Mapping[str, RuleChoice]] = dict(load_standard(context.project).policy.items())
    except PatchwaveError as error:
        raise CannotRun(str(error)) from None
    if strangers := [name for chosen in choices.values() for name in chosen if name not in BY_NAME]:
        raise CannotRun(f"policy/standard.yaml: policy: there is no rule {strangers[0]}: see docs/rules.md")
    return choices.get(context.stack, {}).get(rule.name, RuleChoice())


def _valid(rule: Rule, parameters: Mapping[str, Any], where: str) -> Parameters:
    try:
        return rule.parameters.model_validate(parameters)
    except ValidationError as error:
        raise CannotRun(f"{where}: {rule.name}: {first_problem(error)}") from None
