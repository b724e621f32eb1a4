"""When scale sets take new versions of their image."""

from collections.abc import Mapping
from datetime import date

import pulumi
import pulumi_azure_native as azure

from components import tags
from components.scale_set import ScaleSet
from components.site import Site
from patchwave.calendar import update_manager
from patchwave.config.settings.slots import ImageUpgrade


class ImageMaintenance(pulumi.ComponentResource):
    """Automatic image upgrades of the scale sets begin inside their own window only.

    https://learn.microsoft.com/azure/virtual-machines/virtual-machine-scale-sets-maintenance-control
    """

    def __init__(
        self,
        name: str,
        *,
        upgrade: ImageUpgrade,
        starts_on: date,
        scale_sets: Mapping[str, ScaleSet],
        site: Site,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("patchwave:index:ImageMaintenance", name, None, opts)
        schedule = update_manager.schedule(upgrade.window, starts_on, "OSImage")
        configuration = azure.maintenance.MaintenanceConfiguration(
            f"{name}-window",
            resource_name_=name,
            resource_group_name=site.group,
            location=site.location,
            namespace="Microsoft.Maintenance",
            visibility="Custom",
            maintenance_scope="OSImage",
            start_date_time=schedule.start_date_time,
            duration=schedule.duration,
            time_zone=schedule.time_zone,
            recur_every=schedule.recur_every,
            tags=tags.common(site.stack),
            opts=pulumi.ResourceOptions(parent=self),
        )
        for slot, scale_set in scale_sets.items():
            azure.maintenance.ConfigurationAssignment(
                f"{name}-{slot}",
                configuration_assignment_name=f"{name}-{slot}",
                resource_group_name=site.group,
                provider_name="Microsoft.Compute",
                resource_type="virtualMachineScaleSets",
                resource_name_=scale_set.name,
                location=site.location,
                maintenance_configuration_id=configuration.id,
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({})
