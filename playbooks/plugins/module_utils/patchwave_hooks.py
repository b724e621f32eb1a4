"""Programs of a service that run on a host around a change."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.patchwave_host import Journal, StepError, count, elapsed, run, seconds


def run_hooks(journal: Journal, service: Mapping[str, Any], moment: str) -> list[dict[str, Any]]:
    """Runs the hooks of a moment (`before`, `after`, `undo`) in their order and returns what ran, with seconds.

    Once a run: what the journal has as done is not run again; hooks that were interrupted are. One that fails or
    does not end in time is a StepError.
    """
    hooks: Sequence[Mapping[str, Any]] = service["hooks"][moment]
    record = journal.read(f"hooks-{moment}")
    if not hooks:
        return []
    if record and record["state"] == "done":
        return list(record["result"])
    journal.open().write(f"hooks-{moment}", "begun")
    ran: list[dict[str, Any]] = []
    for hook in hooks:
        program, started = hook["command"][0], time.monotonic()
        try:
            run(hook["command"], timeout=seconds(hook["timeout"])).checked(f"hook {moment}: {program}")
        except (OSError, StepError) as error:
            text = str(error) if isinstance(error, StepError) else f"{program}: {error}"
            line = text if text.startswith("hook ") else f"hook {moment}: {text}"
            raise StepError(line, hooks=[*ran, _row(program, started, ok=False)]) from None
        ran.append(_row(program, started, ok=True))
    journal.write(f"hooks-{moment}", "done", result=ran)
    return ran


def _row(program: str, started: float, *, ok: bool) -> dict[str, Any]:
    return {"program": program, "seconds": elapsed(started), "ok": ok}


def ran_text(ran: Sequence[Mapping[str, Any]]) -> str:
    """`, 2 hooks`, or nothing."""
    return f", {count(len(ran), 'hook')}" if ran else ""
