"""What Azure Maintenance and Update Manager refuse."""

import re
from collections.abc import Iterator
from datetime import UTC, timedelta

from patchwave.calendar.update_manager import windows_zones
from patchwave.calendar.windows import time_zone
from policy.declared import Props
from policy.service.registry import refuses
from policy.service.values import at, clock, items, moment, strangers, table

CONFIGURATION = "maintenance:MaintenanceConfiguration"
IN_GROUP = "maintenance:ConfigurationAssignmentsForResourceGroup"
IN_SUBSCRIPTION = "maintenance:ConfigurationAssignmentsForSubscription"
ASSIGNMENT = "maintenance:ConfigurationAssignment"

_LEARN = "https://learn.microsoft.com/azure"
OVERVIEW = f"{_LEARN}/virtual-machines/maintenance-configurations"
LIMITS = f"{OVERVIEW}#service-limits"
REST = "https://learn.microsoft.com/rest/api/maintenance/maintenance-configurations/create-or-update"
PROGRAM = f"{_LEARN}/update-manager/manage-vms-programmatically"
SCALE_SETS = f"{_LEARN}/virtual-machines/virtual-machine-scale-sets-maintenance-control"
TROUBLE = f"{_LEARN}/virtual-machines/troubleshoot-maintenance-configurations"
_TERRAFORM = "https://github.com/hashicorp/terraform-provider-azurerm"

SCOPES = ("Host", "Resource", "OSImage", "Extension", "InGuestPatch", "SQLDB", "SQLManagedInstance")
LINUX = ("Critical", "Security", "Other")
WINDOWS = ("Critical", "Security", "UpdateRollup", "FeaturePack", "ServicePack", "Definition", "Tools", "Updates")
LENGTHS = {
    "InGuestPatch": (timedelta(hours=1, minutes=30), timedelta(hours=3, minutes=55)),
    "OSImage": (timedelta(hours=5), timedelta(hours=24)),
    "Host": (timedelta(hours=2), timedelta(hours=24)),
}
GUESTS = ("Microsoft.Compute/virtualMachines", "Microsoft.HybridCompute/machines")
PATCHED = ("Microsoft.Compute/virtualMachines", "Microsoft.Compute/virtualMachineScaleSets", GUESTS[1])

_DAY = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_DATE = r"day(?:[1-9]|[12]\d|3[01])"
_RECURRENCE = re.compile(
    rf"([1-9]\d?)?(?:(Hours?)|(Days?)|(Weeks?)(?: {_DAY}(?:, ?{_DAY})*)?|"
    rf"(Months?)( {_DATE}(?:, ?{_DATE})*| (?:First|Second|Third|Fourth|Last) {_DAY}(?: Offset-?[0-6])?)?)",
    re.IGNORECASE,
)


@refuses(CONFIGURATION, source=REST)
def maintenance_has_a_known_scope(props: Props) -> Iterator[str]:
    """A configuration says what it maintains."""
    if (scope := props.get("maintenanceScope")) not in SCOPES:
        yield f"maintenanceScope is {scope!r}: set InGuestPatch for machines, OSImage for scale sets"


@refuses(
    CONFIGURATION, source=f"{_TERRAFORM}/blob/main/internal/services/maintenance/maintenance_configuration_resource.go"
)
def configurations_are_custom(props: Props) -> Iterator[str]:
    """Only Azure itself publishes configurations."""
    if (visibility := props.get("visibility")) not in (None, "Custom"):
        yield f"visibility is {visibility!r}: set Custom or leave it out"


@refuses(CONFIGURATION, source=OVERVIEW)
def configuration_names_fit(props: Props) -> Iterator[str]:
    """The names of resource group and configuration have fewer than 128 characters together."""
    name = props.get("resourceName")
    longest_group = 90
    if not isinstance(name, str) or len(name) + longest_group < 128:
        return
    if len(name) >= 127 or len(name) + len(str(props.get("resourceGroupName"))) >= 128:
        yield f"resourceName has {len(name)} characters: with its resource group's keep below 128"


@refuses(CONFIGURATION, source="https://github.com/Azure/bicep/issues/8959")
def guest_patching_names_its_mode(props: Props) -> Iterator[str]:
    """Guest patching says whether the user's schedule or the platform's decides."""
    if props.get("maintenanceScope") == "InGuestPatch":
        mode = at(props, "extensionProperties", "InGuestPatchMode")
        if mode not in ("User", "Platform"):
            yield f"extensionProperties.InGuestPatchMode is {mode!r}: set User"


@refuses(CONFIGURATION, source="https://github.com/Azure/bicep-registry-modules/issues/7354")
def only_the_users_guest_patching_chooses_patches(props: Props) -> Iterator[str]:
    """Which patches are installed is chosen for scope InGuestPatch in mode User, and nowhere else."""
    if props.get("installPatches") is None:
        return
    scope, mode = props.get("maintenanceScope"), at(props, "extensionProperties", "InGuestPatchMode")
    if scope != "InGuestPatch" or mode == "Platform":
        yield f"installPatches stands beside scope {scope} in mode {mode}: leave it out, or patch guests in mode User"


