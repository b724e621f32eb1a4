"""What hosts answer: used only as far as it parses; an answer that does not is a problem of that host alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from patchwave.azure.inventory import Host
from patchwave.base.model import first_problem
from patchwave.base.text import one_line
from patchwave.config.settings.services import Service
from patchwave.methods.ansible import HostResult
from patchwave.releases.missing import outstanding, versions
from patchwave.releases.release import Release
from patchwave.wave.states import Facts


class _Answer(BaseModel):
    """A part of an answer of which only some fields matter; those are strict."""

    model_config = ConfigDict(strict=True, frozen=True)


class Check(_Answer):
    """One check of a preflight."""

    name: str
    ok: bool
    detail: str


class _Update(_Answer):
    name: str
    to: str


class Scanned(_Answer):
    """What a host has installed, pending and held."""

    packages: dict[str, str]
    pending: list[_Update]
    held: list[str]


class _Preflight(_Answer):
    checks: list[Check]
    scan: Scanned | None = None
    databases: dict[str, str] = Field(default_factory=dict)


def preflight(
    result: HostResult, host: Host, release: Release, waived: Mapping[str, str]
) -> tuple[Facts, Sequence[Check]]:
    """What a host's preflight found; `waived` are packages of the release that it need not have."""
    answered = result.reached and (result.problem is not None or bool(result.steps))
    if not result.ok("preflight"):
        return Facts(answered=answered, problem=why(result)), ()
    try:
        found = _Preflight.model_validate(result.steps["preflight"])
    except ValidationError as error:
        return Facts(answered=True, problem=f"a strange answer: {one_line(first_problem(error))}"), ()
    checks = [check.model_copy(update={"detail": one_line(check.detail)}) for check in found.checks]
    failed = [check for check in checks if not check.ok and check.name != "held"]
    problem = f"{failed[0].name}: {failed[0].detail}" if failed else None
    if found.scan is None:
        return Facts(answered=True, problem=problem or "a strange answer: it holds no scan"), checks
    offered = {update.name: update.to for update in found.scan.pending}
    lacks = outstanding(release, host.method, found.scan.packages, offered)
    todo = {name: to for name, to in lacks.items() if name not in waived}
    return Facts(
        answered=True,
        before=versions(release, host.method, found.scan.packages),
        todo=todo,
        held=sorted(set(found.scan.held) & set(todo)),
        waived={name: waived[name] for name in lacks if name in waived},
        problem=problem,
    ), checks


def lost_databases(
    results: Mapping[str, HostResult], hosts: Sequence[Host], services: Mapping[str, Service]
) -> dict[str, str]:
    """By service, why none of its hosts may be patched: a database that it names is on none of those that answer."""
    found: dict[str, set[str]] = {}
    for host in hosts:
        try:
            answer = _Preflight.model_validate(results[host.name].steps["preflight"])
        except (KeyError, ValidationError):
            continue
        present = found.setdefault(host.service, set())
        present |= {name for name, state in answer.databases.items() if state != "absent"}
    lost = {}
    for name, present in found.items():
        for data in services[name].data:
            if data.database not in present:
                lost[name] = f"no host of {name} has the database {data.database}: correct services.{name}.data"
    return lost


def after(result: HostResult | None, host: Host, release: Release) -> dict[str, str] | None:
    """The host's versions of the release's packages by its last scan, None where it gave no sound answer."""
    if result is None or not result.ok("scan"):
        return None
    try:
        return versions(release, host.method, Scanned.model_validate(result.steps["scan"]).packages)
    except ValidationError:
        return None


def figures(line: Mapping[str, Any]) -> dict[str, Any]:
    """What of a step's result is worth keeping for years: figures and reasons, no logs and no package lists."""
    result = line["result"]
    kept: dict[str, Any] = {
        key: value
        for key, value in result.items()
        if isinstance(value, (bool, int, float)) and key != "failed" and one_line(key, 60) == key
    }
    if "msg" in result:
        kept["msg"] = one_line(result["msg"])
    return kept


def why(result: HostResult) -> str:
    """Why a host's result is not that of the step."""
    return one_line(result.problem or f"it reported only {', '.join(result.steps) or 'nothing'}")
