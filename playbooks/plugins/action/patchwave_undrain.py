"""Puts a host back into service; with the driver `balancer` the runner changes the pools in the middle of it."""

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
        host = task_vars or {}
        traffic = self._task.args["service"]["traffic"]
        if traffic["driver"] != "balancer":
            return self._step("all", host)
        begun = self._step("begin", host)
        if begun.get("failed"):
            return begun
        locks, pools = Path(constants.DEFAULT_LOCAL_TMP), []
        try:
            if begun["drained"]:
                with Arm() as arm:
                    pools = balancer.put_back(arm, host, traffic["pools"], locks)
            done = self._step("finish", host)
            if done.get("drained_again"):
                with Arm() as arm:
                    balancer.take_out(arm, host, traffic["pools"], locks, ours=True)
        except PatchwaveError as error:
            return {"failed": True, "msg": f"not put back: {error}"}
        return {**done, "pools": pools}

    def _step(self, stage: str, host: dict[str, Any]) -> dict[str, Any]:
        return dict(self._execute_module(module_args={**self._task.args, "stage": stage}, task_vars=host))
