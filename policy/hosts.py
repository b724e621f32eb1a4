"""The standard's rules for machines and scale sets that belong to a stack."""

import re
from collections.abc import Iterator, Sequence

from policy.check import Context, check
from policy.declared import TAG, Declared, Props, given
from policy.service.values import at, items, objects, outside, plain, table

SCALE_SET = "azure-native:compute:VirtualMachineScaleSet"
MACHINE = "azure-native:compute:VirtualMachine"
COLLECTION = "azure-native:compute:RestorePointCollection"
POINT = "azure-native:compute:RestorePoint"
CONFIGURATION = "azure-native:maintenance:MaintenanceConfiguration"

WATCHERS = ("ApplicationHealthLinux", "ApplicationHealthWindows")
SCHEDULED = "AutomaticByPlatform with bypassPlatformSafetyChecksOnUserSchedule true"
ONE_IMAGE = re.compile(r"/versions/\d|/providers/microsoft\.compute/images/", re.IGNORECASE)


def _profile(declared: Declared) -> Props:
    """The part of a machine or scale set that describes each host."""
    return table(declared.props.get("virtualMachineProfile")) if declared.type == SCALE_SET else declared.props


def _attended(declared: Declared, context: Context) -> bool:
    """Whether the standard forbids unattended upgrades in the stack of a resource."""
    rules = context.rules_of(declared)
    return rules is not None and not rules.unattended_upgrades


def _brings_its_disk(declared: Declared) -> bool:
    """Whether a machine is made of a disk that is there: Azure takes neither an image nor an osProfile with it."""
    return bool(at(_profile(declared), "storageProfile", "osDisk", "createOption") == "Attach")


@check("scale-sets", SCALE_SET)
def scale_sets_watch_application_health(declared: Declared, context: Context) -> Iterator[str]:
    """Every scale set has the application-health extension, so that an upgrade can see what it breaks."""
    extensions = objects(at(_profile(declared), "extensionProfile", "extensions"))
    found = [one for one in extensions if one.get("type") in WATCHERS]
    if not found:
        yield "extensionProfile has no ApplicationHealthLinux or ApplicationHealthWindows: add the extension"
    for extension in found:
        if extension.get("publisher") != "Microsoft.ManagedServices":
            yield f"extension publisher {extension.get('publisher')!r}: write Microsoft.ManagedServices"


@check("scale-sets", SCALE_SET)
def scale_sets_upgrade_in_batches(declared: Declared, context: Context) -> Iterator[str]:
    """A change of the model reaches a scale set's instances batch by batch."""
    if (mode := at(declared.props, "upgradePolicy", "mode")) != "Rolling":
        yield f"upgradePolicy.mode is {mode!r}: set Rolling"


@check("scale-sets", SCALE_SET)
def scale_sets_roll_within_the_standard(declared: Declared, context: Context) -> Iterator[str]:
    """Batches of a scale set, and what may be unhealthy meanwhile, are no larger than the standard allows."""
    policy = table(at(declared.props, "upgradePolicy", "rollingUpgradePolicy"))
    limits = context.standard.rolling
    for key, limit in (
        ("maxBatchInstancePercent", limits.max_batch_percent),
        ("maxUnhealthyInstancePercent", limits.max_unhealthy_percent),
        ("maxUnhealthyUpgradedInstancePercent", limits.max_unhealthy_upgraded_percent),
    ):
        value = policy.get(key)
        if value is None or outside(value, 0, limit):
            yield f"rollingUpgradePolicy.{key} is {plain(value)}: set at most {limit}"


@check("scale-sets", SCALE_SET)
def scale_sets_go_back_by_themselves(declared: Declared, context: Context) -> Iterator[str]:
    """Instances that a rolling upgrade breaks are taken back; Azure does that for Uniform scale sets only."""
    if declared.props.get("orchestrationMode") == "Flexible":
        return
    policy = at(declared.props, "upgradePolicy", "rollingUpgradePolicy")
    if at(policy, "rollbackFailedInstancesOnPolicyBreach") is not True:
        yield "rollingUpgradePolicy.rollbackFailedInstancesOnPolicyBreach is not set: set it to true"


@check("tags", SCALE_SET, MACHINE, CONFIGURATION)
def what_is_patched_names_its_stack(declared: Declared, context: Context) -> Iterator[str]:
    """Machines, scale sets and schedules are of a stack that the standard has rules for."""
    tagged, stacks = table(declared.props.get("tags")).get(TAG), context.standard.stacks
    if declared.is_ours and tagged != declared.pulumi_stack:
        yield f"tag {TAG} is {tagged!r} in the stack {declared.pulumi_stack!r}: write {declared.pulumi_stack}"
    elif tagged not in stacks:
        yield f"tag {TAG} is {tagged!r}, which is no stack of the standard: write {' or '.join(stacks)}"


