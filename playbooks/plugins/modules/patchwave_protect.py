#!/usr/bin/python
"""Keeps what a rollback needs before anything changes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils import patchwave_config as config
from ansible.module_utils import patchwave_data as data
from ansible.module_utils import patchwave_health as health
from ansible.module_utils import patchwave_methods
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.patchwave_host import ROOT, Journal, StepError, count, host_lock, serve
from ansible.module_utils.patchwave_methods import Packages
from ansible.module_utils.patchwave_options import METHOD, RELEASE, RUN, SERVICE
from ansible.module_utils.patchwave_packages import sha256_of
from ansible.module_utils.patchwave_versions import Installed, Item

DOCUMENTATION = """
module: patchwave_protect
short_description: Keeps what a rollback needs before anything changes
description:
  - Keeps the new and the installed versions of what the release changes on the host, each with a verified
    digest, an archive of the configuration, a dump of each database whose primary is here, and the latency of
    the service's first http check. A second call of the same run changes nothing.
options:
  method: {description: How the host is patched., type: str, choices: [apt, dnf], required: true}
  run_id: {description: The run., type: str, required: true}
  release: {description: The sealed release., type: dict, required: true}
  service: {description: The service of the host as the settings describe it., type: dict, required: true}
  timeout: {description: Seconds for each of the parts., type: int, default: 900}
  keep_runs: {description: How many runs' folders stay on the host., type: int, default: 5}
author: Patchwave
"""
EXAMPLES = """
- patchwave_protect:
    method: "{{ pw_method }}"
    run_id: "{{ pw_run }}"
    release: "{{ pw_release }}"
    service: "{{ pw_services[pw_service] }}"
"""
RETURN = """
new: {description: The release's packages that apply here., type: list, returned: success}
old: {description: The versions to go back to., type: list, returned: success}
archive: {description: The archived configuration., type: dict, returned: success}
dumps: {description: The dumped databases., type: list, returned: success}
not_dumped: {description: "Databases that are not dumped here, each with the reason.", type: dict, returned: success}
baseline_ms: {description: Median latency of the service's first http check., type: float, returned: success}
bytes: {description: What all of it takes., type: int, returned: success}
"""

BASELINE_SAMPLES = 10


def gather(
    packages: Packages, folder: Path, wanted: Sequence[tuple[str, str, str, str]], timeout: float
) -> list[dict[str, Any]]:
    """The package files of each (key, name, version, architecture): kept, found on the host, or downloaded."""
    folder.mkdir(mode=0o700, exist_ok=True)
    missing = []
    for _, name, version, arch in wanted:
        target = folder / packages.file_name(name, version, arch)
        if target.is_file():
            continue
        if (kept := packages.cached(name, version, arch, ROOT)) is not None:
            link_or_copy(kept, target)
        else:
            missing.append((name, version, arch))
    if missing and (problem := packages.download(missing, folder, timeout=timeout)):
        raise StepError(f"{len(missing)} packages cannot be had: {problem}: without them the host cannot go back")
    return [
        {"key": key, "name": name, "version": version, "arch": arch, "file": packages.file_name(name, version, arch)}
        for key, name, version, arch in wanted
    ]


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under a second name; whole or not at all where that needs a copy."""
    try:
        os.link(source, target)
    except OSError:
        partial = target.with_suffix(".partial")
        shutil.copyfile(source, partial)
        partial.rename(target)


def promised(
    packages: Packages, rows: list[dict[str, Any]], folder: Path, digests: Mapping[str, str], what: str
) -> None:
    """Checks each file against its promised digest and writes that down; a wrong one is thrown away."""
    for row in rows:
        path = folder / row["file"]
        row["sha256"] = digests.get(row["key"]) or (sha256_of(path) if path.is_file() else "")
        try:
            packages.verified(path, row["name"], row["version"], row["arch"], row["sha256"])
        except StepError:
            path.unlink(missing_ok=True)
            raise
        row["bytes"] = path.stat().st_size
        row["promised_by"] = what if row["key"] in digests else "the file itself"


def dump(database: data.Database, folder: Path, timeout: float) -> dict[str, Any]:
    """One database as a file, with what its record needs."""
    file = data.dump(database, folder, timeout)
    return {"database": database.name, "file": str(file), "bytes": file.stat().st_size, "sha256": sha256_of(file)}


def work(params: dict[str, Any]) -> dict[str, Any]:
    journal = Journal(params["run_id"])
    with host_lock(f"protect of {journal.run}"):
        journal.open()
        recorded = journal.read("protect")
        if recorded and recorded["state"] == "done":
            if recorded["digest"] != params["release"].get("digest"):
                raise StepError(f"run {journal.run} has protected another release: use a new run id")
            return {**recorded["result"], "changed": False}
        result = protect(params, journal)
        journal.write("protect", "done", digest=params["release"].get("digest"), result=result)
        journal.prune(params["keep_runs"])
        return {**result, "changed": True}


def protect(params: dict[str, Any], journal: Journal) -> dict[str, Any]:
    service, timeout = params["service"], params["timeout"]
    packages = patchwave_methods.of(params["method"])
    plan, installed, native = packages.plan_for(params["release"])
    complaints, brought = packages.simulate_plan(plan, native)
    if complaints:
        raise StepError(
            f"the transaction {'; '.join(complaints[:3])}: refuse this release here, or seal what is missing"
        )
    coming: dict[str, Item] = {**{key: item for key, (_, item) in plan.upgrades.items()}, **brought}
    wanted = [(key, item.name, item.to, item.arch) for key, item in coming.items()]
    new = gather(packages, journal.folder / "new", wanted, timeout)
    digests = {key: item.sha256 for key, item in coming.items()}
    promised(packages, new, journal.folder / "new", digests, "the release")
    old = old_packages(packages, journal, {key: installed[key] for key in plan.upgrades}, timeout)
    roots = config.paths(service["config_paths"])
    archive: dict[str, Any] = {}
    if roots:
        target = journal.folder / "config.tar"
        manifest = config.manifest(roots)
        config.archive(roots, target, timeout)
        archive = {"file": str(target), "roots": roots, "files": len(manifest), "bytes": target.stat().st_size}
        archive["sha256"] = sha256_of(target)
        journal.write("config", "done", before=manifest, roots=roots)
    found = [data.find(setting) for setting in service["data"]]
    dumps = [dump(one, journal.folder / "dumps", timeout) for one in found if one.state == "primary"]
    kept = f"{count(len(new), 'package')} and {len(old)} to go back"
    total = sum(row["bytes"] for row in (*new, *old, *dumps)) + archive.get("bytes", 0)
    return {
        "new": new,
        "old": old,
        "before": {key: version for key, (version, _) in plan.upgrades.items()},
        "archive": archive,
        "dumps": dumps,
        "not_dumped": {one.name: one.detail for one in found if one.state != "primary"},
        "baseline_ms": health.baseline(service["health"], BASELINE_SAMPLES),
        "bytes": total,
        "summary": f"{kept}, {count(len(dumps), 'dump')}, {total >> 20} MiB",
    }


def old_packages(
    packages: Packages, journal: Journal, installed: Mapping[str, Installed], timeout: float
) -> list[dict[str, Any]]:
    """The installed versions' package files, against the signed lists where these still know them."""
    wanted = [(key, have.name, have.version, have.arch) for key, have in installed.items()]
    rows = gather(packages, journal.folder / "old", wanted, timeout)
    known = packages.known_versions([(name, version, arch) for _, name, version, arch in wanted])
    digests = {
        key: known[name, version, arch][0] for key, name, version, arch in wanted if (name, version, arch) in known
    }
    promised(packages, rows, journal.folder / "old", digests, "the signed lists")
    return rows


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "method": METHOD,
            "run_id": RUN,
            "release": RELEASE,
            "service": SERVICE,
            "timeout": {"type": "int", "default": 900},
            "keep_runs": {"type": "int", "default": 5},
        },
    )
    serve(module, "protect", work)


if __name__ == "__main__":
    main()
