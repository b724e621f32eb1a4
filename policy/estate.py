"""What the standard asks of resources, in anyone's program."""

import itertools
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, timedelta
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field, ValidationError

from patchwave.base.model import first_problem
from patchwave.calendar.update_manager import Schedule
from patchwave.config.standard import Envelope, StackName, Standard, load_standard, stack_name
from policy.declared import Declared, Props
from policy.rule import Context, rule
from policy.service.values import at, items, number, objects, outside, plain, table
from policy.wire import given, known

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
TABLE = "azure-native:operationalinsights:Table"
VAULT = "azure-native:recoveryservices:Vault"
ASSIGNMENT = "azure-native:authorization:RoleAssignment"
ROLE = "azure-native:authorization:RoleDefinition"

WATCHERS = ("ApplicationHealthLinux", "ApplicationHealthWindows")
CHOICES = {"linux": "packageNameMasksToInclude", "windows": "kbNumbersToInclude"}
YEAR = timedelta(days=366)
ROLES = "https://learn.microsoft.com/azure/role-based-access-control/built-in-roles/privileged"
GIVERS = {
    "8e3af657-a8ff-443c-a75c-2fe8c4bcb635": "Owner",
    "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9": "User Access Administrator",
    "f58310d9-a9f6-439a-9e8d-f62e7b41a168": "Role Based Access Control Administrator",
}
SCHEDULED = "AutomaticByPlatform with bypassPlatformSafetyChecksOnUserSchedule true"
GIVES = "microsoft.authorization/roleassignments/write"
CONTRIBUTOR = "b24988ac-6180-42a0-ab88-20f7382dd24c"
ONE_RESOURCE = re.compile(r"/resourcegroups/[^/]+/providers/", re.IGNORECASE)
ONE_IMAGE = re.compile(r"/versions/\d|/providers/microsoft\.compute/images/", re.IGNORECASE)


def _tagged(props: Props) -> str | None:
    found = table(props.get("tags")).get("patchwave-stack")
    return str(found) if found else None


def _stack(props: Props, context: Context, standard: Standard) -> StackName | None:
    """The stack of the standard that a resource is in: by its tag, else by the name of Pulumi's stack."""
    found = _tagged(props) or context.stack
    return stack_name(found) if found in standard.stacks else None


def profile(declared: Declared) -> Props:
    """The part of a machine or scale set that describes each host."""
    return table(declared.props.get("virtualMachineProfile")) if declared.type == SCALE_SET else declared.props


def attended(declared: Declared, context: Context) -> bool:
    """Whether the standard forbids unattended upgrades in the stack of a resource."""
    standard = load_standard(context.project)
    stack = _stack(declared.props, context, standard)
    return stack is not None and not standard.stacks[stack].unattended_upgrades


def _brings_its_disk(declared: Declared) -> bool:
    """Whether a machine is made of a disk that is there: Azure takes neither an image nor an osProfile with it."""
    return bool(at(profile(declared), "storageProfile", "osDisk", "createOption") == "Attach")


@rule(SCALE_SET, severity="high")
def scale_sets_watch_application_health(declared: Declared, context: Context) -> Iterator[str]:
    """Every scale set has the application-health extension, so that an upgrade can see what it breaks."""
    extensions = objects(at(profile(declared), "extensionProfile", "extensions"))
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
        if value is None or outside(value, 0, limit):
            yield f"rollingUpgradePolicy.{key} is {plain(value)}: set at most {limit}"


@rule(SCALE_SET, severity="high")
def scale_sets_go_back_by_themselves(declared: Declared, context: Context) -> Iterator[str]:
    """Instances that a rolling upgrade breaks are taken back; Azure does that for Uniform scale sets only."""
    if declared.props.get("orchestrationMode") == "Flexible":
        return
    policy = at(declared.props, "upgradePolicy", "rollingUpgradePolicy")
    if at(policy, "rollbackFailedInstancesOnPolicyBreach") is not True:
        yield "rollingUpgradePolicy.rollbackFailedInstancesOnPolicyBreach is not set: set it to true"


