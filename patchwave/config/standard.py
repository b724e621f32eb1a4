"""The organisation's rules, read from `policy/standard.yaml`: the one place for the seeds' numbers."""

from collections.abc import Iterable, Iterator
from datetime import datetime, time, timedelta
from fnmatch import fnmatchcase
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, JsonValue, model_validator

from patchwave.base.documents import parse, plain, read
from patchwave.base.model import Model
from patchwave.calendar.windows import ExtraWindow, Monthly, Recurrence, Weekly, Window, Zone

PATH = Path("policy") / "standard.yaml"
Severity = Literal["critical", "high", "medium", "low"]
StackName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Remedy = Literal["batch", "soak", "window", "emergency"]
Reversibility = Literal["downgrade", "dump", "snapshot"]
Mode = Literal["mandatory", "advisory", "disabled"]
ApprovalKind = Literal["normal", "emergency", "break-glass"]
Percent = Annotated[int, Field(ge=0, le=100)]
Person = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*@[A-Za-z0-9][A-Za-z0-9.-]*$")]
Role = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9 -]*$")]
Roles = Annotated[tuple[Role, ...], Field(min_length=1)]
StepId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
Span = Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(days=366))]
RuleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
CriterionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{2,40}$")]


class SlaRow(Model):
    """Fixes scored at or above `cvss_from` are due this long after publication."""

    severity: Severity
    cvss_from: Annotated[float, Field(ge=0.1, le=10.0)]
    due: Annotated[timedelta, Field(gt=timedelta(0))]
    approvers: Roles


class BySeverity(Model):
    """One length of time for each severity."""

    critical: Span
    high: Span
    medium: Span
    low: Span

    def of(self, severity: Severity) -> timedelta:
        """The length for one severity."""
        spans: dict[Severity, timedelta] = {
            "critical": self.critical,
            "high": self.high,
            "medium": self.medium,
            "low": self.low,
        }
        return spans[severity]


class Envelope(Model):
    """The widest window that a stack may declare."""

    recurrence: Recurrence
    earliest: time
    latest: time
    longest: timedelta
    zone: Zone

    def complaints(self, window: Window) -> Iterator[str]:
        """What makes a declared window looser than this envelope, each with its fix."""
        if not _within(window.recurrence, self.recurrence):
            yield f"recurs on {window.recurrence}: the standard allows {self.recurrence}"
        if window.duration > self.longest:
            yield f"lasts {window.duration}: the standard allows at most {self.longest}"
        if window.zone != self.zone:
            yield f"zone {window.zone}: the standard counts in {self.zone}"
        day = datetime(2000, 1, 1)
        begins = datetime.combine(day, window.starts)
        if begins < datetime.combine(day, self.earliest) or begins + window.duration > datetime.combine(
            day, self.latest
        ):
            yield (
                f"runs {window.starts:%H:%M}-{begins + window.duration:%H:%M}: "
                f"keep it within {self.earliest:%H:%M}-{self.latest:%H:%M}"
            )

    @property
    def whole(self) -> Window:
        """The stretch that a window may not leave, as a window."""
        day = datetime(2000, 1, 1)
        lasts = datetime.combine(day, self.latest) - datetime.combine(day, self.earliest)
        return Window(recurrence=self.recurrence, starts=self.earliest, duration=lasts, zone=self.zone)

    def refuses(self, extra: ExtraWindow) -> Iterator[str]:
        """What makes a dated window looser than this envelope, each with its fix."""
        around = next(self.whole.openings(extra.starts))
        if extra.starts < around.opens or extra.ends > around.closes:
            yield f"extra window {extra.reason!r} lies outside {self.whole}: keep it inside"
        if extra.ends - extra.starts > self.longest:
            yield f"extra window {extra.reason!r} lasts {extra.ends - extra.starts}: at most {self.longest}"


def _within(inner: Weekly | Monthly, outer: Weekly | Monthly) -> bool:
    if isinstance(inner, Weekly) and isinstance(outer, Weekly):
        return set(inner.weekdays) <= set(outer.weekdays)
    return inner == outer


class GateCriterion(Model):
    """Every gate of the wave passed, and no host was left unwell."""

    proof: Literal["gates"]

    @property
    def name(self) -> str:
        return self.proof


class RemediatedCriterion(Model):
    """The last scan finds the release on every planned host that has no waiver."""

    proof: Literal["remediated"]

    @property
    def name(self) -> str:
        return self.proof


class LatencyCriterion(Model):
    """From before the first batch to after the last, the median latency rose by no more than this."""

    proof: Literal["latency"]
    increase_percent: Percent

    @property
    def name(self) -> str:
        return self.proof


