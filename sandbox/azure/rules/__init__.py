"""What Azure refuses, in Azure's codes and words where a public source quotes the service."""

from . import (  # noqa: F401 - each registers its rules
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
from .change import RULES, Change, check, dig
from .scale_sets import health_extension

__all__ = ["RULES", "Change", "check", "dig", "health_extension"]
