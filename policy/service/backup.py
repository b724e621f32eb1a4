"""What Azure Backup refuses."""

from collections.abc import Iterator
from datetime import datetime

from patchwave.calendar.update_manager import windows_zones
from policy.declared import Props
from policy.service.registry import refuses
from policy.service.values import at, items, number, outside, plain

VAULT = "recoveryservices:Vault"
POLICY = "recoveryservices:ProtectionPolicy"
ITEM = "recoveryservices:ProtectedItem"

_TERRAFORM = "https://registry.terraform.io/providers/hashicorp/azurerm/latest/docs/resources/backup_policy_vm"
ENHANCED = "https://learn.microsoft.com/azure/backup/backup-azure-vms-enhanced-policy"
SOFT_DELETE = "https://learn.microsoft.com/azure/backup/secure-by-default"
REST = "https://learn.microsoft.com/rest/api/backup/protection-policies/create-or-update"

SCHEDULES = {"V1": "SimpleSchedulePolicy", "V2": "SimpleSchedulePolicyV2"}
KEPT = (("weeklySchedule", "weeks"), ("monthlySchedule", "months"), ("yearlySchedule", "years"))


def _machines(props: Props) -> Props | None:
    found = at(props, "properties")
    return found if at(found, "backupManagementType") == "AzureIaasVM" else None


def _kind(policy: Props | None) -> str:
    return str(at(policy, "policyType") or "V1")


def _weekly(policy: Props | None) -> bool:
    return str(at(policy, "schedulePolicy", "scheduleRunFrequency")) == "Weekly"


def _run_times(policy: Props | None) -> list[str]:
    schedule = at(policy, "schedulePolicy")
    found = [*items(at(schedule, "scheduleRunTimes"))]
    for key in ("dailySchedule", "weeklySchedule"):
        found += items(at(schedule, key, "scheduleRunTimes"))
    return [str(one) for one in found]


@refuses(VAULT, source=SOFT_DELETE)
def deleted_backups_are_kept_two_weeks(props: Props) -> Iterator[str]:
    """What is deleted can be had back for 14 to 180 days."""
    days = at(props, "properties", "securitySettings", "softDeleteSettings", "softDeleteRetentionPeriodInDays")
    if outside(days, 14, 180):
        yield f"softDeleteRetentionPeriodInDays is {plain(days)}: set 14 to 180"


@refuses(POLICY, source=ENHANCED)
def schedules_are_of_the_policys_type(props: Props) -> Iterator[str]:
    """A policy of type V2 has a schedule of the second form, V1 one of the first."""
    if (policy := _machines(props)) is None:
        return
    wanted = SCHEDULES.get(_kind(policy))
    found = at(policy, "schedulePolicy", "schedulePolicyType")
    if wanted is None:
        yield f"policyType is {_kind(policy)!r}: set V2"
    elif found != wanted:
        yield f"schedulePolicyType is {found!r} in a policy of type {_kind(policy)}: set {wanted}"


@refuses(POLICY, source=_TERRAFORM)
def instant_points_last_as_long_as_the_type_takes(props: Props) -> Iterator[str]:
    """Points for instant restore last 1 to 5 days in V1, 1 to 30 in V2, and 5 where backups are weekly in V1."""
    policy = _machines(props)
    days, kind = at(policy, "instantRpRetentionRangeInDays"), _kind(policy)
    most = 30 if kind == "V2" else 5
    if outside(days, 1, most):
        yield f"instantRpRetentionRangeInDays is {plain(days)} in a policy of type {kind}: set 1 to {most}"
    elif kind == "V1" and _weekly(policy) and days is not None and number(days) != 5:
        yield f"instantRpRetentionRangeInDays is {plain(days)} with weekly backups: set 5"


@refuses(POLICY, source=_TERRAFORM)
def nightly_points_are_kept_a_week_at_least(props: Props) -> Iterator[str]:
    """Daily points are kept 7 to 9999 days."""
    policy = _machines(props)
    daily = at(policy, "retentionPolicy", "dailySchedule")
    count = at(daily, "retentionDuration", "count")
    if policy is not None and at(policy, "schedulePolicy", "scheduleRunFrequency") == "Daily" and not daily:
        yield "retentionPolicy.dailySchedule is missing beside daily backups: say how long they are kept"
    elif daily and (count is None or outside(count, 7, 9999)):
        yield f"retentionPolicy.dailySchedule keeps {plain(count)} days: set 7 to 9999"


