"""Rows of the inventory query as Azure answers it, and stacks whose fleets they belong to."""

import json
from functools import cache
from typing import Any

from patchwave.azure.claims import Claims
from patchwave.azure.inventory import Host, Inventory, read
from patchwave.config.settings import Settings
from tests.unit.builders import settings

SUB, OTHER = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000009"
OWN = f"/subscriptions/{SUB}/resourceGroups/patchwave-dev/providers"
SITES = f"/subscriptions/{SUB}/resourceGroups/Sites/providers"
SETS = f"/subscriptions/{SUB}/resourceGroups/shop/providers/Microsoft.Compute/virtualMachineScaleSets"
INSTANCES = "microsoft.compute/virtualmachinescalesets/virtualmachines"
NUMBER = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
BALANCER = f"/subscriptions/{SUB}/resourceGroups/net/providers/Microsoft.Network/loadBalancers/lb"
Row = dict[str, Any]
desk_settings = cache(settings)


def row(kind: str, identity: str, **changed: Any) -> Row:
    name = identity.rsplit("/", 1)[1]
    texts = dict.fromkeys(("owner", "scale_set", "power", "os_type", "os", "smbios", "cloud"), "")
    nothing = dict.fromkeys(("address", "pooled", "primary", "capacity", "tags"))
    return {"id": identity, "name": name, "type": kind, "computer": name, "network": [], **texts, **nothing, **changed}


def subscription(identity: str = SUB) -> Row:
    return row("microsoft.resources/subscriptions", f"/subscriptions/{identity}")


def scale_set(identity: str, capacity: int) -> Row:
    return row("microsoft.compute/virtualmachinescalesets", identity, capacity=capacity)


def instance(owner: str, number: int, address: str, *, pooled: bool = False, **changed: Any) -> list[Row]:
    """An instance of a Uniform scale set, and its interface."""
    identity = f"{owner}/virtualMachines/{number}"
    config = {"properties": {"privateIPAddress": address, "primary": True}}
    return [
        row(INSTANCES, identity, **{"os": "Linux", "os_type": "Linux", "power": "PowerState/running", **changed}),
        row(f"{INSTANCES}/networkinterfaces", f"{identity}/networkInterfaces/nic", owner=identity.lower(),
            primary=True, pooled=pooled, network=[config]),
    ]  # fmt: skip


def machine(
    name: str = "dev-machines-0", address: str | None = "10.0.0.5", *, within: str = OWN, **changed: Any
) -> Row:
    found = {"address": address, "pooled": False, "power": "PowerState/running", "os": "Linux", "os_type": "Linux"}
    identity = f"{within}/Microsoft.Compute/virtualMachines/{name}"
    return row("microsoft.compute/virtualmachines", identity, **found | changed)


def arc(name: str = "site-0", address: str = "10.0.0.9", *, within: str = SITES, **changed: Any) -> Row:
    found = {
        "network": interfaces(("eth0", "fe80::1"), ("eth0", address)), "tags": {"Patchwave-Stack": "DEV"},
        "power": "Connected", "os": "Debian 12", "os_type": "linux",
    }  # fmt: skip
    return row(
        "microsoft.hybridcompute/machines", f"{within}/Microsoft.HybridCompute/machines/{name}", **found | changed
    )


def interfaces(*named: tuple[str, str]) -> list[Row]:
    """What an agent lists: interfaces by name with one address each."""
    return [
        {"name": name, "ipAddresses": [{"address": one, "ipAddressVersion": "IPv6" if ":" in one else "IPv4"}]}
        for name, one in named
    ]


def slots(*numbers: int) -> list[Row]:
    """Both scale sets of the desk's fleet web, with instances of these numbers each."""
    made: list[Row] = []
    for place, slot in enumerate(("blue", "green")):
        owner = f"{OWN}/Microsoft.Compute/virtualMachineScaleSets/dev-web-{slot}"
        made.append(scale_set(owner, len(numbers)))
        for number in numbers:
            made += instance(owner, number, f"10.0.{place + 1}.{number + 4}")
    return made


def desk() -> list[Row]:
    """Everything that the desk's dev stack declares, and an Arc machine."""
    return [subscription(), *slots(0, 1), machine(), arc()]


def fleet(source: str, **changed: Any) -> dict[str, Any]:
    """A fleet of existing hosts in plain data; what is no field of `hosts` is one of the fleet."""
    own = {name: changed.pop(name) for name in ("service", "method", "rings") if name in changed}
    return {"service": "desk", "method": "apt", "hosts": {"source": source, **changed}, **own}


def stack(traffic: dict[str, Any] | None = None, **fleets: Any) -> Settings:
    """The desk's dev stack with these fleets instead of its own, and another traffic driver where one is given."""
    plain = desk_settings().model_dump(mode="json")
    plain["fleets"] = fleets or plain["fleets"]
    run = {one["service"] for one in plain["fleets"].values()}
    plain["services"] = {name: one for name, one in plain["services"].items() if name in run}
    plain["services"]["desk"] |= {"gates": [], "traffic": traffic or plain["services"]["desk"]["traffic"]}
    return parsed(plain)


def parsed(plain: Any) -> Settings:
    """Settings from the plain data of JSON."""
    return Settings.model_validate_json(json.dumps(plain))


def found(*rows: Row, of: Settings | None = None) -> Inventory:
    """What these rows are to a stack; its own subscription can be read."""
    return read([subscription(), *rows], Claims("dev", of or desk_settings(), SUB))


def by_name(inventory: Inventory) -> dict[str, Host]:
    return {host.name: host for host in inventory.hosts}
