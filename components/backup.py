"""Nightly backups of the machines that stand alone, to a vault."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_azure_native as azure

from components import tags
from components.site import Site
from patchwave.calendar.update_manager import windows_zone
from patchwave.config.settings.snapshots import Backup as Decisions


class Backup(pulumi.ComponentResource):
    """Each machine has a recovery point a night, kept as decided, that deleting the machine does not delete.

    https://learn.microsoft.com/azure/backup/backup-azure-vms-enhanced-policy
    """

    def __init__(
        self,
        name: str,
        *,
        decisions: Decisions,
        machines: Mapping[str, pulumi.Input[str]],
        site: Site,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("patchwave:index:Backup", name, None, opts)
        vault = azure.recoveryservices.Vault(
            f"{name}-vault",
            vault_name=f"{name}-vault",
            resource_group_name=site.group,
            location=site.location,
            sku={"name": "RS0", "tier": "Standard"},
            properties={
                "public_network_access": "Enabled",
                "security_settings": {"soft_delete_settings": soft_delete(decisions.soft_delete_days)},
            },
            tags=tags.common(site.stack),
            opts=pulumi.ResourceOptions(parent=self),
        )
        policy = azure.recoveryservices.ProtectionPolicy(
            f"{name}-policy",
            policy_name="nightly",
            vault_name=vault.name,
            resource_group_name=site.group,
            properties=nightly(decisions),
            opts=pulumi.ResourceOptions(parent=self),
        )
        for machine, machine_id in machines.items():
            azure.recoveryservices.ProtectedItem(
                f"{name}-{machine}",
                fabric_name="Azure",
                container_name=pulumi.Output.concat("iaasvmcontainer;iaasvmcontainerv2;", site.group, ";", machine),
                protected_item_name=pulumi.Output.concat("vm;iaasvmcontainerv2;", site.group, ";", machine),
                vault_name=vault.name,
                resource_group_name=site.group,
                # as a dictionary its keys would stay as they are: the SDK does not know which kind of item it is
                properties=azure.recoveryservices.AzureIaaSComputeVMProtectedItemArgs(
                    protected_item_type="Microsoft.Compute/virtualMachines",
                    policy_id=policy.id,
                    source_resource_id=machine_id,
                ),
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({})


def soft_delete(days: int | None) -> azure.recoveryservices.SoftDeleteSettingsArgsDict:
    """For how long what was deleted can be had back; until then the service does not delete the vault."""
    if days is None:
        return {"soft_delete_state": "Disabled"}
    return {"soft_delete_state": "Enabled", "soft_delete_retention_period_in_days": days}


def nightly(decisions: Decisions) -> azure.recoveryservices.AzureIaaSVMProtectionPolicyArgsDict:
    """The policy; of its instants the service reads the time only, in the policy's zone."""
    at = f"2026-01-01T{decisions.at:%H:%M}:00Z"
    sunday, first = azure.recoveryservices.DayOfWeek.SUNDAY, azure.recoveryservices.WeekOfMonth.FIRST
    kept: azure.recoveryservices.LongTermRetentionPolicyArgsDict = {
        "retention_policy_type": "LongTermRetentionPolicy",
        "daily_schedule": {"retention_times": [at], "retention_duration": _duration(decisions.days, "Days")},
    }
    if decisions.weeks:
        kept["weekly_schedule"] = {
            "days_of_the_week": [sunday],
            "retention_times": [at],
            "retention_duration": _duration(decisions.weeks, "Weeks"),
        }
    if decisions.months:
        kept["monthly_schedule"] = {
            "retention_schedule_format_type": "Weekly",
            "retention_schedule_weekly": {"days_of_the_week": [sunday], "weeks_of_the_month": [first]},
            "retention_times": [at],
            "retention_duration": _duration(decisions.months, "Months"),
        }
    return {
        "backup_management_type": "AzureIaasVM",
        "policy_type": "V2",
        "time_zone": windows_zone(decisions.zone),
        "instant_rp_retention_range_in_days": decisions.instant_days,
        "schedule_policy": {
            "schedule_policy_type": "SimpleSchedulePolicyV2",
            "schedule_run_frequency": "Daily",
            "daily_schedule": {"schedule_run_times": [at]},
        },
        "retention_policy": kept,
    }


def _duration(count: int, unit: str) -> azure.recoveryservices.RetentionDurationArgsDict:
    return {"count": count, "duration_type": unit}
