"""Brings the field's public files into the advisory store; nothing in them is used before it has been parsed.

OSV records (https://ossf.github.io/osv-schema/), one a JSON file, a folder or a zip of them, and CISA's catalogue of
known exploited vulnerabilities (https://www.cisa.gov/known-exploited-vulnerabilities-catalog).
"""

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar
from zipfile import BadZipFile, ZipFile

from cvss import CVSS2, CVSS3, CVSS4
from cvss.exceptions import CVSSError
from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from patchwave.base.errors import UsageError
from patchwave.base.model import Model, first_problem
from patchwave.base.names import Cve
from patchwave.calendar.windows import Instant
from patchwave.releases.advisories import FILE, Exploited, Notice, RecordId, Store, Vulnerability, read, seal
from patchwave.releases.release import Release

DISTRIBUTIONS = frozenset({"Debian", "Ubuntu"})
LARGEST = 256 * 2**20
OF_A_CVE = re.compile(r"(?:[A-Z]+-)?(CVE-[0-9]{4}-[0-9]{4,})")
SCORERS = {"CVSS_V2": (2, CVSS2), "CVSS_V3": (3, CVSS3), "CVSS_V4": (4, CVSS4)}

Unread = Any
M = TypeVar("M", bound=Model)


class Severity(Model):
    """A vector; a type that is no CVSS, such as Ubuntu's own, is left aside."""

    type: str
    score: str


class Event(Model):
    """One end of a range of versions."""

    introduced: str | None = None
    fixed: str | None = None
    last_affected: str | None = None
    limit: str | None = None


class Range(Model):
    """From which version to which a package is vulnerable."""

    type: Literal["ECOSYSTEM", "SEMVER", "GIT"]
    repo: str | None = None
    events: tuple[Event, ...]
    database_specific: Unread = None


class OsvPackage(Model):
    """A package of an ecosystem; of `Debian:12` or `Ubuntu:24.04:LTS` it is a source package."""

    ecosystem: str
    name: str
    purl: str | None = None


class Affected(Model):
    """One package of a record."""

    package: OsvPackage | None = None
    severity: tuple[Severity, ...] | None = None
    ranges: tuple[Range, ...] = ()
    versions: Unread = None
    ecosystem_specific: Unread = None
    database_specific: Unread = None


class OsvRecord(Model):
    """One OSV record."""

    schema_version: str | None = None
    id: RecordId
    modified: Instant
    published: Instant | None = None
    withdrawn: Instant | None = None
    aliases: tuple[str, ...] | None = None
    upstream: tuple[str, ...] | None = None
    related: tuple[str, ...] | None = None
    summary: Unread = None
    details: Unread = None
    severity: tuple[Severity, ...] | None = None
    affected: tuple[Affected, ...] | None = None
    references: Unread = None
    credits: Unread = None
    database_specific: Unread = None


class KevEntry(Model):
    """A vulnerability that is known to be exploited."""

    model_config = ConfigDict(alias_generator=to_camel)

    cve: Annotated[Cve, Field(alias="cveID")]
    since: Annotated[date, Field(alias="dateAdded")]
    vendor_project: Unread = None
    product: Unread = None
    vulnerability_name: Unread = None
    short_description: Unread = None
    required_action: Unread = None
    due_date: Unread = None
    known_ransomware_campaign_use: Unread = None
    notes: Unread = None
    cwes: Unread = None


class KevCatalog(Model):
    """CISA's whole catalogue."""

    title: Unread = None
    version: Annotated[str, Field(alias="catalogVersion")]
    released: Annotated[Instant, Field(alias="dateReleased")]
    count: int
    vulnerabilities: tuple[KevEntry, ...]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.count != len(self.vulnerabilities):
            raise ValueError(f"count says {self.count}, there are {len(self.vulnerabilities)} vulnerabilities")
        return self


class Wanted(NamedTuple):
    """What an import keeps of the distributions' records."""

    sources: frozenset[str]
    cves: frozenset[str]


class Imported(NamedTuple):
    """What an import came to; `kept` counts the records of these files that the store now holds."""

    store: Store
    records: int
    kept: int


def concerning(releases: Iterable[Release]) -> Wanted:
    """What concerns these releases: their source packages and their CVEs."""
    advisories = [advisory for release in releases for advisory in release.advisories]
    return Wanted(frozenset(a.source for a in advisories), frozenset(cve for a in advisories for cve in a.cves))


def import_files(project: Path, files: Sequence[Path], wanted: Wanted) -> Imported:
    """Reads every file and then replaces the store, or nothing: one that does not parse leaves it as it was.

    Of two states of a record the one modified last counts, and a withdrawn record counts no more. A catalogue of
    exploited vulnerabilities replaces the one before.
    """
    before = read(project)
    exploited = before.exploited
    known: dict[str, list[Notice | Vulnerability]] = {}
    kept: tuple[Notice | Vulnerability, ...] = (*before.notices, *before.vulnerabilities)
    for row in kept:
        known.setdefault(row.record, []).append(row)
    read_ids: set[str] = set()
    for where, content in _contents(files):
        if b'"catalogVersion"' in content and "catalogVersion" in _object(content, where):
            exploited = _newer(exploited, _parse(content, KevCatalog, where), where)
            continue
        record = _parse(content, OsvRecord, where)
        read_ids.add(record.id)
        if all(row.modified <= record.modified for row in known.get(record.id, [])):
            known[record.id] = [] if record.withdrawn else list(_rows(record, wanted, where))
    rows = [row for record in known.values() for row in record]
    store = seal(
        exploited,
        (row for row in rows if isinstance(row, Notice)),
        (row for row in rows if isinstance(row, Vulnerability)),
    )
    _write(project / FILE, store)
    return Imported(store, len(read_ids), sum(bool(known[record]) for record in read_ids))


