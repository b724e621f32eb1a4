"""Carries one release out on one stack: preflight, protect, patch ring by ring, prove.

Each phase is a process of its own and may be killed at any point: what has been done stands in the evidence and
on the hosts under the run's id, and the next process goes on from there.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NoReturn

from patchwave.authorization import permission
from patchwave.azure import disk_snapshots, repairs, restore_points
from patchwave.azure.client import Arm
from patchwave.azure.inventory import Host, discover
from patchwave.base import clock
from patchwave.base.errors import Failed, PatchwaveError, Refused, UsageError
from patchwave.config.settings import load_stack
from patchwave.config.standard import StackName, load_standard
from patchwave.evidence import chain as evidence
from patchwave.evidence import signing
from patchwave.methods import ansible
from patchwave.methods.ansible import HostResult
from patchwave.releases import quarantine, waivers
from patchwave.releases.release import load as load_release
from patchwave.releases.waivers import Holds
from patchwave.schedule.rollout import (
    COMPLIANT,
    Batch,
    Gate,
    State,
    batches,
    end_state,
    gate,
    needed,
    outstanding,
    versions,
)
from patchwave.wave import exports
from patchwave.wave import page as report
from patchwave.wave.exports import HostRow, RunRow
from patchwave.wave.journal import Journal, open_run
from patchwave.wave.prober import Prober

Outcome = Literal["succeeded", "rolled-back", "failed", "refused"]
STOP = "stop"
ENOUGH = 10
PATCHED = ("drain", "transaction", "verify", "undrain")
RESTORED = ("restore", "verify", "undrain")
STEPS = frozenset({*PATCHED, *RESTORED, "reboot"})
WAYS = {"snapshot": restore_points, "disk_snapshot": disk_snapshots}
"""Who takes a machine's snapshot and swaps it back, by the way back of its fleet."""