class RecordCriterion(Model):
    """Somebody attached a signed result of that name, at least `after` the wave's end.

    `only_for` asks for it only when the release holds a critical fix, or a package whose data goes back by a dump.
    """

    proof: Literal["record"]
    name: CriterionName
    after: Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(days=7))] = timedelta(0)
    only_for: Literal["critical", "dump"] | None = None


Criterion = Annotated[
    GateCriterion | RemediatedCriterion | LatencyCriterion | RecordCriterion, Field(discriminator="proof")
]


class StackRules(Model):
    """What the standard asks of one stack.

    Extra windows stay within `extra_window` and are told of `notice` ahead; `criteria` must be met before a release
    goes on to the next stack.
    """

    window: Envelope
    image_window: Envelope | None
    extra_window: Envelope
    notice: Annotated[timedelta, Field(ge=timedelta(0))]
    promoted_from: StackName | None
    soak: Span
    emergency_soak: timedelta
    proof_valid: Annotated[timedelta, Field(gt=timedelta(0))]
    approvals: bool
    criteria: tuple[Criterion, ...]
    unattended_upgrades: bool

    @model_validator(mode="after")
    def _each_criterion_once(self) -> Self:
        names = [criterion.name for criterion in self.criteria]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"criteria: {twice} stands there twice, name each criterion once")
        return self

    @model_validator(mode="after")
    def _an_emergency_waits_no_longer(self) -> Self:
        if self.emergency_soak > self.soak:
            raise ValueError(f"emergency_soak {self.emergency_soak} > soak {self.soak}: an emergency would wait longer")
        return self


class Validity(Model):
    """How long a signature counts, by the kind of the approval."""

    normal: Annotated[timedelta, Field(gt=timedelta(0))]
    emergency: Annotated[timedelta, Field(gt=timedelta(0))]
    break_glass: Annotated[timedelta, Field(gt=timedelta(0))]

    def of(self, kind: ApprovalKind) -> timedelta:
        """The longest that an approval of this kind may count."""
        return {"normal": self.normal, "emergency": self.emergency, "break-glass": self.break_glass}[kind]


class ApprovalRules(Model):
    """How long approvals count, and which roles must sign before break-glass lifts a freeze."""

    valid: Validity
    break_glass_approvers: Roles


class Criteria(Model):
    """What a vulnerability must be before it opens the emergency lane."""

    cvss_from: Annotated[float, Field(ge=0.1, le=10.0)]
    exploit_available: bool
    publicly_disclosed: bool
    affects_production: bool


class Step(Model):
    """One step of the emergency plan; at most one of `release`, `approves` and `deploys` says how it is proved.

    `release` names the release that brings the fix, `approves` has the approvals of a stack, `deploys` has the
    evidence of a succeeded wave on a stack. Any other step is vouched for by who records it.
    """

    id: StepId
    does: Annotated[str, Field(min_length=1)]
    release: bool = False
    approves: StackName | None = None
    deploys: StackName | None = None

    @model_validator(mode="after")
    def _one_proof(self) -> Self:
        if sum((self.release, self.approves is not None, self.deploys is not None)) > 1:
            raise ValueError(f"step {self.id}: name one of release, approves and deploys")
        return self


class Phase(Model):
    """Steps that are due this long after disclosure."""

    name: StepId
    due: Annotated[timedelta, Field(gt=timedelta(0))]
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]


class EmergencyRules(Model):
    """When the emergency lane opens, who approves in it, and its hour plan.

    A wave on a stack needs every step before the one that `deploys` there.
    """

    criteria: Criteria
    approvers: Roles
    plan: Annotated[tuple[Phase, ...], Field(min_length=1)]

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(step for phase in self.plan for step in phase.steps)

    def before(self, stack: StackName) -> tuple[Step, ...]:
        """The steps that a wave on the stack needs to be done."""
        steps = self.steps
        return steps[: next(n for n, step in enumerate(steps) if step.deploys == stack)]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        ids = [step.id for step in self.steps]
        if twice := [name for name in ids if ids.count(name) > 1]:
            raise ValueError(f"two steps are called {twice[0]}: name each step once")
        dues = [phase.due for phase in self.plan]
        if dues != sorted(set(dues)):
            raise ValueError("phases must stand in the order in which they are due, each due later than the one before")
        proofs = [step for step in self.steps if step.release or step.approves or step.deploys]
        if [step.release for step in proofs] != [True] + [False] * (len(proofs) - 1):
            raise ValueError("exactly one step names the release, and it stands before any that approves or deploys")
        return self


class Exploited(Model):
    """What a fix counts as, at least, when a vulnerability that it fixes is known to be exploited."""

    counts_as: Severity


class Rollback(Model):
    """What takes a batch back; percentages are increases over the baseline."""

    error_rate_increase_percent: Percent
    latency_increase_percent: Percent
    latency_floor_ms: Annotated[int, Field(ge=0)]

    def is_slower(self, before_ms: float, after_ms: float, percent: int) -> bool:
        """Whether a median latency rose by more than that percentage and by more than noise."""
        slower = after_ms - before_ms
        return slower > self.latency_floor_ms and slower > before_ms * percent / 100


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