@rule(SCALE_SET, MACHINE, CONFIGURATION, severity="medium")
def what_is_patched_names_its_stack(declared: Declared, context: Context) -> Iterator[str]:
    """Machines, scale sets and schedules are of a stack that the standard has rules for."""
    tagged, stacks = _tagged(declared.props), load_standard(context.project).stacks
    known_ones = ", ".join(stacks)
    if tagged is None and context.stack not in stacks:
        yield f"{context.stack!r} is no stack of the standard, and tag patchwave-stack is missing: tag it {known_ones}"
    elif tagged is not None and tagged not in stacks:
        yield f"tag patchwave-stack is {tagged!r}, which is no stack of the standard: write {known_ones}"
    elif tagged is not None and context.stack in stacks and tagged != context.stack:
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
    described = table(profile(declared).get("osProfile"))
    if given(described, "windowsConfiguration") or (not described and _brings_its_disk(declared)):
        return
    if at(described, "linuxConfiguration", "disablePasswordAuthentication") is not True:
        yield "osProfile.linuxConfiguration.disablePasswordAuthentication is not true: set it, and give a public key"
    if given(described, "adminPassword"):
        yield "osProfile.adminPassword is set: leave it out, and give a public key"


@rule(SCALE_SET, MACHINE, severity="medium")
def images_are_pinned(declared: Declared, context: Context) -> Iterator[str]:
    """The image is one version, unless Azure itself replaces images: then it asks for the latest."""
    if at(declared.props, "upgradePolicy", "automaticOSUpgradePolicy", "enableAutomaticOSUpgrade") is True:
        return
    image = table(at(profile(declared), "storageProfile", "imageReference"))
    if not image and _brings_its_disk(declared):
        return
    named = next((key for key in ("id", "sharedGalleryImageId", "communityGalleryImageId") if given(image, key)), None)
    pinned = bool(ONE_IMAGE.search(str(image[named]))) if named else image.get("version") not in (None, "", "latest")
    if not pinned:
        yield "storageProfile.imageReference names no version: write one, so that the next instance is like the last"


@rule(SCALE_SET, severity="critical")
def images_are_not_replaced_unattended(declared: Declared, context: Context) -> Iterator[str]:
    """Where the standard forbids unattended upgrades, Azure does not replace a scale set's images by itself."""
    if not attended(declared, context):
        return
    if at(declared.props, "upgradePolicy", "automaticOSUpgradePolicy", "enableAutomaticOSUpgrade") is not False:
        yield "automaticOSUpgradePolicy.enableAutomaticOSUpgrade is not false: set it to false"


@rule(SCALE_SET, MACHINE, severity="critical")
def hosts_are_not_patched_unattended(declared: Declared, context: Context) -> Iterator[str]:
    """Where the standard forbids unattended upgrades, neither the platform nor Windows patches a host by itself."""
    if not attended(declared, context):
        return
    described = table(profile(declared).get("osProfile"))
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


@rule(severity="critical")
def machines_can_go_back(resources: Sequence[Declared], context: Context) -> Iterator[str]:
    """A machine whose way back is a restore point has a collection for them in the same program."""
    protected = {at(one.props, "tags", "patchwave-protects") for one in resources if one.type == COLLECTION}
    for machine in (one for one in resources if one.type == MACHINE):
        name, way = (at(machine.props, "tags", f"patchwave-{key}") for key in ("host", "way-back"))
        if way == "snapshot" and name not in protected:
            yield (
                f"{machine.name}: no RestorePointCollection is tagged patchwave-protects={name}: "
                "declare one before patching"
            )


