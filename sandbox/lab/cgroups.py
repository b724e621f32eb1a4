"""Control groups: what runs in one is found and ended, whatever became of the process that started it."""

import contextlib
import os
import signal
import time
from pathlib import Path

from patchwave.base.errors import Failed
from sandbox.config import Sandbox

_ROOTS = tuple(Path("/sys/fs/cgroup") / name for name in ("", "unified", "systemd"))


def named(sandbox: Sandbox, name: str) -> list[Path]:
    """The group of that name in each hierarchy that the machine has."""
    roots = [root for root in _ROOTS if (root / "cgroup.procs").exists()]
    return [root / sandbox.bridge / f"{name}.{sandbox.digest}" for root in roots]


def make(sandbox: Sandbox, name: str) -> list[Path]:
    """The group, ready to be joined."""
    for group in named(sandbox, name):
        group.mkdir(parents=True, exist_ok=True)
    return named(sandbox, name)


def freezer(sandbox: Sandbox, name: str) -> Path | None:
    """The group that can be frozen, when it is there."""
    return next((group for group in named(sandbox, name) if (group / "cgroup.freeze").exists()), None)


def every(sandbox: Sandbox) -> list[Path]:
    """All groups of this sandbox, whoever made them."""
    return [group for root in _ROOTS for group in (root / sandbox.bridge).glob(f"*.{sandbox.digest}")]


def end(group: Path, *, grace: float = 0.0) -> None:
    """Nothing runs in the group and the group is gone; who ends by himself within the grace is not killed."""
    begun = time.monotonic()
    while group.exists():
        spent = time.monotonic() - begun
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                for pid in (Path(folder) / "cgroup.procs").read_text().split():
                    if spent >= grace:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(int(pid), signal.SIGKILL)
                Path(folder).rmdir()
        if not group.exists():
            break
        if spent > grace + 10:
            raise Failed(f"{group} still holds processes: look at its cgroup.procs, then run down again")
        time.sleep(0.02)
    with contextlib.suppress(OSError):
        group.parent.rmdir()
