"""The policy pack and the emulator agree: what a preview refuses in Azure's name, the emulator refuses as well."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from policy import service
from sandbox.azure.arm.rules import RULES, Change
from sandbox.azure.resources.kinds import BY_TOKEN, Kind
from sandbox.azure.resources.store import Row
from tests.unit.azure_bodies import BODIES, CONFIGURATION, in_guest
from tests.unit.azure_emulator import LOCATION, wire
from tests.unit.changes import changed
from tests.unit.service_rules_cases import BASES, CASES, Case
from tests.unit.test_azure_rules import Known

ADVICE = {
    # The service takes these, and something that was not meant comes of it.
    "image-upgrades-use-the-declared-policy", "maintenance-expires-after-it-starts", "maintenance-keeps-off-midnight",
    "only-image-upgrades-are-deferred", "reboots-are-left-to-the-schedule", "reboots-read-back-as-written",
    "role-assignments-say-what-the-principal-is", "subscriptions-choose-known-events",
    "weekly-backups-keep-no-daily-points",
}  # fmt: skip
BY_RULE = {rule.name: rule for rule in service.RULES}
GIVEN = {"location": LOCATION, "maintenanceConfigurationId": CONFIGURATION}


def judged(case: Case) -> bool:
    """Not advice, not about another spelling, which Azure reads as the same, nor about what the sandbox has none of."""
    spelt = str(case.refused).lower() == str(case.admitted).lower()
    return case.rule not in ADVICE and not spelt and "Flexible" not in str(case.refused)


PAIRS = [(case, type_) for case in CASES if judged(case) for type_ in BY_RULE[case.rule].types]


class Complete(Known):
    """Also whatever maintenance configuration a case may name."""

    def get(self, key: str) -> Row | None:
        if "/maintenanceconfigurations/" in key.lower():
            return Row(key, "", "", in_guest())
        return super().get(key)


def identity(kind: Kind, inputs: Mapping[str, Any]) -> str:
    """Where the inputs would be put; what they do not say is as in the declared bodies."""
    known = next((path for path, type_, _ in BODIES.values() if type_ == kind.type), "")
    pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", kind.path)
    found = re.fullmatch(pattern, known, re.IGNORECASE)
    values = dict.fromkeys(kind.arguments, "dev") | (found.groupdict() if found else {})
    values |= {name: value for name, value in inputs.items() if name in values and isinstance(value, str)}
    return kind.path.format(**values)


def shown(kind: Kind, inputs: Mapping[str, Any]) -> Iterator[str]:
    """Every complaint of the emulator; the cases leave out what they are not about, which is no news."""
    fields = wire().fields(kind.shape)
    ours = set(GIVEN) - set(fields)
    body = {name: value for name, value in inputs.items() if name not in {*kind.arguments, *ours} or name in fields}
    yield from (
        f"{one.path}: {one.reason}" for one in wire().complaints(body, kind.shape) if "required" not in one.reason
    )
    if kind.located and "location" not in inputs:
        yield "no location"
    change = Change(
        identity(kind, inputs), wire().unfold(body, kind.shape), None, Complete(), datetime(2026, 11, 22, tzinfo=UTC)
    )
    for rule in RULES.get(kind.type.lower(), ()):
        try:
            yield from (f"{one.code}: {one.message}" for one in rule(change))
        except TypeError as wrong:
            yield f"a rule sees no value of a wrong type: {wrong}"


@pytest.mark.parametrize(
    ("case", "type_"), PAIRS, ids=[f"{case.rule}-{type_.rsplit(':', 1)[1]}" for case, type_ in PAIRS]
)
def test_what_the_policy_refuses_in_a_preview_the_emulator_refuses_too(case: Case, type_: str) -> None:
    kind = BY_TOKEN[type_]
    base = GIVEN | BASES[case.base or BY_RULE[case.rule].types[0].removeprefix("azure-native:")]
    if "retentionPolicy" in base.get("properties", {}):
        base = changed(base, {"properties.retentionPolicy.retentionPolicyType": "LongTermRetentionPolicy"})
    refused, admitted = (set(shown(kind, changed(base, change))) for change in (case.refused, case.admitted))
    assert refused - admitted, sorted(refused)


def test_each_piece_of_advice_is_a_rule_of_the_policy() -> None:
    assert set(BY_RULE) >= ADVICE
