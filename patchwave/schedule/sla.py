"""When each fix is due on each host, and whether it has come there."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from pydantic_core import to_jsonable_python

from patchwave.azure.inventory import Host
from patchwave.base.clock import iso
from patchwave.config.settings.fleets import Method
from patchwave.config.standard import Severity, Standard
from patchwave.methods.versions import reaches
from patchwave.releases.advisories import Knowledge, assess
from patchwave.releases.release import Advisory, Key, Pending, Release

State = Literal["fixed", "due", "overdue", "waived", "fix-unavailable", "undated"]


class Fix(NamedTuple):
    """The version of a package that fixes an advisory; not `dated` where nothing dates the fix."""

    package: str
    version: str
    advisory: Advisory
    dated: bool
    method: Method = "apt"


class Scan(NamedTuple):
    """The versions that a host has, and those that its apt offers for what it has."""

    installed: Mapping[str, str]
    offered: Mapping[str, str]


class Item(NamedTuple):
    """One fix on one host; `overdue` is for how long it has been missing after it was due."""

    host: str
    package: str
    advisory: str
    cves: tuple[str, ...]
    cvss: float | None
    severity: Severity
    published: datetime | None
    due: datetime | None
    state: State
    overdue: timedelta | None

    def plain(self) -> dict[str, Any]:
        """The item as JSON data: instants in UTC, `overdue` as an ISO 8601 duration."""
        times = {"published": self.published and iso(self.published), "due": self.due and iso(self.due)}
        return {**self._asdict(), **times, "overdue": self.overdue and to_jsonable_python(self.overdue)}


# What waivers make of a fix of a package on a host that is due at an instant: when it is due, and whether it may wait.
Waived = Callable[[Host, str, Advisory, datetime], tuple[datetime, bool]]


def current(advisory: Advisory, knowledge: Knowledge, standard: Standard) -> Advisory:
    """A sealed advisory with what has become known since; where nothing is known, as it was sealed."""
    known = any(cve in knowledge.scores or cve in knowledge.exploited for cve in advisory.cves)
    if not known and (advisory.source, advisory.version) not in knowledge.published:
        return advisory
    found = assess(advisory.source, advisory.version, advisory.cves, advisory.published, knowledge, standard)
    return advisory.model_copy(update=found.model_dump())


def sealed_fixes(releases: Iterable[Release], knowledge: Knowledge, standard: Standard) -> list[Fix]:
    """Every fix that a release brings, as it counts now."""
    found: dict[tuple[Key, str, str], Fix] = {}
    for release in releases:
        by_id = {advisory.id: current(advisory, knowledge, standard) for advisory in release.advisories}
        for package in release.packages:
            for key in package.advisories:
                fix = Fix(package.name, package.to, by_id[key], dated=True, method=package.method)
                found[package.key, package.to, key] = fix
    return [found[key] for key in sorted(found)]


def unsealed_fixes(
    pending: Iterable[Pending], sealed: Iterable[Fix], knowledge: Knowledge, standard: Standard, at: datetime
) -> list[Fix]:
    """The security updates that hosts are offered and no release brings yet, with what notices hold about them."""
    known = {((fix.method, fix.package), fix.version) for fix in sealed}
    found: dict[tuple[Key, str], Fix] = {}
    for update in pending:
        key = (update.key, update.to)
        if key in known or key in found or not standard.is_security(update.origin, update.label):
            continue
        notice = (update.source, update.to)
        cves = knowledge.cves.get(notice, ())
        assessed = assess(update.source, update.to, cves, at, knowledge, standard)
        name = f"{update.source}/{update.to}"
        advisory = Advisory(id=name, source=update.source, version=update.to, cves=cves, **assessed.model_dump())
        found[key] = Fix(update.name, update.to, advisory, notice in knowledge.published, update.method)
    return [found[key] for key in sorted(found)]


def items(
    hosts: Iterable[Host],
    scans: Mapping[str, Scan],
    fixes: Iterable[Fix],
    standard: Standard,
    at: datetime,
    waived: Waived,
) -> Iterator[Item]:
    """Each fix on each host that has the package at all, by host, package and version."""
    dated = [(fix, standard.due(fix.advisory.published, fix.advisory.severity)) for fix in fixes]
    for host in hosts:
        scan = scans[host.name]
        for fix, due in dated:
            if fix.method == host.method and (installed := scan.installed.get(fix.package)) is not None:
                offered = scan.offered.get(fix.package)
                yield _item(host, fix, installed, offered, *waived(host, fix.package, fix.advisory, due), at)


def _item(host: Host, fix: Fix, installed: str, offered: str | None, due: datetime, waived: bool, at: datetime) -> Item:
    state = _state(fix, installed, offered, due, waived, at)
    missed = state in ("overdue", "fix-unavailable") and fix.dated and at > due
    advisory = fix.advisory
    return Item(
        host=host.name,
        package=fix.package,
        advisory=advisory.id,
        cves=advisory.cves,
        cvss=advisory.cvss,
        severity=advisory.severity,
        published=advisory.published if fix.dated else None,
        due=due if fix.dated else None,
        state=state,
        overdue=at - due if missed else None,
    )


def _state(fix: Fix, installed: str, offered: str | None, due: datetime, waived: bool, at: datetime) -> State:
    if reaches(fix.method, installed, fix.version):
        return "fixed"
    if waived:
        return "waived"
    if offered is None or not reaches(fix.method, offered, fix.version):
        return "fix-unavailable"
    if not fix.dated:
        return "undated"
    return "overdue" if at > due else "due"
