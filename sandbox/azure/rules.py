"""What Azure refuses, in Azure's codes and words (the wording is quoted where a public source quotes the service)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any, Protocol

from .errors import AzureError, bad_request, conflict
from .store import Row

Json = Any


class View(Protocol):
    """What a rule may look up."""

    def get(self, key: str) -> Row | None: ...

    def of_type(self, type_: str) -> list[Row]: ...

    def children(self, key: str, type_: str) -> list[Row]: ...


@dataclass(frozen=True)
class Change:
    """A body about to be stored over what is there."""

    id: str
    body: Mapping[str, Json]
    old: Mapping[str, Json] | None
    view: View
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def at(self, path: str, default: Json = None) -> Json:
        """A value of the new body's properties by dotted path."""
        return dig(self.body.get("properties"), path, default)

    def was(self, path: str) -> Json:
        return dig((self.old or {}).get("properties"), path)

    @property
    def name(self) -> str:
        return self.id.rsplit("/", 1)[-1]

    @property
    def group(self) -> str:
        return self.id.split("/")[4]


Rule = Callable[[Change], Iterator[AzureError]]
RULES: dict[str, list[Rule]] = {}


def refuses(*types: str) -> Callable[[Rule], Rule]:
    """Registers a rule for types of resources."""

    def keep(rule: Rule) -> Rule:
        for type_ in types:
            RULES.setdefault(type_.lower(), []).append(rule)
        return rule

    return keep


def check(type_: str, change: Change) -> None:
    """Raises the first refusal."""
    for rule in RULES.get(type_.lower(), ()):
        for refusal in rule(change):
            raise refusal


def dig(value: Json, path: str, default: Json = None) -> Json:
    """A value by dotted path, or the default when any part is missing."""
    for part in path.split("."):
        if not isinstance(value, Mapping) or value.get(part) is None:
            return default
        value = value[part]
    return value


def minutes(text: Json) -> float | None:
    """An ISO 8601 duration in minutes; None when it is none."""
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", str(text))
    if not found or not any(found.groups()):
        return None
    days, hours, mins, seconds = (float(part or 0) for part in found.groups())
    return days * 1440 + hours * 60 + mins + seconds / 60


# Maintenance

_DAY = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_SHORT_DAY = f"(?:{_DAY}|Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH_DAY = r"day(?:[1-9]|[12]\d|3[01])"
_RECURRENCE = re.compile(
    rf"(\d{{1,3}})?\s*(?:(Hours?)|(Days?)|(Weeks?)(?: {_SHORT_DAY}(?:, ?{_SHORT_DAY})*)?|"
    rf"(Months?)( {_MONTH_DAY}(?:, ?{_MONTH_DAY})*| (?:First|Second|Third|Fourth|Last) {_DAY}(?: Offset-?[0-6])?)?)",
    re.IGNORECASE,
)
_LINUX_CLASSES = ("Critical", "Security", "Other")
_WINDOWS_CLASSES = ("Critical", "Security", "UpdateRollup", "FeaturePack", "ServicePack", "Definition", "Tools", "Updates")
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
        yield bad_request("InvalidRequestContent", "Resource group and configuration name are longer than 127 together.")
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
        yield bad_request(
            "InvalidRequestContent", "Patch configuration not supported for InGuestPatchMode = Platform"
        )
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
            yield bad_request("InvalidRequestContent", "Dynamic scope is supported only for maintenance scope InGuestPatch")
        if not change.at("filter"):
            yield AzureError(500, "InternalServerError", "Encountered internal server error.")
        elif not change.at("filter.locations"):
            yield bad_request("InvalidRequestContent", "Filter locations must be set for a dynamic scope.")
        for kind in change.at("filter.resourceTypes", []):
            if kind.lower() not in ("microsoft.compute/virtualmachines", "microsoft.hybridcompute/machines"):
                yield bad_request("InvalidRequestContent", f"Resource type '{kind}' is not supported in a dynamic scope.")
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


# Compute

_HEALTH = ("ApplicationHealthLinux", "ApplicationHealthWindows")
EXTENSIONS = {("microsoft.managedservices", name.lower()) for name in _HEALTH}


def health_extension(body: Mapping[str, Json]) -> Mapping[str, Json] | None:
    """The settings of the application health extension of a scale set's profile."""
    for one in dig(body, "properties.virtualMachineProfile.extensionProfile.extensions", []):
        if dig(one, "properties.type") in _HEALTH:
            return dict(dig(one, "properties.settings", {}))
    return None


