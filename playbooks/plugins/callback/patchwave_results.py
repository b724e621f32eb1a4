"""Writes what each host reported as JSON lines, each on disk at once: the wave is judged by these alone."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase
from patchwave.base.text import printable

DOCUMENTATION = """
name: patchwave_results
type: notification
short_description: Writes what each host reported as JSON lines
description:
  - Appends to the file that E(PATCHWAVE_RESULTS) names. A task is written when it is one of Patchwave's own,
    names its step in C(vars.patchwave_step), or failed; arguments never are.
requirements: [enabled in configuration]
author: Patchwave
"""

OWN = "patchwave_"
LEFT_OUT = frozenset(
    {"invocation", "module_args", "diff", "exception", "deprecations", "warnings", "ansible_facts", "trace"}
)


def step_of(action: str, variables: dict[str, Any]) -> str | None:
    """The step that a task is, or None for a task that is no step."""
    if step := variables.get("patchwave_step"):
        return str(step)
    short = action.rpartition(".")[2]
    return short[len(OWN) :] if short.startswith(OWN) else None


def recorded(result: dict[str, Any]) -> dict[str, Any]:
    """What of a result may be written; everything that Ansible censors stays censored."""
    if result.get("_ansible_no_log") or "censored" in result:
        return {"censored": True}
    kept = {key: value for key, value in result.items() if not key.startswith("_ansible") and key not in LEFT_OUT}
    return dict(printable(kept))


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Ansible's entry to the results file."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "patchwave_results"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        path = os.environ.get("PATCHWAVE_RESULTS")
        if path is None:
            self.disabled = True
            return
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _write(self, result: Any, status: str) -> None:
        task = result.task
        step = step_of(task.resolved_action or task.action, task.vars)
        if step is None and status in ("ok", "skipped"):
            return
        line = {
            "host": result.host.get_name(),
            "task": task.get_name().strip(),
            "step": step or task.action.rpartition(".")[2],
            "status": status,
            "result": recorded(dict(result.result)),
        }
        os.write(self._file, json.dumps(line, default=str, sort_keys=True).encode() + b"\n")
        os.fsync(self._file)

    def v2_runner_on_ok(self, result: Any) -> None:
        self._write(result, "ok")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._write(result, "failed")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._write(result, "unreachable")

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._write(result, "skipped")
