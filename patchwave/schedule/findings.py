"""What each host of a stack has and is offered, held against every fix that is known."""

from datetime import datetime
from pathlib import Path

from patchwave.azure.inventory import discover
from patchwave.config.settings import load_stack
from patchwave.config.standard import StackName, load_standard
from patchwave.releases import advisories, release, waivers
from patchwave.schedule.scans import Scans, scan
from patchwave.schedule.sla import Item, Scan, items, sealed_fixes, unsealed_fixes


def of_stack(project: Path, stack: StackName, at: datetime) -> tuple[list[Item], Scans]:
    """Every fix on every host of a stack that answers, and who did not; hosts are read, nothing on them is changed."""
    settings, standard, knowledge = (
        load_stack(project, stack).settings,
        load_standard(project),
        advisories.load(project),
    )
    inventory = discover(stack, settings)
    scans = scan(project, inventory, refresh=False)
    answered = [host for host in inventory.hosts if host.name in scans.found]
    seen = {
        name: Scan(found.packages, {update.name: update.to for update in found.pending})
        for name, found in scans.found.items()
    }
    sealed = sealed_fixes(release.every(project), knowledge, standard)
    pending = (update for found in scans.found.values() for update in found.pending)
    fixes = [*sealed, *unsealed_fixes(pending, sealed, knowledge, standard, at)]
    paused = waivers.pauses(waivers.load(project, standard), stack, at)
    return list(items(answered, seen, fixes, standard, at, paused)), scans
