"""Rollback of a virtual machine by restore point: a restore point before, its OS disk swapped in afterwards.

https://learn.microsoft.com/azure/virtual-machines/virtual-machines-create-restore-points
"""

from datetime import datetime, timedelta
from typing import Any

from patchwave.azure.client import COMPUTE, Arm
from patchwave.azure.disks import group_of, swap
from patchwave.base.errors import Failed


def collection_name(machine: str) -> str:
    """The name under which a machine's restore points are declared and found."""
    return f"{machine}-restore-points"


def _collection(machine_id: str) -> str:
    group, machine = group_of(machine_id.lower()), machine_id.rsplit("/", 1)[1]
    return f"{group}/providers/Microsoft.Compute/restorePointCollections/{collection_name(machine.lower())}"


def ensure_collection(arm: Arm, machine_id: str) -> None:
    """A machine that exists without the program has a collection; one that has it already keeps it as it is."""
    path = _collection(machine_id)
    group = group_of(machine_id)
    held = arm.pages(f"{group}/providers/Microsoft.Compute/restorePointCollections", api=COMPUTE)
    if any(str(one["id"]).lower() == path.lower() for one in held):
        return
    machine = arm.call("GET", machine_id, api=COMPUTE)
    body = {"location": machine["location"], "properties": {"source": {"id": machine["id"]}}}
    arm.call("PUT", path, api=COMPUTE, body=body)


def take(arm: Arm, machine_id: str, run: str) -> str:
    """The id of this run's restore point, which exists and is complete when this returns.

    A point cannot be written twice: one that a process of this run ordered before it was killed is this run's.
    """
    path = f"{_collection(machine_id)}/restorePoints/{run.lower()}"
    point = _points(arm, machine_id).get(run.lower())
    if point is None:
        point = arm.call("PUT", path, api=COMPUTE, body={"properties": {"consistencyMode": "CrashConsistent"}})
    state = point["properties"]["provisioningState"]
    if state != "Succeeded":
        raise Failed(f"{path}: the restore point is {state}: look at it in the portal, then run again")
    return str(point["id"])


def swap_back(arm: Arm, machine_id: str, run: str) -> None:
    """The machine runs again from its OS disk as it was at this run's restore point; the patched disk is kept."""
    point = arm.call("GET", f"{_collection(machine_id)}/restorePoints/{run.lower()}", api=COMPUTE)
    source = point["properties"]["sourceMetadata"]["storageProfile"]["osDisk"]["diskRestorePoint"]["id"]
    swap(arm, machine_id, run, {"createOption": "Restore", "sourceResourceId": source})


def expire(arm: Arm, machine_id: str, keep: timedelta, now: datetime) -> int:
    """Deletes the machine's restore points older than `keep`; how many."""
    old = [
        point["id"]
        for point in _points(arm, machine_id).values()
        if now - datetime.fromisoformat(point["properties"]["timeCreated"]) > keep
    ]
    for point in old:
        arm.call("DELETE", point, api=COMPUTE)
    return len(old)


def _points(arm: Arm, machine_id: str) -> dict[str, dict[str, Any]]:
    """The machine's restore points by name, in lower case."""
    found = arm.call("GET", f"{_collection(machine_id)}?$expand=restorePoints", api=COMPUTE)
    return {point["name"].lower(): point for point in found["properties"].get("restorePoints", [])}
