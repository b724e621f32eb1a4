"""What Azure refuses, in Azure's codes and words (quoted where a public source quotes the service)."""

from . import maintenance, monitor, network  # noqa: F401 - each registers its rules
from .change import RULES, Change, check, dig
from .compute import health_extension

__all__ = ["RULES", "Change", "check", "dig", "health_extension"]
