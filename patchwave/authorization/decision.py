"""May this release disrupt this stack now: one pure answer that policy, hook, wave and replay share."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Literal

from patchwave.authorization import approvals, criteria, within
from patchwave.authorization import emergency as emergencies
from patchwave.authorization.approvals import Count
from patchwave.authorization.inputs import Inputs
from patchwave.base.clock import hours, spell
from patchwave.base.model import Model
from patchwave.calendar.windows import Lane, Verdict
from patchwave.config.standard import PATH, ApprovalKind, Person, Role
from patchwave.releases import quarantine, waivers

Aspect = Literal["calendar", "standard", "quarantine", "promotion", "criteria", "waivers", "emergency", "approvals"]
KINDS: dict[Lane, ApprovalKind] = {"routine": "normal", "emergency": "emergency"}


class Refusal(Model):
    """One reason why not, with its fix."""

    about: Aspect
    why: str


class Soak(Model):
    """How long a release has been good on the stack before, as the wave's evidence will show it."""

    stack: str
    run: str
    required_seconds: int
    elapsed_seconds: int
    real_seconds: int
    shortened: bool


class Decision(Model):
    """Allowed without a single refusal, in the lane that is named."""

    allowed: bool
    lane: Lane
    calendar: Verdict
    refusals: tuple[Refusal, ...]
    approved: dict[Role, Person]
    soak: Soak | None


def decide(inputs: Inputs) -> Decision:
    """Whether the work may start: in the routine lane, else in the emergency lane when the release is bound to one."""
    found = {lane: tuple(refusals(inputs, lane)) for lane in lanes(inputs)}
    lane = next((lane for lane, why in found.items() if not why), list(found)[-1])
    return Decision(
        allowed=not found[lane],
        lane=lane,
        calendar=inputs.calendar.may_start(inputs.at, inputs.needs, lane),
        refusals=found[lane],
        approved={role: person for _, counted in counts(inputs, lane) for role, person in counted.counted.items()},
        soak=soak(inputs, lane),
    )


def lanes(inputs: Inputs) -> tuple[Lane, ...]:
    """The lanes that a release may take, the one with fewer conditions first."""
    emergency = inputs.emergency
    bound = emergency is not None and emergency.closed is None and emergency.digest == inputs.release.digest
    bound = bound and inputs.stack not in inputs.standard.emergency.routine_only
    return ("routine", "emergency") if bound else ("routine",)


def needed(inputs: Inputs, lane: Lane) -> tuple[Role, ...]:
    """The roles that must approve; a routine release needs those of every severity that it holds."""
    rules = inputs.standard
    if not inputs.rules.approvals:
        return ()
    if lane == "routine":
        roles = [role for row in rules.sla if row.severity in inputs.release.severities for role in row.approvers]
    else:
        assert inputs.emergency is not None
        roles = [*rules.emergency.approvers, *rules.row(inputs.emergency.facts.cvss).approvers]
    return tuple(dict.fromkeys(roles))


def counts(inputs: Inputs, lane: Lane) -> Iterator[tuple[ApprovalKind, Count]]:
    """Each list of roles that must approve, and how far it is complete."""
    wanted: list[tuple[ApprovalKind, Sequence[Role]]] = [(KINDS[lane], needed(inputs, lane))]
    if breaks_glass(inputs, lane):
        wanted.append(("break-glass", inputs.standard.approvals.break_glass_approvers))
    for kind, roles in wanted:
        yield kind, approvals.count(roles, inputs.approvals, inputs.request, kind)


def breaks_glass(inputs: Inputs, lane: Lane) -> bool:
    """Whether the calendar is open only because break-glass lifts a freeze."""
    sealed = inputs.calendar.model_copy(update={"break_glass": ()})
    return (
        inputs.calendar.may_start(inputs.at, inputs.needs, lane).open
        and not sealed.may_start(inputs.at, inputs.needs, lane).open
    )


def refusals(inputs: Inputs, lane: Lane) -> Iterator[Refusal]:
    aspects: dict[Aspect, Iterator[str]] = {
        "calendar": closed(inputs, lane),
        "standard": _looser(inputs),
        "quarantine": quarantine.objections(inputs.quarantined, inputs.release.id),
        "promotion": _unproved(inputs, lane),
        "criteria": criteria.objections(inputs.criteria, inputs.release.id),
        "waivers": waivers.objections(inputs.waivers, inputs.stack, inputs.at),
        "emergency": _unready(inputs, lane),
        "approvals": unapproved(inputs, lane),
    }
    return (Refusal(about=about, why=why) for about, reasons in aspects.items() for why in reasons)


