"""What Azure Maintenance refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from ..errors import AzureError, bad_request
from .change import Change, dig, refuses

Json = Any

_DAY = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_SHORT_DAY = f"(?:{_DAY}|Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH_DAY = r"day(?:[1-9]|[12]\d|3[01])"
_RECURRENCE = re.compile(
    rf"(\d{{1,3}})?\s*(?:(Hours?)|(Days?)|(Weeks?)(?: {_SHORT_DAY}(?:, ?{_SHORT_DAY})*)?|"
    rf"(Months?)( {_MONTH_DAY}(?:, ?{_MONTH_DAY})*| (?:First|Second|Third|Fourth|Last) {_DAY}(?: Offset-?[0-6])?)?)",
    re.IGNORECASE,
)
_LINUX_CLASSES = ("Critical", "Security", "Other")
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


@refuses("Microsoft.Maintenance/maintenanceConfigurations")
def maintenance_window(change: Change) -> Iterator[AzureError]:
    scope = str(change.at("maintenanceScope", "")).lower()
    window = change.at("maintenanceWindow", {})
    if len(change.group) + len(change.name) >= 128:
        yield bad_request(
            "InvalidRequestContent", "Resource group and configuration name are longer than 127 together."
        )
    if change.at("visibility", "Custom").lower() != "custom":
        yield bad_request("InvalidRequestContent", "Public Maintenance Configuration must set correct properties")
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
    zone = window.get("timeZone")
    if not zone:
        yield _window("TimeZone is not set for maintenance window.")
    elif "/" in zone:
        yield _window(f"TimeZone '{zone}' is not a valid Windows time zone.")
    expiry = _moment(window.get("expirationDateTime") or "9999-12-31 23:59")
    if expiry and expiry <= change.now.replace(tzinfo=None):
        yield _window("ExpirationDateTime of maintenance window must be in the future.")
    if duration is not None:
        if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", duration):
            yield _window(f"Duration '{duration}' is not in the format HH:mm.")
        else:
            length = timedelta(hours=int(duration[:2]), minutes=int(duration[3:]))
            least, most = _WINDOW_LIMITS.get(scope, (timedelta(0), timedelta(hours=24)))
            if not least <= length <= most:
                yield _window(
                    f"Duration {duration} of maintenance window is out of range for scope "
                    f"{change.at('maintenanceScope')}: {_hours(least)} to {_hours(most)}."
                )
    yield from _recurrence(str(recur or ""), scope)


def _recurrence(recur: str, scope: str) -> Iterator[AzureError]:
    found = _RECURRENCE.fullmatch(recur.strip())
    if not recur:
        yield _window("RecurEvery is not set for maintenance window.")
    elif not found:
        yield _window(f"RecurEvery '{recur}' of maintenance window is invalid.")
    else:
        count, hourly, daily, weekly, monthly, which = found.groups()
        if monthly and not which:
            yield _window("Monthly maintenance window is missing day of month or week of month.")
        if hourly and int(count or 1) < 6:
            yield _window("Maintenance window cannot recur more often than every 6 hours.")
        if scope == "osimage" and not (daily or weekly):
            yield _window("RecurEvery of maintenance window must be Day or Week for scope OSImage.")


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
    for system, allowed in (("linux", _LINUX_CLASSES), ("windows", _WINDOWS_CLASSES)):
        for name in change.at(f"installPatches.{system}Parameters.classificationsToInclude", []):
            if name not in allowed:
                yield bad_request(
                    "InvalidRequestContent",
                    f"Classification '{name}' is not valid for {system.title()}. Valid values are {', '.join(allowed)}",
                )


@refuses("Microsoft.Maintenance/configurationAssignments")
def assignment(change: Change) -> Iterator[AzureError]:
    wanted = str(change.at("maintenanceConfigurationId", ""))
    configuration = change.view.get(wanted)
    if configuration is None:
        yield AzureError(404, "NotFound", f"Maintenance configuration '{wanted}' was not found.")
        return
    scope = str(dig(configuration.body, "properties.maintenanceScope", "")).lower()
    owner = change.id.lower().rsplit("/providers/", 1)[0]
    on_resource = "/providers/" in owner
    if not on_resource:
        if scope != "inguestpatch":
            yield bad_request(
                "InvalidRequestContent", "Dynamic scope is supported only for maintenance scope InGuestPatch"
            )
        if not change.at("filter"):
            yield AzureError(500, "InternalServerError", "Encountered internal server error.")
        elif not change.at("filter.locations"):
            yield bad_request("InvalidRequestContent", "Filter locations must be set for a dynamic scope.")
        for kind in change.at("filter.resourceTypes", []):
            if kind.lower() not in ("microsoft.compute/virtualmachines", "microsoft.hybridcompute/machines"):
                yield bad_request(
                    "InvalidRequestContent", f"Resource type '{kind}' is not supported in a dynamic scope."
                )
        if len(dig(change.body, "properties.filter.tagSettings.tags", {})) > 50:
            yield bad_request("InvalidRequestContent", "A dynamic scope has at most 50 tag filters.")
        return
    kind = "/".join(owner.rsplit("/providers/", 1)[1].split("/")[:2])
    if kind == "microsoft.compute/virtualmachinescalesets" and scope == "inguestpatch":
        yield bad_request(
            "InvalidRequestContent", "Maintenance scope InGuestPatch is not supported for virtual machine scale sets."
        )
    if kind == "microsoft.compute/virtualmachines" and scope == "inguestpatch":
        machine = change.view.get(owner)
        if machine is not None and not _schedulable(machine.body):
            yield bad_request(
                "PrerequisiteNotMet",
                "The virtual machine does not meet the prerequisites for scheduled patching: set patchMode to "
                "AutomaticByPlatform and bypassPlatformSafetyChecksOnUserSchedule to true.",
            )


def _schedulable(machine: Mapping[str, Json]) -> bool:
    for system in ("linux", "windows"):
        settings = dig(machine, f"properties.osProfile.{system}Configuration.patchSettings", {})
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
