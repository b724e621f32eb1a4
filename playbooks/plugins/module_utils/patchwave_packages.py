"""What the methods share: locks and scripts that are waited for, and package files that are what was promised."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ansible.module_utils.patchwave_host import StepError, alive, command_line, processes


def lock_holder(path: str) -> tuple[int, str] | None:
    """Who holds a record lock, as (pid, command line), or None when it is free."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        query = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(descriptor, fcntl.F_GETLK, query))
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK else (pid, command_line(pid) or "a process that cannot be seen")


def wait_until_free(held: Callable[[], tuple[str, int, str] | None], timeout: float) -> float:
    """Returns the seconds until every lock was free; past the timeout a StepError names the holder."""
    started = time.monotonic()
    while holder := held():
        if time.monotonic() - started >= timeout:
            path, pid, who = holder
            raise StepError(
                f"{path} is held by pid {pid} ({who[:120]}) after {timeout:g} s: let it finish or end it",
                lock={"path": path, "pid": pid, "command": who},
            )
        time.sleep(0.5)
    return time.monotonic() - started


def running_scripts(pattern: re.Pattern[str]) -> dict[int, str]:
    """The processes whose command line is a package's own script."""
    return {pid: line for pid in processes() if alive(pid) and pattern.search(line := command_line(pid))}


def wait_until_ended(scripts: Callable[[], Mapping[int, str]], timeout: float) -> list[str]:
    """Returns when no script runs any more, with the ones waited for; repairing beside one would race it."""
    until = time.monotonic() + timeout
    seen: dict[int, str] = {}
    while running := scripts():
        seen.update(running)
        if time.monotonic() >= until:
            pid, line = next(iter(running.items()))
            raise StepError(
                f"maintainer script still runs after {timeout:g} s: pid {pid} ({line[:120]}): end it, then run again"
            )
        time.sleep(0.5)
    return sorted(seen.values())


def sha256_of(path: Path) -> str:
    """A file's digest."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def untouched(path: Path, sha256: str) -> None:
    """Refuses a package file that is not, to the byte, the one that was promised."""
    if not path.is_file():
        raise StepError(f"{path} is not there: run protect.yml for this run first")
    if (have := sha256_of(path)) != sha256:
        raise StepError(f"{path.name}: sha256 is {have[:16]}… and not {sha256[:16]}…: it is not the sealed package")


def tail(log: Path) -> str:
    """The log's end."""
    return log.read_text(errors="replace")[-3000:] if log.is_file() else ""