class Wave:
    """One process's part of a wave; holds the stack's wave lock while it lives."""

    def __init__(self, project: Path, stack: StackName, environ: Mapping[str, str] = os.environ) -> None:
        self.project, self.stack, self.environ = project, stack, environ
        file = load_stack(project, stack)
        if file.release is None:
            raise UsageError(f"Pulumi.{stack}.yaml names no patchwave:release: seal or promote one first")
        self.settings, self._named = file.settings, file.waivers
        self.standard = load_standard(project)
        self.release = load_release(project, file.release)
        self.folder = permission.folder(project, stack, self.release.id)
        self._lock = _lock(self.folder.parent, stack)
        self.chain = evidence.Chain.open(self.folder)
        begun = open_run(self.chain.records, self.release.digest)
        self.journal = Journal(lambda: self.chain.records, begun) if begun else self._begin()
        if not self.journal.of("decision"):
            self._decide("wave", needed(batches(self.journal.planned, self.settings.rollout), self.settings.rollout))

    def preflight(self) -> None:
        """Every planned host by name: fit to be patched, or the reason why not."""
        if self.journal.did("preflight"):
            return
        hosts = self.journal.planned
        with self._phase("preflight"):
            results = self._play("preflight", hosts)
            for host in hosts:
                self._note_preflight(host, results[host.name])
        unfit = {h.name: facts.problem for h in hosts if (facts := self.journal.facts(h)).problem or not facts.looked}
        print(f"preflight {len(hosts) - len(unfit)}/{len(hosts)} fit", flush=True)
        if len(unfit) > self.settings.rollout.failure_budget:
            name, reason = next(iter(unfit.items()))
            self._stop("failed", f"{name} is not fit to be patched ({reason}): fix it and run again")

    def protect(self) -> None:
        """Before anything changes: the new and the old packages on the host, hashed; archives, dumps, snapshots."""
        self.preflight()
        if self.journal.did("protect"):
            return
        hosts = self.journal.todo()
        with self._phase("protect"), ThreadPoolExecutor(max_workers=4) as pool:
            points = {host.name: pool.submit(self._snapshot, host) for host in hosts if self._by_snapshot(host)}
            results = self._play("protect", hosts)
            bad = {name: reason for name, point in points.items() if (reason := _problem_of(point.result))}
            bad |= {name: _why(result) for name, result in results.items() if not result.ok("protect")}
            for host in hosts:
                found = results[host.name].steps.get("protect", {})
                summary: dict[str, Any] = {
                    key: found[key] for key in ("bytes", "baseline_ms", "archive", "dumps") if key in found
                }
                if host.name in bad:
                    summary["reason"] = bad[host.name]
                self._note_host("protect", "protect", host.name, host.name not in bad, summary)
        print(f"protect   {len(hosts) - len(bad)}/{len(hosts)} can go back", flush=True)
        if bad:
            name, why = next(iter(bad.items()))
            self._stop("failed", f"{name} has no way back ({why}): nothing was changed, fix it and run again")

    def patch(self, ring: str) -> None:
        """One ring, batch by batch; a breach takes the batch back and ends the wave."""
        self.protect()
        todo = [b for b in self._batches() if b.ring == ring and not self.journal.did_batch(b)]
        if todo:
            self._repairs("Suspend")
            with Prober(self._public_url()) as prober:
                for batch in todo:
                    self._permit(batch)
                    self._patch_batch(batch, prober)
        mine = [host for host in self.journal.planned if host.ring == ring]
        good = [host for host in mine if host.name not in self.journal.restored()]
        print(f"{ring:<9} {len(good)}/{len(mine)} healthy", flush=True)

    def prove(self) -> None:
        """Scans again, gives every planned host its one end state, and closes the evidence."""
        for ring in self.settings.rollout.rings:
            self.patch(ring.name)
        outcome, reason, states = self._finish()
        parts = []
        for ring in self.settings.rollout.rings:
            mine = [states[host.name] for host in self.journal.planned if host.ring == ring.name]
            parts.append(f"{ring.name} {sum(state in COMPLIANT for state in mine)}/{len(mine)} healthy")
        rebooted, seconds = self.journal.count("reboot", "rebooted"), self.journal.seconds()
        print(f"wave      {' · '.join(parts)} · rebooted {rebooted} · {seconds:.0f} s", flush=True)
        if outcome != "succeeded":
            raise Failed(f"{self.stack}: wave {self.journal.run} {outcome}: {reason}")

    def _patch_batch(self, batch: Batch, prober: Prober) -> None:
        with self._phase("patch", ring=batch.ring, batch=batch.number, hosts=list(batch.names)):
            before = prober.sample(at_least=ENOUGH)
            results = self._play("patch", batch.hosts, batch=batch.number)
            during, after = prober.sample(), prober.sample(at_least=ENOUGH)
            judged = gate(before, during, after, standard=self.standard, enough=ENOUGH)
            bad = {name: _why(result) for name, result in results.items() if not result.ok(*PATCHED)}
            spent, budget = len(self.journal.restored()) + len(bad), self.settings.rollout.failure_budget
            if judged.passed and spent > budget:
                name, why = next(iter(bad.items()))
                judged = Gate(passed=False, reason=f"{spent} failed, {budget} may: {name}: {why}")
            samples = {"before": before.model_dump(), "during": during.model_dump(), "after": after.model_dump()}
            named = {"gate": "batch", "ring": batch.ring, "batch": batch.number}
            self._say("gate", {**named, **judged.model_dump(), "samples": samples})
            back = [host for host in batch.hosts if host.name in bad] if judged.passed else list(batch.hosts)
            whole = self._take_back(back, bad) if back else True
        if not judged.passed:
            self._stop("rolled-back" if whole else "failed", f"batch {batch.number} was taken back: {judged.reason}")

    def _take_back(self, hosts: Sequence[Host], why: Mapping[str, str]) -> bool:
        """Whether each of these hosts is healthy again on what it had before this run."""
        print(f"restore   {', '.join(host.name for host in hosts)}", flush=True)
        with self._phase("restore", hosts=[host.name for host in hosts]):
            snapshots = [host for host in hosts if self._by_snapshot(host)]
            downgrades = [host for host in hosts if not self._by_snapshot(host)]
            with ThreadPoolExecutor(max_workers=4) as pool:
                swaps = {host.name: pool.submit(self._swap_back, host) for host in snapshots}
                problems = self._return("restore", downgrades, RESTORED)
                problems |= {name: _problem_of(swap.result) for name, swap in swaps.items()}
            swapped = [host for host in snapshots if problems[host.name] is None]
            problems |= self._return("return", swapped, ("verify", "undrain"))
            for host in hosts:
                problem = problems[host.name]
                state: State = "failed-unrestored" if problem else "failed-restored"
                method = "snapshot" if self._by_snapshot(host) else "downgrade"
                reason = "; ".join(filter(None, [why.get(host.name, "taken back with its batch"), problem]))
                row = {"host": host.name, "method": method, "ok": problem is None, "state": state, "reason": reason}
                self._say("restore", row)
        return not any(problems.values())

    def _return(self, playbook: str, hosts: Sequence[Host], steps: Sequence[str]) -> dict[str, str | None]:
        """What keeps each host from being healthy again after a playbook, None where nothing does."""
        if not hosts:
            return {}
        results = self._play(playbook, hosts)
        return {name: None if result.ok(*steps) else _why(result) for name, result in results.items()}

    def _finish(self, outcome: Outcome | None = None, reason: str = "") -> tuple[Outcome, str, dict[str, State]]:
        """Scans, writes one state for each planned host, exports, signs and draws; how it all ended, and why."""
        self._repairs("Resume")
        states: dict[str, State] = {}
        rows = []
        with self._phase("prove"):
            scans = {} if outcome == "refused" else self._play("scan", self.journal.planned)
            for host in self.journal.planned:
                facts, result = self.journal.facts(host), scans.get(host.name)
                scanned = result.steps.get("scan") if result else None
                after = versions(self.release, scanned["packages"]) if scanned else None
                restored = self.journal.restored().get(host.name)
                state, why = end_state(facts, touched=self.journal.touched(host), restored=restored, after=after)
                states[host.name] = state
                row = {"host": host.name, "state": state, "before": facts.before, "after": after or {}, "reason": why}
                self._say("state", {**row, "waived": facts.waived})
                rows.append(self._host_row(host, state, why or "", facts.before, after or {}))
        wrong = {name: state for name, state in states.items() if state not in COMPLIANT and state != "held"}
        if outcome is None:
            outcome = "failed" if wrong else "succeeded"
            reason = ", ".join(f"{name} is {state}" for name, state in wrong.items())
        self._quarantine()
        self._export("PatchHosts", rows)
        compliant = sum(state in COMPLIANT for state in states.values())
        self._export("PatchRuns", [self._run_row("ended", outcome, reason, compliant)])
        counts = {state: list(states.values()).count(state) for state in sorted(set(states.values()))}
        ended = {"outcome": outcome, "counts": counts, "reason": reason, "real_time": clock.iso(datetime.now(UTC))}
        self._say("wave-ended", ended)
        if key := self.environ.get("PATCHWAVE_SIGNING_KEY"):
            evidence.sign(self.folder, Path(key))
        report.render(self.folder, signers=self._signers(), release=self.release)
        return outcome, reason, states

    def _quarantine(self) -> None:
        """Puts what the run brought to hosts that it had to restore on the list that is committed."""
        found = quarantine.taken_back([record for record in self.chain.records if record.run == self.journal.run])
        if fresh := quarantine.add(self.project, found):
            some = ", ".join(f"{entry.package} {entry.version}" for entry in fresh[:ENOUGH])
            print(f"quarantine {some}: commit releases/{quarantine.FILE}", flush=True)

    def _stop(self, outcome: Outcome, reason: str) -> NoReturn:
        """Ends the wave now, with evidence, and says so in one line."""
        self._finish(outcome, reason)
        kind = Refused if outcome == "refused" else Failed
        raise kind(f"{self.stack}: wave {self.journal.run} {outcome}: {reason}")

    def _begin(self) -> Journal:
        """A new run over every host that the inventory has."""
        inventory = discover(self.stack, self.settings, self.environ)
        hosts = inventory.hosts
        if not inventory.complete:
            raise Failed(
                f"{self.stack}: Azure lists {len(hosts)} hosts, the settings declare at least {inventory.expected}: "
                "a short inventory is not patched, look for what is missing"
            )
        number = {name: b.number for b in batches(hosts, self.settings.rollout) for name in b.names}
        now, shift = self._now(), clock.shift(self.environ)
        relied = waivers.relied(self.project, self._named, self.standard, self.release)
        self.journal = Journal(lambda: self.chain.records, f"{now:%Y%m%dT%H%M%SZ}-{self.release.digest[:6]}")
        rehearsal = (
            None
            if shift is None
            else {"shift_seconds": int(shift.total_seconds()), "real_time": clock.iso(datetime.now(UTC))}
        )
        self._say(
            "wave-started",
            {
                "stack": self.stack,
                "release": self.release.id,
                "digest": self.release.digest,
                "rehearsal": rehearsal,
                "planned": [host.model_dump(mode="json") | {"batch": number[host.name]} for host in hosts],
                "waivers": [one.waiver.model_dump(mode="json") for one in relied if one.waiver],
            },
        )
        self._export("PatchRuns", [self._run_row("started")])
        return self.journal

    def _permit(self, batch: Batch) -> None:
        """Ends the wave unless the batch has permission and nobody has stopped the line."""
        stop = self.folder.parent / STOP
        if stop.exists():
            who = stop.read_text(encoding="utf-8").strip()
            stop.unlink()
            self._stop("refused", f"stopped before batch {batch.number} by {who}: run again to go on")
        self._decide(f"batch {batch.number}", self.settings.rollout.host_takes)

    def _decide(self, before: str, needs: timedelta) -> None:
        """Records a decision with all that it was made from, and ends the wave when it does not allow."""
        calendar, now = self.settings.calendar, self._now()
        inputs = permission.gather(
            self.project, self.stack, self.release, calendar, needs=needs, at=now, environ=self.environ
        )
        decision = permission.decide(inputs)
        earlier = [record.data for record in self.journal.of("decision")]
        self._say("decision", permission.record(before, inputs, decision, earlier))
        if not decision.allowed:
            self._stop("refused", permission.reasons(inputs, decision))

    def _batches(self) -> list[Batch]:
        todo = self.journal.todo()
        whole = batches(self.journal.planned, self.settings.rollout)
        kept = [b.model_copy(update={"hosts": tuple(host for host in b.hosts if host in todo)}) for b in whole]
        return [batch for batch in kept if batch.hosts]

    def _note_preflight(self, host: Host, result: HostResult) -> None:
        found = result.steps.get("preflight", {})
        checks = found.get("checks", [])
        for check in checks:
            self._say("check", {"host": host.name, **{key: check[key] for key in ("name", "ok", "detail")}})
        failed = [check for check in checks if not check["ok"] and check["name"] != "held"]
        problem = f"{failed[0]['name']}: {failed[0]['detail']}" if failed else None
        if not result.ok("preflight"):
            problem = _why(result)
        facts: dict[str, Any] = {"problem": problem}
        if scan := found.get("scan"):
            offered = {update["name"]: update["to"] for update in scan["pending"]}
            facts["before"] = versions(self.release, scan["packages"])
            todo = outstanding(self.release, scan["packages"], offered)
            facts["waived"] = {name: one for name, one in self._holds(host).packages.items() if name in todo}
            facts["todo"] = {name: to for name, to in todo.items() if name not in facts["waived"]}
            facts["held"] = sorted(set(scan["held"]) & set(facts["todo"]))
        self._note_host("preflight", "preflight", host.name, problem is None, facts)

    def _play(self, playbook: str, hosts: Sequence[Host], batch: int | None = None) -> dict[str, HostResult]:
        """Runs one playbook on these hosts and records each step of each host as it is reported."""
        names = {host.name for host in hosts}

        def heard(line: Mapping[str, Any]) -> None:
            if line["host"] in names and line["step"] in STEPS and line["status"] != "skipped":
                self._note_host(playbook, line["step"], line["host"], line["status"] == "ok", _figures(line), batch)

        variables = {
            "pw_run": self.journal.run,
            "pw_release": self.release.plain(),
            "pw_settings": self._variables(),
            "pw_holds": {host.name: self._holds(host).model_dump(mode="json") for host in hosts},
            "pw_refresh": False,  # a scan after the wave judges by the lists that the preflight brought up to date
        }
        return ansible.run(self.project, playbook, hosts, variables=variables, heard=heard) if hosts else {}

    def _holds(self, host: Host) -> Holds:
        """What the run's waivers put on hold on a host; by the run's beginning, so that a resumed run does the same."""
        begun = self.journal.of("wave-started")[0]
        at = datetime.fromisoformat(begun.at)
        return waivers.holds(self.journal.waivers, self.release, stack=self.stack, host=host, now=at)

    def _variables(self) -> dict[str, Any]:
        """The stack's decisions as the roles take them: durations in seconds."""
        service, preflight = self.settings.service, self.settings.preflight
        return {
            "services": list(service.units),
            "databases": list(service.databases),
            "config_paths": list(service.config_paths),
            "health": {
                "url": service.health.url,
                "samples": service.health.samples,
                "interval_seconds": service.health.interval.total_seconds(),
                "deadline_seconds": int(service.health.deadline.total_seconds()),
            },
            "drain": {
                "refused_probes": service.drain.refused_probes,
                "deadline_seconds": int(service.drain.deadline.total_seconds()),
            },
            "disk_free_mb": preflight.disk_free_mb,
            "clock_skew_seconds": int(preflight.clock_skew.total_seconds()),
            "reboot_deadline_seconds": int(preflight.reboot_deadline.total_seconds()),
            "unattended_upgrades": self.standard.stacks[self.stack].unattended_upgrades,
        }

    def _host_row(
        self, host: Host, state: State, reason: str, before: Mapping[str, str], after: Mapping[str, str]
    ) -> HostRow:
        return HostRow(
            TimeGenerated=self._now(),
            Stack=self.stack,
            Release=self.release.id,
            Run=self.journal.run,
            Host=host.name,
            Fleet=host.fleet,
            Ring=host.ring,
            State=state,
            Reason=reason,
            Packages=sum(before.get(package) != version for package, version in after.items()),
        )

    def _run_row(
        self, event: Literal["started", "ended"], outcome: str = "", reason: str = "", compliant: int = 0
    ) -> RunRow:
        return RunRow(
            TimeGenerated=self._now(),
            Stack=self.stack,
            Release=self.release.id,
            Run=self.journal.run,
            Event=event,
            Outcome=outcome,
            Reason=reason,
            Hosts=len(self.journal.planned),
            Compliant=compliant,
        )

    def _export(self, table: str, rows: Sequence[HostRow | RunRow]) -> None:
        """Sends rows to Log Analytics; that it failed is recorded, and is no reason to fail the wave."""
        endpoint, rule = self.environ.get("PATCHWAVE_INGESTION_URL"), self.environ.get("PATCHWAVE_INGESTION_RULE")
        if not endpoint or not rule:
            return
        try:
            with Arm(self.environ) as arm:
                arm.ingest(endpoint, rule, exports.stream(table), [row.model_dump(mode="json") for row in rows])
            self._say("export", {"ok": True, "detail": f"{table}, rows: {len(rows)}"})
        except PatchwaveError as error:
            self._say("export", {"ok": False, "detail": str(error)})
            print(f"export    failed: {error}", flush=True)

    def _by_snapshot(self, host: Host) -> bool:
        return self.settings.fleets[host.fleet].way_back in WAYS

    def _snapshot(self, host: Host) -> None:
        way = WAYS[self.settings.fleets[host.fleet].way_back]
        with Arm(self.environ) as arm:
            taken = way.take(arm, host.id, self.journal.run)
            gone = way.expire(arm, host.id, self.settings.snapshots.keep, datetime.now(UTC))
        print(f"  {host.name}  snapshot {taken.rsplit('/', 1)[1]}, {gone} expired", flush=True)

    def _swap_back(self, host: Host) -> None:
        with Arm(self.environ) as arm:
            WAYS[self.settings.fleets[host.fleet].way_back].swap_back(arm, host.id, self.journal.run)

    def _repairs(self, act: repairs.Act) -> None:
        """A drained instance looks unhealthy: while batches run, no scale set repairs by itself."""
        if self.settings.slots.repairs:
            with Arm(self.environ) as arm:
                for scale_set in repairs.scale_sets(h.id for h in self.journal.planned if h.source == "vmss"):
                    repairs.switch(arm, scale_set, act)

    def _public_url(self) -> str:
        url = self.environ.get("PATCHWAVE_PUBLIC_URL")
        if not url:
            raise UsageError("PATCHWAVE_PUBLIC_URL is not set: run the wave through `pulumi up`, which knows it")
        return url

    def _signers(self) -> Path | None:
        return signing.allowed_signers(self.project, self.environ)

    def _now(self) -> datetime:
        return clock.now(self.environ)

    def _say(self, kind: str, data: Mapping[str, Any]) -> None:
        self.chain.append(kind, self.journal.run, data, at=self._now())

    def _note_host(
        self, phase: str, step: str, host: str, ok: bool, summary: Mapping[str, Any], batch: int | None = None
    ) -> None:
        data = {"host": host, "phase": phase, "step": step, "ok": ok, "summary": dict(summary)}
        self._say("host", data if batch is None else data | {"batch": batch})

    @contextmanager
    def _phase(self, phase: str, **fields: Any) -> Iterator[None]:
        self._say("phase", {"phase": phase, "event": "started", **fields})
        yield
        self._say("phase", {"phase": phase, "event": "ended", **fields})


def _figures(line: Mapping[str, Any]) -> dict[str, Any]:
    """What of a step's result is worth keeping for years: figures and reasons, no logs and no package lists."""
    result = line["result"]
    kept: dict[str, Any] = {k: v for k, v in result.items() if isinstance(v, (bool, int, float)) and k != "failed"}
    if "msg" in result:
        kept["msg"] = " ".join(str(result["msg"]).split())[:500]
    return kept


def _why(result: HostResult) -> str:
    return result.problem or f"it reported only {', '.join(result.steps) or 'nothing'}"


def _problem_of(work: Callable[[], None]) -> str | None:
    try:
        work()
    except PatchwaveError as error:
        return str(error)
    return None


def _lock(place: Path, stack: str) -> int:
    """A lock that dies with its holder, so that two controllers never carry the same stack."""
    place.mkdir(parents=True, exist_ok=True)
    handle = os.open(place / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 100, 0).decode() or "another process"
        os.close(handle)
        raise Refused(
            f"{stack}: a wave is running ({holder}): wait for it, or `patchwave stop --stack {stack}`"
        ) from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"process {os.getpid()}".encode(), 0)
    return handle
