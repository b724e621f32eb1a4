"""What this machine has of what a rehearsal and a real run need."""

import os
import shutil
import sys
from pathlib import Path

from patchwave.base.errors import PatchwaveError
from patchwave.base.model import Model
from patchwave.config.settings import STACKS, load_stack
from patchwave.config.standard import load_standard

REHEARSAL_TOOLS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "haproxy": "haproxy",
    "nft": "nftables",
    "nginx": "nginx",
    "apt-ftparchive": "apt-utils",
    "ssh-keygen": "openssh-client",
    "gpg": "gnupg",
}
DISK_GB = 6


class Finding(Model):
    """One thing that was looked at; `detail` names the fix when it is not ok."""

    name: str
    ok: bool
    detail: str


def examine(project: Path) -> list[Finding]:
    """Everything, the good and the missing."""
    findings = [_python(), _root(), _overlay(), _disk(project), *map(_tool, REHEARSAL_TOOLS), _engine()]
    return findings + [_stack_file(project, stack) for stack in STACKS] + [_standard(project)]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(name="python", ok=sys.version_info >= (3, 11), detail=f"{version}, 3.11 or newer is needed")


def _root() -> Finding:
    if os.geteuid() == 0:
        return Finding(name="root", ok=True, detail="this is root")
    has = shutil.which("sudo") is not None
    return Finding(
        name="root", ok=has, detail="sudo will be used" if has else "run a rehearsal as root, or install sudo"
    )


def _overlay() -> Finding:
    known = "overlay" in Path("/proc/filesystems").read_text(encoding="ascii")
    return Finding(name="overlayfs", ok=known, detail="known to the kernel" if known else "run `modprobe overlay`")


def _disk(project: Path) -> Finding:
    free = shutil.disk_usage(project).free / 1e9
    return Finding(name="disk", ok=free >= DISK_GB, detail=f"{free:.0f} GB free in {project}, {DISK_GB} GB are needed")


def _tool(name: str) -> Finding:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    package = REHEARSAL_TOOLS[name]
    return Finding(name=name, ok=path is not None, detail=path or f"run `apt-get install {package}` (`make up` does)")


def _engine() -> Finding:
    path = shutil.which("pulumi")
    go = shutil.which("go")
    if path or go:
        return Finding(name="pulumi", ok=True, detail=path or "not on PATH: `make up` builds it from its Go modules")
    return Finding(name="pulumi", ok=False, detail="not on PATH: install it, or Go 1.25 so that `make up` can build it")


def _stack_file(project: Path, stack: str) -> Finding:
    try:
        load_stack(project, stack)
    except PatchwaveError as error:
        return Finding(name=f"Pulumi.{stack}.yaml", ok=False, detail=str(error))
    return Finding(name=f"Pulumi.{stack}.yaml", ok=True, detail="parses")


def _standard(project: Path) -> Finding:
    try:
        load_standard(project)
    except PatchwaveError as error:
        return Finding(name="policy/standard", ok=False, detail=str(error))
    return Finding(name="policy/standard", ok=True, detail="parses")
