"""`python -m sandbox`: the sandbox's command line, which the Makefile calls."""

import argparse
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import get_args

from patchwave.base.errors import Failed, PatchwaveError, UsageError
from patchwave.config.standard import ApprovalKind, load_standard
from sandbox import console, daemon, doctor
from sandbox.config import DEFAULT_NAME, Sandbox
from sandbox.down import down
from sandbox.lab import processes, repository
from sandbox.lab.engine import find
from sandbox.lab.hosts import Hosts
from sandbox.sample.package import Fault
from sandbox.stack import existing
from sandbox.up import approve, fleet, preview, up


def main(arguments: list[str]) -> int:
    """Runs one command; an error is one line, an interrupt too."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        doctor.become_root(arguments, sys.executable)
        sandbox = Sandbox.open(options.project, options.name)
        if "stack" in options:
            options.stack = _stack(sandbox, options.stack)
        try:
            _run(sandbox, options)
        finally:
            doctor.hand_back(sandbox)
        return 0
    except PatchwaveError as error:
        print(f"\npatchwave: {error}" if sys.stdout.isatty() else f"patchwave: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("\npatchwave: interrupted: run the same command again, or `make down`", file=sys.stderr)
        return 130


def _run(sandbox: Sandbox, options: argparse.Namespace) -> None:
    if options.command == "up":
        with _alone(sandbox):
            up(sandbox, options.stack, at=options.at, fault=options.fault)
    elif options.command == "fleet":
        with _alone(sandbox):
            fleet(sandbox, options.stack)
    elif options.command == "preview":
        with _alone(sandbox):
            preview(sandbox, options.stack)
    elif options.command == "down":
        with _alone(sandbox):
            down(sandbox, engine=find())
    elif options.command == "approve":
        _made(sandbox, sandbox.env)
        approve(sandbox, options.stack, role=options.role, kind=options.kind, at=options.at)
    elif options.command == "fault":
        published = repository.publish_next(sandbox, fault=options.kind, version=options.version)
        console.line("fault", f"{published.name} is published with fault {options.kind}")
    elif options.command == "tools":
        doctor.test_tools()
    elif options.command == "doctor":
        _doctor(sandbox)
    elif options.command == "status":
        _status(sandbox)
    elif options.command == "env":
        print(_made(sandbox, sandbox.env).read_text(), end="")
    elif options.command == "ssh":
        config = str(_made(sandbox, sandbox.ssh_config))
        os.execvp("ssh", ["ssh", "-F", config, options.host, *options.words])  # noqa: S606


def _doctor(sandbox: Sandbox) -> None:
    found = doctor.findings(sandbox)
    for name, problem in found:
        console.line(name, problem or "ok")
    if missing := [name for name, problem in found if problem]:
        raise Failed(f"{len(missing)} of {len(found)} are missing, first {missing[0]}: see its line above")


def _status(sandbox: Sandbox) -> None:
    hosts = Hosts(sandbox)
    console.line("sandbox", f"{sandbox.name} in {sandbox.folder}, {sandbox.subnet} on {sandbox.bridge}")
    console.line("azure", f"{sandbox.endpoint} {'answers' if daemon.ready(sandbox) else 'does not answer'}")
    console.line("stacks", " ".join(existing(sandbox)) or "none")
    for name in hosts.names():
        console.line("host", f"{name} {'runs' if hosts.running(name) else 'is off'}")
    for name in processes.recorded(sandbox):
        if not name.startswith("host-"):
            console.line("process", f"{name} {'runs' if processes.alive(sandbox, name) else 'is gone'}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default=DEFAULT_NAME, help="the sandbox's name")
    common.add_argument("--project", type=Path, default=Path.cwd(), help="the project's folder")
    faults = list(get_args(Fault))
    for name, text in (
        ("up", "a real `pulumi up` on the sandbox"),
        ("fleet", "the same without a wave: hosts boot and nothing is patched"),
        ("preview", "a real `pulumi preview`"),
    ):
        command = commands.add_parser(name, parents=[common], help=text)
        command.add_argument("--stack", help="one of the standard's stacks, its first by default")
        if name == "up":
            command.add_argument("--at", type=_instant, help="rehearse at this instant; else when the window opens")
            command.add_argument("--fault", choices=faults, help="first publish a release that breaks the service")
    approving = commands.add_parser("approve", parents=[common], help="sign as the rehearsal's people what is missing")
    approving.add_argument("--stack", required=True, help="the stack that the release is approved for")
    approving.add_argument("--role", help="only this one")
    approving.add_argument("--kind", choices=get_args(ApprovalKind), default="normal")
    approving.add_argument("--at", type=_instant, help="when it will be rehearsed; else when the window opens")
    commands.add_parser("down", parents=[common], help="end and remove everything")
    commands.add_parser("doctor", parents=[common], help="what this machine lacks for the sandbox; nothing is changed")
    commands.add_parser("tools", parents=[common], help="install the tools that are missing")
    commands.add_parser("status", parents=[common], help="what runs")
    commands.add_parser("env", parents=[common], help="print the environment, for a shell")
    fault = commands.add_parser("fault", parents=[common], help="publish a new version of the lab's own package")
    fault.add_argument("kind", choices=faults)
    fault.add_argument("--version", help="the version; else the next one")
    ssh = commands.add_parser("ssh", parents=[common], help="log in on a host")
    ssh.add_argument("host")
    ssh.add_argument("words", nargs=argparse.REMAINDER)
    return parser


def _stack(sandbox: Sandbox, name: str | None) -> str:
    stacks = list(load_standard(sandbox.project).stacks)
    if name and name not in stacks:
        raise UsageError(f"stack {name!r}: policy/standard.yaml names {', '.join(stacks)}")
    return name or stacks[0]


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text} has no zone: end it with Z or an offset")
    return instant.astimezone(UTC)


def _made(sandbox: Sandbox, path: Path) -> Path:
    if not path.exists():
        raise UsageError(f"sandbox {sandbox.name} is not up: run `make up` first")
    return path


@contextmanager
def _alone(sandbox: Sandbox) -> Iterator[None]:
    """One `up`, `preview` or `down` of a sandbox at a time; the lock ends with its holder, however that ends."""
    with (sandbox.folder / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise Failed(f"sandbox {sandbox.name} is in use by {holder}: wait for it, or end it") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}")
        lock.flush()
        yield


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
