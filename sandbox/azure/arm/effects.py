"""What a stored change does to the world: hosts, their disks and the load balancer.

Each effect makes the world like the store, so that it can be repeated after a kill at any point.
"""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import subprocess
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Protocol

from sandbox.azure.arm import patching
from sandbox.azure.arm.complete import stable
from sandbox.azure.arm.patching import Patching
from sandbox.azure.arm.references import followers
from sandbox.azure.arm.rules import dig, health_extension
from sandbox.azure.resources.errors import AzureError, conflict
from sandbox.azure.resources.ids import under
from sandbox.azure.resources.places import Hosts, Places, host_files
from sandbox.azure.resources.store import Operation, Row, Store
from sandbox.lab.hosts import HostSpec

INSTANCE = "microsoft.compute/virtualmachinescalesets/virtualmachines"
MACHINE = "microsoft.compute/virtualmachines"
SCALE_SET = "microsoft.compute/virtualmachinescalesets"
ARC = "microsoft.hybridcompute/machines"
COLLECTION = "microsoft.compute/restorepointcollections"
POINT = f"{COLLECTION}/restorepoints"
DISK = "microsoft.compute/disks"
SNAPSHOT = "microsoft.compute/snapshots"
NIC = "microsoft.network/networkinterfaces"
_BALANCED = ("microsoft.network/", "microsoft.compute/virtualmachine")
UNVERIFIED = ssl._create_unverified_context()  # noqa: S323  # the extension takes any certificate
_POWERS = {"start": "running", "poweroff": "stopped", "deallocate": "deallocated", "restart": "running"}


class Spreads(Protocol):
    """The load balancer."""

    def refresh(self) -> None: ...

    def connections(self, server: str) -> int: ...


