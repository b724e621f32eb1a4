"""What Azure Maintenance refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from patchwave.calendar.update_manager import windows_zones
from sandbox.azure.arm.rules.change import Change, dig, refuses
from sandbox.azure.resources.errors import AzureError, bad_request, conflict

Json = Any

_DAY = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_SHORT_DAY = f"(?:{_DAY}|Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH_DAY = r"day(?:[1-9]|[12]\d|3[01])"
_RECURRENCE = re.compile(
    rf"(\d{{1,3}})?\s*(?:(Hours?)|(Days?)|(Weeks?)(?: {_SHORT_DAY}(?:, ?{_SHORT_DAY})*)?|"
    rf"(Months?)( {_MONTH_DAY}(?:, ?{_MONTH_DAY})*| (?:First|Second|Third|Fourth|Last) {_DAY}(?: Offset-?[0-6])?)?)",
    re.IGNORECASE,
)
LINUX_CLASSES = ("Critical", "Security", "Other")
_WINDOWS_CLASSES = (
    "Critical",
    "Security",
    "UpdateRollup",
    "FeaturePack",
    "ServicePack",
    "Definition",
    "Tools",
    "Updates",
)
_WINDOW_LIMITS = {
    "inguestpatch": (timedelta(hours=1, minutes=30), timedelta(hours=3, minutes=55)),
    "osimage": (timedelta(hours=5), timedelta(hours=24)),
    "host": (timedelta(hours=2), timedelta(hours=24)),
}


def _window(why: str) -> AzureError:
    return bad_request("InvalidMaintenanceWindow", f"Invalid maintenance window. Error: {why}")


_SCOPES = ("Host", "Resource", "OSImage", "Extension", "InGuestPatch", "SQLDB", "SQLManagedInstance")


@refuses("Microsoft.Maintenance/maintenanceConfigurations")
def configuration(change: Change) -> Iterator[AzureError]:
    scope = change.at("maintenanceScope")
    if scope not in _SCOPES:
        yield bad_request("InvalidRequestContent", f"MaintenanceScope '{scope}' is not one of {', '.join(_SCOPES)}")
    if change.old is not None and scope != change.was("maintenanceScope"):
        yield bad_request("InvalidRequestContent", "MaintenanceScope of a configuration cannot be changed")
    if len(change.group) + len(change.name) >= 128:
        yield bad_request(
            "InvalidRequestContent", "Resource group and configuration name are longer than 127 together."
        )
    if change.at("visibility", "Custom") != "Custom":
        yield bad_request("InvalidRequestContent", "Public Maintenance Configuration must set correct properties")
    here = [
        row
        for row in change.view.of_type("Microsoft.Maintenance/maintenanceConfigurations")
        if row.key != change.id.lower() and row.body.get("location") == change.body.get("location")
    ]
    if len(here) >= 250:
        yield bad_request("InvalidRequestContent", "A subscription has at most 250 configurations in a region.")


@refuses("Microsoft.Maintenance/maintenanceConfigurations")
def maintenance_window(change: Change) -> Iterator[AzureError]:
    scope = str(change.at("maintenanceScope", "")).lower()
    window = change.at("maintenanceWindow", {})
    if not window:
        if scope in _WINDOW_LIMITS:
            yield _window("StartDateTime is not set for maintenance window.")
        return
    start, recur, duration = (window.get(name) for name in ("startDateTime", "recurEvery", "duration"))
    if not start:
        yield _window("StartDateTime is not set for maintenance window.")
    for name in ("startDateTime", "expirationDateTime"):
        if (text := window.get(name)) and _moment(text) is None:
            yield _window(f"{name} '{text}' is not in the format YYYY-MM-DD hh:mm.")
    yield from _on_the_clock(change, window)
    if duration is not None:
        yield from _duration(duration, scope)
    yield from _recurrence(str(recur or ""), scope)


def _on_the_clock(change: Change, window: Mapping[str, Json]) -> Iterator[AzureError]:
    """A start in the past is admitted: the reference wants a later one, and Azure's verified modules declare one.

    https://github.com/Azure/bicep-registry-modules/tree/main/avm/res/maintenance/maintenance-configuration/tests/e2e
    """
    zone = window.get("timeZone")
    if not zone:
        yield _window("TimeZone is not set for maintenance window.")
        return
    if (place := _clock(zone)) is None:
        yield _window(f"TimeZone '{zone}' is not a valid Windows time zone.")
        return
    if (begins := _moment(window.get("startDateTime") or "")) and _skipped(begins, place):
        yield _window(f"StartDateTime {_american(begins)} of maintenance window is invalid in timezone {zone}.")
    expires = _moment(window.get("expirationDateTime") or "")
    if expires and expires.replace(tzinfo=place) <= change.now:
        yield _window("ExpirationDateTime of maintenance window must be in the future.")


def _duration(duration: str, scope: str) -> Iterator[AzureError]:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", duration):
        yield _window(f"Duration '{duration}' is not in the format HH:mm.")
        return
    length = timedelta(hours=int(duration[:2]), minutes=int(duration[3:]))
    least, most = _WINDOW_LIMITS.get(scope, (timedelta(0), timedelta(hours=24)))
    if not least <= length <= most:
        yield _window(
            f"Duration {duration} of maintenance window is out of range for this scope: {_hours(least)} to "
            f"{_hours(most)}."
        )


def _clock(zone: str) -> ZoneInfo | None:
    """The zone whose clock a Windows zone keeps; None for a name that Windows does not have."""
    names = windows_zones().get(zone)
    return ZoneInfo(names[0]) if names else None


def _skipped(moment: datetime, place: ZoneInfo) -> bool:
    """Whether the clocks of a zone jump over a local time."""
    there = moment.replace(tzinfo=place)
    return there.astimezone(UTC).astimezone(place).replace(tzinfo=None) != moment


def _american(moment: datetime) -> str:
    hour = moment.hour % 12 or 12
    return f"{moment.month}/{moment.day}/{moment.year} {hour}:{moment:%M:%S} {'AM' if moment.hour < 12 else 'PM'}"


def _recurrence(recur: str, scope: str) -> Iterator[AzureError]:
    found = _RECURRENCE.fullmatch(recur.strip())
    if not recur:
        yield _window("RecurEvery is not set for maintenance window.")
    elif not found:
        yield _window(f"RecurEvery '{recur}' of maintenance window is invalid.")
    else:
        count, hourly, daily, weekly, monthly, which = found.groups()
        number = int(count or 1)
        if number == 0:
            yield _window(f"RecurEvery '{recur}' of maintenance window is invalid.")
        if monthly and not which:
            yield _window("Monthly maintenance window is missing day of month or week of month.")
        if hourly and number < 6:
            yield _window("Maintenance window cannot recur more often than every 6 hours.")
        if scope == "osimage" and not ((daily and number <= 7) or (weekly and number == 1)):
            yield _window("Maintenance window of scope OSImage must recur in days or weeks, at least once a week.")


@refuses("Microsoft.Maintenance/maintenanceConfigurations")
def guest_patching(change: Change) -> Iterator[AzureError]:
    if str(change.at("maintenanceScope", "")).lower() != "inguestpatch":
        if change.at("installPatches"):
            yield bad_request(
                "InvalidRequestContent", "Patch configuration is supported only for maintenance scope InGuestPatch"
            )
        return
    mode = change.at("extensionProperties.InGuestPatchMode")
    if mode not in ("User", "Platform"):
        yield bad_request(
            "InvalidRequestContent", "Extension properties must contain InGuestPatchMode with value User or Platform"
        )
    if mode == "Platform" and change.at("installPatches"):
        yield bad_request("InvalidRequestContent", "Patch configuration not supported for InGuestPatchMode = Platform")
    if mode == "User" and not change.at("installPatches"):
        yield bad_request("InvalidRequestContent", "Patch configuration is required for InGuestPatchMode = User")
    reboot = change.at("installPatches.rebootSetting", "IfRequired")
    if reboot not in ("IfRequired", "Never", "Always"):
        yield bad_request("InvalidRequestContent", f"RebootSetting '{reboot}' is not one of IfRequired, Never, Always")
    for system, allowed in (("linux", LINUX_CLASSES), ("windows", _WINDOWS_CLASSES)):
        for name in change.at(f"installPatches.{system}Parameters.classificationsToInclude", []):
            if name not in allowed:
                yield bad_request(
                    "InvalidRequestContent",
                    f"Classification '{name}' is not valid for {system.title()}. Valid values are {', '.join(allowed)}",
                )


TYPE = "Microsoft.Maintenance/configurationAssignments"
_MACHINES = ("microsoft.compute/virtualmachines", "microsoft.hybridcompute/machines")
_TAKES = {
    "microsoft.compute/virtualmachines": ("inguestpatch", "host"),
    "microsoft.compute/virtualmachinescalesets": ("osimage", "host"),
    "microsoft.hybridcompute/machines": ("inguestpatch",),
}


@refuses(TYPE)
def assignment(change: Change) -> Iterator[AzureError]:
    wanted = str(change.at("maintenanceConfigurationId", ""))
    configuration = change.view.get(wanted)
    if configuration is None:
        yield AzureError(404, "NotFound", f"Maintenance configuration '{wanted}' was not found.")
        return
    scope = str(dig(configuration.body, "properties.maintenanceScope", ""))
    owner = change.id.lower().rsplit("/providers/", 1)[0]
    if "/providers/" not in owner:
        yield from _dynamic(change, scope, configuration.key)
        return
    kind = "/".join(owner.rsplit("/providers/", 1)[1].split("/")[:2])
    if scope.lower() not in _TAKES.get(kind, ()):
        yield bad_request(
            "InvalidRequestContent", f"Maintenance scope {scope} is not supported for resources of {kind}."
        )
    if change.at("filter"):
        yield bad_request("InvalidRequestContent", "Filter is supported only for a dynamic scope.")
    machine = change.view.get(owner)
    if kind == _MACHINES[0] and scope.lower() == "inguestpatch" and machine and not _schedulable(machine.body):
        yield bad_request(
            "PrerequisiteNotMet",
            "The virtual machine does not meet the prerequisites for scheduled patching: set patchMode to "
            "AutomaticByPlatform, bypassPlatformSafetyChecksOnUserSchedule to true and provisionVMAgent to true.",
        )


def _dynamic(change: Change, scope: str, configuration: str) -> Iterator[AzureError]:
    """https://learn.microsoft.com/azure/update-manager/dynamic-scope-overview."""

    def wrong(why: str) -> AzureError:
        return bad_request("InvalidRequestContent", why)

    if scope.lower() != "inguestpatch":
        yield wrong("Dynamic scope is supported only for maintenance scope InGuestPatch")
    chosen = change.at("filter")
    if not chosen:
        yield AzureError(500, "InternalServerError", "Encountered internal server error.")
        return
    if "/resourcegroups/" in change.id.lower() and not chosen.get("locations"):
        yield wrong("Filter locations must be set for the dynamic scope of a resource group.")
    for kind in chosen.get("resourceTypes", []):
        if kind.lower() not in _MACHINES:
            yield wrong(f"Resource type '{kind}' is not supported in a dynamic scope.")
    for system in chosen.get("osTypes", []):
        if system not in ("Linux", "Windows"):
            yield wrong(f"OS type '{system}' is not one of Linux, Windows.")
    operator = dig(chosen, "tagSettings.filterOperator", "Any")
    if operator not in ("All", "Any"):
        yield wrong(f"Tag filter operator '{operator}' is not one of All, Any.")
    for what, values in (("tag", dig(chosen, "tagSettings.tags", {})), ("group", chosen.get("resourceGroups", []))):
        if len(values) > 50:
            yield wrong(f"A dynamic scope has at most 50 {what} filters.")
    yield from _among_others(change, configuration)