@rule(MACHINE, severity="high")
def the_way_back_covers_each_disk(declared: Declared, context: Context) -> Iterator[str]:
    """A machine with data disks goes back by restore points of all of them, not by a snapshot of its OS disk."""
    if at(declared.props, "tags", "patchwave-way-back") != "disk_snapshot":
        return
    if disks := items(at(declared.props, "storageProfile", "dataDisks")):
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
    except ValidationError as error:
        yield f"its runs cannot be told, {first_problem(error)}"
        return
    runs = made.openings()
    if (first := next(runs, None)) is None:
        yield f"recurEvery {made.recur_every!r} never comes: write a day that there is"
        return
    around = allowed.whole.openings(first.opens)
    opening = next(around)
    for run in itertools.takewhile(lambda run: run.opens < first.opens + YEAR, itertools.chain([first], runs)):
        if run.closes - run.opens > allowed.longest:
            yield f"duration {made.duration}: the standard allows at most {allowed.longest}"
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
    """A schedule that patches guests brings what is classified as security and critical, or a release's own list."""
    if declared.props.get("maintenanceScope") != "InGuestPatch":
        return
    patches = table(declared.props.get("installPatches"))
    systems = {system: table(patches.get(f"{system}Parameters")) for system in CHOICES}
    if not any(systems.values()):
        yield "installPatches names neither linuxParameters nor windowsParameters: name Critical and Security"
    for system, chosen in systems.items():
        classes, named = items(chosen.get("classificationsToInclude")), items(chosen.get(CHOICES[system]))
        missing = [name for name in ("Critical", "Security") if name not in classes]
        if chosen and missing and (classes or not named):
            yield f"{system}Parameters.classificationsToInclude lacks {' and '.join(missing)}: add it"


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
    chosen, stacks = list(items(at(settings, "tags", "patchwave-stack"))), load_standard(context.project).stacks
    wanted = [context.stack] if context.stack in stacks else list(stacks)
    if len(chosen) != 1 or chosen[0] not in wanted:
        yield f"filter.tagSettings.tags selects patchwave-stack {chosen}: write {' or '.join(wanted)}"
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
    kinds = [key for key in declared.props if key.endswith("Receivers")]
    told = any(items(known(declared.props, key)) for key in kinds)
    if not told and not any(items(declared.props[key]) for key in kinds):
        yield "there are no receivers: name an e-mail address, a number or a webhook"


@rule(QUERY_RULE, severity="medium")
def alerts_do_something(declared: Declared, context: Context) -> Iterator[str]:
    """A scheduled query is on, and tells an action group."""
    if declared.props.get("enabled") is False:
        yield "enabled is false: set it to true"
    if declared.props.get("kind") == "LogToMetric":  # makes a figure and takes no actions
        return
    if not items(at(declared.props, "actions", "actionGroups")):
        yield "actions.actionGroups is empty: name an action group"


@rule(WORKSPACE, TABLE, severity="medium")
def records_are_kept(
    declared: Declared, context: Context, *, at_least_days: Annotated[int, Field(ge=30, le=730)] = 30
) -> Iterator[str]:
    """What waves report to Log Analytics is kept long enough to be asked for."""
    days = declared.props.get("retentionInDays")
    as_the_workspace = declared.type == TABLE and (days is None or number(days) == -1)
    if not as_the_workspace and ((kept := number(days)) is None or kept < at_least_days):
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
        if not given(one, "probe"):
            yield f"loadBalancingRules {one.get('name')!r} has no probe: name one"


@rule(ASSIGNMENT, ROLE, severity="critical", source=ROLES)
def nobody_is_given_the_right_to_give(declared: Declared, context: Context) -> Iterator[str]:
    """No program of a stack hands out, or makes, the roles by which one takes every other."""
    if declared.type == ROLE:
        for permission in objects(declared.props.get("permissions")):
            if _gives(permission.get("actions")) and not _gives(permission.get("notActions")):
                yield f"permissions allow {GIVES}: name the actions of the task alone"
    elif (role := _role(declared)) in GIVERS:
        yield f"roleDefinitionId is {GIVERS[role]}: give the role of the task alone"


@rule(ASSIGNMENT, severity="high", source=ROLES)
def contributors_are_of_one_resource(declared: Declared, context: Context) -> Iterator[str]:
    """Contributor is given on single resources, not on a resource group or anything wider."""
    if _role(declared) == CONTRIBUTOR and not ONE_RESOURCE.search(str(declared.props.get("scope"))):
        yield "roleDefinitionId is Contributor on a whole group: give a narrower role, or a narrower scope"


def _role(declared: Declared) -> str:
    return str(declared.props.get("roleDefinitionId")).lower().rsplit("/", 1)[-1]


def _gives(actions: object) -> bool:
    return any(fnmatchcase(GIVES, str(action).lower()) for action in items(actions))
