"""What is left to Update Manager: since when, which updates, with which reboots, and who is notified.

The value lists are the service's own; it compiles the windows in which this happens.
https://learn.microsoft.com/azure/update-manager/manage-vms-programmatically
"""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from patchwave.base.model import Model
from patchwave.config.settings.types import Name

LinuxUpdates = Literal["Critical", "Security", "Other"]
WindowsUpdates = Literal[
    "Critical", "Security", "UpdateRollup", "FeaturePack", "ServicePack", "Definition", "Tools", "Updates"
]
Reboot = Literal["IfRequired", "Never"]
"""`Always` is left out: it reads back as `AlwaysReboot`, a difference in every preview."""

FUNCTION = r"^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Web/sites/[^/]+/functions/[^/]+$"


class Webhook(Model):
    """An endpoint that answers Event Grid's handshake; a URL with a query would put a secret into the settings."""

    kind: Literal["webhook"]
    url: Annotated[str, Field(pattern=r"^https://[^\s?]+$")]


class Function(Model):
    """An Azure Function by its id."""

    kind: Literal["function"]
    id: Annotated[str, Field(pattern=FUNCTION)]


Events = Annotated[Webhook | Function, Field(discriminator="kind")]


class Assigned(Model):
    """A machine that no tag selects, patched with a ring: one of another resource group, or one that is not tagged."""

    ring: Name
    source: Literal["vm", "arc"]
    resource_group: Annotated[str, Field(pattern=r"^[A-Za-z0-9._()-]{1,90}$")]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$")]


class Maintenance(Model):
    """What Update Manager installs on the machines that are left to it; Windows machines are not, without `windows`."""

    starts_on: date
    reboot: Reboot
    linux: Annotated[tuple[LinuxUpdates, ...], Field(min_length=1)]
    windows: tuple[WindowsUpdates, ...] = ()
    assigned: tuple[Assigned, ...] = ()
    events: Events | None = None

    @model_validator(mode="after")
    def _assigned_once(self) -> Self:
        machines = [(one.source, one.resource_group.lower(), one.name.lower()) for one in self.assigned]
        if twice := next((machine for machine in machines if machines.count(machine) > 1), None):
            raise ValueError(f"assigned: {twice[-1]} is named twice, of two schedules at once only one would run")
        return self
