"""Drains a host; with the driver `balancer` the runner changes the pools in the middle of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase
from patchwave.azure.client import Arm
from patchwave.base.errors import PatchwaveError
from patchwave.services import balancer


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ansible's entry to the step."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        host, arguments = task_vars or {}, self._task.args
        traffic = arguments["service"]["traffic"]
        if traffic["driver"] != "balancer":
            return self._step("all", host)
        begun = self._step("begin", host)
        if begun.get("failed") or not begun["needed"]:
            return begun
        ours, restores = begun["owner"] is not None, arguments["purpose"] == "restore"
        locks, problem, pools = Path(constants.DEFAULT_LOCAL_TMP), "", []
        try:
            with Arm() as arm:
                pools = balancer.take_out(arm, host, traffic["pools"], locks, ours=ours)
            if arguments["live"] and not pools:
                problem = balancer.NO_POOL
        except PatchwaveError as error:
            problem = str(error)
        if problem and not restores:
            if not ours:
                self._step("cancel", host)
            return {"failed": True, "msg": f"not drained: {problem}"}
        done = begun if begun["settled"] else self._step("finish", host)
        if done.get("returned"):
            with Arm() as arm:
                balancer.put_back(arm, host, traffic["pools"], locks)
        return {**done, "pools": pools, "problem": problem or done.get("problem", "")}

    def _step(self, stage: str, host: dict[str, Any]) -> dict[str, Any]:
        return dict(self._execute_module(module_args={**self._task.args, "stage": stage}, task_vars=host))
