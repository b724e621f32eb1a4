"""May this release disrupt this stack now: one pure answer that policy, hook, wave and replay share."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from patchwave.authorization import approvals, criteria
from patchwave.authorization import emergency as emergencies
from patchwave.authorization.approvals import Approval, Asked, Count, Found
from patchwave.authorization.emergency import Emergency
from patchwave.base import clock
from patchwave.base.clock import hours, spell
from patchwave.base.errors import Refused, UsageError
from patchwave.base.model import Model, first_problem
from patchwave.base.names import Sha256
from patchwave.calendar.windows import Calendar, Instant, Lane, Verdict
from patchwave.config.settings import load_stack
from patchwave.config.standard import (
    ApprovalKind,
    ApprovalRules,
    EmergencyRules,
    Person,
    Role,
    Severity,
    SeverityRules,
    StackName,
    StackRules,
    Standard,
    Step,
    read_standard,
)
from patchwave.evidence import chain as evidence
from patchwave.evidence import signing
from patchwave.evidence.chain import GENESIS, Record
from patchwave.releases import quarantine, waivers
from patchwave.releases.release import Release, ReleaseId
from patchwave.releases.release import load as load_release
from patchwave.releases.waivers import Waiver

Aspect = Literal["calendar", "quarantine", "promotion", "criteria", "waivers", "approvals", "emergency"]
KINDS: dict[Lane, ApprovalKind] = {"routine": "normal", "emergency": "emergency"}


class Rules(SeverityRules):
    """What a decision needs of the standard whose file has this digest."""

    digest: Sha256
    stack: StackRules
    roles: dict[Role, tuple[Person, ...]]
    approvals: ApprovalRules
    emergency: EmergencyRules


class Subject(Model):
    """The release that asks."""

    id: ReleaseId
    digest: Sha256
    author: str
    severities: tuple[Severity, ...]


class Proof(Model):
    """What the evidence of the stack before says of a release; `problem` says why it is not to be believed."""

    stack: StackName
    problem: str | None
    rehearsal: bool = False
    run: str | None = None
    outcome: str | None = None
    digest: str | None = None
    ended: Instant | None = None
    really_ended: Instant | None = None
    head: Sha256 | None = None


class Inputs(Model):
    """Everything that a decision depends on: the same inputs give the same decision, at any later time."""

    stack: StackName
    at: Instant
    real: Instant
    needs: timedelta
    calendar: Calendar
    release: Subject
    quarantined: tuple[quarantine.Entry, ...]
    proof: Proof | None
    criteria: tuple[criteria.Finding, ...]
    waivers: tuple[waivers.Found, ...]
    approvals: tuple[Found, ...]
    emergency: Emergency | None
    rules: Rules
    signers: Sha256 | None
    rehearsal: bool


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
    refusals = {lane: tuple(_refusals(inputs, lane)) for lane in lanes(inputs)}
    lane = next((lane for lane, found in refusals.items() if not found), list(refusals)[-1])
    return Decision(
        allowed=not refusals[lane],
        lane=lane,
        calendar=inputs.calendar.may_start(inputs.at, inputs.needs, lane),
        refusals=refusals[lane],
        approved={role: person for _, counted in counts(inputs, lane) for role, person in counted.counted.items()},
        soak=_soak(inputs, lane),
    )


def lanes(inputs: Inputs) -> tuple[Lane, ...]:
    """The lanes that a release may take, the one that asks for less first."""
    emergency = inputs.emergency
    bound = emergency is not None and emergency.closed is None and emergency.digest == inputs.release.digest
    return ("routine", "emergency") if bound else ("routine",)


def require(inputs: Inputs) -> Decision:
    """The decision when it allows; Refused on one line otherwise."""
    decision = decide(inputs)
    if not decision.allowed:
        raise Refused(line(inputs, decision))
    return decision


def line(inputs: Inputs, decision: Decision) -> str:
    """A refusal on one line."""
    return f"{inputs.stack}: {reasons(inputs, decision)}"


def reasons(inputs: Inputs, decision: Decision) -> str:
    """When a decision refused, every reason, and the fix of each."""
    return f"patching is refused at {spell(inputs.at)}, " + "; ".join(refusal.why for refusal in decision.refusals)


def needed(inputs: Inputs, lane: Lane) -> tuple[Role, ...]:
    """The roles that must approve; a routine release needs those of every severity that it holds."""
    rules = inputs.rules
    if not rules.stack.approvals:
        return ()
    if lane == "routine":
        roles = [role for row in rules.sla if row.severity in inputs.release.severities for role in row.approvers]
    else:
        assert inputs.emergency is not None
        roles = [*rules.emergency.approvers, *rules.row(inputs.emergency.facts.cvss).approvers]
    return tuple(dict.fromkeys(roles))


def signed_by(inputs: Inputs, kind: ApprovalKind) -> tuple[Role, ...]:
    """The roles from which an approval of a kind is asked for this release here."""
    if kind == "break-glass":
        return inputs.rules.approvals.break_glass_approvers
    if kind == "normal":
        return needed(inputs, "routine")
    if "emergency" not in lanes(inputs):
        raise Refused(f"no open emergency is bound to release {inputs.release.id}: see `patchwave emergency open`")
    return needed(inputs, "emergency")


def draft(inputs: Inputs, kind: ApprovalKind, role: Role, person: Person, note: str) -> Approval:
    """The approval that a person may sign now; Refused or UsageError says why not."""
    wanted = signed_by(inputs, kind)
    if role not in wanted:
        roles = ", ".join(wanted) or "nobody"
        raise UsageError(
            f"{inputs.stack}: no {kind} approval is asked from {role!r} for {inputs.release.id}: it is from {roles}"
        )
    at = inputs.at.replace(microsecond=0)
    try:
        approval = Approval(
            kind=kind,
            stack=inputs.stack,
            release=inputs.release.id,
            digest=inputs.release.digest,
            role=role,
            person=person,
            at=at,
            expires=at + inputs.rules.approvals.valid.of(kind),
            note=note,
            rehearsal=inputs.rehearsal,
        )
    except ValidationError as error:
        raise UsageError(f"{inputs.stack}: {role} cannot be signed: {first_problem(error)}") from None
    found = Found(file=approvals.name_of(approval), sha256=GENESIS, approval=approval, problem=None)
    if why := approvals.objection(found, asked(inputs)):
        raise Refused(f"{inputs.stack}: {role} cannot be signed: {why}")
    return approval


def approval_state(inputs: Inputs) -> dict[str, Any]:
    """Each list of roles that must approve now, and each file with why it is refused, as plain values.

    They are complete when a lane that is open now has all of its own; where none is open, when any lane has.
    """
    lists: dict[ApprovalKind, Count] = {}
    may_start = [lane for lane in lanes(inputs) if not list(_closed(inputs, lane))]
    for lane in lanes(inputs):
        lists |= dict(counts(inputs, lane))
    return {
        "stack": inputs.stack,
        "release": inputs.release.id,
        "digest": inputs.release.digest,
        "at": clock.iso(inputs.at),
        "complete": any(not list(_unapproved(inputs, lane)) for lane in may_start or lanes(inputs)),
        "lists": [
            {
                "kind": kind,
                "complete": not counted.missing,
                "roles": [
                    {"role": role, "person": counted.counted.get(role), "missing": counted.missing.get(role)}
                    for role in (*counted.counted, *counted.missing)
                ],
            }
            for kind, counted in lists.items()
            if counted.counted or counted.missing
        ],
        "files": [
            {
                "file": found.file,
                "kind": found.approval and found.approval.kind,
                "role": found.approval and found.approval.role,
                "person": found.approval and found.approval.person,
                "expires": found.approval and clock.iso(found.approval.expires),
                "note": found.approval and found.approval.note,
                "refused": approvals.objection(found, asked(inputs)),
            }
            for found in inputs.approvals
        ],
    }


def asked(inputs: Inputs) -> Asked:
    """What every approval of this decision must be good for."""
    return Asked(
        stack=inputs.stack,
        digest=inputs.release.digest,
        author=inputs.release.author,
        at=inputs.at,
        until=inputs.at + inputs.needs,
        roles=inputs.rules.roles,
        valid=inputs.rules.approvals.valid,
        rehearsal=inputs.rehearsal,
    )


def _refusals(inputs: Inputs, lane: Lane) -> Iterator[Refusal]:
    aspects: dict[Aspect, Iterator[str]] = {
        "calendar": _closed(inputs, lane),
        "quarantine": quarantine.objections(inputs.quarantined, inputs.release.id),
        "promotion": _unproved(inputs, lane),
        "criteria": criteria.objections(inputs.criteria, inputs.release.id),
        "waivers": waivers.objections(inputs.waivers, inputs.stack, inputs.at),
        "emergency": _unready(inputs, lane),
        "approvals": _unapproved(inputs, lane),
    }
    return (Refusal(about=about, why=why) for about, reasons in aspects.items() for why in reasons)


def _closed(inputs: Inputs, lane: Lane) -> Iterator[str]:
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


def breaks_glass(inputs: Inputs, lane: Lane) -> bool:
    """Whether the calendar is open only because break-glass lifts a freeze."""
    sealed = inputs.calendar.model_copy(update={"break_glass": ()})
    return (
        inputs.calendar.may_start(inputs.at, inputs.needs, lane).open
        and not sealed.may_start(inputs.at, inputs.needs, lane).open
    )


def _unproved(inputs: Inputs, lane: Lane) -> Iterator[str]:
    source, proof, release = inputs.rules.stack.promoted_from, inputs.proof, inputs.release
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
    elif inputs.at - proof.ended > inputs.rules.stack.proof_valid:
        age, valid = inputs.at - proof.ended, inputs.rules.stack.proof_valid
        yield f"the evidence from {source} is {age.days} days old, {valid.days} are allowed: patch {source} again"
    elif inputs.at - proof.ended < (soak := _required(inputs, lane)):
        ready = proof.ended + soak
        ready += timedelta(seconds=-ready.second % 60)  # a message tells no seconds
        soaked = f"has soaked {hours(inputs.at - proof.ended)} of {hours(soak)} on {source}"
        yield f"release {release.id} {soaked}: run again from {spell(ready)}"


def _required(inputs: Inputs, lane: Lane) -> timedelta:
    rules = inputs.rules.stack
    return max(rules.soak, inputs.calendar.soak) if lane == "routine" else rules.emergency_soak


def _soak(inputs: Inputs, lane: Lane) -> Soak | None:
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
    emergency, rules = inputs.emergency, inputs.rules
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


def counts(inputs: Inputs, lane: Lane) -> Iterator[tuple[ApprovalKind, Count]]:
    """Each list of roles that must approve, and how far it is complete."""
    wanted: list[tuple[ApprovalKind, Sequence[Role]]] = [(KINDS[lane], needed(inputs, lane))]
    if breaks_glass(inputs, lane):
        wanted.append(("break-glass", inputs.rules.approvals.break_glass_approvers))
    for kind, roles in wanted:
        yield kind, approvals.count(roles, inputs.approvals, asked(inputs), kind)


def _unapproved(inputs: Inputs, lane: Lane) -> Iterator[str]:
    for kind, counted in counts(inputs, lane):
        if not counted.missing:
            continue
        who = ", ".join(role + (f" ({why})" if why else "") for role, why in counted.missing.items())
        option = "" if kind == "normal" else f" --{kind}"
        yield (
            f"{kind} approval is missing from {who}: each signs with "
            f"`patchwave approve --stack {inputs.stack}{option} --role ROLE`"
        )


def folder(project: Path, stack: str, release: str) -> Path:
    """Where the waves of a release on a stack leave their evidence."""
    return project / "evidence" / "patching" / stack / release


def is_done(project: Path, stack: str, release: str, digest: str, kept: Sequence[Waiver]) -> bool:
    """Whether a wave of exactly this release, with these waivers, has succeeded on the stack: an `up` runs nothing."""
    place = folder(project, stack, release)
    if not (place / evidence.FILE).exists():
        return False
    records = evidence.read(place)
    done = evidence.summary(records)
    started = [r.data for r in records if r.kind == "wave-started" and r.run == done["run"]]
    if done["outcome"] != "succeeded" or not started or misplaced(stack, records):
        return False
    marks = [Waiver.model_validate_json(json.dumps(row)).mark for row in started[-1]["waivers"]]
    return started[-1]["digest"] == digest and marks == [waiver.mark for waiver in kept]


def prove(project: Path, source: StackName, release: str, signers: Path | None) -> Proof:
    """What the last run of a release on the stack before has shown."""
    place = folder(project, source, release)
    if not (place / evidence.FILE).exists():
        problem = f"release {release} has no evidence from {source}: patch {source} with it first"
        return Proof(stack=source, problem=problem)
    records, verdict = evidence.inspect(place, signers)
    if not verdict.verified:
        fix = f"restore it from its copy, or patch {source} with another release"
        problem = f"the evidence from {source} does not verify ({verdict.problem}): {fix}"
        return Proof(stack=source, problem=problem)
    if strange := misplaced(source, records):
        problem = f"the evidence in the place of {source}'s is {strange}'s: restore {source}'s own, or patch {source}"
        return Proof(stack=source, problem=problem)
    return shown(source, records)


def misplaced(stack: StackName | str, records: Sequence[Record]) -> str | None:
    """The other stack that these records of a stack's waves are of; None where they are its own."""
    stacks = [str(record.data.get("stack")) for record in records if record.kind == "wave-started"]
    return next((other for other in stacks if other != stack), None)


