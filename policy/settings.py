"""What a stack declares in its root component, held against the standard and against the project's own files."""

from collections.abc import Iterator
from functools import lru_cache
from json import dumps
from typing import Annotated

from pydantic import Field

from patchwave.authorization import within
from patchwave.base.documents import parse
from patchwave.base.errors import UsageError
from patchwave.base.model import Model
from patchwave.base.names import Sha256
from patchwave.config.order import Named
from patchwave.config.settings import Settings
from patchwave.config.settings.slots import SlotHosts
from patchwave.config.standard import StackName, StackRules, read_standard
from patchwave.evidence import signing
from patchwave.releases import release, waivers
from policy.check import Context, check
from policy.declared import STACK, Declared, document

SETTINGS = "settings"


class Inputs(Model):
    """What the root component publishes."""

    stack: StackName
    settings: Settings
    release: Named | None = None
    waivers: tuple[Named, ...]
    standard: Sha256


def inputs(declared: Declared) -> Inputs:
    """The inputs of a root component; UsageError names the first that is none."""
    return _parsed(dumps(document(declared.props), sort_keys=True))


@lru_cache(maxsize=1)
def _parsed(text: str) -> Inputs:
    return parse(text, Inputs, "Stack")


def rules(stack: str, context: Context) -> StackRules:
    """The standard's rules for a stack; UsageError where it has none."""
    stacks = context.standard.stacks
    if stack not in stacks:
        raise UsageError(f"{stack!r} is no stack of policy/standard.yaml: it names {', '.join(stacks)}")
    return stacks[stack]


@check(SETTINGS, STACK)
def settings_keep_within_the_standard(declared: Declared, context: Context) -> Iterator[str]:
    """Windows, freezes, thresholds and whatever else the standard bounds are at least as strict as it says."""
    found = inputs(declared)
    rules(found.stack, context)
    yield from within.complaints(found.settings, context.standard, found.stack)


@check(SETTINGS, STACK)
def what_is_declared_is_what_was_reviewed(declared: Declared, context: Context) -> Iterator[str]:
    """The standard, the release and the waivers that are declared have the digests of the project's files."""
    found, project = inputs(declared), context.project
    if found.stack != declared.pulumi_stack:
        yield f"stack {found.stack} is declared in Pulumi's stack {declared.pulumi_stack}: declare it in its own"
    if found.standard != read_standard(project)[1]:
        yield "standard is not the digest of policy/standard.yaml: declare what `components.Stack` computes"
    documents = [(f"release {one.id}", one.digest, release.load(project, one.id).digest) for one in _release(found)]
    kept = zip(found.waivers, waivers.named(project, [one.id for one in found.waivers]), strict=True)
    documents += [(f"waiver {one.id}", one.digest, waiver.digest) for one, waiver in kept]
    for name, digest, actual in documents:
        if digest != actual:
            yield f"{name} is declared with digest {digest[:12]}, its file has {actual[:12]}: declare what is sealed"


def _release(found: Inputs) -> list[Named]:
    return [found.release] if found.release else []


@check(SETTINGS, STACK)
def waivers_count(declared: Declared, context: Context) -> Iterator[str]:
    """A stack relies only on waivers that are there, within the standard, and not expired."""
    found = inputs(declared)
    chosen = next((release.load(context.project, one.id) for one in _release(found)), None)
    relied = waivers.relied(context.project, [one.id for one in found.waivers], context.standard, chosen)
    yield from waivers.objections(relied, found.stack, context.now)


