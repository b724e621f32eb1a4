"""Every rule, as a generator of complaints that name the mend; `__main__` only serves them.

A rule reads literal properties only: an unknown would disarm it in a preview. Absent means wrong.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pulumi_policy.proxy import UnknownValueError

from patchwave.admission import permission
from patchwave.decisions.settings import load_stack
from patchwave.decisions.standard import Envelope, StackName, load_standard
from patchwave.foundation.errors import PatchwaveError
from patchwave.planning import outlook, solver
from patchwave.releases import waivers
from patchwave.releases.release import load as load_release
from patchwave.releases.release import path_of
from policy import service
from policy.declared import Declared, Props

PROJECT = Path(__file__).resolve().parent.parent
Level = Literal["mandatory", "advisory"]

SCALE_SET = "azure-native:compute:VirtualMachineScaleSet"
MACHINE = "azure-native:compute:VirtualMachine"
CONFIGURATION = "azure-native:maintenance:MaintenanceConfiguration"
COLLECTION = "azure-native:compute:RestorePointCollection"
COMMAND = "command:local:Command"


class Moment(NamedTuple):
    """When a rule is asked, and whether this is only a preview."""

    now: datetime
    preview: bool


ResourceCheck = Callable[[Declared, Moment], Iterator[str]]
StackCheck = Callable[[Sequence[Declared]], Iterator[str]]


class Rule(NamedTuple):
    """A check with its name and how it is enforced; the check's docstring is the description."""

    check: ResourceCheck
    types: tuple[str, ...]
    level: Level

    @property
    def name(self) -> str:
        return self.check.__name__.replace("_", "-")


class StackRule(NamedTuple):
    """A check over all resources of a stack."""

    check: StackCheck

    @property
    def name(self) -> str:
        return self.check.__name__.replace("_", "-")


def _stack(props: Props) -> StackName | None:
    name = (props.get("tags") or {}).get("patchwave-stack")
    return name if name in load_standard(PROJECT).stacks else None


def _wave(declared: Declared) -> tuple[StackName, str, str] | None:
    """The stack, release and digest that a wave's command is for."""
    variables = declared.props.get("environment") or {}
    stack, release, digest = (variables.get(f"PATCHWAVE_{key}") for key in ("STACK", "RELEASE", "DIGEST"))
    if stack not in load_standard(PROJECT).stacks or not isinstance(release, str) or not isinstance(digest, str):
        return None
    return stack, release, digest


def _lacking(declared: Declared, moment: Moment) -> Iterator[str]:
    wave = _wave(declared)
    if wave is None:
        if "patchwave wave" in str(declared.props.get("create")):
            yield "environment names no stack, release and digest: declare waves by components.Wave"
        return
    stack, release_id, digest = wave
    file = load_stack(PROJECT, stack)
    if permission.is_done(PROJECT, stack, release_id, digest, waivers.named(PROJECT, file.waivers)):
        return
    release = load_release(PROJECT, release_id)
    if release.digest != digest:
        declared_as, sealed_as = digest[:12], release.digest[:12]
        yield f"digest {declared_as} is declared, release {release_id} has {sealed_as}: declare what is sealed"
        return
    settings = file.settings
    needs = settings.rollout.host_takes
    inputs = permission.gather(PROJECT, stack, release, settings.calendar, needs=needs, at=moment.now)
    decision = permission.decide(inputs)
    if not decision.allowed:
        yield permission.line(inputs, decision)


def waves_run_with_permission(declared: Declared, moment: Moment) -> Iterator[str]:
    """A wave that has not been carried out yet starts only when window, freezes, promotion and approvals allow it."""
    if not moment.preview:
        yield from _lacking(declared, moment)


def waves_wait_for_permission(declared: Declared, moment: Moment) -> Iterator[str]:
    """A preview says what a wave lacks, and when the next window opens."""
    if moment.preview:
        yield from _lacking(declared, moment)


def _missed(declared: Declared, moment: Moment, *, remedied: bool) -> Iterator[str]:
    wave = _wave(declared)
    if not moment.preview or wave is None or "wave preflight" not in str(declared.props.get("create")):
        return
    stack, release_id, digest = wave
    file = load_stack(PROJECT, stack)
    if permission.is_done(PROJECT, stack, release_id, digest, waivers.named(PROJECT, file.waivers)):
        return
    seen = outlook.view(PROJECT, stack, file, load_release(PROJECT, release_id), load_standard(PROJECT), moment.now)
    for miss in solver.misses(outlook.ask(seen, seen.declared(moment.now), moment.now)):
        if (miss.remedy is not None) == remedied:
            yield seen.line(miss)


