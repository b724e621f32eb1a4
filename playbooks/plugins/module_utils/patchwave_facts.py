"""What a host is right now, read without changing it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from ansible.module_utils import patchwave_reboot
from ansible.module_utils.patchwave_host import boot
from ansible.module_utils.patchwave_methods import Packages


def os_name() -> str:
    """The distribution's own name for itself."""
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip().strip('"')
    return "Linux"


def scan(packages: Packages) -> dict[str, Any]:
    """Versions, holds, pending updates and whether a reboot is due."""
    installed = packages.installed_packages(packages.native_architecture())
    pending, brought = packages.pending()
    why = patchwave_reboot.reasons(installed, packages)
    return {
        "os": os_name(),
        "kernel": os.uname().release,
        "boot": boot(),
        "time": time.time(),
        "packages": {key: package.version for key, package in sorted(installed.items())},
        "held": sorted(key for key, package in installed.items() if package.held),
        "pending": pending,
        "brought": brought,
        "reboot_required": {"needed": bool(why), "why": why},
        "dpkg_audit": packages.interrupted(),
    }
