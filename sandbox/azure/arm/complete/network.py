"""What Azure Network adds to a body."""

from __future__ import annotations

from typing import Any

from sandbox.azure.arm.complete.common import allocate, completes
from sandbox.azure.arm.rules import dig
from sandbox.azure.resources.places import Places
from sandbox.azure.resources.store import Row, Store

Json = Any


@completes("Microsoft.Network/publicIPAddresses")
def _public(row: Row, old: Row | None, store: Store, places: Places) -> None:
    index = old.hidden.get("public") if old else None
    if index is None:
        taken = {other.hidden.get("public") for other in store.of_type(row.type)}
        index = next(number for number in range(240) if number not in taken)
    row.hidden["public"] = index
    row.properties["ipAddress"] = places.public_address(index)
    row.properties.setdefault("idleTimeoutInMinutes", 4)
    row.properties.setdefault("publicIPAddressVersion", "IPv4")
    if label := dig(row.body, "properties.dnsSettings.domainNameLabel"):
        row.properties["dnsSettings"]["fqdn"] = f"{label}.{row.body['location']}.cloudapp.azure.com"


@completes("Microsoft.Network/loadBalancers")
def _balancer(row: Row, old: Row | None, store: Store, places: Places) -> None:
    for rule in row.properties.get("loadBalancingRules", []):
        rule["properties"].setdefault("idleTimeoutInMinutes", 4)
        rule["properties"].setdefault("enableFloatingIP", False)
        rule["properties"].setdefault("loadDistribution", "Default")
    for probe in row.properties.get("probes", []):
        probe["properties"].setdefault("intervalInSeconds", 15)


@completes("Microsoft.Network/virtualNetworks")
def _network(row: Row, old: Row | None, store: Store, places: Places) -> None:
    row.properties.setdefault("enableDdosProtection", False)


@completes("Microsoft.Network/networkInterfaces")
def _interface(row: Row, old: Row | None, store: Store, places: Places) -> None:
    before = dig(old.body, "properties", {}) if old else {}
    row.hidden["addresses"] = []
    for number, config in enumerate(row.properties.get("ipConfigurations", [])):
        kept: Json = next((one for one in before.get("ipConfigurations", []) if one["name"] == config["name"]), {})
        address = dig(kept, "properties.privateIPAddress") or allocate(store, places, row.hidden["addresses"])
        config["properties"]["privateIPAddress"] = address
        config["properties"].setdefault("privateIPAllocationMethod", "Dynamic")
        config["properties"].setdefault("primary", number == 0)
        row.hidden["addresses"].append(address)
    if machine := before.get("virtualMachine"):
        row.properties.update({"virtualMachine": machine, "primary": before.get("primary", True)})
