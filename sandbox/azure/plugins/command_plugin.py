"""pulumi-resource-command: `command.local.Command` and `command.local.run` as the official plugin 1.2.1 does them.

Anything else of that plugin is refused by name: nothing is ever pretended to have run.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import subprocess
import threading
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from sandbox.azure.plugins import rpc
from sandbox.azure.plugins.rpc import UNKNOWN, EngineLog, Failure, has_unknown, plain, provider_pb2, struct

Json = Any
COMMAND, RUN = "command:local:Command", "command:local:run"
LOGGING = ("stdout", "stderr", "stdoutAndStderr", "none")
_BASE: dict[str, type[Any]] = {
    "interpreter": list, "dir": str, "environment": dict, "stdin": str, "assetPaths": list, "archivePaths": list,
    "logging": str, "addPreviousOutputInEnv": bool,
}  # fmt: skip
_OF_COMMAND: dict[str, type[Any]] = {**_BASE, "create": str, "update": str, "delete": str, "triggers": list}
_OF_RUN: dict[str, type[Any]] = {**_BASE, "command": str}
_ASSET, _ARCHIVE = "c44067f5952c0a294b673a41bacd8c17", "0def7320c3a5731c473e5ecbe6d01bc7"


class Command(rpc.Provider):
    """Runs commands on this machine."""

    name = "command"

    def __init__(self, engine: str) -> None:
        super().__init__(engine)
        self.version = metadata.version("pulumi-command")
        self._cancelled = threading.Event()
        self._shells: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def cancel(self, request: Json) -> Json:
        """Kills the shells, and not what they have started."""
        self._cancelled.set()
        with self._lock:
            for shell in self._shells:
                shell.kill()
        return rpc.NOTHING()

    def check(self, request: Json) -> Json:
        _known(request.urn.split("::")[2].rsplit("$", 1)[-1])
        failures = [
            provider_pb2.CheckFailure(property=where, reason=why)
            for where, why in complaints(plain(request.news), _OF_COMMAND)
        ]
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    def diff(self, request: Json) -> Json:
        olds, news = plain(request.old_inputs), plain(request.news)
        changed = [
            name for name in sorted({*olds, *news}) if olds.get(name) != news.get(name) or has_unknown(news.get(name))
        ]
        kinds = provider_pb2.PropertyDiff.Kind
        detailed = {}
        for name in changed:
            how = "ADD" if olds.get(name) is None else "DELETE" if news.get(name) is None else "UPDATE"
            kind = kinds.Value(f"{how}_REPLACE" if name == "triggers" else how)
            detailed[name] = provider_pb2.PropertyDiff(kind=kind, inputDiff=True)
        answer = provider_pb2.DiffResponse
        return answer(
            changes=answer.DIFF_SOME if changed else answer.DIFF_NONE, diffs=changed, detailedDiff=detailed,
            hasDetailedDiff=True, replaces=["triggers"] if "triggers" in changed else [],
        )  # fmt: skip

    def create(self, request: Json) -> Json:
        inputs = plain(request.properties)
        name = request.urn.rsplit("::", 1)[1]
        if request.preview:
            return provider_pb2.CreateResponse(properties=struct(inputs))
        outputs = {"stdout": "", "stderr": ""}
        if inputs.get("create") is not None:
            outputs = self._run(request.urn, inputs["create"], inputs, {})
        return provider_pb2.CreateResponse(id=f"{name}{secrets.token_hex(4)}", properties=struct(inputs | outputs))

    def update(self, request: Json) -> Json:
        inputs, olds = plain(request.news), plain(request.olds)
        previous = {key: olds[key] for key in ("stdout", "stderr", "assets", "archive") if key in olds}
        if request.preview:
            return provider_pb2.UpdateResponse(properties=struct(inputs | {"stdout": UNKNOWN, "stderr": UNKNOWN}))
        command = inputs.get("update") if inputs.get("update") is not None else inputs.get("create")
        if command is not None:
            previous |= self._run(request.urn, command, inputs, previous)
        return provider_pb2.UpdateResponse(properties=struct(inputs | previous))

    def delete(self, request: Json) -> Json:
        state = plain(request.properties)
        if state.get("delete") is not None:
            self._run(request.urn, state["delete"], state, state)
        return rpc.NOTHING()

    def read(self, request: Json) -> Json:
        return provider_pb2.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)

    def invoke(self, request: Json) -> Json:
        if request.tok != RUN:
            raise Failure(f"{request.tok}: the sandbox does not know this function")
        arguments = plain(request.args)
        for where, why in complaints(arguments, _OF_RUN):
            raise Failure(f"{RUN}: {where}: {why}")
        if arguments.get("command") is None:
            raise Failure(f"{RUN}: command: missing required property")
        outputs = self._run("", arguments["command"], arguments, {})
        return provider_pb2.InvokeResponse(**{"return": struct(arguments | outputs)})

    def _run(self, urn: str, command: str, inputs: Mapping[str, Json], previous: Mapping[str, Json]) -> dict[str, Json]:
        """Runs one command to its end; both streams are shown line by line as it goes."""
        folder = Path(inputs.get("dir") or Path.cwd())
        program = [*(inputs.get("interpreter") or ["/bin/sh", "-c"]), command]
        environment = {**os.environ, **inputs.get("environment", {})}
        if inputs.get("addPreviousOutputInEnv", True):
            for stream in ("stdout", "stderr"):
                if previous.get(stream):
                    environment[f"PULUMI_COMMAND_{stream.upper()}"] = previous[stream]
        streams = _Streams(EngineLog(self.engine if urn else ""), urn, inputs.get("logging"))
        stdin = inputs.get("stdin") or ""
        try:
            shell = subprocess.Popen(
                program, cwd=folder, env=environment, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            raise Failure(f"{error.strerror}: {error.filename or folder}: running {_quoted(command)}:\n") from None
        with self._lock:
            self._shells.add(shell)
            if self._cancelled.is_set():
                shell.kill()
        try:
            code = streams.drain(shell, stdin)
        finally:
            with self._lock:
                self._shells.discard(shell)
        if code:
            why = f"signal: {-code}" if code < 0 else f"exit status {code}"
            why = "signal: killed" if code == -9 else why
            raise Failure(f"{why}: running {_quoted(command)}:\n{streams.both}")
        outputs: dict[str, Json] = {"stdout": streams.text("stdout"), "stderr": streams.text("stderr")}
        if inputs.get("assetPaths") is not None:
            outputs["assets"] = {name: _asset(path) for name, path in matching(folder, inputs["assetPaths"]).items()}
        if inputs.get("archivePaths") is not None:
            found = {name: _asset(path) for name, path in matching(folder, inputs["archivePaths"]).items()}
            outputs["archive"] = _archive(found)
        return outputs


class _Streams:
    """A command's two streams: kept apart, kept together, and shown line by line."""

    def __init__(self, log: EngineLog, urn: str, logging: str | None) -> None:
        self._log = log
        self._urn = urn
        self._shown = {"stdout": logging in (None, "stdout", "stdoutAndStderr"),
                       "stderr": logging in (None, "stderr", "stdoutAndStderr")}  # fmt: skip
        self._parts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        self._together: list[bytes] = []
        self._lock = threading.Lock()

    def drain(self, shell: subprocess.Popen[bytes], stdin: str) -> int:
        """The exit code, after both streams have ended."""
        threads = [
            threading.Thread(target=self._read, args=(name, pipe))
            for name, pipe in (("stdout", shell.stdout), ("stderr", shell.stderr))
        ]
        for thread in threads:
            thread.start()
        if shell.stdin is not None:
            try:
                shell.stdin.write(stdin.encode())
                shell.stdin.close()
            except BrokenPipeError:
                pass
        for thread in threads:
            thread.join()
        return shell.wait()

    def _read(self, name: str, pipe: IO[bytes]) -> None:
        for line in pipe:
            with self._lock:
                self._parts[name].append(line)
                self._together.append(line)
            if self._shown[name] and self._urn:
                self._log.status(self._urn, line.decode("utf-8", "replace").rstrip("\r\n"))

    def text(self, name: str) -> str:
        return b"".join(self._parts[name]).decode("utf-8", "replace").removesuffix("\n")

    @property
    def both(self) -> str:
        return b"".join(self._together).decode("utf-8", "replace")


