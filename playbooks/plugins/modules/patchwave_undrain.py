#!/usr/bin/python
"""Puts a host's service back into the load balancer's choice, once it is healthy without excuse."""

from __future__ import annotations

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.patchwave_host import Journal, StepError, host_lock, serve
from ansible.module_utils.patchwave_service import Flag, ask, sample, units

DOCUMENTATION = """
module: patchwave_undrain
short_description: Puts a host's service back into the load balancer's choice
description:
  - Lowers the drain flag, waits for good answers and, on a live host, until the balancer has seen it. A service
    that is not healthy without the flag is drained again and the step fails.
options:
  run_id: {description: The run., type: str, required: true}
  settings: {description: The stack's settings for hosts., type: dict, required: true}
  live: {description: Whether users' requests reach this host., type: bool, required: true}
  flag: {description: The file whose presence drains the service., type: path, required: true}
  statistics_url: {description: Where the service counts probes and requests., type: str, required: true}
  balancer_patience:
    description: Seconds in which a balancer that cannot be observed has certainly probed.
    type: int
    default: 11
author: Patchwave
"""
EXAMPLES = """
- patchwave_undrain:
    run_id: "{{ pw_run }}"
    settings: "{{ pw_settings }}"
    live: true
    flag: /var/lib/fieldops/draining
    statistics_url: http://127.0.0.1/statz
"""
RETURN = """
seen_by_balancer:
  description: Whether the balancer was observed to use the host again.
  type: bool
  returned: success
"""


def work(params: dict[str, Any]) -> dict[str, Any]:
    journal, flag = Journal(params["run_id"]), Flag(params["flag"])
    health = params["settings"].get("health") or {}
    with host_lock(f"undrain of {journal.run}"):
        journal.open()
        owner = flag.owner()
        if owner == "someone else":
            raise StepError(f"{flag.path} was put there by someone else: they put the host back, not this run")
        flag.lower()
        if health.get("url") and units(params["settings"].get("services") or []):
            result = sample(
                health["url"],
                samples=int(health.get("samples", 3)),
                interval=float(health.get("interval_seconds", 1)),
                deadline=float(health.get("deadline_seconds", 60)),
                drained=False,
            )
            if result.problem:
                flag.raise_(journal.run)
                raise StepError(f"not healthy in service ({result.problem}): drained again, take the host back")
        seen = observed(params) if params["live"] and owner else False
        journal.write("undrain", "done")
        said = "in service" + (", the balancer uses it" if seen else "")
        return {"changed": owner is not None, "seen_by_balancer": seen, "summary": said}


def observed(params: dict[str, Any]) -> bool:
    """Whether a probe passed or a request came in, before an unobservable balancer must have probed."""
    until = time.monotonic() + params["balancer_patience"]
    first = ask(params["statistics_url"]).body.get("requests_total")
    while time.monotonic() < until:
        body = ask(params["statistics_url"]).body
        passed, requests = body.get("probes_passed"), body.get("requests_total")
        if isinstance(passed, int) and passed > 0:
            return True
        if isinstance(requests, int) and isinstance(first, int) and requests > first:
            return True
        time.sleep(0.2)
    return False


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "run_id": {"type": "str", "required": True},
            "settings": {"type": "dict", "required": True},
            "live": {"type": "bool", "required": True},
            "flag": {"type": "path", "required": True},
            "statistics_url": {"type": "str", "required": True},
            "balancer_patience": {"type": "int", "default": 11},
        },
    )
    serve(module, "undrain", work)


if __name__ == "__main__":
    main()