@refuses("Microsoft.Compute/virtualMachineScaleSets")
def scale_set_health(change: Change) -> Iterator[AzureError]:
    extension = health_extension(change.body) is not None
    probe = change.at("virtualMachineProfile.networkProfile.healthProbe") is not None
    why = "for this Virtual Machine Scale Set because a health probe or health extension was not"
    if change.at("upgradePolicy.mode") == "Rolling" and not (extension or probe):
        yield bad_request("BadRequest", f"Rolling Upgrade mode is not supported {why} provided.")
    if change.at("upgradePolicy.automaticOSUpgradePolicy.enableAutomaticOSUpgrade"):
        if extension and probe:
            yield bad_request(
                "BadRequest",
                "Automatic OS Upgrade is not supported for this Virtual Machine Scale Set because both a health probe and "
                "a health extension were provided. Remove the health probe or health extension and try again.",
            )
        if not (extension or probe):
            yield bad_request("BadRequest", f"Automatic OS Upgrade is not supported {why} specified.")
    if change.at("automaticRepairsPolicy.enabled"):
        if not (extension or probe):
            yield bad_request("BadRequest", f"Automatic repairs not supported {why} provided.")
        grace = change.at("automaticRepairsPolicy.gracePeriod")
        if grace is not None and not 10 <= (minutes(grace) or 0) <= 90:
            yield bad_request("BadRequest", f"The grace period {grace} provided is invalid. It must be between PT10M and PT90M.")


@refuses("Microsoft.Compute/virtualMachineScaleSets")
def rolling_limits(change: Change) -> Iterator[AzureError]:
    policy = change.at("upgradePolicy.rollingUpgradePolicy", {})
    for name, least in (
        ("maxBatchInstancePercent", 5), ("maxUnhealthyInstancePercent", 5), ("maxUnhealthyUpgradedInstancePercent", 0)
    ):  # fmt: skip
        value = policy.get(name)
        if value is not None and not least <= value <= 100:
            yield bad_request(
                "InvalidParameter",
                f"The value '{value}' of parameter 'upgradePolicy.rollingUpgradePolicy.{name}' is out of range. "
                f"The value must be between {least} and 100, inclusive.",
            )
    batch, unhealthy = policy.get("maxBatchInstancePercent", 20), policy.get("maxUnhealthyInstancePercent", 20)
    if policy and unhealthy < batch:
        yield bad_request(
            "BadRequest",
            f"The maximum unhealthy instance percent ({unhealthy}) must be greater than or equal to the maximum batch "
            f"instance percent ({batch}).",
        )
    pause = policy.get("pauseTimeBetweenBatches")
    if pause is not None and ((length := minutes(pause)) is None or length > 10):
        yield bad_request(
            "InvalidParameter",
            f"The pause time {pause} provided is invalid. It must be formatted as an ISO 8601 non-negative time span of "
            "10 minutes or less.",
        )
    if change.was("upgradePolicy.rollingUpgradePolicy") and not policy and change.at("upgradePolicy.mode") != "Manual":
        yield conflict(
            "PropertyChangeNotAllowed", "Changing property 'upgradePolicy.rollingUpgradePolicy' is not allowed."
        )