class Communications(Model):
    """Who is told of a stack's wave, how soon after it, and when nobody is disturbed with what can be told earlier.

    How long ahead is the stack's `notice`.
    """

    audience: dict[StackName, Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]]
    after: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=7))]
    quiet: Window | None = None


class RuleChoice(Model):
    """How a stack enforces one rule of the policy pack, and the rule's parameters where they differ from its own."""

    mode: Mode | None = None
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


class SeverityRules(Model):
    """How severe a fix is, by when it is due, and who approves it."""

    sla: Annotated[tuple[SlaRow, ...], Field(min_length=1)]
    unscored: Severity
    exploited: Exploited

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

    def row(self, cvss: float) -> SlaRow:
        """The row that a score falls under; the lowest takes whatever is below."""
        return next((row for row in self.sla if cvss >= row.cvss_from), self.sla[-1])

    def severity(self, cvss: float | None, *, exploited: bool = False) -> Severity:
        """The severity of a score; one that is missing or exploited counts as the standard says."""
        scored = self.unscored if cvss is None else self.row(cvss).severity
        return self.worst([scored, self.exploited.counts_as]) if exploited else scored

    def worst(self, severities: Iterable[Severity]) -> Severity:
        """The one of these severities that is due first."""
        return min(severities, key=[row.severity for row in self.sla].index)

    def due(self, published: datetime, severity: Severity) -> datetime:
        """When a fix of that severity must be everywhere."""
        return published + next(row.due for row in self.sla if row.severity == severity)

    def approvers(self, severity: Severity) -> tuple[Role, ...]:
        """The roles that must agree to something of that severity."""
        return next(row.approvers for row in self.sla if row.severity == severity)


class Standard(SeverityRules):
    """The whole standard."""

    remedies: tuple[Remedy, ...]
    minimum_age: BySeverity
    waiver_longest: BySeverity
    roles: dict[Role, Annotated[tuple[Person, ...], Field(min_length=1)]]
    approvals: ApprovalRules
    emergency: EmergencyRules
    stacks: dict[StackName, StackRules]
    rollback: Rollback
    rolling: Rolling
    security_origins: Annotated[tuple[Origin, ...], Field(min_length=1)]
    reversibility: tuple[ReversibilityRule, ...]
    targets: Targets
    communications: Communications | None = None
    policy: dict[StackName, dict[RuleName, RuleChoice]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _somebody_holds_each_role(self) -> Self:
        asked = {role for row in self.sla for role in row.approvers}
        asked |= {*self.emergency.approvers, *self.approvals.break_glass_approvers}
        if missing := sorted(asked - self.roles.keys()):
            raise ValueError(f"roles names nobody for {', '.join(missing)}: an approval of theirs could never be given")
        return self

    @model_validator(mode="after")
    def _an_emergency_is_promoted_too(self) -> Self:
        deployed = [step.deploys for step in self.emergency.steps if step.deploys]
        if sorted(deployed) != sorted(self.stacks):
            raise ValueError(f"emergency.plan deploys to {deployed}: give each stack one step that deploys there")
        for name, rules in self.stacks.items():
            source = rules.promoted_from
            if source is not None and deployed.index(source) > deployed.index(name):
                raise ValueError(f"emergency.plan deploys to {name} before {source}: promotion keeps its order")
        return self

    @model_validator(mode="after")
    def _proof_outlasts_the_soak(self) -> Self:
        for name, rules in self.stacks.items():
            if rules.promoted_from and rules.soak >= rules.proof_valid:
                raise ValueError(
                    f"stacks.{name}.proof_valid {rules.proof_valid} ends before the soak of {rules.soak} does: "
                    "nothing could ever be promoted"
                )
        return self

    def is_security(self, origin: str, label: str) -> bool:
        """Whether updates from this apt source are security updates."""
        return any(o.origin == origin and o.label == label for o in self.security_origins)

    def reversibility_of(self, package: str) -> Reversibility:
        """How a package goes back."""
        return next((r.class_ for r in self.reversibility if fnmatchcase(package, r.packages)), "downgrade")


@cache
def load_standard(project: Path) -> Standard:
    """The standard of a project; UsageError names the first field that does not parse."""
    return read_standard(project)[0]


def read_standard(project: Path) -> tuple[Standard, str]:
    """The standard of a project as its file is now, and the SHA-256 of that file."""
    path = project / PATH
    content = read(path)
    return parse_standard(content, str(path)), sha256(content).hexdigest()


@cache
def parse_standard(content: bytes, where: str) -> Standard:
    """The standard that a file with this content is."""
    return parse(plain(content, where), Standard, where)
