"""What Azure Compute refuses of disks, snapshots and restore points."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from math import ceil

from sandbox.azure.arm.rules.change import Change, dig, recent, refuses, unchangeable
from sandbox.azure.resources.errors import AzureError, bad_request, conflict, too_many
from sandbox.azure.resources.store import Row


@refuses("Microsoft.Compute/restorePointCollections")
def collection_source(change: Change) -> Iterator[AzureError]:
    source = change.at("source.id")
    if not source:
        yield bad_request("InvalidParameter", "Required parameter 'source.id' is missing (null).")
        return
    if "/microsoft.compute/virtualmachines/" not in source.lower():
        yield bad_request(
            "InvalidParameter",
            "The source of a restore point collection must be a virtual machine; restore points are not supported for "
            "scale sets of orchestration mode Uniform, nor for machines outside Azure.",
        )
    yield from unchangeable(change, "source.id")


@refuses("Microsoft.Compute/restorePointCollections/restorePoints")
def restore_point(change: Change) -> Iterator[AzureError]:
    mode = change.at("consistencyMode")
    wanted = mode or "ApplicationConsistent"
    if mode is not None and mode != "CrashConsistent":
        yield bad_request(
            "InvalidParameter",
            f"The value '{mode}' of parameter 'consistencyMode' is not allowed: CrashConsistent or none.",
        )
    if change.old is not None:
        yield conflict("OperationNotAllowed", f"Restore point '{change.name}' already exists and cannot be changed.")
        return
    siblings = _points_of_same_machine(change)
    if busy := [row for row in siblings if dig(row.body, "properties.provisioningState") == "Creating"]:
        yield conflict(
            "OperationNotAllowed",
            f"Restore point '{busy[0].name}' of the same virtual machine is being created: one is made at a time.",
        )
    if len(siblings) >= 500:
        yield conflict("OperationNotAllowed", "A virtual machine has at most 500 restore points.")
    alike = [row for row in siblings if dig(row.body, "properties.consistencyMode", "ApplicationConsistent") == wanted]
    taken = recent(alike, change.now, 3600)
    if change.rationed and len(taken) >= 3:
        wait = ceil((taken[-3] + timedelta(hours=1) - change.now).total_seconds())
        yield too_many("TooManyRequests", "A virtual machine gets at most 3 restore points of one mode an hour.", wait)


def _points_of_same_machine(change: Change) -> list[Row]:
    collections = change.view.of_type("Microsoft.Compute/restorePointCollections")
    machines = {row.key: str(dig(row.body, "properties.source.id", "")).lower() for row in collections}
    mine = machines.get(change.id.lower().rsplit("/", 2)[0])
    points = change.view.of_type("Microsoft.Compute/restorePointCollections/restorePoints")
    return [row for row in points if machines.get(row.key.rsplit("/", 2)[0]) == mine]


@refuses("Microsoft.Compute/disks")
def disk_source(change: Change) -> Iterator[AzureError]:
    creation = change.at("creationData", {})
    option, source = creation.get("createOption"), str(creation.get("sourceResourceId", "")).lower()
    if change.old is not None:
        yield from _same_source(change)
    elif option == "Restore" and "/diskrestorepoints/" not in source:
        yield bad_request(
            "InvalidParameter", "Required parameter 'creationData.sourceResourceId' must be a disk restore point."
        )
    elif option == "Copy":
        if "/microsoft.compute/snapshots/" not in source:
            yield bad_request("OperationNotAllowed", "The sandbox copies disks from snapshots only.")
        snapshot = change.view.get(source)
        if snapshot is not None and snapshot.properties.get("completionPercent") != 100:
            yield conflict("OperationNotAllowed", f"Snapshot {source} is not complete: completionPercent must be 100.")
    elif option != "Restore":
        yield bad_request(
            "OperationNotAllowed", f"The sandbox makes disks by createOption Restore or Copy, not '{option}'."
        )


def _same_source(change: Change) -> Iterator[AzureError]:
    if any(unchangeable(change, "creationData.createOption", "creationData.sourceResourceId")):
        yield conflict("PropertyChangeNotAllowed", "Changing property 'creationData' is not allowed.")


@refuses("Microsoft.Compute/snapshots")
def snapshot(change: Change) -> Iterator[AzureError]:
    option, source = change.at("creationData.createOption"), change.at("creationData.sourceResourceId")
    if change.old is not None:
        yield from _same_source(change)
        yield from unchangeable(change, "incremental")
        return
    if option != "Copy":
        yield bad_request("OperationNotAllowed", f"The sandbox makes snapshots by createOption Copy, not '{option}'.")
    disk = change.view.get(str(source or ""))
    if source is None or "/microsoft.compute/disks/" not in source.lower():
        yield bad_request("InvalidParameter", "Required parameter 'creationData.sourceResourceId' must be a disk.")
    elif disk is not None:
        yield from _snapshot_of(change, disk)
    kept = str(dig(change.body, "sku.name", "Standard_LRS"))
    if kept not in ("Standard_LRS", "Standard_ZRS", "Premium_LRS"):
        yield bad_request(
            "InvalidParameter",
            f"The value '{kept}' of parameter 'snapshot.sku.name' is not allowed. Allowed values are 'Standard_LRS, "
            "Premium_LRS, Standard_ZRS'.",
        )


def _snapshot_of(change: Change, disk: Row) -> Iterator[AzureError]:
    if change.body.get("location") != disk.body.get("location"):
        yield bad_request("InvalidParameter", f"Snapshot and disk {disk.id} must be in the same location.")
    if dig(disk.body, "sku.name") in ("PremiumV2_LRS", "UltraSSD_LRS") and not change.at("incremental"):
        yield bad_request("OperationNotAllowed", f"Disk {disk.id} can have incremental snapshots only.")
    others = [
        row
        for row in change.view.of_type("Microsoft.Compute/snapshots")
        if str(dig(row.body, "properties.creationData.sourceResourceId", "")).lower() == disk.key
    ]
    if len(others) >= 500:
        yield conflict("OperationNotAllowed", f"Disk {disk.id} has 500 snapshots, which is the limit.")
    taken = recent(others, change.now, 300)
    if change.rationed and len(taken) >= 7:
        wait = ceil((taken[-7] + timedelta(minutes=5) - change.now).total_seconds())
        yield too_many("TooManyRequests", f"Disk {disk.id} gets at most 7 snapshots in 5 minutes.", wait)
