"""The organisation's rules, read from `policy/standard.yaml`: the one place for the seeds' numbers."""

from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from fnmatch import fnmatchcase
from functools import cache
from graphlib import CycleError, TopologicalSorter
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import ConfigDict, Field, JsonValue, model_validator

from patchwave.base.documents import as_document, read
from patchwave.base.errors import UsageError
from patchwave.base.model import Model
from patchwave.calendar.windows import Calendar, ExtraWindow, Freeze, Monthly, Recurrence, Weekly, Window, Zone

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
    """The widest window that a stack may declare; one whose `latest` is not after `earliest` ends on the next day."""

    recurrence: Recurrence
    earliest: time
    latest: time
    longest: Annotated[timedelta, Field(gt=timedelta(0))]
    zone: Zone

    @model_validator(mode="after")
    def _something_fits(self) -> Self:
        if self.longest > self.whole.duration:
            raise ValueError(
                f"longest {self.longest} does not fit between {self.earliest:%H:%M} and {self.latest:%H:%M}: take less"
            )
        return self

    def complaints(self, window: Window) -> Iterator[str]:
        """What makes a declared window looser than this envelope, each with its fix."""
        begins = _after(self.earliest, window.starts)
        # after midnight it belongs to the envelope that begins the day before
        own = window.recurrence.moved(-1) if window.starts < self.earliest else window.recurrence
        if begins + window.duration > self.whole.duration:
            ends = (datetime.combine(_DAY, window.starts) + window.duration).time()
            yield (f"runs {window.starts:%H:%M}-{ends:%H:%M}: keep it within {self.earliest:%H:%M}-{self.latest:%H:%M}")
        elif not _within(own, self.recurrence):
            yield f"recurs on {window.recurrence}: the standard allows {self.recurrence}"
        if window.duration > self.longest:
            yield f"lasts {window.duration}: the standard allows at most {self.longest}"
        if window.zone != self.zone:
            yield f"zone {window.zone}: the standard counts in {self.zone}"

    @property
    def whole(self) -> Window:
        """The stretch that a window may not leave, as a window."""
        lasts = _after(self.earliest, self.latest) or timedelta(days=1)
        return Window(recurrence=self.recurrence, starts=self.earliest, duration=lasts, zone=self.zone)

    def refuses(self, extra: ExtraWindow) -> Iterator[str]:
        """What makes a dated window looser than this envelope, each with its fix."""
        around = next(self.whole.openings(extra.starts))
        if extra.starts < around.opens or extra.ends > around.closes:
            yield f"extra window {extra.reason!r} lies outside {self.whole}: keep it inside"
        if extra.ends - extra.starts > self.longest:
            yield f"extra window {extra.reason!r} lasts {extra.ends - extra.starts}: at most {self.longest}"


_DAY = date(2000, 1, 1)


def _after(earlier: time, later: time) -> timedelta:
    """From one time of day to the next time that the clock shows another."""
    return (datetime.combine(_DAY, later) - datetime.combine(_DAY, earlier)) % timedelta(days=1)


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

    `only_for` requires it only when the release holds a critical fix, or a package whose data goes back by a dump.
    """

    proof: Literal["record"]
    name: CriterionName
    after: Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(days=7))] = timedelta(0)
    only_for: Literal["critical", "dump"] | None = None


Criterion = Annotated[
    GateCriterion | RemediatedCriterion | LatencyCriterion | RecordCriterion, Field(discriminator="proof")
]


class StackRules(Model):
    """The standard's rules for one stack.

    Extra windows stay within `extra_window` and are announced `notice` ahead; `criteria` must be met before a release
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
    """One step of the emergency plan; at most one of `release`, `approves` and `deploys` is its proof.

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

    A wave on a stack needs every step before the one that `deploys` there. Stacks of `routine_only` have no such step:
    an emergency's release reaches them like any other, in their windows.
    """

    criteria: Criteria
    approvers: Roles
    plan: Annotated[tuple[Phase, ...], Field(min_length=1)]
    routine_only: tuple[StackName, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(step for phase in self.plan for step in phase.steps)

    def before(self, stack: StackName) -> tuple[Step, ...]:
        """The steps that a wave in the emergency lane needs to be done on a stack that has this lane."""
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

    model_config = ConfigDict(serialize_by_alias=True)

    packages: str
    class_: Annotated[Reversibility, Field(alias="class")]


class Targets(Model):
    """The numbers that the monthly report is held against."""

    compliance_percent: Percent
    success_rate_percent: Percent
    overdue_critical: int
    overdue_high: int


class Communications(Model):
    """Who is notified of a stack's wave, how soon after it, and the quiet hours: what would be due then is due before.

    How long ahead is the stack's `notice`.
    """

    audience: dict[StackName, Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]]
    after: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=7))]
    quiet: Window | None = None


