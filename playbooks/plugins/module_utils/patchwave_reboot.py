"""Whether a host must be rebooted, and why."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable
from pathlib import Path

from ansible.module_utils.patchwave_host import process_start, processes, run
from ansible.module_utils.patchwave_methods import Packages
from ansible.module_utils.patchwave_units import mapped_files, unit_of


def reasons(names: Iterable[str], packages: Packages) -> list[str]:
    """Why this boot must end: the distribution's notice, a newer kernel, core packages, replaced libraries in use."""
    found = packages.reboot_notices()
    if kernel := newer_kernel(packages):
        found.append(kernel)
    if core := installed_since_boot(names, packages):
        found.append(f"installed since the boot: {', '.join(core)}")
    for pid in [1, *(pid for pid in processes() if unit_of(pid) == "dbus.service")]:
        if deleted := sorted(mapped_files(pid)[1]):
            found.append(f"{'PID 1' if pid == 1 else 'dbus'} uses the replaced {Path(deleted[0]).name}")
    return found


def newer_kernel(packages: Packages) -> str:
    """The newer kernel that waits for a boot, or an empty string; a container boots its host's."""
    if run(["systemd-detect-virt", "--container", "--quiet"], timeout=10).code == 0:
        return ""
    running = os.uname().release
    newest = packages.waiting_kernel(running)
    return f"kernel {newest} is installed, {running} is running" if newest else ""


def installed_since_boot(names: Iterable[str], packages: Packages) -> list[str]:
    """The packages of that kind whose files were put in place after PID 1 started."""
    started = process_start(1) or 0.0
    concerned = [
        key for key in names if any(fnmatch.fnmatchcase(key.split(":")[0], one) for one in packages.REBOOT_PACKAGES)
    ]
    return sorted(key for key in concerned if packages.placed_at(key.split(":")[0]) > started)


def renew_pid_1() -> None:
    """Lets PID 1 start its own new code, which needs no reboot."""
    if mapped_files(1)[1]:
        run(["systemctl", "daemon-reexec"], timeout=60)
