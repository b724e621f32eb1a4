#!/usr/bin/python
"""Brings a host exactly to a release's versions, or fails with one line."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from ansible.module_utils import patchwave_config as config
from ansible.module_utils import patchwave_methods
from ansible.module_utils import patchwave_reboot as reboot
from ansible.module_utils import patchwave_units as units
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.patchwave_host import Journal, StepError, boot, count, host_lock, serve
from ansible.module_utils.patchwave_methods import Packages
from ansible.module_utils.patchwave_options import METHOD, RELEASE, RUN, SERVICE
from ansible.module_utils.patchwave_packages import tail, untouched
from ansible.module_utils.patchwave_versions import Plan, differs

DOCUMENTATION = """
module: patchwave_transaction
short_description: Brings a host exactly to a release's versions
description:
  - Stops the services that are touched in their order, installs the verified package files in one transaction
    that was simulated first, and starts the services in reverse. A second call of the same run returns what the
    first has done; after a crash it goes on where the package database stands.
options:
  method: {description: How the host is patched., type: str, choices: [apt, dnf], required: true}
  run_id: {description: The run., type: str, required: true}
  release: {description: The sealed release., type: dict, required: true}
  service: {description: The service of the host as the settings describe it., type: dict, required: true}
  lock_timeout:
    description: Seconds to wait for the package manager and for orphaned scripts.
    type: int
    default: 300
  timeout: {description: Seconds for the transaction itself., type: int, default: 1800}
author: Patchwave
"""
EXAMPLES = """
- patchwave_transaction:
    method: "{{ pw_method }}"
    run_id: "{{ pw_run }}"
    release: "{{ pw_release }}"
    service: "{{ pw_services[pw_service] }}"
"""
RETURN = """
state: {description: C(changed) or C(already-current)., type: str, returned: success}
before: {description: Version by package before the run., type: dict, returned: success}
after: {description: Version by package now., type: dict, returned: success}
held: {description: Packages of the release that are on hold., type: dict, returned: success}
services: {description: The stopped and started services with the reason of each., type: dict, returned: success}
reboot: {description: "Whether a reboot is due, why, and which boot this is.", type: dict, returned: success}
"""


def work(params: dict[str, Any]) -> dict[str, Any]:
    journal, packages = Journal(params["run_id"]), patchwave_methods.of(params["method"])
    digest = params["release"].get("digest")
    with host_lock(f"transaction of {journal.run}") as lock:
        journal.open()
        recorded = journal.read("transaction")
        if recorded and recorded["digest"] != digest:
            raise StepError(f"run {journal.run} has begun another release here: use a new run id")
        if recorded and recorded["state"] == "undone":
            raise StepError(f"run {journal.run} was taken back on this host: patch it again under a new run id")
        if recorded and recorded["state"] == "done":
            result = recorded["result"]
            waiting = result["reboot"]["needed"] and result["reboot"]["boot"] == boot()
            return {**result, "changed": False, "reboot": {**result["reboot"], "waiting": waiting}}
        packages.wait_for_locks(params["lock_timeout"])
        fixed = packages.repair(params["lock_timeout"], tolerant=recorded is not None)
        plan = packages.plan_for(params["release"])[0]
        if not plan.upgrades and not recorded:
            return already_current(params, packages, plan)
        kept = protected(journal, plan, digest)
        facts = begin(journal, packages, recorded, kept)
        try:
            result = change(params, journal, packages, plan, kept, facts, lock, resumed=recorded is not None)
        except StepError as error:
            remember_configuration(journal)
            journal.write("transaction", "failed", digest=digest, problem=str(error), **facts)
            raise
        result["fixed"] = fixed
        journal.write("transaction", "done", digest=digest, result=result, **facts)
        return {**result, "changed": True}


def already_current(params: dict[str, Any], packages: Packages, plan: Plan) -> dict[str, Any]:
    """Nothing to bring: the host is as it was."""
    why = reboot.reasons(plan.current, packages)
    return {
        "state": "already-current",
        "before": {},
        "after": {},
        "held": {key: version for key, (version, _) in plan.held.items()},
        "services": {},
        "reboot": {"needed": bool(why), "waiting": False, "why": why, "boot": boot()},
        "summary": f"already current, {count(len(plan.held), 'package')} on hold" if plan.held else "already current",
    }


def protected(journal: Journal, plan: Plan, digest: str | None) -> dict[str, Any]:
    """What protect.yml has kept for this run, when it covers everything that will change."""
    record = journal.read("protect")
    if not record or record["state"] != "done" or record["digest"] != digest:
        raise StepError(f"run {journal.run} has not protected this host for this release: run protect.yml first")
    kept: dict[str, Any] = record["result"]
    new = {row["key"]: (row["version"], row["sha256"]) for row in kept["new"]}
    old = {row["key"] for row in kept["old"]}
    for key, (version, item) in plan.upgrades.items():
        if new.get(key) != (item.to, item.sha256):
            raise StepError(f"{key} {item.to} is not kept with the release's sha256: run protect.yml again")
        if key not in old or kept["before"].get(key) != version:
            raise StepError(f"{key} {version} is not kept for a rollback: run protect.yml again under a new run id")
    return kept


def begin(
    journal: Journal, packages: Packages, recorded: dict[str, Any] | None, kept: dict[str, Any]
) -> dict[str, Any]:
    """Writes down what will change before it does; after a crash the first record's truth stands."""
    facts = {
        "before": (recorded or kept)["before"],
        "automatic": sorted(
            (recorded or {}).get("automatic") or packages.automatic() & {key.split(":")[0] for key in kept["before"]}
        ),
        "stopped": (recorded or {}).get("stopped", []),
        "brought": sorted(row["key"] for row in kept["new"] if row["key"] not in kept["before"]),
    }
    digest = journal.read("protect")
    assert digest
    journal.write("transaction", "begun", digest=digest["digest"], **facts)
    return facts


