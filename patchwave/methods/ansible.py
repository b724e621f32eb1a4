"""Runs a playbook on named hosts and reads what each host reported; the exit code and the recap are not evidence."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from patchwave.azure.inventory import FILE, HOSTS, Host
from patchwave.base.errors import Failed
from patchwave.base.model import Model
from patchwave.config.settings.fleets import CARRIED_OUT

PR_SET_PDEATHSIG = 1
POLL = 0.1


class HostResult(Model):
    """What one planned host reported; a host that reported nothing is neither reached nor ok."""

    host: str
    reached: bool
    problem: str | None
    steps: dict[str, dict[str, Any]]

    def ok(self, *steps: str) -> bool:
        """Whether the host was reached, nothing failed, and each of these steps reported."""
        return self.reached and self.problem is None and all(step in self.steps for step in steps)


Line = dict[str, Any]


def run(
    project: Path,
    playbook: str,
    hosts: Sequence[Host],
    *,
    variables: dict[str, Any],
    heard: Callable[[Line], None] = lambda line: None,
) -> dict[str, HostResult]:
    """One result for each named host, in any case; `heard` gets each line as it is reported.

    Failed for hosts that no playbook may touch: whoever calls has to leave those out.
    """
    _playable(hosts)
    home = project / "playbooks"
    with tempfile.TemporaryDirectory(prefix="patchwave-") as scratch:
        results, inventory, extra = (Path(scratch, name) for name in ("results.jsonl", "hosts.json", "vars.json"))
        results.touch()
        inventory.write_bytes(HOSTS.dump_json(tuple(hosts)))
        extra.write_text(json.dumps(variables), encoding="utf-8")
        environ = {
            **os.environ,
            "ANSIBLE_CONFIG": str(home / "ansible.cfg"),
            "PATCHWAVE_RESULTS": str(results),
            FILE: str(inventory),
        }
        argv = [sys.executable, "-m", "ansible", "playbook", str(home / f"{playbook}.yml")]
        argv += ["-i", str(home / "inventory" / "patchwave.yml"), "-e", f"@{extra}"]
        child = subprocess.Popen(
            argv, cwd=home, env=environ, stdin=subprocess.DEVNULL, stdout=sys.stderr, preexec_fn=_die_with_parent
        )
        lines: list[Line] = []
        try:
            with results.open(encoding="utf-8") as report:
                while True:
                    over = child.poll() is not None
                    for line in _complete_lines(report):
                        lines.append(line)
                        heard(line)
                    if over:
                        break
                    time.sleep(POLL)
        except BaseException:
            child.terminate()
            child.wait()
            raise
    if not lines:
        raise Failed(f"playbooks/{playbook}.yml reported nothing (exit {child.returncode}): read its output above")
    return {host.name: _of(host.name, lines) for host in hosts}


def _playable(hosts: Sequence[Host]) -> None:
    for host in hosts:
        if host.os.lower().startswith("windows"):
            raise Failed(f"{host.name} runs {host.os}: playbooks are for Linux, this host is left alone")
        if host.method not in CARRIED_OUT:
            raise Failed(f"{host.name}: no playbook carries out the method {host.method}, this host is left alone")


def _complete_lines(report: TextIO) -> Iterator[Line]:
    while True:
        start = report.tell()
        text = report.readline()
        if not text.endswith("\n"):
            report.seek(start)
            return
        yield json.loads(text)


def _of(host: str, lines: Sequence[Line]) -> HostResult:
    mine = [line for line in lines if line["host"] == host]
    bad = [line for line in mine if line["status"] in ("failed", "unreachable")]
    return HostResult(
        host=host,
        reached=bool(mine) and all(line["status"] != "unreachable" for line in mine),
        problem=_problem(bad[0]) if bad else None if mine else "reported nothing",
        steps={line["step"]: line["result"] for line in mine if line["status"] == "ok"},
    )


def _problem(line: Line) -> str:
    message = line["result"].get("msg") or line["result"].get("stderr") or line["status"]
    return f"{line['step']}: {' '.join(str(message).split())}"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