def closed(inputs: Inputs, lane: Lane) -> Iterator[str]:
    verdict = inputs.calendar.may_start(inputs.at, inputs.needs, lane)
    if verdict.open:
        return
    coming = inputs.calendar.next(inputs.at, 1, lane)
    if coming and lane == "emergency":
        glass = f"lift it with calendar.break_glass in Pulumi.{inputs.stack}.yaml"
        yield f"{verdict.reason}: {glass}, or run again at {spell(coming[0].opens)}"
    elif coming:
        yield f"{verdict.reason}: run again at {spell(coming[0].opens)}, when the next window opens"
    else:
        yield f"{verdict.reason}: no window opens from here on, widen the calendar in Pulumi.{inputs.stack}.yaml"


def _looser(inputs: Inputs) -> Iterator[str]:
    """What the stack declares that the standard does not allow, and a standard that is not the one of the order."""
    if inputs.ordered_standard not in (None, inputs.standard_digest):
        yield f"{PATH} has changed since this was ordered: run `pulumi up` again"
    for complaint in within.complaints(inputs.settings, inputs.standard, inputs.stack):
        yield f"Pulumi.{inputs.stack}.yaml is looser than the standard, {complaint}"


def _unproved(inputs: Inputs, lane: Lane) -> Iterator[str]:
    source, proof, release = inputs.rules.promoted_from, inputs.proof, inputs.release
    if source is None:
        return
    if proof is None or proof.stack != source:
        yield f"release {release.id} has no evidence from {source}: patch {source} with it first"
    elif proof.problem is not None:
        yield proof.problem
    elif proof.rehearsal and not inputs.rehearsal:
        yield f"the evidence from {source} is a rehearsal's: patch {source} for real"
    elif proof.outcome != "succeeded" or proof.ended is None:
        ended_as = proof.outcome or "unfinished"
        yield f"release {release.id} ended {ended_as} on {source}: make it succeed there first"
    elif proof.digest != release.digest:
        proved, this = str(proof.digest)[:12], release.digest[:12]
        yield f"{source} proved digest {proved}, this release has {this}: promote what was proved"
    elif inputs.at < proof.ended:
        ended = spell(proof.ended)
        yield f"the evidence from {source} ends {ended}, after this decision: the clocks disagree, correct one"
    elif inputs.at - proof.ended > inputs.rules.proof_valid:
        age, valid = inputs.at - proof.ended, inputs.rules.proof_valid
        yield f"the evidence from {source} is {age.days} days old, {valid.days} are allowed: patch {source} again"
    elif inputs.at - proof.ended < (soak := _required(inputs, lane)):
        ready = proof.ended + soak
        ready += timedelta(seconds=-ready.second % 60)  # messages show no seconds
        soaked = f"has soaked {hours(inputs.at - proof.ended)} of {hours(soak)} on {source}"
        yield f"release {release.id} {soaked}: run again from {spell(ready)}"


def _required(inputs: Inputs, lane: Lane) -> timedelta:
    rules = inputs.rules
    return max(rules.soak, inputs.calendar.soak) if lane == "routine" else rules.emergency_soak


def soak(inputs: Inputs, lane: Lane) -> Soak | None:
    proof, required = inputs.proof, _required(inputs, lane)
    if proof is None or proof.run is None or proof.ended is None or proof.really_ended is None:
        return None
    really = inputs.real - proof.really_ended
    return Soak(
        stack=proof.stack,
        run=proof.run,
        required_seconds=int(required.total_seconds()),
        elapsed_seconds=int((inputs.at - proof.ended).total_seconds()),
        real_seconds=int(really.total_seconds()),
        shortened=really < required,
    )


def _unready(inputs: Inputs, lane: Lane) -> Iterator[str]:
    emergency, rules = inputs.emergency, inputs.standard
    if lane == "routine" or emergency is None:
        return
    named = f"emergency {emergency.id}"
    if emergency.problem is not None:
        yield f"{named}: {emergency.problem}: look at it with `patchwave emergency show --id {emergency.id}`"
    for why in emergencies.unmet(emergency.facts, rules.emergency.criteria, emergency.opened):
        yield f"{named} is none by the standard: {why}"
    holders = {person for people in rules.roles.values() for person in people}
    for person in dict.fromkeys([emergency.opened_by, *(one.who for one in emergency.done)]):
        if person not in holders:
            yield f"{named} was recorded by {person}, who holds no role of the standard"
    if lacks := emergency.lacks(rules.emergency, inputs.stack):
        yield f"{named} lacks {', '.join(lacks)}: record each with `patchwave emergency step`"


def unapproved(inputs: Inputs, lane: Lane) -> Iterator[str]:
    for kind, counted in counts(inputs, lane):
        if not counted.missing:
            continue
        who = ", ".join(role + (f" ({why})" if why else "") for role, why in counted.missing.items())
        option = "" if kind == "normal" else f" --{kind}"
        yield (
            f"{kind} approval is missing from {who}: each signs with "
            f"`patchwave approve --stack {inputs.stack}{option} --role ROLE`"
        )
