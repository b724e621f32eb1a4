"""`make down`: nothing of this sandbox runs, is mounted or routed afterwards, in whatever state it was left."""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from sandbox import console, daemon, network, processes
from sandbox.config import Sandbox
from sandbox.hosts import end_group, groups
from sandbox.stack import Stack, existing

# What `down` keeps: who signed the evidence, and where the sandbox was.
_KEPT = {"sandbox.json", "keys", "allowed_signers", "log", ".lock"}


def down(sandbox: Sandbox, *, engine: Path | None) -> None:
    """Destroys the stacks through the engine when it can be asked, then ends and removes whatever is left."""
    _destroy(sandbox, engine)
    with console.step("down") as report:
        _end_orphans(sandbox)
        for name in _ordered(processes.recorded(sandbox)):
            processes.stop(sandbox, name, grace=0.0 if name.startswith("host-") else 5.0)
        for group in groups(sandbox):
            end_group(group)
        network.down(sandbox)
        for entry in sandbox.folder.iterdir():
            if entry.name not in _KEPT:
                _remove(entry)
        report("nothing of the sandbox runs, is mounted or routed")


def _destroy(sandbox: Sandbox, engine: Path | None) -> None:
    if engine is None or not daemon.ready(sandbox):
        return
    for name in existing(sandbox):
        with console.step("destroy") as report:
            console.working("destroy", f"stack {name}")
            stack = Stack(sandbox, engine, name)
            if not stack.resources():
                report.quick = True
            elif stack.destroy():
                report(f"stack {name}")
            else:
                report(f"stack {name} did not end well ({stack.problem()}): it is removed by force")


def _ordered(names: list[str]) -> list[str]:
    """The resource manager first, so that it does not start again what is being stopped."""
    return sorted(names, key=lambda name: (name != "azure", name))


def _end_orphans(sandbox: Sandbox) -> None:
    """Ends what a killed engine left: programs of this sandbox's plugins, known by their executable's folder."""
    home = f"{sandbox.home}/"
    for number in (signal.SIGTERM, signal.SIGKILL):
        found = [pid for pid in _pids() if any(home in word for word in _command(pid)) and pid != os.getpid()]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if not found:
            return
        time.sleep(0.3)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _command(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        return words[:2]
    return []


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)
