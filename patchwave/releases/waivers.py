"""Waivers: one typed object in git for what need not be patched, where, why, for how long and who agreed.

Everything that follows from it is a function of the waivers and an instant, so that at its expiry all of it goes back
together: the hold on a host, Update Manager's exclusion, the scanner's ignored finding, the paused due time, the line
of the report.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from patchwave.azure.inventory import Host
from patchwave.base import clock
from patchwave.base.documents import load_yaml
from patchwave.base.errors import PatchwaveError, Refused
from patchwave.base.model import Model
from patchwave.base.names import digest
from patchwave.calendar.windows import Instant
from patchwave.config.order import Named
from patchwave.config.settings import Settings
from patchwave.config.standard import Person, Role, Severity, StackName, Standard
from patchwave.releases.release import Advisory, Release

FOLDER = "waivers"
MILDEST_FIRST: tuple[Severity, ...] = ("low", "medium", "high", "critical")

WaiverId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{2,40}$")]
AdvisoryRef = Annotated[str, Field(pattern=r"^(?:CVE-\d{4}-\d{4,}|[a-z0-9][a-z0-9+.-]+/[A-Za-z0-9][A-Za-z0-9.+:~-]*)$")]
# A mask has three letters before its star: fewer would waive half of a system.
PackageMask = Annotated[str, Field(pattern=r"^(?:[a-z0-9][a-z0-9+.-]+|[a-z0-9][a-z0-9+.-]{2,}\*)$")]
HostMask = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*\*?$")]
FleetName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,30}$")]
State = Literal["active", "expired", "not-yet", "refused"]


class Scope(Model):
    """What is waived and where; each list that is given narrows, one that is not given means all."""

    advisories: Annotated[tuple[AdvisoryRef, ...], Field(min_length=1)] | None = None
    packages: Annotated[tuple[PackageMask, ...], Field(min_length=1)] | None = None
    stacks: Annotated[tuple[StackName, ...], Field(min_length=1)]
    fleets: Annotated[tuple[FleetName, ...], Field(min_length=1)] | None = None
    hosts: Annotated[tuple[HostMask, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _of_something(self) -> Self:
        if self.advisories is None and self.packages is None:
            raise ValueError("it names neither advisories nor packages: everything would be waived")
        return self


class Agreed(Model):
    """Who agreed, in which role."""

    role: Role
    person: Person


class Waiver(Model):
    """One exception; it counts from `granted` until `expires`, for fixes no more severe than `severity`."""

    id: WaiverId
    scope: Scope
    severity: Severity
    owner: Person
    reason: Annotated[str, Field(min_length=10, max_length=500, pattern=r"^[^\r\n]+$")]
    granted: Instant
    expires: Instant
    approved_by: Annotated[tuple[Agreed, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.expires <= self.granted:
            raise ValueError(f"it expires {clock.iso(self.expires)}, before it is granted")
        return self

    @model_validator(mode="after")
    def _by_others(self) -> Self:
        people = [agreed.person.casefold() for agreed in self.approved_by]
        if self.owner.casefold() in people:
            raise ValueError(f"{self.owner} owns it and approves it: somebody else must")
        if len(set(people)) != len(people):
            raise ValueError("one person approves it twice: each role needs a person of its own")
        return self

    @property
    def reference(self) -> Named:
        """Its id with a digest of what it covers and where: a wave is carried out again when that changes."""
        return Named(id=self.id, digest=digest(self.model_dump(mode="json", include={"scope", "severity"})))

    def complaints(self, standard: Standard) -> Iterator[str]:
        """What makes it wider than the standard allows."""
        if unknown := next((name for name in self.scope.stacks if name not in standard.stacks), None):
            yield f"scope.stacks names {unknown!r}: the standard names {', '.join(standard.stacks)}"
        longest, lasts = standard.waiver_longest.of(self.severity), self.expires - self.granted
        if lasts > longest:
            yield f"it lasts {_days(lasts)}, {_days(longest)} are allowed for {self.severity}"
        roles = {agreed.role for agreed in self.approved_by}
        if missing := [role for role in standard.approvers(self.severity) if role not in roles]:
            yield f"{' and '.join(missing)} must approve a waiver of severity {self.severity}"
        for agreed in self.approved_by:
            if agreed.person not in standard.roles.get(agreed.role, ()):
                yield f"{agreed.person} is not {agreed.role} by the standard"

    def state(self, now: datetime) -> State:
        """Whether it counts at an instant; `expires` is the first at which it does not."""
        return "not-yet" if now < self.granted else "active" if now < self.expires else "expired"

    def names(self, package: str, advisory: Advisory) -> bool:
        """Whether its scope holds this fix of this package, however severe; of an advisory, all CVEs must be named."""
        scope = self.scope
        if scope.packages is not None and not any(fnmatchcase(package, mask) for mask in scope.packages):
            return False
        if scope.advisories is None or advisory.id in scope.advisories:
            return True
        return bool(advisory.cves) and set(advisory.cves) <= set(scope.advisories)

    def covers(self, package: str, advisory: Advisory) -> bool:
        """Whether this fix of this package need not be brought."""
        mild = MILDEST_FIRST.index(advisory.severity) <= MILDEST_FIRST.index(self.severity)
        return mild and self.names(package, advisory)

    def reaches(self, stack: StackName, host: Host) -> bool:
        """Whether its scope holds a host."""
        scope = self.scope
        return (
            stack in scope.stacks
            and (scope.fleets is None or host.fleet in scope.fleets)
            and (scope.hosts is None or any(fnmatchcase(host.name, mask) for mask in scope.hosts))
        )

    def reaches_all(self, stack: StackName, fleets: Collection[str]) -> bool:
        """Whether its scope holds every host of these fleets."""
        scope = self.scope
        whole = scope.hosts is None and (scope.fleets is None or set(fleets) <= set(scope.fleets))
        return stack in scope.stacks and whole


class Found(Model):
    """A waiver as it stands in git; `problem` is why it is malformed, or wider than the standard allows."""

    id: str
    waiver: Waiver | None
    problem: str | None

    def concerns(self, stack: StackName) -> bool:
        """Whether it is for a stack, or may be: a malformed one has no scope."""
        return self.waiver is None or stack in self.waiver.scope.stacks

    def state(self, now: datetime) -> State:
        """Whether it counts at an instant."""
        return "refused" if self.waiver is None or self.problem else self.waiver.state(now)


def read(project: Path, standard: Standard) -> tuple[Found, ...]:
    """Every file of `waivers/`, the bad ones too."""
    paths = [path for path in (project / FOLDER).glob("*") if path.suffix in (".yaml", ".yml", ".json")]
    return tuple(_found(path, standard) for path in sorted(paths))


def _found(path: Path, standard: Standard) -> Found:
    waiver, problem = None, None
    try:
        waiver = load_yaml(path, Waiver)
    except PatchwaveError as error:
        problem = re.sub(r"^:(\d+): ", r"line \1: ", str(error).removeprefix(str(path))).removeprefix(": ")
    if waiver is not None:
        wrong_name = f"it holds {waiver.id}: name the file {waiver.id}.yaml"
        problem = next(waiver.complaints(standard), None) if path.name == f"{waiver.id}.yaml" else wrong_name
    return Found(id=path.stem, waiver=waiver, problem=problem)


def load(project: Path, standard: Standard) -> tuple[Waiver, ...]:
    """Every waiver; Refused names the first that is none or too wide, because what it is meant for is unknown."""
    found = read(project, standard)
    refuse_bad(found)
    return tuple(one.waiver for one in found if one.waiver is not None)


def refuse_bad(found: Iterable[Found]) -> None:
    """Refused names the first file that is no waiver, or too wide."""
    for one in found:
        if one.problem is not None:
            raise Refused(f"{FOLDER}/{one.id}.yaml: {one.problem}: fix it or take it out")


def references(project: Path, ids: Iterable[str]) -> tuple[Named, ...]:
    """The waivers of these ids as an order names them; Refused for one that is missing or none."""
    return tuple(waiver.reference for waiver in named(project, ids))


def relied(project: Path, ordered: Iterable[Named], standard: Standard, release: Release | None) -> tuple[Found, ...]:
    """The waivers of an order as they stand in git, each with why it may not be relied on.

    That is a file which is missing, covers something else than what was ordered, or is too mild for a fix of the
    release.
    """
    known = {one.id: one for one in read(project, standard)}
    found = []
    for one in ordered:
        file = known.get(one.id) or Found(id=one.id, waiver=None, problem=f"there is no such file in {FOLDER}/")
        problem = file.problem or _too_mild(file.waiver, release)
        if file.waiver is not None and file.waiver.reference != one:
            problem = problem or "it covers something else than when this was ordered"
        found.append(file.model_copy(update={"problem": problem}))
    return tuple(found)


def _too_mild(waiver: Waiver | None, release: Release | None) -> str | None:
    for package, advisory in _fixes(release) if waiver else ():
        if waiver and waiver.names(package, advisory) and not waiver.covers(package, advisory):
            return f"it is for {waiver.severity} fixes, and {advisory.id} of {package} is {advisory.severity}"
    return None


def objections(found: Iterable[Found], stack: StackName, now: datetime) -> Iterator[str]:
    """Why a stack may not rely on these waivers now: one is missing, malformed, too wide, too mild or not active."""
    for one in found:
        where = f"{stack} relies on waiver {one.id}"
        fix = f"renew it, or take it back with `patchwave waivers --stack {stack} --pin`"
        waiver = one.waiver
        if waiver is None or one.problem is not None:
            yield f"{where}, which does not hold ({one.problem}): fix its file, or {fix}"
        elif stack not in waiver.scope.stacks:
            yield f"{where}, which is for {', '.join(waiver.scope.stacks)}: {fix}"
        elif waiver.state(now) == "expired":
            yield f"{where}, which expired {clock.iso(waiver.expires)}: {fix}"
        elif waiver.state(now) == "not-yet":
            yield f"{where}, which begins {clock.iso(waiver.granted)}: {fix}"


def require(
    project: Path, stack: StackName, ids: Iterable[str], release: Release | None, standard: Standard, now: datetime
) -> tuple[Waiver, ...]:
    """The waivers that a stack file names; Refused with the first objection."""
    found = relied(project, references(project, ids), standard, release)
    for objection in objections(found, stack, now):
        raise Refused(objection)
    return tuple(one.waiver for one in found if one.waiver is not None)


def _fixes(release: Release | None) -> Iterator[tuple[str, Advisory]]:
    if release is not None:
        by_id = {advisory.id: advisory for advisory in release.advisories}
        for package in release.packages:
            for key in package.advisories:
                yield package.name, by_id[key]


def resolve(waivers: Sequence[Waiver], stack: StackName, settings: Settings, now: datetime) -> tuple[Waiver, ...]:
    """Those that a stack file should name now, by id; Refused when one holds no fleet of the stack, or could not be
    kept by Update Manager."""
    mine = [waiver for waiver in active(waivers, now) if stack in waiver.scope.stacks]
    scheduled = {name for name, fleet in settings.fleets.items() if fleet.method == "update_manager"}
    for waiver in mine:
        fleets = waiver.scope.fleets
        if fleets is not None and not settings.fleets.keys() & set(fleets):
            raise Refused(
                f"waiver {waiver.id} names {', '.join(fleets)}, and {stack} has {', '.join(settings.fleets)}: correct "
                "scope.fleets, or take the stack out of scope.stacks"
            )
        touched = scheduled & set(waiver.scope.fleets or scheduled)
        if touched and not waiver.reaches_all(stack, scheduled):
            raise Refused(
                f"waiver {waiver.id} names single hosts or fleets, and {', '.join(sorted(touched))} is left to Update "
                "Manager, which excludes for a whole schedule: waive all of its fleets, or patch them by playbook"
            )
    return tuple(sorted(mine, key=lambda waiver: waiver.id))


def named(project: Path, ids: Iterable[str]) -> tuple[Waiver, ...]:
    """The waivers of these ids as they stand in git, whatever the time; Refused names one that is missing or none."""
    found = []
    for name in ids:
        if not re.fullmatch(r"[A-Za-z0-9-]+", name):
            raise Refused(f"waiver {name}: write the id of a file in {FOLDER}/, such as W-2026-001")
        try:
            found.append(load_yaml(project / FOLDER / f"{name}.yaml", Waiver))
        except PatchwaveError as error:
            raise Refused(f"waiver {name}: {error}") from None
    return tuple(found)


def active(waivers: Iterable[Waiver], now: datetime) -> tuple[Waiver, ...]:
    """Those that count at an instant."""
    return tuple(waiver for waiver in waivers if waiver.state(now) == "active")


def waived(waivers: Sequence[Waiver], release: Release) -> dict[str, Waiver]:
    """The release's packages that need not be brought, each with the waiver for it that expires first.

    A package is waived when each of its advisories is covered by one of the waivers.
    """
    by_id = {advisory.id: advisory for advisory in release.advisories}
    found: dict[str, Waiver] = {}
    for package in release.packages:
        covering = [[w for w in waivers if w.covers(package.name, by_id[key])] for key in package.advisories]
        if covering and all(covering):
            found[package.name] = min((w for some in covering for w in some), key=lambda w: (w.expires, w.id))
    return found


def excused(
    waivers: Sequence[Waiver], release: Release, *, stack: StackName, fleets: Collection[str], now: datetime
) -> frozenset[str]:
    """The advisories of a release that no host of these fleets need have now."""
    mine = [waiver for waiver in active(waivers, now) if waiver.reaches_all(stack, fleets)]
    left = waived(mine, release)
    needed = {key for package in release.packages if package.name not in left for key in package.advisories}
    return frozenset(advisory.id for advisory in release.advisories) - needed


class Holds(Model):
    """What one host must hold, by the waiver of each package, and which waivers keep older holds in place."""

    packages: dict[str, str]
    waivers: tuple[str, ...]


def holds(waivers: Sequence[Waiver], release: Release, *, stack: StackName, host: Host, now: datetime) -> Holds:
    """The holds that a wave puts on a host; whatever else a wave has put there before is lifted."""
    mine = [waiver for waiver in active(waivers, now) if waiver.reaches(stack, host)]
    packages = {name: waiver.id for name, waiver in waived(mine, release).items()}
    return Holds(packages=packages, waivers=tuple(waiver.id for waiver in mine))


def package_excludes(
    waivers: Sequence[Waiver], *, stack: StackName, fleets: Collection[str], release: Release | None
) -> tuple[str, ...]:
    """The package masks that Update Manager must not install on the fleets that are left to it.

    It reads no clock: the waivers are those that the stack file names, and policy refuses one that has expired.
    """
    mine = [waiver for waiver in waivers if waiver.reaches_all(stack, fleets)]
    masks = {mask for waiver in mine if waiver.scope.advisories is None for mask in waiver.scope.packages or ()}
    return tuple(sorted(masks | set(waived(mine, release) if release else ())))


def trivy_ignores(
    waivers: Sequence[Waiver], release: Release | None, *, stack: StackName, fleets: Collection[str], now: datetime
) -> dict[str, list[dict[str, Any]]]:
    """The content of a `.trivyignore.yaml` for scans of these fleets; waivers of only some of their hosts are left out.

    https://trivy.dev/latest/docs/configuration/filtering/
    """
    rows: list[dict[str, Any]] = []
    for waiver in active(waivers, now):
        if not waiver.reaches_all(stack, fleets):
            continue
        packages: dict[str, set[str]] = {}
        for package, advisory in _fixes(release):
            for cve in advisory.cves if waiver.covers(package, advisory) else ():
                packages.setdefault(cve, set()).add(package)
        common = {"statement": f"{waiver.id}: {waiver.reason}", "expired_at": clock.iso(waiver.expires)}
        if waiver.scope.packages is not None:
            rows += [{"id": cve, "purls": _purls(packages[cve]), **common} for cve in sorted(packages)]
        else:
            cves = {ref for ref in waiver.scope.advisories or () if ref.startswith("CVE-")}
            rows += [{"id": cve, **common} for cve in sorted(cves | set(packages))]
    return {"vulnerabilities": rows}


def _purls(packages: Iterable[str]) -> list[str]:
    return [f"pkg:deb/{system}/{package}" for package in sorted(packages) for system in ("debian", "ubuntu")]


def pauses(
    waivers: Iterable[Waiver], stack: StackName, now: datetime
) -> Callable[[Host, str, Advisory, datetime], tuple[datetime, bool]]:
    """When a fix of a package on a host is due with the time of its waivers left out, and whether it may wait now.

    `due` is the instant at which the fix is due without them.
    """
    mine = [waiver for waiver in waivers if stack in waiver.scope.stacks]

    def paused(host: Host, package: str, advisory: Advisory, due: datetime) -> tuple[datetime, bool]:
        reaching = [waiver for waiver in mine if waiver.reaches(stack, host)]
        waits = any(waiver.state(now) == "active" and waiver.covers(package, advisory) for waiver in reaching)
        return postponed(reaching, package, advisory, due), waits

    return paused


def postponed(waivers: Iterable[Waiver], package: str, advisory: Advisory, due: datetime) -> datetime:
    """When a fix that is due at an instant is due with the time left out for which these waivers cover it.

    A waiver that begins when it is overdue changes nothing.
    """
    until = advisory.published
    for waiver in sorted((one for one in waivers if one.covers(package, advisory)), key=lambda one: one.granted):
        starts = max(waiver.granted, until)
        if starts < due and waiver.expires > starts:
            due, until = due + (waiver.expires - starts), waiver.expires
    return due


def line(waiver: Waiver, now: datetime) -> str:
    """A waiver in a report."""
    return (
        f"{waiver.id} ({waiver.state(now)}, {waiver.severity}) waives {described(waiver.scope)} "
        f"until {waiver.expires:%Y-%m-%d %H:%M} UTC: {waiver.reason} ({waiver.owner})"
    )


def described(scope: Scope) -> str:
    """A scope in words."""
    what = ", ".join((*(scope.advisories or ()), *(scope.packages or ())))
    if scope.advisories and scope.packages:
        what = f"{', '.join(scope.advisories)} of {', '.join(scope.packages)}"
    where = ", ".join(scope.hosts or scope.fleets or ("all hosts",))
    return f"{what} on {where} in {', '.join(scope.stacks)}"


def shown(found: Found, now: datetime) -> dict[str, Any]:
    """One file as `patchwave waivers --json` prints it."""
    rest: Mapping[str, Any] = {} if found.waiver is None else found.waiver.model_dump(mode="json")
    return {"id": found.id, **rest, "state": found.state(now), "problem": found.problem}


def _days(span: timedelta) -> str:
    return f"{span.total_seconds() / 86400:g} days"
