"""What of a stack's own decisions is looser than the standard allows; stricter is always right."""

from collections.abc import Iterator
from datetime import timedelta

from patchwave.config.settings import Settings
from patchwave.config.standard import StackName, Standard


def complaints(settings: Settings, standard: Standard, stack: StackName) -> Iterator[str]:
    """Each decision that is looser, as `field: what, and the fix`; nothing is read but the arguments.

    How many hosts may fail is held against the hosts that the program creates; where some exist already, only the
    inventory knows their number.
    """
    yield from _calendar(settings, standard, stack)
    for name, slots in settings.slots():
        for field in ("max_batch_percent", "max_unhealthy_percent", "max_unhealthy_upgraded_percent"):
            declared, most = getattr(slots.rolling, field), getattr(standard.rolling, field)
            if declared > most:
                yield f"fleets.{name}.hosts.rolling.{field}: {declared} is too much: set at most {most}"
    if not any(settings.existing()):
        hosts, percent = len(settings.declared_hosts(stack)), standard.targets.success_rate_percent
        most = hosts * (100 - percent) // 100
        if settings.rollout.failure_budget > most:
            yield (
                f"rollout.failure_budget: {settings.rollout.failure_budget} of {hosts} hosts may fail, the target is "
                f"{percent} % success: set at most {most}"
            )
    yield from _restore_points(settings, standard, stack)


def _calendar(settings: Settings, standard: Standard, stack: StackName) -> Iterator[str]:
    own, allowed = settings.calendar, standard.stacks[stack]
    for window in own.windows:
        yield from (f"calendar.windows: {complaint}" for complaint in allowed.window.complaints(window))
    for extra in own.extra:
        yield from (f"calendar.extra: {complaint}" for complaint in allowed.extra_window.refuses(extra))
    for name, slots in settings.slots():
        if slots.image_upgrade and allowed.image_window is None:
            yield f"fleets.{name}.hosts.image_upgrade: the standard lets no image roll by itself here: leave it out"
        elif slots.image_upgrade and allowed.image_window:
            for complaint in allowed.image_window.complaints(slots.image_upgrade.window):
                yield f"fleets.{name}.hosts.image_upgrade.window: {complaint}"
    if timedelta(0) < own.soak < allowed.soak:
        yield f"calendar.soak: {own.soak} is less than the standard's {allowed.soak}: leave it out or take more"
    freezes = standard.calendar(stack, own).freezes
    for glass in own.break_glass:
        if not any(freeze.starts < glass.ends and glass.starts < freeze.ends for freeze in freezes):
            yield f"calendar.break_glass: {glass.reason!r} meets no freeze: correct its dates or remove it"


def _restore_points(settings: Settings, standard: Standard, stack: StackName) -> Iterator[str]:
    """A restore point is kept until the release may go on, and until the last result about it is due."""
    if settings.snapshots is None or all(fleet.rollback == "downgrade" for fleet in settings.fleets.values()):
        return
    waits = [standard.stacks[name].soak for name in standard.follow(stack)]
    waits += [one.after for one in standard.stacks[stack].criteria if one.proof == "record"]
    if settings.snapshots.keep < (longest := max(waits, default=timedelta(0))):
        yield f"snapshots.keep: {settings.snapshots.keep} is less than the soak of {longest}: keep them longer"
