"""What a stack declares in its root component, held against the standard and against the project's own files."""

from collections.abc import Iterator
from functools import lru_cache
from json import dumps, loads
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
from patchwave.config.standard import StackName, read_standard
from patchwave.evidence import signing
from patchwave.releases import release, waivers
from policy.check import Context, RefusedElsewhere, check
from policy.declared import STACK, Declared, document

SETTINGS = "settings"


class Inputs(Model):
    """What the root component publishes."""

    stack: StackName
    settings: Settings
    release: Named | None = None
    waivers: tuple[Named, ...]
    standard: Sha256


def inputs(declared: Declared, context: Context) -> Inputs:
    """The inputs of a root component, of a stack that the standard has."""
    try:
        return _read(declared, context)
    except UsageError:
        raise RefusedElsewhere from None


def _read(declared: Declared, context: Context) -> Inputs:
    found = _parsed(dumps(document(declared.props), sort_keys=True))
    context.standard.stack(found.stack)
    return found


@lru_cache(maxsize=1)
def _parsed(text: str) -> Inputs:
    return parse(loads(text), Inputs, "Stack")


@check(SETTINGS, STACK)
def settings_keep_within_the_standard(declared: Declared, context: Context) -> Iterator[str]:
    """What a stack declares can be read, and is nowhere looser than the standard: windows, freezes, thresholds."""
    found = _read(declared, context)
    yield from within.complaints(found.settings, context.standard, found.stack)


@check(SETTINGS, STACK)
def what_is_declared_is_what_was_reviewed(declared: Declared, context: Context) -> Iterator[str]:
    """Stack, standard and release are declared as they are in Pulumi and in the project's files, by digest."""
    found = inputs(declared, context)
    if found.stack != declared.pulumi_stack:
        yield f"stack is {found.stack!r} in Pulumi's stack {declared.pulumi_stack!r}: declare it in its own"
    if found.standard != read_standard(context.project)[1]:
        yield f"standard is {found.standard[:12]}, not the digest of policy/standard.yaml: run `pulumi up` again"
    if (chosen := found.release) and chosen.digest != (sealed := release.load(context.project, chosen.id).digest):
        yield f"release {chosen.id} has digest {sealed[:12]}, {chosen.digest[:12]} is declared: declare what is sealed"


@check(SETTINGS, STACK)
def waivers_count(declared: Declared, context: Context) -> Iterator[str]:
    """A stack relies only on waivers that are there as they were declared, within the standard, and not expired."""
    found = inputs(declared, context)
    chosen = release.load(context.project, found.release.id) if found.release else None
    relied = waivers.relied(context.project, found.waivers, context.standard, chosen)
    yield from waivers.objections(relied, found.stack, context.now)


@check(SETTINGS, STACK)
def a_canary_goes_first(
    declared: Declared, context: Context, *, at_most_percent: Annotated[int, Field(ge=1, le=100)] = 25
) -> Iterator[str]:
    """Each fleet has a first ring of one host or a few, or follows another of its service, host by host."""
    found = inputs(declared, context)
    hosts = [fleet for fleet, _ in found.settings.declared_hosts(found.stack).values()]
    for name, fleet in found.settings.fleets.items():
        rings, count = found.settings.rings(name), hosts.count(name)
        first = rings[0]
        if not fleet.carried_out or count == 1 or (fleet.patch_after and len(rings) == first.batch == 1):
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
    found = inputs(declared, context)
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


@check(SETTINGS, STACK, mode="advisory")
def approvals_can_be_given(declared: Declared, context: Context) -> Iterator[str]:
    """Where approvals are needed, each role has a holder whose key is known before the night of the wave."""
    if not context.standard.stack(inputs(declared, context).stack).approvals:
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
    found = inputs(declared, context)
    if found.release is None:
        source = context.standard.stack(found.stack).promoted_from
        fix = f"patchwave promote {source} {found.stack}" if source else f"patchwave seal --stack {found.stack}"
        yield f"no release is declared, so nothing is patched: run `{fix}`"
