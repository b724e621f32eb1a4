"""Whether a wave may run: the hook's own decision, shown in a preview already."""

from collections.abc import Iterator

from patchwave.authorization.decision import decide
from patchwave.authorization.inputs import gather
from patchwave.authorization.promotion import is_done, is_open
from patchwave.releases.release import Release, load
from patchwave.schedule.forecast import forecast
from patchwave.schedule.solver import misses
from policy.check import Context, check
from policy.declared import STACK, Declared
from policy.settings import Inputs, inputs


def _pending(declared: Declared, context: Context) -> tuple[Inputs, Release] | None:
    """What a stack declares and its release, None where no wave would run: it has none, or has succeeded with it."""
    found, project = inputs(declared, context), context.project
    if (named := found.release) is None:
        return None
    done = is_done(project, found.stack, named.id, named.digest, found.waivers)
    return None if done else (found, load(project, named.id))


@check("permission", STACK)
def waves_are_permitted(declared: Declared, context: Context) -> Iterator[str]:
    """Calendar, quarantine, promotion, criteria, waivers, approvals and emergency plan allow the wave at this time."""
    if pending := _pending(declared, context):
        found, release = pending
        if is_open(context.project, found.stack, release.id, release.digest, found.waivers):
            return
        gathered = gather(
            context.project,
            found.stack,
            release,
            found.waivers,
            found.settings,
            standard=found.standard,
            needs=found.settings.rollout.batch_timeout,
            at=context.now,
        )
        yield from (f"{refusal.about}, {refusal.why}" for refusal in decide(gathered).refusals)


@check("deadlines", STACK)
def slas_can_be_met(declared: Declared, context: Context) -> Iterator[str]:
    """A preview fails when a fix would be late and a change that the standard allows would bring it in time."""
    yield from _late(declared, context, remedied=True)


@check("deadlines", STACK, mode="advisory")
def missed_slas_are_named(declared: Declared, context: Context) -> Iterator[str]:
    """A preview names the fixes that will be late whatever is done: refusing would only make them later."""
    yield from _late(declared, context, remedied=False)


def _late(declared: Declared, context: Context, *, remedied: bool) -> Iterator[str]:
    """Each fix that would be late; `remedied` where a change would bring it in time."""
    if context.preview and (pending := _pending(declared, context)):
        found, release = pending
        relied = [one.id for one in found.waivers]
        project, standard, now = context.project, context.standard, context.now
        seen = forecast(project, found.stack, found.settings, release, relied, standard, now)
        late = misses(seen.question(seen.declared(now), now))
        yield from (seen.line(miss) for miss in late if (miss.remedy is not None) == remedied)