def shown(source: StackName, records: Sequence[Record]) -> Proof:
    """What records that verify show of their last run."""
    run = records[-1].run
    mine = [record for record in records if record.run == run]
    started: Mapping[str, Any] = next((r.data for r in mine if r.kind == "wave-started"), {})
    ended = next((r for r in reversed(mine) if r.kind == "wave-ended"), None)
    return Proof(
        stack=source,
        problem=None,
        rehearsal=started.get("rehearsal") is not None,
        run=run,
        outcome=ended.data.get("outcome") if ended else None,
        digest=started.get("digest"),
        ended=datetime.fromisoformat(ended.at) if ended else None,
        really_ended=datetime.fromisoformat(ended.data["real_time"]) if ended else None,
        head=records[-1].hash,
    )


def findings(
    project: Path, source: StackName, release: Release, standard: Standard, signers: Path | None, at: datetime
) -> tuple[criteria.Finding, ...]:
    """Each criterion of a stack for the last run of a release there; none where there is no run to judge."""
    place = folder(project, source, release.id)
    if not (place / evidence.FILE).exists():
        return ()
    records, verdict = evidence.inspect(place, signers)
    run = records[-1].run if records else ""
    mine = [record for record in records if record.run == run]
    started = any(record.kind == "wave-started" for record in mine)
    if verdict.signed == "wrong" or not started or misplaced(source, records):
        return ()
    valid = next((r.proof_valid for r in standard.stacks.values() if r.promoted_from == source), None)
    return criteria.judge(mine, criteria.attachments(place, signers), release, standard, at=at, valid=valid)


