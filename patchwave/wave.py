"""Carries one release out on one stack: preflight, protect, patch ring by ring, prove.

Each phase is a process of its own and may be killed at any point: what has been done stands in the evidence and
on the hosts under the run's id, and the next process goes on from there.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NoReturn

from patchwave import ansible, clock, evidence, permission, report, restore_points
from patchwave.ansible import HostResult
from patchwave.arm import Arm
from patchwave.errors import Failed, Misuse, PatchwaveError, Refused
from patchwave.inventory import Host, discover
from patchwave.prober import Prober
from patchwave.release import load as load_release
from patchwave.rollout import (
    COMPLIANT,
    Batch,
    Gate,
    State,
    batches,
    expected_count,
    gate,
    needed,
    outstanding,
    versions,
)
from patchwave.settings import load_stack
from patchwave.standard import StackName, load_standard

Outcome = Literal["succeeded", "rolled-back", "failed", "refused"]
STOP = "stop"
ENOUGH = 10
RESTORED: tuple[State, ...] = ("failed-restored", "failed-unrestored")


class Wave:
    """One process's part of a wave; holds the stack's wave lock while it lives."""

    def __init__(self, project: Path, stack: StackName, environ: Mapping[str, str] = os.environ) -> None:
        self.project, self.stack, self.environ = project, stack, environ
        file = load_stack(project, stack)
        if file.release is None:
            raise Misuse(f"Pulumi.{stack}.yaml names no patchwave:release: seal or promote one first")
        self.settings = file.settings
        self.standard = load_standard(project)
        self.release = load_release(project, file.release)
        self.folder = permission.folder(project, stack, self.release.id)
        self.url = environ.get("PATCHWAVE_PUBLIC_URL")
        self.signers = _path(environ, "PATCHWAVE_ALLOWED_SIGNERS") or project / "policy" / "allowed_signers"
        self._lock = _lock(self.folder.parent, stack)
        self.chain = evidence.Chain.open(self.folder)
        self.run = self._open_run()

    # phases

    def preflight(self) -> None:
        """Every planned host by name: fit to be patched, or the reason why not."""
        if self._did("preflight"):
            return
        if self.run is None:
            self._begin()
        unfit: dict[str, str] = {}
        with self._phase("preflight"):
            results = self._play("preflight", self.planned)
            for host in self.planned:
                result = results[host.name]
                for check in result.steps.get("preflight", {}).get("checks", []):
                    self._say("check", {"host": host.name, **{key: check[key] for key in ("name", "ok", "detail")}})
                reason = self._unfit(result)
                scan = result.steps.get("preflight", {}).get("scan")
                if scan:
                    before = versions(self.release, scan["packages"])
                    todo = outstanding(self.release, scan["packages"], {p["name"]: p["to"] for p in scan["pending"]})
                    held = sorted(set(scan["held"]) & set(todo))
                    self._say(
                        "host",
                        self._host("preflight", host, reason is None, {"before": before, "todo": todo, "held": held}),
                    )
                if reason:
                    unfit[host.name] = reason
                    self._say("host", self._host("preflight", host, False, {"problem": reason}))
        print(f"preflight {len(self.planned) - len(unfit)}/{len(self.planned)} fit", flush=True)
        if len(unfit) > self.settings.rollout.failure_budget:
            name, reason = next(iter(unfit.items()))
            self._stop("failed", f"{name} is not fit to be patched ({reason}): mend it and run again")

    def protect(self) -> None:
        """Before anything changes: the new and the old packages on the host, hashed; archives, dumps, snapshots."""
        self.preflight()
        if self._did("protect"):
            return
        todo = self._todo()
        with self._phase("protect"), ThreadPoolExecutor(max_workers=4) as pool:
            points = {host.name: pool.submit(self._restore_point, host) for host in todo if self._by_snapshot(host)}
            results = self._play("protect", todo)
            problems = {name: _problem(point.result) for name, point in points.items()}
            bad = {name: reason for name, reason in problems.items() if reason}
            bad |= {name: result.problem or "no answer" for name, result in results.items() if not result.ok("protect")}
            for host in todo:
                summary = results[host.name].steps.get("protect", {})
                kept = {key: summary[key] for key in ("bytes", "baseline_ms", "archive", "dumps") if key in summary}
                self._say(
                    "host",
                    self._host("protect", host, host.name not in bad, kept | _reason(bad.get(host.name))),
                )
        print(f"protect   {len(todo) - len(bad)}/{len(todo)} can go back", flush=True)
        if len(bad) > self.settings.rollout.failure_budget:
            name, reason = next(iter(bad.items()))
            self._stop("failed", f"{name} has no way back ({reason}): nothing was changed, mend it and run again")

    def patch(self, ring: str) -> None:
        """One ring, batch by batch; a breach takes the batch back and ends the wave."""
        self.protect()
        todo = [batch for batch in self._batches() if not self._batch_did(batch)]
        mine = [batch for batch in todo if batch.ring == ring]
        if not mine:
            return
        with Prober(self._public_url()) as prober:
            for batch in mine:
                self._permit(batch)
                self._patch_batch(batch, prober)
        good = [h for h in self.planned if h.ring == ring and h.name not in self._unrestored_or_restored()]
        total = [h for h in self.planned if h.ring == ring]
        print(f"{ring:<9} {len(good)}/{len(total)} healthy", flush=True)

    def prove(self) -> None:
        """Scans again, gives every planned host its one end state, and closes the evidence."""
        for ring in self.settings.rollout.rings:
            self.patch(ring.name)
        outcome, reason = self._finish()
        shown = evidence.summary(evidence.read(self.folder))
        parts = []
        for ring in self.settings.rollout.rings:
            names = [h.name for h in self.planned if h.ring == ring.name]
            good = [h for h in shown["hosts"] if h["name"] in names and h["state"] in COMPLIANT]
            parts.append(f"{ring.name} {len(good)}/{len(names)} healthy")
        rebooted = sum(
            r.data["step"] == "reboot" and bool(r.data["summary"].get("rebooted")) for r in self._mine("host")
        )
        print(f"wave      {' · '.join(parts)} · rebooted {rebooted} · {self._seconds():.0f} s", flush=True)
        if outcome != "succeeded":
            raise Failed(f"{self.stack}: wave {self.run} {outcome}: {reason}")

    # one batch

    def _patch_batch(self, batch: Batch, prober: Prober) -> None:
        fields = {"ring": batch.ring, "batch": batch.number, "hosts": list(batch.names)}
        self._say("phase", {"phase": "patch", "event": "started", **fields})
        before = prober.sample(at_least=ENOUGH)
        results = self._play("patch", batch.hosts, batch=batch.number)
        during = prober.sample()
        after = prober.sample(at_least=ENOUGH)
        judged = gate(before, during, after, stack=self.stack, standard=self.standard, enough=ENOUGH)
        bad = {
            h.name: _why(results[h.name])
            for h in batch.hosts
            if not results[h.name].ok("transaction", "verify", "undrain")
        }
        samples = {"before": before.model_dump(), "during": during.model_dump(), "after": after.model_dump()}
        spent = len(self._unrestored_or_restored()) + len(bad)
        budget = self.settings.rollout.failure_budget
        if judged.passed and spent > budget:
            name, why = next(iter(bad.items()))
            judged = Gate(passed=False, reason=f"{spent} failed of {budget} allowed, {name}: {why}")
        self._say(
            "gate",
            {
                "gate": "batch",
                "ring": batch.ring,
                "batch": batch.number,
                **judged.model_dump(),
                "samples": samples,
            },
        )
        if not judged.passed:
            whole = self._take_back(batch.hosts, bad)
            self._say("phase", {"phase": "patch", "event": "ended", **fields})
            self._stop("rolled-back" if whole else "failed", f"batch {batch.number} was taken back: {judged.reason}")
        if bad:
            self._take_back([h for h in batch.hosts if h.name in bad], bad)
        self._say("phase", {"phase": "patch", "event": "ended", **fields})

    def _take_back(self, hosts: Sequence[Host], why: Mapping[str, str]) -> bool:
        """Whether each of these hosts is healthy again on what it had before this run."""
        print(f"restore   {', '.join(host.name for host in hosts)}", flush=True)
        with self._phase("restore", hosts=[host.name for host in hosts]):
            return self._restore(hosts, why)

    def _restore(self, hosts: Sequence[Host], why: Mapping[str, str]) -> bool:
        snapshots = [host for host in hosts if self._by_snapshot(host)]
        downgrades = [host for host in hosts if not self._by_snapshot(host)]
        problems: dict[str, str | None] = {}
        with ThreadPoolExecutor(max_workers=4) as pool:
            swaps = {host.name: pool.submit(self._swap_back, host) for host in snapshots}
            if downgrades:
                results = self._play("restore", downgrades)
                done = {h.name: results[h.name].ok("restore", "verify", "undrain") for h in downgrades}
                problems |= {name: None if good else _why(results[name]) for name, good in done.items()}
            problems |= {name: _problem(swap.result) for name, swap in swaps.items()}
        returned = [host for host in snapshots if problems[host.name] is None]
        if returned:
            results = self._play("return", returned)
            problems |= {
                h.name: None if results[h.name].ok("verify", "undrain") else _why(results[h.name]) for h in returned
            }
        for host in hosts:
            problem = problems[host.name]
            method = "snapshot" if self._by_snapshot(host) else "downgrade"
            state: State = "failed-unrestored" if problem else "failed-restored"
            reason = "; ".join(filter(None, [why.get(host.name, "taken back with its batch"), problem]))
            self._say(
                "restore",
                {
                    "host": host.name,
                    "method": method,
                    "ok": problem is None,
                    "state": state,
                    "reason": reason,
                },
            )
        return not any(problems.values())

    # the end

    def _finish(self, outcome: Outcome | None = None, reason: str = "") -> tuple[Outcome, str]:
        """Scans, writes one state for each planned host, signs, exports and draws; the outcome and its reason."""
        states: dict[str, State] = {}
        rows = []
        with self._phase("prove"):
            results = self._play("scan", self.planned) if self.planned and outcome != "refused" else {}
            for host in self.planned:
                state, before, after, why = self._end_state(host, results.get(host.name))
                states[host.name] = state
                self._say(
                    "state",
                    {"host": host.name, "state": state, "before": before, "after": after, "reason": why},
                )
                rows.append({"host": host.name, "state": state, "reason": why})
        wrong = {name: state for name, state in states.items() if state not in COMPLIANT and state != "held"}
        if outcome is None:
            outcome = "failed" if wrong else "succeeded"
            reason = ", ".join(f"{name} is {state}" for name, state in wrong.items())
        counts = {state: list(states.values()).count(state) for state in sorted(set(states.values()))}
        self._export(rows)
        ended = {"outcome": outcome, "counts": counts, "reason": reason, "real_time": _iso(datetime.now(UTC))}
        self._say("wave-ended", ended)
        if key := _path(self.environ, "PATCHWAVE_SIGNING_KEY"):
            evidence.sign(self.folder, key)
        report.render(self.folder, signers=self.signers if self.signers.exists() else None, release=self.release)
        return outcome, reason

    def _stop(self, outcome: Outcome, reason: str) -> NoReturn:
        """Ends the wave now, with evidence, and says so in one line."""
        run = self.run
        self._finish(outcome, reason)
        kind = Refused if outcome == "refused" else Failed
        raise kind(f"{self.stack}: wave {run} {outcome}: {reason}")

    def _end_state(
        self, host: Host, scanned: HostResult | None
    ) -> tuple[State, dict[str, str], dict[str, str], str | None]:
        first = self._preflight_of(host)
        before: dict[str, str] = first.get("before", {})
        scan = scanned.steps.get("scan") if scanned else None
        after = versions(self.release, scan["packages"]) if scan else {}
        restored = [r.data for r in self._mine("restore") if r.data["host"] == host.name]
        if restored:
            kept = {name: before[name] for name in after if name in before}
            if restored[-1]["state"] == "failed-restored" and after != kept:
                return (
                    "failed-unrestored",
                    before,
                    after,
                    "the scan finds other versions than before the wave",
                )
            return restored[-1]["state"], before, after, restored[-1]["reason"]
        if "problem" in first or not first:
            return ("deferred" if first else "not-attempted"), before, after, first.get("problem")
        if first["held"]:
            return "held", before, after, f"on hold: {', '.join(first['held'])}"
        if not first["todo"]:
            return "already-current", before, after, None
        if not any(r.data["phase"] == "patch" and r.data["host"] == host.name for r in self._mine("host")):
            return "not-attempted", before, after, None
        if scan is None:
            return "unknown", before, after, "it did not answer the last scan"
        missing = {name: to for name, to in first["todo"].items() if after.get(name) != to}
        if missing:
            name, to = next(iter(missing.items()))
            return "unknown", before, after, f"{name} is at {after.get(name)}, the release brings {to}"
        return "patched", before, after, None

    def _export(self, rows: Sequence[Mapping[str, Any]]) -> None:
        endpoint, rule = (
            self.environ.get("PATCHWAVE_INGESTION_URL"),
            self.environ.get("PATCHWAVE_INGESTION_RULE"),
        )
        if not endpoint or not rule or not rows:
            return
        common = {
            "TimeGenerated": _iso(self._now()),
            "Stack": self.stack,
            "Release": self.release.id,
            "Run": self.run,
        }
        shaped = [{**common, "Host": r["host"], "State": r["state"], "Reason": r["reason"] or ""} for r in rows]
        try:
            with Arm(self.environ) as arm:
                arm.ingest(endpoint, rule, "Custom-PatchHosts", shaped)
        except PatchwaveError as error:
            self._say("export", {"ok": False, "detail": str(error)})
            print(f"export    failed: {error}", flush=True)
        else:
            self._say("export", {"ok": True, "detail": f"{len(shaped)} rows"})

    # beginnings and permissions

    def _begin(self) -> None:
        now = self._now()
        shift = clock.shift(self.environ)
        soak = permission.promotion(
            self.project, self.stack, self.release, self.standard, now, datetime.now(UTC), self.signers
        )
        hosts = discover(self.stack, self.settings, self.environ)
        if len(hosts) < expected_count(self.settings):
            raise Failed(
                f"{self.stack}: Azure lists {len(hosts)} hosts, the settings declare at least "
                f"{expected_count(self.settings)}: a short inventory is not patched, look for what is missing"
            )
        plan = batches(hosts, self.settings.rollout)
        number = {host.name: batch.number for batch in plan for host in batch.hosts}
        needs = needed(plan, self.settings.rollout)
        verdict = permission.window(self.settings, now, needs)
        self.run = f"{now:%Y%m%dT%H%M%SZ}-{self.release.digest[:6]}"
        self._say(
            "wave-started",
            {
                "stack": self.stack,
                "release": self.release.id,
                "digest": self.release.digest,
                "rehearsal": None
                if shift is None
                else {"shift_seconds": int(shift.total_seconds()), "real_time": _iso(datetime.now(UTC))},
                "window": {
                    "allowed": verdict.open,
                    "reason": verdict.reason,
                    "closes": verdict.closes and _iso(verdict.closes),
                    "needs_seconds": int(needs.total_seconds()),
                },
                "planned": [host.model_dump(mode="json") | {"batch": number[host.name]} for host in hosts],
                "soak": soak and soak.model_dump(),
            },
        )
        if not verdict.open:
            self._stop("refused", permission.refusal(self.stack, self.settings, verdict))

    def _permit(self, batch: Batch) -> None:
        """Refused unless the batch can finish inside the window and nobody has stopped the line."""
        stop = self.folder.parent / STOP
        if stop.exists():
            who = stop.read_text(encoding="utf-8").strip()
            stop.unlink()
            self._stop("refused", f"stopped before batch {batch.number} by {who}: run again to go on")
        verdict = permission.window(self.settings, self._now(), self.settings.rollout.host_takes)
        if not verdict.open:
            self._stop("refused", permission.refusal(self.stack, self.settings, verdict))

    def _unfit(self, result: HostResult) -> str | None:
        if not result.ok("preflight"):
            return result.problem
        failed = [c for c in result.steps["preflight"]["checks"] if not c["ok"] and c["name"] != "held"]
        return f"{failed[0]['name']}: {failed[0]['detail']}" if failed else None

    # what the run has done, from its records

    def _open_run(self) -> str | None:
        runs = [
            r.run for r in self.chain.records if r.kind == "wave-started" and r.data["digest"] == self.release.digest
        ]
        ended = {r.run for r in self.chain.records if r.kind == "wave-ended"}
        return runs[-1] if runs and runs[-1] not in ended else None

    def _mine(self, kind: str) -> list[evidence.Record]:
        return [r for r in self.chain.records if r.run == self.run and r.kind == kind]

    @property
    def planned(self) -> tuple[Host, ...]:
        started = self._mine("wave-started")[0].data
        return tuple(Host.model_validate({k: v for k, v in h.items() if k != "batch"}) for h in started["planned"])

    def _batches(self) -> list[Batch]:
        todo = {host.name for host in self._todo()}
        kept = [
            b.model_copy(update={"hosts": tuple(h for h in b.hosts if h.name in todo)})
            for b in batches(self.planned, self.settings.rollout)
        ]
        return [batch for batch in kept if batch.hosts]

    def _todo(self) -> list[Host]:
        """Planned hosts that are fit and have something to bring that is not on hold."""
        facts = {host.name: self._preflight_of(host) for host in self.planned}
        return [h for h in self.planned if (f := facts[h.name]) and "problem" not in f and f["todo"] and not f["held"]]

    def _preflight_of(self, host: Host) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        for record in self._mine("host"):
            if record.data["host"] == host.name and record.data["phase"] == record.data["step"] == "preflight":
                facts |= record.data["summary"]
        return facts

    def _did(self, phase: str) -> bool:
        return self.run is not None and any(
            r.data["phase"] == phase and r.data["event"] == "ended" for r in self._mine("phase")
        )

    def _batch_did(self, batch: Batch) -> bool:
        return any(
            r.data["event"] == "ended" and r.data.get("batch") == batch.number and r.data["phase"] == "patch"
            for r in self._mine("phase")
        )

    def _unrestored_or_restored(self) -> set[str]:
        return {r.data["host"] for r in self._mine("restore") if r.data["state"] in RESTORED}

    def _seconds(self) -> float:
        first, last = self._mine("wave-started")[0].at, self.chain.records[-1].at
        return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()

    # effects

    def _play(self, playbook: str, hosts: Sequence[Host], batch: int | None = None) -> dict[str, HostResult]:
        """Runs one playbook and records each step of each host as it is reported."""
        known = {host.name: host for host in hosts}

        def heard(line: Mapping[str, Any]) -> None:
            if line["host"] in known and line["step"] in STEPS:
                self._say(
                    "host",
                    self._host(
                        playbook,
                        known[line["host"]],
                        line["status"] == "ok",
                        _short(line),
                        line["step"],
                        batch,
                    ),
                )

        return ansible.run(self.project, playbook, hosts, variables=self._variables(), heard=heard)

    def _variables(self) -> dict[str, Any]:
        service, preflight = self.settings.service, self.settings.preflight
        return {
            "pw_run": self.run,
            "pw_release": self.release.plain(),
            "pw_settings": {
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
            },
        }

    def _by_snapshot(self, host: Host) -> bool:
        return self.settings.fleets[host.fleet].way_back == "snapshot"

    def _restore_point(self, host: Host) -> None:
        with Arm(self.environ) as arm:
            point = restore_points.take(arm, host.id, str(self.run))
            gone = restore_points.expire(arm, host.id, self.settings.snapshots.keep, datetime.now(UTC))
        print(f"  {host.name}  restore point {point.rsplit('/', 1)[1]}, {gone} expired", flush=True)

    def _swap_back(self, host: Host) -> None:
        with Arm(self.environ) as arm:
            restore_points.swap_back(arm, host.id, str(self.run))

    def _public_url(self) -> str:
        if not self.url:
            raise Misuse("PATCHWAVE_PUBLIC_URL is not set: run the wave through `pulumi up`, which knows the address")
        return self.url

    def _now(self) -> datetime:
        return clock.now(self.environ)

    def _say(self, kind: str, data: Mapping[str, Any]) -> None:
        self.chain.append(kind, str(self.run), data, at=self._now())

    def _host(
        self,
        phase: str,
        host: Host,
        ok: bool,
        summary: Mapping[str, Any],
        step: str | None = None,
        batch: int | None = None,
    ) -> dict[str, Any]:
        data = {"host": host.name, "phase": phase, "step": step or phase, "ok": ok, "summary": dict(summary)}
        return data if batch is None else data | {"batch": batch}

    @contextmanager
    def _phase(self, phase: str, **fields: Any) -> Iterator[None]:
        self._say("phase", {"phase": phase, "event": "started", **fields})
        yield
        self._say("phase", {"phase": phase, "event": "ended", **fields})


STEPS = frozenset({"drain", "transaction", "reboot", "verify", "undrain", "restore"})


def _short(line: Mapping[str, Any]) -> dict[str, Any]:
    """What of a step's result is worth keeping for years: figures and reasons, no logs and no package lists."""
    result = line["result"]
    kept: dict[str, Any] = {
        key: value for key, value in result.items() if isinstance(value, (bool, int, float)) and key != "failed"
    }
    if "msg" in result:
        kept["msg"] = " ".join(str(result["msg"]).split())[:500]
    return kept


def _why(result: HostResult) -> str:
    return result.problem or "it did not report every step"


def _problem(work: Callable[[], None]) -> str | None:
    try:
        work()
    except PatchwaveError as error:
        return str(error)
    return None


def _reason(problem: str | None) -> dict[str, str]:
    return {"reason": problem} if problem else {}


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    return Path(environ[name]) if environ.get(name) else None


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


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
            f"{stack}: a wave is running ({holder}): wait for it, or stop it with `patchwave stop --stack {stack}`"
        ) from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"process {os.getpid()}".encode(), 0)
    return handle
