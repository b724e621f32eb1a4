"""What is there before any program runs: galleries with their images, and machines that Arc knows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
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
WINDOWS = "Windows Server 2022 Datacenter"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?")


def provide(store: Store, images: Iterable[Mapping[str, Json]]) -> None:
    """Each image version points at its layers; gallery and image are made around one that has an id.

    An image is `key`, the version's id or `publisher:offer:sku` of the Marketplace, `layers`, `os` and `files`.
    """
    with store.change():
        for image in images:
            key, lab = str(image["key"]), {name: image[name] for name in ("layers", "os", "files")}
            if not key.startswith("/"):
                store.set_note(effects.marketplace(key), json.dumps(lab))
                continue
            gallery, _, rest = key.partition("/images/")
            name = rest.split("/")[0]
            _group(store, gallery.split("/")[4], subscription=gallery.split("/")[2])
            _keep(store, gallery, "galleries", {
                "properties": {"identifier": {"uniqueName": gallery.rsplit("/", 1)[1].upper()}},
            })  # fmt: skip
            _keep(store, f"{gallery}/images/{name}", "galleries/images", {
                "properties": {
                    "osType": "Linux", "osState": "Generalized", "hyperVGeneration": "V2", "architecture": "x64",
                    "identifier": {"publisher": "Lab", "offer": gallery.rsplit("/", 1)[1], "sku": name},
                },
            })  # fmt: skip
            row = _keep(store, key, "galleries/images/versions", {
                "properties": {
                    "publishingProfile": {"publishedDate": now(), "excludeFromLatest": False},
                    "storageProfile": {"osDiskImage": {"hostCaching": "ReadWrite", "source": {}}},
                },
            })  # fmt: skip
            row.hidden |= lab
            store.put(row)


def _group(store: Store, name: str, location: str = LOCATION, subscription: str = SUBSCRIPTION) -> None:
    root = f"/subscriptions/{subscription}"
    key = f"{root}/resourceGroups/{name}"
    if store.get(key) is None:
        body = {
            "id": key, "name": name, "type": "Microsoft.Resources/resourceGroups", "location": location,
            "properties": {"provisioningState": "Succeeded"},
        }  # fmt: skip
        store.put(Row(key, "microsoft.resources/resourcegroups", root, body))


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
    image = wanted.get("image", IMAGE)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise bad_request("InvalidParameter", f"The name {name!r} is not a host name.")
    if not isinstance(tags, Mapping) or not all(isinstance(value, str) for value in tags.values()):
        raise bad_request("InvalidParameter", "The tags must be a map of strings.")
    store = manager.store
    with store.change():
        _group(store, str(group), str(location))
        key = f"{ROOT}/resourceGroups/{group}/providers/Microsoft.HybridCompute/machines/{name}"
        row = store.get(key) or _machine(manager, key, name, image)
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


def _machine(manager: Manager, key: str, name: str, image: str | None) -> Row:
    """A machine with a host made from an image; without one it runs Windows, of which the lab has no hosts."""
    store = manager.store
    address = allocate(store, manager.places)
    found = effects.image_version(store, image) if image else None
    system = "linux" if found else "windows"
    body = {
        "id": key, "name": name, "type": "Microsoft.HybridCompute/machines",
        "properties": {
            "provisioningState": "Creating", "status": "Connected", "vmId": stable(key),
            "osType": system, "osName": system, "osSku": dig(found.hidden, "os", "Linux") if found else WINDOWS,
            "displayName": name, "machineFqdn": name, "dnsFqdn": name,
            "osProfile": {"computerName": name},
            "networkProfile": {
                "networkInterfaces": [{"ipAddresses": [{"address": address, "ipAddressVersion": "IPv4"}]}],
            },
        },
    }  # fmt: skip
    hidden: dict[str, Json] = {"addresses": [address], "power": "running"}
    if found:
        hidden |= {"host": name, "image": found.key}
    row = Row(key, effects.ARC, key.split("/providers/")[0], body, hidden)
    for other in store.all() if found else ():
        if other.hidden.get("host") == name:
            raise conflict("OperationNotAllowed", f"The sandbox has a host named {name} already ({other.id}).")
    return row
