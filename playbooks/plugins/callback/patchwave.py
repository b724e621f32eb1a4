"""One line for each host and step, as it happens; a failure carries its reason on the same line."""

from __future__ import annotations

from typing import Any

from ansible import constants
from ansible.plugins.callback import CallbackBase
from patchwave.base.text import printable

DOCUMENTATION = """
name: patchwave
type: stdout
short_description: One line for each host and step
description:
  - Shows Patchwave's own steps with their summary, and every failed or unreachable host with its reason.
author: Patchwave
"""

OWN = "patchwave_"


def one_line(text: Any, width: int = 400) -> str:
    """Any text on one line of bounded length."""
    flat = " ".join(printable(str(text)).split()).removeprefix("Task failed: ")
    return flat if len(flat) <= width else flat[: width - 1] + "…"


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Ansible's entry to the terminal."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "patchwave"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._width = 0

    def v2_playbook_on_play_start(self, play: Any) -> None:
        manager = play.get_variable_manager()
        self._width = max((len(host) for host in manager._inventory.hosts), default=0)

    def _line(self, result: Any, text: str, color: str | None = None) -> None:
        task = result.task
        short = (task.resolved_action or task.action).rpartition(".")[2]
        step = task.vars.get("patchwave_step") or short.removeprefix(OWN)
        self._display.display(f"  {result.host.get_name():<{self._width}}  {step:<11}  {one_line(text)}", color=color)

    def v2_runner_on_ok(self, result: Any) -> None:
        task, outcome = result.task, result.result
        short = (task.resolved_action or task.action).rpartition(".")[2]
        if short.startswith(OWN) or "patchwave_step" in task.vars:
            text = outcome.get("summary") or (f"{outcome['elapsed']} s" if "elapsed" in outcome else "done")
            self._line(result, text, constants.COLOR_CHANGED if outcome.get("changed") else None)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        outcome = result.result
        self._line(
            result, f"FAILED  {outcome.get('msg') or outcome.get('stderr') or 'no reason given'}", constants.COLOR_ERROR
        )

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._line(result, f"UNREACHABLE  {result.result.get('msg') or 'no answer'}", constants.COLOR_UNREACHABLE)

    def v2_playbook_on_no_hosts_matched(self) -> None:
        self._display.display("  no host matched: nothing was done", color=constants.COLOR_ERROR)

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        self._display.display("  no host is left in this play", color=constants.COLOR_ERROR)
