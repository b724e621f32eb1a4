"""What the standard asks of a stack's own decisions, as its file holds them."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from patchwave.config.settings import Settings
from patchwave.config.standard import StackName, Standard, load_standard, stack_name
from patchwave.evidence import signing
from policy.declared import Declared
from policy.files import stack_file
from policy.rule import Context, rule

SITE = "patchwave:index:Site"


def _read(declared: Declared, context: Context) -> tuple[StackName, Settings, Standard]:
    """The stack that a site stands for, its settings, and the standard."""
    stack = stack_name(declared.name)
    return stack, stack_file(context.project, stack).settings, load_standard(context.project)


@rule(SITE, severity="critical")
def windows_are_no_wider_than_the_standard(declared: Declared, context: Context) -> Iterator[str]:
    """A stack's windows, extra windows and image window lie within the standard's."""
    stack, settings, standard = _read(declared, context)
    allowed = standard.stacks[stack]
    for window in settings.calendar.windows:
        yield from (f"calendar.windows: {complaint}" for complaint in allowed.window.complaints(window))
    for extra in settings.calendar.extra:
        yield from (f"calendar.extra: {complaint}" for complaint in allowed.extra_window.refuses(extra))
    if upgrade := settings.slots.image_upgrade:
        if allowed.image_window is None:
            yield f"slots.image_upgrade: the standard lets no image roll by itself in {stack}: leave it out"
        else:
            complaints = allowed.image_window.complaints(upgrade.window)
            yield from (f"slots.image_upgrade: {complaint}" for complaint in complaints)


@rule(SITE, severity="high")
def a_canary_goes_first(
    declared: Declared, context: Context, *, at_most_percent: Annotated[int, Field(ge=1, le=100)] = 25
) -> Iterator[str]:
    """The first ring holds a few hosts, and at least one of those that answer users."""
    stack, settings, _ = _read(declared, context)
    first, hosts, live = settings.rollout.rings[0], settings.declared_hosts(stack), settings.slots.live
    canaries = [host for host in hosts if settings.rollout.ring_of(host, live) is first]
    if len(settings.rollout.rings) < 2:
        yield f"rollout.rings: {first.name} is the only ring: put a ring with one live host before it"
    elif not any(hosts[host] for host in canaries):
        yield f"rollout.rings: {first.name} holds no live host: add one such as '*-{{live}}-0'"
    elif len(canaries) * 100 > at_most_percent * len(hosts):
        share = round(100 * len(canaries) / len(hosts))
        yield f"rollout.rings: {first.name} holds {share} % of the hosts: name at most {at_most_percent} %"


@rule(SITE, severity="critical")
def batches_leave_enough_to_answer(
    declared: Declared, context: Context, *, answering_percent: Annotated[int, Field(ge=1, le=99)] = 50
) -> Iterator[str]:
    """However hosts are batched, enough of the live slot stays in the load balancer."""
    _, settings, _ = _read(declared, context)
    away, instances = settings.rollout.live_out_of_service, settings.slots.instances
    most = instances * (100 - answering_percent) // 100
    if away > most:
        yield (
            f"rollout.live_out_of_service: {away} of {instances} live hosts at once: "
            f"set at most {most}, so that {answering_percent} % answer"
        )


@rule(SITE, severity="high")
def failures_stay_within_the_target(declared: Declared, context: Context) -> Iterator[str]:
    """A wave goes on after failures only as far as the standard's success rate lets it."""
    stack, settings, standard = _read(declared, context)
    hosts, budget = len(settings.declared_hosts(stack)), settings.rollout.failure_budget
    most = hosts * (100 - standard.targets.success_rate_percent) // 100
    if budget > most:
        yield (
            f"rollout.failure_budget: {budget} of {hosts} hosts may fail, the target is "
            f"{standard.targets.success_rate_percent} % success: set at most {most}"
        )


@rule(SITE, severity="high")
def restore_points_outlast_the_soak(declared: Declared, context: Context) -> Iterator[str]:
    """A restore point is kept at least until the release has soaked, or could have gone on."""
    stack, settings, standard = _read(declared, context)
    if all(fleet.way_back == "downgrade" for fleet in settings.fleets.values()):
        return
    waits = [rules.soak for rules in standard.stacks.values() if rules.promoted_from == stack]
    waits += [one.after for one in standard.stacks[stack].criteria if one.proof == "record"]
    longest = max(waits, default=settings.snapshots.keep)
    if settings.snapshots.keep < longest:
        yield f"snapshots.keep: {settings.snapshots.keep} is less than the soak of {longest}: keep them longer"


@rule(SITE, severity="medium", mode="advisory")
def approvals_can_be_given(declared: Declared, context: Context) -> Iterator[str]:
    """Where approvals are asked, each role has a holder whose key is known before the night of the wave."""
    stack, _, standard = _read(declared, context)
    if not standard.stacks[stack].approvals:
        return
    file = signing.allowed_signers(context.project)
    known = file.read_text(encoding="utf-8") if file else ""
    principals = {name for line in known.splitlines() for name in line.split(" ")[0].split(",")}
    asked = [role for row in standard.sla for role in row.approvers]
    asked += [*standard.emergency.approvers, *standard.approvals.break_glass_approvers]
    for role in dict.fromkeys(asked):
        if not principals.intersection(standard.roles[role]):
            yield f"policy/allowed_signers: no key of {role} ({', '.join(standard.roles[role])}): add it"


@rule(SITE, severity="low", mode="advisory")
def stacks_name_a_release(declared: Declared, context: Context) -> Iterator[str]:
    """A stack without a release is declared and not patched."""
    stack, _, standard = _read(declared, context)
    if stack_file(context.project, stack).release is None:
        source = standard.stacks[stack].promoted_from
        fix = f"patchwave promote {source} {stack}" if source else f"patchwave seal --stack {stack}"
        yield f"Pulumi.{stack}.yaml names no patchwave:release, so nothing is patched: run `{fix}`"
