"""The instances of a scale set and their network interfaces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sandbox.azure.arm.complete.common import allocate, now, stable
from sandbox.azure.arm.rules import dig
from sandbox.azure.resources.places import Places
from sandbox.azure.resources.store import Row, Store

Json = Any


def instances(scale_set: Row, store: Store, places: Places) -> tuple[list[Row], list[Row]]:
    """The instances to add and to remove so that the scale set has its capacity; stores them as such."""
    type_ = "microsoft.compute/virtualmachinescalesets/virtualmachines"
    there = [row for row in store.children(scale_set.key, type_) if not row.deleting]
    wanted = int(scale_set.body["sku"]["capacity"])
    removed = sorted(there, key=lambda row: int(row.name))[wanted:]
    for row in removed:
        row.deleting = True
        row.properties["provisioningState"] = "Deleting"
        store.put(row)
    added: list[Row] = []
    while len(there) - len(removed) + len(added) < wanted:
        number = int(scale_set.hidden.get("next", 0))
        scale_set.hidden["next"] = number + 1
        row = _instance(scale_set, number, allocate(store, places))
        store.put(row)
        added.append(row)
    store.put(scale_set)
    for row in there:
        if row not in removed:
            _inherit(row, scale_set)
            store.put(row)
    return added, removed


def _instance(scale_set: Row, number: int, address: str) -> Row:
    identity = f"{scale_set.id}/virtualMachines/{number}"
    row = Row(identity, "microsoft.compute/virtualmachinescalesets/virtualmachines", scale_set.key, {
        "id": identity, "name": f"{scale_set.name}_{number}", "instanceId": str(number),
        "type": "Microsoft.Compute/virtualMachineScaleSets/virtualMachines",
        "properties": {
            "vmId": stable(identity), "provisioningState": "Creating", "latestModelApplied": True, "timeCreated": now(),
        },
    })  # fmt: skip
    row.hidden = {"addresses": [address], "host": f"{scale_set.name}-{number}".lower(), "power": "running"}
    _inherit(row, scale_set)
    return row


def _inherit(row: Row, scale_set: Row) -> None:
    profile = dig(scale_set.body, "properties.virtualMachineProfile", {})
    body = row.body
    body["location"] = scale_set.body.get("location")
    body["sku"] = {"name": scale_set.body["sku"]["name"], "tier": scale_set.body["sku"].get("tier", "Standard")}
    if "tags" in scale_set.body:
        body["tags"] = dict(scale_set.body["tags"])
    else:
        body.pop("tags", None)
    system = dict(profile.get("osProfile", {}))
    system.pop("computerNamePrefix", None)
    system.pop("adminPassword", None)
    storage = dict(profile.get("storageProfile", {}))
    storage["osDisk"] = {"osType": "Linux", **storage.get("osDisk", {}), "name": f"{scale_set.name}_OsDisk_{row.name}"}
    network = profile.get("networkProfile", {})
    row.properties.update({
        "hardwareProfile": {"vmSize": scale_set.body["sku"]["name"]},
        "osProfile": {**system, "computerName": row.hidden["host"]},
        "storageProfile": storage,
        "networkProfileConfiguration": {
            "networkInterfaceConfigurations": network.get("networkInterfaceConfigurations", [])
        },
        "networkProfile": {"networkInterfaces": [{"id": one["id"]} for one in interfaces(row, scale_set)]},
    })  # fmt: skip


def interfaces(row: Row, scale_set: Row) -> Iterator[dict[str, Json]]:
    """The network interfaces of an instance, as the network provider lists them."""
    network = dig(scale_set.body, "properties.virtualMachineProfile.networkProfile", {})
    for nic in network.get("networkInterfaceConfigurations", []):
        identity = f"{row.id}/networkInterfaces/{nic['name']}"
        configs = []
        for config in dig(nic, "properties.ipConfigurations", []):
            properties = dict(config.get("properties", {}))
            configs.append({
                "name": config["name"], "id": f"{identity}/ipConfigurations/{config['name']}",
                "properties": properties | {
                    "privateIPAddress": row.hidden["addresses"][0], "privateIPAllocationMethod": "Dynamic",
                    "provisioningState": "Succeeded", "primary": properties.get("primary", True),
                },
            })  # fmt: skip
        yield {
            "id": identity, "name": nic["name"],
            "properties": {
                "provisioningState": "Succeeded", "primary": bool(dig(nic, "properties.primary")),
                "ipConfigurations": configs, "virtualMachine": {"id": row.id},
            },
        }  # fmt: skip