@check(SETTINGS, STACK)
def a_canary_goes_first(
    declared: Declared, context: Context, *, at_most_percent: Annotated[int, Field(ge=1, le=100)] = 25
) -> Iterator[str]:
    """Each fleet has a first ring of one host or a few; those that users reach come first in it by themselves."""
    found = inputs(declared)
    hosts = [fleet for fleet, _ in found.settings.declared_hosts(found.stack).values()]
    for name, fleet in found.settings.fleets.items():
        rings, count = found.settings.rings(name), hosts.count(name)
        first = rings[0]
        if not fleet.carried_out or count == 1:
            continue
        if len(rings) < 2:
            yield f"fleets.{name}: {first.name} is the only ring: put a ring of one host before it"
        elif isinstance(first.hosts, int):
            most = max(1, count * at_most_percent // 100)
            if count and first.hosts > most:
                yield f"fleets.{name}: ring {first.name} takes {first.hosts} of {count} hosts: take at most {most}"
        elif first.hosts != "rest" and int(first.hosts[:-1]) > at_most_percent:
            yield f"fleets.{name}: ring {first.name} takes {first.hosts} of the hosts: take at most {at_most_percent}%"


@check(SETTINGS, STACK)
def batches_leave_enough_to_answer(
    declared: Declared, context: Context, *, answering_percent: Annotated[int, Field(ge=1, le=99)] = 50
) -> Iterator[str]:
    """Of a service that is balanced, enough live hosts stay in traffic at any time."""
    found = inputs(declared)
    hosts, most = found.settings.declared_hosts(found.stack), 100 - answering_percent
    for name, service in found.settings.services.items():
        fleets = {key: fleet for key, fleet in found.settings.fleets.items() if fleet.service == name}
        live, away = sum(hosts[one][1] and hosts[one][0] in fleets for one in hosts), service.max_unavailable
        slots = any(isinstance(fleet.hosts, SlotHosts) and not fleet.hosts.autoscaled for fleet in fleets.values())
        if service.traffic.driver == "none":
            continue
        if isinstance(away, str) and int(away[:-1]) > most:
            yield f"services.{name}.max_unavailable is {away}: write at most {most}%, so that enough hosts answer"
        elif isinstance(away, int) and slots and away > live * most // 100:
            yield (
                f"services.{name}.max_unavailable is {away} of {live} live hosts: take at most {live * most // 100}, "
                f"so that {answering_percent} % answer"
            )


@check(SETTINGS, STACK)
def failures_stay_within_the_target(declared: Declared, context: Context) -> Iterator[str]:
    """A wave goes on after failures only as far as the standard's success rate lets it."""
    found, rate = inputs(declared), context.standard.targets.success_rate_percent
    hosts, budget = len(found.settings.declared_hosts(found.stack)), found.settings.rollout.failure_budget
    most = hosts * (100 - rate) // 100
    if hosts and budget > most:
        yield f"rollout.failure_budget: {budget} of {hosts} hosts, the target is {rate} % success: set at most {most}"


@check(SETTINGS, STACK)
def restore_points_outlast_the_soak(declared: Declared, context: Context) -> Iterator[str]:
    """A restore point is kept at least until the release has soaked, or could have gone on."""
    found = inputs(declared)
    if (snapshots := found.settings.snapshots) is None:
        return
    waits = [one.soak for one in context.standard.stacks.values() if one.promoted_from == found.stack]
    waits += [one.after for one in rules(found.stack, context).criteria if one.proof == "record"]
    if snapshots.keep < (longest := max(waits, default=snapshots.keep)):
        yield f"snapshots.keep: {snapshots.keep} is less than the soak of {longest}: keep them longer"


@check(SETTINGS, STACK, mode="advisory")
def approvals_can_be_given(declared: Declared, context: Context) -> Iterator[str]:
    """Where approvals are needed, each role has a holder whose key is known before the night of the wave."""
    if not rules(inputs(declared).stack, context).approvals:
        return
    standard, file = context.standard, signing.allowed_signers(context.project)
    listed = file.read_text(encoding="utf-8") if file else ""
    signers = {name for line in listed.splitlines() for name in line.split(" ")[0].split(",")}
    needed = [role for row in standard.sla for role in row.approvers]
    needed += [*standard.emergency.approvers, *standard.approvals.break_glass_approvers]
    for role in dict.fromkeys(needed):
        if not signers.intersection(standard.roles[role]):
            yield f"policy/allowed_signers: no key of {role} ({', '.join(standard.roles[role])}): add it"


@check(SETTINGS, STACK, mode="advisory")
def stacks_name_a_release(declared: Declared, context: Context) -> Iterator[str]:
    """A stack without a release is declared and not patched."""
    found = inputs(declared)
    if found.release is None:
        source = rules(found.stack, context).promoted_from
        fix = f"patchwave promote {source} {found.stack}" if source else f"patchwave seal --stack {found.stack}"
        yield f"no release is declared, so nothing is patched: run `{fix}`"