class StandardFreeze(Freeze):
    """A freeze that no stack file can lift, of some stacks or of all where none are named.

    Break-glass lifts it as it lifts a stack's own: with the signatures that break-glass needs.
    """

    stacks: tuple[StackName, ...] = ()


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
        """The severity of a score; one that is missing or exploited counts by `unscored` and `exploited`."""
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
    stacks: Annotated[dict[StackName, StackRules], Field(min_length=1)]
    freezes: tuple[StandardFreeze, ...] = ()
    rollback: Rollback
    rolling: Rolling
    security_origins: Annotated[tuple[Origin, ...], Field(min_length=1)]
    reversibility: tuple[ReversibilityRule, ...]
    targets: Targets
    communications: Communications | None = None
    policy: dict[StackName, dict[RuleName, RuleChoice]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _somebody_holds_each_role(self) -> Self:
        needed = {role for row in self.sla for role in row.approvers}
        needed |= {*self.emergency.approvers, *self.approvals.break_glass_approvers}
        if missing := sorted(needed - self.roles.keys()):
            raise ValueError(f"roles names nobody for {', '.join(missing)}: an approval of theirs could never be given")
        return self

    @model_validator(mode="after")
    def _names_its_own_stacks(self) -> Self:
        named = {f"stacks.{name}.promoted_from": [rules.promoted_from] for name, rules in self.stacks.items()}
        named |= {f"emergency.plan: step {step.id}": [step.approves, step.deploys] for step in self.emergency.steps}
        named |= {"emergency.routine_only": [*self.emergency.routine_only], "policy": [*self.policy]}
        named |= {f"freezes: {freeze.reason!r}": [*freeze.stacks] for freeze in self.freezes}
        if self.communications:
            named["communications.audience"] = [*self.communications.audience]
        for where, stacks in named.items():
            if unknown := next((one for one in stacks if one is not None and one not in self.stacks), None):
                raise ValueError(f"{where} names {unknown!r}: name one of stacks: {', '.join(self.stacks)}")
        return self

    @model_validator(mode="after")
    def _promotion_has_a_beginning(self) -> Self:
        try:
            self.order()
        except CycleError as error:
            raise ValueError(
                f"stacks: {' from '.join(error.args[1])} is a circle of promotion: let one have promoted_from: null"
            ) from None
        return self

    @model_validator(mode="after")
    def _an_emergency_is_promoted_too(self) -> Self:
        plan = self.emergency
        deployed = [step.deploys for step in plan.steps if step.deploys]
        for name, rules in self.stacks.items():
            if deployed.count(name) != (name not in plan.routine_only):
                raise ValueError(
                    f"emergency.plan deploys to {name} in {deployed.count(name)} steps: give it one step that deploys "
                    "there, or none and name it in emergency.routine_only"
                )
            source = rules.promoted_from
            if name in deployed and source is not None:
                if source not in deployed:
                    raise ValueError(f"emergency.plan deploys to {name}, and never to {source} before: add that step")
                if deployed.index(source) > deployed.index(name):
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

    def order(self) -> tuple[StackName, ...]:
        """All stacks, each after the one that it takes releases from."""
        sources = {name: [rules.promoted_from] if rules.promoted_from else [] for name, rules in self.stacks.items()}
        return tuple(TopologicalSorter(sources).static_order())

    def follow(self, stack: StackName) -> tuple[StackName, ...]:
        """The stacks that take their releases from this one."""
        return tuple(name for name, rules in self.stacks.items() if rules.promoted_from == stack)

    def stack(self, name: str) -> StackRules:
        """The rules of a stack; UsageError for one that the standard does not name."""
        if name not in self.stacks:
            raise UsageError(f"stack {name!r}: {PATH} names {', '.join(self.stacks)}")
        return self.stacks[name]

    def calendar(self, stack: StackName, own: Calendar) -> Calendar:
        """A stack's calendar with the standard's freezes, which its file can neither leave out nor shorten."""
        freezes = tuple(
            Freeze.model_validate(freeze.model_dump(exclude={"stacks"}))
            for freeze in self.freezes
            if stack in freeze.stacks or not freeze.stacks
        )
        return own.model_copy(update={"freezes": (*own.freezes, *freezes)}) if freezes else own

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
    return as_document(content, where).parse(Standard)
