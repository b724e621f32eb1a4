"""What a wave must have shown on a stack before its release goes on: read from its evidence, or attached and signed."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from patchwave.base import clock
from patchwave.base.documents import parse
from patchwave.base.errors import Refused, UsageError
from patchwave.base.model import Model
from patchwave.base.names import Sha256
from patchwave.calendar.windows import Instant
from patchwave.config.standard import (
    Criterion,
    CriterionName,
    GateCriterion,
    LatencyCriterion,
    RecordCriterion,
    RemediatedCriterion,
    StackName,
    Standard,
)
from patchwave.evidence import chain as evidence
from patchwave.evidence import signing
from patchwave.evidence.chain import Chain, Record, canonical
from patchwave.releases.release import Release, ReleaseId

FOLDER = "criteria"
NAMESPACE = "patchwave-criterion"
KIND = "criterion"

Result = Literal["pass", "fail"]
State = Literal["met", "missing", "failed", "stale"]
Identity = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+@-]*$")]


class Attached(Model):
    """A file that shows the result, kept beside the record under its digest."""

    name: str
    sha256: Sha256
    size: int


class Claim(Model):
    """What somebody signs: this criterion had this result for this run of this release on this stack."""

    criterion: CriterionName
    result: Result
    by: Identity
    at: Instant
    stack: StackName
    release: ReleaseId
    digest: Sha256
    run: str
    file: Attached | None


class Attachment(Model):
    """A claim as it was found; `problem` is None when it is what that person signed, else the reason."""

    claim: Claim
    problem: str | None


class Finding(Model):
    """One criterion of a stack and whether it is met."""

    stack: StackName
    name: str
    proof: Literal["wave", "record"]
    state: State
    detail: str


def attach(place: Path, claim: Claim, key: Path, file: Path | None, signers: Path | None) -> Record:
    """Adds a signed claim to the chain beside a wave's evidence, and keeps its file.

    Refused when the allowed signers do not give the person that key: nobody would believe the claim.
    """
    data = claim.model_dump(mode="json")
    message = canonical(data)
    signature = signing.sign(message, key, NAMESPACE)
    if problem := _objection(message, signature, claim, signers):
        raise Refused(f"{key}: {problem}: list its public half there as `{claim.by} ssh-ed25519 …`")
    if file is not None:
        target = place / FOLDER / f"{sha256_of(file)}-{file.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    with Chain.open(place / FOLDER) as chain:
        return chain.append(KIND, claim.run, {**data, "signature": signature}, at=claim.at)


def claim(
    criterion: str,
    result: Result,
    by: str,
    *,
    stack: StackName,
    release: Release,
    run: str,
    file: Path | None,
    at: datetime,
) -> Claim:
    """What will be signed; UsageError for a name that could not be one of a signer, or a file that is not there."""
    fields = {
        "criterion": criterion,
        "result": result,
        "by": by,
        "at": clock.iso(at),
        "stack": stack,
        "release": release.id,
        "digest": release.digest,
        "run": run,
        "file": (found := described(file)) and found.model_dump(),
    }
    return parse(fields, Claim, "the result to attach")


def described(file: Path | None) -> Attached | None:
    """A file's name, digest and size."""
    if file is None:
        return None
    if not file.is_file():
        raise UsageError(f"{file}: there is no such file to attach")
    return Attached(name=file.name, sha256=sha256_of(file), size=file.stat().st_size)


def sha256_of(file: Path) -> str:
    """A file's SHA-256."""
    return sha256(file.read_bytes()).hexdigest()


def attachments(place: Path, signers: Path | None) -> tuple[Attachment, ...]:
    """Every claim beside a wave's evidence, oldest first, each held against its signature and the allowed signers."""
    folder = place / FOLDER
    if not (folder / evidence.FILE).exists():
        return ()
    records, verdict = evidence.inspect(folder, None)
    if verdict.signed == "wrong":
        raise Refused(f"{folder / evidence.FILE}: {verdict.problem}: move it away and attach the results again")
    return tuple(_found(record.data, signers) for record in records if record.kind == KIND)


def _found(data: Mapping[str, Any], signers: Path | None) -> Attachment:
    signed = {key: value for key, value in data.items() if key != "signature"}
    try:
        claim = Claim.model_validate_json(canonical(signed))
    except ValidationError as error:
        raise Refused(f"a record of {FOLDER} is no criterion ({error.error_count()} faults): attach it again") from None
    return Attachment(claim=claim, problem=_objection(canonical(signed), str(data.get("signature")), claim, signers))


def _objection(message: bytes, signature: str, claim: Claim, signers: Path | None) -> str | None:
    return signing.objection(message, signature, NAMESPACE, identity=claim.by, signers=signers, at=claim.at)


def required(criteria: Sequence[Criterion], release: Release) -> Iterator[Criterion]:
    """Those of a stack's criteria that this release needs."""
    critical = any(advisory.severity == "critical" for advisory in release.advisories)
    dump = any(package.reversibility == "dump" for package in release.packages)
    for criterion in criteria:
        if isinstance(criterion, RecordCriterion) and criterion.only_for is not None:
            if {"critical": critical, "dump": dump}[criterion.only_for]:
                yield criterion
        else:
            yield criterion


