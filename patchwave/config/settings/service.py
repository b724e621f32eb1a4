"""The workload on each host: how it is stopped, drained and judged, and what a host must have."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from patchwave.base.model import Model
from patchwave.config.settings.types import Duration, Name, Positive, Unit, UnixPath, Url


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
    """What the load balancer and the health extension both ask; the ranges are those that both of them take.

    https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-health-extension
    """

    path: UnixPath
    port: Annotated[int, Field(ge=1, le=65535)]
    interval: Annotated[timedelta, Field(ge=timedelta(seconds=5), le=timedelta(seconds=60))]
    threshold: Annotated[int, Field(ge=1, le=24)]


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
