"""What Azure Compute refuses of a scale set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sandbox.azure.arm.rules.change import Change, dig, minutes, refuses, unchangeable
from sandbox.azure.resources.errors import AzureError, bad_request, conflict

Json = Any

_HEALTH = ("ApplicationHealthLinux", "ApplicationHealthWindows")
EXTENSIONS = {("microsoft.managedservices", name.lower()) for name in _HEALTH}


def health_extension(body: Mapping[str, Json]) -> Mapping[str, Json] | None:
    """The settings of the application health extension of a scale set's profile, and whether it reads rich states."""
    for one in dig(body, "properties.virtualMachineProfile.extensionProfile.extensions", []):
        if dig(one, "properties.type") in _HEALTH:
            rich = not str(dig(one, "properties.typeHandlerVersion", "1.0")).startswith("1.")
            return {"rich": rich, **dig(one, "properties.settings", {})}
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
                "Automatic OS Upgrade is not supported for this Virtual Machine Scale Set because "
                "both a health probe and "
                "a health extension were provided. Remove the health probe or health extension and try again.",
            )
        if not (extension or probe):
            yield bad_request("BadRequest", f"Automatic OS Upgrade is not supported {why} specified.")
    if change.at("automaticRepairsPolicy.enabled"):
        if not (extension or probe):
            yield bad_request("BadRequest", f"Automatic repairs not supported {why} provided.")
        grace = change.at("automaticRepairsPolicy.gracePeriod")
        if grace is not None and not 10 <= (minutes(grace) or 0) <= 90:
            yield bad_request(
                "BadRequest", f"The grace period {grace} provided is invalid. It must be between PT10M and PT90M."
            )


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
            f"The pause time {pause} provided is invalid. It must be formatted as an ISO 8601 "
            "non-negative time span of "
            "10 minutes or less.",
        )
    if change.was("upgradePolicy.rollingUpgradePolicy") and not policy and change.at("upgradePolicy.mode") != "Manual":
        yield conflict(
            "PropertyChangeNotAllowed", "Changing property 'upgradePolicy.rollingUpgradePolicy' is not allowed."
        )


@refuses("Microsoft.Compute/virtualMachineScaleSets")
def scale_set_model(change: Change) -> Iterator[AzureError]:
    profile = change.at("virtualMachineProfile", {})
    if change.at("orchestrationMode") == "Flexible":
        yield from _flexible(change)
        return
    if change.at("upgradePolicy.mode") is None and change.at("orchestrationMode", "Uniform") == "Uniform":
        yield bad_request("InvalidParameter", "Required parameter 'upgradePolicy.mode' is missing (null).")
    if dig(change.body, "sku.capacity") is None or not dig(change.body, "sku.name"):
        yield bad_request("InvalidParameter", "Required parameter 'sku' is missing (null).")
    elif not 0 <= change.body["sku"]["capacity"] <= 1000:
        yield bad_request(
            "InvalidParameter",
            f"The value {change.body['sku']['capacity']} of parameter 'sku.capacity' is out of range.",
        )
    if not profile:
        yield bad_request("InvalidParameter", "Required parameter 'virtualMachineProfile' is missing (null).")
        return
    for path in ("storageProfile", "osProfile", "networkProfile"):
        if path not in profile:
            yield bad_request(
                "InvalidParameter", f"Required parameter 'virtualMachineProfile.{path}' is missing (null)."
            )
    if not dig(profile, "osProfile.computerNamePrefix"):
        yield bad_request("InvalidParameter", "Required parameter 'osProfile.computerNamePrefix' is missing (null).")
    nics = dig(profile, "networkProfile.networkInterfaceConfigurations", [])
    if sum(bool(dig(nic, "properties.primary")) for nic in nics) != 1:
        yield bad_request("InvalidParameter", "Exactly one network interface configuration must be primary.")
    yield from unchangeable(
        change, "orchestrationMode", "platformFaultDomainCount", "virtualMachineProfile.osProfile.computerNamePrefix"
    )
    if change.old is not None and change.body.get("zones", []) != change.old.get("zones", []):
        yield conflict("PropertyChangeNotAllowed", "Changing property 'zones' is not allowed.")
    if change.at("upgradePolicy.automaticOSUpgradePolicy.enableAutomaticOSUpgrade"):
        reference = dig(profile, "storageProfile.imageReference", {})
        image = str(reference.get("id", "")).lower()
        version = image.partition("/versions/")[2] if image else reference.get("version", "latest")
        if version not in ("", "latest"):
            yield bad_request(
                "BadRequest",
                "Automatic OS Upgrade is not supported for this Virtual Machine Scale Set because its image reference "
                "names a version. Reference the image itself, or its version 'latest'.",
            )
        mode = dig(profile, "osProfile.linuxConfiguration.patchSettings.patchMode")
        if mode == "AutomaticByPlatform":
            yield bad_request(
                "InvalidParameter",
                "The patchMode 'AutomaticByPlatform' is not supported with automatic OS upgrade on a scale set.",
            )
        windows = dig(profile, "osProfile.windowsConfiguration")
        if windows is not None and windows.get("enableAutomaticUpdates", True):
            yield bad_request(
                "BadRequest",
                "Automatic OS Upgrade is not supported for this Virtual Machine Scale Set because "
                "enableAutomaticUpdates is set to true in windowsConfiguration.",
            )


def _flexible(change: Change) -> Iterator[AzureError]:
    """The sandbox has Flexible scale sets that machines are put into one by one, as such without a profile may be."""
    if change.at("virtualMachineProfile") is not None or change.body.get("sku") is not None:
        yield bad_request(
            "OperationNotAllowed", "The sandbox makes no instances of a Flexible scale set: name it in the machines."
        )
    if change.at("platformFaultDomainCount") is None:
        yield bad_request("InvalidParameter", "Required parameter 'platformFaultDomainCount' is missing (null).")
    if change.at("upgradePolicy.mode") not in (None, "Manual"):
        yield bad_request("InvalidParameter", "upgradePolicy.mode is not supported without a virtual machine profile.")
    yield from unchangeable(change, "orchestrationMode", "platformFaultDomainCount")


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
    elif port is not None and not 1 <= int(port) <= 65535:
        reason = "port must be between 1 and 65535"
    elif not 5 <= settings.get("intervalInSeconds", 5) <= 60:
        reason = "intervalInSeconds must be between 5 and 60"
    elif not 1 <= settings.get("numberOfProbes", 1) <= 24:
        reason = "numberOfProbes must be between 1 and 24"
    elif settings.get("gracePeriod", 0) > 14400:
        reason = "gracePeriod must be at most 14400"
    if reason:
        yield bad_request(
            "VMExtensionProvisioningError", f"Application Health extension settings are invalid: {reason}."
        )
