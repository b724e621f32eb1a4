"""Which hosts there are, how each fleet is patched and goes back, and in which order."""

from collections import deque
from math import ceil
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from patchwave.base.model import Model
from patchwave.config.settings.machines import MachineHosts
from patchwave.config.settings.slots import SlotHosts
from patchwave.config.settings.types import (
    Address,
    CountOrPercent,
    Duration,
    GroupName,
    Guid,
    Name,
    Positive,
    TagName,
    TagValue,
    resource_id,
)

Source = Literal["vmss", "vm", "arc"]
"""What a host is in Azure: an instance of a scale set, a virtual machine, or a machine that Arc knows."""

Method = Literal["apt", "dnf", "update_manager", "image"]
CARRIED_OUT: frozenset[Method] = frozenset({"apt", "dnf"})
"""The methods that a wave carries out; hosts of any other are listed and left alone."""

RollbackMethod = Literal["downgrade", "restore_point", "disk_snapshot"]
"""A restore point holds all disks of a machine, a disk snapshot its OS disk."""

ScaleSetId = Annotated[str, resource_id("Microsoft.Compute/virtualMachineScaleSets")]


class ScaleSetHosts(Model):
    """The instances of scale sets that exist, Uniform or Flexible; nothing of theirs is declared."""

    source: Literal["scale_set"]
    ids: Annotated[tuple[ScaleSetId, ...], Field(min_length=1)]
    addresses: dict[str, Address] = Field(default_factory=dict)


class ExistingHosts(Model):
    """Virtual machines or Arc machines that exist: all whose tags have these values, in these groups and subscriptions.

    Without groups it is any group; without subscriptions the one of the stack. Names and values of tags are compared
    in any case. `addresses` says where a host is reached, by its name, where Azure's answer is not right.
    """

    source: Literal["vm", "arc"]
    tags: Annotated[dict[TagName, TagValue], Field(min_length=1)]
    resource_groups: tuple[GroupName, ...] = ()
    subscriptions: tuple[Guid, ...] = ()
    addresses: dict[str, Address] = Field(default_factory=dict)


HostsOf = Annotated[SlotHosts | MachineHosts | ScaleSetHosts | ExistingHosts, Field(discriminator="source")]


class Ring(Model):
    """An ordered part of every fleet: so many hosts, a share of them, or `rest`, at most `batch` of them at once.

    Hosts that users reach come first. Where hosts are few, an earlier ring is filled before a later one.
    """

    name: Name
    hosts: CountOrPercent | Literal["rest"]
    batch: Positive

    def of(self, count: int) -> int | None:
        """How many of a fleet's hosts the ring takes; None for all that are left."""
        if self.hosts == "rest":
            return None
        return self.hosts if isinstance(self.hosts, int) else ceil(count * int(self.hosts[:-1]) / 100)


def whole(rings: tuple[Ring, ...]) -> tuple[Ring, ...]:
    """The rings, when they hold every host once; ValueError names what is wrong otherwise."""
    names = [ring.name for ring in rings]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two rings are called {twice!r}: name each ring once")
    if early := next((ring.name for ring in rings[:-1] if ring.hosts == "rest"), None):
        raise ValueError(f"ring {early!r} takes the rest, so that later rings are empty: let the last one take it")
    shares = sum(int(ring.hosts[:-1]) for ring in rings if isinstance(ring.hosts, str) and ring.hosts != "rest")
    if rings[-1].hosts != "rest" and shares < 100:
        raise ValueError(f"the rings add up to less than all hosts: give the last one, {names[-1]!r}, `hosts: rest`")
    return rings


class Rollout(Model):
    """The order in which hosts are patched, and how much may go wrong; `batch_timeout` is the longest for one batch."""

    rings: Annotated[tuple[Ring, ...], Field(min_length=1)]
    failure_budget: Annotated[int, Field(ge=0)]
    batch_timeout: Duration

    @model_validator(mode="after")
    def _all_hosts_have_a_ring(self) -> Self:
        whole(self.rings)
        return self

    @property
    def ring_names(self) -> list[str]:
        """The first ring first."""
        return [ring.name for ring in self.rings]


class Fleet(Model):
    """Hosts of one service that are patched alike.

    `rings` replaces the stack's own, with the same names in the same order. `patch_after` names fleets of the same
    service whose hosts come first in each ring: replicas before their primary.
    """

    service: Name
    hosts: HostsOf
    method: Method
    rollback: RollbackMethod = "downgrade"
    rings: tuple[Ring, ...] | None = None
    patch_after: tuple[Name, ...] = ()

    @property
    def kind(self) -> Source:
        """What its hosts are in Azure."""
        kinds: dict[str, Source] = {"slots": "vmss", "scale_set": "vmss", "machines": "vm", "vm": "vm", "arc": "arc"}
        return kinds[self.hosts.source]

    @property
    def carried_out(self) -> bool:
        """Whether a wave carries the method out."""
        return self.method in CARRIED_OUT

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.kind != "vm" and self.rollback != "downgrade":
            raise ValueError(f"rollback {self.rollback}: Azure takes none of {self.kind} hosts, use downgrade")
        if self.kind == "vmss" and self.method == "update_manager":
            raise ValueError("method update_manager: Update Manager does not patch scale sets, use apt, dnf or image")
        if self.kind != "vmss" and self.method == "image":
            raise ValueError(f"method image: only scale sets are rolled by image, not {self.kind}")
        if self.rings is not None:
            if not self.rings:
                raise ValueError("rings is empty: leave it out, or name at least one")
            whole(self.rings)
        return self


def assign(rings: tuple[Ring, ...], hosts: dict[str, bool]) -> dict[str, str]:
    """The ring of each host of a fleet, by name; the values are whether users reach the host, and those go first."""
    ordered = deque(sorted(hosts, key=lambda name: (not hosts[name], name)))
    found: dict[str, str] = {}
    for ring in rings:
        wanted = ring.of(len(hosts))
        for _ in range(len(ordered) if wanted is None or ring is rings[-1] else min(wanted, len(ordered))):
            found[ordered.popleft()] = ring.name
    return found
