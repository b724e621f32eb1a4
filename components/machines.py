"""Virtual machines that stand alone."""

from __future__ import annotations

import pulumi
import pulumi_azure_native as azure

from components import tags
from components.images import image_id
from components.scale_set import linux
from components.site import Site
from patchwave.config.settings import Settings


class Machines(pulumi.ComponentResource):
    """Machines that nothing but a wave, or a schedule assigned to them, ever patches.

    Attributes: `ids` (by name).
    """

    def __init__(
        self, name: str, *, stack: str, settings: Settings, site: Site, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("patchwave:index:Machines", name, None, opts)
        self.ids: dict[str, pulumi.Output[str]] = {}
        for number in range(settings.machines.instances):
            machine = f"{name}-{number}"
            self.ids[machine] = self._machine(machine, stack, settings, site)
        self.register_outputs({"ids": self.ids})

    def _machine(self, name: str, stack: str, settings: Settings, site: Site) -> pulumi.Output[str]:
        ring = settings.rollout.ring_of(name, settings.slots.live).name
        labels = tags.host(stack, settings, "vm", ring=ring)
        nic = azure.network.NetworkInterface(
            f"{name}-nic",
            network_interface_name=f"{name}-nic",
            resource_group_name=site.group,
            location=settings.location,
            ip_configurations=[
                {"name": "primary", "subnet": {"id": site.subnet_id}, "private_ip_allocation_method": "Dynamic"}
            ],
            tags=tags.common(stack),
            opts=pulumi.ResourceOptions(parent=self),
        )
        machine = azure.compute.VirtualMachine(
            f"{name}-machine",
            vm_name=name,
            resource_group_name=site.group,
            location=settings.location,
            hardware_profile={"vm_size": settings.machines.size},
            os_profile={
                "computer_name": name,
                "admin_username": "patchwave",
                "linux_configuration": linux(settings.ssh_public_key) | {"patch_settings": patch_settings()},
            },
            storage_profile={
                "image_reference": {"id": image_id(site.group_id, settings.machines.image)},
                "os_disk": {
                    "name": f"{name}-os",
                    "create_option": "FromImage",
                    "managed_disk": {"storage_account_type": "Premium_LRS"},
                },
            },
            network_profile={"network_interfaces": [{"id": nic.id, "primary": True}]},
            tags=labels | {"patchwave-host": name},
            # a way back by snapshot swaps the OS disk outside of the program
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
