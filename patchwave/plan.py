"""What the next wave of a stack would do, host by host, before anything is touched."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from patchwave import ansible, clock
from patchwave.errors import Failed, Misuse
from patchwave.inventory import Host, Inventory, discover
from patchwave.release import Release
from patchwave.release import load as load_release
from patchwave.rollout import Batch, batches, late, needed, outstanding
from patchwave.settings import Settings, load_stack
from patchwave.standard import StackName, Standard, load_standard

DRIFT = "drift: {} scale-set instances are patched in place, the next scale-out is not"
REBOOTS = ("linux-image-", "libc6", "systemd", "dbus")


def make(project: Path, stack: StackName, now: datetime) -> dict[str, Any]:
    """The plan as `patchwave plan --json` prints it; hosts are read, nothing on them is changed."""
    file, standard = load_stack(project, stack), load_standard(project)
    if file.release is None:
        raise Misuse(f"Pulumi.{stack}.yaml names no patchwave:release: seal or promote one first")
    release, inventory = load_release(project, file.release), discover(stack, file.settings)
    results = ansible.run(project, "scan", inventory.hosts, variables={"pw_refresh": False})
    scans = {host.name: _scan(results[host.name], host) for host in inventory.hosts}
    return draw(stack, inventory, scans, file.settings, release, standard, now)


def _scan(result: ansible.HostResult, host: Host) -> Mapping[str, Any]:
    if not result.ok("scan"):
        raise Failed(f"{host.name}: {result.problem or 'no answer'}: a plan needs every host, mend it and plan again")
    return result.steps["scan"]


def draw(
    stack: StackName,
    inventory: Inventory,
    scans: Mapping[str, Mapping[str, Any]],
    settings: Settings,
    release: Release,
    standard: Standard,
    now: datetime,
) -> dict[str, Any]:
    """The plan that follows from what each host has installed and pending; linear in the number of hosts."""
    hosts = inventory.hosts
    todo = {
        name: outstanding(release, scan["packages"], {p["name"]: p["to"] for p in scan["pending"]})
        for name, scan in scans.items()
    }
    steps = [_only(batch, todo) for batch in batches(hosts, settings.rollout)]
    steps = [batch for batch in steps if batch.hosts]
    verdict = settings.calendar.at(now)
    coming = settings.calendar.next(now, 1)
    if not verdict.open and not coming:
        raise Failed(f"{stack}: no window opens: {verdict.reason}: widen the calendar in Pulumi.{stack}.yaml")
    starts = now if verdict.open else coming[0].opens
    ends = starts + needed(steps, settings.rollout)
    when = {name: starts + settings.rollout.host_takes * i for i, batch in enumerate(steps) for name in batch.names}
    number = {name: batch.number for batch in steps for name in batch.names}
    by_id = {advisory.id: advisory for advisory in release.advisories}
    shown, misses = [], []
    for host in hosts:
        packages = [p for p in release.packages if p.name in todo[host.name]]
        installed = scans[host.name]["packages"]
        shown.append(
            {
                "name": host.name,
                "ring": host.ring,
                "batch": number.get(host.name),
                "starts": clock.iso(when[host.name]) if host.name in when else None,
                "packages": [
                    {"name": p.name, "from": installed[p.name], "to": p.to, "advisories": list(p.advisories)}
                    for p in packages
                ],
                "reboot": any(p.name.startswith(REBOOTS) for p in packages),
            }
        )
        if host.name in when:
            fixes = [by_id[key] for key in sorted({key for p in packages for key in p.advisories})]
            misses += late(fixes, host.name, when[host.name] + settings.rollout.host_takes, standard)
    drift = sum(h.source == "vmss" and bool(todo[h.name]) for h in hosts)
    return {
        "stack": stack,
        "release": release.id,
        "digest": release.digest,
        "starts": clock.iso(starts),
        "ends": clock.iso(ends),
        "fits": settings.calendar.may_start(starts, ends - starts).open,
        "hosts": shown,
        "late": [
            {"advisory": m.advisory, "host": m.host, "due": clock.iso(m.due), "earliest": clock.iso(m.earliest)}
            for m in misses
        ],
        "notes": [*inventory.notes, *([DRIFT.format(drift)] if drift else [])],
    }


def _only(batch: Batch, todo: dict[str, dict[str, str]]) -> Batch:
    return batch.model_copy(update={"hosts": tuple(host for host in batch.hosts if todo[host.name])})
