"""What Recovery Services refuses.

The bounds of policies are those of
https://registry.terraform.io/providers/hashicorp/azurerm/latest/docs/resources/backup_policy_vm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from patchwave.calendar.update_manager import windows_zones
from sandbox.azure.arm.rules.change import Change, dig, refuses
from sandbox.azure.resources.errors import AzureError, bad_request, conflict
from sandbox.azure.resources.ids import ResourceId

Json = Any


@refuses("Microsoft.RecoveryServices/vaults")
def vault(change: Change) -> Iterator[AzureError]:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{1,49}", change.name):
        yield bad_request(
            "InvalidResourceName", f"Vault name '{change.name}' must have 2 to 50 letters, digits and hyphens."
        )
    if not dig(change.body, "sku.name"):
        yield bad_request("InvalidParameter", "Required parameter 'sku' is missing (null).")
    days = change.at("securitySettings.softDeleteSettings.softDeleteRetentionPeriodInDays")
    if days is not None and not 14 <= days <= 180:
        yield bad_request("InvalidParameter", f"softDeleteRetentionPeriodInDays {days} must be between 14 and 180.")
    state = "securitySettings.softDeleteSettings.softDeleteState"
    if change.was(state) == "AlwaysON" and change.at(state) != "AlwaysON":
        yield bad_request("OperationNotAllowed", "Soft delete that is always on cannot be turned off.")


def _policy(why: str) -> AzureError:
    return bad_request(
        "BMSUserErrorInvalidPolicyInput",
        "Input for create or update policy is not in proper format\nPlease check format of parameters like schedule "
        f"time, schedule days, retention time and retention days: {why}",
    )


@refuses("Microsoft.RecoveryServices/vaults/backupPolicies")
def policy(change: Change) -> Iterator[AzureError]:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{2,149}", change.name):
        yield bad_request("InvalidResourceName", f"Policy name '{change.name}' must have 3 to 150 characters.")
    if change.at("backupManagementType") != "AzureIaasVM":
        yield bad_request("OperationNotAllowed", "The sandbox knows backup policies of virtual machines only.")
        return
    schedule, retention = change.at("schedulePolicy", {}), change.at("retentionPolicy", {})
    newer = change.at("policyType", "V1") == "V2"
    if schedule.get("schedulePolicyType") != ("SimpleSchedulePolicyV2" if newer else "SimpleSchedulePolicy"):
        yield _policy("a V2 policy has a SimpleSchedulePolicyV2, a V1 policy a SimpleSchedulePolicy.")
        return
    frequency = schedule.get("scheduleRunFrequency")
    days, most = change.at("instantRpRetentionRangeInDays", 2), 30 if newer else 5
    if not 1 <= days <= most:
        yield _policy(f"instantRpRetentionRangeInDays {days} must be between 1 and {most}.")
    if frequency == "Weekly" and not newer and change.at("instantRpRetentionRangeInDays", 5) != 5:
        yield _policy("instantRpRetentionRangeInDays must be 5 when the frequency is Weekly.")
    if (zone := change.at("timeZone")) is not None and zone not in windows_zones():
        yield _policy(f"the time zone '{zone}' is no Windows time zone.")
    times = _times(schedule, str(frequency), newer)
    yield from _schedule(schedule, str(frequency), newer, times)
    yield from _retention(retention, str(frequency), times)


def _times(schedule: Mapping[str, Json], frequency: str, newer: bool) -> list[str]:
    part = schedule.get(f"{frequency.lower()}Schedule", {}) if newer else schedule
    times: list[str] = part.get("scheduleRunTimes", [])
    return times


def _schedule(schedule: Mapping[str, Json], frequency: str, newer: bool, times: list[str]) -> Iterator[AzureError]:
    if frequency not in ("Hourly", "Daily", "Weekly"):
        yield _policy(f"the frequency '{frequency}' is not one of Hourly, Daily, Weekly.")
    if frequency == "Hourly":
        hourly = schedule.get("hourlySchedule", {})
        every, lasts = hourly.get("interval"), hourly.get("scheduleWindowDuration")
        if not newer:
            yield _policy("the frequency Hourly needs a V2 policy.")
        if every not in (4, 6, 8, 12):
            yield _policy(f"the interval of {every} hours is not one of 4, 6, 8, 12.")
        elif lasts is None or not 4 <= lasts <= 24 or lasts % every:
            yield _policy(f"the duration of {lasts} hours must be 4 to 24 and a multiple of the interval.")
        return
    if len(times) != 1 or not re.search(r"T\d\d:(00|30)(:00(\.0+)?)?(Z|\+00:00)?$", str(times[0])):
        yield _policy("exactly one schedule time, on the hour or half past it.")
    if frequency == "Weekly" and not (schedule.get("weeklySchedule", {}) if newer else schedule).get("scheduleRunDays"):
        yield _policy("the frequency Weekly needs schedule days.")


_UNITS = {"daily": ("Days", 7), "weekly": ("Weeks", 1), "monthly": ("Months", 1), "yearly": ("Years", 1)}


def _retention(retention: Mapping[str, Json], frequency: str, times: list[str]) -> Iterator[AzureError]:
    if retention.get("retentionPolicyType") != "LongTermRetentionPolicy":
        yield _policy("the retention of virtual machines is a LongTermRetentionPolicy.")
    needed = "weekly" if frequency == "Weekly" else "daily"
    if f"{needed}Schedule" not in retention:
        yield _policy(f"the frequency {frequency} needs a {needed} retention.")
    for name, (unit, least) in _UNITS.items():
        if (part := retention.get(f"{name}Schedule")) is None:
            continue
        count = dig(part, "retentionDuration.count", 0)
        if dig(part, "retentionDuration.durationType") != unit:
            yield _policy(f"the {name} retention is counted in {unit}.")
        if not least <= count <= 9999:
            yield _policy(f"the {name} retention must be {least} to 9999 {unit}.")
        if times and part.get("retentionTimes", times) != times:
            yield _policy(f"the {name} retention's time must be the schedule's, {', '.join(times)}.")


@refuses("Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems")
def item(change: Change) -> Iterator[AzureError]:
    found = ResourceId.parse(change.id)
    vault, fabric, container, name = found.names if found else ("", "", "", "")
    if fabric != "Azure":
        yield bad_request("BMSUserErrorInvalidInput", f"The fabric of a virtual machine is Azure, not '{fabric}'.")
    source = ResourceId.parse(str(change.at("sourceResourceId", "")))
    if change.at("protectedItemType") != "Microsoft.Compute/virtualMachines" or source is None:
        yield bad_request("OperationNotAllowed", "The sandbox protects virtual machines only.")
        return
    wanted = f"iaasvmcontainerv2;{source.group};{source.name}".lower()
    if (container.lower(), name.lower()) != (f"iaasvmcontainer;{wanted}", f"vm;{wanted}"):
        yield bad_request(
            "BMSUserErrorInvalidInput",
            f"The item of {source.text} is backupFabrics/Azure/protectionContainers/iaasvmcontainer;{wanted}/"
            f"protectedItems/vm;{wanted}.",
        )
    owner = change.id.lower().split("/backupfabrics/")[0]
    undeleted = change.at("isRehydrate") and change.was("isScheduledForDeferredDelete")
    if not undeleted and not str(change.at("policyId", "")).lower().startswith(f"{owner}/backuppolicies/"):
        yield bad_request("BMSUserErrorInvalidInput", f"policyId must name a backup policy of vault {vault}.")
    machine, home = change.view.get(source.key), change.view.get(owner)
    if machine is not None and home is not None and machine.body.get("location") != home.body.get("location"):
        yield bad_request("BMSUserErrorInvalidInput", f"Vault {vault} and {source.name} must be in the same region.")
    for row in change.view.of_type(
        "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems"
    ):
        if row.key != change.id.lower() and str(row.properties.get("sourceResourceId", "")).lower() == source.key:
            yield conflict(
                "BMSUserErrorItemAlreadyProtected", f"{source.text} is protected by another vault already: {row.id}."
            )
