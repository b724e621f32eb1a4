"""Assessing and installing updates on a machine, as Update Manager's operations on demand do: by the host's own apt.

https://learn.microsoft.com/azure/update-manager/manage-vms-programmatically
"""

from __future__ import annotations

import re
import shlex
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from sandbox.azure.arm.complete import now
from sandbox.azure.arm.rules.change import dig, minutes
from sandbox.azure.arm.rules.maintenance import LINUX_CLASSES
from sandbox.azure.bodies.wire import Wire
from sandbox.azure.resources.errors import bad_request, conflict
from sandbox.azure.resources.kinds import INSTALLS, shape_of
from sandbox.azure.resources.places import Hosts
from sandbox.azure.resources.store import Row, Store
from sandbox.lab.hosts import HostError

Json = Any
ASSESS, INSTALL = "assesspatches", "installpatches"
VERBS = (ASSESS, INSTALL)
ASSESSMENTS, INSTALLATIONS = "patchAssessmentResults", "patchInstallationResults"
_ARC = "microsoft.hybridcompute/machines"
_PATIENCE = 4 * 3600.0
_UPDATE = "apt-get -qq -o DPkg::Lock::Timeout=120 update"
_LIST = "apt-get -s dist-upgrade; if test -e /run/reboot-required; then echo reboot-required; fi"
_INSTALL = (
    "env DEBIAN_FRONTEND=noninteractive apt-get -y -qq -o DPkg::Lock::Timeout=120 "
    "-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install"
)
_LISTED = re.compile(r"^Inst (?P<name>\S+) \[[^]]+\] \((?P<version>\S+) (?P<origins>.*) \[\S+\]\)", re.MULTILINE)


@dataclass(frozen=True)
class Patch:
    """An update that a host's package lists have for what is installed on it."""

    name: str
    version: str
    classification: str

    @property
    def id(self) -> str:
        return f"{self.name}_{self.version}"


def available(listing: str) -> list[Patch]:
    """The updates in what `apt-get -s dist-upgrade` prints; those of a security suite are security updates."""
    return [
        Patch(found["name"], found["version"], "Security" if "-security" in found["origins"] else "Other")
        for found in _LISTED.finditer(listing)
    ]


def check(row: Row, verb: str, wanted: Mapping[str, Json], wire: Wire) -> None:
    """Refuses a body that the operation does not take."""
    if verb == ASSESS:
        return
    for problem in wire.problems(wanted, shape_of(INSTALLS[row.type])):
        raise bad_request(problem.code, problem.reason)
    if (longest := wanted.get("maximumDuration")) is not None and not minutes(longest):
        raise bad_request("InvalidParameter", f"The value '{longest}' of parameter 'maximumDuration' is invalid.")
    for name in dig(wanted, "linuxParameters.classificationsToInclude", []):
        if name not in LINUX_CLASSES:
            raise bad_request("InvalidParameter", f"The value '{name}' of 'classificationsToInclude' is invalid.")
    if wanted.get("windowsParameters"):
        raise bad_request("InvalidParameter", f"windowsParameters are not for the Linux machine '{row.name}'.")


def chosen(patches: Sequence[Patch], wanted: Mapping[str, Json]) -> tuple[list[Patch], list[Patch]]:
    """What is to be installed, and what is excluded: a mask includes besides the classes, and excludes before both."""
    linux = wanted.get("linuxParameters") or {}
    classes = linux.get("classificationsToInclude") or []

    def masked(patch: Patch, masks: str) -> bool:
        return any(fnmatchcase(patch.name, mask) for mask in linux.get(masks) or [])

    excluded = [patch for patch in patches if masked(patch, "packageNameMasksToExclude")]
    included = [
        patch
        for patch in patches
        if patch not in excluded and (patch.classification in classes or masked(patch, "packageNameMasksToInclude"))
    ]
    return included, excluded


