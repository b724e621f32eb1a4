"""The policies of the pack: one a topic, each of which makes all of its checks on a resource in one call."""

from collections.abc import Callable, Iterator
from pathlib import Path

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)

from policy.declared import Declared
from policy.topics import ADVICE, TOGETHER, TOPICS

NAME = "patchwave"


# The checks load with the first resource, while the program still loads its own libraries: the engine waits for what is
# imported here.


def policies(project: Path, *, preview: bool) -> list[Policy]:
    """One policy a topic; permission only warns in a preview, and `advice` always does."""

    def resource_policy(topic: str, description: str, level: EnforcementLevel) -> Policy:
        def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
            from policy import judge

            if found := judge.of_type(topic, args.resource_type):
                shown = Declared(args.resource_type, args.name, args.props, args.urn)
                _report(judge.complaints(topic, found, shown, project, preview, args.get_config() or {}), report)

        return ResourceValidationPolicy(topic, description, validate, level)

    def together(args: StackValidationArgs, report: ReportViolation) -> None:
        from policy import judge

        shown = [Declared(one.resource_type, one.name, one.props, one.urn) for one in args.resources]
        found = judge.of_topic(TOGETHER)
        _report(judge.complaints(TOGETHER, found, shown, project, preview, args.get_config() or {}), report)

    levels = {"permission": EnforcementLevel.ADVISORY if preview else EnforcementLevel.MANDATORY}
    return [
        *(resource_policy(name, text, levels.get(name, EnforcementLevel.MANDATORY)) for name, text in TOPICS.items()),
        resource_policy(ADVICE, "Worth knowing, and no reason to refuse.", EnforcementLevel.ADVISORY),
        StackValidationPolicy(TOGETHER, "Resources fit each other.", together, EnforcementLevel.MANDATORY),
    ]


def _report(complaints: Iterator[str], report: Callable[[str, str | None], None]) -> None:
    for complaint in complaints:
        report(complaint, None)
