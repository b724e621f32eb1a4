"""Runs a playbook on named hosts and reads what each host reported; the exit code and the recap are not evidence."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from patchwave.errors import Failed
from patchwave.inventory import FILE, HOSTS, Host
from patchwave.model import Model

PR_SET_PDEATHSIG = 1


class HostResult(Model):
    """What one planned host reported; a host that reported nothing is neither reached nor ok."""

    host: str
    reached: bool
    problem: str | None
    steps: dict[str, dict[str, Any]]

    def ok(self, *steps: str) -> bool:
        """Whether the host was reached, nothing failed, and each of these steps reported."""
        return self.reached and self.problem is None and all(step in self.steps for step in steps)


def run(
    project: Path, playbook: str, hosts: Sequence[Host], *, variables: dict[str, Any]
) -> dict[str, HostResult]:
    """One result for each host that was asked for, in any case."""
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
        child = subprocess.Popen(argv, cwd=home, env=environ, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent)
        try:
            child.wait()
        except BaseException:
            child.terminate()
            child.wait()
            raise
        lines = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    if not lines:
        raise Failed(f"playbooks/{playbook}.yml reported nothing (exit {child.returncode}): read its output above")
    return {host.name: _of(host.name, lines) for host in hosts}


def _of(host: str, lines: Sequence[dict[str, Any]]) -> HostResult:
    mine = [line for line in lines if line["host"] == host]
    bad = [line for line in mine if line["status"] in ("failed", "unreachable")]
    return HostResult(
        host=host,
        reached=bool(mine) and all(line["status"] != "unreachable" for line in mine),
        problem=_problem(bad[0]) if bad else None if mine else "reported nothing",
        steps={line["step"]: line["result"] for line in mine if line["status"] == "ok"},
    )


def _problem(line: dict[str, Any]) -> str:
    message = line["result"].get("msg") or line["result"].get("stderr") or line["status"]
    return f"{line['step']}: {' '.join(str(message).split())}"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
