"""All checks, how a stack has them, and what they have against a resource."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pulumi_policy.proxy import UnknownValueError
from pydantic import ValidationError

from patchwave.base import clock
from patchwave.base.errors import PatchwaveError, UsageError
from patchwave.base.model import first_problem
from patchwave.config.standard import Mode, RuleChoice
from policy import estate, hosts, permission, service, settings
from policy.check import Check, Context, Parameters
from policy.declared import Declared
from policy.topics import ADVICE, TOGETHER


class Enforced(NamedTuple):
    """How a stack has a check."""

    mode: Mode
    parameters: Mapping[str, Any]


def _all() -> Iterator[Check]:
    own = [one for module in (settings, permission, hosts, estate) for one in vars(module).values()]
    yield from (one for one in own if isinstance(one, Check))
    for rule in service.RULES:
        yield _of_azure(rule.name, rule.topic, rule.check, rule.types, rule.source)
    for together in service.STACK_RULES:
        yield _of_azure(together.name, TOGETHER, together.check, (), together.source)


def _of_azure(name: str, topic: str, refuses: Any, types: tuple[str, ...], source: str) -> Check:
    """What Azure refuses, which needs neither the standard nor the time."""

    def run(shown: Any, context: Context) -> Iterator[str]:
        yield from refuses(shown.props if types else shown)

    description = str(refuses.__doc__)
    return Check(name, topic, description, run, types, "mandatory", source, general=True, parameters=Parameters)


CHECKS: Mapping[str, Check] = {one.name: one for one in _all()}
"""All checks by name."""


@cache
def of_type(topic: str, type_: str) -> tuple[Check, ...]:
    """The checks of a topic that concern a type of resource."""
    return tuple(one for one in of_topic(topic) if type_ in one.types)


def of_topic(topic: str) -> tuple[Check, ...]:
    """The checks of a topic; for topic `advice` all."""
    return tuple(one for one in CHECKS.values() if topic in (one.topic, ADVICE))


def enforced(check: Check, context: Context, stack: str, run: Mapping[str, Any]) -> Enforced:
    """By the run's policy configuration, else by the standard, else as the check has it.

    UsageError names a check that there is not, or a parameter that the check does not have or take.
    """
    choice = _choices(context).get(stack, {}).get(check.name, RuleChoice())
    parameters = _valid(check, choice.parameters, "policy/standard.yaml")
    own = {name: value for name, value in run.items() if name in check.parameters.model_fields}
    if own:
        parameters = _valid(check, parameters.model_dump() | own, "the run's policy configuration")
    return Enforced(choice.mode or check.mode, dict(parameters))


def _choices(context: Context) -> Mapping[str, Mapping[str, RuleChoice]]:
    choices = context.standard.policy
    for chosen in choices.values():
        for name in chosen:
            if name not in CHECKS:
                raise UsageError(f"policy/standard.yaml: policy: there is no check {name}: see docs/rules.md")
    return choices


def _valid(check: Check, parameters: Mapping[str, Any], where: str) -> Parameters:
    try:
        return check.parameters.model_validate(parameters)
    except ValidationError as error:
        raise UsageError(f"{where}: {check.name}: {first_problem(error)}") from None


def complaints(
    topic: str,
    found: Sequence[Check],
    shown: Declared | Sequence[Declared],
    project: Path,
    preview: bool,
    run: Mapping[str, Any],
) -> Iterator[str]:
    """What checks of a topic have against what they are shown; of topic `advice`, what only warns on this stack.

    `run` is the policy configuration of this run. When a preview does not know a value, the other checks are made
    first: UnknownValueError then names the check.
    """
    unknown: list[tuple[Check, UnknownValueError]] = []
    try:
        taken = {key for one in of_topic(topic) for key in one.parameters.model_fields}
        if stranger := next((key for key in run if key not in taken), None):
            raise UsageError(f"the run's policy configuration: {topic} has no parameter {stranger}: see docs/rules.md")
        context = Context(project, clock.now(), preview)
        stack = shown.pulumi_stack if isinstance(shown, Declared) else next((one.pulumi_stack for one in shown), "")
        for check in found:
            how = enforced(check, context, stack, run)
            if how.mode == ("advisory" if topic == ADVICE else "mandatory"):
                try:
                    yield from check.complaints(shown, context, how.parameters)
                except UnknownValueError as error:
                    unknown.append((check, error))
    except PatchwaveError as error:
        yield f"{topic}: {error}"
    if unknown:
        check, first = unknown[0]
        more = f" (and {len(unknown) - 1} checks more)" if len(unknown) > 1 else ""
        first.message = f"{check.name}: {first.message}{more}"
        raise first
