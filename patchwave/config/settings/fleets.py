"""Which hosts there are, how each fleet is patched and goes back, and in which order."""

from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from patchwave.base.model import Model
from patchwave.config.settings.slots import Slot
from patchwave.config.settings.types import Duration, Name, Positive

Source = Literal["vmss", "vm", "arc"]
Method = Literal["playbook", "update_manager", "image"]
WayBack = Literal["downgrade", "snapshot", "disk_snapshot"]
"""A snapshot is a restore point of the machine, with all its disks; a disk snapshot is of its OS disk, incremental."""


class Fleet(Model):
    """How the hosts of one source are patched, and how they go back."""

    source: Source
    method: Method
    way_back: WayBack

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.source != "vm" and self.way_back != "downgrade":
            raise ValueError(f"way_back {self.way_back}: Azure takes none of {self.source} hosts, use downgrade")
        if self.source == "vmss" and self.method == "update_manager":
            raise ValueError("method update_manager: Update Manager does not patch scale sets, use playbook or image")
        if self.source != "vmss" and self.method == "image":
            raise ValueError(f"method image: only scale sets are rolled by image, not {self.source}")
        if self.method != "playbook":
            raise ValueError(f"method {self.method}: waves carry only playbook fleets yet, use playbook")
        return self


class Ring(Model):
    """An ordered part of the fleet: hosts whose names match a glob; `{live}` stands for the live slot."""

    name: Name
    hosts: Annotated[tuple[str, ...], Field(min_length=1)]
    batch: Positive


class Rollout(Model):
    """The order in which hosts are patched and how much may be broken or away at once."""

    rings: Annotated[tuple[Ring, ...], Field(min_length=1)]
    live_out_of_service: Positive
    failure_budget: Annotated[int, Field(ge=0)]
    host_takes: Duration

    @model_validator(mode="after")
    def _last_ring_takes_the_rest(self) -> Self:
        if len(set(self.ring_names)) != len(self.rings):
            raise ValueError("two rings share a name: name each ring once")
        if "*" not in self.rings[-1].hosts:
            raise ValueError(f'ring {self.rings[-1].name!r} is the last: give it hosts ["*"], or some host has no ring')
        return self

    @property
    def ring_names(self) -> list[str]:
        """The first ring first."""
        return [ring.name for ring in self.rings]

    def ring_of(self, host: str, live: Slot) -> Ring:
        """The first ring whose globs match the host."""
        return next(r for r in self.rings if any(fnmatchcase(host, g.replace("{live}", live)) for g in r.hosts))
