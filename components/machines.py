"""Virtual machines that stand alone."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_azure_native as azure

from components import images, tags
from components.scale_set import linux
from components.site import Site
from patchwave.config.settings import Administrators
from patchwave.config.settings.machines import MachineHosts


class Machines(pulumi.ComponentResource):
    """Machines of one fleet, which nothing but a wave, or a schedule assigned to them, ever patches.

    `rings` names the ring of each machine that a schedule selects by it. Attributes: `ids` (by name).
    """

    def __init__(
        self,
        name: str,
        *,
        hosts: MachineHosts,
        administrators: Administrators,
        labels: Mapping[str, str],
        rings: Mapping[str, str],
        site: Site,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("patchwave:index:Machines", name, None, opts)
        self.ids: dict[str, pulumi.Output[str]] = {}
        for number in range(hosts.instances):
            machine = f"{name}-{number}"
            ring = {"patchwave-ring": rings[machine]} if machine in rings else {}
            own = {**labels, **ring, "patchwave-host": machine}
            self.ids[machine] = self._machine(machine, hosts, administrators, own, site)
        self.register_outputs({"ids": self.ids})

    def _machine(
        self, name: str, hosts: MachineHosts, administrators: Administrators, labels: Mapping[str, str], site: Site
    ) -> pulumi.Output[str]:
        nic = azure.network.NetworkInterface(
            f"{name}-nic",
            network_interface_name=f"{name}-nic",
            resource_group_name=site.group,
            location=site.location,
            ip_configurations=[
                {"name": "primary", "subnet": {"id": site.subnet_id}, "private_ip_allocation_method": "Dynamic"}
            ],
            tags=tags.common(site.stack),
            opts=pulumi.ResourceOptions(parent=self),
        )
        machine = azure.compute.VirtualMachine(
            f"{name}-machine",
            vm_name=name,
            resource_group_name=site.group,
            location=site.location,
            hardware_profile={"vm_size": hosts.size},
            plan=images.plan(hosts.image),
            os_profile={
                "computer_name": name,
                "admin_username": administrators.user,
                "linux_configuration": linux(administrators) | {"patch_settings": patch_settings()},
            },
            storage_profile={
                "image_reference": images.reference(site.subscription, hosts.image),
                "os_disk": {
                    "name": f"{name}-os",
                    "create_option": "FromImage",
                    "managed_disk": {"storage_account_type": "Premium_LRS"},
                },
            },
            network_profile={"network_interfaces": [{"id": nic.id, "primary": True}]},
            tags=labels,
            # a rollback by restore point or snapshot swaps the OS disk outside of the program
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["storageProfile.osDisk"]),
        )
        return machine.id


def patch_settings() -> azure.compute.LinuxPatchSettingsArgsDict:
    """Customer-managed: without an assigned schedule the platform never patches.

    https://learn.microsoft.com/azure/update-manager/prerequsite-for-schedule-patching
    """
    return {
        "patch_mode": "AutomaticByPlatform",
        "assessment_mode": "AutomaticByPlatform",
        "automatic_by_platform_settings": {"bypass_platform_safety_checks_on_user_schedule": True},
    }
