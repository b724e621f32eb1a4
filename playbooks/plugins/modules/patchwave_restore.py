#!/usr/bin/python
"""Takes back on a host exactly what one run has changed there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.module_utils import patchwave_config as config
from ansible.module_utils import patchwave_methods
from ansible.module_utils import patchwave_reboot as reboot
from ansible.module_utils import patchwave_units as units
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.patchwave_host import Journal, StepError, boot, count, host_lock, serve
from ansible.module_utils.patchwave_options import METHOD, RELEASE, RUN, SERVICE
from ansible.module_utils.patchwave_packages import sha256_of, tail, untouched
from ansible.module_utils.patchwave_versions import differs, release_items

DOCUMENTATION = """
module: patchwave_restore
short_description: Takes back on a host exactly what one run has changed there
description:
  - Downgrades the changed packages to their kept and verified files in one transaction, restores configuration
    files that the run changed and nobody has edited since. A host that the run has not changed stays.
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
- patchwave_restore:
    method: "{{ pw_method }}"
    run_id: "{{ pw_run }}"
    release: "{{ pw_release }}"
    service: "{{ pw_services[pw_service] }}"
"""
RETURN = """
packages: {description: Restored version by package., type: dict, returned: success}
config:
  description: Configuration paths that were restored, removed or left because somebody edited them.
  type: dict
  returned: success
beyond: {description: Changed packages that a downgrade alone does not take back fully., type: list, returned: success}
"""


def work(params: dict[str, Any]) -> dict[str, Any]:
    journal = Journal(params["run_id"])
    with host_lock(f"restore of {journal.run}") as lock:
        journal.open()
        recorded = journal.read("restore")
        if recorded and recorded["state"] == "done":
            return {**recorded["result"], "changed": False}
        begun = journal.read("transaction")
        if begun is None:
            return {
                "packages": {},
                "config": {},
                "beyond": [],
                "summary": "this run has changed nothing here",
            }
        result = take_back(params, journal, begun, lock)
        journal.write("restore", "done", result=result)
        keep = {key: value for key, value in begun.items() if key not in ("run", "step", "state", "boot", "at")}
        journal.write("transaction", "undone", **keep)
        return {**result, "changed": True}


def take_back(params: dict[str, Any], journal: Journal, begun: dict[str, Any], lock: int) -> dict[str, Any]:
    kept = journal.result("protect")
    if kept is None:
        raise StepError(f"run {journal.run} has kept nothing on this host: restore it from its snapshot or image")
    packages = patchwave_methods.of(params["method"])
    packages.wait_for_locks(params["lock_timeout"])
    packages.wait_for_orphans(params["lock_timeout"])
    native = packages.native_architecture()
    installed = packages.installed_packages(native)
    changed = {key: version for key, version in begun["before"].items() if differs(installed.get(key), version)}
    added = [key for key in begun["brought"] if key in installed]
    rows = [row for row in kept["old"] if row["key"] in changed]
    if missing := set(changed) - {row["key"] for row in rows}:
        raise StepError(
            f"{', '.join(sorted(missing))}: the old package was not kept: restore the host from its snapshot or image"
        )
    folder = journal.folder / "old"
    for row in rows:
        untouched(folder / row["file"], row["sha256"])
    found = units.units(params["service"]["units"])
    touched = {
        **units.concerned(found, [*changed, *added], packages),
        **dict.fromkeys(begun["stopped"], "was stopped by the run"),
    }
    units.stop(found, touched)
    log = journal.folder / "restore.log"
    files = [folder / row["file"] for row in rows]
    if files or added:
        number, timeout = packages.transaction(journal.folder), params["timeout"]
        packages.undo(files, changed, added, number, timeout=timeout, log=log, keep=[lock])
    after = packages.installed_packages(native)
    wrong = [key for key, version in changed.items() if differs(after.get(key), version)] + [
        key for key in added if key in after
    ]
    if wrong or (problem := packages.interrupted()):
        raise StepError(
            f"{', '.join(wrong) or problem} is not as before: restore the host from its snapshot or image",
            log=tail(log),
        )
    packages.mark_automatic(begun["automatic"])
    units.stop(found, touched)
    configuration = restore_config(journal, kept)
    reboot.renew_pid_1()
    changed_at = time.time()
    names = [unit.name for unit in found if unit.name in touched]
    units.start(reversed(names))
    why = reboot.reasons(changed, packages)
    beyond = sorted(
        item.name
        for item in release_items(params["release"], packages.SPELLING)
        if item.key(native) in changed and item.reversibility != "downgrade"
    )
    parts = [
        f"{count(len(changed), 'package')} back",
        count(len(configuration["restored"]) + len(configuration["removed"]), "configuration file"),
    ]
    return {
        "packages": changed,
        "after": begun["before"],
        "removed": added,
        "config": configuration,
        "beyond": beyond,
        "services": {"stopped": names, "started": list(reversed(names)), "why": touched},
        "reboot": {"needed": False, "advised": bool(why), "why": why, "boot": boot()},
        "changed_at": changed_at,
        "packages_changed": len(changed),
        "summary": ", ".join(parts),
    }


def restore_config(journal: Journal, kept: dict[str, Any]) -> dict[str, list[str]]:
    """Puts back the configuration that the run changed; an edit made since stays and is named."""
    record = journal.read("config")
    if not record or not kept["archive"]:
        return {"restored": [], "removed": [], "left": []}
    archive = Path(kept["archive"]["file"])
    if sha256_of(archive) != kept["archive"]["sha256"]:
        raise StepError(f"{archive} is not the archive that was made: restore the host from its snapshot or image")
    now = config.manifest(record["roots"])
    restore, remove, left = config.changes(record["before"], record.get("start", now), record.get("after", now), now)
    if "after" not in record:
        # The step was killed, so it is unknown who added these files.
        remove, left = [], [*left, *remove]
    config.restore(archive, restore, journal.folder, timeout=120)
    return {"restored": restore, "removed": config.remove(remove), "left": left}


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
    serve(module, "restore", work)


if __name__ == "__main__":
    main()
