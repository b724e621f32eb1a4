#!/usr/bin/python
"""Takes a host's service out of the load balancer's choice and waits until nobody is being served."""

from __future__ import annotations

import time
from typing import Any

from ansible.module_utils import patchwave_apt as apt
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.patchwave_host import Journal, StepError, count, host_lock, serve
from ansible.module_utils.patchwave_service import Flag, ask

DOCUMENTATION = """
module: patchwave_drain
short_description: Takes a host's service out of the load balancer's choice
description:
  - Raises the drain flag and, on a live host, waits until the balancer's probe has been refused and no request is in flight.
    A host to which the release brings nothing stays in service. A drain that fails puts the host back, for nothing has changed yet.
options:
  run_id: {description: The run., type: str, required: true}
  release: {description: The sealed release., type: dict, required: true}
  live: {description: Whether users' requests reach this host., type: bool, required: true}
  flag: {description: The file whose presence drains the service., type: path, required: true}
  statistics_url: {description: Where the service counts refused probes and requests in flight., type: str, required: true}
  refused_probes: {description: How many refused probes prove that the balancer has seen it., type: int, default: 1}
  deadline: {description: Seconds for all of it., type: int, default: 60}
author: Patchwave
"""
EXAMPLES = """
- patchwave_drain:
    run_id: "{{ pw_run }}"
    release: "{{ pw_release }}"
    live: true
    flag: /var/lib/fieldops/draining
    statistics_url: http://127.0.0.1/statz
"""
RETURN = """
needed: {description: Whether the release brings anything here., type: bool, returned: success}
probes_refused: {description: Probes refused since the flag was raised., type: int, returned: success}
"""


def work(params: dict[str, Any]) -> dict[str, Any]:
    journal, flag = Journal(params["run_id"]), Flag(params["flag"])
    with host_lock(f"drain of {journal.run}", timeout=params["deadline"]):
        begun = journal.read("transaction") is not None
        plan = apt.plan_for(params["release"])[0]
        if not plan.upgrades and not begun:
            return {"needed": False, "probes_refused": 0, "summary": "nothing to bring, stays in service"}
        owner = flag.owner()
        if owner == "someone else":
            raise StepError(f"{flag.path} was put there by someone else: the host is theirs until they remove it")
        if owner != journal.run:
            flag.raise_(journal.run)
        # Once the transaction has begun the service may be down; that it was drained before is in the journal.
        if not params["live"] or begun:
            return {"needed": True, "changed": owner != journal.run, "probes_refused": 0, "summary": "out of service"}
        try:
            refused = wait(params)
        except StepError:
            flag.lower()
            raise
        return {
            "needed": True,
            "changed": owner != journal.run,
            "probes_refused": refused,
            "summary": f"out of service, {count(refused, 'probe')} refused, nothing in flight",
        }


def wait(params: dict[str, Any]) -> int:
    """Returns the refused probes when the balancer has seen the drain and the last request has been answered."""
    until = time.monotonic() + params["deadline"]
    while True:
        answer = ask(params["statistics_url"])
        refused, in_flight = answer.body.get("probes_refused"), answer.body.get("in_flight")
        if isinstance(refused, int) and isinstance(in_flight, int):
            if refused >= params["refused_probes"] and in_flight == 0:
                return refused
            state = f"{refused} of {params['refused_probes']} probes refused, {in_flight} requests in flight"
        else:
            state = f"no statistics: {answer.said}"
        if time.monotonic() >= until:
            raise StepError(f"not drained after {params['deadline']} s ({state}): put back into service, nothing was changed")
        time.sleep(0.2)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "run_id": {"type": "str", "required": True},
            "release": {"type": "dict", "required": True},
            "live": {"type": "bool", "required": True},
            "flag": {"type": "path", "required": True},
            "statistics_url": {"type": "str", "required": True},
            "refused_probes": {"type": "int", "default": 1},
            "deadline": {"type": "int", "default": 60},
        },
    )
    serve(module, "drain", work)


if __name__ == "__main__":
    main()
