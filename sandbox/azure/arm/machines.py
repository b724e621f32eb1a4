"""What is there before any program runs: the shared gallery with its image, and machines that play Arc."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.azure.arm import effects
from sandbox.azure.arm.complete import allocate, now, stable
from sandbox.azure.arm.manager import Manager
from sandbox.azure.arm.rules import dig
from sandbox.azure.resources.errors import AzureError, bad_request, conflict
from sandbox.azure.resources.ids import SUBSCRIPTION
from sandbox.azure.resources.store import Row, Store

Json = Any
LOCATION = "westeurope"
ROOT = f"/subscriptions/{SUBSCRIPTION}"
GALLERY = f"{ROOT}/resourceGroups/shared-images/providers/Microsoft.Compute/galleries/fieldops"
IMAGE = f"{GALLERY}/images/web"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?")


def seed(store: Store, version: str, layers: Sequence[str]) -> None:
    """The shared gallery's image version points at these layers; everything else is made once."""
    with store.change():
        for name in ("shared-images", "sites"):
            _group(store, name)
        _keep(store, GALLERY, "galleries", {"properties": {"identifier": {"uniqueName": "FIELDOPS"}}})
        _keep(store, IMAGE, "galleries/images", {
            "properties": {
                "osType": "Linux", "osState": "Generalized", "hyperVGeneration": "V2", "architecture": "x64",
                "identifier": {"publisher": "FieldOps", "offer": "desk", "sku": "web"},
            },
        })  # fmt: skip
        row = _keep(store, f"{IMAGE}/versions/{version}", "galleries/images/versions", {
            "properties": {
                "publishingProfile": {"publishedDate": now(), "excludeFromLatest": False},
                "storageProfile": {"osDiskImage": {"hostCaching": "ReadWrite", "source": {}}},
            },
        })  # fmt: skip
        row.hidden["layers"] = list(layers)
        store.put(row)


def _group(store: Store, name: str, location: str = LOCATION) -> None:
    key = f"{ROOT}/resourceGroups/{name}"
    if store.get(key) is None:
        body = {
            "id": key, "name": name, "type": "Microsoft.Resources/resourceGroups", "location": location,
            "properties": {"provisioningState": "Succeeded"},
        }  # fmt: skip
        store.put(Row(key, "microsoft.resources/resourcegroups", ROOT, body))


def _keep(store: Store, identity: str, type_: str, body: dict[str, Json]) -> Row:
    found = store.get(identity)
    if found is not None:
        return found
    parent = identity.rsplit("/", 2)[0] if type_ != "galleries" else identity.split("/providers/")[0]
    body |= {
        "id": identity,
        "name": identity.rsplit("/", 1)[1],
        "type": f"Microsoft.Compute/{type_}",
        "location": LOCATION,
    }
    body["properties"]["provisioningState"] = "Succeeded"
    row = Row(identity, f"microsoft.compute/{type_}", parent, body)
    store.put(row)
    return row


def enrol(manager: Manager, wanted: Json) -> dict[str, Json]:
    """A machine that runs its agent and has joined Azure: its host is up when this returns; may be repeated."""
    if not isinstance(wanted, Mapping):
        raise bad_request("InvalidRequestContent", "Enrolment needs a JSON object with a name.")
    name, tags = wanted.get("name"), wanted.get("tags") or {}
    group, location = wanted.get("resourceGroup", "sites"), wanted.get("location", LOCATION)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise bad_request("InvalidParameter", f"The name {name!r} is not a host name.")
    if not isinstance(tags, Mapping) or not all(isinstance(value, str) for value in tags.values()):
        raise bad_request("InvalidParameter", "The tags must be a map of strings.")
    store = manager.store
    with store.change():
        _group(store, str(group), str(location))
        key = f"{ROOT}/resourceGroups/{group}/providers/Microsoft.HybridCompute/machines/{name}"
        row = store.get(key) or _machine(manager, key, name)
        if row.deleting:
            raise conflict("ResourceIsBeingDeleted", f"{name} is being removed: try again when it is gone.")
        row.body |= {"tags": dict(tags), "location": location}
        store.put(row)
        operation = store.begin(row.key, "put")
    manager.world.run(operation)
    ended = store.operation(operation.id)
    if ended and ended.error:
        raise AzureError(500, ended.error["code"], ended.error["message"])
    return (store.get(row.key) or row).body


def _machine(manager: Manager, key: str, name: str) -> Row:
    store = manager.store
    address = allocate(store, manager.places)
    image = effects.image_version(store, IMAGE)
    body = {
        "id": key, "name": name, "type": "Microsoft.HybridCompute/machines",
        "properties": {
            "provisioningState": "Creating", "status": "Connected", "vmId": stable(key),
            "osType": "linux", "osName": "linux", "osSku": dig(image.hidden, "os", "Debian GNU/Linux"),
            "displayName": name, "machineFqdn": name, "dnsFqdn": name,
            "osProfile": {"computerName": name},
            "networkProfile": {
                "networkInterfaces": [{"ipAddresses": [{"address": address, "ipAddressVersion": "IPv4"}]}],
            },
        },
    }  # fmt: skip
    hidden = {"host": name, "addresses": [address], "power": "running", "image": image.key}
    row = Row(key, effects.ARC, key.split("/providers/")[0], body, hidden)
    for other in store.all():
        if other.hidden.get("host") == name:
            raise conflict("OperationNotAllowed", f"The sandbox has a host named {name} already ({other.id}).")
    return row
