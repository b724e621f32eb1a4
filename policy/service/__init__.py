"""What Azure is documented to refuse, so that a preview fails and not an update; `docs/rules.md` lists all of it."""

from policy.service import access, alerts, backup, events, logs, machines, maintenance, network, scale_sets, together
from policy.service.registry import BY_TYPE, RULES, STACK_RULES, ServiceRule, ServiceStackRule

__all__ = [
    "BY_TYPE",
    "RULES",
    "STACK_RULES",
    "ServiceRule",
    "ServiceStackRule",
    "access",
    "alerts",
    "backup",
    "events",
    "logs",
    "machines",
    "maintenance",
    "network",
    "scale_sets",
    "together",
]
