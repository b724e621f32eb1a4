"""What Azure refuses, in Azure's codes and words where a public source quotes the service."""

from sandbox.azure.arm.rules import (  # noqa: F401 - each registers its rules
    access,
    alerts,
    disks,
    events,
    galleries,
    logs,
    machines,
    maintenance,
    network,
    recovery,
    traffic,
)
from sandbox.azure.arm.rules.change import RULES, Change, check, dig
from sandbox.azure.arm.rules.scale_sets import health_extension

__all__ = ["RULES", "Change", "check", "dig", "health_extension"]
