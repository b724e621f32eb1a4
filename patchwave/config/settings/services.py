"""What runs on hosts: how it leaves and joins traffic, what healthy means, its data, hooks, and what gates a batch.

Each part names a driver with typed options; what a driver does on a host stands in `playbooks/plugins/module_utils`,
what one does from the runner in `patchwave/services`.
"""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from patchwave.base.model import Model
from patchwave.config.settings.types import (
    Command,
    CountOrPercent,
    Duration,
    Name,
    Port,
    Positive,
    Timeout,
    Unit,
    UnixPath,
    Url,
    UrlPath,
    resource_id,
)

Status = Annotated[int, Field(ge=100, le=599)]
JsonPath = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]
Header = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+: [^\r\n]*$")]
DatabaseName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_-]{0,62}$")]


class JsonValue(Model):
    """A value of a JSON answer, by the names on the way to it, such as `status` or `checks.database`."""

    path: JsonPath
    equals: str | int | bool


# Traffic: how a host is taken out of service and put back.


class BalancerTraffic(Model):
    """The administrative state of the host's addresses in its load balancer's pools; needs nothing of the application.

    `pools` are backend pool ids where they are not those that the host's interface is in by itself. After the change,
    `settle` is the longest that connections to `port` are waited for: for the last to end, or for a new one to come.
    https://learn.microsoft.com/azure/load-balancer/admin-state-overview
    """

    driver: Literal["balancer"]
    pools: tuple[Annotated[str, resource_id("Microsoft.Network/loadBalancers/backendAddressPools")], ...] = ()
    port: Port
    settle: Timeout


class FlagTraffic(Model):
    """A file whose presence makes the application refuse its balancer's probe.

    With `statistics_url`, a JSON object of counters, `refused` must rise by `refused_probes` and `in_flight` fall to 0
    before the host counts as drained, and `passed` must rise before it counts as back; `settle` is the longest for
    either. Without it, the balancer is given `settle` to notice each of both.
    """

    driver: Literal["flag"]
    path: UnixPath
    statistics_url: Url | None = None
    refused_probes: Positive = 1
    settle: Timeout


class HttpTraffic(Model):
    """Two requests to a local endpoint: one drains, one puts back; both must answer with a status of 2xx.

    After each of them, the balancer is given `settle` to notice.
    """

    driver: Literal["http"]
    drain_url: Url
    return_url: Url
    method: Literal["POST", "PUT", "GET", "DELETE"] = "POST"
    settle: Timeout


class CommandTraffic(Model):
    """Two programs on the host: one drains and returns when nobody is served, one puts back."""

    driver: Literal["command"]
    drain: Command
    put_back: Command
    timeout: Timeout


class NoTraffic(Model):
    """Nobody is balanced to the hosts of this service."""

    driver: Literal["none"]


Traffic = Annotated[
    BalancerTraffic | FlagTraffic | HttpTraffic | CommandTraffic | NoTraffic, Field(discriminator="driver")
]

# Health: what must be well on a host before it goes back into service.


class HttpHealth(Model):
    """An answer with one of these statuses, and with the JSON value and header where they are named.

    While the host is drained, `drained_status` is well too: an application that refuses its probe because of the drain.
    """

    driver: Literal["http"]
    url: Url
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]+$")] | None = None
    status: Annotated[tuple[Status, ...], Field(min_length=1)] = (200,)
    drained_status: Status | None = None
    json_value: JsonValue | None = None
    header: Header | None = None
    verify_tls: bool = True


class TcpHealth(Model):
    """Something accepts connections on the port of the host itself."""

    driver: Literal["tcp"]
    port: Port


class SystemdHealth(Model):
    """Every unit of the service that is on the host is active."""

    driver: Literal["systemd"]


class SqlHealth(Model):
    """A query of a local PostgreSQL cluster gives one row; `equals` is that row's first column as text."""

    driver: Literal["sql"]
    database: DatabaseName
    port: Port = 5432
    query: Annotated[str, Field(min_length=1)] = "select 1"
    equals: str | None = None