@refuses("Microsoft.Compute/virtualMachineScaleSets")
def scale_set_model(change: Change) -> Iterator[AzureError]:
    profile = change.at("virtualMachineProfile", {})
    if change.at("upgradePolicy.mode") is None and change.at("orchestrationMode", "Uniform") == "Uniform":
        yield bad_request("InvalidParameter", "Required parameter 'upgradePolicy.mode' is missing (null).")
    if dig(change.body, "sku.capacity") is None or not dig(change.body, "sku.name"):
        yield bad_request("InvalidParameter", "Required parameter 'sku' is missing (null).")
    elif not 0 <= change.body["sku"]["capacity"] <= 1000:
        yield bad_request("InvalidParameter", f"The value {change.body['sku']['capacity']} of parameter 'sku.capacity' is out of range.")
    if change.at("orchestrationMode", "Uniform") != "Uniform":
        yield bad_request("OperationNotAllowed", "The sandbox runs scale sets of orchestration mode Uniform only.")
    if not profile:
        yield bad_request("InvalidParameter", "Required parameter 'virtualMachineProfile' is missing (null).")
        return
    for path in ("storageProfile", "osProfile", "networkProfile"):
        if path not in profile:
            yield bad_request("InvalidParameter", f"Required parameter 'virtualMachineProfile.{path}' is missing (null).")
    if not dig(profile, "osProfile.computerNamePrefix"):
        yield bad_request("InvalidParameter", "Required parameter 'osProfile.computerNamePrefix' is missing (null).")
    nics = dig(profile, "networkProfile.networkInterfaceConfigurations", [])
    if sum(bool(dig(nic, "properties.primary")) for nic in nics) != 1:
        yield bad_request("InvalidParameter", "Exactly one network interface configuration must be primary.")
    if change.at("upgradePolicy.automaticOSUpgradePolicy.enableAutomaticOSUpgrade"):
        mode = dig(profile, "osProfile.linuxConfiguration.patchSettings.patchMode")
        if mode == "AutomaticByPlatform":
            yield bad_request(
                "InvalidParameter",
                "The patchMode 'AutomaticByPlatform' is not supported with automatic OS upgrade on a scale set.",
            )
        if dig(profile, "osProfile.windowsConfiguration.enableAutomaticUpdates", False):
            yield bad_request(
                "BadRequest",
                "Automatic OS Upgrade is not supported for this Virtual Machine Scale Set because "
                "enableAutomaticUpdates is set to true in windowsConfiguration.",
            )


@refuses("Microsoft.Compute/virtualMachineScaleSets")
def health_settings(change: Change) -> Iterator[AzureError]:
    for one in change.at("virtualMachineProfile.extensionProfile.extensions", []):
        publisher, type_ = dig(one, "properties.publisher"), dig(one, "properties.type")
        if (str(publisher).lower(), str(type_).lower()) not in EXTENSIONS:
            yield AzureError(
                404, "ArtifactNotFound",
                f"The VM extension with publisher '{publisher}' and type '{type_}' could not be found in location "
                f"'{change.body.get('location')}'.",
            )  # fmt: skip
    settings = health_extension(change.body)
    if settings is None:
        return
    protocol, port, path = settings.get("protocol"), settings.get("port"), settings.get("requestPath")
    reason = ""
    if protocol not in ("http", "https", "tcp"):
        reason = "protocol must be http, https or tcp"
    elif protocol == "tcp" and port is None:
        reason = "port is mandatory for tcp"
    elif protocol == "tcp" and path is not None:
        reason = "requestPath is not allowed for tcp"
    elif protocol != "tcp" and path is None:
        reason = "requestPath is mandatory for http and https"
    elif not 5 <= settings.get("intervalInSeconds", 5) <= 60:
        reason = "intervalInSeconds must be between 5 and 60"
    elif not 1 <= settings.get("numberOfProbes", 1) <= 24:
        reason = "numberOfProbes must be between 1 and 24"
    elif settings.get("gracePeriod", 0) > 14400:
        reason = "gracePeriod must be at most 14400"
    if reason:
        yield bad_request("VMExtensionProvisioningError", f"Application Health extension settings are invalid: {reason}.")


@refuses("Microsoft.Compute/virtualMachines")
def machine_patch_settings(change: Change) -> Iterator[AzureError]:
    windows = change.at("osProfile.windowsConfiguration", {})
    linux = dig(change.body, "properties.osProfile.linuxConfiguration", {})
    for system in (linux, windows):
        settings = system.get("patchSettings", {})
        platform = settings.get("automaticByPlatformSettings")
        if platform and settings.get("patchMode") != "AutomaticByPlatform":
            yield bad_request(
                "InvalidParameter", "automaticByPlatformSettings can be set only when patchMode is 'AutomaticByPlatform'."
            )
        if system.get("provisionVMAgent") is False and settings.get("patchMode") == "AutomaticByPlatform":
            yield bad_request(
                "InvalidParameter", "The property 'provisionVMAgent' must be true for patchMode 'AutomaticByPlatform'."
            )
        if settings.get("enableHotpatching"):
            if settings.get("patchMode") != "AutomaticByPlatform":
                yield bad_request(
                    "InvalidParameter",
                    "EnableHotpatching cannot be set to true. The 'patchMode' must be set to 'AutomaticByPlatform'.",
                )
            elif dig(platform, "bypassPlatformSafetyChecksOnUserSchedule"):
                yield bad_request(
                    "InvalidParameter",
                    "Hotpatch updates require platform safety checks. The 'BypassPlatformSafetyChecksOnUserSchedule' flag "
                    "must be set to false to enable hotpatching.",
                )
    mode, automatic = dig(windows, "patchSettings.patchMode"), windows.get("enableAutomaticUpdates", True)
    if mode in ("AutomaticByOS", "AutomaticByPlatform") and not automatic:
        yield bad_request(
            "InvalidParameter",
            f"The patchMode '{mode}' is invalid. For patchMode '{mode}', the property 'enableAutomaticUpdates' must be "
            "set to true.",
        )
    old = change.was("osProfile.windowsConfiguration.enableAutomaticUpdates")
    if change.old is not None and windows and old is not None and old != automatic:
        yield conflict(
            "PropertyChangeNotAllowed",
            "Changing property 'windowsConfiguration.enableAutomaticUpdates' is not allowed.",
        )