def _contents(files: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """Each JSON document with the name by which a complaint calls it."""
    for path in files:
        if path.is_dir():
            for file in sorted(path.rglob("*.json")):
                yield str(file), file.read_bytes()
        elif path.suffix == ".zip":
            yield from _zipped(path)
        else:
            try:
                yield str(path), path.read_bytes()
            except OSError as error:
                raise UsageError(f"{path}: {error.strerror}: name a JSON file, a folder or a zip of them") from None


def _zipped(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with ZipFile(path) as archive:
            for entry in archive.infolist():
                if not entry.filename.endswith(".json"):
                    continue
                if entry.file_size > LARGEST:
                    raise UsageError(f"{path}: {entry.filename}: {entry.file_size} bytes: no record is that large")
                yield f"{path}: {entry.filename}", archive.read(entry)
    except (OSError, BadZipFile, zlib.error, RuntimeError) as error:
        raise UsageError(f"{path} is no readable zip ({error}): fetch it again") from None


def _object(content: bytes, where: str) -> dict[str, Any]:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise UsageError(f"{where} is no JSON object: fetch it again")
    return data


def _parse(content: bytes, model: type[M], where: str) -> M:
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise UsageError(f"{where}: {first_problem(error)}") from None


def _newer(before: Exploited | None, catalog: KevCatalog, where: str) -> Exploited:
    if before and catalog.released < before.released:
        raise UsageError(
            f"{where}: dateReleased: the store has catalogue {before.catalog}, which is newer: leave this one out"
        )
    since = {entry.cve: entry.since for entry in catalog.vulnerabilities}
    return Exploited(catalog=catalog.version, released=catalog.released, since=since)


def _rows(record: OsvRecord, wanted: Wanted, where: str) -> Iterator[Notice | Vulnerability]:
    """What the store keeps of a record."""
    theirs = [
        (f"affected.{number}", affected)
        for number, affected in enumerate(record.affected or ())
        if affected.package and affected.package.ecosystem.partition(":")[0] in DISTRIBUTIONS
    ]
    ours = [(at, affected) for at, affected in theirs if affected.package and affected.package.name in wanted.sources]
    cve = _cve(record)
    if cve is None or not OF_A_CVE.fullmatch(record.id):
        yield from _notices(record, ours, where)
    if cve is not None and (ours or cve in wanted.cves):
        vectors = [("severity", record.severity or ())]
        vectors += [(f"{at}.severity", affected.severity or ()) for at, affected in theirs]
        yield from _best(record, cve, vectors, where)


def _cve(record: OsvRecord) -> str | None:
    """The one CVE that a record is about."""
    if named := OF_A_CVE.fullmatch(record.id):
        return named[1]
    cves = {alias for alias in record.aliases or () if OF_A_CVE.fullmatch(alias)}
    return cves.pop() if len(cves) == 1 else None


def _notices(record: OsvRecord, ours: Sequence[tuple[str, Affected]], where: str) -> Iterator[Notice]:
    linked = [
        match[1] for name in (*(record.aliases or ()), *(record.upstream or ())) if (match := OF_A_CVE.fullmatch(name))
    ]
    related = [match[1] for name in record.related or () if (match := OF_A_CVE.fullmatch(name))]
    fixed = {
        (affected.package.name, event.fixed): f"{at}.ranges.{n}.events.{m}.fixed"
        for at, affected in ours
        for n, span in enumerate(affected.ranges)
        for m, event in enumerate(span.events)
        if affected.package and event.fixed
    }
    if record.published is None:
        return
    for (source, version), at in fixed.items():
        try:
            yield Notice(
                record=record.id,
                modified=record.modified,
                published=record.published,
                source=source,
                version=version,
                cves=tuple(sorted({*linked} or {*related})),
            )
        except ValidationError as error:
            raise UsageError(f"{where}: {at}: {first_problem(error)}") from None


def _best(
    record: OsvRecord, cve: str, vectors: Iterable[tuple[str, Sequence[Severity]]], where: str
) -> Iterator[Vulnerability]:
    """The record's vector of the newest CVSS version, and of several the highest."""
    scored = [
        Vulnerability(
            record=record.id,
            modified=record.modified,
            cve=cve,
            cvss=_base_score(severity, f"{where}: {at}.{number}.score"),
            cvss_version=SCORERS[severity.type][0],
            vector=severity.score,
        )
        for at, severities in vectors
        for number, severity in enumerate(severities)
        if severity.type in SCORERS
    ]
    if scored:
        yield max(scored, key=lambda row: (row.cvss_version, row.cvss))


def _base_score(severity: Severity, where: str) -> float:
    try:
        return float(SCORERS[severity.type][1](severity.score).base_score)
    except CVSSError as error:
        raise UsageError(f"{where}: {severity.score[:100]!r}: {error}: no {severity.type} vector") from None


def _write(path: Path, store: Store) -> None:
    """Replaces the file whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(json.dumps(store.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    fresh.replace(path)
