"""Whether a host must be rebooted, and why."""

from __future__ import annotations

import contextlib
import fnmatch
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ansible.module_utils.patchwave_apt import REBOOT_PACKAGES
from ansible.module_utils.patchwave_host import process_start, processes, run
from ansible.module_utils.patchwave_units import mapped_files, unit_of
from ansible.module_utils.patchwave_versions import compare

FLAG = Path("/run/reboot-required")
INFO = Path("/var/lib/dpkg/info")


def reasons(packages: Iterable[str]) -> list[str]:
    """Why this boot must end: the distribution's flag, a newer kernel, core packages, replaced libraries in use."""
    found = []
    if FLAG.exists():
        with contextlib.suppress(OSError):
            names = sorted(set(Path(f"{FLAG}.pkgs").read_text().split()))
            found.append(f"{FLAG} names {', '.join(names)}")
        if not found:
            found.append(f"{FLAG} is there")
    if kernel := newer_kernel():
        found.append(kernel)
    if core := installed_since_boot(REBOOT_PACKAGES, packages):
        found.append(f"installed since the boot: {', '.join(core)}")
    for pid in [1, *(pid for pid in processes() if unit_of(pid) == "dbus.service")]:
        if deleted := sorted(mapped_files(pid)[1]):
            found.append(f"{'PID 1' if pid == 1 else 'dbus'} uses the replaced {Path(deleted[0]).name}")
    return found


def newer_kernel() -> str:
    """The newer kernel that waits for a boot, or an empty string; a container boots its host's."""
    if run(["systemd-detect-virt", "--container", "--quiet"], timeout=10).code == 0:
        return ""
    running = os.uname().release
    flavour = running.rpartition("-")[2]
    waiting = [path.name[len("vmlinuz-") :] for path in Path("/boot").glob("vmlinuz-*") if path.name.endswith(flavour)]
    newest = [release for release in waiting if compare(release, running) > 0]
    return f"kernel {newest[0]} is installed, {running} is running" if newest else ""


def installed_since_boot(patterns: Sequence[str], packages: Iterable[str]) -> list[str]:
    """The packages of that kind whose files were put in place after PID 1 started."""
    started = process_start(1) or 0.0
    found = []
    for key in packages:
        name = key.split(":")[0]
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            for listing in [*INFO.glob(f"{name}.list"), *INFO.glob(f"{name}:*.list")]:
                if listing.stat().st_mtime > started:
                    found.append(key)
                    break
    return sorted(found)


def renew_pid_1() -> None:
    """Lets PID 1 start its own new code, which needs no reboot."""
    if mapped_files(1)[1]:
        run(["systemctl", "daemon-reexec"], timeout=60)
