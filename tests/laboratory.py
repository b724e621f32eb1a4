"""A sandbox of the tests' own: a copy of the project, driven through the same commands as a person's."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

PROJECT = Path(__file__).resolve().parents[1]
MINUTES = 60.0


class Laboratory:
    """One named sandbox in a folder of its own."""

    def __init__(self, project: Path, name: str) -> None:
        self.project, self.name = project, name
        self.folder = project / f".sandbox-{name}"

    def sandbox(self, verb: str, *arguments: str, code: int = 0, limit: float = 15 * MINUTES) -> str:
        """Runs `python -m sandbox`; what it printed, when it ended with the expected code."""
        return self._run(self.command(verb, *arguments), dict(os.environ), code, limit)

    def command(self, verb: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "sandbox", verb, "--name", self.name, *arguments]

    def run(self, *words: str, code: int = 0, stdin: str = "", **variables: str) -> str:
        """Runs a command in the sandbox's environment, as after `source .sandbox/env`."""
        return self._run(list(words), self.environment() | variables, code, 15 * MINUTES, stdin)

    def shown(self, *words: str, **variables: str) -> dict[str, Any]:
        """The object that `patchwave … --json` prints."""
        done = subprocess.run(
            ["patchwave", *words, "--json"],
            cwd=self.project,
            env=self.environment() | variables,
            stdout=subprocess.PIPE,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def ssh(self, host: str, command: str) -> str:
        return self._run(["ssh", "-F", str(self.folder / "ssh_config"), host, command], dict(os.environ), 0, MINUTES)

    def environment(self) -> dict[str, str]:
        script = f"set -a; . {shlex.quote(str(self.folder / 'env'))}; env -0"
        done = subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, check=True)
        lines = done.stdout.decode().split("\0")
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def evidence(self, stack: str = "dev", release: str | None = None) -> Path:
        """Where a release's evidence on a stack is; the stack's own release unless another is named."""
        return self.project / "evidence" / "patching" / stack / (release or self.release(stack))

    def records(self, stack: str = "dev", release: str | None = None) -> list[dict[str, Any]]:
        path = self.evidence(stack, release) / "evidence.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    def release(self, stack: str = "dev") -> str:
        lines = (self.project / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 2)[2].strip(" '\"") for line in lines if "patchwave:release:" in line)

    def url(self, stack: str = "dev") -> str:
        urls: dict[str, str] = json.loads(self.run("pulumi", "stack", "output", "urls", "--json", "--stack", stack))
        return urls["web"]

    def opening(self, stack: str = "dev") -> datetime:
        """When the stack's window opens next."""
        shown = self.shown("windows", "--stack", stack)
        return datetime.fromisoformat(shown["next"][0]["opens"])

    @contextmanager
    def edited(self, old: str, new: str, file: str = "Pulumi.dev.yaml") -> Iterator[None]:
        """A file of the project with one text in place of another."""
        path = self.project / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(path.read_text(encoding="utf-8").replace(new, old), encoding="utf-8")

    @contextmanager
    def requests(self, url: str | None = None) -> Iterator[list[str]]:
        """A client all the while, on one kept connection and on fresh ones in turn; what `client.py` heard."""
        asked = url or self.url()
        script = Path(__file__).with_name("client.py")
        report = self.project / f"client-{urlsplit(asked).netloc}.txt"
        answers: list[str] = []
        with report.open("w", encoding="utf-8") as out:
            client = subprocess.Popen([sys.executable, str(script), asked], stdout=out)
            try:
                wait_until(lambda: report.stat().st_size > 0, 30, "the client's first answer")
                yield answers
            finally:
                client.terminate()
                client.wait()
        answers += report.read_text(encoding="utf-8").split()

    def _run(self, command: list[str], environment: dict[str, str], code: int, limit: float, stdin: str = "") -> str:
        done = subprocess.run(
            command,
            cwd=self.project,
            env=environment,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit,
            check=False,
        )
        if done.returncode != code:
            pytest.fail(f"{shlex.join(command)} ended with {done.returncode}, not {code}:\n{done.stdout[-6000:]}")
        return done.stdout


def copied(project: Path, organisation: Path | None = None) -> None:
    """A copy of the files of this project, without what git ignores and without any sandbox's salt.

    The files of another organisation, where they are given, replace the shipped standard and stacks.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (PROJECT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, project / name)
    if organisation:
        for shipped in project.glob("Pulumi.*.yaml"):
            shipped.unlink()
        shutil.copytree(organisation, project, dirs_exist_ok=True)
    for stack in project.glob("Pulumi.*.yaml"):
        lines = stack.read_text(encoding="utf-8").splitlines(keepends=True)
        stack.write_text("".join(line for line in lines if not line.startswith("encryptionsalt:")), encoding="utf-8")


@contextmanager
def laboratory(folder: Path, organisation: Path | None = None) -> Iterator[Laboratory]:
    """A sandbox that is taken down in any case."""
    project = folder / "project"
    copied(project, organisation)
    (project / ".venv").symlink_to(sys.prefix)
    lab = Laboratory(project, f"{'o' if organisation else 't'}{os.getpid()}")
    previous = signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        yield lab
    finally:
        lab.sandbox("down")
        signal.signal(signal.SIGTERM, previous)


def wait_until(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Waits for a condition; a test that waits in vain says for what."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.1)


def shift(instant: datetime) -> str:
    """What PATCHWAVE_CLOCK_SHIFT is for a command whose clock shows an instant."""
    return str(round((instant - datetime.now(UTC)).total_seconds()))


def descendants(pid: int) -> list[int]:
    """A process and everything below it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def answers(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(url, timeout=10).raise_for_status().json()
    return found