class World:
    """Carries out operations; one at a time on one resource, in parallel otherwise."""

    def __init__(self, store: Store, hosts: Hosts, places: Places, balancer: Spreads) -> None:
        self._store = store
        self._hosts = hosts
        self._places = places
        self._balancer = balancer
        self._locks: dict[str, threading.RLock] = defaultdict(threading.RLock)
        self._guard = threading.Lock()
        self._patching = Patching(store, hosts)

    def run(self, operation: Operation) -> None:
        """Carries the operation out and writes down how it ended; never raises."""
        with self._own(operation.key):
            error, result = None, None
            try:
                result = self._carry_out(operation)
            except AzureError as refusal:
                error = {"code": refusal.code, "message": refusal.message}
            except Exception as failure:
                error = {"code": "InternalExecutionError", "message": " ".join(str(failure).split()) or repr(failure)}
            with self._store.change():
                if (
                    error
                    and operation.verb not in patching.VERBS
                    and (row := self._store.get(operation.key))
                    and "provisioningState" in row.properties
                ):
                    row.properties["provisioningState"] = "Failed"
                    self._store.put(row)
                self._store.finish(operation.id, error, result)

    def _carry_out(self, operation: Operation) -> Any:
        """The operation's result, where it has one."""
        row = self._store.get(operation.key)
        if operation.verb == "delete":
            if row is not None:
                self.delete(row)
        elif row is None:
            raise AzureError(404, "ResourceNotFound", f"{operation.key} was deleted before the operation was done.")
        elif operation.verb == "put":
            self.converge(row)
        elif operation.verb in patching.VERBS:
            return self._patching.act(row, operation.verb, operation.detail["wanted"])
        else:
            self.act(row, operation.verb)
        return None

    def _own(self, key: str) -> threading.RLock:
        with self._guard:
            return self._locks[key]

    def converge(self, row: Row) -> None:
        """Makes the lab match this row, and records that in its state."""
        if row.type == SCALE_SET and row.properties.get("orchestrationMode") != "Flexible":
            self._scale_set(row)
        elif "host" in row.hidden:
            self._machine(row)
        elif row.type == POINT:
            self._point(row)
        elif row.type == DISK:
            self._disk(row)
        elif row.type == SNAPSHOT:
            self._snapshot(row)
        if row.type.startswith(_BALANCED):
            self._balancer.refresh()
        self._mark(row.key, "Succeeded")

    def _mark(self, key: str, state: str, **hidden: Any) -> None:
        with self._store.change():
            if row := self._store.get(key):
                if "provisioningState" in row.properties:
                    row.properties["provisioningState"] = state
                row.hidden |= hidden
                self._store.put(row)

    # Scale sets

    def _scale_set(self, scale_set: Row) -> None:
        there = self._store.children(scale_set.key, INSTANCE)
        leaving = [row for row in there if row.deleting]
        if leaving:
            self._leave(leaving)
        self._each((row for row in there if not row.deleting), self._instance)
        self._balancer.refresh()
        self._upgrade(scale_set)

    def _leave(self, rows: Sequence[Row]) -> None:
        """Instances lose their place in the pools first, then their requests, then their hosts."""
        self._balancer.refresh()
        deadline = monotonic() + 5
        while monotonic() < deadline and any(self._balancer.connections(row.hidden["host"]) for row in rows):
            sleep(0.05)
        self._each(rows, lambda row: self._hosts.delete(row.hidden["host"]))
        with self._store.change():
            for row in rows:
                self._store.remove(row.key)

    def _instance(self, row: Row) -> None:
        self._machine(row)
        self._mark(row.key, "Succeeded", joined=True)

    def _upgrade(self, scale_set: Row) -> None:
        """Instances whose image is not the model's get it batch by batch, or are marked when the mode is Manual."""
        image = self._image(scale_set)
        rows = self._store.children(scale_set.key, INSTANCE)
        behind = [row for row in rows if row.hidden.get("image") not in (None, image)]
        mode = dig(scale_set.body, "properties.upgradePolicy.mode", "Manual")
        if not behind:
            return
        if mode == "Manual":
            for row in behind:
                row.properties["latestModelApplied"] = False
                self._store.put(row)
            return
        percent = 100
        if mode == "Rolling":
            percent = dig(scale_set.body, "properties.upgradePolicy.rollingUpgradePolicy.maxBatchInstancePercent", 20)
        size = max(1, ceil(len(rows) * percent / 100))
        for start in range(0, len(behind), size):
            batch = behind[start : start + size]
            self._each(batch, self._reimage)
            if mode == "Rolling" and (settings := health_extension(scale_set.body)) is not None:
                self._each(batch, lambda row: self._wait_healthy(row, settings))

    def _reimage(self, row: Row) -> None:
        self._mark(row.key, "Updating", joined=False, image=None, layers=None)
        self._balancer.refresh()
        self._hosts.delete(row.hidden["host"])
        if fresh := self._store.get(row.key):
            fresh.properties["latestModelApplied"] = True
            self._store.put(fresh)
            self._instance(fresh)

    def _wait_healthy(self, row: Row, settings: Any) -> None:
        deadline = monotonic() + 300
        while (state := health(row.hidden["addresses"][0], settings)) != "Healthy":
            if monotonic() > deadline:
                raise conflict(
                    "RollingUpgradeFaulted", f"Instance {row.name} is {state} after the upgrade of its batch."
                )
            sleep(1)

    def _each(self, rows: Iterable[Row], do: Callable[[Row], None]) -> None:
        """In parallel; the first error is raised after all have ended."""
        rows = list(rows)
        if not rows:
            return
        with ThreadPoolExecutor(min(8, len(rows))) as pool:
            errors = [future.exception() for future in [pool.submit(do, row) for row in rows]]
        for error in errors:
            if error is not None:
                raise error

    # Machines

    def _machine(self, row: Row) -> None:
        name = row.hidden["host"]
        if row.hidden.get("layers") is None:
            owner = self._store.get(row.parent) if row.type == INSTANCE else row
            image = self._image(owner or row)
            row.hidden |= {"image": image, "layers": list(self._lab(image)["layers"])}
            self._mark(
                row.key, row.properties.get("provisioningState", "Creating"), image=image, layers=row.hidden["layers"]
            )
        layers = tuple(Path(layer) for layer in row.hidden["layers"])
        if name not in self._hosts.names():
            address = row.hidden["addresses"][0]
            hostname = dig(row.body, "properties.osProfile.computerName", name)
            files = host_files(name, row.body.get("tags") or {}) | self._lab(row.hidden["image"]).get("files", {})
            self._hosts.create(HostSpec(name, hostname, address, layers, files))
        if row.type == MACHINE:
            self._swap(row)
        if row.hidden.get("power", "running") == "running":
            self._hosts.start(name)
        elif self._hosts.running(name):
            self._hosts.stop(name)

    def _swap(self, row: Row) -> None:
        """The host's disk becomes the one that the machine's model names; the old one is kept."""
        wanted = dig(row.body, "properties.storageProfile.osDisk.managedDisk.id", "").lower()
        used = row.hidden.get("disk")
        if used in (None, wanted):
            self._mark_attached(row, wanted)
            return
        name = row.hidden["host"]
        source = self._contents(wanted)
        if self._hosts.running(name):
            self._hosts.stop(name)
        if row.hidden.get("saved") != used:
            self._hosts.snapshot(name, self._contents(used))
            row.hidden["saved"] = used
            self._mark(row.key, "Updating", saved=used)
        self._hosts.restore(name, source)
        self._mark_attached(row, wanted)
        shutil.rmtree(source, ignore_errors=True)

    def _mark_attached(self, row: Row, wanted: str) -> None:
        with self._store.change():
            previous = row.hidden.get("disk")
            if previous and previous != wanted and (old := self._store.get(previous)):
                old.properties["diskState"] = "Unattached"
                old.body.pop("managedBy", None)
                self._store.put(old)
            if new := self._store.get(wanted):
                new.properties["diskState"] = "Attached"
                new.body["managedBy"] = row.id
                self._store.put(new)
            self._mark(row.key, row.properties["provisioningState"], disk=wanted, saved=None)

    def act(self, row: Row, verb: str) -> None:
        """Power: what the machine's owner requested by POST."""
        name = row.hidden["host"]
        self._mark(row.key, "Updating", power=_POWERS[verb])
        if verb == "restart":
            self._hosts.restart(name)
        elif verb == "start":
            self._hosts.start(name)
        else:
            self._hosts.stop(name)
        self._mark(row.key, "Succeeded")

    def _image(self, row: Row) -> str:
        """What stands for the image that a machine or a scale set is made from; an image stands for its latest."""
        if row.type == ARC:
            return str(row.hidden["image"])
        base = "properties.virtualMachineProfile." if row.type == SCALE_SET else "properties."
        return image_key(self._store, dig(row.body, f"{base}storageProfile.imageReference", {}))

    def _lab(self, image: str) -> dict[str, Any]:
        """The layers of an image and the files that hosts of it get."""
        version = self._store.get(image)
        found = version.hidden if version else json.loads(self._store.note(image) or "{}")
        if not found.get("layers"):
            raise AzureError(404, "GalleryImageNotFound", f"The image {image} is not available.")
        return dict(found)

    # Disks

    def _contents(self, disk: str) -> Path:
        return self._places.disks / stable(disk)

    def _point(self, row: Row) -> None:
        machine = self._store.get(row.hidden["machine"])
        if machine is None:
            raise AzureError(404, "NotFound", f"The virtual machine of restore point {row.name} was deleted.")
        target = self._contents(row.key)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            self._hosts.snapshot(machine.hidden["host"], target)

    def _disk(self, row: Row) -> None:
        target = self._contents(row.key)
        source = str(dig(row.body, "properties.creationData.sourceResourceId", "")).lower()
        if target.exists() or not source or row.body.get("managedBy"):
            return
        self._copy(source.split("/diskrestorepoints/")[0], row)

    def _snapshot(self, row: Row) -> None:
        """The contents of the disk as they are now: its host's, when a machine has it attached."""
        target = self._contents(row.key)
        if target.exists():
            return
        source = str(row.properties["creationData"]["sourceResourceId"]).lower()
        disk = self._store.get(source)
        machine = self._store.get(str(disk.body.get("managedBy", ""))) if disk else None
        if machine is None:
            self._copy(source, row)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._hosts.snapshot(machine.hidden["host"], target)

    def _copy(self, source: str, row: Row) -> None:
        """What lies under one key becomes the contents of the row, whole or not at all."""
        target = self._contents(row.key)
        draft = target.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        copy = ["cp", "--archive", "--reflink=auto", "--", str(self._contents(source)), str(draft)]
        done = subprocess.run(copy, capture_output=True, text=True, check=False)
        if done.returncode:
            raise conflict("InternalExecutionError", f"{row.name} cannot be made: {' '.join(done.stderr.split())}")
        draft.rename(target)

    # Deletion

    def delete(self, row: Row) -> None:
        """Nothing of the resource, of what is in it and of what only it used is left."""
        group = row.type == "microsoft.resources/resourcegroups"
        rows = [*self._store.under(row.key), *followers(row, self._store), row]
        self._balancer.refresh()
        hosted = [one for one in rows if one.hidden.get("host")]
        self._each(hosted, lambda one: self._remove_host(one, keep_disk=not group))
        for one in rows:
            if one.type in (POINT, DISK, SNAPSHOT):
                shutil.rmtree(self._contents(one.key), ignore_errors=True)
        with self._store.change():
            for one in rows:
                self._store.remove(one.key)
            gone = {one.key for one in rows}
            for nic in self._store.of_type(NIC):
                if str(dig(nic.body, "properties.virtualMachine.id", "")).lower() in gone:
                    nic.properties.pop("virtualMachine")
                    nic.properties.pop("primary", None)
                    self._store.put(nic)
        self._balancer.refresh()

    def _remove_host(self, row: Row, *, keep_disk: bool) -> None:
        name = row.hidden["host"]
        disk = row.hidden.get("disk")
        option = dig(row.body, "properties.storageProfile.osDisk.deleteOption", "Detach")
        if row.type == MACHINE and disk and keep_disk:
            if option == "Detach" and name in self._hosts.names():
                self._hosts.stop(name)
                self._hosts.snapshot(name, self._contents(disk))
            with self._store.change():
                if found := self._store.get(disk):
                    if option == "Detach":
                        found.properties["diskState"] = "Unattached"
                        found.body.pop("managedBy", None)
                        self._store.put(found)
                    else:
                        self._store.remove(disk)
        if row.type == MACHINE and keep_disk:
            for nic in dig(row.body, "properties.networkProfile.networkInterfaces", []):
                if dig(nic, "properties.deleteOption") == "Delete":
                    self._store.remove(nic["id"].lower())
        self._hosts.delete(name)

    # After a kill

    def reconcile(self) -> None:
        """Hosts that nothing in the store stands for go; those that it stands for run again."""
        rows = [row for row in self._store.all() if row.hidden.get("host")]
        known = {row.hidden["host"] for row in rows}
        for name in set(self._hosts.names()) - known:
            self._hosts.delete(name)
        self._balancer.refresh()
        busy = {operation.key for operation in self._store.unfinished()}

        def up(row: Row) -> None:
            pending = any(under(row.key, key) for key in busy)
            if not row.deleting and not pending and row.hidden.get("layers") is not None:
                self._machine(row)

        self._each(rows, up)