def slas_can_be_met(declared: Declared, moment: Moment) -> Iterator[str]:
    """A preview fails when a fix would be late and a change that the standard allows would bring it in time."""
    yield from _missed(declared, moment, remedied=True)


def missed_slas_are_named(declared: Declared, moment: Moment) -> Iterator[str]:
    """A preview names the fixes that will be late whatever is done: refusing would only make them later."""
    yield from _missed(declared, moment, remedied=False)


def waivers_are_not_expired(declared: Declared, moment: Moment) -> Iterator[str]:
    """A stack relies only on waivers that are there, within the standard, and count now."""
    if wave := _wave(declared):
        stack, release, _ = wave
        known = load_release(PROJECT, release) if path_of(PROJECT, release).exists() else None
        found = waivers.relied(PROJECT, load_stack(PROJECT, stack).waivers, load_standard(PROJECT), known)
        yield from waivers.objections(found, stack, moment.now)


def windows_stay_within_the_standard(declared: Declared, moment: Moment) -> Iterator[str]:
    """A declared maintenance window is never looser than the standard's."""
    props = declared.props
    stack = _stack(props)
    if stack is None:
        yield "tags name no patchwave-stack that the standard knows: tag it dev, staging or prod"
        return
    allowed, settings = load_standard(PROJECT).stacks[stack], load_stack(PROJECT, stack).settings
    if props.get("maintenanceScope") != "OSImage":
        envelope, windows = allowed.window, settings.calendar.windows
    elif allowed.image_window is None:
        yield f"the standard lets no image roll by itself in {stack}: leave the configuration out"
        return
    else:
        upgrade = settings.slots.image_upgrade
        envelope, windows = allowed.image_window, (upgrade.window,) if upgrade else ()
    yield from _window_complaints(props, envelope)
    for window in windows:
        yield from envelope.complaints(window)
    for extra in settings.calendar.extra:
        yield from allowed.extra_window.refuses(extra)


def _window_complaints(props: Props, envelope: Envelope) -> Iterator[str]:
    starts = re.fullmatch(r"\d{4}-\d\d-\d\d (\d\d):(\d\d)", str(props.get("startDateTime")))
    lasts = re.fullmatch(r"(\d\d):(\d\d)", str(props.get("duration")))
    if not starts or not lasts:
        yield "startDateTime or duration is missing: write 'YYYY-MM-DD hh:mm' and 'hh:mm'"
        return
    begins = timedelta(hours=int(starts[1]), minutes=int(starts[2]))
    length = timedelta(hours=int(lasts[1]), minutes=int(lasts[2]))
    earliest, latest = (timedelta(hours=t.hour, minutes=t.minute) for t in (envelope.earliest, envelope.latest))
    if begins < earliest or begins + length > latest:
        yield f"runs {begins} to {begins + length}: keep it within {envelope.earliest:%H:%M}-{envelope.latest:%H:%M}"
    if length > envelope.lasts_at_most:
        yield f"duration {length}: the standard allows at most {envelope.lasts_at_most}"


def scale_sets_watch_application_health(declared: Declared, moment: Moment) -> Iterator[str]:
    """Every scale set has the application-health extension, so that an upgrade can see what it breaks."""
    extensions = _at(declared.props, "virtualMachineProfile", "extensionProfile", "extensions") or []
    found = [e for e in extensions if e.get("type") in ("ApplicationHealthLinux", "ApplicationHealthWindows")]
    if not found:
        yield "extensionProfile has no ApplicationHealthLinux or ApplicationHealthWindows: add the extension"
    for extension in found:
        if extension.get("publisher") != "Microsoft.ManagedServices":
            yield f"extension publisher {extension.get('publisher')!r}: write Microsoft.ManagedServices"


def scale_sets_roll_within_the_standard(declared: Declared, moment: Moment) -> Iterator[str]:
    """A scale set replaces its instances in batches no larger than the standard allows, with a rollback."""
    mode = _at(declared.props, "upgradePolicy", "mode")
    if mode != "Rolling":
        yield f"upgradePolicy.mode is {mode!r}: set Rolling"
    policy = _at(declared.props, "upgradePolicy", "rollingUpgradePolicy") or {}
    limits = load_standard(PROJECT).rolling
    for key, limit in (
        ("maxBatchInstancePercent", limits.max_batch_percent),
        ("maxUnhealthyInstancePercent", limits.max_unhealthy_percent),
        ("maxUnhealthyUpgradedInstancePercent", limits.max_unhealthy_upgraded_percent),
    ):
        value = policy.get(key)
        if value is None or value > limit:
            yield f"rollingUpgradePolicy.{key} is {value}: set at most {limit:g}"
    if policy.get("rollbackFailedInstancesOnPolicyBreach") is not True:
        yield "rollingUpgradePolicy.rollbackFailedInstancesOnPolicyBreach is not set: set it to true"


