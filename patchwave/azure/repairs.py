"""Automatic repairs of scale sets: held off while a wave takes instances out of service, which makes them unhealthy.

https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-automatic-instance-repairs
"""

from collections.abc import Iterable
from typing import Literal

from patchwave.azure.client import COMPUTE, Arm

Act = Literal["Suspend", "Resume"]


def scale_sets(instance_ids: Iterable[str]) -> list[str]:
    """The ids of the scale sets that these instances are of, each once."""
    return sorted({found[: found.lower().rindex("/virtualmachines/")] for found in instance_ids})


def switch(arm: Arm, scale_set_id: str, act: Act) -> None:
    """Repairs of a scale set stop or go on; what is so already stays so."""
    body = {"serviceName": "AutomaticRepairs", "action": act}
    arm.call("POST", f"{scale_set_id}/setOrchestrationServiceState", api=COMPUTE, body=body)
