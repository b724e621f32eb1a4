"""What Azure Compute adds to a body."""

from __future__ import annotations

import hashlib
from typing import Any

from sandbox.azure.arm.complete.common import completes, kept, now, stable
from sandbox.azure.arm.rules import dig
from sandbox.azure.resources.places import Places
from sandbox.azure.resources.store import Row, Store

Json = Any


@completes("Microsoft.Compute/virtualMachineScaleSets")
def _scale_set(row: Row, old: Row | None, store: Store, places: Places) -> None:
    properties = row.properties
    properties["uniqueId"] = stable(row.id)
    properties["timeCreated"] = kept(old, "properties.timeCreated", now())
    properties.setdefault("overprovision", False)
    properties.setdefault("singlePlacementGroup", True)
    properties.setdefault("orchestrationMode", "Uniform")
    if "sku" in row.body:
        row.body["sku"].setdefault("tier", "Standard")
    if dig(properties, "upgradePolicy.mode") == "Rolling":
        policy = properties["upgradePolicy"].setdefault("rollingUpgradePolicy", {})
        for name in ("maxBatchInstancePercent", "maxUnhealthyInstancePercent", "maxUnhealthyUpgradedInstancePercent"):
            policy.setdefault(name, 20)
        policy.setdefault("pauseTimeBetweenBatches", "PT0S")
    row.properties["provisioningState"] = "Creating" if old is None else "Updating"


@completes("Microsoft.Compute/virtualMachines")
def _machine(row: Row, old: Row | None, store: Store, places: Places) -> None:
    properties = row.properties
    properties["vmId"] = stable(row.id)
    properties["timeCreated"] = kept(old, "properties.timeCreated", now())
    disk = properties["storageProfile"].setdefault("osDisk", {})
    before = dig(old.body, "properties.storageProfile.osDisk", {}) if old else {}
    system = "Linux" if dig(properties, "osProfile.windowsConfiguration") is None else "Windows"
    disk.setdefault("osType", before.get("osType", system))
    disk.setdefault("createOption", before.get("createOption", "FromImage"))
    disk.setdefault("deleteOption", before.get("deleteOption", "Detach"))
    managed = disk.setdefault("managedDisk", {})
    managed.setdefault("id", dig(before, "managedDisk.id") or _disk_id(row, disk.get("name")))
    managed.setdefault("storageAccountType", dig(before, "managedDisk.storageAccountType", "Premium_LRS"))
    disk["name"] = managed["id"].rsplit("/", 1)[-1]
    disk.setdefault("caching", before.get("caching", "ReadWrite"))
    if (linux := dig(properties, "osProfile.linuxConfiguration")) is not None:
        linux.setdefault("provisionVMAgent", True)
        patching = linux.setdefault("patchSettings", {})
        patching.setdefault("patchMode", "ImageDefault")
        patching.setdefault("assessmentMode", "ImageDefault")
    if (windows := dig(properties, "osProfile.windowsConfiguration")) is not None:
        windows.setdefault("provisionVMAgent", True)
        windows.setdefault("enableAutomaticUpdates", True)
        mode = "AutomaticByOS" if windows["enableAutomaticUpdates"] else "Manual"
        windows.setdefault("patchSettings", {}).setdefault("patchMode", mode)
    properties["provisioningState"] = "Creating" if old is None else "Updating"


def _disk_id(row: Row, name: str | None) -> str:
    group = row.id.lower().index("/providers/")
    mark = hashlib.sha256(f"{row.id}{now()}".encode()).hexdigest()[:32]
    return f"{row.id[:group]}/providers/Microsoft.Compute/disks/{name or f'{row.name}_OsDisk_1_{mark}'}"


@completes("Microsoft.Compute/restorePointCollections")
def _collection(row: Row, old: Row | None, store: Store, places: Places) -> None:
    source = store.get(row.properties["source"]["id"])
    if source:
        row.properties["source"]["location"] = source.body.get("location")
    row.properties["restorePointCollectionId"] = stable(row.id)


@completes("Microsoft.Compute/restorePointCollections/restorePoints")
def _point(row: Row, old: Row | None, store: Store, places: Places) -> None:
    collection = store.get(row.parent)
    machine = store.get(dig(collection.body, "properties.source.id", "")) if collection else None
    row.properties["timeCreated"] = kept(old, "properties.timeCreated", now())
    row.properties["provisioningState"] = "Creating"
    if machine is None:
        return
    disk = dict(machine.properties["storageProfile"]["osDisk"])
    row.properties["sourceMetadata"] = {
        "vmId": machine.properties["vmId"],
        "location": machine.body.get("location"),
        "hardwareProfile": machine.properties.get("hardwareProfile"),
        "osProfile": {k: v for k, v in machine.properties.get("osProfile", {}).items() if k != "adminPassword"},
        "storageProfile": {
            "osDisk": {
                "osType": disk["osType"], "name": disk["name"], "managedDisk": disk["managedDisk"],
                "diskRestorePoint": {"id": f"{row.id}/diskRestorePoints/{disk['name']}_{stable(row.id)}"},
            },
            "dataDisks": [],
        },
    }  # fmt: skip
    row.hidden["machine"] = machine.key


@completes("Microsoft.Compute/disks")
def _disk(row: Row, old: Row | None, store: Store, places: Places) -> None:
    row.properties["timeCreated"] = kept(old, "properties.timeCreated", now())
    row.properties["uniqueId"] = stable(row.id)
    row.properties.setdefault("diskState", "Unattached")
    row.properties.setdefault("diskSizeGB", 30)
    row.properties["provisioningState"] = "Creating" if old is None else "Succeeded"
    if old:
        row.properties["diskState"] = dig(old.body, "properties.diskState", "Unattached")
        if owner := old.body.get("managedBy"):
            row.body["managedBy"] = owner


@completes("Microsoft.Compute/snapshots")
def _snapshot(row: Row, old: Row | None, store: Store, places: Places) -> None:
    source = store.get(dig(row.body, "properties.creationData.sourceResourceId", ""))
    properties = row.properties
    properties["timeCreated"] = kept(old, "properties.timeCreated", now())
    properties["uniqueId"] = stable(row.id)
    properties["diskState"] = "Unattached"
    properties.setdefault("incremental", False)
    properties.setdefault("networkAccessPolicy", "AllowAll")
    properties.setdefault("publicNetworkAccess", "Enabled")
    row.body.setdefault("sku", {}).setdefault("name", "Standard_LRS")
    row.body["sku"].setdefault("tier", "Premium" if row.body["sku"]["name"].startswith("Premium") else "Standard")
    if source is not None:
        properties["creationData"]["sourceUniqueId"] = source.properties.get("uniqueId")
        properties.setdefault("osType", source.properties.get("osType"))
        properties.setdefault("diskSizeGB", source.properties.get("diskSizeGB"))
        if properties["incremental"]:
            properties["incrementalSnapshotFamilyId"] = stable(f"family {source.id}")
    properties["completionPercent"] = 100.0
    properties["provisioningState"] = "Creating" if old is None else "Succeeded"
