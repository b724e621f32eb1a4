"""The systemd units of a service: which must stop for a change, in which order, and whether their processes are new."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.patchwave_host import StepError, process_start, processes, run
from ansible.module_utils.patchwave_methods import Packages
from ansible.module_utils.patchwave_versions import UNIT, exact

UNIT_TIMEOUT = 120.0
SLACK = 1.0
# Modules of these are read into a process without being mapped, so only the packages' names show that.
INTERPRETED = ("python3", "ruby", "node-", "php")


@dataclass(frozen=True)
class Unit:
    """A service unit as systemd sees it, with the units that are parts of it."""

    name: str
    active: str
    parts: tuple[str, ...]
    fragment: str
    executable: str

    @property
    def running(self) -> bool:
        """Up or on its way there, so that a change must stop it."""
        return self.active in ("active", "reloading", "activating")

    @property
    def up(self) -> bool:
        """Up, for who depends on it."""
        return self.active in ("active", "reloading")


def units(names: Iterable[str]) -> list[Unit]:
    """The named units that exist on this host, in the same order."""
    found = []
    for name in names:
        shown = _show(
            exact(UNIT, name, "service"), "LoadState", "ActiveState", "ConsistsOf", "FragmentPath", "ExecStart"
        )
        if shown.get("LoadState") in ("loaded", "masked"):
            executable = re.search(r"path=(\S+)", shown.get("ExecStart", ""))
            parts = tuple(part for part in shown.get("ConsistsOf", "").split() if UNIT.fullmatch(part))
            found.append(
                Unit(
                    name,
                    shown["ActiveState"],
                    parts,
                    shown.get("FragmentPath", ""),
                    executable[1] if executable else "",
                )
            )
    return found


def _show(unit: str, *properties: str) -> dict[str, str]:
    done = run(["systemctl", "show", f"--property={','.join(properties)}", "--", unit], timeout=30).checked(
        f"systemctl show {unit}"
    )
    return dict(line.split("=", 1) for line in done.out.splitlines() if "=" in line)


def unit_of(pid: int) -> str:
    """The systemd unit that a process belongs to, or an empty string."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        for part in reversed(line.rpartition(":")[2].split("/")):
            if part.endswith((".service", ".scope")):
                return part
    return ""


def mapped_files(pid: int) -> tuple[set[str], set[str]]:
    """The files that a process has mapped, and those of them that have been replaced on disk since."""
    present, deleted = set(), set()
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return set(), set()
    for line in lines:
        path = [*line.split(None, 5), ""][5] if line.count(" ") > 4 else ""
        if path.startswith(("/usr/", "/lib", "/opt/", "/bin/", "/sbin/")):
            if path.endswith(" (deleted)"):
                deleted.add(path[: -len(" (deleted)")])
            else:
                present.add(path)
    return present | deleted, deleted


def concerned(found: Sequence[Unit], changing: Iterable[str], packages: Packages) -> dict[str, str]:
    """The units that a change of these packages touches, with reasons; also all that stop before such a one."""
    keys = set(changing)
    files = {_plain(file): key for key in keys for file in packages.files_of(key)}
    reasons: dict[str, str] = {}
    for unit in found:
        if unit.running and (reason := _touches(unit, keys, files, packages)):
            reasons[unit.name] = reason
    last = max((index for index, unit in enumerate(found) if unit.name in reasons), default=-1)
    for unit in found[: last + 1]:
        if unit.running:
            reasons.setdefault(unit.name, f"depends on {found[last].name}")
    return {unit.name: reasons[unit.name] for unit in found if unit.name in reasons}


