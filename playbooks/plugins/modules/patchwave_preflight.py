#!/usr/bin/python
"""Finds out whether a host is fit to be patched with a release; changes its package lists and the waivers' holds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils import patchwave_data as data
from ansible.module_utils import patchwave_health as health
from ansible.module_utils import patchwave_holds, patchwave_methods
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.patchwave_facts import scan
from ansible.module_utils.patchwave_host import ROOT, StepError, count, host_lock, seconds, serve
from ansible.module_utils.patchwave_methods import Packages
from ansible.module_utils.patchwave_options import METHOD, PREFLIGHT, RELEASE, SERVICE
from ansible.module_utils.patchwave_traffic import SOMEONE_ELSE, Marker
from ansible.module_utils.patchwave_versions import Installed, Plan, release_items

DOCUMENTATION = """
module: patchwave_preflight
short_description: Finds out whether a host is fit to be patched with a release
description:
  - Runs every check, also after one has failed, and returns them all. An unfit host is an answer and not a
    failure of the task. Packages with a waiver are put on hold first, and holds of waivers that no longer count
    are lifted; holds that somebody else has set stay.
options:
  method: {description: How the host is patched., type: str, choices: [apt, dnf], required: true}
  release: {description: The sealed release., type: dict, required: true}
  service: {description: The service of the host as the settings describe it., type: dict, required: true}
  limits:
    description: What a host must have, C(preflight) of the settings.
    type: dict
    required: true
  unattended_upgrades:
    description: Whether the host may patch itself outside of a wave.
    type: bool
    required: true
  holds:
    description: C(packages) to hold, by the waiver of each, and the C(waivers) that count on this host.
    type: dict
    required: true
  controller_time: {description: The controller's clock when the task was sent., type: float, required: true}
  lock_timeout: {description: Seconds to wait for the package manager., type: int, default: 30}
  refresh_timeout: {description: Seconds for the package lists., type: int, default: 180}
author: Patchwave
"""
EXAMPLES = """
- patchwave_preflight:
    method: "{{ pw_method }}"
    release: "{{ pw_release }}"
    service: "{{ pw_services[pw_service] }}"
    limits: "{{ pw_preflight }}"
    unattended_upgrades: false
    holds: "{{ pw_holds[inventory_hostname] }}"
    controller_time: "{{ now(utc=true).timestamp() }}"
"""
RETURN = """
checks: {description: "Each check as name, ok, detail and fix.", type: list, returned: success}
applies: {description: Version to come by package., type: dict, returned: success}
databases: {description: "C(primary), C(standby) or C(absent) by database.", type: dict, returned: success}
scan: {description: As patchwave_scan returns it., type: dict, returned: success}
"""

MIB = 1 << 20
INODES = 5000
KERNELS = ("linux-image-", "initramfs-tools", "kernel")
INITRD = 150 * MIB
HEALTH_DEADLINE = 5.0


class Checks:
    """Runs checks one after the other; one that fails or breaks never hides the next."""

    def __init__(self) -> None:
        self.done: list[dict[str, Any]] = []

    def run(self, name: str, fix: str, check: Callable[[], tuple[bool, str]]) -> bool:
        try:
            ok, detail = check()
        except StepError as error:
            ok, detail = False, str(error)
        except (OSError, ValueError) as error:
            ok, detail = False, f"{type(error).__name__}: {error}"
        self.done.append({"name": name, "ok": ok, "detail": detail, "fix": "" if ok else fix})
        return ok


def clock(sent: float, received: float, allowed: float) -> tuple[bool, str]:
    """The host's clock against the controller's; what the transport took is on the host's side of the difference."""
    skew = received - sent
    return -allowed <= skew <= allowed + 5, f"{skew:+.1f} s against the controller, {allowed:g} s are allowed"


def space(needed: int, least: int) -> tuple[bool, str]:
    """Room where packages are unpacked and kept, beyond what the release itself takes."""
    parts, ok = [], True
    for place in ("/", "/var", "/usr"):
        free = _statistics(place)
        mib = free.f_bavail * free.f_frsize // MIB
        ok = ok and mib >= least + needed // MIB
        parts.append(f"{place} {mib}")
    return ok, f"MiB free: {', '.join(parts)}; needed: {least + needed // MIB}"


def inodes() -> tuple[bool, str]:
    """Room for new files; file systems without a fixed number of inodes report none at all."""
    parts, ok = [], True
    for place in ("/", "/var", "/usr", "/boot"):
        free = _statistics(place)
        if free.f_files:
            ok = ok and free.f_favail >= INODES
            parts.append(f"{place} {free.f_favail}")
    return ok, f"inodes free: {', '.join(parts) or 'not limited'}; needed: {INODES}"


def boot_space(plan: Plan) -> tuple[bool, str]:
    """Room in /boot for one more kernel and its initrd, when the release brings one."""
    kernels = [key for key in (*plan.upgrades, *plan.candidates) if key.startswith(KERNELS)]
    free = _statistics("/boot")
    mib = free.f_bavail * free.f_frsize // MIB
    if not kernels:
        return True, f"{mib} MiB free in /boot; the release brings no kernel"
    return mib * MIB >= INITRD, f"{mib} MiB free in /boot; {', '.join(kernels)} needs {INITRD // MIB}"


def _statistics(place: str) -> os.statvfs_result:
    while not Path(place).exists():
        place = str(Path(place).parent)
    return os.statvfs(place)


def database_sane(packages: Packages) -> tuple[bool, str]:
    """At rest, or in a state that the transaction's own repair fixes first."""
    scripts = packages.maintainer_scripts()
    if scripts:
        return False, f"a maintainer script is running: {next(iter(scripts.values()))[:120]}"
    problem = packages.interrupted()
    if not problem:
        return True, "at rest"
    fixable = packages.repairable()
    return fixable, f"{problem}; {'the transaction fixes it first' if fixable else 'that cannot be fixed by itself'}"


def held(plan: Plan) -> tuple[bool, str]:
    names = [f"{key} {version}" for key, (version, _) in sorted(plan.held.items())]
    return not names, f"on hold and left alone: {', '.join(names)}" if names else "nothing of the release is on hold"


def available(packages: Packages, plan: Plan, installed: Mapping[str, Installed]) -> tuple[bool, str]:
    """Each version is in the signed lists with the release's digest, and the version to go back to is there as well."""
    items = [item for _, item in plan.upgrades.values()]
    old = {(item.name, version, installed[key].arch): key for key, (version, item) in plan.upgrades.items()}
    known = packages.known_versions([*((item.name, item.to, item.arch) for item in items), *old])
    problems = []
    for item in items:
        digest = known.get((item.name, item.to, item.arch), ("", 0))[0]
        if not digest:
            problems.append(f"{item.name} {item.to} is not offered")
        elif digest != item.sha256:
            problems.append(f"{item.name} {item.to} is offered with another sha256 than the release's")
    for (name, version, arch), key in old.items():
        if (name, version, arch) not in known and not packages.cached(name, version, arch, ROOT):
            problems.append(f"{key} {version}, the version to go back to, is offered no more and kept nowhere")
    return not problems, "; ".join(problems[:3]) or f"{count(len(items), 'package')}, new and old"


def removals(packages: Packages, plan: Plan, native: str) -> tuple[bool, str]:
    complaints, brought = packages.simulate_plan(plan, native)
    more = f" and brings {', '.join(brought)}" if brought else ""
    return not complaints, "; ".join(
        complaints[:3]
    ) or f"changes {count(len(plan.upgrades), 'package')}{more}, removes none"


def services_healthy(service: Mapping[str, Any]) -> tuple[bool, str]:
    """The service is well, by checks that can fail; a drain that a run has left here is no reason against the host."""
    marker = Marker.of(service["traffic"])
    owner = marker.owner()
    if owner == SOMEONE_ELSE:
        return False, f"{marker.path} was put there by someone else: the host is theirs until they remove it"
    drained = owner is not None
    result = health.sample(service["health"], service["units"], drained=drained, samples=1, deadline=HEALTH_DEADLINE)
    problem = result.problem or health.proves_nothing(service["health"])
    latency = f" in {result.median_ms:g} ms" if result.median_ms is not None else ""
    return not problem, problem or f"well{latency}" + (f", drained by run {owner}" if owner else "")


def backup(settings: Sequence[Mapping[str, Any]], found: dict[str, str]) -> tuple[bool, str]:
    """Each database whose primary is here can be dumped now, and its dump has room; where each is goes into `found`."""
    details = []
    for setting in settings:
        database = data.find(setting)
        found[database.name] = database.state
        details.append(database.detail)
        if database.state == "primary":
            data.dumpable(database)
            free = _statistics(str(ROOT))
            room, needed = free.f_bavail * free.f_frsize, data.size(database)
            if room < needed:
                return (
                    False,
                    f"{database.name} takes {needed // MIB} MiB, {ROOT} has {room // MIB} for its dump",
                )
    return True, "; ".join(details) or "no database is named"


def unattended(packages: Packages) -> tuple[bool, str]:
    """Nothing but a wave patches this host."""
    armed = packages.unattended()
    return not armed, armed or "off"


def work(params: dict[str, Any]) -> dict[str, Any]:
    received = time.time()
    service, limits = params["service"], params["limits"]
    checks, packages = Checks(), patchwave_methods.of(params["method"])
    checks.run(
        "clock",
        "set the clock: systemctl restart systemd-timesyncd",
        lambda: clock(params["controller_time"], received, seconds(limits["clock_skew"])),
    )
    free = checks.run("lock_free", "let it finish or end it", lambda: _lock_free(packages, params["lock_timeout"]))
    fresh = free and checks.run(
        "repositories",
        "fix the package source or wait for the mirror",
        lambda: _refreshed(packages, params["refresh_timeout"]),
    )
    if free:
        checks.run("waivers", "see what is on hold", lambda: waivers(packages, params["holds"], params["release"]))
    plan, installed, native = packages.plan_for(params["release"])
    needed = 4 * sum(item.size for _, item in plan.upgrades.values())
    checks.run("disk", "make room: remove cached packages", lambda: space(needed, limits["disk_free_mb"]))
    checks.run("inodes", "remove what fills the file system", inodes)
    checks.run("boot_space", "remove old kernels", lambda: boot_space(plan))
    checks.run("dpkg_sane", "finish or undo the cut-off transaction", lambda: database_sane(packages))
    checks.run("held", "lift the hold, or a waiver", lambda: held(plan))
    checks.run("versions_available", "wait for the mirror, or seal again", lambda: available(packages, plan, installed))
    checks.run("removals", "seal a release that holds what is missing", lambda: removals(packages, plan, native))
    checks.run("services_healthy", "fix the service before patching", lambda: services_healthy(service))
    databases: dict[str, str] = {}
    checks.run("backup", "start the database, then look at its log", lambda: backup(service["data"], databases))
    if not params["unattended_upgrades"]:
        checks.run("unattended_upgrades", "switch it off", lambda: unattended(packages))
    unfit = [check for check in checks.done if not check["ok"]]
    applies = plan.expected
    summary = (
        f"{unfit[0]['name']}: {unfit[0]['detail']}" if unfit else f"fit, {count(len(applies), 'package')} to bring"
    )
    return {
        "checks": checks.done,
        "applies": applies,
        "held": {key: version for key, (version, _) in plan.held.items()},
        "fresh": bool(fresh),
        "databases": databases,
        "scan": scan(packages),
        "summary": summary,
    }


def waivers(packages: Packages, holds: Mapping[str, Any], release: Mapping[str, Any]) -> tuple[bool, str]:
    """The holds of the waivers are there, and no others of ours."""
    names = [item.name for item in release_items(release, packages.SPELLING)]
    with host_lock("preflight"):
        installed = packages.installed_packages(packages.native_architecture())
        hold, lift = patchwave_holds.apply(holds["packages"], holds["waivers"], names, installed, packages)
    parts = [f"put on hold {', '.join(sorted(hold))}"] if hold else []
    parts += [f"lifted {', '.join(lift)}"] if lift else []
    return True, "; ".join(parts) or f"{count(len(holds['packages']), 'package')} waived"


def _lock_free(packages: Packages, timeout: float) -> tuple[bool, str]:
    waited = packages.wait_for_locks(timeout)
    return True, "free" if waited < 1 else f"free after {waited:.0f} s"


def _refreshed(packages: Packages, timeout: float) -> tuple[bool, str]:
    with host_lock("preflight", timeout=timeout):
        packages.refresh(timeout)
    names = packages.repositories()
    return bool(names), ", ".join(names) or "no package source is configured"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "method": METHOD,
            "release": RELEASE,
            "service": SERVICE,
            "limits": PREFLIGHT,
            "unattended_upgrades": {"type": "bool", "required": True},
            "holds": {"type": "dict", "required": True},
            "controller_time": {"type": "float", "required": True},
            "lock_timeout": {"type": "int", "default": 30},
            "refresh_timeout": {"type": "int", "default": 180},
        },
    )
    serve(module, "preflight", work)


if __name__ == "__main__":
    main()