def complaints(inputs: Mapping[str, Json], known: Mapping[str, type[Any]]) -> Iterable[tuple[str, str]]:
    """What the official plugin's schema would refuse."""
    for name, value in inputs.items():
        if name not in known:
            yield name, f"unknown property '{name}'"
        elif value is None or has_unknown(value):
            continue
        elif not isinstance(value, known[name]):
            yield name, f"{name} must be a {known[name].__name__}"
        elif name in ("interpreter", "assetPaths", "archivePaths") and not all(isinstance(one, str) for one in value):
            yield name, f"{name} must be a list of strings"
        elif name == "environment" and not all(isinstance(one, str) for one in value.values()):
            yield name, "environment must be a map of strings"
        elif name == "logging" and value not in LOGGING:
            yield name, f"logging '{value}' is not one of {', '.join(LOGGING)}"


def _known(token: str) -> None:
    if token != COMMAND:
        raise Failure(f"{token}: the sandbox's command plugin runs {COMMAND} only: install the official plugin for it")


def _quoted(text: str) -> str:
    """As Go's %q shows a string."""
    escapes = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
    return '"' + "".join(escapes.get(letter, letter) for letter in text) + '"'


def matching(folder: Path, rules: Iterable[str]) -> dict[str, Path]:
    """Files below a folder by the rules, in their order; `!` takes out again."""
    compiled = [(glob(rule.removeprefix("!")), rule.startswith("!")) for rule in rules]
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        name = path.relative_to(folder).as_posix()
        for pattern, out in compiled:
            if pattern.fullmatch(name):
                if out:
                    found.pop(name, None)
                else:
                    found[name] = path
    return found