def rules_of(standard: Standard, digest: str, stack: StackName) -> Rules:
    """What a decision on a stack needs of a standard."""
    return Rules(
        digest=digest,
        stack=standard.stacks[stack],
        sla=standard.sla,
        unscored=standard.unscored,
        exploited=standard.exploited,
        roles=standard.roles,
        approvals=standard.approvals,
        emergency=standard.emergency,
    )


def subject(release: Release, rules: Rules) -> Subject:
    """What a decision needs of a release; a fix never counts as less than its score, or the lack of one, says."""
    advisories = release.advisories
    found = {rules.worst([a.severity, rules.severity(a.cvss, exploited=a.exploited)]) for a in advisories}
    known = {advisory.id for advisory in advisories}
    if any(known.isdisjoint(package.advisories) for package in release.packages):
        found.add(rules.unscored)
    severities = tuple(row.severity for row in rules.sla if row.severity in found)
    return Subject(id=release.id, digest=release.digest, author=release.author, severities=severities)


def gather(
    project: Path,
    stack: StackName,
    release: Release,
    calendar: Calendar,
    *,
    needs: timedelta,
    at: datetime,
    environ: Mapping[str, str] = os.environ,
) -> Inputs:
    """The inputs of a decision at an instant, read from the project's files as they are now."""
    standard, digest = read_standard(project)
    signers = signing.allowed_signers(project, environ)
    rules = rules_of(standard, digest, stack)
    source = rules.stack.promoted_from
    return Inputs(
        stack=stack,
        at=at,
        real=at - (clock.shift(environ) or timedelta(0)),
        needs=needs,
        calendar=calendar,
        release=subject(release, rules),
        quarantined=quarantine.load(project).of(release),
        criteria=findings(project, source, release, standard, signers, at) if source else (),
        waivers=waivers.relied(project, load_stack(project, stack).waivers, standard, release),
        proof=prove(project, source, release.id, signers) if source else None,
        approvals=approvals.read(project, release.id, stack, signers, at),
        emergency=emergencies.of_release(project, release.digest, signers, at),
        rules=rules,
        signers=sha256(signers.read_bytes()).hexdigest() if signers else None,
        rehearsal=clock.is_sandbox(environ),
    )


