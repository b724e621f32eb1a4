"""Durations of the settings where a playbook itself needs them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from math import ceil

from pydantic import TypeAdapter


def patchwave_seconds(duration: str) -> int:
    """An ISO 8601 duration in whole seconds, rounded up."""
    return ceil(TypeAdapter(timedelta).validate_python(str(duration)).total_seconds())


class FilterModule:
    """Ansible's entry to the filters."""

    def filters(self) -> dict[str, Callable[[str], int]]:
        return {"patchwave_seconds": patchwave_seconds}
