"""What the next wave of a stack would do, host by host, before anything is touched."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from patchwave.azure.inventory import Inventory, discover
from patchwave.base import clock
from patchwave.base.errors import UsageError
from patchwave.calendar.windows import Opening
from patchwave.config.settings import load_stack
from patchwave.config.settings.fleets import Method
from patchwave.config.standard import StackName, load_standard
from patchwave.releases import waivers
from patchwave.releases.missing import outstanding
from patchwave.releases.release import Package
from patchwave.releases.release import load as load_release
from patchwave.releases.waivers import Waiver
from patchwave.schedule.batches import objections, without_room
from patchwave.schedule.forecast import Forecast, forecast, in_rings
from patchwave.schedule.notices import notices
from patchwave.schedule.scans import NOTHING, Scans, scan
from patchwave.schedule.solver import Fix, HostNeeds, Miss, misses, schedule, visits

DRIFT = "drift: {} scale-set instances are patched in place, the next scale-out is not"
REBOOTS: dict[Method, tuple[str, ...]] = {
    "apt": ("linux-image-", "libc6", "systemd", "dbus"),
    "dnf": ("kernel", "glibc", "systemd", "dbus", "linux-firmware", "microcode_ctl"),
}


def make(project: Path, stack: StackName, now: datetime) -> dict[str, Any]:
    """The plan as `patchwave plan --json` prints it; hosts are read, nothing on them is changed."""
    file, standard = load_stack(project, stack), load_standard(project)
    if file.release is None:
        raise UsageError(f"Pulumi.{stack}.yaml names no patchwave:release: seal or promote one first")
    release, inventory = load_release(project, file.release), discover(stack, file.settings)
    seen = forecast(project, stack, file.settings, release, file.waivers, standard, now)
    return draw(seen, inventory, scan(project, inventory, refresh=False), now)


def draw(seen: Forecast, inventory: Inventory, scans: Scans, now: datetime) -> dict[str, Any]:
    """The plan that follows from what each host has installed, pending and waived; linear in the number of hosts.

    As in the wave, hosts without an answer and those that lack nothing are in no batch.
    """
    hosts, settings, release = inventory.hosts, seen.settings, seen.release
    by_name = {(package.method, package.name): package for package in release.packages}
    todo: dict[str, list[Package]] = {}
    waived: dict[str, dict[str, str]] = {}
    by_waivers: dict[tuple[Waiver, ...], dict[str, Fix]] = {}
    fixes: dict[str, dict[str, Fix]] = {}
    needs: list[HostNeeds] = []
    for host in hosts:
        found = scans.found.get(host.name, NOTHING)
        offered = {update.name: update.to for update in found.pending}
        lacks = outstanding(release, host.method, found.packages, offered)
        holds = waivers.holds(seen.kept, release, stack=seen.stack, host=host, now=now).packages if seen.kept else {}
        waived[host.name] = {name: by for name, by in holds.items() if name in lacks}
        todo[host.name] = [by_name[host.method, name] for name in sorted(lacks.keys() - holds.keys())]
        reaching = tuple(waiver for waiver in seen.waivers if waiver.reaches(seen.stack, host))
        if reaching not in by_waivers:
            by_waivers[reaching] = seen.fixes(reaching)
        fixes[host.name] = by_waivers[reaching]
        if todo[host.name]:
            missing = frozenset(fixes[host.name][key] for package in todo[host.name] for key in package.advisories)
            needs.append(HostNeeds(host.name, host.fleet, host.service, host.ring, host.live, missing))
    needs = in_rings(needs, settings)
    question = seen.question(needs, now, Counter(host.service for host in hosts if host.live))
    runs = schedule(question)
    wave = question.waves[-1]
    starts = runs[-1].starts if runs else max(now, next((one.opens for one in wave.routine(now)), now))
    visited = visits(wave, starts)
    ends = max((visit.ends for visit in visited.values()), default=starts) + wave.after
    ring = {host.name: host.ring for host in needs}
    shown, late = [], []
    for host in hosts:
        visit, packages = visited.get(host.name), todo[host.name]
        shown.append(
            {
                "name": host.name,
                "fleet": host.fleet,
                "service": host.service,
                "ring": ring.get(host.name, host.ring),
                "batch": visit and visit.batch,
                "starts": visit and clock.iso(visit.begins),
                "packages": [
                    {
                        "name": package.name,
                        "from": scans.found[host.name].packages[package.name],
                        "to": package.to,
                        "advisories": list(package.advisories),
                    }
                    for package in packages
                ],
                "waived": [{"name": name, "waiver": by} for name, by in sorted(waived[host.name].items())],
                "reboot": _reboots(host.method, packages),
                "problem": scans.unanswered.get(host.name),
            }
        )
        for key in sorted({key for package in packages for key in package.advisories}):
            due, earliest = fixes[host.name][key].due, visit.ends if visit and runs else None
            if earliest is None or earliest > due:
                late.append(
                    {
                        "advisory": key,
                        "host": host.name,
                        "due": clock.iso(due),
                        "earliest": earliest and clock.iso(earliest),
                    }
                )
    drift = sum(host.source == "vmss" and bool(todo[host.name]) for host in hosts)
    return {
        "stack": seen.stack,
        "release": release.id,
        "digest": release.digest,
        "starts": clock.iso(starts),
        "ends": clock.iso(ends),
        "fits": runs is not None,
        "partial": scans.partial,
        "hosts": shown,
        "unanswered": scans.rows,
        "objections": [*objections(hosts, settings), *without_room(hosts, scans.unanswered, settings)],
        "late": late,
        "missed": [_missed(miss, seen) for miss in misses(question)],
        "notices": [
            {"when": one.when, "audience": list(one.audience), "by": clock.iso(one.by), "late": one.by < now}
            for one in notices(seen.stack, seen.standard, Opening(starts, ends), now, emergency=seen.emergency)
        ],
        "notes": [*inventory.notes, *scans.lacks, *([DRIFT.format(drift)] if drift else [])],
    }


def _reboots(method: Method, packages: Sequence[Package]) -> bool:
    """Whether one of these packages usually needs a reboot."""
    return any(package.name.startswith(REBOOTS.get(method, ())) for package in packages)


def _missed(miss: Miss, seen: Forecast) -> dict[str, Any]:
    advisory = seen.advisories[miss.fix.advisory]
    return {
        "advisory": advisory.id,
        "cves": list(advisory.cves),
        "severity": advisory.severity,
        "hosts": miss.hosts,
        "due": clock.iso(miss.fix.due),
        "earliest": miss.earliest and clock.iso(miss.earliest),
        "remedy": None if miss.remedy is None else [change._asdict() for change in miss.remedy],
        "summary": seen.line(miss),
    }