def judge(
    records: Sequence[Record],
    attached: Sequence[Attachment],
    release: Release,
    standard: Standard,
    *,
    at: datetime,
    valid: timedelta | None,
) -> tuple[Finding, ...]:
    """Each criterion of the stack that a run's records belong to.

    `valid` is how long an attached result counts, None for ever.
    """
    started = next(record for record in records if record.kind == "wave-started")
    stack: StackName = started.data["stack"]
    wanted = required(standard.stacks[stack].criteria, release)
    return tuple(_judged(stack, one, records, attached, standard, at, valid) for one in wanted)


def _judged(
    stack: StackName,
    criterion: Criterion,
    records: Sequence[Record],
    attached: Sequence[Attachment],
    standard: Standard,
    at: datetime,
    valid: timedelta | None,
) -> Finding:
    match criterion:
        case GateCriterion():
            state, detail = _gates(records)
        case RemediatedCriterion():
            state, detail = _remediated(records)
        case LatencyCriterion():
            state, detail = _latency(records, criterion.increase_percent, standard)
        case RecordCriterion():
            state, detail = _record(criterion, records, attached, at, valid)
    proof: Literal["wave", "record"] = "record" if isinstance(criterion, RecordCriterion) else "wave"
    return Finding(stack=stack, name=criterion.name, proof=proof, state=state, detail=detail)


def _gates(records: Sequence[Record]) -> tuple[State, str]:
    gates = [record.data for record in records if record.kind == "gate"]
    bad = [f"batch {gate['batch']}: {gate['reason']}" for gate in gates if not gate["passed"]]
    bad += [f"{r.data['host']}: {r.data['reason']}" for r in records if r.kind == "restore"]
    if bad:
        return "failed", bad[0]
    return "met", f"{len(gates)} passed" if gates else "no host had anything to bring"


def _remediated(records: Sequence[Record]) -> tuple[State, str]:
    states = [record.data for record in records if record.kind == "state"]
    if not states:
        return "missing", "no host was scanned after the wave"
    waived = [s["host"] for s in states if s["state"] == "held" and s["waived"]]
    left = [s for s in states if s["state"] not in ("patched", "already-current") and s["host"] not in waived]
    if left:
        return "failed", f"{left[0]['host']} is {left[0]['state']}"
    return "met", f"{len(states)} hosts scanned" + (f", {len(waived)} with a waiver" if waived else "")


def _latency(records: Sequence[Record], percent: int, standard: Standard) -> tuple[State, str]:
    """Of each gate that counts answers, the first median against the last; the one that rose most decides."""
    judged = [record.data for record in records if record.kind == "gate"]
    if not judged:
        return "met", "no host had anything to bring"
    medians: dict[str, list[float | None]] = {}
    for reading in (one for gate in judged for one in gate["readings"] if one["counted"]):
        first = medians.setdefault(reading["gate"], [reading["before"]["median_ms"], None])
        first[1] = reading["after"]["median_ms"]
    pairs = [(before, after) for before, after in medians.values() if before is not None and after is not None]
    if not pairs or len(pairs) < len(medians):
        return "missing", "the wave measured no latency"
    before, after = max(pairs, key=lambda pair: pair[1] - pair[0])
    detail = f"median {before:.0f} ms before, {after:.0f} ms after, {percent} % more are allowed"
    slower = any(standard.rollback.is_slower(before, after, percent) for before, after in pairs)
    return ("failed" if slower else "met"), detail


def _record(
    criterion: RecordCriterion,
    records: Sequence[Record],
    attached: Sequence[Attachment],
    at: datetime,
    valid: timedelta | None,
) -> tuple[State, str]:
    """The newest claim of that name decides; one about another run, too early or too old decides nothing."""
    mine = [one for one in attached if one.claim.criterion == criterion.name]
    if not mine:
        return "missing", "nobody has attached a result"
    last, run = mine[-1], records[0].run
    claim = last.claim
    started = next(record.data for record in records if record.kind == "wave-started")
    ended = datetime.fromisoformat(records[-1].at).replace(microsecond=0)
    who = f"{claim.by} on {clock.iso(claim.at)}"
    if last.problem is not None:
        return "failed", f"{who}: {last.problem}"
    if (claim.stack, claim.digest) != (started["stack"], started["digest"]):
        return "failed", f"{who}: it is about {claim.stack} and digest {claim.digest[:12]}"
    if claim.run != run:
        return "stale", f"{who}: it is about run {claim.run}, the last is {run}"
    if claim.at < ended + criterion.after:
        return "stale", f"{who}: it counts from {clock.iso(ended + criterion.after)}"
    if claim.at > at:
        return "failed", f"{who}: that is after this decision: the clocks disagree, correct one"
    if valid is not None and at - claim.at > valid:
        return "stale", f"{who}: older than {valid.days} days"
    return ("met" if claim.result == "pass" else "failed"), f"{claim.result}, {who}"


def objections(findings: Sequence[Finding], release: ReleaseId) -> Iterator[str]:
    """Why a release may not go on: each criterion that is not met, and how it can be."""
    for finding in findings:
        if finding.state == "met":
            continue
        where = f"--stack {finding.stack} --criterion {finding.name}"
        attach_it = f"`patchwave evidence attach {where} --result pass --by WHO`"
        fix = attach_it if finding.proof == "record" else f"fix it and patch {finding.stack} again"
        state = "has failed" if finding.state == "failed" else f"is {finding.state}"
        problem = f"criterion {finding.name} {state} ({finding.detail})"
        yield f"release {release} on {finding.stack}: {problem}: {fix}"
