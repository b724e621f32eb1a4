#!/usr/bin/python
"""Proves that a host is well on exactly what it should have; without positive evidence it is not."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils import patchwave_health as health
from ansible.module_utils import patchwave_methods
from ansible.module_utils import patchwave_units as units
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.patchwave_hooks import ran_text, run_hooks
from ansible.module_utils.patchwave_host import Journal, StepError, boot, count, host_lock, serve
from ansible.module_utils.patchwave_options import METHOD, RUN, SERVICE
from ansible.module_utils.patchwave_traffic import Marker

DOCUMENTATION = """
module: patchwave_verify
short_description: Proves that a host is well on exactly what it should have
description:
  - Checks the boot, the versions and the package database, runs the service's hooks of after the change or the
    restore, and then checks the health of the service and that its processes are those of after the change. Works
    on a drained host.
options:
  method: {description: How the host is patched., type: str, choices: [apt, dnf], required: true}
  run_id: {description: The run., type: str, required: true}
  service: {description: The service of the host as the settings describe it., type: dict, required: true}
  since:
    description: "The step whose outcome is proved; V(boot) where the host's disks were put back."
    type: str
    choices: [transaction, restore, boot]
    required: true
author: Patchwave
"""
EXAMPLES = """
- patchwave_verify:
    method: "{{ pw_method }}"
    run_id: "{{ pw_run }}"
    service: "{{ pw_services[pw_service] }}"
    since: transaction
"""
RETURN = """
checks: {description: "Each check as name, ok and detail.", type: list, returned: always}
hooks: {description: "Each hook that ran as program, seconds and ok.", type: list, returned: always}
median_ms: {description: Median latency of the first http check., type: float, returned: always}
baseline_ms: {description: The same before the run., type: float, returned: always}
errors: {description: Bad samples after the first good one., type: int, returned: always}
"""


class Prover:
    """Holds what must be true after a step, and finds out whether it is."""

    def __init__(self, journal: Journal, since: str, packages: patchwave_methods.Packages) -> None:
        self.packages = packages
        self.journal, self.since = journal, since
        self.result: Mapping[str, Any] = {}
        if since != "boot":
            record = journal.read(since)
            if record and record["state"] in ("begun", "failed"):
                raise StepError(f"{since} of run {journal.run} did not end well here: there is nothing to prove")
            self.result = (record or {}).get("result") or {}
        protect = journal.result("protect") or {}
        self.baseline_ms: float | None = protect.get("baseline_ms")
        self.checks: list[dict[str, Any]] = []

    @property
    def stopped(self) -> list[str]:
        """The units that were stopped for the change."""
        return (self.result.get("services") or {}).get("stopped") or []

    @property
    def changed_at(self) -> float | None:
        """When the change was over, or None where the host has booted since, so that every process is new."""
        before = (self.result.get("reboot") or {}).get("boot")
        return None if before and before != boot() else self.result.get("changed_at")

    def note(self, name: str, problem: str, detail: str) -> bool:
        """Writes a check down and returns whether it passed."""
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

    def hooks(self, service: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Runs the hooks that are due now: after a change, or after something was taken back."""
        if self.since == "transaction":
            moment, due = "after", bool(self.result.get("after"))
        else:
            touched = self.journal.read("transaction") or self.journal.read("hooks-before")
            moment, due = "undo", self.since == "boot" or touched is not None
        if not due or not service["hooks"][moment]:
            return []
        with host_lock(f"hooks of {self.journal.run}"):
            return run_hooks(self.journal, service, moment)

    def running(self, found: Sequence[units.Unit]) -> bool:
        """The units that were stopped are up, and no process of the service is one of before the change."""
        mine = [unit for unit in found if unit.name in self.stopped]
        good = self.note("services", units.down(mine), f"{len(mine)} started again")
        old = units.old_process(found, self.stopped, self.changed_at)
        return self.note("processes", old, f"those of {count(len(found), 'unit')} are new or unconcerned") and good


def work(params: Mapping[str, Any]) -> dict[str, Any]:
    prover = Prover(Journal(params["run_id"]), params["since"], patchwave_methods.of(params["method"]))
    service = params["service"]
    evidence: dict[str, Any] = {
        "checks": prover.checks,
        "hooks": [],
        "baseline_ms": prover.baseline_ms,
        "median_ms": None,
        "errors": 0,
    }
    good = prover.boot() and prover.versions()
    if good:
        try:
            evidence["hooks"] = prover.hooks(service)
        except StepError as error:
            raise StepError(str(error), **{**evidence, **error.detail}) from None
        drained = Marker.of(service["traffic"]).owner() is not None
        result = health.sample(service["health"], service["units"], drained=drained)
        evidence.update(median_ms=result.median_ms, errors=result.errors, warm_up=result.warm_up, samples=result.good)
        good = prover.note("health", result.problem, f"{count(result.good, 'good sample')} in a row")
        # Only a service that is up shows whether its checks can fail at all.
        if good:
            problem = health.proves_nothing(service["health"])
            good = prover.note("control", problem, "the checks can fail")
        good = prover.running(units.units(service["units"])) and good
    if not good:
        bad = next(check for check in prover.checks if not check["ok"])
        raise StepError(f"{bad['name']}: {bad['detail']}", **evidence)
    latency = ""
    if evidence["median_ms"] is not None:
        latency = f", median {evidence['median_ms']:g} ms (before {prover.baseline_ms or 0:g})"
    summary = f"well{latency}, {count(evidence['errors'], 'error')}{ran_text(evidence['hooks'])}"
    return {**evidence, "at": time.time(), "summary": summary}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "method": METHOD,
            "run_id": RUN,
            "service": SERVICE,
            "since": {"type": "str", "choices": ["transaction", "restore", "boot"], "required": True},
        },
    )
    serve(module, "verify", work)


if __name__ == "__main__":
    main()
