"""What hosts have installed and are offered, scanned now; a host without a usable answer is named, the others count."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from patchwave.azure.inventory import Inventory
from patchwave.base.model import first_problem
from patchwave.base.text import one_line
from patchwave.methods import ansible
from patchwave.methods.ansible import HostResult
from patchwave.releases.release import Pending

OFFER = ("method", "name", "arch", "to", "origin", "label", "suite", "trusted", "size", "sha256", "source")
VERSIONS = TypeAdapter(dict[str, str])


class HostScan(NamedTuple):
    """A host's installed versions by package, the updates that it is offered, and what these bring along."""

    packages: Mapping[str, str]
    pending: tuple[Pending, ...]
    brought: tuple[Pending, ...]


NOTHING = HostScan({}, (), ())


class Scans(NamedTuple):
    """Each answer by its host's name, why each other host gave none, and what else the inventory lacks."""

    found: Mapping[str, HostScan]
    unanswered: Mapping[str, str]
    lacks: tuple[str, ...] = ()

    @property
    def partial(self) -> bool:
        """Whether there may be hosts of which nothing is known."""
        return bool(self.unanswered or self.lacks)

    @property
    def rows(self) -> list[dict[str, str]]:
        """The hosts without an answer as JSON data."""
        return [{"name": name, "reason": self.unanswered[name]} for name in sorted(self.unanswered)]


def scan(project: Path, inventory: Inventory, *, refresh: bool) -> Scans:
    """Scans every host; `refresh` reads its package sources anew first, and changes nothing else."""
    hosts = inventory.hosts
    results = ansible.run(project, "scan", hosts, variables={"pw_refresh": refresh}) if hosts else {}
    return answers(inventory, results)


def answers(inventory: Inventory, results: Mapping[str, HostResult]) -> Scans:
    """What the hosts of an inventory answered, and every machine of which that is unknown."""
    found: dict[str, HostScan] = {}
    unanswered = {one.name: one.reason for one in inventory.problems}
    for name, result in results.items():
        if not result.ok("scan"):
            unanswered[name] = one_line(result.problem or "no answer")
            continue
        try:
            found[name] = _read(result.steps["scan"])
        except ValidationError as error:
            unanswered[name] = f"its scan is not one: {one_line(first_problem(error))}"
        except (KeyError, TypeError) as error:
            unanswered[name] = f"its scan is not one: {one_line(repr(error))}"
    return Scans(found, unanswered, inventory.gaps)


def _read(step: Mapping[str, Any]) -> HostScan:
    pending, brought = (tuple(offer(row) for row in step[key]) for key in ("pending", "brought"))
    return HostScan(VERSIONS.validate_python(step["packages"], strict=True), pending, brought)


def offer(row: Mapping[str, Any]) -> Pending:
    """One row of a host's scan, every field checked; an empty `from` is a package that the host does not have."""
    plain = {key: row[key] for key in OFFER} | {"from": row["from"] or None}
    return Pending.model_validate_json(json.dumps(plain))
