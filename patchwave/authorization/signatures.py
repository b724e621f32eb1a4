"""What people may sign now, and what of it counts: approvals, and the steps of an emergency."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from patchwave.authorization import approvals, decision
from patchwave.authorization import emergency as emergencies
from patchwave.authorization.approvals import Approval, Count, Found
from patchwave.authorization.emergency import Emergency
from patchwave.authorization.inputs import Inputs, from_files
from patchwave.authorization.promotion import prove
from patchwave.base import clock
from patchwave.base.errors import Refused, UsageError
from patchwave.base.model import first_problem
from patchwave.config.standard import ApprovalKind, Person, Role, Step, load_standard
from patchwave.evidence import signing
from patchwave.evidence.chain import GENESIS
from patchwave.releases.release import load as load_release


def signed_by(inputs: Inputs, kind: ApprovalKind) -> tuple[Role, ...]:
    """The roles that must sign an approval of this kind for this release on this stack."""
    if kind == "break-glass":
        return inputs.standard.approvals.break_glass_approvers
    if kind == "normal":
        return decision.needed(inputs, "routine")
    if "emergency" not in decision.lanes(inputs):
        raise Refused(f"no open emergency is bound to release {inputs.release.id}: see `patchwave emergency open`")
    return decision.needed(inputs, "emergency")


def draft(inputs: Inputs, kind: ApprovalKind, role: Role, person: Person, note: str) -> Approval:
    """The approval that a person may sign now; Refused or UsageError otherwise."""
    wanted = signed_by(inputs, kind)
    if role not in wanted:
        roles = ", ".join(wanted) or "nobody"
        raise UsageError(
            f"{inputs.stack}: no {kind} approval is needed from {role!r} for {inputs.release.id}: it is from {roles}"
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
            expires=at + inputs.standard.approvals.valid.of(kind),
            note=note,
            rehearsal=inputs.rehearsal,
        )
    except ValidationError as error:
        raise UsageError(f"{inputs.stack}: {role} cannot be signed: {first_problem(error)}") from None
    found = Found(file=approvals.name_of(approval), sha256=GENESIS, approval=approval, problem=None)
    if why := approvals.objection(found, inputs.request):
        raise Refused(f"{inputs.stack}: {role} cannot be signed: {why}")
    return approval


def approval_state(inputs: Inputs) -> dict[str, Any]:
    """Each list of roles that must approve now, and each file with why it is refused, as plain values.

    They are complete when a lane that is open now has all of its own; where none is open, when any lane has.
    """
    lists: dict[ApprovalKind, Count] = {}
    may_start = [lane for lane in decision.lanes(inputs) if not list(decision.closed(inputs, lane))]
    for lane in decision.lanes(inputs):
        lists |= dict(decision.counts(inputs, lane))
    return {
        "stack": inputs.stack,
        "release": inputs.release.id,
        "digest": inputs.release.digest,
        "at": clock.iso(inputs.at),
        "complete": any(not list(decision.unapproved(inputs, lane)) for lane in may_start or decision.lanes(inputs)),
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
                "refused": approvals.objection(found, inputs.request),
            }
            for found in inputs.approvals
        ],
    }


def prove_step(
    project: Path, emergency: Emergency, step: Step, named: str | None, at: datetime, environ: Mapping[str, str]
) -> dict[str, str]:
    """What the record of a step says beside who and when; Refused while its proof is missing."""
    standard = load_standard(project)
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
        inputs = from_files(project, step.approves, release, at=at, environ=environ)
        if lacking := next(decision.unapproved(inputs, "emergency"), None):
            raise Refused(f"{emergency.id}: {lacking}")
        return {}
    assert step.deploys is not None
    proof = prove(project, step.deploys, release.id, signing.allowed_signers(project, environ))
    if proof.problem is not None or (proof.outcome, proof.digest) != ("succeeded", emergency.digest):
        why = proof.problem or f"release {release.id} ended {proof.outcome or 'unfinished'} on {step.deploys}"
        raise Refused(f"{emergency.id}: step {step.id} is not done: {why}")
    return {"run": str(proof.run)}
