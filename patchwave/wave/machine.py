"""What a wave does next: a pure function of what its run has done, its order and the time.

Nothing is remembered elsewhere, so that killing a wave anywhere is the same as stopping it there. Only what disrupts
hosts needs permission: beginning, and each batch. Ending, taking back, proving and resuming repairs never do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from patchwave.azure.inventory import Host
from patchwave.config.order import Order
from patchwave.config.settings import Settings
from patchwave.schedule.batches import Batch, batches, count_of, needed, rings
from patchwave.wave.journal import Journal, Tried
from patchwave.wave.states import UNWELL, Outcome, State, end_state

FRESH = timedelta(minutes=1)
"""How long a decision holds: work that begins later is decided again."""

WAVE = "wave"


@dataclass(frozen=True)
class Begin:
    """Plan the hosts that the inventory has."""


@dataclass(frozen=True)
class Decide:
    """Ask for permission: `before` names the work, `needs` is how long it may take; a batch's has its ring."""

    before: str
    needs: timedelta
    ring: str | None = None


@dataclass(frozen=True)
class Preflight:
    """Look at every planned host."""

    hosts: tuple[Host, ...]


@dataclass(frozen=True)
class Protect:
    """Make sure that these hosts can go back."""

    hosts: tuple[Host, ...]


@dataclass(frozen=True)
class Repairs:
    """Suspend or resume the automatic repairs of these instances' scale sets."""

    action: str
    hosts: tuple[Host, ...]


@dataclass(frozen=True)
class Patch:
    """Patch one batch and judge its gates; one that was cut off goes on where each of its hosts stands."""

    batch: Batch


@dataclass(frozen=True)
class Restore:
    """Take these hosts of a batch back, for the reason of each; `blamed` is what they were brought, unless cut off."""

    batch: Batch
    hosts: tuple[Host, ...]
    why: Mapping[str, str]
    blamed: bool


@dataclass(frozen=True)
class Interrupt:
    """Judge a batch that was cut off and may not go on: it did not pass."""

    batch: Batch
    reason: str


@dataclass(frozen=True)
class EndBatch:
    """Nothing of the batch is left to do."""

    batch: Batch


@dataclass(frozen=True)
class Scan:
    """Read what each planned host has now."""

    hosts: tuple[Host, ...]


@dataclass(frozen=True)
class Close:
    """Give each planned host its end state and end the run."""

    outcome: Outcome
    reason: str


Action = Begin | Decide | Preflight | Protect | Repairs | Patch | Restore | Interrupt | EndBatch | Scan | Close


def next_action(journal: Journal, order: Order, now: datetime) -> Action | None:
    """The one thing to do next; None when the run has ended."""
    if journal.ended is not None:
        return None
    if not journal.planned:
        return Begin()
    if journal.open_batch:
        return _in_batch(journal, order, journal.open_batch, now)
    if ending := _ending(journal, order):
        return _finish(journal, *ending)
    todo = remaining(journal, order)
    if WAVE not in journal.decisions:
        return Decide(WAVE, needed(plan(journal, order), order.settings))
    if "preflight" not in journal.done:
        return Preflight(journal.planned)
    if todo and "protect" not in journal.done:
        return Protect(tuple(host for batch in todo for host in batch.hosts))
    if not todo:
        return _finish(journal, *_concluded(journal, order))
    if _repaired(journal, order) and (journal.repairs is None or journal.repairs[0] != "Suspend"):
        return Repairs("Suspend", _repaired(journal, order))
    return _permitted(journal, order, todo[0], now) or Patch(todo[0])


def _permitted(journal: Journal, order: Order, batch: Batch, now: datetime) -> Decide | None:
    """The decision that a batch needs first; None when one allows it that is fresh."""
    before = work_of(batch.number)
    decided = journal.decisions.get(before)
    if decided and decided.allowed and now - decided.at <= FRESH:
        return None
    return Decide(before, order.settings.rollout.batch_timeout, batch.ring)


