"""A virtual machine gets another OS disk: https://learn.microsoft.com/azure/virtual-machines/linux/os-disk-swap."""

from collections.abc import Mapping

from patchwave.azure.client import COMPUTE, Arm

DISK = "2024-03-02"


def group_of(resource_id: str) -> str:
    """The id of the resource group that a resource stands in."""
    return resource_id.split("/providers/")[0]


def swap(arm: Arm, machine_id: str, run: str, creation: Mapping[str, str]) -> None:
    """The machine runs again, from a new OS disk that is made by `creation`; the disk that it had is kept."""
    machine = arm.call("GET", machine_id, api=COMPUTE)
    name = f"{machine['name'].lower()}-os-{run.lower()}"
    body = {"location": machine["location"], "properties": {"creationData": dict(creation)}}
    disk = arm.call("PUT", f"{group_of(machine_id)}/providers/Microsoft.Compute/disks/{name}", api=DISK, body=body)
    arm.call("POST", f"{machine_id}/deallocate", api=COMPUTE)
    os_disk = {"createOption": "FromImage", "name": name, "managedDisk": {"id": disk["id"]}}
    arm.call("PATCH", machine_id, api=COMPUTE, body={"properties": {"storageProfile": {"osDisk": os_disk}}})
    arm.call("POST", f"{machine_id}/start", api=COMPUTE)
