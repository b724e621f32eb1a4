"""A release: the sealed list of exact package versions that a wave may bring, and nothing else."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from patchwave.base.errors import Failed, Refused, UsageError
from patchwave.base.model import Model, first_problem
from patchwave.base.names import Cve, PackageName, Sha256, Version, digest
from patchwave.calendar.windows import Instant
from patchwave.config.settings.fleets import Method
from patchwave.config.standard import Person, Reversibility, Severity, Standard
from patchwave.releases.advisories import Knowledge, assess

Key = tuple[Method, str]
"""A method and a package's name in it: deb and rpm packages of one name have nothing to do with each other."""

ReleaseId = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}\.\d+$")]


class Advisory(Model):
    """One published fix of a source package; `cvss` is the highest score known of its CVEs, None where none is."""

    id: str
    source: PackageName
    version: Version
    cves: tuple[Cve, ...]
    cvss: float | None
    exploited: bool = False
    severity: Severity
    published: Instant


class Package(Model):
    """One binary package: `from` is what the hosts had when the release was sealed, None where it comes along new."""

    method: Method = "apt"
    name: PackageName
    arch: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    from_: Annotated[Version | None, Field(alias="from")]
    to: Version
    sha256: Sha256
    size: Annotated[int, Field(ge=1)]
    source: PackageName
    advisories: tuple[str, ...]
    reversibility: Reversibility

    @property
    def key(self) -> Key:
        return self.method, self.name


class LeftOut(Model):
    """A pending update that was not sealed, and why; `until` is None where only a newer version will do."""

    method: Method = "apt"
    name: PackageName
    to: Version
    reason: str
    until: Instant | None

    @property
    def key(self) -> Key:
        return self.method, self.name


class Sealed(Model):
    """Where and when the list was made."""

    stack: str
    at: Instant
    hosts: tuple[str, ...]


class Release(Model):
    """The sealed file; `digest` covers everything else in it."""

    id: ReleaseId
    author: Person
    sealed: Sealed
    packages: Annotated[tuple[Package, ...], Field(min_length=1)]
    advisories: tuple[Advisory, ...]
    left_out: tuple[LeftOut, ...]
    digest: Sha256

    @property
    def cves(self) -> tuple[str, ...]:
        return tuple(sorted({cve for advisory in self.advisories for cve in advisory.cves}))

    def plain(self) -> dict[str, Any]:
        """The file's JSON data."""
        data: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
        return data


def path_of(project: Path, release_id: str) -> Path:
    """The release's file."""
    return project / "releases" / f"{release_id}.json"


def load(project: Path, release_id: str) -> Release:
    """A release whose digest still holds; Refused when it was edited after sealing."""
    path = path_of(project, release_id)
    try:
        release = Release.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{path} is missing: commit the release that the stack file names, or name another") from None
    except ValidationError as error:
        raise UsageError(f"{path} is no release: {first_problem(error)}") from None
    if release.id != release_id:
        raise Refused(f"{path} holds release {release.id}: a release keeps the name under which it was sealed")
    if digest(release.plain()) != release.digest:
        raise Refused(f"{path} was edited after sealing (digest does not match): restore it from git or seal anew")
    return release


