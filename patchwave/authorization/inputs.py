"""Everything that a decision depends on, gathered from an order and the project's files."""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from patchwave.authorization import approvals, criteria, promotion
from patchwave.authorization import emergency as emergencies
from patchwave.authorization.approvals import Found, Request
from patchwave.authorization.emergency import Emergency
from patchwave.authorization.promotion import Proof
from patchwave.base import clock
from patchwave.base.model import Model
from patchwave.base.names import Sha256
from patchwave.calendar.windows import Calendar, Instant
from patchwave.config.order import Named
from patchwave.config.settings import Settings, load_stack
from patchwave.config.standard import Severity, StackName, StackRules, Standard, read_standard
from patchwave.evidence import signing
from patchwave.releases import quarantine, waivers
from patchwave.releases.release import Release, ReleaseId


class Subject(Model):
    """The release that is to be carried out."""

    id: ReleaseId
    digest: Sha256
    author: str
    severities: tuple[Severity, ...]


class Inputs(Model):
    """Everything that a decision depends on: the same inputs give the same decision, at any later time.

    `standard_digest` is that of the standard's file, `ordered_standard` the one that the work was ordered under, where
    it was. `real` is `at` by the real clock, which differs in a rehearsal.
    """

    stack: StackName
    at: Instant
    real: Instant
    needs: timedelta
    settings: Settings
    release: Subject
    quarantined: tuple[quarantine.Entry, ...]
    proof: Proof | None
    criteria: tuple[criteria.Finding, ...]
    waivers: tuple[waivers.Found, ...]
    approvals: tuple[Found, ...]
    emergency: Emergency | None
    standard: Standard
    standard_digest: Sha256
    ordered_standard: Sha256 | None
    signers: Sha256 | None
    rehearsal: bool

    @property
    def calendar(self) -> Calendar:
        """The stack's calendar with the standard's freezes."""
        return self.standard.calendar(self.stack, self.settings.calendar)

    @property
    def rules(self) -> StackRules:
        """The standard's rules for the stack."""
        return self.standard.stacks[self.stack]

    @property
    def request(self) -> Request:
        """What every approval of this decision must be good for."""
        return Request(
            stack=self.stack,
            digest=self.release.digest,
            author=self.release.author,
            at=self.at,
            until=self.at + self.needs,
            roles=self.standard.roles,
            valid=self.standard.approvals.valid,
            rehearsal=self.rehearsal,
        )


def subject(release: Release, standard: Standard) -> Subject:
    """What a decision needs of a release; a fix never counts as less than its score, or the lack of one, makes it."""
    advisories = release.advisories
    found = {standard.worst([a.severity, standard.severity(a.cvss, exploited=a.exploited)]) for a in advisories}
    known = {advisory.id for advisory in advisories}
    if any(known.isdisjoint(package.advisories) for package in release.packages):
        found.add(standard.unscored)
    severities = tuple(row.severity for row in standard.sla if row.severity in found)
    return Subject(id=release.id, digest=release.digest, author=release.author, severities=severities)


def gather(
    project: Path,
    stack: StackName,
    release: Release,
    relied: Sequence[Named],
    settings: Settings,
    *,
    standard: Sha256 | None = None,
    needs: timedelta,
    at: datetime,
    environ: Mapping[str, str] = os.environ,
) -> Inputs:
    """The inputs of a decision at an instant: what was ordered, and the project's files as they are now.

    `relied` are the waivers that the order names, `standard` the digest of the standard that it was made under.
    UsageError for a stack that the standard does not name.
    """
    rules, digest = read_standard(project)
    source = rules.stack(stack).promoted_from
    signers = signing.allowed_signers(project, environ)
    return Inputs(
        stack=stack,
        at=at,
        real=at - (clock.shift(environ) or timedelta(0)),
        needs=needs,
        settings=settings,
        release=subject(release, rules),
        quarantined=quarantine.load(project).of(release),
        criteria=promotion.findings(project, source, release, rules, signers, at) if source else (),
        waivers=waivers.relied(project, relied, rules, release),
        proof=promotion.prove(project, source, release.id, signers) if source else None,
        approvals=approvals.read(project, release.id, stack, signers, at),
        emergency=emergencies.of_release(project, release.digest, signers, at),
        standard=rules,
        standard_digest=digest,
        ordered_standard=standard,
        signers=sha256(signers.read_bytes()).hexdigest() if signers else None,
        rehearsal=clock.is_sandbox(environ),
    )


def from_files(
    project: Path,
    stack: StackName,
    release: Release,
    *,
    needs: timedelta = timedelta(0),
    at: datetime,
    environ: Mapping[str, str] = os.environ,
) -> Inputs:
    """The inputs of a decision by the stack's file as it is now, for commands that carry nothing out."""
    file = load_stack(project, stack)
    relied = waivers.references(project, file.waivers)
    return gather(project, stack, release, relied, file.settings, needs=needs, at=at, environ=environ)


def record(before: str, inputs: Inputs, decision: Model, earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The data of a `decision` record: of the inputs, what the run's earlier decisions have not recorded already."""
    known = recorded(earlier)
    plain = inputs.model_dump(mode="json")
    fresh = {key: value for key, value in plain.items() if key not in known or known[key] != value}
    return {"before": before, "inputs": fresh, "decision": decision.model_dump(mode="json")}


def recorded(decisions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The inputs of the last of these decisions of one run, as plain values."""
    return {key: value for data in decisions for key, value in data["inputs"].items()}
