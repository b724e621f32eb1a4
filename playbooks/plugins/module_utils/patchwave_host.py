"""What every step on a host needs: bounded commands, durations, one lock a host, a journal by run id."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

LOCK = Path("/run/patchwave.lock")
ROOT = Path("/var/lib/patchwave")
# How long a step waits for another one, or for what a killed one has left running, on the same host.
PATIENCE = 1800.0
RUN_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]{2,63}", re.ASCII)
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
    "APT_LISTCHANGES_FRONTEND": "none",
    "APT_LISTBUGS_FRONTEND": "none",
    "NEEDRESTART_MODE": "a",
    "UCF_FORCE_CONFFOLD": "1",
}


class StepError(Exception):
    """One line: what, where, the fix; `detail` goes into the step's result beside it."""

    def __init__(self, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.detail = detail


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str

    def checked(self, what: str) -> Done:
        """Itself, or the last line of its complaint as a StepError."""
        if self.code != 0:
            raise StepError(f"{what}: {last_line(self.err) or last_line(self.out) or f'exit {self.code}'}")
        return self


def last_line(text: str) -> str:
    """The last line that is an error, else the last line with text."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [
        line
        for line in lines
        if line.startswith(("E:", "Error", "ERROR", "dpkg: error", "psql: error", "pg_dump: error"))
        and not line.endswith(":")
    ]
    return (errors or lines or [""])[-1][:300]


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    stdout: IO[bytes] | None = None,
    stdin: IO[bytes] | None = None,
    keep: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    cwd: Path = Path("/"),
) -> Done:
    """Runs a command without a shell or a terminal; past its time the whole session is killed with a StepError.

    Output goes to files, so a daemon that inherits them cannot keep the step waiting.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            list(argv),
            stdin=stdin or subprocess.DEVNULL,
            stdout=stdout or out,
            stderr=err,
            env={**ENVIRONMENT, **(environment or {})},
            cwd=cwd,
            start_new_session=True,
            pass_fds=tuple(keep),
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            kill_session(process)
            raise StepError(
                f"{Path(argv[0]).name} did not end within {timeout:g} s: its processes were killed"
            ) from None
        except BaseException:
            kill_session(process)
            raise
        out.seek(0)
        err.seek(0)
        return Done(tuple(argv), code, out.read().decode(errors="replace"), err.read().decode(errors="replace"))


def kill_session(leader: subprocess.Popen[bytes], grace: float = 3.0) -> None:
    """Ends every process of a session and every descendant of its leader, gently first."""
    for sign, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, grace)):
        victims = session_of(leader.pid)
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        until = time.monotonic() + patience
        while time.monotonic() < until and (leader.poll() is None or any(alive(pid) for pid in victims)):
            time.sleep(0.05)
        if leader.poll() is not None and not any(alive(pid) for pid in victims):
            return


def stat_fields(pid: int) -> list[str]:
    """/proc/PID/stat from its third field on: state [0], parent [1], session [3], start [19]; empty when gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    fields = stat_fields(pid)
    return bool(fields) and fields[0] not in "ZX"


def processes() -> list[int]:
    """Every process id that can be seen."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def session_of(leader: int) -> list[int]:
    """The session's members and the leader's descendants, whichever session those opened."""
    rows = {pid: fields for pid in processes() if (fields := stat_fields(pid))}
    members = {pid for pid, fields in rows.items() if fields[3] == str(leader)} | {leader}
    grown = True
    while grown:
        children = {pid for pid, fields in rows.items() if int(fields[1]) in members} - members
        members |= children
        grown = bool(children)
    return sorted(pid for pid in members if alive(pid))


def command_line(pid: int) -> str:
    """A process's command line on one line, or an empty string when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def boot() -> str:
    """Which boot this is: the boot id and PID 1's start, so it changes with a kernel's boot and with a container's."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot_id} {stat_fields(1)[19]}"


def process_start(pid: int) -> float | None:
    """When a process started, as Unix time, or None when it is gone."""
    fields = stat_fields(pid)
    if not fields:
        return None
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK"))


def write_durably(path: Path, text: str, mode: int = 0o600) -> None:
    """Replaces a file so that after a crash either the old or the new text is there, whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Journal:
    """What a run has done on this host, one durable file a step."""

    def __init__(self, run_id: str, root: Path = ROOT) -> None:
        if not RUN_ID.fullmatch(run_id):
            raise StepError(f"run id {run_id!r} is not one: use letters, digits, dots and dashes")
        self.run = run_id
        self.folder = root / run_id

    def open(self) -> Journal:
        """Makes the run's folder, readable by root alone."""
        self.folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        return self

    def read(self, step: str) -> dict[str, Any] | None:
        """A step's record, or None when it never began; a record that does not parse is a StepError."""
        path = self.folder / f"{step}.json"
        try:
            record = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            raise StepError(f"{path} is damaged: move it away, look at the host, then run again") from None
        return dict(record)

    def result(self, step: str) -> dict[str, Any] | None:
        """What a step returned, when it has ended well."""
        record = self.read(step)
        return dict(record["result"]) if record and record["state"] == "done" else None

    def write(self, step: str, state: str, **data: Any) -> None:
        """Records a step's state: `begun`, `done`, `failed` or `undone`."""
        record = {"run": self.run, "step": step, "state": state, "boot": boot(), "at": time.time(), **data}
        write_durably(self.folder / f"{step}.json", json.dumps(record, indent=1, sort_keys=True))

    def prune(self, keep: int) -> None:
        """Removes all but the newest runs' folders; this run's own always stays."""
        others = [folder for folder in self.folder.parent.iterdir() if folder.is_dir() and folder != self.folder]
        for folder in sorted(others, key=lambda one: one.stat().st_mtime, reverse=True)[max(keep - 1, 0) :]:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def host_lock(owner: str, *, timeout: float = PATIENCE, path: Path = LOCK) -> Iterator[int]:
    """Holds the host's lock and yields its descriptor; past the timeout a StepError names the holder.

    A command that is given the descriptor keeps the lock when the step itself is killed.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "an unnamed process"
                    raise StepError(f"{path} is held by {holder} after {timeout:g} s: wait for it or end it") from None
                time.sleep(0.2)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{owner} (pid {os.getpid()})".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def serve(module: Any, step: str, work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Runs one step and answers Ansible: its result with `seconds` and `summary`, or one line that failed it."""
    started = time.monotonic()
    try:
        result = work(module.params)
    except StepError as error:
        module.fail_json(msg=str(error), seconds=elapsed(started), **error.detail)
    except Exception as error:  # a defect must still end as one line and not as a missing answer
        module.fail_json(
            msg=f"{step}: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
            seconds=elapsed(started),
            trace=traceback.format_exc()[-4000:],
        )
    result.setdefault("changed", False)
    result.setdefault("seconds", elapsed(started))
    module.exit_json(**result)


_DURATION = re.compile(
    r"P(?:(?P<days>\d+)D)?(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?", re.ASCII
)


def seconds(duration: str) -> float:
    """An ISO 8601 duration of the settings, such as PT1M30S, in seconds; anything else is a StepError."""
    found = _DURATION.fullmatch(duration)
    parts = {unit: float(value) for unit, value in (found.groupdict().items() if found else ()) if value}
    if not parts:
        raise StepError(f"duration {duration[:40]!r} is not one of ISO 8601 in days to seconds: fix the settings")
    return timedelta(**parts).total_seconds()


def elapsed(since: float) -> float:
    """Seconds since a monotonic instant, to the millisecond."""
    return round(time.monotonic() - since, 3)


def count(number: int, noun: str) -> str:
    """`1 package`, `2 packages`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
