"""How machines go back further than a package: restore points of a wave, and nightly backups."""

from datetime import time, timedelta
from typing import Annotated, Self

from pydantic import Field, model_validator

from patchwave.base.model import Model
from patchwave.calendar.update_manager import windows_zone
from patchwave.calendar.windows import Zone


class Snapshots(Model):
    """How long restore points are kept."""

    keep: Annotated[timedelta, Field(ge=timedelta(days=1), le=timedelta(days=365))]


class Backup(Model):
    """A nightly backup of the virtual machines, and for how long its points are kept.

    `instant_days` is how long a point can be restored from the machine's own disks; Sunday's points are kept for
    `weeks`, those of a month's first Sunday for `months`. Deleted backups can be had back for `soft_delete_days`, and
    until then the stack cannot be destroyed; none are kept without. The ranges are those of a policy of type V2.
    https://learn.microsoft.com/azure/backup/backup-azure-vms-enhanced-policy
    """

    at: time
    zone: Zone
    instant_days: Annotated[int, Field(ge=1, le=30)]
    days: Annotated[int, Field(ge=7, le=9999)]
    weeks: Annotated[int, Field(ge=1, le=9999)] | None = None
    months: Annotated[int, Field(ge=1, le=9999)] | None = None
    soft_delete_days: Annotated[int, Field(ge=14, le=180)] | None

    @model_validator(mode="after")
    def _on_the_half_hour(self) -> Self:
        if self.at.tzinfo is not None or self.at.minute not in (0, 30) or self.at.second or self.at.microsecond:
            raise ValueError(f"at {self.at.isoformat()}: Azure starts backups on the hour or the half hour")
        return self

    @model_validator(mode="after")
    def _zone_that_windows_has(self) -> Self:
        windows_zone(self.zone)
        return self
