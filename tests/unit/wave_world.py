"""A world that a wave acts on, in memory: hosts that may fail, effects that may raise, and a process that may die."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from patchwave.azure.inventory import Host, Inventory, Unplanned
from patchwave.base.errors import Failed
from patchwave.config.order import Addresses, Named, Order
from patchwave.config.settings import Settings
from patchwave.evidence.chain import Record
from patchwave.methods.ansible import HostResult
from patchwave.releases.quarantine import Entry
from patchwave.services.gates import Reading, Sample
from patchwave.wave.effects import Line, Playbook, Stop
from patchwave.wave.exports import HostRow, RunRow
from patchwave.wave.run import PATCHED, RESTORED, RETURNED, Run
from tests.unit.builders import IN_WINDOW, STANDARD, host, release, settings

RELEASE = release()
OLD, NEW = "3.0.19-1~deb12u2", RELEASE.packages[0].to
NAME = RELEASE.packages[0].name
PLAYS: Mapping[str, Sequence[str]] = {"patch": PATCHED, "restore": RESTORED, "return": RETURNED}


class Killed(BaseException):
    """The process died here."""


class Memory:
    """A chain of evidence that only lives as long as its test."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, kind: str, run: str, data: Mapping[str, Any], *, at: datetime) -> Record:
        plain = json.loads(json.dumps(data, allow_nan=False))
        record = Record(len(self.records) + 1, at.isoformat(), run, kind, plain, "", "")
        self.records.append(record)
        return record

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [record.data for record in self.records if record.kind == kind]


dev = settings("dev")


def order(chosen: Settings | None = None, stack: str = "dev") -> Order:
    return Order(
        stack=stack,
        release=Named(id=RELEASE.id, digest=RELEASE.digest),
        waivers=(),
        standard="5" * 64,
        settings=chosen or (dev if stack == "dev" else settings(stack)),
        addresses=Addresses(),
    )


def fleet(live: int = 2, idle: int = 2, machines: int = 1) -> list[Host]:
    """Instances of the live and the idle slot, and machines that stand alone."""
    return [
        *(host(f"dev-web-blue-{n}", live=True) for n in range(live)),
        *(host(f"dev-web-green-{n}") for n in range(idle)),
        *(host(f"dev-machines-{n}", source="vm") for n in range(machines)),
        host("site-0", source="arc"),
    ]


