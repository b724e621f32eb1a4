"""Approvals: files in git in which people agree, under their SSH signature, that a release may go to a stack."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Self

from pydantic import ValidationError, model_validator

from patchwave.base.clock import hours, spell
from patchwave.base.errors import Refused
from patchwave.base.model import Model, first_problem
from patchwave.base.names import Sha256
from patchwave.calendar.windows import Instant
from patchwave.config.standard import ApprovalKind, Person, Role, StackName, Validity
from patchwave.evidence import signing
from patchwave.evidence.chain import canonical
from patchwave.releases.release import ReleaseId

NAMESPACE = "patchwave-approval"
STRENGTH: dict[ApprovalKind, int] = {"normal": 0, "emergency": 1, "break-glass": 2}


class Approval(Model):
    """What one person signs; it counts from `at` until `expires`, for exactly this digest on this stack."""

    kind: ApprovalKind
    stack: StackName
    release: ReleaseId
    digest: Sha256
    role: Role
    person: Person
    at: Instant
    expires: Instant
    note: str
    rehearsal: bool

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.expires <= self.at:
            raise ValueError(f"it expires {self.expires.isoformat()}, before it is given")
        return self


class Found(Model):
    """One approval file; `problem` says why its content is not what that person signed, None when it is."""

    file: str
    sha256: Sha256
    approval: Approval | None
    problem: str | None


class Request(Model):
    """What an approval must be good for: this release here, by these rules, throughout `at` to `until`."""

    stack: StackName
    digest: Sha256
    author: str
    at: Instant
    until: Instant
    roles: dict[Role, tuple[Person, ...]]
    valid: Validity
    rehearsal: bool


def objection(found: Found, request: Request) -> str | None:
    """Why a file does not count, None when it does."""
    given = found.approval
    if given is None or found.problem is not None:
        return found.problem or "it is no approval"
    if given.stack != request.stack:
        return f"it is for {given.stack}"
    if given.digest != request.digest:
        return f"it is for digest {given.digest[:12]}, the release has {request.digest[:12]}"
    if given.rehearsal and not request.rehearsal:
        return "it was given in a rehearsal"
    if given.at > request.at:
        return f"it is dated {spell(given.at)}, after this decision: the clocks disagree, correct one"
    if given.expires <= request.at:
        return f"it expired {spell(given.expires)}"
    if given.expires < request.until:
        return f"it expires {spell(given.expires)}, the work may take until {spell(request.until)}"
    if given.expires - given.at > request.valid.of(given.kind):
        return f"it claims {hours(given.expires - given.at)}, the standard allows {hours(request.valid.of(given.kind))}"
    if given.person not in request.roles.get(given.role, ()):
        return f"{given.person} is not {given.role} by the standard"
    if given.person.casefold() == request.author.casefold():
        return f"{given.person} sealed the release, its author does not approve it"
    return None


def assign(needed: Sequence[Role], offers: Mapping[Role, Set[Person]]) -> dict[Role, Person]:
    """A largest assignment of people to roles in which nobody stands twice."""
    holds: dict[Person, Role] = {}

    def place(role: Role, tried: set[Person]) -> bool:
        for person in sorted(offers.get(role, frozenset()) - tried):
            tried.add(person)
            if person not in holds or place(holds[person], tried):
                holds[person] = role
                return True
        return False

    for role in needed:
        place(role, set())
    return {role: person for person, role in holds.items()}


class Count(Model):
    """Which people count for which roles, and what each missing role lacks."""

    counted: dict[Role, Person]
    missing: dict[Role, str]


def count(needed: Sequence[Role], found: Iterable[Found], request: Request, kind: ApprovalKind) -> Count:
    """Whether distinct people have approved for all roles; a stronger kind counts for a weaker one."""
    offers: dict[Role, set[Person]] = {}
    refused: dict[str, str] = {}
    for one in found:
        given, why = one.approval, objection(one, request)
        if given is None or why is not None:
            refused[one.file] = why or ""
        elif STRENGTH[given.kind] < STRENGTH[kind]:
            refused[one.file] = f"it is {given.kind}, {kind} is needed"
        else:
            offers.setdefault(given.role, set()).add(given.person)
    counted = assign(needed, offers)
    missing: dict[Role, str] = {}
    for role in needed:
        if role in counted:
            continue
        reasons = [f"{person} counts for another role" for person in sorted(offers.get(role, set()))]
        reasons += [f"{file}: {why}" for file, why in refused.items() if file.split(".")[1] == slug(role)]
        missing[role] = "; ".join(reasons)
    return Count(counted=counted, missing=missing)


def slug(text: str) -> str:
    """Lower-case letters and digits, joined by dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def name_of(approval: Approval) -> str:
    """The name of an approval's file."""
    return f"{approval.stack}.{slug(approval.role)}.{slug(approval.person)}.json"


def folder(project: Path, release: str) -> Path:
    """Where the approvals of a release are."""
    return project / "approvals" / release


def read(project: Path, release: str, stack: StackName, signers: Path | None, at: datetime) -> tuple[Found, ...]:
    """Every approval file for a stack, its signature verified against who might sign at that instant."""
    return tuple(
        examine(path.name, path.read_bytes(), _bytes(_signature(path)), signers, at)
        for path in sorted(folder(project, release).glob(f"{stack}.*.*.json"))
    )


def give(project: Path, approval: Approval, key: Path, signers: Path | None) -> Path:
    """Writes an approval beside its signature; Refused when the list of signers does not give the person that key."""
    content = _content(approval)
    armoured = signing.sign(content, key, NAMESPACE)
    person = approval.person
    if wrong := signing.objection(content, armoured, NAMESPACE, identity=person, signers=signers, at=approval.at):
        raise Refused(f"{key}: {wrong}: list its public half there as `{person} ssh-ed25519 …`")
    place = folder(project, approval.release)
    place.mkdir(parents=True, exist_ok=True)
    path = place / name_of(approval)
    for target, data in ((_signature(path), armoured.encode()), (path, content)):
        draft = place / f".{target.name}.{os.getpid()}"
        draft.write_bytes(data)
        draft.replace(target)
    return path


def _content(approval: Approval) -> bytes:
    return canonical(approval.model_dump(mode="json")) + b"\n"


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _signature(path: Path) -> Path:
    return path.with_name(f"{path.name}.sig")


def examine(name: str, content: bytes, signature: bytes, signers: Path | None, at: datetime) -> Found:
    """A file of that name, with that content and signature (empty for none), as it stood at an instant."""
    approval: Approval | None = None
    try:
        approval = Approval.model_validate_json(content)
        problem = _mistake(name, content, approval)
    except ValidationError as error:
        problem = f"it is no approval: {first_problem(error)}"
    if approval is not None and problem is None:
        armoured = signature.decode("utf-8", "replace")
        person = approval.person
        problem = (
            signing.objection(content, armoured, NAMESPACE, identity=person, signers=signers, at=at)
            if armoured
            else f"its signature {name}.sig is missing"
        )
    return Found(file=name, sha256=sha256(content).hexdigest(), approval=approval, problem=problem)


def _mistake(name: str, content: bytes, approval: Approval) -> str | None:
    if content != _content(approval):
        return "it is not in canonical form: sign again"
    if name.partition(".")[2] != name_of(approval).partition(".")[2]:
        return f"it is named for somebody else: {approval.person} signed it as {approval.role}"
    return None