def save(project: Path, release: Release) -> Path:
    """Writes a release that was not there before."""
    path = path_of(project, release.id)
    path.parent.mkdir(exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        json.dump(release.plain(), file, indent=1, ensure_ascii=False)
        file.write("\n")
    return path


def next_id(project: Path, day: datetime) -> str:
    """The first unused id of a day."""
    number = 1
    while path_of(project, f"{day:%Y-%m-%d}.{number}").exists():
        number += 1
    return f"{day:%Y-%m-%d}.{number}"


def latest(project: Path) -> Release | None:
    """The release that was sealed last."""
    stems = [path.stem for path in (project / "releases").glob("????-??-??.*.json")]
    ids = sorted(stems, key=lambda stem: (stem[:10], int(stem[11:])))
    return load(project, ids[-1]) if ids else None


def every(project: Path) -> tuple[Release, ...]:
    """All releases of a project."""
    return tuple(load(project, path.stem) for path in sorted((project / "releases").glob("????-??-??.*.json")))


class Pending(Model):
    """An update that one host's package manager offers; `from` is None for a package that comes along new.

    `origin`, `label` and `suite` tell security updates from others: of apt they are the archive's own; dnf's origin
    is `dnf`, its suite the repository, and its label `security` where a security advisory of updateinfo names it.
    """

    method: Method = "apt"
    name: PackageName
    arch: str
    from_: Annotated[Version | None, Field(alias="from")]
    to: Version
    origin: str
    label: str
    suite: str
    trusted: bool
    size: int
    sha256: Sha256
    source: PackageName

    @property
    def key(self) -> Key:
        return self.method, self.name


class ChangelogEntry(Model):
    """One entry of a package's changelog, or one of the vendor's advisories for it."""

    version: Version
    date: Instant
    urgency: str
    cves: tuple[Cve, ...]


def security_updates(pending: Mapping[str, Sequence[Pending]], standard: Standard) -> dict[Key, Pending]:
    """What must be brought, by package; Failed when hosts are offered different ones, or one from an untrusted index.

    A package that some host does not have yet counts as new.
    """
    chosen: dict[Key, Pending] = {}
    by_host: dict[Key, str] = {}
    for host, updates in sorted(pending.items()):
        for update in updates:
            if not standard.is_security(update.origin, update.label):
                continue
            if not update.trusted:
                offer = f"{host}: {update.name} {update.to}"
                raise Failed(f"{offer} comes from an index that {update.method} does not trust: have it signed")
            known = chosen.setdefault(update.key, update)
            if (known.to, known.sha256) != (update.to, update.sha256):
                raise Failed(
                    f"{update.name}: {by_host[update.key]} is offered {known.to}, {host} {update.to}: "
                    "their package lists differ, refresh them and seal again"
                )
            if update.from_ is None:
                chosen[update.key] = update
            by_host.setdefault(update.key, host)
    return chosen


def advisory_of(
    update: Pending, entries: Sequence[ChangelogEntry], at: datetime, standard: Standard, knowledge: Knowledge
) -> Advisory:
    """What an update fixes: its source package's new changelog entries taken together, with what is known of them."""
    version = entries[0].version if entries else update.to
    cves = tuple(sorted({cve for entry in entries for cve in entry.cves}))
    published = entries[0].date if entries else at
    assessed = assess(update.source, version, cves, published, knowledge, standard)
    return Advisory(
        id=f"{update.source}/{version}", source=update.source, version=version, cves=cves, **assessed.model_dump()
    )


def seal(
    release_id: str,
    author: str,
    sealed: Sealed,
    updates: Iterable[Pending],
    changelogs: Mapping[Key, Sequence[ChangelogEntry]],
    standard: Standard,
    knowledge: Knowledge,
    left_out: Iterable[LeftOut] = (),
) -> tuple[Release | None, tuple[LeftOut, ...]]:
    """The release of these updates and all that it leaves out; None when nothing that a host has would change.

    A fix that is younger than the standard's minimum age for its severity waits, with all packages of its source.
    """
    advisories: dict[str, Advisory] = {}
    packages, waiting = [], list(left_out)
    for update in sorted(updates, key=lambda one: one.key):
        advisory = advisory_of(update, changelogs[update.key], sealed.at, standard, knowledge)
        age = standard.minimum_age.of(advisory.severity)
        if advisory.published + age > sealed.at:
            reason = f"{advisory.severity} and published {advisory.published:%Y-%m-%d}: younger than {_days(age)}"
            until = advisory.published + age
            waiting.append(LeftOut(method=update.method, name=update.name, to=update.to, reason=reason, until=until))
            continue
        advisories.setdefault(advisory.id, advisory)
        packages.append(
            Package.model_validate(
                {
                    **update.model_dump(by_alias=True, exclude={"origin", "label", "suite", "trusted"}),
                    "advisories": (advisory.id,),
                    "reversibility": standard.reversibility_of(update.name),
                }
            )
        )
    waits = tuple(sorted(waiting, key=lambda one: one.key))
    if all(package.from_ is None for package in packages):
        return None, waits
    draft = Release(
        id=release_id,
        author=author,
        sealed=sealed,
        packages=tuple(packages),
        advisories=tuple(advisories[key] for key in sorted(advisories)),
        left_out=waits,
        digest="0" * 64,
    )
    return draft.model_copy(update={"digest": digest(draft.plain())}), waits


def _days(span: timedelta) -> str:
    return f"{span.total_seconds() / 86400:g} days"
