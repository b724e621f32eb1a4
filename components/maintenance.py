"""The windows as Update Manager knows them: one maintenance configuration a ring, with dynamic scopes by tag."""

import pulumi
import pulumi_azure_native as azure

from components import tags
from components.site import Site
from patchwave import update_manager
from patchwave.settings import Settings


class Maintenance(pulumi.ComponentResource):
    """Machines tagged for Update Manager are patched in the stack's own windows, and only their ring's.

    Attributes: `configuration_ids` (by ring).
    """

    def __init__(
        self, name: str, *, stack: str, settings: Settings, site: Site, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("patchwave:index:Maintenance", name, None, opts)
        self.configuration_ids: dict[str, pulumi.Output[str]] = {}
        schedule = update_manager.schedule(settings.calendar.windows[0], settings.maintenance.starts_on)
        for ring in settings.rollout.rings:
            configuration = azure.maintenance.MaintenanceConfiguration(
                f"{name}-{ring.name}",
                resource_name_=f"{name}-{ring.name}",
                resource_group_name=site.group,
                location=settings.location,
                namespace="Microsoft.Maintenance",
                visibility="Custom",
                maintenance_scope="InGuestPatch",
                extension_properties={"InGuestPatchMode": "User"},
                start_date_time=schedule.start_date_time,
                duration=schedule.duration,
                time_zone=schedule.time_zone,
                recur_every=schedule.recur_every,
                install_patches={
                    "reboot_setting": "IfRequired",
                    "linux_parameters": {"classifications_to_include": ["Critical", "Security"]},
                },
                tags=tags.common(stack) | {"patchwave-ring": ring.name},
                opts=pulumi.ResourceOptions(parent=self),
            )
            for place, group, kind in (
                ("machines", site.group, "Microsoft.Compute/virtualMachines"),
                ("sites", settings.maintenance.arc_resource_group, "Microsoft.HybridCompute/machines"),
            ):
                azure.maintenance.ConfigurationAssignmentsForResourceGroup(
                    f"{name}-{ring.name}-{place}",
                    configuration_assignment_name=f"{name}-{ring.name}-{place}",
                    resource_group_name=group,
                    maintenance_configuration_id=configuration.id,
                    filter=scope(stack, ring.name, kind, settings.location),
                    opts=pulumi.ResourceOptions(parent=self),
                )
            self.configuration_ids[ring.name] = configuration.id
        self.register_outputs({"configuration_ids": self.configuration_ids})


def scope(
    stack: str, ring: str, kind: str, location: str
) -> azure.maintenance.ConfigurationAssignmentFilterPropertiesArgsDict:
    """The machines of one ring that are left to Update Manager, whenever they appear."""
    return {
        "locations": [location],
        "os_types": ["Linux"],
        "resource_types": [kind],
        "tag_settings": {
            "filter_operator": azure.maintenance.TagOperators.ALL,
            "tags": {
                "patchwave-stack": [stack],
                "patchwave-ring": [ring],
                "patchwave-method": ["update_manager"],
            },
        },
    }