@refuses("Microsoft.Compute/virtualMachines")
def machine_model(change: Change) -> Iterator[AzureError]:
    for path in ("hardwareProfile.vmSize", "storageProfile", "networkProfile.networkInterfaces"):
        if not change.at(path):
            yield bad_request("InvalidParameter", f"Required parameter '{path}' is missing (null).")
    attached = change.at("storageProfile.osDisk.createOption") == "Attach"
    if not attached and not change.at("osProfile.computerName"):
        yield bad_request("InvalidParameter", "Required parameter 'osProfile.computerName' is missing (null).")
    if change.old is None:
        return
    for path in ("storageProfile.osDisk.createOption", "osProfile.computerName", "osProfile.adminUsername"):
        if change.at(path) != change.was(path) and change.at(path) is not None:
            name = path.removeprefix("storageProfile.").removeprefix("osProfile.")
            yield conflict("PropertyChangeNotAllowed", f"Changing property '{name}' is not allowed.")
    if change.at("storageProfile.imageReference", {}) != (change.was("storageProfile.imageReference") or {}):
        yield conflict("PropertyChangeNotAllowed", "Changing property 'imageReference' is not allowed.")


@refuses("Microsoft.Compute/virtualMachines")
def disk_attachment(change: Change) -> Iterator[AzureError]:
    wanted = change.at("storageProfile.osDisk.managedDisk.id")
    if not wanted:
        return
    disk = change.view.get(wanted)
    if disk is None:
        yield AzureError(404, "NotFound", f"Disk {wanted} is not found.")
        return
    owner = dig(disk.body, "managedBy")
    if owner and owner.lower() != change.id.lower():
        yield conflict(
            "ConflictingUserInput",
            f"Disk '{wanted}' cannot be attached as the disk is already owned by VM '{owner}'.",
        )


@refuses("Microsoft.Compute/restorePointCollections")
def collection_source(change: Change) -> Iterator[AzureError]:
    source = change.at("source.id")
    if not source:
        yield bad_request("InvalidParameter", "Required parameter 'source.id' is missing (null).")
        return
    if "/virtualmachinescalesets/" in source.lower():
        yield bad_request(
            "InvalidParameter",
            "The source of a restore point collection must be a virtual machine; restore points are not supported for "
            "scale sets of orchestration mode Uniform.",
        )
    old = change.was("source.id")
    if old and old.lower() != source.lower():
        yield conflict("PropertyChangeNotAllowed", "Changing property 'source.id' is not allowed.")


RESTORE_POINTS_AN_HOUR = 3


@refuses("Microsoft.Compute/restorePointCollections/restorePoints")
def restore_point(change: Change) -> Iterator[AzureError]:
    mode = change.at("consistencyMode")
    if mode is not None and mode != "CrashConsistent":
        yield bad_request(
            "InvalidParameter", f"The value '{mode}' of parameter 'consistencyMode' is not allowed: CrashConsistent or none."
        )
    if change.old is not None:
        yield conflict("OperationNotAllowed", f"Restore point '{change.name}' already exists and cannot be changed.")
        return
    collection = change.id.rsplit("/", 2)[0]
    siblings = change.view.children(collection, "Microsoft.Compute/restorePointCollections/restorePoints")
    recent = [
        row for row in siblings
        if (dig(row.body, "properties.consistencyMode") == "CrashConsistent") == (mode == "CrashConsistent")
        and change.now - datetime.fromisoformat(dig(row.body, "properties.timeCreated")) < timedelta(hours=1)
    ]  # fmt: skip
    if len(recent) >= RESTORE_POINTS_AN_HOUR:
        yield AzureError(
            429, "TooManyRequests",
            f"The limit of {RESTORE_POINTS_AN_HOUR} restore points of one mode an hour for a virtual machine is reached.",
            {"Retry-After": "600"},
        )  # fmt: skip
    if len(siblings) >= 500:
        yield conflict("OperationNotAllowed", "A virtual machine has at most 500 restore points.")


