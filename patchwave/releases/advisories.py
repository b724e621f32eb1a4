"""What is publicly known of vulnerabilities, as a file in git: read without a network, changed by `feeds` only."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, ValidationError

from patchwave.base.errors import Refused, UsageError
from patchwave.base.model import Model, first_problem
from patchwave.base.names import Cve, PackageName, Sha256, Version, digest
from patchwave.calendar.windows import Instant
from patchwave.config.standard import Severity, Standard

FILE = Path("advisories") / "store.json"

RecordId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9:._-]{0,99}$")]
Score = Annotated[float, Field(ge=0.0, le=10.0)]


class Vulnerability(Model):
    """The base score that one record gives to a CVE, and the CVSS version that it is of."""

    record: RecordId
    modified: Instant
    cve: Cve
    cvss: Score
    cvss_version: Annotated[int, Field(ge=2, le=4)]
    vector: Annotated[str, Field(max_length=500)]


class Notice(Model):
    """A distribution's announcement that this version of a source package fixes these CVEs."""

    record: RecordId
    modified: Instant
    published: Instant
    source: PackageName
    version: Version
    cves: tuple[Cve, ...]


class Exploited(Model):
    """CVEs by the day on which they became known to be exploited, as one release of the catalogue has them."""

    catalog: str
    released: Instant
    since: dict[Cve, date]


class Store(Model):
    """`advisories/store.json`: sorted, so that a review shows what an import brought; `digest` covers the rest."""

    exploited: Exploited | None
    notices: tuple[Notice, ...]
    vulnerabilities: tuple[Vulnerability, ...]
    digest: Sha256


class Knowledge(NamedTuple):
    """A store as it is read: scores and exploitation by CVE, publication and CVEs by source package and version."""

    scores: Mapping[str, float]
    exploited: frozenset[str]
    published: Mapping[tuple[str, str], datetime]
    cves: Mapping[tuple[str, str], tuple[str, ...]]


NOTHING = Knowledge({}, frozenset(), {}, {})


class Assessment(Model):
    """What a fix counts as; `cvss` is the highest score known of its CVEs, None where none is."""

    cvss: Score | None
    exploited: bool
    severity: Severity
    published: Instant


def assess(
    source: str, version: str, cves: Iterable[str], published: datetime, knowledge: Knowledge, standard: Standard
) -> Assessment:
    """A fix joined with what is known; `published` counts unless a notice dates the fix.

    The worst of its CVEs decides; one without a score counts as the standard's `unscored`, and so does a fix that
    names no CVE.
    """
    scores = {cve: knowledge.scores.get(cve) for cve in cves}
    severities = [standard.severity(score, exploited=cve in knowledge.exploited) for cve, score in scores.items()]
    return Assessment(
        cvss=max((score for score in scores.values() if score is not None), default=None),
        exploited=not knowledge.exploited.isdisjoint(scores),
        severity=standard.worst(severities or [standard.unscored]),
        published=knowledge.published.get((source, version), published),
    )


def knowledge(store: Store) -> Knowledge:
    """A store's indexes: of a CVE's scores the newest CVSS version counts, and of that the highest."""
    best: dict[str, tuple[int, float]] = {}
    for known in store.vulnerabilities:
        best[known.cve] = max(best.get(known.cve, (0, 0.0)), (known.cvss_version, known.cvss))
    published: dict[tuple[str, str], datetime] = {}
    cves: dict[tuple[str, str], tuple[str, ...]] = {}
    for notice in store.notices:
        key = (notice.source, notice.version)
        published[key] = min(published.get(key, notice.published), notice.published)
        cves[key] = tuple(sorted({*cves.get(key, ()), *notice.cves}))
    exploited = frozenset(store.exploited.since if store.exploited else ())
    return Knowledge({cve: score for cve, (_, score) in best.items()}, exploited, published, cves)


def read(project: Path) -> Store:
    """The project's store, an empty one where there is none; Refused when it was edited by hand."""
    path = project / FILE
    if not path.exists():
        return seal(None, (), ())
    try:
        store = Store.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UsageError(f"{path}: {first_problem(error)}: restore it from git") from None
    if digest(store.model_dump(mode="json")) != store.digest:
        raise Refused(f"{path} was edited by hand (digest does not match): restore it from git, or import again")
    return store


def seal(exploited: Exploited | None, notices: Iterable[Notice], vulnerabilities: Iterable[Vulnerability]) -> Store:
    """The one store of this content, in whatever order it comes."""
    draft = Store(
        exploited=exploited and exploited.model_copy(update={"since": dict(sorted(exploited.since.items()))}),
        notices=tuple(sorted(notices, key=lambda n: (n.source, n.version, n.record))),
        vulnerabilities=tuple(sorted(vulnerabilities, key=lambda v: (v.cve, v.record))),
        digest="0" * 64,
    )
    return draft.model_copy(update={"digest": digest(draft.model_dump(mode="json"))})


@cache
def load(project: Path) -> Knowledge:
    """What the project's store knows."""
    return knowledge(read(project))