class Patching:
    """Carries the operations out on hosts, and keeps what Resource Graph shows of them."""

    def __init__(self, store: Store, hosts: Hosts) -> None:
        self._store = store
        self._hosts = hosts

    def act(self, row: Row, verb: str, wanted: Mapping[str, Json]) -> Json:
        """The operation's result; a host that does not answer makes it fail."""
        try:
            return self._assess(row) if verb == ASSESS else self._install(row, wanted)
        except HostError as failure:
            raise conflict("VMGuestPatchInternalError", str(failure)) from None

    def _listed(self, row: Row) -> tuple[list[Patch], bool]:
        listing = self._hosts.run(row.hidden["host"], _LIST, _PATIENCE)
        return available(listing), "reboot-required" in listing.splitlines()

    def _assess(self, row: Row) -> Json:
        began = now()
        self._hosts.run(row.hidden["host"], _UPDATE, _PATIENCE)
        patches, reboot = self._listed(row)
        activity = str(uuid.uuid4())
        security = sum(patch.classification == "Security" for patch in patches)
        counts = {"critical": 0, "security": security, "other": len(patches) - security}
        common = {"status": "Succeeded", "assessmentActivityId": activity, "rebootPending": reboot}
        seen = {"startDateTime": began, "lastModifiedDateTime": now(), "startedBy": "User", **_APT}
        summary = common | seen | {"availablePatchCountByClassification": _NO_COUNTS | counts}
        self._keep(row, ASSESSMENTS, "latest", summary, [_shown(patch) for patch in patches])
        if row.type == _ARC:
            return summary
        return common | {
            "criticalAndSecurityPatchCount": security,
            "otherPatchCount": len(patches) - security,
            "startDateTime": began,
            "availablePatches": [
                _named(patch) | {"activityId": activity, "assessmentState": "Available"} for patch in patches
            ],
        }

    def _install(self, row: Row, wanted: Mapping[str, Json]) -> Json:
        name, began, clock = row.hidden["host"], now(), time.monotonic()
        self._hosts.run(name, _UPDATE, _PATIENCE)
        patches, _ = self._listed(row)
        selected, excluded = chosen(patches, wanted)
        error = self._installed(name, selected)
        left, reboot = self._listed(row)
        failed = [patch for patch in selected if patch in left]
        setting = wanted["rebootSetting"]
        status = "Required" if reboot else "NotNeeded"
        if setting == "Always" or (setting == "IfRequired" and reboot):
            self._hosts.restart(name)
            status = "Completed"
        activity = str(uuid.uuid4())
        longest = (minutes(wanted.get("maximumDuration")) or 240) * 60
        states = dict.fromkeys(patches, "NotSelected") | dict.fromkeys(selected, "Installed")
        states |= dict.fromkeys(excluded, "Excluded") | dict.fromkeys(failed, "Failed")
        result = {
            "status": "Failed" if failed else "Succeeded",
            "installationActivityId": activity,
            "rebootStatus": status,
            "maintenanceWindowExceeded": time.monotonic() - clock > longest,
            **{count: sum(state == one for state in states.values()) for count, one in _COUNTED.items()},
            "startDateTime": began,
        }
        seen = {"lastModifiedDateTime": now(), "startedBy": "User", **_APT}
        details = {"errorDetails": {"code": "PackageInstallFailed", "message": error}} if error else {}
        shown = [_shown(patch) | {"installationState": state} for patch, state in states.items()]
        self._keep(row, INSTALLATIONS, activity, result | seen | details, shown)
        if row.type == _ARC:
            return result | seen | details
        listed = [_named(patch) | {"installationState": state} for patch, state in states.items()]
        return result | {"patches": listed} | ({"error": details["errorDetails"]} if error else {})

    def _installed(self, name: str, patches: Sequence[Patch]) -> str:
        """Why not all of them are; nothing when they are."""
        if not patches:
            return ""
        words = shlex.join(f"{patch.name}={patch.version}" for patch in patches)
        try:
            self._hosts.run(name, f"{_INSTALL} {words}", _PATIENCE)
        except HostError as failure:
            return str(failure)
        return ""

    def _keep(self, row: Row, kind: str, name: str, summary: Json, patches: Sequence[Json]) -> None:
        """What Resource Graph's tables of patches have of the machine."""
        outer = f"{row.id}/{kind}/{name}"
        with self._store.change():
            for old in self._store.under(outer):
                self._store.remove(old.key)
            self._put(row, outer, summary)
            for patch in patches:
                self._put(row, f"{outer}/softwarePatches/{patch['patchName']}", patch)

    def _put(self, machine: Row, identity: str, properties: Json) -> None:
        type_ = "/".join([machine.type, *identity[len(machine.id) + 1 :].split("/")[::2]]).lower()
        body = {
            "id": identity,
            "name": identity.rsplit("/", 1)[1],
            "type": type_,
            "location": machine.body.get("location"),
            "properties": properties,
        }
        self._store.put(Row(identity, type_, machine.key, body))


_APT = {"patchServiceUsed": "APT", "osType": "Linux"}
_NO_COUNTS = dict.fromkeys(
    ("critical", "security", "updateRollup", "featurePack", "servicePack", "definition", "tools", "updates", "other"), 0
)
_COUNTED = {
    "excludedPatchCount": "Excluded", "notSelectedPatchCount": "NotSelected", "pendingPatchCount": "Pending",
    "installedPatchCount": "Installed", "failedPatchCount": "Failed",
}  # fmt: skip


def _named(patch: Patch) -> dict[str, Json]:
    return {
        "patchId": patch.id, "name": patch.name, "version": patch.version, "classifications": [patch.classification],
    }  # fmt: skip


def _shown(patch: Patch) -> dict[str, Json]:
    return {
        "patchName": patch.name, "version": patch.version, "classifications": [patch.classification],
        "publishedDateTime": None, "lastModifiedDateTime": now(),
    }  # fmt: skip


def tables(machines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """In which of Resource Graph's tables each type of row stands."""
    for kind, table in ((ASSESSMENTS, "patchassessmentresources"), (INSTALLATIONS, "patchinstallationresources")):
        for machine in machines:
            yield f"{machine}/{kind.lower()}", table
            yield f"{machine}/{kind.lower()}/softwarepatches", table