def _touches(unit: Unit, keys: set[str], files: Mapping[str, str], packages: Packages) -> str:
    owners = _owners([path for path in (unit.fragment, unit.executable) if path], packages)
    needs = packages.dependencies(owners)
    modules = [name for name in needs if name.startswith(INTERPRETED) or name.endswith("-perl")]
    for owner in [*owners, *modules]:
        if owner in keys:
            return f"needs {owner}"
    members = {unit.name, *unit.parts}
    for pid in processes():
        if unit_of(pid) in members:
            for path in mapped_files(pid)[0]:
                if key := files.get(_plain(path)):
                    return f"uses {Path(path).name} of {key}"
    return ""


def _plain(path: str) -> str:
    """A path as both sides of the merged /usr write it."""
    return re.sub(r"^/usr(?=/(?:lib|bin|sbin))", "", path)


def _owners(paths: Sequence[str], packages: Packages) -> list[str]:
    found = []
    for path in paths:
        spellings = dict.fromkeys((path, _plain(path), f"/usr{_plain(path)}"))
        found += next((owners for one in spellings if (owners := packages.owners([one]))), [])
    return found


def stop(found: Sequence[Unit], names: Iterable[str]) -> list[str]:
    """Stops the named units in the given order, each one down before the next; returns those that were running."""
    stopped, wanted = [], set(names)
    for unit in found:
        if unit.name in wanted and _show(unit.name, "ActiveState")["ActiveState"] not in ("inactive", "failed"):
            run(["systemctl", "stop", "--", unit.name, *unit.parts], timeout=UNIT_TIMEOUT).checked(
                f"systemctl stop {unit.name}"
            )
            stopped.append(unit.name)
    return stopped


def start(names: Iterable[str]) -> list[str]:
    """Starts units in the given order, each one up before the next; one that does not come up is a StepError."""
    started: list[str] = []
    for name in names:
        run(["systemctl", "reset-failed", "--", name], timeout=30)
        done = run(["systemctl", "start", "--", name], timeout=UNIT_TIMEOUT)
        if done.code or _show(name, "ActiveState")["ActiveState"] not in ("active", "reloading"):
            log = run(["journalctl", "--unit", name, "--lines=5", "--no-pager", "--output=cat"], timeout=20).out
            last = " / ".join([line.strip() for line in log.splitlines() if line.strip()][-4:])[:300]
            raise StepError(f"{name} does not start: {last or 'see journalctl'}", started=started)
        started.append(name)
    return started


def down(found: Sequence[Unit]) -> str:
    """Which of the units are not up, or an empty string."""
    names = [unit.name for unit in found if not unit.up]
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not active" if names else ""


def old_process(found: Sequence[Unit], replaced: Iterable[str], changed_at: float | None) -> str:
    """Why a process of these units is one of before the change, or an empty string.

    The units in `replaced` were stopped for the change: each of them, and of their parts, must have started after
    `changed_at`, by the kernel's account of its main process, or by systemd's where it has none. None where the host
    has booted since. No process of any of the units may use a file that was replaced on disk.
    """
    stopped = set(replaced)
    if changed_at is not None:
        for name in [name for unit in found if unit.name in stopped for name in (unit.name, *unit.parts)]:
            began = _started(name)
            if began is not None and began < changed_at - SLACK:
                return f"{name} still runs as before the change (started {changed_at - began:.0f} s too early)"
    members = {name for unit in found for name in (unit.name, *unit.parts)}
    for pid in processes():
        if (name := unit_of(pid)) in members and (files := sorted(mapped_files(pid)[1])):
            return f"{name}: pid {pid} still uses the replaced {Path(files[0]).name}"
    return ""


def _started(name: str) -> float | None:
    """When a unit started, as Unix time; None for one that is not up, about which health decides."""
    shown = _show(name, "ActiveState", "MainPID", "ActiveEnterTimestampMonotonic")
    if shown.get("ActiveState") not in ("active", "reloading"):
        return None
    if (pid := int(shown.get("MainPID") or 0)) and (began := process_start(pid)) is not None:
        return began
    entered = int(shown.get("ActiveEnterTimestampMonotonic") or 0)
    return time.time() - (time.monotonic() - entered / 1e6) if entered else None