def glob(pattern: str) -> re.Pattern[str]:
    """gobwas/glob with `/` as separator: `*`, `**`, `?`, `[a-z]`, `[!a]` and `{a,b}`."""
    made, depth, index = "", 0, 0
    while index < len(pattern):
        letter = pattern[index]
        if pattern.startswith("**", index):
            made, index = made + ".*", index + 1
        elif letter == "*":
            made += "[^/]*"
        elif letter == "?":
            made += "[^/]"
        elif letter == "[" and (end := pattern.find("]", index + 2)) > 0:
            inner = pattern[index + 1 : end]
            inner = "^" + inner[1:] if inner[0] == "!" else inner
            made, index = f"{made}[{inner}]", end
        elif letter == "{":
            made, depth = made + "(?:", depth + 1
        elif letter == "}" and depth:
            made, depth = made + ")", depth - 1
        elif letter == "," and depth:
            made += "|"
        elif letter == "\\" and index + 1 < len(pattern):
            index += 1
            made += re.escape(pattern[index])
        else:
            made += re.escape(letter)
        index += 1
    return re.compile(made, re.DOTALL)


def _asset(path: Path) -> dict[str, Json]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {rpc.SIGNATURE: _ASSET, "hash": digest, "path": str(path)}


def _archive(assets: Mapping[str, Json]) -> dict[str, Json]:
    digest = hashlib.sha256()
    for name in sorted(assets):
        digest.update(f"{name}\0{assets[name]['hash']}\0".encode())
    return {rpc.SIGNATURE: _ARCHIVE, "hash": digest.hexdigest(), "assets": dict(assets)}


def main() -> None:
    """Serves the plugin."""
    rpc.serve(Command)


if __name__ == "__main__":
    main()
