"""What each host of a stack has and is offered, held against every fix that is known."""

from datetime import datetime
from pathlib import Path

from patchwave.azure.inventory import discover
from patchwave.base.errors import Failed
from patchwave.config.settings import load_stack
from patchwave.config.standard import StackName, load_standard
from patchwave.methods import ansible
from patchwave.releases import advisories, release, waivers
from patchwave.releases.release import Pending
from patchwave.schedule.sealing import offer
from patchwave.schedule.sla import Item, Scan, items, sealed_fixes, unsealed_fixes


def of_stack(project: Path, stack: StackName, at: datetime) -> list[Item]:
    """Every fix on every host of a stack, as its own apt says now; hosts are read, nothing on them is changed."""
    settings, standard, knowledge = (
        load_stack(project, stack).settings,
        load_standard(project),
        advisories.load(project),
    )
    hosts = discover(stack, settings).hosts
    results = ansible.run(project, "scan", hosts, variables={"pw_refresh": False})
    offers: dict[str, list[Pending]] = {}
    scans: dict[str, Scan] = {}
    for host in hosts:
        result = results[host.name]
        if not result.ok("scan"):
            raise Failed(f"{host.name}: {result.problem or 'no answer'}: every host counts, fix it and ask again")
        scan = result.steps["scan"]
        offers[host.name] = [offer(row) for row in scan["pending"]]
        scans[host.name] = Scan(scan["packages"], {update.name: update.to for update in offers[host.name]})
    sealed = sealed_fixes(release.every(project), knowledge, standard)
    pending = (update for updates in offers.values() for update in updates)
    fixes = [*sealed, *unsealed_fixes(pending, sealed, knowledge, standard, at)]
    paused = waivers.pauses(waivers.load(project, standard), stack, at)
    return list(items(hosts, scans, fixes, standard, at, paused))
