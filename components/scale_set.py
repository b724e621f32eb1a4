"""One slot's scale set: identical instances that are replaced in batches and watched by the health extension."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_azure_native as azure

from components import images
from components.site import Site
from patchwave.config.settings import Administrators
from patchwave.config.settings.network import Probe
from patchwave.config.settings.slots import ImageUpgrade, Repairs, Rolling, SlotHosts


class ScaleSet(pulumi.ComponentResource):
    """A Uniform scale set whose model changes roll out in batches, judged by the application's own health.

    Attributes: `id`, `name`.
    """

    def __init__(
        self,
        name: str,
        *,
        hosts: SlotHosts,
        administrators: Administrators,
        labels: Mapping[str, str],
        pool_id: pulumi.Input[str],
        site: Site,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("patchwave:index:ScaleSet", name, None, opts)
        scale_set = azure.compute.VirtualMachineScaleSet(
            f"{name}-vmss",
            vm_scale_set_name=name,
            resource_group_name=site.group,
            location=site.location,
            orchestration_mode="Uniform",
            overprovision=False,
            sku={"name": hosts.size, "tier": "Standard", "capacity": hosts.instances},
            plan=images.plan(hosts.image),
            upgrade_policy={
                "mode": azure.compute.UpgradeMode.ROLLING,
                "rolling_upgrade_policy": rolling_policy(hosts.rolling),
                "automatic_os_upgrade_policy": image_upgrade_policy(hosts.image_upgrade),
            },
            automatic_repairs_policy=repairs_policy(hosts.repairs),
            virtual_machine_profile={
                "os_profile": {
                    "computer_name_prefix": f"{name}-",
                    "admin_username": administrators.user,
                    "linux_configuration": linux(administrators),
                },
                "storage_profile": {
                    "image_reference": images.reference(site.subscription, hosts.image),
                    "os_disk": {"create_option": "FromImage", "managed_disk": {"storage_account_type": "Premium_LRS"}},
                },
                "network_profile": {
                    "network_interface_configurations": [
                        {
                            "name": f"{name}-nic",
                            "primary": True,
                            "ip_configurations": [
                                {
                                    "name": "primary",
                                    "subnet": {"id": site.subnet_id},
                                    "load_balancer_backend_address_pools": [{"id": pool_id}],
                                }
                            ],
                        }
                    ]
                },
                "extension_profile": {"extensions": [health_extension(hosts.balancer.probe)]},
            },
            tags=labels,
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["sku.capacity"] if hosts.autoscaled else None),
        )
        self.id = scale_set.id
        self.name = scale_set.name
        self.register_outputs({"id": self.id})


def rolling_policy(rolling: Rolling) -> azure.compute.RollingUpgradePolicyArgsDict:
    """The service's form of the rolling decisions."""
    return {
        "max_batch_instance_percent": rolling.max_batch_percent,
        "max_unhealthy_instance_percent": rolling.max_unhealthy_percent,
        "max_unhealthy_upgraded_instance_percent": rolling.max_unhealthy_upgraded_percent,
        "pause_time_between_batches": f"PT{int(rolling.pause.total_seconds())}S",
        "rollback_failed_instances_on_policy_breach": True,
    }


def image_upgrade_policy(upgrade: ImageUpgrade | None) -> azure.compute.AutomaticOSUpgradePolicyArgsDict:
    """New image versions roll under the declared rolling policy, or not by themselves at all."""
    policy: azure.compute.AutomaticOSUpgradePolicyArgsDict = {
        "enable_automatic_os_upgrade": upgrade is not None,
        "use_rolling_upgrade_policy": True,
    }
    if upgrade:
        policy["os_rolling_upgrade_deferral"] = upgrade.defer
    return policy


def repairs_policy(repairs: Repairs | None) -> azure.compute.AutomaticRepairsPolicyArgsDict:
    """Unhealthy instances are repaired as decided, or not at all."""
    if repairs is None:
        return {"enabled": False}
    minutes = int(repairs.grace.total_seconds()) // 60
    return {"enabled": True, "grace_period": f"PT{minutes}M", "repair_action": repairs.action}


def health_extension(probe: Probe) -> azure.compute.VirtualMachineScaleSetExtensionArgsDict:
    """The application-health extension: with rich states where the application names them, else by status alone.

    https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-health-extension
    """
    settings = {
        "protocol": probe.protocol,
        "port": probe.port,
        "intervalInSeconds": int(probe.interval.total_seconds()),
        "numberOfProbes": probe.threshold,
    }
    return {
        "name": "ApplicationHealth",
        "publisher": "Microsoft.ManagedServices",
        "type": "ApplicationHealthLinux",
        "type_handler_version": "2.0" if probe.rich else "1.0",
        "auto_upgrade_minor_version": True,
        "settings": settings | ({"requestPath": probe.path} if probe.path else {}),
    }


def linux(administrators: Administrators) -> azure.compute.LinuxConfigurationArgsDict:
    """Login by key only."""
    path = f"/home/{administrators.user}/.ssh/authorized_keys"
    return {
        "disable_password_authentication": True,
        "provision_vm_agent": True,
        "ssh": {"public_keys": [{"path": path, "key_data": administrators.ssh_public_key}]},
    }
