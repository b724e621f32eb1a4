"""What Recovery Services adds to a body."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sandbox.azure.arm.complete.common import completes, etag, stable
from sandbox.azure.arm.rules import dig
from sandbox.azure.resources.places import Places
from sandbox.azure.resources.store import Row, Store

KEPT_DAYS = 14
VAULT = "microsoft.recoveryservices/vaults"
POLICY = f"{VAULT}/backuppolicies"
ITEM = f"{VAULT}/backupfabrics/protectioncontainers/protecteditems"


@completes(VAULT)
def _vault(row: Row, old: Row | None, store: Store, places: Places) -> None:
    properties = row.properties
    properties.setdefault("publicNetworkAccess", "Enabled")
    deleted = properties.setdefault("securitySettings", {}).setdefault("softDeleteSettings", {})
    deleted.setdefault("softDeleteState", "Enabled")
    deleted.setdefault("softDeleteRetentionPeriodInDays", KEPT_DAYS)
    redundancy = properties.setdefault("redundancySettings", {})
    redundancy.setdefault("standardTierStorageRedundancy", "GeoRedundant")
    redundancy.setdefault("crossRegionRestore", "Disabled")
    properties |= {
        "privateEndpointStateForBackup": "None", "privateEndpointStateForSiteRecovery": "None",
        "bcdrSecurityLevel": "Fair", "backupStorageVersion": "V2",
    }  # fmt: skip
    row.body["etag"] = etag()


@completes(POLICY)
def _policy(row: Row, old: Row | None, store: Store, places: Places) -> None:
    properties = row.properties
    version = properties.setdefault("policyType", "V1")
    properties.setdefault("instantRpRetentionRangeInDays", 2)
    properties.setdefault("instantRPDetails", {})
    properties.setdefault("timeZone", "UTC")
    properties.setdefault("tieringPolicy", {"ArchivedRP": {
        "tieringMode": "DoNotTier", "duration": 0, "durationType": "Invalid"}})  # fmt: skip
    if version == "V1":
        properties["schedulePolicy"].setdefault("scheduleWeeklyFrequency", 0)
    properties["protectedItemsCount"] = len(protected_by(row, store))


def protected_by(policy: Row, store: Store) -> list[Row]:
    """The items that a policy protects."""
    return [item for item in store.of_type(ITEM) if str(item.properties.get("policyId", "")).lower() == policy.key]


@completes(ITEM)
def _item(row: Row, old: Row | None, store: Store, places: Places) -> None:
    properties = row.properties
    machine = store.get(properties["sourceResourceId"])
    policy = store.get(properties.get("policyId", ""))
    for name in ("isScheduledForDeferredDelete", "deferredDeleteTimeInUTC"):
        properties.pop(name, None)
    properties |= {
        "backupManagementType": "AzureIaasVM", "workloadType": "VM", "protectionState": "IRPending",
        "healthStatus": "Passed", "lastBackupStatus": "", "protectedItemDataId": stable(row.id),
        "containerName": row.id.split("/")[-3], "virtualMachineId": properties["sourceResourceId"],
    }  # fmt: skip
    if properties.pop("isRehydrate", False):
        properties["protectionState"] = "ProtectionStopped"
    if machine is not None:
        properties |= {"friendlyName": machine.name, "sourceLocation": machine.body.get("location")}
    if policy is not None:
        properties |= {
            "policyId": policy.id, "policyName": policy.name, "policyType": dig(policy.body, "properties.policyType"),
        }  # fmt: skip


def deferred(row: Row) -> None:
    """A protected item that is deleted from a vault with soft delete: it stays, for days, and is not protected."""
    ends = datetime.now(UTC) + timedelta(days=KEPT_DAYS)
    row.properties.update({
        "isScheduledForDeferredDelete": True, "deferredDeleteTimeInUTC": ends.isoformat(),
        "protectionState": "ProtectionStopped", "policyId": "",
    })  # fmt: skip