def record(before: str, inputs: Inputs, decision: Decision, earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The data of a `decision` record: of the inputs, what the run's earlier decisions have not recorded already."""
    known = recorded(earlier)
    plain = inputs.model_dump(mode="json")
    fresh = {key: value for key, value in plain.items() if key not in known or known[key] != value}
    return {"before": before, "inputs": fresh, "decision": decision.model_dump(mode="json")}


def recorded(decisions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The inputs of the last of these decisions of one run, as plain values."""
    return {key: value for data in decisions for key, value in data["inputs"].items()}


def promotion(inputs: Inputs) -> Soak | None:
    """The soak that admits a release to a stack, whatever the hour; Refused says what is missing."""
    about = ("quarantine", "promotion", "criteria")
    found = {lane: [one.why for one in _refusals(inputs, lane) if one.about in about] for lane in lanes(inputs)}
    for lane, reasons in found.items():
        if not reasons:
            return _soak(inputs, lane)
    raise Refused(f"{inputs.stack}: {found[list(found)[-1]][0]}")


def prove_step(
    project: Path, emergency: Emergency, step: Step, named: str | None, at: datetime, environ: Mapping[str, str]
) -> dict[str, str]:
    """What the record of a step says beside who and when; Refused while its proof is missing."""
    standard, _ = read_standard(project)
    if step.release:
        if named is None:
            raise UsageError(f"step {step.id} names the release that brings the fix: add --release")
        release = load_release(project, named)
        if why := emergencies.unfit(emergency.facts, standard.emergency.criteria, release):
            raise Refused(f"{emergency.id}: {why}")
        return {"release": release.id, "digest": release.digest}
    if step.approves is None and step.deploys is None:
        return {}
    if emergency.release is None:
        raise Refused(f"{emergency.id}: no release is named yet: record the step that names it before {step.id}")
    release = load_release(project, emergency.release)
    if step.approves is not None:
        calendar = load_stack(project, step.approves).settings.calendar
        inputs = gather(project, step.approves, release, calendar, needs=timedelta(0), at=at, environ=environ)
        if lacking := list(_unapproved(inputs, "emergency")):
            raise Refused(f"{emergency.id}: {lacking[0]}")
        return {}
    assert step.deploys is not None
    proof = prove(project, step.deploys, release.id, signing.allowed_signers(project, environ))
    if proof.problem is not None or (proof.outcome, proof.digest) != ("succeeded", emergency.digest):
        why = proof.problem or f"release {release.id} ended {proof.outcome or 'unfinished'} on {step.deploys}"
        raise Refused(f"{emergency.id}: step {step.id} is not done: {why}")
    return {"run": str(proof.run)}
