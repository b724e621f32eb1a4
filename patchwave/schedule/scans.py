"""What hosts have and are offered, asked on the spot; a host without a usable answer is named and stops nobody."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from patchwave.azure.inventory import Inventory
from patchwave.base.model import first_problem
from patchwave.methods import ansible
from patchwave.methods.ansible import HostResult
from patchwave.releases.release import Pending

OFFER = ("name", "arch", "to", "origin", "label", "suite", "trusted", "size", "sha256", "source")
VERSIONS = TypeAdapter(dict[str, str])
OFF = frozenset({"deallocated", "deallocating", "stopped", "stopping"})


class HostScan(NamedTuple):
    """A host's installed versions by package, the updates that it is offered, and what these bring along."""

    packages: Mapping[str, str]
    pending: tuple[Pending, ...]
    brought: tuple[Pending, ...]


class Scans(NamedTuple):
    """Each answer by its host's name, and why each other host gave none."""

    found: Mapping[str, HostScan]
    unanswered: Mapping[str, str]

    @property
    def rows(self) -> list[dict[str, str]]:
        """The hosts without an answer as JSON data."""
        return [{"name": name, "reason": self.unanswered[name]} for name in sorted(self.unanswered)]


def scan(project: Path, inventory: Inventory, *, refresh: bool) -> Scans:
    """Asks every host that is running; `refresh` has it read its package sources first, and changes nothing else."""
    up = [host for host in inventory.hosts if inventory.power.get(host.name) not in OFF]
    results = ansible.run(project, "scan", up, variables={"pw_refresh": refresh}) if up else {}
    return answers(inventory, results)


def answers(inventory: Inventory, results: Mapping[str, HostResult]) -> Scans:
    """What the hosts of an inventory answered, and every one that did not."""
    found: dict[str, HostScan] = {}
    unanswered = dict.fromkeys(inventory.missing, "Azure does not list it") | dict(inventory.problems)
    for host in inventory.hosts:
        result = results.get(host.name)
        if result is None:
            unanswered[host.name] = f"it is {inventory.power.get(host.name)}: start it, or wait until it is gone"
        elif not result.ok("scan"):
            unanswered[host.name] = result.problem or "no answer"
        else:
            try:
                found[host.name] = _read(result.steps["scan"])
            except ValidationError as error:
                unanswered[host.name] = f"scan: {first_problem(error)}: not what a scan answers"
            except (KeyError, TypeError) as error:
                unanswered[host.name] = f"scan: {error}: not what a scan answers"
    return Scans(found, unanswered)


def _read(step: Mapping[str, Any]) -> HostScan:
    pending, brought = (tuple(offer(row) for row in step[key]) for key in ("pending", "brought"))
    return HostScan(VERSIONS.validate_python(step["packages"], strict=True), pending, brought)


def offer(row: Mapping[str, Any]) -> Pending:
    """One row of a host's scan, every field checked; an empty `from` is a package that the host does not have."""
    plain = {key: row[key] for key in OFFER} | {"from": row["from"] or None}
    return Pending.model_validate_json(json.dumps(plain))
