"""The windows as Update Manager knows them: one maintenance configuration a ring, with dynamic scopes by tag."""

from datetime import timedelta

import pulumi
import pulumi_azure_native as azure

from components import tags
from components.site import Site
from patchwave.calendar import Monthly, Window
from patchwave.settings import Settings

SHORTEST, LONGEST = timedelta(hours=1, minutes=30), timedelta(hours=3, minutes=55)

# The service wants Windows zone names: CLDR's windowsZones, territory 001.
WINDOWS_ZONES = {
    "Etc/UTC": "UTC",
    "Europe/London": "GMT Standard Time",
    "Europe/Berlin": "W. Europe Standard Time",
    "Europe/Paris": "Romance Standard Time",
    "America/New_York": "Eastern Standard Time",
    "America/Chicago": "Central Standard Time",
    "America/Los_Angeles": "Pacific Standard Time",
    "Asia/Kolkata": "India Standard Time",
    "Asia/Tokyo": "Tokyo Standard Time",
    "Australia/Sydney": "AUS Eastern Standard Time",
}


class Maintenance(pulumi.ComponentResource):
    """Machines tagged for Update Manager are patched in the stack's own windows, and only their ring's.

    Attributes: `configuration_ids` (by ring).
    """

    def __init__(
        self, name: str, *, stack: str, settings: Settings, site: Site, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("patchwave:index:Maintenance", name, None, opts)
        self.configuration_ids: dict[str, pulumi.Output[str]] = {}
        (window,) = settings.calendar.windows[:1]
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
                start_date_time=f"{settings.maintenance.starts_on:%Y-%m-%d} {window.starts:%H:%M}",
                duration=duration(window),
                time_zone=windows_zone(window.zone),
                recur_every=recur_every(window),
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


def duration(window: Window) -> str:
    """The window's length as the service takes it, HH:MM, at most 03:55 (the seeds' 4 h do not fit).

    https://learn.microsoft.com/azure/virtual-machines/maintenance-configurations
    """
    if window.lasts < SHORTEST:
        raise ValueError(f"a window of {window.lasts} is too short for Update Manager: give it at least {SHORTEST}")
    minutes = int(min(window.lasts, LONGEST).total_seconds()) // 60
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def recur_every(window: Window) -> str:
    """The window's recurrence in the service's grammar, such as `1Month Second Tuesday Offset5`."""
    if isinstance(window.recurs, Monthly):
        offset = f" Offset{window.recurs.offset_days}" if window.recurs.offset_days else ""
        return f"1Month {window.recurs.week.capitalize()} {window.recurs.weekday}{offset}"
    return f"1Week {','.join(window.recurs.weekdays)}"


def windows_zone(zone: str) -> str:
    """The Windows name of an IANA zone."""
    try:
        return WINDOWS_ZONES[zone]
    except KeyError:
        raise ValueError(f"zone {zone} has no Windows name here: use one of {', '.join(WINDOWS_ZONES)}") from None
