"""What the standard asks of a wave before it runs: of its commands, as the engine is about to run them."""

import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from patchwave.authorization import permission
from patchwave.authorization.permission import Aspect, Decision
from patchwave.config.settings import STACKS, stack_path
from patchwave.config.standard import StackName, load_standard, stack_name
from patchwave.evidence import chain as evidence
from patchwave.releases import waivers
from patchwave.releases.release import load as load_release
from patchwave.releases.release import path_of
from patchwave.schedule import forecast as outlook
from patchwave.schedule import solver
from policy.declared import Declared
from policy.files import Mark, mark, stack_file
from policy.rule import Context, rule
from policy.service.values import items, table
from policy.wire import given, known

COMMAND = "command:local:Command"
RUNS = re.compile(r"\bpatchwave(?:\.cli)?\s+wave\b")
PHASE = re.compile(rf"{RUNS.pattern}\s+(preflight|protect|patch --ring [\w-]+|prove)\b")
STACK = re.compile(r"--stack[\s=]+(\S+)")


class Wave(NamedTuple):
    """What a wave's command says that it carries out."""

    stack: StackName
    release: str
    digest: str
    phase: str


def _phase(declared: Declared) -> str | None:
    found = PHASE.search(str(known(declared.props, "create"))) if declared.type == COMMAND else None
    return found[1] if found else None


def _wave(declared: Declared, context: Context) -> Wave | None:
    """The wave that a command belongs to; None for other commands, and for one that `waves-name-what-they-run` has."""
    phase, variables = _phase(declared), table(declared.props.get("environment"))
    stack, release, digest = (variables.get(f"PATCHWAVE_{key}") for key in ("STACK", "RELEASE", "DIGEST"))
    if phase is None or not isinstance(stack, str) or not isinstance(release, str) or not isinstance(digest, str):
        return None
    return Wave(stack_name(stack), release, digest, phase) if stack in STACKS else None


def _pending(declared: Declared, context: Context) -> Wave | None:
    """The wave that a command would run, None when it has been carried out already."""
    wave = _wave(declared, context)
    if wave is None:
        return None
    place = permission.folder(context.project, wave.stack, wave.release) / evidence.FILE
    marks = mark(place), mark(stack_path(context.project, wave.stack))
    return None if _done(context.project, wave.stack, wave.release, wave.digest, marks) else wave


@functools.lru_cache(maxsize=1)
def _done(project: Path, stack: StackName, release: str, digest: str, marks: tuple[Mark, Mark]) -> bool:
    kept = waivers.named(project, stack_file(project, stack).waivers)
    return permission.is_done(project, stack, release, digest, kept)


@functools.lru_cache(maxsize=1)
def _decision(project: Path, stack: StackName, release: str, now: datetime) -> Decision:
    """The one decision that the hook and the wave ask for too."""
    settings = stack_file(project, stack).settings
    needs = settings.rollout.host_takes
    chosen = load_release(project, release)
    return permission.decide(permission.gather(project, stack, chosen, settings.calendar, needs=needs, at=now))


def _refused(about: Aspect, declared: Declared, context: Context) -> Iterator[str]:
    """What the decision refuses; a preview says it once a wave, an update asks before each command."""
    wave = _pending(declared, context)
    if wave and (wave.phase == "preflight" or not context.preview):
        decision = _decision(context.project, wave.stack, wave.release, context.now)
        yield from (refusal.why for refusal in decision.refusals if refusal.about == about)


@rule(COMMAND, severity="critical")
def waves_name_what_they_run(declared: Declared, context: Context) -> Iterator[str]:
    """A command that runs a wave says for which stack, release and digest, and these are what it will run."""
    create = str(declared.props.get("create"))
    if not RUNS.search(create):
        return
    wave = _wave(declared, context)
    if wave is None:
        yield "create and environment name no phase, stack, release and digest: declare waves by components.Wave"
        return
    if STACK.findall(create) != [wave.stack]:
        yield f"create does not run --stack {wave.stack}, which environment names: declare waves by components.Wave"
    if (named := stack_file(context.project, wave.stack).release) != wave.release:
        yield f"release {wave.release} is declared, Pulumi.{wave.stack}.yaml names {named}: name the same release"


@rule(COMMAND, severity="critical")
def waves_bring_what_is_sealed(declared: Declared, context: Context) -> Iterator[str]:
    """The digest that is declared is that of the sealed release."""
    if wave := _pending(declared, context):
        sealed = load_release(context.project, wave.release).digest
        if sealed != wave.digest:
            yield (
                f"digest {wave.digest[:12]} is declared, release {wave.release} has {sealed[:12]}: "
                "declare what is sealed"
            )


@rule(COMMAND, severity="critical", in_preview="advisory")
def waves_start_in_an_open_window(declared: Declared, context: Context) -> Iterator[str]:
    """A wave starts in a window of its stack, outside freezes, when there is time for a host."""
    yield from _refused("calendar", declared, context)


@rule(COMMAND, severity="critical", in_preview="advisory")
def waves_bring_what_the_stack_before_proved(declared: Declared, context: Context) -> Iterator[str]:
    """The same digest has succeeded on the stack before, by evidence that verifies, and has soaked there."""
    yield from _refused("promotion", declared, context)


@rule(COMMAND, severity="high", in_preview="advisory")
def waves_meet_the_criteria_before_them(declared: Declared, context: Context) -> Iterator[str]:
    """What the standard asks of a release on the stack before is met."""
    yield from _refused("criteria", declared, context)