def _in_batch(journal: Journal, order: Order, tried: Tried, now: datetime) -> Action:
    batch = _begun(journal, order, tried)
    if tried.passed is None:
        if journal.stop and journal.stop["take_back"]:
            return Interrupt(batch, str(journal.stop["reason"]))
        decided = journal.decisions.get(work_of(tried.number))
        if decided and not decided.allowed and now - decided.at <= FRESH:
            return Interrupt(batch, f"it was cut off and may not go on: {decided.reasons}")
        return _permitted(journal, order, batch, now) or Patch(batch)
    back = _to_restore(journal, tried)
    if back:
        hosts = tuple(host for host in batch.hosts if host.name in back)
        why = {name: tried.failed.get(name, "taken back with its batch") for name in back}
        return Restore(batch, hosts, why, blamed=not tried.cut_off)
    return EndBatch(batch)


def _to_restore(journal: Journal, tried: Tried) -> list[str]:
    """The hosts of a judged batch that go back and have not yet: all, or those that failed within the budget."""
    back = tried.failed if tried.passed else tried.hosts
    return [name for name in tried.hosts if name in back and name not in journal.restored]


def _ending(journal: Journal, order: Order) -> tuple[Outcome, str] | None:
    """Why the run ends before everything is done, with what it has come to; None while it may go on."""
    wave = journal.decisions.get(WAVE)
    if wave and not wave.allowed:
        return "refused", wave.reasons
    if journal.repairs and journal.repairs[0] == "Suspend" and journal.repairs[1]:
        return "failed", f"automatic repairs could not be suspended: {journal.repairs[1]}"
    if "preflight" in journal.done:
        unfit = {name: facts.problem for name, facts in journal.facts.items() if facts.answered and facts.problem}
        if len(unfit) > order.settings.rollout.failure_budget:
            name, problem = next(iter(unfit.items()))
            return "failed", f"{name} is not fit to be patched ({problem}): fix it and run again"
    if "protect" in journal.done and journal.unprotected:
        name, problem = next(iter(journal.unprotected.items()))
        return "failed", f"{name} cannot be rolled back ({problem}): nothing was changed, fix it and run again"
    for tried in journal.batches.values():
        if tried.passed is False:
            lost = any(journal.restored[name][0] == "failed-unrestored" for name in tried.hosts)
            return ("failed" if lost else "rolled-back"), f"batch {tried.number} was taken back: {tried.reason}"
    if unrestored := [name for name, (state, _) in journal.restored.items() if state == "failed-unrestored"]:
        name = unrestored[0]
        return "failed", f"{name} could not be taken back: {journal.restored[name][1]}"
    if journal.stop:
        word: Outcome = "stopped" if journal.touched else "refused"
        return word, f"stopped by {journal.stop['by']}: {journal.stop['reason']}"
    for batch in remaining(journal, order)[:1]:
        decided = journal.decisions.get(work_of(batch.number))
        if decided and not decided.allowed:
            return ("stopped" if journal.touched else "refused"), decided.reasons
    return None


def _finish(journal: Journal, outcome: Outcome, reason: str) -> Action:
    if journal.repairs and journal.repairs[0] == "Suspend":
        return Repairs("Resume", journal.planned)
    if "preflight" in journal.done and not journal.scans.keys() >= {host.name for host in journal.planned}:
        return Scan(journal.planned)
    return Close(outcome, reason)


def _concluded(journal: Journal, order: Order) -> tuple[Outcome, str]:
    """What a run has come to that has done all that it set out to do."""
    if not journal.scans:
        return "succeeded", ""
    states = end_states(journal, order)
    wrong = {name: state for name, (state, _) in states.items() if state in UNWELL}
    if wrong:
        return "failed", ", ".join(f"{name} is {state}" for name, state in wrong.items())
    if all(state == "deferred" for state, _ in states.values()):
        name, (_, why) = next(iter(states.items()))
        return "failed", f"no host could be patched, first {name}: {why}"
    return "succeeded", ""