def _among_others(change: Change, configuration: str) -> Iterator[AzureError]:
    """The names of dynamic scopes are unique in a subscription, and a configuration has 200 of them at most."""
    others = [
        row
        for row in change.view.of_type(TYPE)
        if row.key != change.id.lower() and "/providers/" not in row.key.rsplit("/providers/", 1)[0]
    ]
    if any(row.name.lower() == change.name.lower() for row in others):
        yield conflict("Conflict", f"A dynamic scope named '{change.name}' exists in the subscription already.")
    of_same = [row for row in others if str(row.properties.get("maintenanceConfigurationId")).lower() == configuration]
    if len(of_same) >= 200:
        yield bad_request("InvalidRequestContent", "A configuration has at most 200 dynamic scopes.")


def _schedulable(machine: Mapping[str, Json]) -> bool:
    for system in ("linux", "windows"):
        configuration = dig(machine, f"properties.osProfile.{system}Configuration", {})
        settings = configuration.get("patchSettings", {})
        if configuration.get("provisionVMAgent") is False:
            return False
        if settings.get("patchMode") == "AutomaticByPlatform":
            return bool(dig(settings, "automaticByPlatformSettings.bypassPlatformSafetyChecksOnUserSchedule", False))
    return False


def _moment(text: str) -> datetime | None:
    for form in ("%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"):
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return None


def _hours(length: timedelta) -> str:
    total = int(length.total_seconds()) // 60
    return f"{total // 60:02d}:{total % 60:02d}"
