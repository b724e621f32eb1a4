"""What the standard says of a wave before it runs: the hook's own answer, shown in a preview already."""

from collections.abc import Iterator

from patchwave.authorization import permission
from patchwave.releases import release, waivers
from patchwave.schedule import forecast, solver
from policy.check import Context, check
from policy.declared import STACK, Declared
from policy.settings import Inputs, inputs


def _pending(declared: Declared, context: Context) -> Inputs | None:
    """What a stack declares, None where no wave would run: without a release, or when it has succeeded already."""
    found, project = inputs(declared), context.project
    if found.release is None:
        return None
    kept = waivers.named(project, [one.id for one in found.waivers])
    done = permission.is_done(project, found.stack, found.release.id, found.release.digest, kept)
    return None if done else found


@check("permission", STACK)
def waves_are_permitted(declared: Declared, context: Context) -> Iterator[str]:
    """Calendar, quarantine, promotion, criteria, waivers, approvals and emergency plan allow the wave at this time."""
    found = _pending(declared, context)
    if found is None or found.release is None:
        return
    chosen = release.load(context.project, found.release.id)
    needs, calendar = found.settings.rollout.batch_timeout, found.settings.calendar
    gathered = permission.gather(context.project, found.stack, chosen, calendar, needs=needs, at=context.now)
    yield from (f"{refusal.about}: {refusal.why}" for refusal in permission.decide(gathered).refusals)


@check("deadlines", STACK)
def slas_can_be_met(declared: Declared, context: Context) -> Iterator[str]:
    """A preview fails when a fix would be late and a change that the standard allows would bring it in time."""
    yield from _late(declared, context, remedied=True)


@check("deadlines", STACK, mode="advisory")
def missed_slas_are_named(declared: Declared, context: Context) -> Iterator[str]:
    """A preview names the fixes that will be late whatever is done: refusing would only make them later."""
    yield from _late(declared, context, remedied=False)


def _late(declared: Declared, context: Context, *, remedied: bool) -> Iterator[str]:
    if context.preview and (found := _pending(declared, context)):
        yield from (line for line, has_remedy in _misses(found, context) if has_remedy == remedied)


def _misses(found: Inputs, context: Context) -> list[tuple[str, bool]]:
    """Each fix that would be late, and whether a change would bring it in time."""
    assert found.release is not None
    chosen = release.load(context.project, found.release.id)
    relied = [one.id for one in found.waivers]
    seen = forecast.forecast(
        context.project, found.stack, found.settings, chosen, relied, context.standard, context.now
    )
    late = solver.misses(seen.question(seen.declared(context.now), context.now))
    return [(seen.line(miss), miss.remedy is not None) for miss in late]