def end_states(journal: Journal, order: Order) -> dict[str, tuple[State, str | None]]:
    """Each planned host's one end state and its reason, as far as the run has come."""
    out = left_out(journal, order)
    return {
        host.name: end_state(
            journal.facts.get(host.name),
            left_out=out.get(host.name),
            touched=host.name in journal.touched,
            restored=journal.restored.get(host.name),
            after=journal.scans.get(host.name),
        )
        for host in journal.planned
    }


def plan(journal: Journal, order: Order) -> tuple[Batch, ...]:
    """The batches of all that may be patched: of the planned hosts, and after the preflight of those that are fit.

    Rings are shared out among these hosts anew, so that a live host that is fit goes first.
    """
    out = left_out(journal, order)
    hosts = [
        host
        for host in journal.planned
        if host.name not in out
        and ("preflight" not in journal.done or ((facts := journal.facts.get(host.name)) and facts.to_patch))
    ]
    return batches(_ringed(hosts, order.settings), _narrowed(journal, order))


def remaining(journal: Journal, order: Order) -> tuple[Batch, ...]:
    """The batches that have not been begun."""
    return tuple(batch for batch in plan(journal, order) if batch.number not in journal.batches)


def left_out(journal: Journal, order: Order) -> dict[str, str]:
    """Fit hosts that cannot be taken out of service: too many of their service's live hosts do not answer."""
    found: dict[str, str] = {}
    for name, away in _silent(journal).items():
        if _room(journal, order, name) <= 0:
            many = f"{away} of its live hosts do not answer" if away > 1 else "a live host of it does not answer"
            why = f"service {name} has no room for another host away: {many}"
            found |= {host.name: why for host in journal.planned if host.service == name and host.live}
    return found


def _silent(journal: Journal) -> dict[str, int]:
    """By service, how many live hosts the preflight could not reach."""
    counts: dict[str, int] = {}
    for host in journal.planned:
        facts = journal.facts.get(host.name)
        if host.live and facts is not None and not facts.answered:
            counts[host.service] = counts.get(host.service, 0) + 1
    return counts


def _room(journal: Journal, order: Order, service: str) -> int:
    """How many more live hosts of a service may be away."""
    live = sum(host.live and host.service == service for host in journal.planned)
    return count_of(order.settings.services[service].max_unavailable, live) - _silent(journal).get(service, 0)


def _narrowed(journal: Journal, order: Order) -> Settings:
    """The settings with each service's budget as it is now, counted over the planned hosts."""
    services = {
        name: service.model_copy(update={"max_unavailable": max(1, _room(journal, order, name))})
        for name, service in order.settings.services.items()
    }
    return order.settings.model_copy(update={"services": services})


def _ringed(hosts: Sequence[Host], settings: Settings) -> list[Host]:
    ring_of = rings(hosts, settings)
    return [host.model_copy(update={"ring": ring_of[host.name]}) for host in hosts]


def _begun(journal: Journal, order: Order, tried: Tried) -> Batch:
    hosts = tuple(host for host in journal.planned if host.name in tried.hosts)
    return Batch(number=tried.number, ring=tried.ring, service=hosts[0].service, hosts=hosts)


def _repaired(journal: Journal, order: Order) -> tuple[Host, ...]:
    """The planned instances of scale sets that repair by themselves."""
    fleets = {name for name, slots in order.settings.slots() if slots.repairs}
    return tuple(host for host in journal.planned if host.fleet in fleets)


def work_of(number: int) -> str:
    """How a decision names a batch."""
    return f"batch {number}"


def place(action: Action, journal: Journal, order: Order) -> int:
    """The phase that an action belongs to: 0 preflight, 1 protect, then one a ring, and prove at the end.

    What ends a run early belongs to whichever phase it happens in, so it is 0.
    """
    rings = order.settings.rollout.ring_names
    match action:
        case Protect():
            return 1
        case Patch(batch) | Restore(batch) | Interrupt(batch) | EndBatch(batch):
            return 2 + rings.index(batch.ring)
        case Decide(ring=str() as ring):
            return 2 + rings.index(ring)
        case Repairs(action="Suspend"):
            return 2
        case Repairs() | Scan() | Close():
            return 0 if _ending(journal, order) else 2 + len(rings)
        case _:
            return 0
