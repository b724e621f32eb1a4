"""Was a run allowed: decides again from what its evidence recorded, and holds that against the files in git."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from patchwave.authorization import approvals, criteria, emergency, promotion
from patchwave.authorization.criteria import Finding
from patchwave.authorization.decision import Decision, decide
from patchwave.authorization.inputs import Inputs, recorded, subject
from patchwave.base.documents import as_document
from patchwave.base.errors import PatchwaveError
from patchwave.base.model import Model
from patchwave.calendar.windows import Instant, Lane
from patchwave.config.settings import Settings, read_stack
from patchwave.config.standard import PATH as STANDARD
from patchwave.config.standard import StackName, Standard, parse_standard
from patchwave.evidence import chain as evidence
from patchwave.evidence import signing
from patchwave.evidence.chain import Record
from patchwave.releases import waivers
from patchwave.releases.release import load as load_release
from patchwave.releases.waivers import Waiver

PROMPT = timedelta(minutes=1)


class Replayed(Model):
    """One recorded decision made again; without problems, it agrees with the files."""

    seq: int
    at: Instant
    before: str
    allowed: bool
    lane: Lane
    refusals: tuple[str, ...]
    problems: tuple[str, ...]


class Replay(Model):
    """A run's decisions; `allowed` is whether all that was done had a permission, and everything still fits."""

    run: str
    allowed: bool
    decisions: tuple[Replayed, ...]
    problems: tuple[str, ...]


class Files:
    """Versions of the project's files: as they are now, then every one that git has, newest first."""

    def __init__(self, project: Path, environ: Mapping[str, str]) -> None:
        self.project, self.environ = project, environ

    def versions(self, path: Path) -> Iterator[tuple[str | None, bytes]]:
        """Each version's commit, None for the one that is there now, and its content."""
        now = self.project / path
        if now.is_file():
            yield None, now.read_bytes()
        for commit in self._git("log", "--all", "--format=%H", "--", str(path)).decode().split():
            yield commit, self._git("show", f"{commit}:./{path}")

    def at(self, commit: str | None, path: Path) -> bytes:
        """A file as it was at a commit, empty where it was not."""
        if commit is not None:
            return self._git("show", f"{commit}:./{path}")
        return (self.project / path).read_bytes() if (self.project / path).is_file() else b""

    def known(self, path: Path, digest: str) -> tuple[str | None, bytes] | None:
        """The version with that SHA-256."""
        return next((one for one in self.versions(path) if sha256(one[1]).hexdigest() == digest), None)

    def standard(self, digest: str) -> Standard | None:
        """The standard whose file has that SHA-256."""
        found = self.known(STANDARD, digest)
        return parse_standard(found[1], f"{STANDARD} at digest {digest[:12]}") if found else None

    def _git(self, *arguments: str) -> bytes:
        try:
            done = subprocess.run(["git", *arguments], cwd=self.project, capture_output=True, check=False)
        except FileNotFoundError:
            return b""
        return done.stdout if done.returncode == 0 else b""


def replay(
    project: Path, stack: StackName, release: str, run: str | None, environ: Mapping[str, str] = os.environ
) -> Replay:
    """Every decision of a run, the last one unless another is named, made again."""
    place = promotion.folder(project, stack, release)
    records, verdict = evidence.inspect(place, signing.allowed_signers(project, environ))
    chosen = evidence.summary(records, run=run)["run"]
    mine = [record for record in records if record.run == chosen]
    files = Files(project, environ)
    problems = [] if verdict.verified or verdict.signed == "in-progress" else [str(verdict.problem)]
    started: Mapping[str, Any] = next((record.data for record in mine if record.kind == "wave-started"), {})
    if (started.get("stack"), started.get("release")) != (stack, release):
        problems.append(f"run {chosen} carried out {started.get('release')} on {started.get('stack')}")
    decisions = list(_decisions(files, started, mine))
    problems += _unpermitted(mine, decisions)
    begun = any(_needs(record) for record in mine)
    right = not problems and all(not one.problems for one in decisions)
    return Replay(
        run=chosen,
        allowed=right and bool(decisions) and (begun or decisions[-1].allowed),
        decisions=tuple(decisions),
        problems=tuple(problems),
    )


def _needs(record: Record) -> str | None:
    """Before what a decision must have allowed this record, None for one that touches nothing."""
    if record.kind != "phase" or record.data.get("event") != "started":
        return None
    phase = record.data.get("phase")
    return {"preflight": "wave", "protect": "wave", "patch": f"batch {record.data.get('batch')}"}.get(str(phase))