@refuses("Microsoft.Compute/disks")
def disk_source(change: Change) -> Iterator[AzureError]:
    creation = change.at("creationData", {})
    option = creation.get("createOption")
    if option != "Restore" and change.old is None:
        yield bad_request("OperationNotAllowed", f"The sandbox makes disks by createOption 'Restore', not '{option}'.")
    if option == "Restore" and "/diskrestorepoints/" not in str(creation.get("sourceResourceId", "")).lower():
        yield bad_request("InvalidParameter", "Required parameter 'creationData.sourceResourceId' must be a disk restore point.")
    if change.old is not None:
        for name in ("createOption", "sourceResourceId"):
            if str(creation.get(name)).lower() != str(change.was(f"creationData.{name}")).lower():
                yield conflict("PropertyChangeNotAllowed", "Changing property 'creationData' is not allowed.")


# Network


@refuses("Microsoft.Network/virtualNetworks")
def subnets(change: Change) -> Iterator[AzureError]:
    try:
        spaces = [ip_network(prefix) for prefix in change.at("addressSpace.addressPrefixes", [])]
        for one in change.at("subnets", []):
            texts = dig(one, "properties.addressPrefixes") or [dig(one, "properties.addressPrefix")]
            if texts == [None]:
                yield bad_request("NetcfgInvalidSubnet", f"Subnet '{one.get('name')}' has no address prefix.")
                continue
            for prefix in map(ip_network, texts):
                if not any(prefix.version == space.version and prefix.subnet_of(space) for space in spaces):  # type: ignore[arg-type]
                    yield bad_request(
                        "NetcfgInvalidSubnet",
                        f"Subnet '{one.get('name')}' is not valid in virtual network '{change.name}'.",
                    )
    except ValueError as error:
        yield bad_request("InvalidAddressPrefixFormat", f"Address prefix is invalid: {error}.")
    if not change.at("addressSpace.addressPrefixes"):
        yield bad_request("InvalidRequestFormat", "Virtual network must have at least one address prefix.")


@refuses("Microsoft.Network/publicIPAddresses")
def public_address(change: Change) -> Iterator[AzureError]:
    standard = str(dig(change.body, "sku.name", "Standard")).lower() == "standard"
    if standard and change.at("publicIPAllocationMethod", "Dynamic") != "Static":
        yield bad_request(
            "PublicIPAddressWithStandardSkuMustBeStatic", "Standard sku publicIp must have static allocation method."
        )


@refuses("Microsoft.Network/loadBalancers")
def load_balancer(change: Change) -> Iterator[AzureError]:
    if str(dig(change.body, "sku.name", "Basic")).lower() == "basic":
        yield bad_request("BasicSkuNotSupported", "Basic sku load balancers are retired: use sku Standard.")
    parts = {name: {one.get("name") for one in change.at(name, [])} for name in
             ("frontendIPConfigurations", "backendAddressPools", "probes")}  # fmt: skip
    ends: set[tuple[Json, Json, Json]] = set()
    for rule in change.at("loadBalancingRules", []):
        properties = rule.get("properties", {})
        for name, group in (
            ("frontendIPConfiguration", "frontendIPConfigurations"), ("backendAddressPool", "backendAddressPools"),
            ("probe", "probes"),
        ):  # fmt: skip
            target = dig(properties, f"{name}.id")
            if target is None:
                if name == "frontendIPConfiguration":
                    yield bad_request(
                        "LoadBalancingRuleMissingFrontend", f"Rule '{rule.get('name')}' has no frontendIPConfiguration."
                    )
                continue
            if not target.lower().startswith(f"{change.id.lower()}/{group.lower()}/") or target.rsplit("/", 1)[1] not in parts[group]:
                yield bad_request(
                    "InvalidResourceReference",
                    f"Resource {target} referenced by resource {change.id}/loadBalancingRules/{rule.get('name')} was not "
                    "found. Please make sure that the referenced resource exists, and that both resources are in the "
                    "same region.",
                )
        end = (dig(properties, "frontendIPConfiguration.id"), properties.get("frontendPort"), properties.get("protocol"))
        if end in ends:
            yield bad_request(
                "RulesUseSameFrontendPortProtocolAndVIP",
                f"Load balancing rule '{rule.get('name')}' uses the same frontend, port and protocol as another rule.",
            )
        ends.add(end)
    for probe in change.at("probes", []):
        properties = probe.get("properties", {})
        if properties.get("intervalInSeconds", 15) < 5:
            yield bad_request("ProbeIntervalInvalid", f"Probe '{probe.get('name')}' interval must be at least 5 seconds.")
        if properties.get("protocol") in ("Http", "Https") and not properties.get("requestPath"):
            yield bad_request("ProbeRequestPathMissing", f"Probe '{probe.get('name')}' must have a request path.")
        if properties.get("protocol") == "Tcp" and properties.get("requestPath"):
            yield bad_request("ProbeRequestPathNotAllowed", f"Probe '{probe.get('name')}' of protocol Tcp has no request path.")
    yield from _lost_parts(change)