class CommandHealth(Model):
    """A program on the host that ends with 0."""

    driver: Literal["command"]
    command: Command
    timeout: Timeout = timedelta(seconds=30)


HealthCheck = Annotated[
    HttpHealth | TcpHealth | SystemdHealth | SqlHealth | CommandHealth, Field(discriminator="driver")
]


class Health(Model):
    """All checks must be well `samples` times in a row before the deadline."""

    checks: Annotated[tuple[HealthCheck, ...], Field(min_length=1)]
    samples: Annotated[int, Field(ge=2)] = 3
    interval: Duration = timedelta(seconds=1)
    deadline: Timeout = timedelta(minutes=1)


# Data, hooks and gates.


class Postgresql(Model):
    """A database that is dumped before a change on each host whose cluster holds it."""

    driver: Literal["postgresql"]
    database: DatabaseName
    cluster: Annotated[str, Field(pattern=r"^\d+/[A-Za-z0-9_-]+$")] | None = None
    port: Port = 5432


class Hook(Model):
    """A program on the host, ended after its timeout; its failure fails the host."""

    command: Command
    timeout: Timeout = timedelta(minutes=5)


class Hooks(Model):
    """What runs on a host that is out of service: before the change, after it, and after it was taken back."""

    before: tuple[Hook, ...] = ()
    after: tuple[Hook, ...] = ()
    undo: tuple[Hook, ...] = ()


class HttpGate(Model):
    """What users see, requested from the runner all the while a batch is away: errors and latency against the baseline.

    `url` is the stack's public address where none is named. A redirect is followed at most `redirects` times.
    """

    driver: Literal["http"]
    url: Url | None = None
    path: UrlPath = "/"
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]+$")] | None = None
    status: Annotated[tuple[Status, ...], Field(min_length=1)] = (200,)
    redirects: Annotated[int, Field(ge=0, le=10)] = 0
    verify_tls: bool = True
    timeout: Timeout = timedelta(seconds=5)


class CommandGate(Model):
    """A program on the runner, in the project's folder, that ends with 0 before and after a batch."""

    driver: Literal["command"]
    command: Command
    timeout: Timeout = timedelta(minutes=1)


class PrometheusGate(Model):
    """A query that gives one number, which must not be above `at_most` before and after a batch."""

    driver: Literal["prometheus"]
    url: Url
    query: Annotated[str, Field(min_length=1)]
    at_most: float
    timeout: Timeout = timedelta(seconds=30)


class LogAnalyticsGate(Model):
    """A KQL query of a workspace that gives one number, which must not be above `at_most` before and after a batch."""

    driver: Literal["log_analytics"]
    workspace_id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    query: Annotated[str, Field(min_length=1)]
    at_most: float
    timeout: Timeout = timedelta(minutes=1)


Gate = Annotated[HttpGate | CommandGate | PrometheusGate | LogAnalyticsGate, Field(discriminator="driver")]


class Service(Model):
    """What runs on the hosts of one or more fleets.

    `units` stand in the order in which they are stopped. `patch_after` names services whose hosts come first in each
    ring. `max_unavailable` is how many of its hosts that users reach may be away at once; `100%` allows all.
    """

    units: tuple[Unit, ...] = ()
    config_paths: tuple[UnixPath, ...] = ()
    traffic: Traffic
    health: Health
    data: tuple[Postgresql, ...] = ()
    hooks: Hooks = Hooks()
    gates: tuple[Gate, ...] = ()
    max_unavailable: CountOrPercent = 1
    patch_after: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _units_where_they_are_asked(self) -> Self:
        if not self.units and any(check.driver == "systemd" for check in self.health.checks):
            raise ValueError("health: the driver systemd checks the units of the service: name some in units")
        return self


class Preflight(Model):
    """What a host must have before a wave touches it."""

    disk_free_mb: Positive
    clock_skew: Duration
    reboot_deadline: Duration
