#!/usr/bin/python
"""Takes a host out of service and waits until no client is served there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils import patchwave_methods
from ansible.module_utils import patchwave_traffic as traffic
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.patchwave_hooks import ran_text, run_hooks
from ansible.module_utils.patchwave_host import Journal, StepError, host_lock, serve
from ansible.module_utils.patchwave_options import METHOD, RELEASE, RUN, SERVICE

DOCUMENTATION = """
module: patchwave_drain
short_description: Takes a host out of service and waits until no client is served there
description:
  - Takes the host out of its balancer's choice by the service's driver, waits on a host that users reach, and runs
    the service's hooks of before a change. A host to which the release brings nothing, or that the run has already
    put back into service, stays in service. A drain that fails before a patch puts the host back, for nothing has
    changed yet; before a restore it goes on, for that is needed more.
options:
  method: {description: How the host is patched., type: str, choices: [apt, dnf], required: true}
  run_id: {description: The run., type: str, required: true}
  release: {description: The sealed release., type: dict, required: true}
  service: {description: The service of the host as the settings describe it., type: dict, required: true}
  purpose: {description: What the host is drained for., type: str, choices: [patch, restore], required: true}
  live: {description: Whether users' requests reach this host., type: bool, required: true}
  stage:
    description:
      - V(all) is everything. With the driver V(balancer) the runner changes the pools between V(begin), which says
        whether a drain is needed and notes whose it is, and V(finish); V(cancel) takes the note away.
    type: str
    choices: [all, begin, finish, cancel]
    default: all
author: Patchwave
"""
EXAMPLES = """
- patchwave_drain:
    method: "{{ pw_method }}"
    run_id: "{{ pw_run }}"
    release: "{{ pw_release }}"
    service: "{{ pw_services[pw_service] }}"
    purpose: patch
    live: "{{ pw_live }}"
"""
RETURN = """
needed: {description: Whether the host had to leave service., type: bool, returned: success}
owner: {description: The run that had drained the host before., type: str, returned: with stage begin}
settled: {description: Whether the run had done all of it before., type: bool, returned: with stage begin}
problem: {description: What is not as it should be before a restore., type: str, returned: success}
hooks: {description: "Each hook that ran as program, seconds and ok.", type: list, returned: always}
returned: {description: Whether a failed drain was taken back., type: bool, returned: failure}
"""


def work(params: Mapping[str, Any]) -> dict[str, Any]:
    journal, service = Journal(params["run_id"]), params["service"]
    marker = traffic.Marker.of(service["traffic"])
    with host_lock(f"drain of {journal.run}"):
        begun = journal.read("transaction")
        if params["stage"] == "cancel":
            marker.remove()
            return {"needed": False, "summary": "stays in service"}
        if params["stage"] != "finish":
            if reason := unneeded(params, journal, begun):
                return {"needed": False, "summary": reason}
            owner = marker.owner()
            if owner == traffic.SOMEONE_ELSE:
                raise StepError(f"{marker.path} was put there by someone else: the host is theirs until they remove it")
            if owner == journal.run and begun:
                return {"needed": True, "owner": owner, "settled": True, "summary": "out of service since before"}
            if params["stage"] == "begin":
                marker.put(journal.run)
                return {"needed": True, "owner": owner, "settled": False, "changed": True, "summary": "leaves service"}
        return leave(params, journal, begun)


def unneeded(params: Mapping[str, Any], journal: Journal, begun: Mapping[str, Any] | None) -> str:
    """Why the host may stay in service, or an empty string."""
    if params["purpose"] == "restore":
        return "" if begun and begun["state"] != "undone" else "nothing to take back, stays as it is"
    finished = journal.read("undrain")
    if begun and begun["state"] == "done" and finished and finished["at"] >= begun["at"]:
        return "this run has put it back into service already"
    if begun or patchwave_methods.of(params["method"]).plan_for(params["release"])[0].upgrades:
        return ""
    return "nothing to bring, stays in service"


def leave(params: Mapping[str, Any], journal: Journal, begun: Mapping[str, Any] | None) -> dict[str, Any]:
    """The drain itself and the hooks behind it; back into service when it fails and nothing has changed yet."""
    service, restores = params["service"], params["purpose"] == "restore"
    hooks: list[dict[str, Any]] = []
    try:
        outcome = traffic.drain(service["traffic"], journal.run, live=params["live"], silent_ok=restores)
        if outcome.problem and not begun:
            raise StepError(f"not drained: {outcome.problem}")
        hooks = [] if restores else run_hooks(journal, service, "before")
    except (StepError, OSError) as error:
        if begun and restores:
            return {"needed": True, "changed": True, "problem": str(error), "hooks": [], "summary": f"goes on: {error}"}
        if begun:
            raise
        undo(params, journal, str(error))
        detail = error.detail if isinstance(error, StepError) else {}
        raise StepError(f"{error}: put back into service, nothing was changed", returned=True, **detail) from None
    summary = outcome.detail + ran_text(hooks)
    return {"needed": True, "changed": True, "problem": outcome.problem, "hooks": hooks, "summary": summary}


def undo(params: Mapping[str, Any], journal: Journal, problem: str) -> None:
    """Back into service, after the hooks that take back what those of before the change have done."""
    service = params["service"]
    try:
        if journal.read("hooks-before"):
            run_hooks(journal, service, "undo")
        traffic.put_back(service["traffic"], live=params["live"], was_drained=True)
    except (StepError, OSError) as error:
        raise StepError(f"{problem}; and it is still out of service: {error}") from None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "method": METHOD,
            "run_id": RUN,
            "release": RELEASE,
            "service": SERVICE,
            "purpose": {"type": "str", "choices": ["patch", "restore"], "required": True},
            "live": {"type": "bool", "required": True},
            "stage": {"type": "str", "choices": ["all", "begin", "finish", "cancel"], "default": "all"},
        },
    )
    serve(module, "drain", work)


if __name__ == "__main__":
    main()
