"""What a wave sends to Log Analytics: one table for hosts and one for runs, each row a model."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, get_origin

from patchwave.base.model import Model
from patchwave.calendar.windows import Instant
from patchwave.wave.states import State

Kind = Literal["datetime", "string", "int"]


class HostRow(Model):
    """How a run left one host; `Packages` counts those whose version it changed."""

    TimeGenerated: Instant
    Stack: str
    Release: str
    Run: str
    Host: str
    Fleet: str
    Ring: str
    State: State
    Reason: str
    Packages: int


class RunRow(Model):
    """A run began or ended; `Outcome`, `Reason` and `Compliant` have no meaning before its end."""

    TimeGenerated: Instant
    Stack: str
    Release: str
    Run: str
    Event: Literal["started", "ended"]
    Outcome: str
    Reason: str
    Hosts: int
    Compliant: int


TABLES: Mapping[str, type[HostRow] | type[RunRow]] = {"PatchHosts": HostRow, "PatchRuns": RunRow}


def table(name: str) -> str:
    """What Log Analytics calls the table, in queries as well."""
    return f"{name}_CL"


def stream(name: str) -> str:
    """What the data collection rule calls the way into it."""
    return f"Custom-{name}"


def columns(name: str) -> dict[str, Kind]:
    """A table's columns with their types, as KQL spells them."""
    kinds: dict[object, Kind] = {datetime: "datetime", str: "string", int: "int", Literal: "string"}
    fields = TABLES[name].model_fields
    return {field: kinds[get_origin(info.annotation) or info.annotation] for field, info in fields.items()}
