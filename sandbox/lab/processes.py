"""Long-lived processes that outlast the command that started them, each recorded before it runs."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from patchwave.base.errors import Failed
from sandbox.config import Sandbox

_BOOT = Path("/proc/sys/kernel/random/boot_id")

# The child writes its own record and only then becomes the program: a kill of the parent at any moment
# leaves no process without a record.
_LAUNCH = r"""
set -f
record=$1 argv=$2; shift 2
read -r line </proc/$$/stat
read -r boot </proc/sys/kernel/random/boot_id
field() { shift 19; printf %s "$1"; }
started=$(field ${line##*) })
printf '{"pid": %s, "started": %s, "boot_id": "%s", "argv": %s}\n' $$ "$started" "$boot" "$argv" >"$record.$$"
mv "$record.$$" "$record"
exec "$@"
"""


class Identity(NamedTuple):
    """What distinguishes one process from a later one with the same number."""

    pid: int
    started: int
    boot_id: str

    @property
    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        return self.boot_id == boot_id() and started(self.pid) == self.started


def boot_id() -> str:
    """The machine's current boot."""
    return _BOOT.read_text().strip()


def started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when it is gone or a zombie."""
    try:
        return parse_started(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


def parse_started(stat: str) -> int | None:
    """Field 22 of a /proc/PID/stat line, None for a zombie; the name in it may hold spaces and brackets."""
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def myself() -> Identity:
    """The identity of this process."""
    pid = os.getpid()
    return Identity(pid, started(pid) or 0, boot_id())


def identity(sandbox: Sandbox, name: str) -> Identity | None:
    """The recorded identity, whether it still runs or not."""
    try:
        record = json.loads((sandbox.run / f"{name}.json").read_text())
        return Identity(record["pid"], record["started"], record["boot_id"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


def recorded(sandbox: Sandbox) -> list[str]:
    """The names of all records."""
    return sorted(path.stem for path in sandbox.run.glob("*.json"))


def alive(sandbox: Sandbox, name: str) -> bool:
    """Whether the recorded process runs; a reused number or a zombie is not it."""
    found = identity(sandbox, name)
    return found is not None and found.alive


def spawn(
    sandbox: Sandbox,
    name: str,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    keep_open: Sequence[int] = (),
) -> None:
    """Starts a detached process of that name unless it runs; its output goes to log/NAME.log."""
    if alive(sandbox, name):
        return
    sandbox.run.mkdir(exist_ok=True)
    sandbox.log.mkdir(exist_ok=True)
    record = sandbox.run / f"{name}.json"
    record.unlink(missing_ok=True)
    with (sandbox.log / f"{name}.log").open("ab") as log:
        child = subprocess.Popen(
            ["/bin/sh", "-c", _LAUNCH, "launch", str(record), json.dumps(list(argv)), *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
            pass_fds=keep_open,
        )
    while not record.exists():
        if child.poll() is not None:
            raise Failed(f"{name} did not start: {tail(sandbox, name)}")
        time.sleep(0.002)


def stop(sandbox: Sandbox, name: str, *, grace: float = 5.0) -> None:
    """Ends the recorded process group, gently, then by force, and forgets it; a reused number is left alone."""
    found = identity(sandbox, name)
    if found is not None and found.alive:
        for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
            _signal_group(found.pid, number)
            if _gone(found, patience):
                break
        else:
            raise Failed(f"{name} (process {found.pid}) does not end: look at it with ps, then run down again")
        _signal_group(found.pid, signal.SIGKILL)
    (sandbox.run / f"{name}.json").unlink(missing_ok=True)


def tail(sandbox: Sandbox, name: str, lines: int = 3) -> str:
    """The end of a process's log, on one line."""
    return last_lines(sandbox.log / f"{name}.log", lines)


def last_lines(path: Path, lines: int = 3) -> str:
    """The last non-empty lines of a file as one line."""
    try:
        text = path.read_bytes()[-8192:].decode("utf-8", "replace")
    except FileNotFoundError:
        return "it wrote nothing"
    kept = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return " / ".join(kept[-lines:]) or "it wrote nothing"


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _gone(found: Identity, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while found.alive:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
