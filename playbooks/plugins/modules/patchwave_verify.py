#!/usr/bin/python
"""Proves that a host is well on exactly what it should have; without positive evidence it is not."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.module_utils import patchwave_methods
from ansible.module_utils import patchwave_service as service
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.patchwave_host import Journal, StepError, boot, count, serve

DOCUMENTATION = """
module: patchwave_verify
short_description: Proves that a host is well on exactly what it should have
description:
  - Checks the boot, the versions, the package database, the services and the answers of the process that serves
    now, which must have started after the change when its service was touched by it. Works on a drained host.
options:
  method: {description: How the host is patched., type: str, choices: [apt, dnf], required: true}
  run_id: {description: The run., type: str, required: true}
  settings: {description: The stack's settings for hosts., type: dict, required: true}
  since:
    description: The step whose outcome is proved.
    type: str
    choices: [transaction, restore, boot]
    default: transaction
  flag: {description: The file whose presence drains the service., type: path, required: true}
author: Patchwave
"""
EXAMPLES = """
- patchwave_verify:
    method: apt
    run_id: "{{ pw_run }}"
    settings: "{{ pw_settings }}"
    flag: /var/lib/fieldops/draining
"""
RETURN = """
checks: {description: "Each check as name, ok and detail.", type: list, returned: always}
median_ms: {description: Median latency of the service's page., type: float, returned: always}
baseline_ms: {description: The same before the run., type: float, returned: always}
errors: {description: Bad answers after the first good one., type: int, returned: always}
"""

SLACK = 1.0


class Prover:
    """Holds what must be true after a step, and finds out whether it is."""

    def __init__(self, journal: Journal, since: str, packages: patchwave_methods.Packages) -> None:
        self.packages = packages
        self.result: Mapping[str, Any] = {}
        if since != "boot":
            record = journal.read(since)
            if record and record["state"] in ("begun", "failed"):
                raise StepError(f"{since} of run {journal.run} did not end well here: there is nothing to prove")
            self.result = (record or {}).get("result") or {}
        protect = journal.result("protect") or {}
        self.baseline_ms: float | None = protect.get("baseline_ms")
        self.checks: list[dict[str, Any]] = []
        self._owners: dict[str, list[str]] = {}

    def note(self, name: str, problem: str, detail: str) -> bool:
        """Writes a check down and tells whether it passed."""
        self.checks.append({"name": name, "ok": not problem, "detail": problem or detail})
        return not problem

    def boot(self) -> bool:
        due = self.result.get("reboot") or {}
        now = boot()
        stale = due.get("needed") and due.get("boot") == now
        return self.note(
            "boot", "the reboot that was due has not happened" if stale else "", f"boot {now.split()[0][:8]}"
        )

    def versions(self) -> bool:
        installed = self.packages.installed_packages(self.packages.native_architecture())
        wrong = [
            f"{key} is {have.version + ' ' + have.status if have else 'gone'} instead of {version}"
            for key, version in (self.result.get("after") or {}).items()
            if (have := installed.get(key)) is None or have.version != version or have.status != "installed"
        ]
        problem = "; ".join(wrong[:3]) or self.packages.interrupted()
        return self.note(
            "versions",
            problem,
            f"{count(len(self.result.get('after') or {}), 'package')} as they should be, the package database at rest",
        )

    def running(self, units: list[service.Unit]) -> bool:
        down = [unit.name for unit in units if not unit.running]
        return self.note("services", f"{', '.join(down)} does not run" if down else "", f"{len(units)} running")

    def owners(self, unit: str) -> list[str]:
        """The packages of a unit, looked up once."""
        if unit not in self._owners:
            self._owners[unit] = service.owners(unit, self.packages)
        return self._owners[unit]

    def fits(self, body: Mapping[str, Any]) -> str:
        """Why an answer does not come from the process that should serve now, or an empty string."""
        changed_at = self.result.get("changed_at")
        if changed_at is None:
            return ""
        pid, unit, started = service.serving_process(body)
        stopped = (self.result.get("services") or {}).get("stopped") or []
        if unit in stopped if unit else bool(stopped):
            if started is None:
                return "the answer does not tell when its process started"
            if started < changed_at - SLACK:
                return (
                    f"the process of before the change still answers (started {changed_at - started:.0f} s too early)"
                )
        if pid and (old := service.old_code(pid)):
            return old
        said = body.get("version")
        for owner in self.owners(unit) if unit and isinstance(said, str) else []:
            version = (self.result.get("after") or {}).get(owner)
            if version and not version.partition(":")[2 if ":" in version else 0].startswith(str(said)):
                return f"version {said} answers, {owner} is at {version}"
        return ""


def work(params: dict[str, Any]) -> dict[str, Any]:
    prover = Prover(Journal(params["run_id"]), params["since"], patchwave_methods.of(params["method"]))
    settings, health = params["settings"], params["settings"].get("health") or {}
    found = service.units(settings.get("services") or [])
    evidence: dict[str, Any] = {
        "checks": prover.checks,
        "baseline_ms": prover.baseline_ms,
        "median_ms": None,
        "errors": 0,
    }
    good = prover.boot() and prover.versions()
    if good and found and health.get("url"):
        result = service.sample(
            health["url"],
            samples=int(health.get("samples", 3)),
            interval=float(health.get("interval_seconds", 1)),
            deadline=float(health.get("deadline_seconds", 60)),
            drained=service.Flag(params["flag"]).owner() is not None,
            fits=prover.fits,
        )
        evidence.update(median_ms=result.median_ms, errors=result.errors, warm_up=result.warm_up, samples=result.good)
        good = prover.note(
            "health", result.problem, f"{count(result.good, 'good answer')} in a row, median {result.median_ms} ms"
        )
        if good:
            # Only a service that is up shows whether its health check can say no at all.
            answer = service.control(health["url"])
            good = prover.note(
                "control", "a path that does not exist answers healthy" if answer.healthy else "", answer.said
            )
        found = service.units(settings.get("services") or [])
    good = prover.running(found) and good
    if not good:
        bad = next(check for check in prover.checks if not check["ok"])
        raise StepError(f"{bad['name']}: {bad['detail']}", **evidence)
    latency = (
        f", median {evidence['median_ms']:g} ms (before {prover.baseline_ms or 0:g})" if evidence["median_ms"] else ""
    )
    return {**evidence, "at": time.time(), "summary": f"well{latency}, {count(evidence['errors'], 'error')}"}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "method": {"type": "str", "choices": ["apt", "dnf"], "required": True},
            "run_id": {"type": "str", "required": True},
            "settings": {"type": "dict", "required": True},
            "since": {"type": "str", "choices": ["transaction", "restore", "boot"], "default": "transaction"},
            "flag": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    serve(module, "verify", work)


if __name__ == "__main__":
    main()
