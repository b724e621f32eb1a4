#!/usr/bin/python
"""Puts a host back into service, once it is healthy without excuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils import patchwave_traffic as traffic
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.patchwave_health import sample
from ansible.module_utils.patchwave_host import Journal, StepError, host_lock, serve
from ansible.module_utils.patchwave_options import RUN, SERVICE

DOCUMENTATION = """
module: patchwave_undrain
short_description: Puts a host back into service
description:
  - Puts the host back by the service's driver, checks its health once more and, on a host that users reach, waits
    until the balancer can have seen it. A host that is not healthy in service is drained again and the step fails.
options:
  run_id: {description: The run., type: str, required: true}
  service: {description: The service of the host as the settings describe it., type: dict, required: true}
  live: {description: Whether users' requests reach this host., type: bool, required: true}
  disks_swapped:
    description: The host's disks were put back, so that its own notes are older than the drain.
    type: bool
    default: false
  stage:
    description: With the driver V(balancer) the runner changes the pools between V(begin) and V(finish).
    type: str
    choices: [all, begin, finish]
    default: all
author: Patchwave
"""
EXAMPLES = """
- patchwave_undrain:
    run_id: "{{ pw_run }}"
    service: "{{ pw_services[pw_service] }}"
    live: "{{ pw_live }}"
"""
RETURN = """
owner: {description: The run that had drained the host., type: str, returned: with stage begin}
drained_again: {description: Whether the host is out of service after all., type: bool, returned: failure}
"""


def work(params: Mapping[str, Any]) -> dict[str, Any]:
    journal, service = Journal(params["run_id"]), params["service"]
    marker = traffic.Marker.of(service["traffic"])
    with host_lock(f"undrain of {journal.run}"):
        owner = marker.owner()
        if owner == traffic.SOMEONE_ELSE:
            raise StepError(f"{marker.path} was put there by someone else: they put the host back, not this run")
        drained = owner is not None or params["disks_swapped"]
        if params["stage"] == "begin":
            return {"owner": owner, "drained": drained, "summary": "out of service" if drained else "in service"}
        wait = traffic.put_back(service["traffic"], live=params["live"], was_drained=drained)
        if drained:
            result = sample(service["health"], service["units"], drained=False)
            if result.problem:
                traffic.drain(service["traffic"], journal.run, live=False)
                raise StepError(
                    f"not healthy in service ({result.problem}): drained again, take the host back", drained_again=True
                )
        outcome = wait()
        journal.open().write("undrain", "done")
        return {"changed": drained, "summary": outcome.detail}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "run_id": RUN,
            "service": SERVICE,
            "live": {"type": "bool", "required": True},
            "disks_swapped": {"type": "bool", "default": False},
            "stage": {"type": "str", "choices": ["all", "begin", "finish"], "default": "all"},
        },
    )
    serve(module, "undrain", work)


if __name__ == "__main__":
    main()
