"""What the standard asks of resources, in anyone's program."""

import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, timedelta
from typing import Annotated

from pydantic import Field, ValidationError

from patchwave.decisions.standard import Envelope, StackName, Standard, load_standard, stack_name
from patchwave.decisions.update_manager import Schedule
from policy.declared import Declared, Props
from policy.rule import Context, rule
from policy.service.values import at, items, objects, plain, table

SCALE_SET = "azure-native:compute:VirtualMachineScaleSet"
MACHINE = "azure-native:compute:VirtualMachine"
COLLECTION = "azure-native:compute:RestorePointCollection"
POINT = "azure-native:compute:RestorePoint"
CONFIGURATION = "azure-native:maintenance:MaintenanceConfiguration"
SCOPES = (
    "azure-native:maintenance:ConfigurationAssignmentsForResourceGroup",
    "azure-native:maintenance:ConfigurationAssignmentsForSubscription",
)
BALANCER = "azure-native:network:LoadBalancer"
ACTION_GROUP = "azure-native:monitor:ActionGroup"
QUERY_RULE = "azure-native:monitor:ScheduledQueryRule"
WORKSPACE = "azure-native:operationalinsights:Workspace"
VAULT = "azure-native:recoveryservices:Vault"
ASSIGNMENT = "azure-native:authorization:RoleAssignment"

WATCHERS = ("ApplicationHealthLinux", "ApplicationHealthWindows")
YEAR = timedelta(days=366)
ROLES = "https://learn.microsoft.com/azure/role-based-access-control/built-in-roles/privileged"
GIVERS = {
    "8e3af657-a8ff-443c-a75c-2fe8c4bcb635": "Owner",
    "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9": "User Access Administrator",
    "f58310d9-a9f6-439a-9e8d-f62e7b41a168": "Role Based Access Control Administrator",
}
CONTRIBUTOR = "b24988ac-6180-42a0-ab88-20f7382dd24c"


def _stack(props: Props, context: Context, standard: Standard) -> StackName | None:
    """The stack of the standard that a resource is in: by its tag, else by the name of Pulumi's stack."""
    found = table(props.get("tags")).get("patchwave-stack") or context.stack
    return stack_name(found) if found in standard.stacks else None


def _nowhere(context: Context) -> str:
    return f"neither tag patchwave-stack nor {context.stack!r} is a stack of the standard: tag it dev, staging or prod"


def _profile(declared: Declared) -> Props:
    """The part of a machine or scale set that describes each host."""
    return table(declared.props.get("virtualMachineProfile")) if declared.type == SCALE_SET else declared.props


@rule(SCALE_SET, severity="high")
def scale_sets_watch_application_health(declared: Declared, context: Context) -> Iterator[str]:
    """Every scale set has the application-health extension, so that an upgrade can see what it breaks."""
    extensions = objects(at(_profile(declared), "extensionProfile", "extensions"))
    found = [one for one in extensions if one.get("type") in WATCHERS]
    if not found:
        yield "extensionProfile has no ApplicationHealthLinux or ApplicationHealthWindows: add the extension"
    for extension in found:
        if extension.get("publisher") != "Microsoft.ManagedServices":
            yield f"extension publisher {extension.get('publisher')!r}: write Microsoft.ManagedServices"


@rule(SCALE_SET, severity="high")
def scale_sets_upgrade_in_batches(declared: Declared, context: Context) -> Iterator[str]:
    """A change of the model reaches a scale set's instances batch by batch."""
    if (mode := at(declared.props, "upgradePolicy", "mode")) != "Rolling":
        yield f"upgradePolicy.mode is {mode!r}: set Rolling"


@rule(SCALE_SET, severity="high")
def scale_sets_roll_within_the_standard(declared: Declared, context: Context) -> Iterator[str]:
    """Batches of a scale set, and what may be unhealthy meanwhile, are no larger than the standard allows."""
    policy = table(at(declared.props, "upgradePolicy", "rollingUpgradePolicy"))
    limits = load_standard(context.project).rolling
    for key, limit in (
        ("maxBatchInstancePercent", limits.max_batch_percent),
        ("maxUnhealthyInstancePercent", limits.max_unhealthy_percent),
        ("maxUnhealthyUpgradedInstancePercent", limits.max_unhealthy_upgraded_percent),
    ):
        value = policy.get(key)
        if value is None or value > limit:
            yield f"rollingUpgradePolicy.{key} is {plain(value)}: set at most {limit:g}"