@rule(COMMAND, severity="critical", in_preview="advisory")
def waves_bring_nothing_from_quarantine(declared: Declared, context: Context) -> Iterator[str]:
    """A version that was rolled back is not brought again."""
    yield from _refused("quarantine", declared, context)


@rule(COMMAND, severity="critical", in_preview="advisory")
def waves_have_their_quorum(declared: Declared, context: Context) -> Iterator[str]:
    """Every role that the standard asks has signed for this digest: distinct people, not the author, not expired."""
    yield from _refused("approvals", declared, context)


@rule(COMMAND, severity="critical", in_preview="advisory")
def emergencies_follow_their_plan(declared: Declared, context: Context) -> Iterator[str]:
    """In the emergency lane the criteria hold, and each step before the deployment is recorded."""
    yield from _refused("emergency", declared, context)


@rule(COMMAND, severity="high")
def waves_rely_on_waivers_that_count(declared: Declared, context: Context) -> Iterator[str]:
    """A stack relies only on waivers that are there, within the standard, and not expired."""
    if wave := _wave(declared, context):
        project = context.project
        known = load_release(project, wave.release) if path_of(project, wave.release).exists() else None
        found = waivers.relied(project, stack_file(project, wave.stack).waivers, load_standard(project), known)
        yield from waivers.objections(found, wave.stack, context.now)


def _missed(declared: Declared, context: Context, *, remedied: bool) -> Iterator[str]:
    wave = _pending(declared, context)
    if wave is None or wave.phase != "preflight" or not context.preview:
        return
    for line, has_remedy in _late(context.project, wave.stack, wave.release, context.now):
        if has_remedy == remedied:
            yield line


@functools.lru_cache(maxsize=1)
def _late(project: Path, stack: StackName, release: str, now: datetime) -> list[tuple[str, bool]]:
    """Each fix that would be late, and whether a change would bring it in time."""
    file, standard = stack_file(project, stack), load_standard(project)
    seen = outlook.view(project, stack, file, load_release(project, release), standard, now)
    return [
        (seen.line(miss), miss.remedy is not None) for miss in solver.misses(outlook.ask(seen, seen.declared(now), now))
    ]


@rule(COMMAND, severity="high")
def slas_can_be_met(declared: Declared, context: Context) -> Iterator[str]:
    """A preview fails when a fix would be late and a change that the standard allows would bring it in time."""
    yield from _missed(declared, context, remedied=True)


@rule(COMMAND, severity="medium", mode="advisory")
def missed_slas_are_named(declared: Declared, context: Context) -> Iterator[str]:
    """A preview names the fixes that will be late whatever is done: refusing would only make them later."""
    yield from _missed(declared, context, remedied=False)


@rule(COMMAND, severity="medium")
def waves_run_again_only_for_another_release(declared: Declared, context: Context) -> Iterator[str]:
    """A wave's triggers are the release's digest and the marks of its waivers, so that nothing else runs it again."""
    if wave := _wave(declared, context):
        kept = waivers.named(context.project, stack_file(context.project, wave.stack).waivers)
        expected = [wave.digest, *(waiver.mark for waiver in kept)]
        if list(items(declared.props.get("triggers"))) != expected:
            yield "triggers are not the digest and the waivers' marks: set triggers to exactly these"


@rule(COMMAND, severity="high")
def waves_leave_nothing_to_destroy(declared: Declared, context: Context) -> Iterator[str]:
    """Taking a stack down runs nothing on its hosts: a wave's command has neither `delete` nor `update`."""
    for key in ("delete", "update"):
        runs_a_wave = RUNS.search(str(known(declared.props, key)))
        if runs_a_wave or (_phase(declared) and given(declared.props, key)):
            yield f"{key} would run on hosts without a wave: leave it out"


@rule(severity="critical")
def waves_go_ring_by_ring(resources: Sequence[Declared], context: Context) -> Iterator[str]:
    """Preflight, protect, each ring in its order with the canary first, prove: each waits for the one before."""
    by_urn = {one.urn: one for one in resources}
    waves = [(wave, one) for one in resources if (wave := _wave(one, context))]
    for stack in dict.fromkeys(wave.stack for wave, _ in waves):
        rings = stack_file(context.project, stack).settings.rollout.rings
        wanted = ["preflight", "protect", *(f"patch --ring {ring.name}" for ring in rings), "prove"]
        found = [(wave.phase, one) for wave, one in waves if wave.stack == stack]
        phases = [phase for phase, _ in found]
        for phase in dict.fromkeys([*wanted, *phases]):
            if phase not in phases:
                yield f"{stack}: no command runs `patchwave wave {phase}`: declare waves by components.Wave"
            elif phase not in wanted:
                yield f"{stack}: `patchwave wave {phase}` is no phase of its wave: name a ring of Pulumi.{stack}.yaml"
            elif phases.count(phase) > 1:
                yield f"{stack}: `patchwave wave {phase}` is declared twice: declare one wave a stack"
        ordered = [dict(found)[phase] for phase in wanted if phase in phases]
        for before, after in itertools.pairwise(ordered):
            if before.urn not in _upstream(after, by_urn):
                yield f"{after.name}: does not wait for {before.name}: let it depend on it"


def _upstream(one: Declared, by_urn: Mapping[str, Declared]) -> set[str]:
    """The URNs of everything that a resource waits for."""
    seen: set[str] = set()
    left = [*one.depends_on]
    while left:
        urn = left.pop()
        if urn not in seen:
            seen.add(urn)
            left += by_urn[urn].depends_on if urn in by_urn else ()
    return seen