def _unpermitted(mine: Sequence[Record], decisions: Sequence[Replayed]) -> Iterator[str]:
    """Whatever touched hosts without a decision of its own that allowed it."""
    if not decisions:
        yield "it recorded no decision"
    for record in mine:
        before = _needs(record)
        made = [one for one in decisions if one.before == before and one.seq < record.seq]
        if before is not None and not (made and made[-1].allowed):
            phase = record.data.get("phase")
            yield f"record {record.seq}: {phase} began without a decision before {before} that allowed it"


def _decisions(files: Files, started: Mapping[str, Any], mine: Sequence[Record]) -> Iterator[Replayed]:
    """Each decision again, its inputs completed by those of the run's decisions before it."""
    made = [record for record in mine if record.kind == "decision"]
    for number, record in enumerate(made, 1):
        try:
            known = recorded([one.data for one in made[:number]])
            inputs = Inputs.model_validate_json(json.dumps(known))
            made_then = Decision.model_validate_json(json.dumps(record.data["decision"]))
        except (AttributeError, KeyError, TypeError, ValidationError):
            yield _unreadable(record)
        else:
            yield _again(files, record, inputs, made_then, started)


def _unreadable(record: Record) -> Replayed:
    return Replayed(
        seq=record.seq,
        at=datetime.fromisoformat(record.at),
        before=str(record.data.get("before")),
        allowed=False,
        lane="routine",
        refusals=(),
        problems=(f"record {record.seq}: its inputs or its decision are not in the form that this version writes",),
    )


def _again(files: Files, record: Record, inputs: Inputs, recorded: Decision, started: Mapping[str, Any]) -> Replayed:
    decided = decide(inputs)
    problems = [*_differs(decided, recorded), *_out_of_place(inputs, record, started)]
    problems += _unlike_files(files, inputs)
    return Replayed(
        seq=record.seq,
        at=inputs.at,
        before=str(record.data.get("before")),
        allowed=decided.allowed,
        lane=decided.lane,
        refusals=tuple(refusal.why for refusal in decided.refusals),
        problems=tuple(f"record {record.seq}: {problem}" for problem in problems),
    )


def _differs(decided: Decision, recorded: Decision) -> Iterator[str]:
    if decided != recorded:
        word = {True: "allowed", False: "refused"}
        fields = [name for name in Decision.model_fields if getattr(decided, name) != getattr(recorded, name)]
        yield (
            f"recorded as {word[recorded.allowed]}, decided again it is {word[decided.allowed]} "
            f"(they differ in {', '.join(fields)})"
        )


def _out_of_place(inputs: Inputs, record: Record, started: Mapping[str, Any]) -> Iterator[str]:
    here = (started.get("stack"), started.get("release"), started.get("digest"))
    if (inputs.stack, inputs.release.id, inputs.release.digest) != here:
        yield f"decided for {inputs.stack} and digest {inputs.release.digest[:12]}, not for this wave"
    if abs(datetime.fromisoformat(record.at) - inputs.at) > PROMPT:
        yield f"decided for {inputs.at.isoformat()}, recorded at {record.at}: the clocks disagree"
    if [one.id for one in inputs.waivers] != [one.get("id") for one in started.get("waivers", ())]:
        yield "decided with other waivers than the wave relied on"
    if started.get("rehearsal") is not None and not inputs.rehearsal:
        yield "the wave was a rehearsal, the decision says that it was none"


def _unlike_files(files: Files, inputs: Inputs) -> Iterator[str]:
    """Which inputs are not in the project's files, as they are now or as git has had them.

    What is recorded of quarantine is not among them: it can only refuse.
    """
    for check in (_standard, _settings, _release, _waivers, _signatures, _proof, _emergency):
        try:
            yield from check(files, inputs)
        except PatchwaveError as error:
            yield str(error)


def _standard(files: Files, inputs: Inputs) -> Iterator[str]:
    standard = files.standard(inputs.standard_digest)
    if standard is None:
        yield f"no version of {STANDARD} has digest {inputs.standard_digest[:12]}: that standard was never in git"
    elif standard != inputs.standard:
        yield f"the recorded standard is not {STANDARD} with that digest"


def _settings(files: Files, inputs: Inputs) -> Iterator[str]:
    path = Path(f"Pulumi.{inputs.stack}.yaml")
    if not any(_settings_of(content, str(path)) == inputs.settings for _, content in files.versions(path)):
        yield f"no version of {path} has the recorded settings: they were given otherwise, or never in git"


