"""Where each rule of the service stands with its source; a rule reads properties and never raises."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from policy.declared import Declared, Props

TOPICS = {
    "access": "access",
    "alerts": "monitoring",
    "backup": "backups",
    "events": "events",
    "logs": "monitoring",
    "machines": "machines",
    "maintenance": "maintenance",
    "network": "network",
    "scale_sets": "scale-sets",
}
Check = Callable[[Props], Iterator[str]]
StackCheck = Callable[[Sequence[Declared]], Iterator[str]]


class ServiceRule(NamedTuple):
    """What Azure is documented to refuse on these types; the check's docstring is the description."""

    check: Check
    types: tuple[str, ...]
    source: str
    topic: str

    @property
    def name(self) -> str:
        return self.check.__name__.replace("_", "-")


class ServiceStackRule(NamedTuple):
    """What Azure is documented to refuse, or to leave undone, of resources that belong together."""

    check: StackCheck
    source: str

    @property
    def name(self) -> str:
        return self.check.__name__.replace("_", "-")


RULES: list[ServiceRule] = []
STACK_RULES: list[ServiceStackRule] = []
BY_TYPE: dict[str, list[ServiceRule]] = {}


def refuses(*types: str, source: str) -> Callable[[Check], Check]:
    """Registers a check for types of resources, with the page or thread that says so."""

    def keep(check: Check) -> Check:
        topic = TOPICS[check.__module__.rpartition(".")[2]]
        rule = ServiceRule(check, tuple(f"azure-native:{type_}" for type_ in types), source, topic)
        RULES.append(rule)
        for type_ in rule.types:
            BY_TYPE.setdefault(type_, []).append(rule)
        return check

    return keep


def refuses_together(*, source: str) -> Callable[[StackCheck], StackCheck]:
    """Registers a check over all resources of a stack, with the page that says so."""

    def keep(check: StackCheck) -> StackCheck:
        STACK_RULES.append(ServiceStackRule(check, source))
        return check

    return keep