@rule(SCALE_SET, severity="high")
def scale_sets_go_back_by_themselves(declared: Declared, context: Context) -> Iterator[str]:
    """Instances that a rolling upgrade breaks are taken back."""
    policy = at(declared.props, "upgradePolicy", "rollingUpgradePolicy")
    if at(policy, "rollbackFailedInstancesOnPolicyBreach") is not True:
        yield "rollingUpgradePolicy.rollbackFailedInstancesOnPolicyBreach is not set: set it to true"


@rule(SCALE_SET, MACHINE, CONFIGURATION, severity="medium")
def what_is_patched_names_its_stack(declared: Declared, context: Context) -> Iterator[str]:
    """Machines, scale sets and schedules are of a stack that the standard has rules for."""
    tagged = table(declared.props.get("tags")).get("patchwave-stack")
    standard = load_standard(context.project)
    if _stack(declared.props, context, standard) is None:
        yield _nowhere(context)
    elif tagged and context.stack in standard.stacks and tagged != context.stack:
        yield f"tag patchwave-stack is {tagged!r} in the stack {context.stack!r}: write {context.stack}"


@rule(SCALE_SET, MACHINE, severity="medium")
def hosts_can_be_found(declared: Declared, context: Context) -> Iterator[str]:
    """Hosts carry the tags by which the inventory and schedules find them."""
    tags = table(declared.props.get("tags"))
    own = ("host", "ring") if declared.type == MACHINE else ("slot",)
    missing = [name for name in ("fleet", "method", "way-back", *own) if not tags.get(f"patchwave-{name}")]
    if missing:
        yield f"tags lack {', '.join(f'patchwave-{name}' for name in missing)}: add them"


@rule(SCALE_SET, MACHINE, severity="high")
def hosts_are_entered_by_key(declared: Declared, context: Context) -> Iterator[str]:
    """Linux hosts take no passwords."""
    profile = table(_profile(declared).get("osProfile"))
    if profile.get("windowsConfiguration"):
        return
    if at(profile, "linuxConfiguration", "disablePasswordAuthentication") is not True:
        yield "osProfile.linuxConfiguration.disablePasswordAuthentication is not true: set it, and give a public key"
    if profile.get("adminPassword"):
        yield "osProfile.adminPassword is set: leave it out, and give a public key"


@rule(SCALE_SET, MACHINE, severity="medium")
def images_are_pinned(declared: Declared, context: Context) -> Iterator[str]:
    """The image is one version, unless Azure itself replaces images: then it asks for the latest."""
    if at(declared.props, "upgradePolicy", "automaticOSUpgradePolicy", "enableAutomaticOSUpgrade") is True:
        return
    image = table(at(_profile(declared), "storageProfile", "imageReference"))
    pinned = "/versions/" in str(image["id"]) if image.get("id") else image.get("version") not in (None, "latest")
    if not pinned:
        yield "storageProfile.imageReference names no version: write one, so that the next instance is like the last"


@rule(SCALE_SET, severity="critical")
def images_are_not_replaced_unattended(declared: Declared, context: Context) -> Iterator[str]:
    """Where the standard forbids unattended upgrades, Azure does not replace a scale set's images by itself."""
    upgrades = at(declared.props, "upgradePolicy", "automaticOSUpgradePolicy", "enableAutomaticOSUpgrade")
    if _attended(declared, context) and upgrades is not False:
        yield "automaticOSUpgradePolicy.enableAutomaticOSUpgrade is not false: set it to false"


@rule(MACHINE, severity="critical")
def machines_are_not_patched_unattended(declared: Declared, context: Context) -> Iterator[str]:
    """Where the standard forbids unattended upgrades, a machine's own patching waits for a schedule."""
    if not _attended(declared, context) or at(declared.props, "osProfile", "windowsConfiguration"):
        return
    patching = table(at(declared.props, "osProfile", "linuxConfiguration", "patchSettings"))
    bypass = at(patching, "automaticByPlatformSettings", "bypassPlatformSafetyChecksOnUserSchedule")
    if patching.get("patchMode") != "AutomaticByPlatform" or bypass is not True:
        yield (
            f"patchMode {patching.get('patchMode')!r} with bypass {bypass!r} lets the platform or the image patch: "
            "set AutomaticByPlatform with bypassPlatformSafetyChecksOnUserSchedule true"
        )


@rule(SCALE_SET, MACHINE, severity="critical")
def hosts_bring_no_unattended_upgrades(declared: Declared, context: Context) -> Iterator[str]:
    """Where the standard forbids unattended upgrades, no host is told to install them at its first boot."""
    data = str(at(_profile(declared), "osProfile", "customData") or "")
    if _attended(declared, context) and "unattended-upgrades" in data:
        yield "osProfile.customData brings unattended-upgrades: remove it"