def _lost_parts(change: Change) -> Iterator[AzureError]:
    """A pool or a probe that a scale set uses stays, and so does the probe's rule."""
    kept = {
        f"{change.id}/{group}/{one.get('name')}".lower()
        for group in ("backendAddressPools", "probes", "frontendIPConfigurations")
        for one in change.at(group, [])
    }
    ruled = {str(dig(rule, "properties.probe.id", "")).lower() for rule in change.at("loadBalancingRules", [])}
    for owner in change.view.of_type("Microsoft.Compute/virtualMachineScaleSets"):
        network = dig(owner.body, "properties.virtualMachineProfile.networkProfile", {})
        probe = str(dig(network, "healthProbe.id", "")).lower()
        if probe.startswith(f"{change.id.lower()}/") and (probe not in kept or probe not in ruled):
            yield bad_request(
                "CannotRemoveRuleUsedByProbeUsedByVMSS",
                f"Load balancing rule cannot be removed because its probe {probe} is used as health probe by virtual "
                f"machine scale set {owner.id}.",
            )
        for pool in pools_of(network):
            if pool.startswith(f"{change.id.lower()}/") and pool not in kept:
                yield bad_request(
                    "InUseBackendAddressPoolCannotBeDeleted",
                    f"Cannot remove backend address pool {pool.rsplit('/', 1)[1]} from load balancer {change.id} since it "
                    f"is in use by virtual machine scale set {owner.id}.",
                )


def pools_of(network: Mapping[str, Json]) -> Iterator[str]:
    """The keys of the pools that a scale set's network profile joins."""
    for nic in dig(network, "networkInterfaceConfigurations", []):
        for config in dig(nic, "properties.ipConfigurations", []):
            for pool in dig(config, "properties.loadBalancerBackendAddressPools", []):
                yield str(pool.get("id", "")).lower()


# Monitor

_GRAINS = (5, 10, 15, 30, 45, 60, 120, 180, 240, 300, 360, 1440, 2880)
_FREQUENCIES = (1, 5, 10, 15, 30, 45, 60, 120, 180, 240, 300, 360, 1440)
_OPERATORS = ("Equals", "GreaterThan", "GreaterThanOrEqual", "LessThan", "LessThanOrEqual")