@check("tags", SCALE_SET, MACHINE)
def hosts_can_be_found(declared: Declared, context: Context) -> Iterator[str]:
    """Hosts carry the tags by which inventory, schedules and reports know them."""
    tags = table(declared.props.get("tags"))
    own = "host" if declared.type == MACHINE else "slot"
    if missing := [one for one in ("fleet", "service", "method", "rollback", own) if not tags.get(f"patchwave-{one}")]:
        yield f"tags lack {', '.join(f'patchwave-{name}' for name in missing)}: add them"


@check("machines", SCALE_SET, MACHINE)
def hosts_are_entered_by_key(declared: Declared, context: Context) -> Iterator[str]:
    """Linux hosts take no passwords."""
    described = table(_profile(declared).get("osProfile"))
    if given(described, "windowsConfiguration") or (not described and _brings_its_disk(declared)):
        return
    if at(described, "linuxConfiguration", "disablePasswordAuthentication") is not True:
        yield "osProfile.linuxConfiguration.disablePasswordAuthentication is not true: set it, and give a public key"
    if given(described, "adminPassword"):
        yield "osProfile.adminPassword is set: leave it out, and give a public key"


@check("machines", SCALE_SET, MACHINE)
def images_are_pinned(declared: Declared, context: Context) -> Iterator[str]:
    """The image is one version, unless Azure itself replaces images: then it asks for the latest."""
    if at(declared.props, "upgradePolicy", "automaticOSUpgradePolicy", "enableAutomaticOSUpgrade") is True:
        return
    image = table(at(_profile(declared), "storageProfile", "imageReference"))
    if not image and _brings_its_disk(declared):
        return
    named = next((key for key in ("id", "sharedGalleryImageId", "communityGalleryImageId") if given(image, key)), None)
    pinned = bool(ONE_IMAGE.search(str(image[named]))) if named else image.get("version") not in (None, "", "latest")
    if not pinned:
        yield "storageProfile.imageReference names no version: write one, so that the next instance is like the last"


@check("scale-sets", SCALE_SET)
def images_are_not_replaced_unattended(declared: Declared, context: Context) -> Iterator[str]:
    """Where the standard forbids unattended upgrades, Azure does not replace a scale set's images by itself."""
    if not _attended(declared, context):
        return
    if at(declared.props, "upgradePolicy", "automaticOSUpgradePolicy", "enableAutomaticOSUpgrade") is not False:
        yield "automaticOSUpgradePolicy.enableAutomaticOSUpgrade is not false: set it to false"


@check("machines", SCALE_SET, MACHINE)
def hosts_are_not_patched_unattended(declared: Declared, context: Context) -> Iterator[str]:
    """Where the standard forbids unattended upgrades, neither the platform nor Windows patches a host by itself."""
    if not _attended(declared, context):
        return
    described = table(_profile(declared).get("osProfile"))
    windows, linux = (table(described.get(f"{system}Configuration")) for system in ("windows", "linux"))
    if not described and _brings_its_disk(declared):
        return
    patching = table((windows or linux).get("patchSettings"))
    mode = patching.get("patchMode")
    if mode == "AutomaticByPlatform":
        if at(patching, "automaticByPlatformSettings", "bypassPlatformSafetyChecksOnUserSchedule") is not True:
            yield f"patchMode {mode!r} lets the platform patch: set {SCHEDULED}"
    elif windows:
        if mode != "Manual" or windows.get("enableAutomaticUpdates") is not False:
            yield f"patchMode {mode!r} lets Windows patch: set Manual with enableAutomaticUpdates false, or {SCHEDULED}"
    elif declared.type == MACHINE:
        yield f"patchMode {mode!r} leaves patching to the image: set {SCHEDULED}"


@check("together")
def machines_can_go_back(resources: Sequence[Declared], context: Context) -> Iterator[str]:
    """A machine that goes back by a restore point has a collection for them in the same program."""
    protected = {at(one.props, "tags", "patchwave-protects") for one in resources if one.type == COLLECTION}
    for machine in (one for one in resources if one.type == MACHINE):
        name, rollback = (at(machine.props, "tags", f"patchwave-{key}") for key in ("host", "rollback"))
        if rollback == "restore_point" and name not in protected:
            yield (
                f"{machine.name}: no RestorePointCollection is tagged patchwave-protects={name}: "
                "declare one before patching"
            )


@check("machines", MACHINE)
def rollback_covers_each_disk(declared: Declared, context: Context) -> Iterator[str]:
    """A machine with data disks goes back by restore points of all of them, not by a snapshot of its OS disk."""
    if at(declared.props, "tags", "patchwave-rollback") != "disk_snapshot":
        return
    if disks := items(at(declared.props, "storageProfile", "dataDisks")):
        yield f"rollback disk_snapshot leaves out {len(disks)} data disks: choose restore_point"


@check("machines", POINT)
def restore_points_leave_out_no_disk(declared: Declared, context: Context) -> Iterator[str]:
    """A restore point of only some disks brings back a machine that never was."""
    if left := items(declared.props.get("excludeDisks")):
        yield f"excludeDisks leaves out {len(left)} disks: leave excludeDisks out"
