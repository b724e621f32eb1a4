"""What Azure refuses of virtual machines that are patched by a schedule."""

from collections.abc import Iterator

from policy.declared import Props
from policy.service.registry import refuses
from policy.service.values import at, table

MACHINE = "compute:VirtualMachine"

_LEARN = "https://learn.microsoft.com/azure"
PATCHING = f"{_LEARN}/virtual-machines/automatic-vm-guest-patching"
PREREQUISITES = f"{_LEARN}/update-manager/prerequsite-for-schedule-patching"
HOTPATCH = "https://github.com/claranet/terraform-azurerm-windows-vm/issues/4"

LINUX_MODES = ("ImageDefault", "AutomaticByPlatform")
WINDOWS_MODES = ("Manual", "AutomaticByOS", "AutomaticByPlatform")


def _patching(props: Props, system: str) -> Props:
    return table(at(props, "osProfile", f"{system}Configuration", "patchSettings"))


def _bypass(patching: Props) -> bool:
    return at(patching, "automaticByPlatformSettings", "bypassPlatformSafetyChecksOnUserSchedule") is True


@refuses(MACHINE, source=PATCHING)
def machines_are_patched_in_a_known_mode(props: Props) -> Iterator[str]:
    """Each system has its own modes of patching and of looking for patches."""
    for system, modes in (("linux", LINUX_MODES), ("windows", WINDOWS_MODES)):
        patching = _patching(props, system)
        if (mode := patching.get("patchMode")) not in (None, *modes):
            yield f"{system}Configuration.patchSettings.patchMode is {mode!r}: choose of {', '.join(modes)}"
        if (assessment := patching.get("assessmentMode")) not in (None, "ImageDefault", "AutomaticByPlatform"):
            yield f"patchSettings.assessmentMode is {assessment!r}: set ImageDefault or AutomaticByPlatform"


@refuses(MACHINE, source=PREREQUISITES)
def platform_patching_has_the_agent(props: Props) -> Iterator[str]:
    """The platform patches through the machine's agent."""
    for system in ("linux", "windows"):
        configuration = at(props, "osProfile", f"{system}Configuration")
        mode = at(configuration, "patchSettings", "patchMode")
        if mode == "AutomaticByPlatform" and at(configuration, "provisionVMAgent") is False:
            yield f"{system}Configuration.provisionVMAgent is false beside AutomaticByPlatform: set it to true"


@refuses(MACHINE, source=PATCHING)
def windows_updates_agree_with_the_mode(props: Props) -> Iterator[str]:
    """Manual patching turns automatic updates off, the other modes need them on; it is decided at creation."""
    mode = _patching(props, "windows").get("patchMode")
    automatic = at(props, "osProfile", "windowsConfiguration", "enableAutomaticUpdates")
    if mode == "Manual" and automatic is not False:
        yield "patchMode is Manual and enableAutomaticUpdates is not false: set it to false"
    if mode in ("AutomaticByOS", "AutomaticByPlatform") and automatic is False:
        yield f"patchMode is {mode} and enableAutomaticUpdates is false: set it to true"


@refuses(MACHINE, source="https://github.com/Azure/azure-cli/issues/21504")
def hotpatching_is_left_to_the_platform(props: Props) -> Iterator[str]:
    """Hotpatches come in mode AutomaticByPlatform only."""
    patching = _patching(props, "windows")
    if patching.get("enableHotpatching") is True and patching.get("patchMode") != "AutomaticByPlatform":
        yield f"enableHotpatching is true and patchMode is {patching.get('patchMode')!r}: set AutomaticByPlatform"


@refuses(MACHINE, source=HOTPATCH)
def hotpatching_excludes_schedules(props: Props) -> Iterator[str]:
    """A hotpatched machine keeps the platform's safety checks, a scheduled one bypasses them."""
    patching = _patching(props, "windows")
    if patching.get("enableHotpatching") is True and _bypass(patching):
        yield "enableHotpatching stands beside bypassPlatformSafetyChecksOnUserSchedule: remove one of the two"


@refuses(MACHINE, source=PATCHING)
def reboots_are_left_to_the_schedule(props: Props) -> Iterator[str]:
    """What a scheduled machine says about reboots wins over its maintenance configuration."""
    for system in ("linux", "windows"):
        patching = _patching(props, system)
        setting = at(patching, "automaticByPlatformSettings", "rebootSetting")
        if setting is not None and _bypass(patching):
            yield f"automaticByPlatformSettings.rebootSetting is {setting!r}: leave it out, the schedule decides"