@refuses("Microsoft.Insights/scheduledQueryRules")
def query_rule(change: Change) -> Iterator[AzureError]:
    def wrong(why: str) -> AzureError:
        return bad_request("InvalidRequestContent", why)

    grains = _GRAINS
    supported = ", ".join(map(str, grains))
    every, size, mute = (minutes(change.at(name)) for name in ("evaluationFrequency", "windowSize", "muteActionsDuration"))
    if every is None or every not in _FREQUENCIES:
        yield wrong(f"EvaluationFrequency {change.at('evaluationFrequency')} is not supported.")
        return
    if size is None or (size not in grains and not (size == 1 and every == 1)):
        yield wrong(f"WindowSize of {size or 0:.0f} minutes is not supported. Supported granularities are: {supported}")
        return
    if len(change.at("scopes", [])) != 1:
        yield wrong("Exactly one scope must be specified.")
    severity = change.at("severity")
    if severity is None or severity not in range(5):
        yield wrong(f"Severity {severity} is not one of 0, 1, 2, 3, 4.")
    if change.at("muteActionsDuration") is not None:
        if mute is None or mute not in grains:
            yield wrong(f"MuteActionsDuration of {mute or 0:.0f} minutes is not supported. Supported values are: {supported}")
        elif every > mute:
            yield wrong("EvaluationFrequency cannot be greater than MuteActionsDuration")
        if change.at("autoMitigate", True):
            yield wrong("MuteActionsDuration cannot be set when AutoMitigate is true.")
    conditions = change.at("criteria.allOf", [])
    if not conditions:
        yield wrong("Criteria must have at least one condition.")
    for one in conditions:
        periods = dig(one, "failingPeriods.numberOfEvaluationPeriods", 1)
        failing = dig(one, "failingPeriods.minFailingPeriodsToAlert", 1)
        if not 1 <= periods <= 6 or not 1 <= failing <= periods:
            yield wrong("FailingPeriods must have 1 to 6 evaluation periods and no more failing ones.")
        if not every <= size * periods <= 2880:
            yield wrong("WindowSize times NumberOfEvaluationPeriods must lie between EvaluationFrequency and 48 hours.")
        if one.get("operator") not in _OPERATORS:
            yield wrong(f"Operator '{one.get('operator')}' is not one of {', '.join(_OPERATORS)}.")
        counting = one.get("timeAggregation") == "Count"
        if counting and one.get("metricMeasureColumn"):
            yield wrong("MetricMeasureColumn must not be specified for time aggregation Count.")
        if not counting and not one.get("metricMeasureColumn"):
            yield wrong(f"MetricMeasureColumn must be specified for time aggregation {one.get('timeAggregation')}.")
        if one.get("threshold") is None:
            yield wrong("Threshold must be specified.")
        if not str(one.get("query", "")).strip():
            yield wrong("Query must be specified.")
    if change.old is not None and change.at("scopes") != change.was("scopes"):
        yield bad_request("InvalidRequestContent", "Scopes can not be updated.")


@refuses("Microsoft.Insights/actionGroups")
def action_group(change: Change) -> Iterator[AzureError]:
    short = change.at("groupShortName", "")
    if not 1 <= len(short) <= 12:
        yield bad_request("InvalidRequestContent", f"The group short name '{short}' must have 1 to 12 characters.")
    if str(change.body.get("location", "")).lower().replace(" ", "") not in (
        "global", "swedencentral", "germanywestcentral", "northcentralus", "southcentralus", "eastus2",
    ):  # fmt: skip
        yield bad_request(
            "LocationNotAvailableForResourceType",
            f"The provided location '{change.body.get('location')}' is not available for resource type "
            "'microsoft.insights/actiongroups'.",
        )
    names: set[str] = set()
    for key, receivers in dict(change.body.get("properties", {})).items():
        if key.endswith("Receivers") and isinstance(receivers, list):
            if len(receivers) > (1000 if key == "emailReceivers" else 10):
                yield bad_request("InvalidRequestContent", f"Too many {key} in the action group.")
            for one in receivers:
                name = str(one.get("name", ""))
                if name.lower() in names:
                    yield bad_request("InvalidRequestContent", f"Receiver name '{name}' is used twice in the action group.")
                names.add(name.lower())


_STREAM_TYPES = ("string", "int", "long", "real", "boolean", "dynamic", "datetime")
_COLUMN_TYPES = ("string", "int", "long", "real", "boolean", "dateTime", "guid", "dynamic")
_RESERVED = ("_resourceid", "id", "_subscriptionid", "tenantid", "type", "uniqueid", "title")


@refuses("Microsoft.OperationalInsights/workspaces/tables")
def table(change: Change) -> Iterator[AzureError]:
    def wrong(why: str) -> AzureError:
        return bad_request("InvalidParameter", why)

    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}_CL", change.name):
        yield wrong(f"Table name '{change.name}' is invalid: custom tables start with a letter and end with _CL.")
    schema = change.at("schema", {})
    if schema.get("name") != change.name:
        yield wrong(f"Schema name '{schema.get('name')}' does not match the table name '{change.name}'.")
    columns = schema.get("columns", [])
    if "TimeGenerated" not in [one.get("name") for one in columns]:
        yield wrong("Table schema must have a column 'TimeGenerated' of type dateTime.")
    for one in columns:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,44}", str(one.get("name"))):
            yield wrong(f"Column name '{one.get('name')}' is invalid.")
        if str(one.get("name")).lower() in _RESERVED:
            yield wrong(f"Column name '{one.get('name')}' is reserved.")
        if one.get("type") not in _COLUMN_TYPES:
            yield wrong(f"Column type '{one.get('type')}' is not one of {', '.join(_COLUMN_TYPES)}.")
    yield from _retention(change)


