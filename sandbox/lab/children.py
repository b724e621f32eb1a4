"""Programs that must not outlive this one: they end when it ends, whoever ends it."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PATIENCE = 20.0
_PR_SET_PDEATHSIG = 1
_DOTS = re.compile(rb"@ \w+\.+\s*$|\s*$")  # the engine's sign of life where it has no terminal
_LIBC = ctypes.CDLL(None, use_errno=True)

# A process number space of its own: when its first process dies, the kernel ends all of them and drops their mounts.
CONTAINED = (
    "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
)  # fmt: skip


def dies_with(parent: int, number: signal.Signals, groups: Sequence[Path] = ()) -> Callable[[], None]:
    """For preexec_fn: the child joins the control groups, and gets this signal when the parent is gone."""

    def tie() -> None:
        for group in groups:
            (group / "cgroup.procs").write_text(str(os.getpid()))
        _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return tie


def run_quietly(
    command: Sequence[str],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    alive: Callable[[float], None] = lambda seconds: None,
    limit: float | None = None,
) -> int | None:
    """Runs a long program, its output in the log; None when it was ended because it passed the limit."""
    begun = shown = time.monotonic()
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            start_new_session=True,
            preexec_fn=dies_with(os.getpid(), signal.SIGKILL),
        )
        try:
            while child.poll() is None:
                time.sleep(0.05)
                spent = time.monotonic() - begun
                if limit and spent > limit:
                    return None
                if time.monotonic() - shown >= (1 if sys.stdout.isatty() else 15):
                    shown = time.monotonic()
                    alive(spent)
            return child.returncode
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def run_shown(
    command: Sequence[str],
    log: Path,
    *,
    cwd: Path,
    env: Mapping[str, str],
    groups: Sequence[Path] = (),
    quiet: bool = False,
) -> int:
    """Runs a program with its output on the terminal and in the log; an interrupt lets it end in good order."""
    with log.open("ab") as copy:
        child = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=dies_with(os.getpid(), signal.SIGTERM, groups),
        )
        assert child.stdout is not None
        try:
            for raw in child.stdout:
                copy.write(raw)
                if not quiet and not _DOTS.match(raw):
                    sys.stdout.write(raw.decode("utf-8", "replace"))
                    sys.stdout.flush()
            return child.wait()
        except KeyboardInterrupt:
            print(f"\ninterrupted: {command[0]} has {_PATIENCE:.0f} s to end in good order", file=sys.stderr)
            raise
        finally:
            _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    for number, patience in ((signal.SIGINT, _PATIENCE), (signal.SIGKILL, 5.0)):
        if child.poll() is not None:
            return
        os.killpg(child.pid, number)
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:
            continue
