"""Carries an order out: takes the machine's next action, does it, and records the result before the one after.

Each phase is a process of its own and may be killed at any point: what has been done stands in the evidence and on the
hosts under the run's id, and the next process goes on from there.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

from patchwave.azure.inventory import Host
from patchwave.base import clock
from patchwave.base.errors import Failed, PatchwaveError, Refused
from patchwave.base.text import one_line
from patchwave.config.order import Order
from patchwave.config.standard import Standard
from patchwave.evidence.chain import Chain, Record
from patchwave.methods.ansible import HostResult
from patchwave.releases import quarantine, waivers
from patchwave.releases.release import Release
from patchwave.releases.waivers import Holds, Waiver
from patchwave.schedule.batches import Batch, batches, objections
from patchwave.services import gates
from patchwave.wave import answers, machine
from patchwave.wave.effects import Effects, Playbook
from patchwave.wave.exports import HostRow, RunRow
from patchwave.wave.journal import Journal, open_run
from patchwave.wave.states import COMPLIANT, State

PATCHED = ("drain", "transaction", "verify", "undrain")
RESTORED = ("restore", "verify", "undrain")
RETURNED = ("verify", "undrain")
STEPS = frozenset({*PATCHED, *RESTORED, "reboot"})
MANY = 10
REFUSED = ("refused", "stopped")


class Run:
    """One run of an order on one chain of evidence; every answer of `effects` is recorded before anything follows."""

    def __init__(
        self,
        order: Order,
        release: Release,
        standard: Standard,
        chain: Chain,
        effects: Effects,
        *,
        relied: Sequence[Waiver] = (),
        show: Callable[[str], None] = lambda line: print(line, flush=True),
    ) -> None:
        self.order, self.release, self.standard = order, release, standard
        self.chain, self.effects, self.show = chain, effects, show
        self._relied = tuple(relied)
        self.run = open_run(chain.records) or f"{effects.now():%Y%m%dT%H%M%SZ}-{release.digest[:6]}"
        self.journal = Journal(chain.records, self.run)

    def carry_out(self, until: int | None = None) -> Journal:
        """Goes on as far as a phase, or to the end, and ends early when it must; the journal afterwards."""
        while True:
            if stop := self.effects.stop_requested():
                self._record("stop", {"by": one_line(stop.by), "reason": one_line(stop.reason), "take_back": False})
            action = machine.next_action(self.journal, self.order, self.effects.now())
            if action is None or (until is not None and machine.place(action, self.journal, self.order) > until):
                return self.journal
            self._do(action, self.journal)

    def abandon(self, by: str, reason: str) -> None:
        """Ends the run, and takes a batch back that was cut off."""
        self._record("stop", {"by": by, "reason": reason, "take_back": True})
        self.carry_out()

    def _do(self, action: machine.Action, journal: Journal) -> None:
        match action:
            case machine.Begin():
                self._begin()
            case machine.Decide():
                self._decide(action, journal)
            case machine.Preflight():
                self._preflight(action, journal)
            case machine.Protect():
                self._protect(action, journal)
            case machine.Repairs():
                self._switch_repairs(action)
            case machine.Patch():
                self._patch(action.batch, journal)
            case machine.Interrupt():
                judged = {"passed": False, "reason": action.reason, "failed": {}, "cut_off": True, "readings": []}
                self._record("gate", {"gate": "batch", **_named(action.batch), **judged})
            case machine.Restore():
                self._restore(action, journal)
            case machine.EndBatch():
                self._record("phase", {"phase": "patch", "event": "ended", **_named(action.batch)})
            case machine.Scan():
                self._scan(action, journal)
            case machine.Close():
                self._close(action, journal)

    def _begin(self) -> None:
        """Plans every host that the inventory has; Failed when it is not whole, Refused when it cannot be patched."""
        inventory = self.effects.discover()
        if gaps := inventory.gaps:
            more = f" (and {len(gaps) - 1} more: run `patchwave inventory`)" if len(gaps) > 1 else ""
            raise Failed(f"{self.order.stack}: a short inventory is not patched: {gaps[0]}{more}")
        settings = self.order.settings
        for objection in objections(inventory.hosts, settings):
            raise Refused(f"{self.order.stack}: {objection}")
        number = {name: batch.number for batch in batches(inventory.hosts, settings) for name in batch.names}
        self._record(
            "wave-started",
            {
                "stack": self.order.stack,
                "release": self.release.id,
                "digest": self.release.digest,
                "work": self.order.work,
                "order": self.order.model_dump(mode="json"),
                "rehearsal": self.effects.rehearsal(),
                "planned": [host.model_dump(mode="json") | {"batch": number[host.name]} for host in inventory.hosts],
                "left_alone": [one.model_dump(mode="json") for one in inventory.left_alone],
                "unusable": [one.model_dump(mode="json") for one in inventory.problems],
                "waivers": [waiver.model_dump(mode="json") for waiver in self._relied],
            },
        )
        self._send("PatchRuns", [self._run_row("started", len(inventory.hosts))])

    def _decide(self, action: machine.Decide, journal: Journal) -> None:
        self._record("decision", self.effects.decide(action.before, action.needs, journal.decision_data))

    def _preflight(self, action: machine.Preflight, journal: Journal) -> None:
        with self._phase("preflight"):
            results = self._play("preflight", action.hosts, journal)
            unfit = 0
            lost = answers.lost_databases(results, action.hosts, self.order.settings.services)
            for host in action.hosts:
                holds = self._holds(journal, host).packages
                facts, checks = answers.preflight(results[host.name], host, self.release, holds)
                if facts.answered and facts.problem is None and host.service in lost:
                    facts = facts.model_copy(update={"problem": lost[host.service]})
                for check in checks:
                    self._record("check", {"host": host.name, **check.model_dump()})
                unfit += facts.problem is not None
                self._record_host(
                    "preflight", "preflight", host.name, facts.problem is None, facts.model_dump(mode="json")
                )
        self.show(f"preflight {len(action.hosts) - unfit}/{len(action.hosts)} fit")

    def _protect(self, action: machine.Protect, journal: Journal) -> None:
        with self._phase("protect"), ThreadPoolExecutor(max_workers=4) as pool:
            points = {
                host.name: pool.submit(self._attempt, partial(self._snapshot, host))
                for host in action.hosts
                if self._by_snapshot(host)
            }
            results = self._play("protect", action.hosts, journal)
            bad = {name: problem for name, point in points.items() if (problem := point.result())}
            bad |= {name: answers.why(result) for name, result in results.items() if not result.ok("protect")}
            for host in action.hosts:
                found = results[host.name].steps.get("protect", {})
                summary: dict[str, Any] = {
                    key: found[key] for key in ("bytes", "baseline_ms", "archive", "dumps") if key in found
                }
                if host.name in bad:
                    summary["reason"] = bad[host.name]
                self._record_host("protect", "protect", host.name, host.name not in bad, summary)
        self.show(f"protect   {len(action.hosts) - len(bad)}/{len(action.hosts)} can go back")

    def _switch_repairs(self, action: machine.Repairs) -> None:
        problem = self._attempt(partial(self.effects.switch_repairs, action.action, action.hosts))
        self._record("repairs", {"action": action.action, "problem": problem})
        if problem:
            self.show(f"repairs   {action.action.lower()} failed: {problem}")

    def _patch(self, batch: Batch, journal: Journal) -> None:
        if batch.number not in journal.batches:
            self._record("phase", {"phase": "patch", "event": "started", **_named(batch), "hosts": list(batch.names)})
        with self.effects.watch(batch.service) as watch:
            results = self._play("patch", batch.hosts, journal, batch=batch.number)
            readings = watch.readings()
        failed = {name: answers.why(result) for name, result in results.items() if not result.ok(*PATCHED)}
        judged = gates.judge(readings, self.standard.rollback)
        spent = len({*journal.restored, *failed})
        budget = self.order.settings.rollout.failure_budget
        if failed and spent > budget:
            name, why = next(iter(failed.items()))
            judged = gates.Judgement(passed=False, reason=f"{spent} failed, {budget} may: {name}: {why}")
        self._record(
            "gate",
            {
                "gate": "batch",
                **_named(batch),
                **judged.model_dump(),
                "failed": failed,
                "cut_off": False,
                "readings": [reading.model_dump() for reading in readings],
            },
        )
        back = failed if judged.passed else batch.names
        self.show(f"{batch.ring:<9} batch {batch.number}: {len(batch.hosts) - len(back)}/{len(batch.hosts)} healthy")

    def _restore(self, action: machine.Restore, journal: Journal) -> None:
        """Takes hosts back to what they had before this run; what became of each is recorded."""
        self.show(f"restore   {', '.join(host.name for host in action.hosts)}")
        with self._phase("restore", hosts=[host.name for host in action.hosts]):
            snapshots = [host for host in action.hosts if self._by_snapshot(host)]
            downgrades = [host for host in action.hosts if not self._by_snapshot(host)]
            with ThreadPoolExecutor(max_workers=4) as pool:
                swaps = {
                    host.name: pool.submit(self._attempt, partial(self.effects.swap_back, host, self.run))
                    for host in snapshots
                }
                problems = self._brought("restore", downgrades, RESTORED, journal)
                problems |= {name: swap.result() for name, swap in swaps.items()}
            swapped = [host for host in snapshots if problems[host.name] is None]
            problems |= self._brought("return", swapped, RETURNED, journal)
            for host in action.hosts:
                problem = problems[host.name]
                state: State = "failed-unrestored" if problem else "failed-restored"
                reason = "; ".join(filter(None, [action.why[host.name], problem]))
                method = self.order.settings.fleets[host.fleet].rollback
                row = {"host": host.name, "method": method, "ok": problem is None, "state": state, "reason": reason}
                self._record("restore", row | {"blamed": action.blamed})

    def _scan(self, action: machine.Scan, journal: Journal) -> None:
        with self._phase("prove"):
            results = self._play("scan", action.hosts, journal)
            for host in action.hosts:
                found = answers.after(results.get(host.name), host, self.release)
                self._record_host("prove", "scan", host.name, found is not None, {"after": found})

    def _close(self, action: machine.Close, journal: Journal) -> None:
        """Writes one state for each planned host, sends rows, ends the run and publishes its evidence."""
        states = machine.end_states(journal, self.order)
        rows = []
        for host in journal.planned:
            state, why = states[host.name]
            facts, found = journal.facts.get(host.name), journal.scans.get(host.name) or {}
            before = facts.before if facts else {}
            if host.name not in journal.states:
                row = {"host": host.name, "state": state, "before": before, "after": found, "reason": why}
                self._record("state", {**row, "waived": facts.waived if facts else {}})
            rows.append(self._host_row(host, state, why or "", before, found))
        for name, reason in journal.unusable.items():
            if name not in journal.states:
                row = {"host": name, "state": "deferred", "before": {}, "after": {}, "reason": reason, "waived": {}}
                self._record("state", row)
        self._quarantine()
        self._send("PatchHosts", rows)
        compliant = sum(state in COMPLIANT for state, _ in states.values())
        self._send("PatchRuns", [self._run_row("ended", len(states), action.outcome, action.reason, compliant)])
        every = [state for state, _ in states.values()]
        self._record(
            "wave-ended",
            {
                "outcome": action.outcome,
                "counts": {state: every.count(state) for state in sorted(set(every))},
                "reason": action.reason,
                "real_time": clock.iso(self.effects.real_time()),
            },
        )
        self.effects.publish()

    def _quarantine(self) -> None:
        """Puts what the run brought to hosts that it had to restore on the list that is committed."""
        found = quarantine.taken_back([record for record in self.chain.records if record.run == self.run])
        if fresh := self.effects.quarantine(found):
            some = ", ".join(f"{entry.package} {entry.version}" for entry in fresh[:MANY])
            self.show(f"quarantine {some}: commit releases/{quarantine.FILE}")

    def _play(
        self, playbook: Playbook, hosts: Sequence[Host], journal: Journal, batch: int | None = None
    ) -> dict[str, HostResult]:
        """Runs one playbook on these hosts and records each step of each host as it is reported.

        A playbook that cannot be run at all is a problem of each of its hosts.
        """
        names = {host.name for host in hosts}

        def heard(line: Mapping[str, Any]) -> None:
            if line["host"] in names and line["step"] in STEPS and line["status"] != "skipped":
                summary = answers.figures(line)
                self._record_host(playbook, line["step"], line["host"], line["status"] == "ok", summary, batch)

        if not hosts:
            return {}
        try:
            return self.effects.play(playbook, hosts, self._variables(journal, hosts), heard)
        except PatchwaveError as error:
            problem = one_line(error)
            return {name: HostResult(host=name, reached=False, problem=problem, steps={}) for name in names}

    def _brought(
        self, playbook: Playbook, hosts: Sequence[Host], steps: Sequence[str], journal: Journal
    ) -> dict[str, str | None]:
        """What keeps each host from being healthy again after a playbook, None where nothing does."""
        results = self._play(playbook, hosts, journal)
        return {name: None if result.ok(*steps) else answers.why(result) for name, result in results.items()}

    def _variables(self, journal: Journal, hosts: Sequence[Host]) -> dict[str, Any]:
        """What the playbooks are given: parts of the order as they stand there."""
        settings = self.order.settings
        return {
            "pw_run": self.run,
            "pw_release": self.release.plain(),
            "pw_services": {name: service.model_dump(mode="json") for name, service in settings.services.items()},
            "pw_preflight": settings.preflight.model_dump(mode="json"),
            "pw_unattended_upgrades": self.standard.stacks[self.order.stack].unattended_upgrades,
            "pw_holds": {host.name: self._holds(journal, host).model_dump(mode="json") for host in hosts},
            "pw_refresh": False,  # a scan after the wave judges by the lists that the preflight brought up to date
        }

    def _holds(self, journal: Journal, host: Host) -> Holds:
        """What the run's waivers put on hold on a host; by the run's beginning, so that a resumed run does the same."""
        assert journal.begun
        return waivers.holds(journal.waivers, self.release, stack=self.order.stack, host=host, now=journal.begun)

    def _by_snapshot(self, host: Host) -> bool:
        return self.order.settings.fleets[host.fleet].rollback != "downgrade"

    def _snapshot(self, host: Host) -> None:
        self.show(f"  {host.name}  {self.effects.snapshot(host, self.run)}")

    def _attempt(self, work: Callable[[], None]) -> str | None:
        """Why work could not be done, None when it was."""
        try:
            work()
        except PatchwaveError as error:
            return one_line(error)
        return None

    def _host_row(
        self, host: Host, state: State, reason: str, before: Mapping[str, str], after: Mapping[str, str]
    ) -> HostRow:
        return HostRow(
            TimeGenerated=self.effects.now(),
            Stack=self.order.stack,
            Release=self.release.id,
            Run=self.run,
            Host=host.name,
            Fleet=host.fleet,
            Ring=host.ring,
            State=state,
            Reason=reason,
            Packages=sum(before.get(package) != version for package, version in after.items()),
        )

    def _run_row(
        self, event: Literal["started", "ended"], hosts: int, outcome: str = "", reason: str = "", compliant: int = 0
    ) -> RunRow:
        return RunRow(
            TimeGenerated=self.effects.now(),
            Stack=self.order.stack,
            Release=self.release.id,
            Run=self.run,
            Event=event,
            Outcome=outcome,
            Reason=reason,
            Hosts=hosts,
            Compliant=compliant,
        )

    def _send(self, table: str, rows: Sequence[HostRow | RunRow]) -> None:
        """Sends rows to Log Analytics; that it failed is recorded, and is no reason to fail the wave."""
        try:
            if self.effects.send(table, rows):
                self._record("export", {"ok": True, "detail": f"{table}, rows: {len(rows)}"})
        except PatchwaveError as error:
            self._record("export", {"ok": False, "detail": one_line(error)})
            self.show(f"export    failed: {one_line(error)}")

    def _record(self, kind: str, data: Mapping[str, Any]) -> Record:
        record = self.chain.append(kind, self.run, data, at=self.effects.now())
        self.journal.take(record)
        return record

    def _record_host(
        self, phase: str, step: str, host: str, ok: bool, summary: Mapping[str, Any], batch: int | None = None
    ) -> None:
        data = {"host": host, "phase": phase, "step": step, "ok": ok, "summary": dict(summary)}
        self._record("host", data if batch is None else data | {"batch": batch})

    @contextmanager
    def _phase(self, phase: str, **fields: Any) -> Iterator[None]:
        self._record("phase", {"phase": phase, "event": "started", **fields})
        yield
        self._record("phase", {"phase": phase, "event": "ended", **fields})


def _named(batch: Batch) -> dict[str, Any]:
    return {"ring": batch.ring, "service": batch.service, "batch": batch.number}


def last_words(journal: Journal, order: Order) -> str:
    """A run that ended, on one line: how many of each ring are current, reboots, seconds."""
    parts = []
    for ring in order.settings.rollout.ring_names:
        mine = [journal.states[host.name] for host in journal.planned if host.ring == ring]
        if mine:
            parts.append(f"{ring} {sum(state in COMPLIANT for state in mine)}/{len(mine)} healthy")
    return f"wave      {' · '.join(parts)} · rebooted {len(journal.rebooted)} · {journal.seconds:.0f} s"


def raise_for(journal: Journal, order: Order) -> None:
    """Failed or Refused when the run ended other than well."""
    ended = journal.ended
    if ended is None or ended["outcome"] == "succeeded":
        return
    kind = Refused if ended["outcome"] in REFUSED else Failed
    raise kind(f"{order.stack}: wave {journal.run} {ended['outcome']}: {ended['reason']}")


def phase_place(
    phase: Literal["preflight", "protect", "patch", "prove"], ring: str | None, rings: Iterable[str]
) -> int:
    """How far a phase's command goes, in the machine's count."""
    names = list(rings)
    places = {"preflight": 0, "protect": 1, "prove": 2 + len(names)}
    return places[phase] if phase != "patch" else 2 + names.index(str(ring))