@lru_cache
def _settings_of(content: bytes, where: str) -> Settings | None:
    """The settings of one version of a stack's file, None where they cannot be read."""
    try:
        return read_stack(as_document(content, where)).settings
    except PatchwaveError:
        return None


def _release(files: Files, inputs: Inputs) -> Iterator[str]:
    found = subject(load_release(files.project, inputs.release.id), inputs.standard)
    if found != inputs.release:
        yield f"the recorded release is not releases/{inputs.release.id}.json (digest {found.digest[:12]})"


def _waivers(files: Files, inputs: Inputs) -> Iterator[str]:
    for found in inputs.waivers:
        path = Path(waivers.FOLDER) / f"{found.id}.yaml"
        versions = (as_document(content, str(path)).parse(Waiver) for _, content in files.versions(path))
        if found.problem is None and not any(version == found.waiver for version in versions):
            yield f"no version of {path} is the recorded waiver"


def _signatures(files: Files, inputs: Inputs) -> Iterator[str]:
    with TemporaryDirectory(prefix="patchwave-") as folder:
        signers = _signers(files, inputs, Path(folder))
        if inputs.signers is not None and signers is None:
            yield f"no version of allowed_signers has digest {inputs.signers[:12]}: signatures cannot be verified again"
            return
        for found in inputs.approvals:
            path = approvals.folder(Path(), inputs.release.id) / found.file
            version = files.known(path, found.sha256)
            if version is None:
                yield f"no version of {path} has digest {found.sha256[:12]}"
                continue
            commit, content = version
            signature = files.at(commit, path.with_name(f"{path.name}.sig"))
            if approvals.examine(found.file, content, signature, signers, inputs.at) != found:
                yield f"{path}: its signature was recorded as {found.problem or 'good'}, verified again it differs"


def _signers(files: Files, inputs: Inputs, folder: Path) -> Path | None:
    """The list of signers with the recorded digest, under the name that it has now."""
    if inputs.signers is None:
        return None
    now = signing.allowed_signers(files.project, files.environ)
    contents: list[bytes] = [now.read_bytes()] if now else []
    known = next((c for c in contents if sha256(c).hexdigest() == inputs.signers), None)
    if known is None:
        version = files.known(Path("policy") / "allowed_signers", inputs.signers)
        known = version[1] if version else None
    if known is None:
        return None
    path = folder / (now.name if now else "allowed_signers")
    path.write_bytes(known)
    return path


def _proof(files: Files, inputs: Inputs) -> Iterator[str]:
    proof = inputs.proof
    if proof is None or proof.head is None:
        return
    place = promotion.folder(files.project, proof.stack, inputs.release.id)
    records, verdict = evidence.inspect(place, signing.allowed_signers(files.project, files.environ))
    heads = [record.hash for record in records]
    if not verdict.verified and verdict.signed != "in-progress":
        yield f"the evidence from {proof.stack} does not verify any more: {verdict.problem}"
    elif proof.head not in heads:
        yield f"{place / evidence.FILE} does not hold the record {proof.head[:12]} that admitted the release"
    else:
        known = records[: heads.index(proof.head) + 1]
        if promotion.shown(proof.stack, known) != proof:
            yield f"the recorded proof is not what the evidence from {proof.stack} shows"
        if _criteria(files, inputs, place, [record for record in known if record.run == proof.run]) != inputs.criteria:
            yield f"the recorded criteria are not what the evidence from {proof.stack} shows"


def _criteria(files: Files, inputs: Inputs, place: Path, mine: Sequence[Record]) -> tuple[Finding, ...]:
    """What was met at that time: results that were attached later do not count."""
    standard = files.standard(inputs.standard_digest)
    if standard is None or not mine:
        return ()
    attached = criteria.attachments(place, signing.allowed_signers(files.project, files.environ))
    then = [one for one in attached if one.claim.at <= inputs.at]
    release, valid = load_release(files.project, inputs.release.id), inputs.rules.proof_valid
    return criteria.judge(mine, then, release, standard, at=inputs.at, valid=valid)


def _emergency(files: Files, inputs: Inputs) -> Iterator[str]:
    recorded = inputs.emergency
    if recorded is None:
        return
    with TemporaryDirectory(prefix="patchwave-") as folder:
        signers = _signers(files, inputs, Path(folder))
        found = emergency.read(emergency.home(files.project) / recorded.id, signers, inputs.at, recorded.head)
    if found != recorded:
        yield f"the recorded state of emergency {recorded.id} is not what its record shows"