@refuses(CONFIGURATION, source="https://github.com/Azure/azure-sdk-for-net/issues/34604")
def maintenance_has_a_start(props: Props) -> Iterator[str]:
    """A window counts from a first day and time."""
    if moment(start := props.get("startDateTime")) is None:
        yield f"startDateTime is {start!r}: write YYYY-MM-DD hh:mm, in the window's own zone"


@refuses(CONFIGURATION, source=OVERVIEW)
def maintenance_keeps_off_midnight(props: Props) -> Iterator[str]:
    """A schedule that starts in the last quarter of an hour of a day may not trigger."""
    start = moment(props.get("startDateTime"))
    if start and (start.hour, start.minute) >= (23, 45):
        yield f"startDateTime is at {start:%H:%M}: start before 23:45 or from 00:00 on"


@refuses(CONFIGURATION, source=REST)
def maintenance_expires_after_it_starts(props: Props) -> Iterator[str]:
    """A schedule that expires has begun before."""
    if (text := props.get("expirationDateTime")) is None:
        return
    start, end = moment(props.get("startDateTime")), moment(text)
    if end is None:
        yield f"expirationDateTime is {text!r}: write YYYY-MM-DD hh:mm"
    elif start and end <= start:
        yield f"expirationDateTime {text} is not after startDateTime: move one of the two"


@refuses(CONFIGURATION, source=OVERVIEW)
def maintenance_lasts_as_long_as_its_scope_takes(props: Props) -> Iterator[str]:
    """Guests are patched in 1:30 to 3:55 h, images rolled in 5 h at least, hosts serviced in 2 h at least."""
    length, scope = clock(text := props.get("duration")), props.get("maintenanceScope")
    if length is None:
        yield f"duration is {text!r}: write HH:mm"
        return
    least, most = LENGTHS.get(str(scope), (timedelta(0), timedelta(hours=24)))
    if not least <= length <= most:
        upper = f" to {_hours(most)}" if most < timedelta(hours=24) else " at least"
        yield f"duration is {text} for scope {scope}: set {_hours(least)}{upper}"


@refuses(CONFIGURATION, source=REST)
def maintenance_counts_in_a_windows_zone(props: Props) -> Iterator[str]:
    """Zones are named as Windows names them."""
    if not isinstance(zone := props.get("timeZone"), str) or zone not in windows_zones():
        yield f"timeZone is {zone!r}: write a Windows name such as 'UTC' or 'W. Europe Standard Time'"


@refuses(CONFIGURATION, source=f"{_TERRAFORM}/issues/32918")
def maintenance_starts_on_the_clock(props: Props) -> Iterator[str]:
    """A first start that its zone's clock skips is refused."""
    start, zones = moment(props.get("startDateTime")), windows_zones().get(str(props.get("timeZone")))
    if start and zones and 2000 <= start.year <= 2999:
        local = start.replace(tzinfo=time_zone(zones[0]))
        if local.astimezone(UTC).astimezone(local.tzinfo).replace(tzinfo=None) != start:
            yield f"startDateTime is {start:%Y-%m-%d %H:%M}, which {props.get('timeZone')} skips: start on another day"


@refuses(CONFIGURATION, source=f"{REST}#maintenanceconfiguration")
def recurrences_keep_the_grammar(props: Props) -> Iterator[str]:
    """A recurrence is a count with days, weeks and weekdays, or months and their days."""
    if not _RECURRENCE.fullmatch(str(text := props.get("recurEvery"))):
        yield f"recurEvery is {text!r}: write such as '1Day', '1Week Monday,Friday' or '1Month Second Tuesday Offset5'"


@refuses(CONFIGURATION, source=f"{_TERRAFORM}/issues/29738")
def monthly_maintenance_names_its_day(props: Props) -> Iterator[str]:
    """A month alone is no day."""
    found = _RECURRENCE.fullmatch(str(text := props.get("recurEvery")))
    if found and found[5] and not found[6]:
        yield f"recurEvery is {text!r}: name days of the month or a week and its day"


@refuses(CONFIGURATION, source=OVERVIEW)
def maintenance_repeats_after_six_hours_at_least(props: Props) -> Iterator[str]:
    """Windows do not follow each other closer."""
    found = _RECURRENCE.fullmatch(str(text := props.get("recurEvery")))
    if found and found[2] and int(found[1] or 1) < 6:
        yield f"recurEvery is {text!r}: leave 6 hours at least"


@refuses(CONFIGURATION, source=SCALE_SETS)
def images_roll_weekly_or_more_often(props: Props) -> Iterator[str]:
    """A window of scope OSImage recurs by days or weeks, up to a week."""
    found = _RECURRENCE.fullmatch(str(text := props.get("recurEvery")))
    if props.get("maintenanceScope") == "OSImage" and found:
        count = int(found[1] or 1)
        if not ((found[3] and count <= 7) or (found[4] and count == 1)):
            yield f"recurEvery is {text!r} for scope OSImage: write days up to 7Days, or 1Week with weekdays"


