"""The windows as Update Manager knows them: one maintenance configuration a ring, and which machines it patches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pulumi
import pulumi_azure_native as azure

from components import tags
from components.events import Events
from components.site import Site
from patchwave.calendar import update_manager
from patchwave.calendar.update_manager import Schedule
from patchwave.config.settings import Settings
from patchwave.config.settings.maintenance import Assigned
from patchwave.config.settings.maintenance import Maintenance as Decisions
from patchwave.releases.release import Release

# What an assignment of its own names, by the machine's source: provider and type.
KINDS: Mapping[str, tuple[str, str]] = {
    "vm": ("Microsoft.Compute", "virtualMachines"),
    "arc": ("Microsoft.HybridCompute", "machines"),
}


class Maintenance(pulumi.ComponentResource):
    """Machines left to Update Manager are patched in the stack's own windows, ring after ring in each.

    Where the service will differ from the calendar, a preview warns.

    Attributes: `configuration_ids` (by ring, and by ring and number for a calendar's further windows).
    """

    def __init__(
        self,
        name: str,
        *,
        stack: str,
        settings: Settings,
        site: Site,
        release: Release | None,
        excludes: Sequence[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("patchwave:index:Maintenance", name, None, opts)
        decisions = settings.maintenance
        for note in update_manager.notes(settings.calendar, settings.rollout.ring_names, decisions.starts_on):
            pulumi.log.warn(note, resource=self)
        self.configuration_ids: dict[str, pulumi.Output[str]] = {}
        for key, ring, schedule in schedules(settings):
            configuration = azure.maintenance.MaintenanceConfiguration(
                f"{name}-{key}",
                resource_name_=f"{name}-{key}",
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
                install_patches=updates(decisions, release, excludes),
                tags=tags.common(stack) | {"patchwave-ring": ring},
                opts=pulumi.ResourceOptions(parent=self),
            )
            for place, group, source in (
                ("machines", site.group, "vm"),
                ("sites", decisions.arc_resource_group, "arc"),
            ):
                azure.maintenance.ConfigurationAssignmentsForResourceGroup(
                    f"{name}-{key}-{place}",
                    configuration_assignment_name=f"{name}-{key}-{place}",
                    resource_group_name=group,
                    maintenance_configuration_id=configuration.id,
                    filter=scope(stack, ring, "/".join(KINDS[source]), settings),
                    opts=pulumi.ResourceOptions(parent=self),
                )
            for machine in decisions.assigned:
                if machine.ring == ring:
                    self._assign(f"{name}-{key}", machine, settings.location, configuration.id)
            self.configuration_ids[key] = configuration.id
        if decisions.events:
            Events(
                f"{name}-events",
                stack=stack,
                settings=settings,
                site=site,
                receiver=decisions.events,
                configuration_ids=self.configuration_ids,
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({"configuration_ids": self.configuration_ids})

    def _assign(self, name: str, machine: Assigned, location: str, configuration: pulumi.Input[str]) -> None:
        provider, kind = KINDS[machine.source]
        own = f"{name}-{machine.resource_group}-{machine.name}".lower()
        azure.maintenance.ConfigurationAssignment(
            own,
            configuration_assignment_name=own,
            resource_group_name=machine.resource_group,
            provider_name=provider,
            resource_type=kind,
            resource_name_=machine.name,
            location=location,
            maintenance_configuration_id=configuration,
            opts=pulumi.ResourceOptions(parent=self),
        )


def schedules(settings: Settings) -> Iterator[tuple[str, str, Schedule]]:
    """Key, ring and schedule of each configuration, which has one window; a ring's first goes by the ring's name."""
    rings, since = settings.rollout.ring_names, settings.maintenance.starts_on
    for number, window in enumerate(settings.calendar.windows, 1):
        for part in update_manager.parts(window, rings, since):
            yield part.ring if number == 1 else f"{part.ring}-{number}", part.ring, part.schedule


def updates(
    decisions: Decisions, release: Release | None, excludes: Sequence[str]
) -> azure.maintenance.InputPatchConfigurationArgsDict:
    """What is installed: the chosen classes, or on Linux a release's packages and no others.

    A package that does not go back by downgrade is left to a wave: a schedule takes no dump and no snapshot. What is
    excluded is installed in no case.
    """
    linux: azure.maintenance.InputLinuxParametersArgsDict = {"classifications_to_include": list(decisions.linux)}
    if excludes:
        linux["package_name_masks_to_exclude"] = sorted(excludes)
    if release:
        packages = {package.name: package.reversibility == "downgrade" for package in release.packages}
        linux = {
            "classifications_to_include": [],
            "package_name_masks_to_include": sorted(name for name, simple in packages.items() if simple),
            "package_name_masks_to_exclude": sorted({*excludes, *(n for n, simple in packages.items() if not simple)}),
        }
    chosen: azure.maintenance.InputPatchConfigurationArgsDict = {
        "reboot_setting": decisions.reboot,
        "linux_parameters": linux,
    }
    if decisions.windows:
        chosen["windows_parameters"] = {"classifications_to_include": list(decisions.windows)}
    return chosen


def scope(
    stack: str, ring: str, kind: str, settings: Settings
) -> azure.maintenance.ConfigurationAssignmentFilterPropertiesArgsDict:
    """The machines of one ring that are left to Update Manager, whenever they appear."""
    return {
        "locations": [settings.location],
        "os_types": ["Linux", *(["Windows"] if settings.maintenance.windows else [])],
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
