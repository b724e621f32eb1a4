"""The policies of the pack, one a topic, and how a stack has their checks."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError
from pydantic import ValidationError

from patchwave.base import clock
from patchwave.base.errors import PatchwaveError, UsageError
from patchwave.base.model import first_problem
from patchwave.config.standard import Mode, RuleChoice
from policy.check import Check, Context, Parameters
from policy.declared import Declared

NAME = "patchwave"
TOPICS = {
    "settings": "A stack's declared settings keep within the standard.",
    "permission": "A wave may start only when the calendar, its proof and its approvals allow it.",
    "deadlines": "Fixes are due as the standard says.",
    "tags": "What is patched names its stack and can be found.",
    "scale-sets": "Scale sets watch health, roll in batches and go back by themselves.",
    "machines": "Machines are entered by key, made from one image, patched only as decided, and can go back.",
    "maintenance": "Azure's maintenance keeps within the standard's windows and selects only its own stack.",
    "network": "Traffic goes only where it is answered.",
    "backups": "Backups are what Azure takes, and can be had back.",
    "monitoring": "Records are kept and alerts reach somebody.",
    "events": "Maintenance events arrive.",
    "access": "Nobody gets more rights than the task needs.",
}
TOGETHER = "together"
ADVICE = "advice"


class Enforced(NamedTuple):
    """How a stack has a check."""

    mode: Mode
    parameters: Mapping[str, Any]


@cache
def checks() -> Mapping[str, Check]:
    """All checks by name. They load at the first resource, while the program still loads its own libraries."""
    from policy import estate, hosts, permission, service, settings

    own = [one for module in (settings, permission, hosts, estate) for one in vars(module).values()]
    found = [one for one in own if isinstance(one, Check)]
    found += [_of_azure(rule.name, rule.topic, rule.check, rule.types, rule.source) for rule in service.RULES]
    found += [_of_azure(rule.name, TOGETHER, rule.check, (), rule.source) for rule in service.STACK_RULES]
    return {one.name: one for one in found}


def _of_azure(name: str, topic: str, refuses: Any, types: tuple[str, ...], source: str) -> Check:
    """What Azure refuses, which needs neither the standard nor the time."""

    def run(shown: Any, context: Context) -> Iterator[str]:
        yield from refuses(shown.props if types else shown)

    description = str(refuses.__doc__)
    return Check(name, topic, description, run, types, "mandatory", source, general=True, parameters=Parameters)


@cache
def _of_type(topic: str, type_: str) -> tuple[Check, ...]:
    return tuple(one for one in checks().values() if type_ in one.types and topic in (one.topic, ADVICE))


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
            if name not in checks():
                raise UsageError(f"policy/standard.yaml: policy: there is no check {name}: see docs/rules.md")
    return choices


def _valid(check: Check, parameters: Mapping[str, Any], where: str) -> Parameters:
    try:
        return check.parameters.model_validate(parameters)
    except ValidationError as error:
        raise UsageError(f"{where}: {check.name}: {first_problem(error)}") from None


def judge(
    topic: str,
    found: Sequence[Check],
    shown: Declared | Sequence[Declared],
    context: Context,
    stack: str,
    run: Mapping[str, Any],
) -> Iterator[str]:
    """What the checks of a topic have against what they are shown; those of topic `advice` are what only warns.

    When a preview does not know a value, the other checks are made first: UnknownValueError then names the check.
    """
    if stranger := next((name for name in run if not any(name in one.parameters.model_fields for one in found)), ""):
        raise UsageError(f"the run's policy configuration: {topic} has no parameter {stranger}: see docs/rules.md")
    unknown: list[tuple[Check, UnknownValueError]] = []
    for check in found:
        how = enforced(check, context, stack, run)
        if how.mode == ("advisory" if topic == ADVICE else "mandatory"):
            try:
                yield from check.complaints(shown, context, how.parameters)
            except UnknownValueError as error:
                unknown.append((check, error))
    if unknown:
        check, first = unknown[0]
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        first.message = f"{check.name}: {first.message}{more}"
        raise first


def policies(project: Path, *, preview: bool) -> list[Policy]:
    """One policy a topic; permission only warns in a preview, and `advice` always does."""

    def say(
        topic: str, found: Sequence[Check], shown: Declared | Sequence[Declared], stack: str, run: Any, report: Any
    ) -> None:
        try:
            context = Context(project, clock.now(), preview)
            for complaint in judge(topic, found, shown, context, stack, run or {}):
                report(complaint, None)
        except PatchwaveError as error:
            report(f"{topic}: {error}", None)

    def resource_policy(topic: str, description: str, level: EnforcementLevel) -> Policy:
        def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
            if found := _of_type(topic, args.resource_type):
                shown = Declared(args.resource_type, args.name, args.props, args.urn)
                say(topic, found, shown, shown.pulumi_stack, args.get_config(), report)

        return ResourceValidationPolicy(topic, description, validate, level)

    def together(args: StackValidationArgs, report: ReportViolation) -> None:
        found = [one for one in checks().values() if one.topic == TOGETHER]
        shown = [Declared(one.resource_type, one.name, one.props, one.urn) for one in args.resources]
        say(TOGETHER, found, shown, shown[0].pulumi_stack if shown else "", args.get_config(), report)

    levels = {"permission": EnforcementLevel.ADVISORY if preview else EnforcementLevel.MANDATORY}
    return [
        *(resource_policy(name, text, levels.get(name, EnforcementLevel.MANDATORY)) for name, text in TOPICS.items()),
        resource_policy(ADVICE, "Worth knowing, and no reason to refuse.", EnforcementLevel.ADVISORY),
        StackValidationPolicy(TOGETHER, "Resources fit each other.", together, EnforcementLevel.MANDATORY),
    ]