@refuses(CONFIGURATION, source=PROGRAM)
def reboots_are_a_known_word(props: Props) -> Iterator[str]:
    """The setting has three values; the documentation's NeverReboot and AlwaysReboot are refused."""
    if (setting := at(props, "installPatches", "rebootSetting")) not in (None, "IfRequired", "Never", "Always"):
        yield f"installPatches.rebootSetting is {setting!r}: set IfRequired or Never"


@refuses(CONFIGURATION, source="https://github.com/Azure/azure-rest-api-specs/issues/27222")
def reboots_read_back_as_written(props: Props) -> Iterator[str]:
    """`Always` reads back as `AlwaysReboot`, a difference in every preview after a refresh."""
    if at(props, "installPatches", "rebootSetting") == "Always":
        yield "installPatches.rebootSetting is 'Always': set IfRequired"


@refuses(CONFIGURATION, source=REST)
def linux_classes_are_known_words(props: Props) -> Iterator[str]:
    """Linux updates have three classes; `Others` is refused."""
    for one in strangers(at(props, "installPatches", "linuxParameters", "classificationsToInclude"), LINUX):
        yield f"linuxParameters.classificationsToInclude has {one!r}: choose of {', '.join(LINUX)}"


@refuses(CONFIGURATION, source=REST)
def windows_classes_are_known_words(props: Props) -> Iterator[str]:
    """Windows updates have eight classes."""
    for one in strangers(at(props, "installPatches", "windowsParameters", "classificationsToInclude"), WINDOWS):
        yield f"windowsParameters.classificationsToInclude has {one!r}: choose of {', '.join(WINDOWS)}"


@refuses(IN_GROUP, IN_SUBSCRIPTION, source="https://github.com/Azure/azure-cli/issues/28415")
def dynamic_scopes_have_a_filter(props: Props) -> Iterator[str]:
    """A dynamic scope says which machines it means; without a filter the service only answers HTTP 500."""
    if not at(props, "filter"):
        yield "filter is missing: name locations, resource types or tags"


@refuses(IN_GROUP, source=TROUBLE)
def dynamic_scopes_of_a_group_name_locations(props: Props) -> Iterator[str]:
    """On a resource group, the filter names locations."""
    if at(props, "filter") and not items(at(props, "filter", "locations")):
        yield "filter.locations is empty: name the machines' locations"


@refuses(IN_GROUP, IN_SUBSCRIPTION, source=f"{_LEARN}/update-manager/dynamic-scope-overview")
def dynamic_scopes_select_machines(props: Props) -> Iterator[str]:
    """A dynamic scope selects virtual machines and Arc machines; scale sets are not patched by Update Manager."""
    known = {guest.lower() for guest in GUESTS}
    for one in items(at(props, "filter", "resourceTypes")):
        if str(one).lower() not in known:
            yield f"filter.resourceTypes has {one!r}: choose of {', '.join(GUESTS)}"


@refuses(IN_GROUP, IN_SUBSCRIPTION, source=REST)
def dynamic_scopes_use_known_words(props: Props) -> Iterator[str]:
    """Systems are Linux and Windows; tags are joined by All or Any."""
    for one in strangers(at(props, "filter", "osTypes"), ("Linux", "Windows")):
        yield f"filter.osTypes has {one!r}: choose of Linux, Windows"
    if (operator := at(props, "filter", "tagSettings", "filterOperator")) not in (None, "All", "Any"):
        yield f"filter.tagSettings.filterOperator is {operator!r}: set All or Any"


@refuses(IN_GROUP, IN_SUBSCRIPTION, source=LIMITS)
def dynamic_scopes_stay_within_the_limits(props: Props) -> Iterator[str]:
    """A filter has at most 50 tags and 50 resource groups."""
    tags, groups = table(at(props, "filter", "tagSettings", "tags")), items(at(props, "filter", "resourceGroups"))
    if len(tags) > 50:
        yield f"filter.tagSettings.tags has {len(tags)} tags: keep 50"
    if len(groups) > 50:
        yield f"filter.resourceGroups has {len(groups)} groups: keep 50"


@refuses(
    ASSIGNMENT, source="https://learn.microsoft.com/rest/api/maintenance/configuration-assignments/create-or-update"
)
def assignments_name_what_azure_maintains(props: Props) -> Iterator[str]:
    """An assignment is to a virtual machine, a scale set or an Arc machine."""
    kind = f"{props.get('providerName')}/{props.get('resourceType')}"
    if kind.lower() not in {known.lower() for known in PATCHED}:
        yield f"providerName/resourceType is {kind}: choose of {', '.join(PATCHED)}"


def _hours(length: timedelta) -> str:
    minutes = int(length.total_seconds()) // 60
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
