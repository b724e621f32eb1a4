"""The standard's rules for what surrounds the hosts of a stack: schedules, traffic, backups, records, access."""

import itertools
import re
from collections.abc import Iterator
from datetime import UTC, timedelta
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field, ValidationError

from patchwave.base.model import first_problem
from patchwave.calendar.update_manager import Schedule
from patchwave.config.standard import Envelope
from policy.check import Context, check
from policy.declared import TAG, Declared, Props, given, known
from policy.hosts import CONFIGURATION
from policy.service.values import at, items, number, objects, plain, table

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

CHOICES = {"linux": "packageNameMasksToInclude", "windows": "kbNumbersToInclude"}
YEAR = timedelta(days=366)
ROLES = "https://learn.microsoft.com/azure/role-based-access-control/built-in-roles/privileged"
GIVERS = {
    "8e3af657-a8ff-443c-a75c-2fe8c4bcb635": "Owner",
    "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9": "User Access Administrator",
    "f58310d9-a9f6-439a-9e8d-f62e7b41a168": "Role Based Access Control Administrator",
}
GIVES = "microsoft.authorization/roleassignments/write"
CONTRIBUTOR = "b24988ac-6180-42a0-ab88-20f7382dd24c"
ONE_RESOURCE = re.compile(r"/resourcegroups/[^/]+/providers/", re.IGNORECASE)


@check("maintenance", CONFIGURATION)
def schedules_keep_within_the_standard(declared: Declared, context: Context) -> Iterator[str]:
    """Every run of a schedule, over a year, lies in the window that the standard gives its stack."""
    props, rules = declared.props, context.rules_of(declared)
    if rules is None:
        return
    allowed = rules.image_window if props.get("maintenanceScope") == "OSImage" else rules.window
    if allowed is None:
        yield "the standard lets no image roll by itself in this stack: leave the configuration out"
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
        yield f"its runs are unknown, {first_problem(error)}"
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


@check("maintenance", CONFIGURATION)
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


@check("maintenance", CONFIGURATION)
def schedules_reboot_when_a_fix_needs_it(declared: Declared, context: Context) -> Iterator[str]:
    """A kernel's fix that waits for a reboot fixes nothing."""
    if declared.props.get("maintenanceScope") == "InGuestPatch":
        reboot = at(declared.props, "installPatches", "rebootSetting")
        if reboot not in ("IfRequired", "Always"):
            yield f"installPatches.rebootSetting is {reboot!r}: set IfRequired"


@check("maintenance", *SCOPES)
def schedules_select_only_their_own_stack(declared: Declared, context: Context) -> Iterator[str]:
    """A dynamic scope names one stack's tag, and all of its tags must match, so that it reaches no other stack."""
    settings = table(at(declared.props, "filter", "tagSettings"))
    chosen = list(items(at(settings, "tags", TAG)))
    wanted = [declared.pulumi_stack] if declared.is_ours else list(context.standard.stacks)
    if len(chosen) != 1 or chosen[0] not in wanted:
        yield f"filter.tagSettings.tags selects {TAG} {chosen}: write {' or '.join(wanted)}"
    if settings.get("filterOperator") != "All":
        yield f"filter.tagSettings.filterOperator is {settings.get('filterOperator')!r}: set All"


@check("maintenance", *SCOPES)
def schedules_select_one_ring(declared: Declared, context: Context) -> Iterator[str]:
    """A dynamic scope is of one ring at most, so that rings are patched one after the other."""
    rings = items(at(declared.props, "filter", "tagSettings", "tags", "patchwave-ring"))
    if len(rings) > 1:
        yield f"filter.tagSettings.tags selects patchwave-ring {list(rings)}: name one ring"


@check("monitoring", ACTION_GROUP)
def alerts_reach_somebody(declared: Declared, context: Context) -> Iterator[str]:
    """An action group is on, and has at least one receiver."""
    if declared.props.get("enabled") is False:
        yield "enabled is false: set it to true"
    kinds = [key for key in declared.props if key.endswith("Receivers")]
    reached = any(items(known(declared.props, key)) for key in kinds)
    if not reached and not any(items(declared.props[key]) for key in kinds):
        yield "there are no receivers: name an e-mail address, a number or a webhook"


@check("monitoring", QUERY_RULE)
def alerts_do_something(declared: Declared, context: Context) -> Iterator[str]:
    """A scheduled query is on, and calls an action group."""
    if declared.props.get("enabled") is False:
        yield "enabled is false: set it to true"
    if declared.props.get("kind") == "LogToMetric":  # makes a figure and takes no actions
        return
    if not items(at(declared.props, "actions", "actionGroups")):
        yield "actions.actionGroups is empty: name an action group"


@check("monitoring", WORKSPACE, TABLE)
def records_are_kept(
    declared: Declared, context: Context, *, at_least_days: Annotated[int, Field(ge=30, le=730)] = 30
) -> Iterator[str]:
    """What waves report to Log Analytics is kept long enough to be looked up."""
    days = declared.props.get("retentionInDays")
    as_the_workspace = declared.type == TABLE and (days is None or number(days) == -1)
    if not as_the_workspace and ((kept := number(days)) is None or kept < at_least_days):
        yield f"retentionInDays is {plain(days)}: keep at least {at_least_days}"


@check("backups", VAULT, source="https://learn.microsoft.com/azure/backup/secure-by-default")
def deleted_backups_can_be_had_back(declared: Declared, context: Context) -> Iterator[str]:
    """Who deletes a vault's backups cannot make that final."""
    soft = table(at(declared.props, "properties", "securitySettings", "softDeleteSettings"))
    if soft.get("softDeleteState") not in ("Enabled", "AlwaysON"):
        yield f"softDeleteState is {soft.get('softDeleteState')!r}: set Enabled"


@check("network", BALANCER)
def traffic_goes_only_where_it_is_answered(declared: Declared, context: Context) -> Iterator[str]:
    """Each rule of a load balancer has a probe, or a drained host would still be sent requests."""
    for one in objects(declared.props.get("loadBalancingRules")):
        if not given(one, "probe"):
            yield f"loadBalancingRules {one.get('name')!r} has no probe: name one"


@check("access", ASSIGNMENT, ROLE, source=ROLES)
def nobody_is_given_the_right_to_give(declared: Declared, context: Context) -> Iterator[str]:
    """No program of a stack hands out, or makes, the roles by which one takes every other."""
    if declared.type == ROLE:
        for permission in objects(declared.props.get("permissions")):
            if _gives(permission.get("actions")) and not _gives(permission.get("notActions")):
                yield f"permissions allow {GIVES}: name the actions of the task alone"
    elif (role := _role(declared)) in GIVERS:
        yield f"roleDefinitionId is {GIVERS[role]}: give the role of the task alone"


@check("access", ASSIGNMENT, source=ROLES)
def contributors_are_of_one_resource(declared: Declared, context: Context) -> Iterator[str]:
    """Contributor is given on single resources, not on a resource group or anything wider."""
    if _role(declared) == CONTRIBUTOR and not ONE_RESOURCE.search(str(declared.props.get("scope"))):
        yield "roleDefinitionId is Contributor on a whole group: give a narrower role, or a narrower scope"


def _role(declared: Declared) -> str:
    return str(declared.props.get("roleDefinitionId")).lower().rsplit("/", 1)[-1]


def _gives(actions: object) -> bool:
    return any(fnmatchcase(GIVES, str(action).lower()) for action in items(actions))