def marketplace(urn: str) -> str:
    """The note under which an image of the Marketplace is kept, by `publisher:offer:sku`."""
    return f"marketplace:{urn}".lower()


def image_key(store: Store, reference: Mapping[str, Any]) -> str:
    """The key of an image version, or the note of an image of the Marketplace; AzureError for one that is not there."""
    if reference.get("id"):
        return image_version(store, str(reference["id"])).key
    urn = ":".join(str(reference.get(part, "")) for part in ("publisher", "offer", "sku"))
    if store.note(marketplace(urn)) is None:
        raise AzureError(
            404,
            "PlatformImageNotFound",
            f"The platform image '{urn}:{reference.get('version', '')}' is not available. Verify that all fields in "
            "the storage profile are correct.",
        )
    return marketplace(urn)


def image_version(store: Store, wanted: str) -> Row:
    """The version itself, or the highest of an image."""
    wanted = wanted.lower().removesuffix("/versions/latest")
    row = store.get(wanted)
    if row is not None and row.type == "microsoft.compute/galleries/images":
        versions = store.children(row.key, "microsoft.compute/galleries/images/versions")
        versions.sort(key=lambda one: [int(part) if part.isdigit() else 0 for part in one.name.split(".")])
        row = versions[-1] if versions else None
    if row is None or row.type != "microsoft.compute/galleries/images/versions":
        raise AzureError(
            404, "GalleryImageNotFound",
            f"The gallery image {wanted} is not available. Please contact image owner to replicate to this region, or "
            "change your requested region.",
        )  # fmt: skip
    return row


def health(address: str, settings: Any) -> str:
    """What the application health extension would report: Healthy, Unhealthy, or Unknown of a rich one without answer.

    https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-health-extension
    """
    protocol, path, rich = settings.get("protocol", "http"), settings.get("requestPath", ""), settings.get("rich")
    port = int(settings.get("port") or (443 if protocol == "https" else 80))
    connection = http.client.HTTPConnection(address, port, timeout=3)
    if protocol == "https":
        connection = http.client.HTTPSConnection(address, port, timeout=3, context=UNVERIFIED)
    try:
        connection.connect()
        if protocol == "tcp":
            return "Healthy"
        connection.request("GET", path if path.startswith("/") else f"/{path}")
        answer = connection.getresponse()
        text = answer.read(65536).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return "Unknown" if rich else "Unhealthy"
    finally:
        connection.close()
    if not rich:
        return "Healthy" if answer.status == http.HTTPStatus.OK else "Unhealthy"
    if not 200 <= answer.status < 300:
        return "Unhealthy" if "Unhealthy" in text else "Unknown"
    return "Healthy" if '"Healthy"' in text else "Unknown"
