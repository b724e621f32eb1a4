"""A release: the sealed list of exact package versions that a wave may bring, and nothing else."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from patchwave.advisories import Knowledge, assess
from patchwave.calendar import Instant
from patchwave.errors import Failed, Misuse, Refused
from patchwave.model import Model
from patchwave.names import Cve, PackageName, Sha256, Version, digest
from patchwave.standard import Reversibility, Severity, Standard

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
    """One binary package: `from` is what the hosts had when the release was sealed."""

    name: PackageName
    arch: Annotated[str, Field(pattern=r"^[a-z0-9]+$")]
    from_: Annotated[Version, Field(alias="from")]
    to: Version
    sha256: Sha256
    size: Annotated[int, Field(ge=1)]
    source: PackageName
    advisories: tuple[str, ...]
    reversibility: Reversibility


class Sealed(Model):
    """Where and when the list was made."""

    stack: str
    at: Instant
    hosts: tuple[str, ...]


class Release(Model):
    """The sealed file; `digest` covers everything else in it."""

    id: ReleaseId
    sealed: Sealed
    packages: Annotated[tuple[Package, ...], Field(min_length=1)]
    advisories: tuple[Advisory, ...]
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
        raise Misuse(f"{path} is missing: commit the release that the stack file names, or name another") from None
    except ValueError as error:
        raise Misuse(f"{path} is no release: {str(error).splitlines()[0]}") from None
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
    paths = (project / "releases").glob("*.json")
    ids = sorted((path.stem for path in paths), key=lambda stem: (stem[:10], int(stem[11:] or 0)))
    return load(project, ids[-1]) if ids else None


def every(project: Path) -> tuple[Release, ...]:
    """All releases of a project."""
    return tuple(load(project, path.stem) for path in sorted((project / "releases").glob("????-??-??.*.json")))


class Pending(Model):
    """An update that one host's apt offers."""

    name: PackageName
    arch: str
    from_: Annotated[Version, Field(alias="from")]
    to: Version
    origin: str
    label: str
    suite: str
    size: int
    sha256: Sha256
    source: PackageName


class ChangelogEntry(Model):
    """One entry of a Debian changelog."""

    version: Version
    date: Instant
    urgency: str
    cves: tuple[Cve, ...]


def security_updates(pending: Mapping[str, Sequence[Pending]], standard: Standard) -> dict[str, Pending]:
    """What must be brought, by package; Failed when hosts are offered different versions of one package."""
    chosen: dict[str, Pending] = {}
    by_host: dict[str, str] = {}
    for host, updates in sorted(pending.items()):
        for update in updates:
            if not standard.is_security(update.origin, update.label):
                continue
            known = chosen.setdefault(update.name, update)
            if (known.to, known.sha256) != (update.to, update.sha256):
                raise Failed(
                    f"{update.name}: {by_host[update.name]} is offered {known.to}, {host} {update.to}: "
                    "their package lists differ, refresh them and seal again"
                )
            by_host.setdefault(update.name, host)
    return chosen


def seal(
    release_id: str,
    sealed: Sealed,
    updates: Iterable[Pending],
    changelogs: Mapping[str, Sequence[ChangelogEntry]],
    standard: Standard,
    knowledge: Knowledge,
) -> Release:
    """The release of these updates; each advisory is a source package's new changelog entries taken together."""
    advisories: dict[str, Advisory] = {}
    packages = []
    for update in sorted(updates, key=lambda u: u.name):
        entries = changelogs[update.name]
        version = entries[0].version if entries else update.to
        cves = tuple(sorted({cve for entry in entries for cve in entry.cves}))
        published = entries[0].date if entries else sealed.at
        assessed = assess(update.source, version, cves, published, knowledge, standard)
        advisory = Advisory(
            id=f"{update.source}/{version}", source=update.source, version=version, cves=cves, **assessed.model_dump()
        )
        advisories.setdefault(advisory.id, advisory)
        packages.append(
            Package.model_validate(
                {
                    **update.model_dump(by_alias=True, exclude={"origin", "label", "suite"}),
                    "advisories": (advisory.id,),
                    "reversibility": standard.reversibility_of(update.name),
                }
            )
        )
    draft = Release(
        id=release_id,
        sealed=sealed,
        packages=tuple(packages),
        advisories=tuple(advisories[key] for key in sorted(advisories)),
        digest="0" * 64,
    )
    return draft.model_copy(update={"digest": digest(draft.plain())})
