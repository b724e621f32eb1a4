"""Checks a host; with the driver `balancer` also whether the runner finds its addresses in a pool."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from patchwave.azure.client import Arm
from patchwave.base.errors import PatchwaveError
from patchwave.services import balancer


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry to the step."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        host = task_vars or {}
        result = dict(self._execute_module(task_vars=host))
        traffic = self._task.args["service"]["traffic"]
        if result.get("failed") or traffic["driver"] != "balancer" or not host["pw_live"]:
            return result
        try:
            with Arm() as arm:
                problem = balancer.unreachable(arm, host, traffic["pools"])
        except PatchwaveError as error:
            problem = str(error)
        check = {"name": "traffic", "ok": not problem, "detail": problem or "in its pools", "fix": ""}
        summary = f"traffic: {problem}" if problem else result["summary"]
        return {**result, "checks": [*result["checks"], check], "summary": summary}