def change(
    params: dict[str, Any],
    journal: Journal,
    packages: Packages,
    plan: Plan,
    kept: dict[str, Any],
    facts: dict[str, Any],
    lock: int,
    *,
    resumed: bool,
) -> dict[str, Any]:
    """The transaction itself, judged before by simulation and after by what is installed."""
    folder, native = journal.folder / "new", packages.native_architecture()
    before = packages.installed_packages(native)
    again = resumed and packages.unfinished(journal.folder)
    rows = [
        row
        for row in kept["new"]
        if row["key"] not in plan.held and (again or differs(before.get(row["key"]), row["version"]))
    ]
    for row in rows:
        untouched(folder / row["file"], row["sha256"])
    expected = {row["key"]: row["version"] for row in rows}
    files = [folder / row["file"] for row in rows]
    problem = packages.foresee(files, expected, broken=resumed) if files else ""
    if problem and not resumed:
        raise StepError(problem)
    found = units.units(params["service"]["units"])
    reasons = units.concerned(found, [*expected, *facts["brought"]], packages)
    reasons.update({name: "was stopped by this run before" for name in facts["stopped"] if name not in reasons})
    facts["stopped"] = [unit.name for unit in found if unit.name in reasons]
    configuration = journal.read("config")
    if configuration and "start" not in configuration:
        configuration["start"] = config.manifest(configuration["roots"])
        journal.write("config", "done", **pick(configuration))
    journal.write("transaction", "begun", digest=params["release"].get("digest"), **facts)
    began = time.monotonic()
    units.stop(found, reasons)
    log = journal.folder / "transaction.log"
    if files:
        packages.apply(files, problem=problem, broken=resumed, timeout=params["timeout"], log=log, keep=[lock])
    seconds = round(time.monotonic() - began, 1)
    after = packages.installed_packages(native)
    if problem := packages.interrupted() or unlisted(before, after, expected):
        raise StepError(f"after the transaction: {problem}: take the host back", log=tail(log))
    packages.mark_automatic(facts["automatic"])
    units.stop(found, reasons)  # maintainer scripts may have started them in their own order
    reboot.renew_pid_1()
    changed_at = time.time()
    why = reboot.reasons(facts["before"], packages)
    # A host that is about to boot starts its services then, in systemd's own order.
    started = [] if why else units.start(reversed(facts["stopped"]))
    remember_configuration(journal)
    changed = {key: after[key].version for key in [*facts["before"], *facts["brought"]] if key in after}
    return {
        "state": "changed",
        "before": facts["before"],
        "after": changed,
        "held": {key: version for key, (version, _) in plan.held.items()},
        "services": {"stopped": facts["stopped"], "started": started, "why": reasons, "restarted": restarted(log)},
        "reboot": {"needed": bool(why), "waiting": bool(why), "why": why, "boot": boot()},
        "changed_at": changed_at,
        "packages_changed": len(changed),
        "transaction": packages.transaction(journal.folder),
        "dpkg_seconds": seconds,
        "summary": f"{count(len(changed), 'package')}, {seconds:.1f} s" + (f", reboot: {why[0]}" if why else ""),
    }


def remember_configuration(journal: Journal) -> None:
    """Writes down how the run leaves the configuration, so that later edits differ visibly from the run's own."""
    record = journal.read("config")
    if record and "start" in record:
        record["after"] = config.manifest(record["roots"])
        journal.write("config", "done", **pick(record))


def unlisted(before: dict[str, Any], after: dict[str, Any], expected: dict[str, str]) -> str:
    """How the host differs from exactly what was to change, or an empty string."""
    for key in sorted(set(before) | set(after)):
        old, new = before.get(key), after.get(key)
        if key in expected:
            if new is None or new.version != expected[key] or new.status != "installed":
                return f"{key} is {new.version + ' ' + new.status if new else 'gone'} instead of {expected[key]}"
        elif (old and old.version) != (new and new.version):
            return f"{key} went from {old.version if old else 'absent'} to {new.version if new else 'absent'} unasked"
    return ""


def restarted(log: Path) -> list[str]:
    """Services that needrestart has restarted by itself."""
    found = re.findall(r"systemctl restart (.+)", log.read_text(errors="replace")) if log.is_file() else []
    return sorted({name for line in found for name in line.split()})


def pick(record: dict[str, Any]) -> dict[str, Any]:
    """A record's own data, without what the journal adds."""
    return {key: value for key, value in record.items() if key not in ("run", "step", "state", "boot", "at")}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "method": METHOD,
            "run_id": RUN,
            "release": RELEASE,
            "service": SERVICE,
            "lock_timeout": {"type": "int", "default": 300},
            "timeout": {"type": "int", "default": 1800},
        },
    )
    serve(module, "transaction", work)


if __name__ == "__main__":
    main()
