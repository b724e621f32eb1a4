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

NAME = "patchwave"
TOPICS = {
    "settings": "A stack's declared settings keep within the standard.",
    "permission": "A wave may start only when the calendar, its proof and its approvals allow it.",
    "deadlines": "Fixes come before the standard's due times.",
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
