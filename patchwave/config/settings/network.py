"""Where a stack's own resources stand: names, resource group, network and a way out."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from patchwave.base.model import Model
from patchwave.config.settings.types import AddressSpace, GroupName, Name, Port, UrlPath, resource_id


class Naming(Model):
    """The prefix of every name that the program chooses, and its resource group, made by it unless that exists.

    The prefix is the stack's name, and the group `patchwave-STACK`, where none is named.
    """

    prefix: Name | None = None
    resource_group: GroupName | None = None
    resource_group_exists: bool = False


class Network(Model):
    """Either the space of a network that the program creates, or the id of a subnet that exists.

    `nat_gateway_id` gives the created subnet a way out.
    """

    address_space: AddressSpace | None = None
    subnet_id: Annotated[str, resource_id("Microsoft.Network/virtualNetworks/subnets")] | None = None
    nat_gateway_id: Annotated[str, resource_id("Microsoft.Network/natGateways")] | None = None

    @model_validator(mode="after")
    def _created_or_existing(self) -> Self:
        if (self.address_space is None) == (self.subnet_id is None):
            raise ValueError(
                "name either address_space, for a network of the stack's own, or subnet_id, for one that exists"
            )
        if self.subnet_id and self.nat_gateway_id:
            raise ValueError("nat_gateway_id: the subnet exists already, associate the gateway where it is declared")
        return self


class Probe(Model):
    """What the load balancer and the health extension both probe; the ranges are those that both of them take.

    With `rich`, the answer is JSON whose `ApplicationHealthState` decides; else its status does.
    https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-health-extension
    """

    protocol: Literal["http", "https", "tcp"] = "http"
    path: UrlPath | None = None
    port: Port
    interval: Annotated[timedelta, Field(ge=timedelta(seconds=5), le=timedelta(seconds=60))]
    threshold: Annotated[int, Field(ge=1, le=24)]
    rich: bool = False

    @model_validator(mode="after")
    def _path_where_one_is_asked(self) -> Self:
        if (self.protocol == "tcp") == (self.path is not None):
            raise ValueError(f"probe: protocol {self.protocol} takes {'no path' if self.path else 'a path: write one'}")
        if self.protocol == "tcp" and self.rich:
            raise ValueError("probe: protocol tcp has no answer that could be rich")
        return self


class PortRule(Model):
    """A public TCP port and the hosts' port behind it; TLS is ended on the hosts."""

    port: Port
    to: Port


class Balancer(Model):
    """The load balancer in front of a fleet's slots: the ports that it answers on, and how it probes."""

    ports: Annotated[tuple[PortRule, ...], Field(min_length=1)]
    probe: Probe

    @model_validator(mode="after")
    def _each_port_once(self) -> Self:
        for kind, ports in (("port", [rule.port for rule in self.ports]), ("to", [rule.to for rule in self.ports])):
            if twice := next((port for port in ports if ports.count(port) > 1), None):
                raise ValueError(f"ports: {kind} {twice} stands there twice, Azure takes one rule a port")
        return self
