"""The pure decisions of a wave: who goes together, whether to go on, and how each host ended."""

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Literal

from patchwave.azure.inventory import Host
from patchwave.base.model import Model
from patchwave.config.settings import Rollout
from patchwave.config.standard import Standard
from patchwave.releases.release import Package, Release

State = Literal[
    "patched",
    "already-current",
    "deferred",
    "held",
    "failed-restored",
    "failed-unrestored",
    "unknown",
    "not-attempted",
]
COMPLIANT: frozenset[State] = frozenset({"patched", "already-current"})
RESERVE = timedelta(minutes=5)


class Batch(Model):
    """Hosts that are out of service together; `number` counts from 1 over the whole wave."""

    number: int
    ring: str
    hosts: tuple[Host, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(host.name for host in self.hosts)


def batches(hosts: Sequence[Host], rollout: Rollout) -> tuple[Batch, ...]:
    """Every host once, in ring order, never more of the live slot away than the rollout allows."""
    made: list[Batch] = []
    for ring in rollout.rings:
        ordered = sorted((host for host in hosts if host.ring == ring.name), key=lambda host: host.name)
        numbers = batch_numbers([host.live for host in ordered], ring.batch, rollout.live_out_of_service)
        together: dict[int, list[Host]] = {}
        for host, number in zip(ordered, numbers, strict=True):
            together.setdefault(len(made) + number, []).append(host)
        made += [Batch(number=n, ring=ring.name, hosts=tuple(together[n])) for n in sorted(together)]
    return tuple(made)


def batch_numbers(live: Sequence[bool], size: int, room: int) -> list[int]:
    """The batch of each host of a ring, in the order in which they come: `size` together, `room` of them live."""
    numbers = [0] * len(live)
    others, lives = (deque(place for place, is_live in enumerate(live) if is_live is kind) for kind in (False, True))
    number = 0
    while others or lives:
        number, left = number + 1, room
        for _ in range(size):
            queue = lives if left and lives and not (others and others[0] < lives[0]) else others
            if not queue:
                break
            left -= queue is lives
            numbers[queue.popleft()] = number
    return numbers


def needed(todo: Sequence[Batch], rollout: Rollout) -> timedelta:
    """How long these batches may take: they run one after the other, each as long as a host may."""
    return rollout.host_takes * len(todo) + RESERVE


class Sample(Model):
    """What asking the public endpoint gave."""

    asked: int
    failed: int
    median_ms: float | None

    @property
    def error_percent(self) -> float:
        return 100 * self.failed / self.asked if self.asked else 100.0


class Gate(Model):
    """Whether the next batch may start; without positive evidence it may not."""

    passed: bool
    reason: str


def gate(before: Sample, during: Sample, after: Sample, *, standard: Standard, enough: int) -> Gate:
    """Errors while a batch was away, and latency afterwards, against the baseline."""
    for when, sample in (("before", before), ("after", after)):
        if sample.asked < enough or sample.median_ms is None:
            return Gate(
                passed=False,
                reason=f"{sample.asked} answers {when} the batch, {enough} are needed: no evidence",
            )
    allowed = standard.rollback.error_rate_increase_percent
    for when, sample in (("during", during), ("after", after)):
        increase = sample.error_percent - before.error_percent
        if sample.asked and increase > allowed:
            return Gate(
                passed=False,
                reason=f"error rate rose by {increase:.1f} % {when} the batch, {allowed} % are allowed",
            )
    assert before.median_ms is not None
    assert after.median_ms is not None
    percent = standard.rollback.latency_increase_percent
    if standard.rollback.is_slower(before.median_ms, after.median_ms, percent):
        reason = f"median latency rose from {before.median_ms:.0f} to {after.median_ms:.0f} ms, {percent} % are allowed"
        return Gate(passed=False, reason=reason)
    return Gate(
        passed=True,
        reason=f"{after.asked} answers, median {after.median_ms:.0f} ms, {during.failed} failed meanwhile",
    )


def applicable(release: Release, installed: Mapping[str, str]) -> tuple[Package, ...]:
    """The release's packages that a host has at all, whatever their version."""
    return tuple(package for package in release.packages if package.name in installed)


def versions(release: Release, installed: Mapping[str, str]) -> dict[str, str]:
    """The host's versions of the release's packages."""
    return {package.name: installed[package.name] for package in applicable(release, installed)}


def outstanding(release: Release, installed: Mapping[str, str], pending: Mapping[str, str]) -> dict[str, str]:
    """Packages of the release that the host's apt still wants to bring to the release's version."""
    wanted = {package.name: package.to for package in release.packages}
    return {name: to for name, to in pending.items() if wanted.get(name) == to and name in installed}


class Facts(Model):
    """What the preflight found on a host: its versions of the release's packages, and what it lacks of them.

    `waived` are packages that it lacks and need not have, by the waiver of each.
    """

    looked: bool
    before: dict[str, str]
    todo: dict[str, str]
    held: list[str]
    waived: dict[str, str]
    problem: str | None

    @property
    def to_patch(self) -> bool:
        return self.looked and self.problem is None and bool(self.todo) and not self.held


def end_state(
    facts: Facts, *, touched: bool, restored: tuple[State, str] | None, after: Mapping[str, str] | None
) -> tuple[State, str | None]:
    """A planned host's one end state and its reason; `after` is the last scan, None when the host did not answer."""
    if restored is not None:
        state, reason = restored
        if state == "failed-restored" and after is not None and dict(after) != facts.before:
            return "failed-unrestored", "the last scan finds other versions than before the wave"
        return state, reason
    if not facts.looked:
        return "not-attempted", None
    if facts.problem is not None:
        return "deferred", facts.problem
    if facts.held:
        return "held", f"on hold: {', '.join(facts.held)}"
    if facts.todo and not touched:
        return "not-attempted", None
    if after is None:
        return "unknown", "it did not answer the last scan"
    missing = {name: to for name, to in facts.todo.items() if after.get(name) != to}
    if missing:
        name, to = next(iter(missing.items()))
        return "unknown", f"{name} is at {after.get(name)}, the release brings {to}"
    if facts.waived:
        return "held", f"waived: {', '.join(f'{name} by {waiver}' for name, waiver in facts.waived.items())}"
    return ("patched" if facts.todo else "already-current"), None
