"""What the stack before has shown of a release, from its evidence."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from patchwave.authorization import criteria
from patchwave.base.model import Model
from patchwave.base.names import Sha256
from patchwave.calendar.windows import Instant
from patchwave.config.order import Named
from patchwave.config.standard import StackName, Standard
from patchwave.evidence import chain as evidence
from patchwave.evidence.chain import Record
from patchwave.releases.release import Release
from patchwave.releases.waivers import Waiver


class Proof(Model):
    """What the evidence of the stack before proves of a release; `problem` is why it proves nothing."""

    stack: StackName
    problem: str | None
    rehearsal: bool = False
    run: str | None = None
    outcome: str | None = None
    digest: str | None = None
    ended: Instant | None = None
    really_ended: Instant | None = None
    head: Sha256 | None = None


def folder(project: Path, stack: str, release: str) -> Path:
    """Where the waves of a release on a stack leave their evidence."""
    return project / "evidence" / "patching" / stack / release


def is_done(project: Path, stack: str, release: str, digest: str, relied: Sequence[Named]) -> bool:
    """Whether a wave of exactly this release, with these waivers, has succeeded on the stack: an `up` runs nothing."""
    records = _last_run(project, stack, release, digest, relied)
    return bool(records) and evidence.summary(records)["outcome"] == "succeeded"


def is_open(project: Path, stack: str, release: str, digest: str, relied: Sequence[Named]) -> bool:
    """Whether a wave of exactly this has touched hosts and not ended: it asks for each further batch by itself."""
    records = _last_run(project, stack, release, digest, relied)
    touched = any(record.kind == "phase" and record.data["phase"] == "patch" for record in records)
    return touched and evidence.summary(records)["outcome"] is None


def _last_run(project: Path, stack: str, release: str, digest: str, relied: Sequence[Named]) -> list[Record]:
    """The records of a release's last run on a stack, where it was of this digest and with these waivers."""
    place = folder(project, stack, release)
    records = evidence.read(place) if (place / evidence.FILE).exists() else []
    begun = [record for record in records if record.kind == "wave-started"]
    if not begun or misplaced(stack, records):
        return []
    then = [Waiver.model_validate_json(json.dumps(row)).reference for row in begun[-1].data["waivers"]]
    if begun[-1].data["digest"] != digest or then != list(relied):
        return []
    return [record for record in records if record.run == begun[-1].run]


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
    valid = min((standard.stacks[name].proof_valid for name in standard.follow(source)), default=None)
    return criteria.judge(mine, criteria.attachments(place, signers), release, standard, at=at, valid=valid)
