#!/usr/bin/python
"""Reads what a host has installed and what is pending for it."""

from __future__ import annotations

from typing import Any

from ansible.module_utils import patchwave_methods
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.patchwave_facts import scan
from ansible.module_utils.patchwave_host import count, host_lock, serve
from ansible.module_utils.patchwave_options import METHOD

DOCUMENTATION = """
module: patchwave_scan
short_description: Reads what a host has installed and what is pending for it
description:
  - Reads the package database and the signed package lists. Nothing but the lists is changed, and those only
    with O(refresh).
options:
  method: {description: How the host is patched., type: str, choices: [apt, dnf], required: true}
  refresh: {description: Bring the package lists up to date first., type: bool, default: true}
  refresh_timeout: {description: Seconds for that., type: int, default: 180}
author: Patchwave
"""
EXAMPLES = """
- patchwave_scan:
    method: "{{ pw_method }}"
    refresh: true
"""
RETURN = """
packages: {description: Version by package., type: dict, returned: success}
pending: {description: Installed packages with a newer candidate., type: list, returned: success}
"""


def work(params: dict[str, Any]) -> dict[str, Any]:
    packages = patchwave_methods.of(params["method"])
    if params["refresh"]:
        with host_lock("scan", timeout=params["refresh_timeout"]):
            packages.refresh(params["refresh_timeout"])
    found = scan(packages)
    reboot = ", a reboot is due" if found["reboot_required"]["needed"] else ""
    return {**found, "summary": f"{count(len(found['packages']), 'package')}, {len(found['pending'])} pending{reboot}"}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "method": METHOD,
            "refresh": {"type": "bool", "default": True},
            "refresh_timeout": {"type": "int", "default": 180},
        },
        supports_check_mode=True,
    )
    serve(module, "scan", work)


if __name__ == "__main__":
    main()
