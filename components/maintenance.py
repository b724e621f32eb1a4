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
from patchwave.calendar.windows import Calendar
from patchwave.config.settings import Fleet
from patchwave.config.settings.fleets import ExistingHosts, Ring
from patchwave.config.settings.maintenance import Assigned
from patchwave.config.settings.maintenance import Maintenance as Decisions
from patchwave.releases.release import Release

# What an assignment names, by the machine's source: provider and type.
KINDS: Mapping[str, tuple[str, str]] = {
    "vm": ("Microsoft.Compute", "virtualMachines"),
    "arc": ("Microsoft.HybridCompute", "machines"),
}


class Maintenance(pulumi.ComponentResource):
    """The fleets left to Update Manager are patched in the stack's own windows, ring after ring in each.

    `fleets` are these with their rings. Where the service will differ from the calendar, a preview warns.

    Attributes: `configuration_ids` (by ring, and by ring and number for a calendar's further windows).
    """

    def __init__(
        self,
        name: str,
        *,
        decisions: Decisions,
        calendar: Calendar,
        rings: Sequence[str],
        fleets: Mapping[str, tuple[Fleet, Sequence[Ring]]],
        release: Release | None,
        excludes: Sequence[str],
        site: Site,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("patchwave:index:Maintenance", name, None, opts)
        for note in update_manager.notes(calendar, rings, decisions.starts_on):
            pulumi.log.warn(note, resource=self)
        self.configuration_ids: dict[str, pulumi.Output[str]] = {}
        for key, ring, schedule in schedules(calendar, rings, decisions):
            configuration = azure.maintenance.MaintenanceConfiguration(
                f"{name}-{key}",
                resource_name_=f"{name}-{key}",
                resource_group_name=site.group,
                location=site.location,
                namespace="Microsoft.Maintenance",
                visibility="Custom",
                maintenance_scope="InGuestPatch",
                extension_properties={"InGuestPatchMode": "User"},
                start_date_time=schedule.start_date_time,
                duration=schedule.duration,
                time_zone=schedule.time_zone,
                recur_every=schedule.recur_every,
                install_patches=updates(decisions, release, excludes),
                tags=tags.common(site.stack) | {"patchwave-ring": ring},
                opts=pulumi.ResourceOptions(parent=self),
            )
            for fleet, (chosen, own) in fleets.items():
                if ring in [one.name for one in own]:
                    wanted = scope(fleet, chosen, ring if len(own) > 1 else None, decisions, site)
                    self._select(f"{name}-{key}-{fleet}", chosen, wanted, configuration.id, site)
            for machine in decisions.assigned:
                if machine.ring == ring:
                    self._assign(f"{name}-{key}", machine, site.location, configuration.id)
            self.configuration_ids[key] = configuration.id
        if decisions.events:
            Events(
                f"{name}-events",
                receiver=decisions.events,
                prefix=name.removesuffix("-maintenance"),
                configuration_ids=self.configuration_ids,
                site=site,
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({"configuration_ids": self.configuration_ids})

    def _select(
        self,
        name: str,
        fleet: Fleet,
        wanted: azure.maintenance.ConfigurationAssignmentFilterPropertiesArgsDict,
        configuration: pulumi.Input[str],
        site: Site,
    ) -> None:
        """In the groups that the fleet names, the stack's own for machines that it creates, else everywhere."""
        hosts = fleet.hosts
        groups: Sequence[pulumi.Input[str]] = (
            hosts.resource_groups if isinstance(hosts, ExistingHosts) else [site.group]
        )
        for number, group in enumerate(groups):
            own = f"{name}-{number}" if number else name
            azure.maintenance.ConfigurationAssignmentsForResourceGroup(
                own,
                configuration_assignment_name=own,
                resource_group_name=group,
                maintenance_configuration_id=configuration,
                filter=wanted,
                opts=pulumi.ResourceOptions(parent=self),
            )
        if not groups:
            azure.maintenance.ConfigurationAssignmentsForSubscription(
                name,
                configuration_assignment_name=name,
                maintenance_configuration_id=configuration,
                filter=wanted,
                opts=pulumi.ResourceOptions(parent=self),
            )

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


def schedules(calendar: Calendar, rings: Sequence[str], decisions: Decisions) -> Iterator[tuple[str, str, Schedule]]:
    """Key, ring and schedule of each configuration, which has one window; a ring's first goes by the ring's name."""
    for number, window in enumerate(calendar.windows, 1):
        for part in update_manager.parts(window, rings, decisions.starts_on):
            yield part.ring if number == 1 else f"{part.ring}-{number}", part.ring, part.schedule


def updates(
    decisions: Decisions, release: Release | None, excludes: Sequence[str]
) -> azure.maintenance.InputPatchConfigurationArgsDict:
    """What is installed: the chosen classes, or on Linux a release's packages and no others.

    A package that does not go back by downgrade is left to a wave: a schedule takes no dump and no restore point.
    What is excluded is installed in no case.
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
    name: str, fleet: Fleet, ring: str | None, decisions: Decisions, site: Site
) -> azure.maintenance.ConfigurationAssignmentFilterPropertiesArgsDict:
    """The machines of a fleet, whenever they appear; of one ring where the fleet has several, by their ring tag."""
    if isinstance(fleet.hosts, ExistingHosts):
        wanted = {key: [value] for key, value in fleet.hosts.tags.items()}
    else:
        wanted = {"patchwave-stack": [site.stack], "patchwave-fleet": [name]}
    if ring:
        wanted["patchwave-ring"] = [ring]
    return {
        "locations": [site.location],
        "os_types": ["Linux", *(["Windows"] if decisions.windows else [])],
        "resource_types": ["/".join(KINDS[fleet.kind])],
        "tag_settings": {"filter_operator": azure.maintenance.TagOperators.ALL, "tags": wanted},
    }
