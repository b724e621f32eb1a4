"""Seals what a stack's hosts are really offered into a release."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from patchwave import advisories, ansible, release
from patchwave.errors import Failed
from patchwave.inventory import Host, discover
from patchwave.release import ChangelogEntry, Pending, Release, Sealed
from patchwave.settings import load_stack
from patchwave.standard import StackName, load_standard

OFFER = ("name", "arch", "from", "to", "origin", "label", "suite", "size", "sha256", "source")


def seal(project: Path, stack: StackName, now: datetime) -> tuple[Release | None, bool]:
    """The release and whether it is new; None when nothing is pending.

    The same versions are never sealed twice: the release that is already there is named again.
    """
    settings, standard = load_stack(project, stack).settings, load_standard(project)
    hosts = discover(stack, settings).hosts
    if not hosts:
        raise Failed(f"{stack}: Azure lists no hosts: run `pulumi up` first, or check the tag patchwave-stack")
    pending = _pending(project, hosts)
    updates = release.security_updates(pending, standard)
    known = release.latest(project)
    if not updates:
        return None, False
    if known and {p.name: p.to for p in known.packages} == {u.name: u.to for u in updates.values()}:
        return known, False
    sealed = release.seal(
        release.next_id(project, now),
        Sealed(stack=stack, at=now, hosts=tuple(sorted(pending))),
        updates.values(),
        _changelogs(project, hosts, pending, updates),
        standard,
        advisories.load(project),
    )
    release.save(project, sealed)
    return sealed, True


def _pending(project: Path, hosts: Sequence[Host]) -> dict[str, list[Pending]]:
    results = ansible.run(project, "scan", hosts, variables={"pw_refresh": True})
    for name, result in results.items():
        if not result.ok("scan"):
            raise Failed(f"{name}: {result.problem or 'no answer'}: every host must be read before a release is sealed")
    return {name: [offer(row) for row in result.steps["scan"]["pending"]] for name, result in results.items()}


def offer(row: Mapping[str, Any]) -> Pending:
    """One row of a host's scan, every field checked."""
    return Pending.model_validate_json(json.dumps({key: row[key] for key in OFFER}))


def _changelogs(
    project: Path, hosts: Sequence[Host], pending: Mapping[str, Sequence[Pending]], updates: Mapping[str, Pending]
) -> dict[str, list[ChangelogEntry]]:
    """Each package's new changelog entries, read on the hosts that have most of them, each package once."""
    found: dict[str, list[ChangelogEntry]] = {}
    missing = set(updates)
    while missing:
        best = max(hosts, key=lambda host: len(missing & {u.name for u in pending[host.name]}))
        names = sorted(missing & {u.name for u in pending[best.name]})
        asked = [{"name": n, "arch": updates[n].arch, "from": updates[n].from_, "to": updates[n].to} for n in names]
        result = ansible.run(project, "changelogs", [best], variables={"pw_packages": asked})[best.name]
        if not result.ok("changelog"):
            raise Failed(
                f"{best.name}: {result.problem or 'no answer'}: the changelogs are needed to name the advisories"
            )
        for name, row in result.steps["changelog"]["packages"].items():
            found[name] = [ChangelogEntry.model_validate_json(json.dumps(entry)) for entry in row["entries"]]
        missing -= set(names)
    return found