@refuses("Microsoft.OperationalInsights/workspaces")
def workspace(change: Change) -> Iterator[AzureError]:
    days = change.at("retentionInDays")
    if days is not None and not 4 <= days <= 730:
        yield bad_request("InvalidParameter", "'RetentionInDays' property doesn't match the SKU limits")


def _retention(change: Change) -> Iterator[AzureError]:
    for name, least, most in (("retentionInDays", 4, 730), ("totalRetentionInDays", 4, 4383)):
        days = change.at(name)
        if days is not None and days != -1 and not least <= days <= most:
            yield bad_request("InvalidParameter", f"'{name}' must be -1 or between {least} and {most}.")


@refuses("Microsoft.Insights/dataCollectionRules")
def collection_rule(change: Change) -> Iterator[AzureError]:
    streams = change.at("streamDeclarations", {})
    flows = change.at("dataFlows", [])
    logs = {one.get("name"): one for one in change.at("destinations.logAnalytics", [])}
    if len(flows) > 10 or len(streams) > 10:
        yield bad_request("InvalidPayload", "A data collection rule has at most 10 data flows and 10 streams.")
    for name, declared in streams.items():
        if not name.startswith("Custom-"):
            yield bad_request("InvalidPayload", f"InvalidStream: '{name}' must be a custom stream (Custom-...).")
        for one in declared.get("columns", []):
            if one.get("type") not in _STREAM_TYPES:
                yield bad_request("InvalidPayload", f"Column type '{one.get('type')}' is not one of {', '.join(_STREAM_TYPES)}.")
    for flow in flows:
        if len(flow.get("transformKql", "")) > 15360:
            yield bad_request("InvalidPayload", "InvalidTransformQuery: the transformation is longer than 15360 characters.")
        for stream in flow.get("streams", []):
            if stream not in streams and not stream.startswith("Microsoft-"):
                yield bad_request(
                    "InvalidPayload",
                    f"InvalidStream: '{stream}' must be a custom stream or one of: Microsoft-Event, Microsoft-Perf, "
                    "Microsoft-Syslog.",
                )
        for name in flow.get("destinations", []):
            if name not in logs:
                yield bad_request("InvalidPayload", f"InvalidDestination: destination '{name}' is not declared.")
                continue
            workspace_id = logs[name].get("workspaceResourceId", "")
            output = str(flow.get("outputStream", ""))
            if output.startswith("Custom-") and change.view.get(f"{workspace_id}/tables/{output[7:]}") is None:
                yield bad_request(
                    "InvalidPayload",
                    f"InvalidOutputTable: Table for output stream '{output}' is not available for destination '{name}'.",
                )
    if streams and not change.at("dataCollectionEndpointId"):
        yield bad_request(
            "InvalidPayload", "InvalidProperty: a rule with custom streams must have a dataCollectionEndpointId."
        )


@refuses("Microsoft.Insights/workbooks")
def workbook(change: Change) -> Iterator[AzureError]:
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", change.name):
        yield bad_request("BadRequest", f"Workbook resource name '{change.name}' must be a GUID.")
    try:
        json.loads(change.at("serializedData", ""))
    except ValueError:
        yield bad_request("BadRequest", "Workbook serializedData must be a JSON document.")


@refuses("Microsoft.Authorization/roleAssignments")
def role_assignment(change: Change) -> Iterator[AzureError]:
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", change.name):
        yield bad_request("InvalidRoleAssignmentId", f"The role assignment ID '{change.name}' is not valid. The role assignment ID must be a GUID.")
    if change.old is not None and (
        change.at("principalId") != change.was("principalId") or change.at("roleDefinitionId") != change.was("roleDefinitionId")
    ):
        yield conflict("RoleAssignmentUpdateNotPermitted", "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.")
    scope = change.id.lower().rsplit("/providers/microsoft.authorization/", 1)[0]
    for row in change.view.of_type("Microsoft.Authorization/roleAssignments"):
        same = row.key != change.id.lower() and row.key.rsplit("/providers/microsoft.authorization/", 1)[0] == scope
        if same and all(
            str(dig(row.body, f"properties.{name}")).lower() == str(change.at(name)).lower()
            for name in ("principalId", "roleDefinitionId")
        ):
            yield conflict("RoleAssignmentExists", "The role assignment already exists.")
