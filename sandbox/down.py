"""`make down`: nothing of this sandbox runs, is mounted or routed afterwards, in whatever state it was left."""

from datetime import UTC, datetime
from pathlib import Path

from patchwave.wave.journal import close_rehearsals
from sandbox import console, daemon
from sandbox.config import Sandbox
from sandbox.lab import cgroups, network, processes
from sandbox.lab.hosts import remove
from sandbox.stack import Stack, existing

# What `down` keeps: who signed the evidence, and where the sandbox was.
_KEPT = {"sandbox.json", "keys", "allowed_signers", "log", ".lock"}


def down(sandbox: Sandbox, *, engine: Path | None) -> None:
    """Destroys the stacks through the engine when there is one, then ends and removes whatever is left."""
    _destroy(sandbox, engine)
    with console.step("down") as report:
        for name in _ordered(processes.recorded(sandbox)):
            processes.stop(sandbox, name, grace=0.0 if name.startswith("host-") else 5.0)
        for group in cgroups.every(sandbox):
            cgroups.end(group)
        network.down(sandbox)
        if sandbox.runner_key.exists():
            close_rehearsals(sandbox.project, "the sandbox was taken down", datetime.now(UTC), sandbox.runner_key)
        for entry in sandbox.folder.iterdir():
            if entry.name not in _KEPT:
                remove(entry)
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
