"""Everything that a human decides for one stack: the `patchwave:settings` object of `Pulumi.<stack>.yaml`."""

from datetime import date, timedelta
from fnmatch import fnmatchcase
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from patchwave.calendar import Calendar
from patchwave.documents import parse, read_yaml
from patchwave.errors import Misuse
from patchwave.model import Model
from patchwave.standard import Percent, StackName

Slot = Literal["blue", "green"]
Source = Literal["vmss", "vm", "arc"]
Method = Literal["playbook", "update_manager", "image"]
WayBack = Literal["downgrade", "snapshot"]
STACKS: tuple[StackName, ...] = ("dev", "staging", "prod")


def _private(text: str) -> str:
    network = IPv4Network(text)
    if not network.is_private or network.prefixlen > 24:
        raise ValueError(f"{text}: write a private IPv4 network of /24 or wider")
    return text


AddressSpace = Annotated[str, AfterValidator(_private)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,30}$")]
Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
UnixPath = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]+$")]
Unit = Annotated[str, Field(pattern=r"^[A-Za-z0-9@._:-]+$")]
Positive = Annotated[int, Field(ge=1)]
Duration = Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(hours=12))]


class Image(Model):
    """The gallery image from which instances are made."""

    resource_group: Name
    gallery: Name
    name: Name
    version: Annotated[str, Field(pattern=r"^(latest|\d+\.\d+\.\d+)$")]


class Rolling(Model):
    """How a scale set replaces its instances; the ranges are the service's own.

    https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-configure-rolling-upgrades
    """

    max_batch_percent: Annotated[int, Field(ge=5, le=100)]
    max_unhealthy_percent: Annotated[int, Field(ge=5, le=100)]
    max_unhealthy_upgraded_percent: Percent
    pause: Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(minutes=10))]

    @model_validator(mode="after")
    def _one_batch_cannot_trip_the_abort(self) -> Self:
        if self.max_batch_percent > self.max_unhealthy_percent:
            raise ValueError(
                f"max_batch_percent {self.max_batch_percent} > max_unhealthy_percent {self.max_unhealthy_percent}: "
                "the first batch would abort the rollout"
            )
        return self


class Slots(Model):
    """Two scale sets behind one load balancer; traffic goes to the live one."""

    live: Slot
    instances: Annotated[int, Field(ge=2, le=100)]
    size: str
    image: Image
    rolling: Rolling


class Machines(Model):
    """Virtual machines that stand alone."""

    instances: Annotated[int, Field(ge=0, le=100)]
    size: str
    image: Image


class Fleet(Model):
    """How the hosts of one source are patched, and how they go back."""

    source: Source
    method: Method
    way_back: WayBack

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.source != "vm" and self.way_back == "snapshot":
            raise ValueError(f"way_back snapshot: Azure takes no restore point of {self.source} hosts, use downgrade")
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
        if len({ring.name for ring in self.rings}) != len(self.rings):
            raise ValueError("two rings share a name: name each ring once")
        if "*" not in self.rings[-1].hosts:
            raise ValueError(f'ring {self.rings[-1].name!r} is the last: give it hosts ["*"], or some host has no ring')
        return self

    def ring_of(self, host: str, live: Slot) -> Ring:
        """The first ring whose globs match the host."""
        return next(r for r in self.rings if any(fnmatchcase(host, g.replace("{live}", live)) for g in r.hosts))


class Drain(Model):
    """How a host leaves the load balancer: its health endpoint refuses until this many probes have seen it."""

    refused_probes: Positive
    deadline: Duration


class Health(Model):
    """What must answer, how often in a row, before a host counts as healthy."""

    url: Url
    samples: Annotated[int, Field(ge=2)]
    interval: Duration
    deadline: Duration


class Probe(Model):
    """The load balancer's health probe; Azure takes intervals from 5 seconds."""

    path: UnixPath
    port: Annotated[int, Field(ge=1, le=65535)]
    interval: Annotated[timedelta, Field(ge=timedelta(seconds=5), le=timedelta(minutes=5))]
    threshold: Annotated[int, Field(ge=1, le=100)]


class Service(Model):
    """The workload on each host: units in the order in which they are stopped, databases, and what is archived."""

    units: Annotated[tuple[Unit, ...], Field(min_length=1)]
    databases: tuple[Name, ...]
    config_paths: tuple[UnixPath, ...]
    probe: Probe
    health: Health
    drain: Drain


class Preflight(Model):
    """What a host must have before a wave touches it."""

    disk_free_mb: Positive
    clock_skew: Duration
    reboot_deadline: Duration


class Maintenance(Model):
    """When Update Manager's schedules begin to count, and where the Arc machines stand."""

    starts_on: date
    arc_resource_group: Name


class Snapshots(Model):
    """How long restore points are kept."""

    keep: Annotated[timedelta, Field(ge=timedelta(days=1), le=timedelta(days=365))]


class Alerts(Model):
    """Who is told, and how long logs are kept; the workspace takes 30 to 730 days."""

    emails: Annotated[tuple[Email, ...], Field(min_length=1)]
    webhooks: tuple[Url, ...] = ()
    retention_days: Annotated[int, Field(ge=30, le=730)]


class Settings(Model):
    """One stack's decisions."""

    location: Annotated[str, Field(pattern=r"^[a-z0-9]+$")]
    address_space: AddressSpace
    ssh_public_key: Annotated[str, Field(pattern=r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp256) [A-Za-z0-9+/=]+( .*)?$")]
    calendar: Calendar
    fleets: dict[Name, Fleet]
    rollout: Rollout
    service: Service
    preflight: Preflight
    slots: Slots
    machines: Machines
    maintenance: Maintenance
    snapshots: Snapshots
    alerts: Alerts

    @model_validator(mode="after")
    def _one_fleet_a_source(self) -> Self:
        sources = [fleet.source for fleet in self.fleets.values()]
        if sorted(sources) != ["arc", "vm", "vmss"]:
            raise ValueError(f"fleets have the sources {sources}: name one fleet each for vmss, vm and arc")
        if self.rollout.live_out_of_service >= self.slots.instances:
            raise ValueError(
                f"rollout.live_out_of_service {self.rollout.live_out_of_service} of {self.slots.instances} instances: "
                "no live host would be left to answer"
            )
        return self

    def fleet(self, source: Source) -> str:
        """The name of the fleet that holds hosts of a source."""
        return next(name for name, fleet in self.fleets.items() if fleet.source == source)


class StackFile(Model):
    """`Pulumi.<stack>.yaml` as far as Patchwave reads it."""

    settings: Settings
    release: str | None


def stack_path(project: Path, stack: str) -> Path:
    """The stack's settings file; Misuse for a stack that is none of ours."""
    if stack not in STACKS:
        raise Misuse(f"stack {stack!r}: choose dev, staging or prod")
    return project / f"Pulumi.{stack}.yaml"


def load_stack(project: Path, stack: str) -> StackFile:
    """The decisions and the release of one stack."""
    path = stack_path(project, stack)
    config = (read_yaml(path) or {}).get("config", {})
    if "patchwave:settings" not in config:
        raise Misuse(f"{path}: config has no patchwave:settings object: copy it from another stack's file")
    settings = parse(config["patchwave:settings"], Settings, f"{path}: patchwave:settings")
    release = config.get("patchwave:release")
    if release is not None and not isinstance(release, str):
        raise Misuse(f"{path}: patchwave:release must be a text such as '2026-11-22.1'")
    return StackFile(settings=settings, release=release)
