"""The organisation's rules, read from `policy/standard.yaml`: the one place for the seeds' numbers."""

from collections.abc import Iterable, Iterator
from datetime import datetime, time, timedelta
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from patchwave.calendar import ExtraWindow, Monthly, Recurrence, Weekly, Window, Zone
from patchwave.documents import load_yaml
from patchwave.model import Model

Severity = Literal["critical", "high", "medium", "low"]
StackName = Literal["dev", "staging", "prod"]
Remedy = Literal["batch", "soak", "window", "emergency"]
Reversibility = Literal["downgrade", "dump", "snapshot"]
Percent = Annotated[int, Field(ge=0, le=100)]


class SlaRow(Model):
    """Fixes scored at or above `cvss_from` are due this long after publication."""

    severity: Severity
    cvss_from: Annotated[float, Field(ge=0.1, le=10.0)]
    due: Annotated[timedelta, Field(gt=timedelta(0))]
    approvers: Annotated[tuple[str, ...], Field(min_length=1)]


class Envelope(Model):
    """The widest window that a stack may declare."""

    recurs: Recurrence
    earliest: time
    latest: time
    lasts_at_most: timedelta
    zone: Zone

    def complaints(self, window: Window) -> Iterator[str]:
        """What makes a declared window looser than this envelope, each with its mend."""
        if not _within(window.recurs, self.recurs):
            yield f"recurs on {window.recurs}: the standard allows {self.recurs}"
        if window.lasts > self.lasts_at_most:
            yield f"lasts {window.lasts}: the standard allows at most {self.lasts_at_most}"
        if window.zone != self.zone:
            yield f"zone {window.zone}: the standard counts in {self.zone}"
        day = datetime(2000, 1, 1)
        begins = datetime.combine(day, window.starts)
        if begins < datetime.combine(day, self.earliest) or begins + window.lasts > datetime.combine(day, self.latest):
            yield (
                f"runs {window.starts:%H:%M}-{begins + window.lasts:%H:%M}: "
                f"keep it within {self.earliest:%H:%M}-{self.latest:%H:%M}"
            )

    @property
    def whole(self) -> Window:
        """The stretch that a window may not leave, as a window."""
        day = datetime(2000, 1, 1)
        lasts = datetime.combine(day, self.latest) - datetime.combine(day, self.earliest)
        return Window(recurs=self.recurs, starts=self.earliest, lasts=lasts, zone=self.zone)

    def refuses(self, extra: ExtraWindow) -> Iterator[str]:
        """What makes a dated window looser than this envelope, each with its mend."""
        around = next(self.whole.openings(extra.starts))
        if extra.starts < around.opens or extra.ends > around.closes:
            yield f"extra window {extra.reason!r} lies outside {self.whole}: keep it inside"
        if extra.ends - extra.starts > self.lasts_at_most:
            yield f"extra window {extra.reason!r} lasts {extra.ends - extra.starts}: at most {self.lasts_at_most}"


def _within(inner: Weekly | Monthly, outer: Weekly | Monthly) -> bool:
    if isinstance(inner, Weekly) and isinstance(outer, Weekly):
        return set(inner.weekdays) <= set(outer.weekdays)
    return inner == outer


class StackRules(Model):
    """What the standard asks of one stack; extra windows stay within `extra_window` and are told of `notice` ahead."""

    window: Envelope
    image_window: Envelope | None
    extra_window: Envelope
    notice: Annotated[timedelta, Field(ge=timedelta(0))]
    promoted_from: StackName | None
    soak: timedelta
    latency_increase_percent: Percent
    unattended_upgrades: bool


class Exploited(Model):
    """What a fix counts as, at least, when a vulnerability that it mends is known to be exploited."""

    counts_as: Severity


class Rollback(Model):
    """What takes a batch back; percentages are increases over the baseline."""

    error_rate_increase_percent: Percent
    latency_floor_ms: Annotated[int, Field(ge=0)]


class Rolling(Model):
    """The widest rolling-upgrade policy that a scale set may declare."""

    max_batch_percent: Percent
    max_unhealthy_percent: Percent
    max_unhealthy_upgraded_percent: Percent


class Origin(Model):
    """An apt source whose updates are security updates."""

    origin: str
    label: str


class ReversibilityRule(Model):
    """Packages (a glob) that need more than a downgrade to go back."""

    packages: str
    class_: Annotated[Reversibility, Field(alias="class")]


class Targets(Model):
    """The numbers that the monthly report is held against."""

    compliance_percent: Percent
    success_rate_percent: Percent
    overdue_critical: int
    overdue_high: int


class Standard(Model):
    """The whole standard."""

    sla: Annotated[tuple[SlaRow, ...], Field(min_length=1)]
    unscored: Severity
    exploited: Exploited
    remedies: tuple[Remedy, ...]
    stacks: dict[StackName, StackRules]
    rollback: Rollback
    rolling: Rolling
    security_origins: Annotated[tuple[Origin, ...], Field(min_length=1)]
    reversibility: tuple[ReversibilityRule, ...]
    targets: Targets

    @model_validator(mode="after")
    def _falling_scores(self) -> Self:
        scores = [row.cvss_from for row in self.sla]
        if scores != sorted(scores, reverse=True) or len(set(scores)) != len(scores):
            raise ValueError("sla rows must stand from the highest cvss_from to the lowest, each score once")
        return self

    @model_validator(mode="after")
    def _every_severity_is_due(self) -> Self:
        named = [row.severity for row in self.sla]
        if sorted(named) != sorted(get_args(Severity)):
            raise ValueError(f"sla rows are {', '.join(named)}: give {', '.join(get_args(Severity))} one row each")
        return self

    def severity(self, cvss: float | None, *, exploited: bool = False) -> Severity:
        """The severity of a score; one that is missing or exploited counts as the standard says."""
        scored = self.unscored
        if cvss is not None:
            scored = next((row.severity for row in self.sla if cvss >= row.cvss_from), self.sla[-1].severity)
        return self.worst([scored, self.exploited.counts_as]) if exploited else scored

    def worst(self, severities: Iterable[Severity]) -> Severity:
        """The one of these severities that is due first."""
        return min(severities, key=[row.severity for row in self.sla].index)

    def due(self, published: datetime, severity: Severity) -> datetime:
        """When a fix of that severity must be everywhere."""
        return published + next(row.due for row in self.sla if row.severity == severity)

    def is_security(self, origin: str, label: str) -> bool:
        """Whether updates from this apt source are security updates."""
        return any(o.origin == origin and o.label == label for o in self.security_origins)

    def reversibility_of(self, package: str) -> Reversibility:
        """How a package goes back."""
        return next((r.class_ for r in self.reversibility if fnmatchcase(package, r.packages)), "downgrade")


@cache
def load_standard(project: Path) -> Standard:
    """The standard of a project; Misuse names the first field that does not parse."""
    return load_yaml(project / "policy" / "standard.yaml", Standard)
