"""What the next wave of a stack would do, host by host, before anything is touched."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from patchwave.azure.inventory import Host, Inventory, discover
from patchwave.base import clock
from patchwave.base.errors import Failed, UsageError
from patchwave.calendar.windows import Opening
from patchwave.config.settings import load_stack
from patchwave.config.standard import StackName, load_standard
from patchwave.methods import ansible
from patchwave.releases import waivers
from patchwave.releases.release import load as load_release
from patchwave.releases.waivers import Waiver
from patchwave.schedule import forecast as outlook
from patchwave.schedule import solver
from patchwave.schedule.forecast import View
from patchwave.schedule.notices import notices
from patchwave.schedule.rollout import batches, needed, outstanding
from patchwave.schedule.solver import Fix, Miss, Seat, misses, schedule

DRIFT = "drift: {} scale-set instances are patched in place, the next scale-out is not"
REBOOTS = ("linux-image-", "libc6", "systemd", "dbus")


def make(project: Path, stack: StackName, now: datetime) -> dict[str, Any]:
    """The plan as `patchwave plan --json` prints it; hosts are read, nothing on them is changed."""
    file, standard = load_stack(project, stack), load_standard(project)
    if file.release is None:
        raise UsageError(f"Pulumi.{stack}.yaml names no patchwave:release: seal or promote one first")
    release, inventory = load_release(project, file.release), discover(stack, file.settings)
    results = ansible.run(project, "scan", inventory.hosts, variables={"pw_refresh": False})
    scans = {host.name: _scan(results[host.name], host) for host in inventory.hosts}
    return draw(outlook.view(project, stack, file, release, standard, now), inventory, scans, now)


def _scan(result: ansible.HostResult, host: Host) -> Mapping[str, Any]:
    if not result.ok("scan"):
        raise Failed(f"{host.name}: {result.problem or 'no answer'}: a plan needs every host, fix it and plan again")
    return result.steps["scan"]


def draw(seen: View, inventory: Inventory, scans: Mapping[str, Mapping[str, Any]], now: datetime) -> dict[str, Any]:
    """The plan that follows from what each host has installed, pending and waived; linear in the number of hosts."""
    hosts, settings, release = inventory.hosts, seen.settings, seen.release
    todo: dict[str, dict[str, str]] = {}
    waived: dict[str, dict[str, str]] = {}
    for host in hosts:
        scan = scans[host.name]
        lacks = outstanding(release, scan["packages"], {p["name"]: p["to"] for p in scan["pending"]})
        holds = waivers.holds(seen.kept, release, stack=seen.stack, host=host, now=now).packages if seen.kept else {}
        todo[host.name] = {name: to for name, to in lacks.items() if name not in holds}
        waived[host.name] = {name: by for name, by in holds.items() if name in lacks}
    by_name = {package.name: package for package in release.packages}
    by_waivers: dict[tuple[Waiver, ...], dict[str, Fix]] = {}
    fixes: dict[str, dict[str, Fix]] = {}
    rings: dict[str, list[Seat]] = {}
    for host in hosts:
        reaching = tuple(waiver for waiver in seen.waivers if waiver.reaches(seen.stack, host))
        if reaching not in by_waivers:
            by_waivers[reaching] = seen.fixes(reaching)
        fixes[host.name] = by_waivers[reaching]
        missing = frozenset(fixes[host.name][key] for name in todo[host.name] for key in by_name[name].advisories)
        rings.setdefault(host.ring, []).append(Seat(host.name, host.live, missing))
    asked = outlook.ask(seen, rings, now)
    runs = schedule(asked)
    starts = runs[-1].starts if runs else max(now, next(settings.calendar.openings(now)).opens)
    ends = runs[-1].ends if runs else starts + needed(batches(hosts, settings.rollout), settings.rollout)
    visits = solver.visits(asked.legs[-1], starts)
    shown, late = [], []
    for host in hosts:
        installed, visit = scans[host.name]["packages"], visits[host.name]
        packages = [by_name[name] for name in sorted(todo[host.name])]
        shown.append(
            {
                "name": host.name,
                "ring": host.ring,
                "batch": visit.batch if packages else None,
                "starts": clock.iso(visit.begins) if packages else None,
                "packages": [
                    {"name": p.name, "from": installed[p.name], "to": p.to, "advisories": list(p.advisories)}
                    for p in packages
                ],
                "waived": [{"name": name, "waiver": by} for name, by in sorted(waived[host.name].items())],
                "reboot": any(p.name.startswith(REBOOTS) for p in packages),
            }
        )
        for key in sorted({key for package in packages for key in package.advisories}):
            due = fixes[host.name][key].due
            if runs is None or visit.ends > due:
                earliest = clock.iso(visit.ends) if runs else None
                late.append({"advisory": key, "host": host.name, "due": clock.iso(due), "earliest": earliest})
    drift = sum(h.source == "vmss" and bool(todo[h.name]) for h in hosts)
    return {
        "stack": seen.stack,
        "release": release.id,
        "digest": release.digest,
        "starts": clock.iso(starts),
        "ends": clock.iso(ends),
        "fits": runs is not None,
        "hosts": shown,
        "late": late,
        "missed": [_missed(miss, seen) for miss in misses(asked)],
        "notices": [
            {"when": one.when, "audience": list(one.audience), "by": clock.iso(one.by), "late": one.by < now}
            for one in notices(seen.stack, seen.standard, Opening(starts, ends), now, emergency=seen.emergency)
        ],
        "notes": [*inventory.notes, *([DRIFT.format(drift)] if drift else [])],
    }


def _missed(miss: Miss, seen: View) -> dict[str, Any]:
    advisory = seen.advisories[miss.fix.advisory]
    return {
        "advisory": advisory.id,
        "cves": list(advisory.cves),
        "severity": advisory.severity,
        "hosts": miss.hosts,
        "due": clock.iso(miss.fix.due),
        "earliest": miss.earliest and clock.iso(miss.earliest),
        "remedy": None if miss.remedy is None else [change._asdict() for change in miss.remedy],
        "says": seen.line(miss),
    }