def _attended(declared: Declared, context: Context) -> bool:
    standard = load_standard(context.project)
    stack = _stack(declared.props, context, standard)
    return stack is not None and not standard.stacks[stack].unattended_upgrades


@rule(severity="critical")
def machines_can_go_back(resources: Sequence[Declared], context: Context) -> Iterator[str]:
    """A machine whose way back is a restore point has a collection for them in the same program."""
    protected = {at(one.props, "tags", "patchwave-protects") for one in resources if one.type == COLLECTION}
    for one in resources:
        name, way = (at(one.props, "tags", f"patchwave-{key}") for key in ("host", "way-back"))
        if one.type == MACHINE and way == "snapshot" and name not in protected:
            yield f"{name}: no RestorePointCollection is tagged patchwave-protects={name}: declare one before patching"


@rule(MACHINE, severity="high")
def the_way_back_covers_each_disk(declared: Declared, context: Context) -> Iterator[str]:
    """A machine with data disks goes back by restore points of all of them, not by a snapshot of its OS disk."""
    disks = items(at(declared.props, "storageProfile", "dataDisks"))
    if disks and at(declared.props, "tags", "patchwave-way-back") == "disk_snapshot":
        yield f"way back disk_snapshot leaves out {len(disks)} data disks: tag it patchwave-way-back=snapshot"


@rule(POINT, severity="high")
def restore_points_leave_out_no_disk(declared: Declared, context: Context) -> Iterator[str]:
    """A restore point of only some disks brings back a machine that never was."""
    if left := items(declared.props.get("excludeDisks")):
        yield f"excludeDisks leaves out {len(left)} disks: leave excludeDisks out"


@rule(CONFIGURATION, severity="critical")
def schedules_keep_within_the_standard(declared: Declared, context: Context) -> Iterator[str]:
    """Every run of a schedule, over a year, lies in the window that the standard gives its stack."""
    props, standard = declared.props, load_standard(context.project)
    stack = _stack(props, context, standard)
    if stack is None:
        return
    image = props.get("maintenanceScope") == "OSImage"
    allowed = standard.stacks[stack].image_window if image else standard.stacks[stack].window
    if allowed is None:
        yield f"the standard lets no image roll by itself in {stack}: leave the configuration out"
    elif props.get("maintenanceScope") in ("InGuestPatch", "OSImage"):
        yield from _outside(props, allowed)


def _outside(props: Props, allowed: Envelope) -> Iterator[str]:
    names = {
        "start_date_time": "startDateTime",
        "duration": "duration",
        "time_zone": "timeZone",
        "recur_every": "recurEvery",
    }
    if missing := [name for name in names.values() if not isinstance(props.get(name), str)]:
        yield f"{' and '.join(missing)} missing: write when it runs"
        return
    try:
        made = Schedule(scope=props["maintenanceScope"], **{ours: props[theirs] for ours, theirs in names.items()})
    except ValidationError:  # the service's own rules say what is wrong with it
        return
    runs = made.openings()
    first = next(runs)
    around = allowed.whole.openings(first.opens)
    opening = next(around)
    for run in itertools.takewhile(lambda run: run.opens < first.opens + YEAR, itertools.chain([first], runs)):
        if run.closes - run.opens > allowed.lasts_at_most:
            yield f"duration {made.duration}: the standard allows at most {allowed.lasts_at_most}"
            return
        while opening.closes <= run.opens:
            opening = next(around)
        if run.opens < opening.opens or run.closes > opening.closes:
            yield (
                f"runs {run.opens.astimezone(UTC):%a %Y-%m-%d %H:%M} to {run.closes.astimezone(UTC):%a %H:%M} UTC, "
                f"outside {allowed.whole}: keep each run inside"
            )
            return


@rule(CONFIGURATION, severity="high")
def schedules_bring_security_and_critical(declared: Declared, context: Context) -> Iterator[str]:
    """A schedule that patches guests brings at least what is classified as security and critical."""
    if declared.props.get("maintenanceScope") != "InGuestPatch":
        return
    patches = table(declared.props.get("installPatches"))
    for system in ("linux", "windows"):
        chosen = at(patches, f"{system}Parameters", "classificationsToInclude")
        missing = [name for name in ("Critical", "Security") if name not in items(chosen)]
        if table(patches.get(f"{system}Parameters")) and missing:
            yield f"{system}Parameters.classificationsToInclude lacks {' and '.join(missing)}: add it"
    if not patches:
        yield "installPatches is missing: name Critical and Security"


