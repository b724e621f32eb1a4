"""Seals what a stack's hosts are really offered into a release."""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from patchwave.authorization.promotion import is_done
from patchwave.azure.inventory import Host, discover
from patchwave.base.errors import Failed, Refused, UsageError
from patchwave.config.settings import load_stack
from patchwave.config.standard import Person, StackName, Standard, load_standard
from patchwave.evidence import signing
from patchwave.methods import ansible
from patchwave.releases import advisories, quarantine, release
from patchwave.releases.advisories import Knowledge
from patchwave.releases.quarantine import Quarantine
from patchwave.releases.release import ChangelogEntry, Key, LeftOut, Pending, Release, Sealed
from patchwave.releases.waivers import Waiver, waived
from patchwave.schedule.scans import Scans, scan
from patchwave.schedule.sla import current

AUTHOR = "PATCHWAVE_AUTHOR"
PERSON: TypeAdapter[str] = TypeAdapter(Person)


class Sealing(NamedTuple):
    """What sealing came to: the release that holds what is pending, whether it was made now, and what it leaves out.

    It knows nothing of hosts that did not answer; `scans` names them.
    """

    release: Release | None
    new: bool
    left_out: tuple[LeftOut, ...]
    scans: Scans


def author(project: Path, environ: Mapping[str, str] = os.environ) -> str:
    """Who seals, as an e-mail address: PATCHWAVE_AUTHOR, else git's own identity."""
    named = environ.get(AUTHOR) or signing.git_setting(project, "user.email")
    if named is None:
        raise UsageError(f"nobody is known who seals: set {AUTHOR}, or `git config user.email`")
    try:
        return PERSON.validate_python(named)
    except ValidationError:
        raise UsageError(f"{named!r} is no e-mail address: set {AUTHOR} to that of the person who seals") from None


def seal(project: Path, stack: StackName, now: datetime, author: str, waivers: Sequence[Waiver]) -> Sealing:
    """The release of what the stack's hosts are offered, less what is in quarantine or too young.

    A release that has these versions, and is not done yet, is named again, unless one of its fixes has turned out to
    be more severe than it says. What its waivers leave pending on a host needs no other release.
    """
    file, standard = load_stack(project, stack), load_standard(project)
    inventory = discover(stack, file.settings)
    scans = scan(project, inventory, refresh=True)
    hosts = [host for host in inventory.hosts if host.name in scans.found]
    if not hosts:
        why = next((f"{row['name']}: {row['reason']}" for row in scans.rows), "Azure lists none, run `pulumi up` first")
        raise Refused(f"{stack}: no host has answered, so there is nothing to seal: {why}")
    pending = {name: [*found.pending, *found.brought] for name, found in scans.found.items()}
    known = release.load(project, file.release) if file.release else release.latest(project)
    if known:
        pending = {host.name: without_waived(pending[host.name], known, waivers, stack, host) for host in hosts}
    taken_back = quarantine.load(project)
    updates, held = without_quarantined(release.security_updates(pending, standard), taken_back)
    if all(update.from_ is None for update in updates.values()):
        return Sealing(None, False, held, scans)
    knowledge = advisories.load(project)
    if known and still_holds(known, updates, now) and not taken_back.of(known):
        whole = all(package.key in updates for package in known.packages)
        done = is_done(project, stack, known.id, known.digest, [one.reference for one in waivers])
        if whole if done else not understated(known, knowledge, standard):
            return Sealing(known, False, known.left_out, scans)
    sealed, left_out = release.seal(
        release.next_id(project, now),
        author,
        Sealed(stack=stack, at=now, hosts=tuple(sorted(pending))),
        updates.values(),
        _changelogs(project, hosts, pending, updates),
        standard,
        knowledge,
        held,
    )
    if sealed is not None:
        release.save(project, sealed)
    return Sealing(sealed, sealed is not None, left_out, scans)


def without_quarantined(
    updates: Mapping[Key, Pending], known: Quarantine
) -> tuple[dict[Key, Pending], tuple[LeftOut, ...]]:
    """The updates that no wave had to take back, and the others."""
    held = [
        LeftOut(
            method=update.method,
            name=update.name,
            to=update.to,
            reason=f"taken back on {entry.stack} on {entry.at:%Y-%m-%d}",
            until=None,
        )
        for _, update in sorted(updates.items())
        if (entry := known.holds(update.name, update.to))
    ]
    keys = {one.key for one in held}
    return {key: update for key, update in updates.items() if key not in keys}, tuple(held)


def without_waived(
    updates: Sequence[Pending], known: Release, waivers: Sequence[Waiver], stack: StackName, host: Host
) -> list[Pending]:
    """What a host is offered, without the packages of a known release that its waivers leave as they are."""
    mine = [waiver for waiver in waivers if waiver.reaches(stack, host)]
    names = waived(mine, known)
    left = {(package.key, package.to) for package in known.packages if package.name in names}
    return [update for update in updates if (update.key, update.to) not in left]


def still_holds(known: Release, updates: Mapping[Key, Pending], now: datetime) -> bool:
    """Whether a release brings all of these updates, but for those for which it still waits, in these versions."""
    waits = {one.key: one.to for one in known.left_out if one.until is not None and now < one.until}
    sealed = waits | {package.key: package.to for package in known.packages}
    return all(sealed.get(key) == update.to for key, update in updates.items())


def understated(known: Release, knowledge: Knowledge, standard: Standard) -> bool:
    """Whether a fix of a release counts as more severe now than in the release."""
    pairs = ((one.severity, current(one, knowledge, standard).severity) for one in known.advisories)
    return any(standard.worst([sealed, now]) != sealed for sealed, now in pairs)


def _changelogs(
    project: Path, hosts: Sequence[Host], pending: Mapping[str, Sequence[Pending]], updates: Mapping[Key, Pending]
) -> dict[Key, list[ChangelogEntry]]:
    """Each package's new changelog entries, read on the hosts that have most of them, each package once."""
    found: dict[Key, list[ChangelogEntry]] = {}
    missing = set(updates)
    while missing:
        best = max(hosts, key=lambda host: len(missing & {one.key for one in pending[host.name]}))
        keys = sorted(missing & {one.key for one in pending[best.name]})
        wanted = [_wanted(updates[key], updates) for key in keys]
        result = ansible.run(project, "changelogs", [best], variables={"pw_packages": wanted})[best.name]
        if not result.ok("changelog"):
            raise Failed(
                f"{best.name}: {result.problem or 'no answer'}: the changelogs are needed to name the advisories"
            )
        for name, row in result.steps["changelog"]["packages"].items():
            found[best.method, name] = [
                ChangelogEntry.model_validate_json(json.dumps(entry)) for entry in row["entries"]
            ]
        missing -= set(keys)
    return found


def _wanted(update: Pending, updates: Mapping[Key, Pending]) -> dict[str, str]:
    """A package with the version since which its changelog counts; for a new one that of a package of its source."""
    siblings = [one.from_ for one in updates.values() if one.source == update.source and one.from_ is not None]
    since = update.from_ or (siblings[0] if siblings else update.to)
    return {"name": update.name, "arch": update.arch, "from": since, "to": update.to}
