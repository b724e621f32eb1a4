"""What Azure Compute refuses of a virtual machine."""

from __future__ import annotations

from collections.abc import Iterator

from sandbox.azure.arm.rules.change import Change, dig, refuses, unchangeable
from sandbox.azure.resources.errors import AzureError, bad_request, conflict


@refuses("Microsoft.Compute/virtualMachines")
def machine_patch_settings(change: Change) -> Iterator[AzureError]:
    windows = change.at("osProfile.windowsConfiguration", {})
    linux = dig(change.body, "properties.osProfile.linuxConfiguration", {})
    for system in (linux, windows):
        settings = system.get("patchSettings", {})
        platform = settings.get("automaticByPlatformSettings")
        if platform and settings.get("patchMode") != "AutomaticByPlatform":
            yield bad_request(
                "InvalidParameter",
                "automaticByPlatformSettings can be set only when patchMode is 'AutomaticByPlatform'.",
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
                    "Hotpatch updates require platform safety checks. The "
                    "'BypassPlatformSafetyChecksOnUserSchedule' flag "
                    "must be set to false to enable hotpatching.",
                )
    mode, automatic = dig(windows, "patchSettings.patchMode"), windows.get("enableAutomaticUpdates", True)
    if mode in ("AutomaticByOS", "AutomaticByPlatform") and not automatic:
        yield bad_request(
            "InvalidParameter",
            f"The patchMode '{mode}' is invalid. For patchMode '{mode}', the property 'enableAutomaticUpdates' must be "
            "set to true.",
        )
    if mode == "Manual" and automatic:
        yield bad_request(
            "InvalidParameter",
            "The patchMode 'Manual' is invalid. For patchMode 'Manual', the property 'enableAutomaticUpdates' must be "
            "set to false.",
        )
    before = change.was("osProfile.windowsConfiguration.patchSettings.patchMode")
    if {mode, before} == {"AutomaticByOS", "Manual"}:
        yield conflict(
            "PropertyChangeNotAllowed",
            "Changing property 'windowsConfiguration.patchSettings.patchMode' is not allowed.",
        )
    old = change.was("osProfile.windowsConfiguration.enableAutomaticUpdates")
    if change.old is not None and windows and old is not None and old != automatic:
        yield conflict(
            "PropertyChangeNotAllowed",
            "Changing property 'windowsConfiguration.enableAutomaticUpdates' is not allowed.",
        )


_SETTLED = (
    "storageProfile.osDisk.createOption", "storageProfile.imageReference", "osProfile.computerName",
    "osProfile.adminUsername", "availabilitySet",
)  # fmt: skip


@refuses("Microsoft.Compute/virtualMachines")
def machine_model(change: Change) -> Iterator[AzureError]:
    for path in ("hardwareProfile.vmSize", "storageProfile", "networkProfile.networkInterfaces"):
        if not change.at(path):
            yield bad_request("InvalidParameter", f"Required parameter '{path}' is missing (null).")
    attached = change.at("storageProfile.osDisk.createOption") == "Attach"
    if not attached and not change.at("osProfile.computerName"):
        yield bad_request("InvalidParameter", "Required parameter 'osProfile.computerName' is missing (null).")
    for path in _SETTLED:
        for refusal in unchangeable(change, path):
            name = path.removeprefix("storageProfile.").removeprefix("osProfile.")
            yield conflict(refusal.code, f"Changing property '{name}' is not allowed.")
    if change.old is not None and change.body.get("zones", []) != change.old.get("zones", []):
        yield conflict("PropertyChangeNotAllowed", "Changing property 'zones' is not allowed.")


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
