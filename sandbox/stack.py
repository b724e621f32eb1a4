"""One stack of the program on the sandbox, driven through the real engine."""

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from patchwave.base.clock import SHIFT
from patchwave.base.documents import read_document
from patchwave.base.errors import Failed, PatchwaveError, Refused, UsageError
from patchwave.config.settings import RELEASE, stack_path
from patchwave.config.standard import StackName, load_standard
from sandbox import daemon
from sandbox.azure.resources.kinds import BY_TOKEN
from sandbox.config import Sandbox
from sandbox.environment import SUBSCRIPTION, complete
from sandbox.lab import cgroups, children, processes

PROGRAM = "patchwave"
_GROUP = "engine"
_DENIED = re.compile(r"- \[mandatory\](?: \[severity: \w+\])? +(\S+)")


class Stack:
    """A stack by name; every run of the engine first clears what a killed one left behind."""

    def __init__(self, sandbox: Sandbox, engine: Path, name: StackName) -> None:
        self.sandbox, self.engine, self.name = sandbox, engine, name
        self.environment = complete(sandbox, engine)
        self.log = sandbox.log / f"pulumi-{name}.log"
        self._home = sandbox.folder / "stacks"
        self._settings = self._home / f"Pulumi.{name}.yaml"
        self._declared = self._home / f"{name}.declared"

    @property
    def _checkpoint(self) -> Path:
        return self.sandbox.state / ".pulumi" / "stacks" / PROGRAM / f"{self.name}.json"

    def prepare(self) -> None:
        """The stack exists and is selected. It is made in a folder of its own, so that the project's stack file
        gets no salt of this sandbox."""
        self._home.mkdir(exist_ok=True)
        self.sandbox.state.mkdir(exist_ok=True)
        shutil.copy(self.sandbox.project / "Pulumi.yaml", self._home / "Pulumi.yaml")
        if not self._checkpoint.exists():
            self._settings.unlink(missing_ok=True)
            self._pulumi("stack", "init", self.name, "--no-select", cwd=self._home)
        self._pulumi("stack", "select", self.name)

    def resources(self) -> list[dict[str, Any]]:
        """What the stack holds, by its last checkpoint."""
        try:
            state = json.loads(self._checkpoint.read_text())
        except (FileNotFoundError, ValueError):
            return []
        found: list[dict[str, Any]] = (state["checkpoint"].get("latest") or {}).get("resources") or []
        return found

    @property
    def declared(self) -> bool:
        """Whether the whole stack has been declared once, its hosts booted."""
        return bool(self.resources()) and self._declared.exists()

    def up(self, *, moved: int | None = None, wave: bool = True) -> bool:
        """`pulumi up` with the policy pack; without a wave the release is left out and the run is quiet."""
        arguments = ["--yes", "--skip-preview", "--policy-pack", "policy"]
        done = self._run("up", arguments, moved=moved, wave=wave, quiet=not wave)
        if done:
            self._declared.touch()
        return done

    def preview(self) -> bool:
        """`pulumi preview` with the policy pack, at the real time."""
        return self._run("preview", ["--policy-pack", "policy"])

    def destroy(self) -> bool:
        """`pulumi destroy`, quietly."""
        return self._run("destroy", ["--yes", "--skip-preview", "--continue-on-error"], quiet=True)

    def problem(self) -> str:
        """The reason why the last run did not succeed, on one line."""
        return reason([line.strip() for line in _tail(self.log)])

    def patchwave(self, *arguments: str, moved: int | None = None) -> subprocess.CompletedProcess[str]:
        """The command line, with the sandbox's environment."""
        command = ["patchwave", *arguments]
        environment = self.environment | ({} if moved is None else {SHIFT: str(moved)})
        where = self.sandbox.project
        return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)

    def recover(self) -> None:
        """Takes away what a killed run of this sandbox left: processes, lock, pending operations.

        A run that somebody else began and that lives is left alone.
        """
        self._end_engine(grace=10.0)
        for lock in (self.sandbox.state / ".pulumi" / "locks").rglob("*.json"):
            if lock.parent.name == self.name:
                self._release(lock)
        state = self._checkpoint
        if state.exists() and '"pending_operations"' in state.read_text():
            self._settle()

    def _settle(self) -> None:
        """Ends pending operations: what Azure has made by now is taken into the state, the rest will be tried again."""
        exported = json.loads(self._pulumi("stack", "export", "--stack", self.name))
        deployment = exported["deployment"]
        targets = []
        for operation in deployment.pop("pending_operations", []):
            resource = operation["resource"]
            identity = self._made(resource) if operation["type"] == "creating" else ""
            if identity:
                deployment["resources"].append(resource | {"id": identity, "outputs": resource["inputs"]})
                targets += ["--target", resource["urn"]]
        self._pulumi("stack", "import", "--stack", self.name, text=json.dumps(exported))
        if targets:
            self._write_settings(wave=False)
            common = ["--stack", self.name, "--config-file", str(self._settings)]
            self._pulumi("refresh", "--yes", "--skip-preview", *common, *targets)

    def _made(self, resource: dict[str, Any]) -> str:
        """The id of what a pending create has made, empty when it has made nothing or is no resource of Azure."""
        kind = BY_TOKEN.get(resource["type"])
        if kind is None or not daemon.ready(self.sandbox):
            return ""
        values = {"subscriptionId": SUBSCRIPTION, **resource.get("inputs", {})}
        identity = kind.path.format(**{name: str(values.get(name, "")).strip("/") for name in kind.arguments})
        return identity if daemon.exists(self.sandbox, identity, kind.api) else ""

    def _end_engine(self, *, grace: float) -> None:
        for group in cgroups.named(self.sandbox, _GROUP):
            cgroups.end(group, grace=grace)

    def _release(self, lock: Path) -> None:
        try:
            holder = json.loads(lock.read_text())
            pid, when = int(holder["pid"]), datetime.fromisoformat(holder["timestamp"])
        except (FileNotFoundError, ValueError, KeyError):
            return
        begun = _began(pid) if holder.get("hostname") == socket.gethostname() else None
        if begun is not None and begun <= when.timestamp() + 2:
            raise Failed(f"stack {self.name} is held by a running pulumi (process {pid}): wait for it, or end it")
        lock.unlink(missing_ok=True)

    def _run(
        self, verb: str, arguments: Sequence[str], *, moved: int | None = None, wave: bool = True, quiet: bool = False
    ) -> bool:
        self.recover()
        self._write_settings(wave=wave)
        common = ["--stack", self.name, "--config-file", str(self._settings), "--color", "never" if quiet else "auto"]
        environment = self.environment | ({} if moved is None else {SHIFT: str(moved)})
        self.log.unlink(missing_ok=True)
        command = [str(self.engine), verb, *common, *arguments]
        group = cgroups.make(self.sandbox, _GROUP)
        where = self.sandbox.project
        try:
            return children.run_shown(command, self.log, cwd=where, env=environment, groups=group, quiet=quiet) == 0
        finally:
            self._end_engine(grace=2.0)

    def _write_settings(self, *, wave: bool) -> None:
        """The stack file as it stands in the project, with this sandbox's salt in place of any other."""
        own = yaml.safe_load(self._settings.read_text()) if self._settings.exists() else None
        document = dict(read_document(stack_path(self.sandbox.project, self.name)).data)
        for salt in ("encryptionsalt", "secretsprovider", "encryptedkey"):
            document.pop(salt, None)
        if own and "encryptionsalt" in own:
            document["encryptionsalt"] = own["encryptionsalt"]
        if not wave:
            document["config"] = {key: value for key, value in document["config"].items() if key != RELEASE}
        draft = self._settings.with_suffix(".new")
        with draft.open("w", encoding="utf-8") as file:
            yaml.safe_dump(document, file, sort_keys=False)
        draft.replace(self._settings)

    def _pulumi(self, *arguments: str, cwd: Path | None = None, text: str | None = None) -> str:
        done = subprocess.run(
            [str(self.engine), "--non-interactive", *arguments],
            cwd=cwd or self.sandbox.project,
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Failed(f"`pulumi {' '.join(arguments[:3])}` failed: {' '.join(done.stderr.split())}")
        return done.stdout


def answer_of(text: str, complaint: str, code: int) -> dict[str, Any]:
    """The JSON object that a command printed last; its own one-line error otherwise, of its own kind."""
    if code:
        kinds: dict[int, type[PatchwaveError]] = {2: UsageError, 3: Refused}
        raise kinds.get(code, Failed)(reason(complaint.splitlines()))
    last = next((line for line in reversed(text.splitlines()) if line.startswith("{")), "{}")
    answer: dict[str, Any] = json.loads(last)
    return answer


def reason(lines: Sequence[str]) -> str:
    """The most telling line of the engine's output: our own error, a policy's refusal, any other error."""
    for line in lines:
        if (start := line.find("patchwave: ")) >= 0:
            return " ".join(line[start + len("patchwave: ") :].split())
    for number, line in enumerate(lines):
        if found := _DENIED.match(line):
            why = " ".join(lines[number + 2 : number + 3])
            return f"refused by policy {found[1]}: {why}"
    dull = ("error: update failed", "error: preview failed")
    errors = [line for line in lines if "error: " in line and not line.endswith(dull)]
    chosen = (errors or lines[-1:] or ["it wrote nothing"])[0]
    return " ".join(chosen.rpartition("error: ")[2].split())


def existing(sandbox: Sandbox) -> list[StackName]:
    """The stacks that the backend knows."""
    folder = sandbox.state / ".pulumi" / "stacks" / PROGRAM
    return [name for name in load_standard(sandbox.project).stacks if (folder / f"{name}.json").exists()]


def _began(pid: int) -> float | None:
    """When a process began, in seconds since the epoch."""
    ticks = processes.started(pid)
    if ticks is None:
        return None
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return datetime.now().timestamp() - uptime + ticks / os.sysconf("SC_CLK_TCK")


def _tail(log: Path) -> list[str]:
    try:
        return [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    except FileNotFoundError:
        return []
