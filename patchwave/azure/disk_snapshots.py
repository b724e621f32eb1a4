"""Rollback of a virtual machine by disk: an incremental snapshot of its OS disk before, a disk made of it afterwards.

https://learn.microsoft.com/azure/virtual-machines/disks-incremental-snapshots
"""

from datetime import datetime, timedelta

from patchwave.azure.client import COMPUTE, Arm
from patchwave.azure.disks import DISK, group_of, swap
from patchwave.base.errors import Failed

TAG = "patchwave-protects"


def _snapshots(machine_id: str) -> str:
    return f"{group_of(machine_id)}/providers/Microsoft.Compute/snapshots"


def _snapshot(machine_id: str, run: str) -> str:
    return f"{_snapshots(machine_id)}/{machine_id.rsplit('/', 1)[1].lower()}-os-{run.lower()}"


def take(arm: Arm, machine_id: str, run: str) -> str:
    """The id of this run's snapshot, which exists and is complete when this returns."""
    machine = arm.call("GET", machine_id, api=COMPUTE)
    disk = machine["properties"]["storageProfile"]["osDisk"]["managedDisk"]["id"]
    body = {
        "location": machine["location"],
        "sku": {"name": "Standard_LRS"},
        "tags": {TAG: machine["name"].lower()},
        "properties": {"creationData": {"createOption": "Copy", "sourceResourceId": disk}, "incremental": True},
    }
    path = _snapshot(machine_id, run)
    taken = arm.call("PUT", path, api=DISK, body=body)
    state, percent = taken["properties"]["provisioningState"], taken["properties"].get("completionPercent", 100)
    if state != "Succeeded" or percent < 100:
        raise Failed(f"{path}: the snapshot is {state}, {percent:g} %: look at it in the portal, then run again")
    return str(taken["id"])


def swap_back(arm: Arm, machine_id: str, run: str) -> None:
    """The machine runs again from its OS disk as it was at this run's snapshot; the patched disk is kept."""
    swap(arm, machine_id, run, {"createOption": "Copy", "sourceResourceId": _snapshot(machine_id, run)})


def expire(arm: Arm, machine_id: str, keep: timedelta, now: datetime) -> int:
    """Deletes the machine's snapshots older than `keep`; how many."""
    own = machine_id.rsplit("/", 1)[1].lower()
    old = [
        found["id"]
        for found in arm.pages(_snapshots(machine_id), api=DISK)
        if (found.get("tags") or {}).get(TAG) == own
        and now - datetime.fromisoformat(found["properties"]["timeCreated"]) > keep
    ]
    for snapshot in old:
        arm.call("DELETE", snapshot, api=DISK)
    return len(old)