@refuses(POLICY, source=_TERRAFORM)
def older_points_are_kept_within_the_range(props: Props) -> Iterator[str]:
    """Weekly, monthly and yearly points are kept 1 to 9999 of their units."""
    for key, unit in KEPT:
        kept = at(_machines(props), "retentionPolicy", key)
        count = at(kept, "retentionDuration", "count")
        if kept and (count is None or outside(count, 1, 9999)):
            yield f"retentionPolicy.{key} keeps {plain(count)} {unit}: set 1 to 9999"


@refuses(POLICY, source=_TERRAFORM)
def weekly_backups_keep_no_daily_points(props: Props) -> Iterator[str]:
    """Where backups are weekly there are weekly points, and no daily ones."""
    policy = _machines(props)
    if not _weekly(policy):
        return
    if at(policy, "retentionPolicy", "dailySchedule"):
        yield "retentionPolicy.dailySchedule stands beside weekly backups: remove it"
    if not at(policy, "retentionPolicy", "weeklySchedule"):
        yield "retentionPolicy.weeklySchedule is missing beside weekly backups: say how long they are kept"


@refuses(POLICY, source=_TERRAFORM)
def hourly_backups_fit_their_stretch(props: Props) -> Iterator[str]:
    """Every 4, 6, 8 or 12 hours, within 4 to 24 hours that the interval divides."""
    policy = _machines(props)
    schedule = at(policy, "schedulePolicy")
    if at(schedule, "scheduleRunFrequency") != "Hourly":
        return
    if _kind(policy) != "V2":
        yield "scheduleRunFrequency is Hourly in a policy of type V1: set policyType V2"
    interval, length = (number(at(schedule, "hourlySchedule", key)) for key in ("interval", "scheduleWindowDuration"))
    if interval not in (4, 6, 8, 12):
        yield f"hourlySchedule.interval is {plain(interval)}: set 4, 6, 8 or 12"
    elif length is None or not 4 <= length <= 24 or length % interval:
        yield f"hourlySchedule.scheduleWindowDuration is {plain(length)}: set 4 to 24, a multiple of {plain(interval)}"


@refuses(POLICY, source=_TERRAFORM)
def backups_start_on_the_half_hour(props: Props) -> Iterator[str]:
    """Backups start on the hour or the half hour."""
    for text in _run_times(_machines(props)):
        try:
            start = datetime.fromisoformat(text)
        except ValueError:
            yield f"scheduleRunTimes has {text!r}: write an instant such as 2026-12-01T22:00:00Z"
            continue
        if start.minute not in (0, 30) or start.second:
            yield f"scheduleRunTimes has {text!r}: start on the hour or the half hour"


@refuses(POLICY, source=REST)
def points_are_kept_from_the_time_of_the_backup(props: Props) -> Iterator[str]:
    """Retention counts from the times at which backups run."""
    policy = _machines(props)
    runs = _run_times(policy)
    for key in ("dailySchedule", *(key for key, _ in KEPT)):
        times = [str(one) for one in items(at(policy, "retentionPolicy", key, "retentionTimes"))]
        if runs and times and times != runs:
            yield f"retentionPolicy.{key}.retentionTimes is {', '.join(times)}: set {', '.join(runs)}"


@refuses(POLICY, source=REST)
def backups_count_in_a_windows_zone(props: Props) -> Iterator[str]:
    """Zones are named as Windows names them."""
    zone = at(_machines(props), "timeZone")
    if zone is not None and (not isinstance(zone, str) or zone not in windows_zones()):
        yield f"timeZone is {zone!r}: write a Windows name such as 'UTC' or 'W. Europe Standard Time'"


@refuses(ITEM, source="https://learn.microsoft.com/rest/api/backup/protected-items/create-or-update")
def protected_machines_name_azures_fabric(props: Props) -> Iterator[str]:
    """A virtual machine is protected in the fabric Azure, as an item of its own type."""
    if (kind := at(props, "properties", "protectedItemType")) != "Microsoft.Compute/virtualMachines":
        yield f"protectedItemType is {kind!r}: set Microsoft.Compute/virtualMachines"
    elif (fabric := props.get("fabricName")) != "Azure":
        yield f"fabricName is {fabric!r}: set Azure"