@rule(CONFIGURATION, severity="medium")
def schedules_reboot_when_a_fix_needs_it(declared: Declared, context: Context) -> Iterator[str]:
    """A kernel's fix that waits for a reboot fixes nothing."""
    if declared.props.get("maintenanceScope") == "InGuestPatch":
        reboot = at(declared.props, "installPatches", "rebootSetting")
        if reboot not in ("IfRequired", "Always"):
            yield f"installPatches.rebootSetting is {reboot!r}: set IfRequired"


@rule(*SCOPES, severity="critical")
def schedules_select_only_their_own_stack(declared: Declared, context: Context) -> Iterator[str]:
    """A dynamic scope names one stack's tag, and all of its tags must match, so that it reaches no other stack."""
    settings = table(at(declared.props, "filter", "tagSettings"))
    stacks = items(at(settings, "tags", "patchwave-stack"))
    wanted = context.stack if context.stack in load_standard(context.project).stacks else None
    if len(stacks) != 1 or (wanted and stacks[0] != wanted):
        yield f"filter.tagSettings.tags selects patchwave-stack {list(stacks)}: write [{wanted or 'the stack'}]"
    if settings.get("filterOperator") != "All":
        yield f"filter.tagSettings.filterOperator is {settings.get('filterOperator')!r}: set All"


@rule(*SCOPES, severity="medium")
def schedules_select_one_ring(declared: Declared, context: Context) -> Iterator[str]:
    """A dynamic scope is of one ring, so that rings are patched one after the other."""
    rings = items(at(declared.props, "filter", "tagSettings", "tags", "patchwave-ring"))
    if len(rings) != 1:
        yield f"filter.tagSettings.tags selects patchwave-ring {list(rings)}: name one ring"


@rule(ACTION_GROUP, severity="high")
def alerts_reach_somebody(declared: Declared, context: Context) -> Iterator[str]:
    """An action group is on, and tells at least one receiver."""
    if declared.props.get("enabled") is False:
        yield "enabled is false: set it to true"
    if not any(items(declared.props.get(key)) for key in declared.props if key.endswith("Receivers")):
        yield "there are no receivers: name an e-mail address, a number or a webhook"


@rule(QUERY_RULE, severity="medium")
def alerts_do_something(declared: Declared, context: Context) -> Iterator[str]:
    """A scheduled query is on, and tells an action group."""
    if declared.props.get("enabled") is False:
        yield "enabled is false: set it to true"
    if not items(at(declared.props, "actions", "actionGroups")):
        yield "actions.actionGroups is empty: name an action group"


@rule(WORKSPACE, severity="medium")
def records_are_kept(
    declared: Declared, context: Context, *, at_least_days: Annotated[int, Field(ge=30, le=730)] = 30
) -> Iterator[str]:
    """What waves report to Log Analytics is kept long enough to be asked for."""
    days = declared.props.get("retentionInDays")
    if days is None or days < at_least_days:
        yield f"retentionInDays is {plain(days)}: keep at least {at_least_days}"


@rule(VAULT, severity="high", source="https://learn.microsoft.com/azure/backup/secure-by-default")
def deleted_backups_can_be_had_back(declared: Declared, context: Context) -> Iterator[str]:
    """Who deletes a vault's backups does not delete the way back with them."""
    soft = table(at(declared.props, "properties", "securitySettings", "softDeleteSettings"))
    if soft.get("softDeleteState") not in ("Enabled", "AlwaysON"):
        yield f"softDeleteState is {soft.get('softDeleteState')!r}: set Enabled"


@rule(BALANCER, severity="high")
def traffic_goes_only_where_it_is_answered(declared: Declared, context: Context) -> Iterator[str]:
    """Each rule of a load balancer has a probe, or a drained host would still be sent requests."""
    for one in objects(declared.props.get("loadBalancingRules")):
        if not one.get("probe"):
            yield f"loadBalancingRules {one.get('name')!r} has no probe: name one"


@rule(ASSIGNMENT, severity="critical", source=ROLES)
def nobody_is_given_the_right_to_give(declared: Declared, context: Context) -> Iterator[str]:
    """No program of a stack hands out the roles by which one takes every other."""
    role = str(declared.props.get("roleDefinitionId")).lower().rsplit("/", 1)[-1]
    if role in GIVERS:
        yield f"roleDefinitionId is {GIVERS[role]}: give the role of the task alone"


@rule(ASSIGNMENT, severity="high", source=ROLES)
def contributors_are_of_one_resource(declared: Declared, context: Context) -> Iterator[str]:
    """Contributor is given on single resources, not on a resource group or a subscription."""
    role = str(declared.props.get("roleDefinitionId")).lower().rsplit("/", 1)[-1]
    if role == CONTRIBUTOR and "/providers/" not in str(declared.props.get("scope")):
        yield "roleDefinitionId is Contributor on a whole group: give a narrower role, or a narrower scope"
