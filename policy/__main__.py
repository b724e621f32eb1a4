"""Serves the rules to the engine, and nothing else."""

import os
import sys
from pathlib import Path

from pulumi_policy import (
    EnforcementLevel,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from patchwave.foundation import clock
from policy.declared import Declared
from policy.rules import RULES, STACK_RULES, Moment, Rule, StackRule, complaints

LEVELS = {"mandatory": EnforcementLevel.MANDATORY, "advisory": EnforcementLevel.ADVISORY}


def _resource_policy(rule: Rule) -> ResourceValidationPolicy:
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        if args.resource_type not in rule.types:
            return
        moment = Moment(now=clock.now(), preview=os.environ.get("PULUMI_DRY_RUN") == "true")
        for complaint in complaints(rule, Declared(args.resource_type, args.name, args.props), moment):
            report(complaint, None)

    return ResourceValidationPolicy(
        name=rule.name,
        description=str(rule.check.__doc__),
        validate=validate,
        enforcement_level=LEVELS[rule.level],
    )


def _stack_policy(rule: StackRule) -> StackValidationPolicy:
    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        for complaint in rule.check([Declared(r.resource_type, r.name, r.props) for r in args.resources]):
            report(complaint, None)

    return StackValidationPolicy(name=rule.name, description=str(rule.check.__doc__), validate=validate)


PolicyPack(
    name="patchwave",
    enforcement_level=EnforcementLevel.MANDATORY,
    policies=[*map(_resource_policy, RULES), *map(_stack_policy, STACK_RULES)],
)