def azure_accepts_what_is_declared(declared: Declared, moment: Moment) -> Iterator[str]:
    """Nothing is declared that Azure is documented to refuse."""
    unknown: UnknownValueError | None = None
    for rule in service.BY_TYPE.get(declared.type, ()):
        try:
            for complaint in rule.check(declared.props):
                yield f"{complaint} ({rule.name})"
        except UnknownValueError as error:
            unknown = error
    if unknown:
        raise unknown


def machines_can_go_back(resources: Sequence[Declared]) -> Iterator[str]:
    """Every machine whose way back is a snapshot has a restore-point collection in the same program."""
    protected = {_at(r.props, "tags", "patchwave-protects") for r in resources if r.type == COLLECTION}
    for resource in resources:
        if resource.type != MACHINE:
            continue
        name, way = (_at(resource.props, "tags", f"patchwave-{key}") for key in ("host", "way-back"))
        if name is None:
            yield f"{resource.name}: tags name no patchwave-host: tag it with its own name"
            continue
        if way is None:
            yield f"{name}: tags name no patchwave-way-back: tag it snapshot, disk_snapshot or downgrade"
        elif way == "snapshot" and name not in protected:
            yield f"{name}: no RestorePointCollection is tagged patchwave-protects={name}: declare one before patching"


def prod_never_patches_itself(declared: Declared, moment: Moment) -> Iterator[str]:
    """Where the standard forbids unattended upgrades, neither the platform nor the image brings updates by itself."""
    stack = _stack(declared.props)
    if stack is None:
        yield "tags name no patchwave-stack that the standard knows: tag it dev, staging or prod"
        return
    if load_standard(PROJECT).stacks[stack].unattended_upgrades:
        return
    if declared.type == SCALE_SET:
        if _at(declared.props, "upgradePolicy", "automaticOSUpgradePolicy", "enableAutomaticOSUpgrade") is not False:
            yield "automaticOSUpgradePolicy.enableAutomaticOSUpgrade is not false: set it to false"
        profile = _at(declared.props, "virtualMachineProfile", "osProfile") or {}
    else:
        profile = declared.props.get("osProfile") or {}
        patching = _at(profile, "linuxConfiguration", "patchSettings") or {}
        bypass = _at(patching, "automaticByPlatformSettings", "bypassPlatformSafetyChecksOnUserSchedule")
        if patching.get("patchMode") != "AutomaticByPlatform" or bypass is not True:
            yield (
                f"patchMode {patching.get('patchMode')!r} with bypass {bypass!r} lets the platform or the image patch: "
                "set AutomaticByPlatform with bypassPlatformSafetyChecksOnUserSchedule true"
            )
    if "unattended-upgrades" in str(profile.get("customData", "")):
        yield "customData brings unattended-upgrades: remove it"


def _at(props: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(props, Mapping):
            return None
        props = props.get(key)
    return props


RULES: tuple[Rule, ...] = (
    Rule(waves_run_with_permission, (COMMAND,), "mandatory"),
    Rule(waves_wait_for_permission, (COMMAND,), "advisory"),
    Rule(slas_can_be_met, (COMMAND,), "mandatory"),
    Rule(missed_slas_are_named, (COMMAND,), "advisory"),
    Rule(waivers_are_not_expired, (COMMAND,), "mandatory"),
    Rule(windows_stay_within_the_standard, (CONFIGURATION,), "mandatory"),
    Rule(scale_sets_watch_application_health, (SCALE_SET,), "mandatory"),
    Rule(scale_sets_roll_within_the_standard, (SCALE_SET,), "mandatory"),
    Rule(prod_never_patches_itself, (SCALE_SET, MACHINE), "mandatory"),
    Rule(azure_accepts_what_is_declared, tuple(service.BY_TYPE), "mandatory"),
)
STACK_RULES: tuple[StackRule, ...] = (
    StackRule(machines_can_go_back),
    *(StackRule(rule.check) for rule in service.STACK_RULES),
)


def complaints(rule: Rule, declared: Declared, moment: Moment) -> Iterator[str]:
    """What one rule has against one resource; a rule that cannot run complains of that."""
    if declared.type not in rule.types:
        return
    try:
        yield from rule.check(declared, moment)
    except PatchwaveError as error:
        yield f"the rule cannot run: {error}"
