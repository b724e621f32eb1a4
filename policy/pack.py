"""All rules, and how a stack has them enforced."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from patchwave.decisions.standard import Mode, load_standard
from patchwave.foundation.model import first_problem
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


def enforced(rule: Rule, context: Context, asked: Mapping[str, tuple[Mode, Mapping[str, Any]]]) -> Enforced:
    """By what the run was asked for on its command line, else by the standard, else by the rule itself.

    CannotRun names a parameter that the rule does not have or take.
    """
    choices = load_standard(context.project).policy
    if strangers := [name for chosen in choices.values() for name in chosen if name not in BY_NAME]:
        raise CannotRun(f"policy/standard.yaml: policy: there is no rule {strangers[0]}: see docs/rules.md")
    chosen = next((rules.get(rule.name) for stack, rules in choices.items() if stack == context.stack), None)
    mode = (chosen.mode if chosen else None) or rule.mode
    parameters = dict(chosen.parameters) if chosen else {}
    if rule.name in asked:
        asked_mode, asked_parameters = asked[rule.name]
        mode = asked_mode if asked_mode != rule.mode else mode
        parameters |= asked_parameters
    try:
        valid = rule.parameters.model_validate(parameters)
    except ValidationError as error:
        raise CannotRun(f"policy/standard.yaml: {rule.name}: {first_problem(error)}") from None
    return Enforced(mode, {name: getattr(valid, name) for name in type(valid).model_fields})
