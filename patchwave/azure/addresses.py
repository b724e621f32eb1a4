"""Which of the addresses that Azure knows of a machine is the one to reach it at.

The readers raise ValidationError for an answer of another shape.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

_INTERNAL = re.compile(
    r"(lo\d*$|docker|br-|virbr|veth|cni|cbr|cali|flannel|tunl|kube|podman|lxc|lxdbr|vmnet|vboxnet|dummy|weave)", re.I
)
_THIS_NETWORK = IPv4Network("0.0.0.0/8")
_BRIDGES = tuple(map(IPv4Network, ("172.17.0.0/16", "192.168.122.0/24", "10.88.0.0/16")))
"""What Docker, libvirt and Podman give their bridges, on every machine alike."""


class _Part(BaseModel):
    """A piece of Azure's answer of which only some fields matter; those are strict."""

    model_config = ConfigDict(strict=True, frozen=True)


class _ArcAddress(_Part):
    address: str | None = None
    ipAddressVersion: str | None = None  # noqa: N815 - Azure's name


class _ArcInterface(_Part):
    name: str | None = None
    ipAddresses: list[_ArcAddress] | None = None  # noqa: N815 - Azure's name


class _Address(_Part):
    privateIPAddress: str | None = None  # noqa: N815 - Azure's name
    ipAddress: str | None = None  # noqa: N815 - Azure's name
    primary: bool | None = None


class _Configuration(_Part):
    properties: _Address


class _Members(_Part):
    loadBalancerBackendAddresses: list[_Configuration] | None = None  # noqa: N815 - Azure's name
    backendAddresses: list[_Address] | None = None  # noqa: N815 - Azure's name


class _Pool(_Part):
    properties: _Members


_ARC = TypeAdapter(list[_ArcInterface])
_CONFIGURATIONS = TypeAdapter(list[_Configuration])
_POOLS = TypeAdapter(list[_Pool])


def problem(text: str) -> str | None:
    """Why an address is none at which one machine is reached, if it is not."""
    try:
        address = IPv4Address(text)
    except AddressValueError:
        return "is no IPv4 address"
    if address.is_loopback or address.is_link_local:
        return "is the same on every machine"
    if address.is_multicast or address.is_reserved or address in _THIS_NETWORK:
        return "is not the address of one machine"
    return None


def of_arc(interfaces: Any) -> tuple[str, ...]:
    """The IPv4 addresses of an Arc machine, in the agent's order.

    An agent lists every interface: loopback, link-local addresses and bridges of containers and virtual machines are
    left out.
    """
    return tuple(
        one.address
        for interface in _ARC.validate_python(interfaces or [])
        if not _INTERNAL.match(interface.name or "")
        for one in interface.ipAddresses or ()
        if one.address and one.ipAddressVersion in (None, "IPv4") and not _shared(one.address)
    )


def of_interface(configurations: Any) -> str:
    """The primary address of an interface, empty when it has none."""
    found = [one.properties for one in _CONFIGURATIONS.validate_python(configurations or [])]
    return next((one.privateIPAddress or "" for one in sorted(found, key=lambda one: not one.primary)), "")


def of_pools(pools: Any) -> set[str]:
    """The addresses that the pools of a load balancer or application gateway list."""
    found: set[str] = set()
    for pool in _POOLS.validate_python(pools or []):
        found |= {one.properties.ipAddress or "" for one in pool.properties.loadBalancerBackendAddresses or ()}
        found |= {one.ipAddress or "" for one in pool.properties.backendAddresses or ()}
    return found - {""}


def _shared(text: str) -> bool:
    """Whether another machine has the same address; one that is none at all is for `problem` to name."""
    try:
        address = IPv4Address(text)
    except AddressValueError:
        return False
    return address.is_loopback or address.is_link_local or any(address in one for one in _BRIDGES)