@dataclass
class World:
    """Implements `Effects`. `faults` are taken one a call, in order: `raise`, `die`, `die-after`, or None.

    `sick` maps a host to what it does: `silent`, `unfit`, `strange`, or the name of a step at which it fails.
    """

    hosts: list[Host]
    faults: list[str | None] = field(default_factory=list)
    sick: dict[str, str] = field(default_factory=dict)
    bad_gates: set[int] = field(default_factory=set)
    closed_after: datetime | None = None
    stops: list[Stop] = field(default_factory=list)
    at: datetime = IN_WINDOW
    missing: tuple[str, ...] = ()
    problems: tuple[Unplanned, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    drained: set[str] = field(default_factory=set)
    transactions: list[tuple[str, str]] = field(default_factory=list)
    away: list[set[str]] = field(default_factory=list)
    plays: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    suspended: bool = False
    snapshots: set[str] = field(default_factory=set)
    published: int = 0
    sent: list[str] = field(default_factory=list)
    watched: int = 0
    dies_publishing: bool = False

    @contextmanager
    def _fault(self) -> Iterator[None]:
        fault = self.faults.pop(0) if self.faults else None
        self.at += timedelta(seconds=5)
        if fault == "raise":
            raise Failed("Azure does not answer: try again")
        if fault == "die":
            raise Killed
        yield
        if fault == "die-after":
            raise Killed

    def now(self) -> datetime:
        return self.at

    def real_time(self) -> datetime:
        return datetime(2026, 11, 27, tzinfo=UTC)

    def rehearsal(self) -> dict[str, Any] | None:
        return None

    def discover(self) -> Inventory:
        with self._fault():
            return Inventory(hosts=tuple(self.hosts), missing=self.missing, problems=self.problems)

    def decide(self, before: str, needs: timedelta, earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        with self._fault():
            allowed = self.closed_after is None or self.at <= self.closed_after
            refusals = [] if allowed else [{"about": "calendar", "why": "outside every window"}]
            return {"before": before, "inputs": {}, "decision": {"allowed": allowed, "refusals": refusals}}

    def play(
        self, playbook: Playbook, hosts: Sequence[Host], variables: dict[str, Any], heard: Callable[[Line], None]
    ) -> dict[str, HostResult]:
        self.plays.append((playbook, tuple(one.name for one in hosts)))
        with self._fault():
            if playbook in PLAYS:
                self.away.append(
                    {one.name for one in hosts if one.live}
                    | {h.name for h in self.hosts if h.live and h.name in self.drained}
                )
            return {one.name: self._one(playbook, one, str(variables["pw_run"]), heard) for one in hosts}

    def _one(self, playbook: str, one: Host, run: str, heard: Callable[[Line], None]) -> HostResult:
        sick = self.sick.get(one.name)
        if sick == "silent" or sick == f"silent in {playbook}":
            return HostResult(host=one.name, reached=False, problem="unreachable: no route", steps={})
        scan = {"packages": {NAME: self.versions.get(one.name, OLD)}, "pending": [], "held": []}
        if scan["packages"][NAME] != NEW:  # type: ignore[index]
            scan["pending"] = [{"name": NAME, "to": NEW}]  # type: ignore[list-item]
        if playbook == "preflight":
            checks = [{"name": "disk", "ok": sick != "unfit", "detail": "no room \x1b[31m"}]
            databases = {"fieldops": "absent" if sick == "empty" else "primary"}
            answer = (
                {"checks": checks, "scan": scan, "databases": databases}
                if sick != "strange"
                else {"checks": "fine", "scan": 7}
            )
            return HostResult(host=one.name, reached=True, problem=None, steps={"preflight": answer})
        if playbook == "scan":
            return HostResult(host=one.name, reached=True, problem=None, steps={"scan": scan})
        steps: dict[str, dict[str, Any]] = {}
        for step in PLAYS.get(playbook, [playbook]):
            if sick == step or sick == f"{step} in {playbook}":
                line = {"host": one.name, "step": step, "status": "failed", "result": {"msg": "broken"}}
                heard(line)
                return HostResult(host=one.name, reached=True, problem=f"{step}: broken", steps=steps)
            self._effect(step, one, run)
            steps[step] = {"ms": 5}
            heard({"host": one.name, "step": step, "status": "ok", "result": steps[step]})
        return HostResult(host=one.name, reached=True, problem=None, steps=steps)

    def _effect(self, step: str, one: Host, run: str) -> None:
        if step == "drain":
            self.drained.add(one.name)
        elif step == "undrain":
            self.drained.discard(one.name)
        elif step == "transaction" and (run, one.name) not in self.transactions:
            self.transactions.append((run, one.name))
            self.versions[one.name] = NEW
        elif step == "restore":
            self.versions[one.name] = OLD

    def snapshot(self, host: Host, run: str) -> str:
        with self._fault():
            self.snapshots.add(host.name)
            return "snapshot taken"

    def swap_back(self, host: Host, run: str) -> None:
        with self._fault():
            self.versions[host.name] = OLD

    def switch_repairs(self, action: str, hosts: Sequence[Host]) -> None:
        with self._fault():
            self.suspended = action == "Suspend"

    @contextmanager
    def watch(self, service: str) -> Iterator["World"]:
        self.watched += 1
        yield self

    def readings(self) -> Sequence[Reading]:
        good = Sample(requests=30, failed=0, median_ms=20.0)
        bad = Sample(requests=30, failed=30, median_ms=None)
        after = bad if self.watched in self.bad_gates else good
        return [Reading(gate="http", counted=True, before=good, during=good, after=after)]

    def stop_requested(self) -> Stop | None:
        return self.stops.pop(0) if self.stops else None

    def send(self, table: str, rows: Sequence[HostRow | RunRow]) -> bool:
        with self._fault():
            self.sent.append(table)
            return True

    def quarantine(self, entries: Sequence[Entry]) -> list[Entry]:
        return list(entries)

    def publish(self) -> None:
        if self.dies_publishing:
            self.dies_publishing = False
            raise Killed
        self.published += 1


def run(world: World, chain: Memory, chosen: Order | None = None) -> Run:
    return Run(chosen or order(), RELEASE, STANDARD, chain, world, show=lambda line: None)  # type: ignore[arg-type]
