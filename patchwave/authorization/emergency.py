"""The emergency lane: one critical vulnerability from its notification to its proof, each step signed by who did it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from patchwave.authorization.approvals import slug
from patchwave.base.clock import iso, spell
from patchwave.base.errors import Failed, Refused, UsageError
from patchwave.base.model import Model, first_problem
from patchwave.base.names import Sha256
from patchwave.calendar.windows import Instant
from patchwave.config.standard import Criteria, EmergencyRules, Person, StackName, StepId
from patchwave.evidence import chain as evidence
from patchwave.evidence import signing
from patchwave.evidence.chain import Chain, Record, canonical
from patchwave.releases.release import Release, ReleaseId

NAMESPACE = "patchwave-emergency"
OPENED, STEP, CLOSED = "emergency-opened", "emergency-step", "emergency-closed"
StepState = Literal["done", "late", "due", "overdue"]


class Facts(Model):
    """What is known of a vulnerability, and where that can be read; empty text means not known."""

    advisory: Annotated[str, Field(min_length=1)]
    cvss: Annotated[float, Field(ge=0.1, le=10.0)]
    exploit: str
    affects: str
    disclosed: Instant


class Done(Model):
    """A step that was recorded, by whom and when."""

    step: StepId
    who: Person
    at: Instant


class Emergency(Model):
    """One emergency as its record has it; `problem` names the first entry that does not verify."""

    id: str
    facts: Facts
    opened: Instant
    opened_by: Person
    closed: Instant | None
    release: ReleaseId | None
    digest: Sha256 | None
    done: tuple[Done, ...]
    records: int
    head: Sha256
    problem: str | None

    def lacks(self, rules: EmergencyRules, stack: StackName) -> list[StepId]:
        """The steps that are not done and that a wave on the stack needs."""
        done = {one.step for one in self.done}
        return [step.id for step in rules.before(stack) if step.id not in done]


class Signer(Model):
    """Who records something, with which key, and the list that must know both."""

    who: Person
    key: Path
    signers: Path | None


class Row(Model):
    """One step of the plan as it stands at an instant."""

    phase: str
    step: StepId
    does: str
    due: Instant
    done: Instant | None
    who: Person | None
    state: StepState


def unmet(facts: Facts, criteria: Criteria, at: datetime) -> Iterator[str]:
    """Each criterion of the standard that a vulnerability does not meet, with what would show it."""
    if facts.cvss < criteria.cvss_from:
        yield f"CVSS {facts.cvss} is below {criteria.cvss_from}"
    if criteria.exploit_available and not facts.exploit:
        yield "no exploit is named: write with --exploit where one was seen"
    if criteria.publicly_disclosed and facts.disclosed > at:
        yield f"it is not disclosed before {spell(facts.disclosed)}"
    if criteria.affects_production and not facts.affects:
        yield "nothing of production is named: write with --affects what is vulnerable"


def unfit(facts: Facts, criteria: Criteria, release: Release) -> str | None:
    """Why a release is not the one that brings the fix, None when it is."""
    fixes = [a for a in release.advisories if facts.advisory == a.id or facts.advisory in a.cves]
    if not fixes:
        return f"release {release.id} brings no fix of {facts.advisory}: seal one that does"
    scores = [a.cvss for a in fixes if a.cvss is not None]
    if scores and max(scores) < criteria.cvss_from:
        return f"release {release.id} scores {facts.advisory} {max(scores)}, below {criteria.cvss_from}"
    return None


def rows(emergency: Emergency, rules: EmergencyRules, at: datetime) -> tuple[Row, ...]:
    """The whole plan, each step done, late, due or overdue at an instant."""
    done = {one.step: one for one in emergency.done}
    made = []
    for phase in rules.plan:
        due = emergency.facts.disclosed + phase.due
        for step in phase.steps:
            one = done.get(step.id)
            state: StepState = ("late" if one.at > due else "done") if one else ("overdue" if at > due else "due")
            made.append(
                Row(
                    phase=phase.name,
                    step=step.id,
                    does=step.does,
                    due=due,
                    done=one.at if one else None,
                    who=one.who if one else None,
                    state=state,
                )
            )
    return tuple(made)


def signer(who: str, key: Path, signers: Path | None) -> Signer:
    """Who records something; UsageError for a name that no list of signers can hold."""
    try:
        return Signer(who=who, key=key, signers=signers)
    except ValidationError as error:
        raise UsageError(f"{who!r} cannot sign: {first_problem(error)}") from None


def home(project: Path) -> Path:
    """Where the records of all emergencies are."""
    return project / "evidence" / "emergencies"


def read(folder: Path, signers: Path | None, at: datetime, head: str | None = None) -> Emergency:
    """An emergency from its record, each signature verified; up to the record with hash `head` where one is named."""
    records, problem = evidence.scan(folder)
    if head is not None:
        records = records[: next((n for n, record in enumerate(records, 1) if record.hash == head), 0)]
    if not records or records[0].kind != OPENED:
        raise Failed(f"{folder / evidence.FILE}: it does not begin with an opening: restore it from its copy")
    try:
        return _state(folder.name, records, problem or _disbelieved(folder.name, records, signers, at))
    except (KeyError, TypeError, ValueError) as error:
        why = first_problem(error) if isinstance(error, ValidationError) else f"{error} cannot be read"
        raise Failed(f"{folder / evidence.FILE}: {why}: restore it from its copy") from None


def of_release(project: Path, digest: str, signers: Path | None, at: datetime) -> Emergency | None:
    """The emergency that is bound to a release: an open one before a closed one, the last one first."""
    bound = [
        read(path.parent, signers, at)
        for path in sorted(home(project).glob(f"*/{evidence.FILE}"))
        if any(record.data.get("digest") == digest for record in evidence.scan(path.parent)[0])
    ]
    return max(bound, key=lambda one: (one.closed is None, one.opened), default=None)


def find(project: Path, named: str | None, signers: Path | None, at: datetime) -> tuple[Path, Emergency]:
    """The named emergency, or the only one that is open."""
    if named is not None:
        if not re.fullmatch(r"[a-z0-9-]+\.\d+", named):
            raise UsageError(f"--id {named!r}: write the name of a folder in {home(project)}")
        return home(project) / named, read(home(project) / named, signers, at)
    known = {path.parent: read(path.parent, signers, at) for path in sorted(home(project).glob(f"*/{evidence.FILE}"))}
    open_ = [(folder, one) for folder, one in known.items() if one.closed is None]
    if not open_:
        closed = f", or name one of {', '.join(one.id for one in known.values())} with --id" if known else ""
        raise UsageError(f"no emergency is open: open one with `patchwave emergency open`{closed}")
    if len(open_) > 1:
        names = ", ".join(one.id for _, one in open_)
        raise UsageError(f"{len(open_)} emergencies are open: name one of {names} with --id")
    return open_[0]


def open_(project: Path, facts: Facts, criteria: Criteria, by: Signer, at: datetime) -> str:
    """Opens the lane; Refused names every criterion that is not met, and an emergency that is open already."""
    if missed := list(unmet(facts, criteria, at)):
        raise Refused(f"{facts.advisory} is no emergency by the standard: {'; '.join(missed)}")
    number, name = 1, slug(facts.advisory)
    while (folder := home(project) / f"{name}.{number}").exists():
        if not any(record.kind == CLOSED for record in evidence.scan(folder)[0]):
            raise Refused(f"{folder.name} is open already: go on with `patchwave emergency show --id {folder.name}`")
        number += 1
    _append(folder, OPENED, {**facts.model_dump(mode="json")}, by, at)
    return folder.name


def step(folder: Path, done: Emergency, name: StepId, details: Mapping[str, Any], by: Signer, at: datetime) -> None:
    """Records that a step is done, once."""
    _still_open(done)
    if any(one.step == name for one in done.done):
        raise Refused(f"{done.id}: step {name} is recorded already: a record is never changed")
    _append(folder, STEP, {"step": name, **details}, by, at)


def close(folder: Path, done: Emergency, note: str, by: Signer, at: datetime) -> None:
    """Ends the emergency: from here on its lane permits nothing."""
    _still_open(done)
    _append(folder, CLOSED, {"note": note}, by, at)


def _still_open(emergency: Emergency) -> None:
    if emergency.problem is not None:
        raise Refused(f"{emergency.id}: {emergency.problem}: nothing may follow it")
    if emergency.closed is not None:
        raise Refused(f"{emergency.id} was closed {spell(emergency.closed)}: open another")


def _append(folder: Path, kind: str, details: Mapping[str, Any], by: Signer, at: datetime) -> None:
    data = {"emergency": folder.name, **details, "who": by.who, "at": iso(at)}
    armoured = signing.sign(_message(kind, data), by.key, NAMESPACE)
    if wrong := _wrong(kind, {**data, "signature": armoured}, by.signers, at):
        raise Refused(f"{by.key}: {wrong}: list its public half there as `{by.who} ssh-ed25519 …`")
    with Chain.open(folder) as chain:
        chain.append(kind, folder.name, {**data, "signature": armoured}, at=at)


def _message(kind: str, data: Mapping[str, Any]) -> bytes:
    return canonical({"kind": kind, **{key: value for key, value in data.items() if key != "signature"}}) + b"\n"


def _wrong(kind: str, data: Mapping[str, Any], signers: Path | None, at: datetime) -> str | None:
    signature = str(data.get("signature"))
    who = str(data.get("who"))
    return signing.objection(_message(kind, data), signature, NAMESPACE, identity=who, signers=signers, at=at)


def _disbelieved(name: str, records: Sequence[Record], signers: Path | None, at: datetime) -> str | None:
    """The first record that is not what its author signed, at that time, for this emergency."""
    seen: set[tuple[str, str | None]] = set()
    for record in records:
        signed_at = datetime.fromisoformat(str(record.data.get("at")))
        key = (record.kind, record.data.get("step"))
        if record.data.get("emergency") != name:
            wrong: str | None = f"it belongs to emergency {record.data.get('emergency')}"
        elif key in seen:
            wrong = "it repeats an earlier entry"
        elif (CLOSED, None) in seen:
            wrong = "it follows the end"
        elif abs(datetime.fromisoformat(record.at) - signed_at) > evidence.CLOCK_SLACK:
            wrong = f"it was signed for {spell(signed_at)}"
        else:
            wrong = _wrong(record.kind, record.data, signers, at)
        if wrong:
            return f"record {record.seq}: {wrong}"
        seen.add(key)
    return None


def _state(name: str, records: Sequence[Record], problem: str | None) -> Emergency:
    first = records[0].data
    done = [record.data for record in records if record.kind == STEP]
    bound = next((data for data in done if "digest" in data), {})
    closed = next((record.at for record in records if record.kind == CLOSED), None)
    facts = {key: first[key] for key in Facts.model_fields}
    return Emergency.model_validate_json(
        canonical(
            {
                "id": name,
                "facts": facts,
                "opened": first["at"],
                "opened_by": first["who"],
                "closed": closed,
                "release": bound.get("release"),
                "digest": bound.get("digest"),
                "done": [{key: data[key] for key in Done.model_fields} for data in done],
                "records": len(records),
                "head": records[-1].hash,
                "problem": problem,
            }
        )
    )
