#!/usr/bin/python
"""Takes a host's service out of the load balancer's choice and waits until nobody is being served."""

from __future__ import annotations

import time
from typing import Any

from ansible.module_utils import patchwave_methods
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.patchwave_host import Journal, StepError, count, host_lock, serve
from ansible.module_utils.patchwave_service import Flag, ask

DOCUMENTATION = """
module: patchwave_drain
short_description: Takes a host's service out of the load balancer's choice
description:
  - Raises the drain flag and, on a live host, waits until the balancer's probe has been refused and no request
    is in flight. A host to which the release brings nothing, or that the run has already put back into service,
    stays in service. A drain that fails before a patch puts the host back, for nothing has changed yet; before
    a restore it goes on, for that is needed more.
options:
  method: {description: How the host is patched., type: str, choices: [apt, dnf], required: true}
  run_id: {description: The run., type: str, required: true}
  release: {description: The sealed release., type: dict, required: true}
  purpose: {description: What the host is drained for., type: str, choices: [patch, restore], default: patch}
  live: {description: Whether users' requests reach this host., type: bool, required: true}
  flag: {description: The file whose presence drains the service., type: path, required: true}
  statistics_url:
    description: Where the service counts refused probes and requests in flight.
    type: str
    required: true
  refused_probes: {description: How many refused probes prove that the balancer has seen it., type: int, default: 1}
  deadline: {description: Seconds for all of it., type: int, default: 60}
author: Patchwave
"""
EXAMPLES = """
- patchwave_drain:
    method: apt
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


SILENT = 10


def work(params: dict[str, Any]) -> dict[str, Any]:
    journal, flag = Journal(params["run_id"]), Flag(params["flag"])
    with host_lock(f"drain of {journal.run}"):
        begun = journal.read("transaction")
        if reason := unneeded(params, journal, begun):
            return {"needed": False, "probes_refused": 0, "summary": reason}
        owner = flag.owner()
        if owner == "someone else":
            raise StepError(f"{flag.path} was put there by someone else: the host is theirs until they remove it")
        if owner == journal.run and begun:
            return {"needed": True, "probes_refused": 0, "summary": "out of service since before"}
        flag.raise_(journal.run)
        refused, problem = wait(params) if params["live"] else (0, "")
        if problem and not begun:
            flag.lower()
            raise StepError(
                f"not drained in {params['deadline']} s ({problem}): put back into service, nothing was changed"
            )
        seen = f", {count(refused, 'probe')} refused, nothing in flight" if params["live"] else ""
        summary = f"out of service{f', but {problem}' if problem else seen}"
        return {"needed": True, "changed": True, "probes_refused": refused, "problem": problem, "summary": summary}


def unneeded(params: dict[str, Any], journal: Journal, begun: dict[str, Any] | None) -> str:
    """Why the host may stay in service, or an empty string."""
    if params["purpose"] == "restore":
        return "" if begun and begun["state"] != "undone" else "nothing to take back, stays as it is"
    finished = journal.read("undrain")
    if begun and begun["state"] == "done" and finished and finished["at"] >= begun["at"]:
        return "this run has put it back into service already"
    plan = patchwave_methods.of(params["method"]).plan_for(params["release"])[0]
    return "" if begun or plan.upgrades else "nothing to bring, stays in service"


def wait(params: dict[str, Any]) -> tuple[int, str]:
    """The refused probes, and why the balancer or the last request is still being waited for, if so."""
    until = time.monotonic() + params["deadline"]
    refused, silent = 0, 0
    while True:
        answer = ask(params["statistics_url"])
        seen, in_flight = answer.body.get("probes_refused"), answer.body.get("in_flight")
        if isinstance(seen, int) and isinstance(in_flight, int):
            refused, silent = seen, 0
            if refused >= params["refused_probes"] and in_flight == 0:
                return refused, ""
            problem = f"{refused} of {params['refused_probes']} probes refused, {in_flight} requests in flight"
        else:
            silent += 1
            problem = f"no statistics: {answer.said}"
        # A service that is down refuses every probe by itself; a restore need not wait for it to say so.
        if time.monotonic() >= until or (silent >= SILENT and params["purpose"] == "restore"):
            return refused, problem
        time.sleep(0.2)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "method": {"type": "str", "choices": ["apt", "dnf"], "required": True},
            "run_id": {"type": "str", "required": True},
            "release": {"type": "dict", "required": True},
            "purpose": {"type": "str", "choices": ["patch", "restore"], "default": "patch"},
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
