"""The stack's hosts as an Ansible inventory, from the same query as everything else."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.utils.vars import load_extra_vars
from patchwave.azure.inventory import FILE, HOSTS, Host, discover
from patchwave.base.errors import PatchwaveError
from patchwave.config.settings import load_stack

DOCUMENTATION = """
name: patchwave
short_description: The hosts of a Patchwave stack
description:
  - Reads the hosts that the wave has planned from E(PATCHWAVE_INVENTORY_FILE), or asks Resource Graph for those
    of E(PATCHWAVE_STACK). Connections use the ssh configuration that E(PATCHWAVE_SSH_CONFIG) names.
options:
  plugin: {description: Marks the file as this plugin's., required: true, choices: [patchwave]}
  user:
    description: The user to log in as; any but root becomes root by sudo.
    default: root
    env: [{name: PATCHWAVE_SSH_USER}]
author: Patchwave
"""

VARIABLES = ("id", "name", "fleet", "service", "method", "ring", "source", "slot", "live")
GROUPS = ("fleet", "ring", "source", "slot")


def planned() -> tuple[Host, ...]:
    """The hosts, every field checked; none at all is an error."""
    stack = os.environ.get("PATCHWAVE_STACK")
    if path := os.environ.get(FILE):
        hosts = HOSTS.validate_json(Path(path).read_bytes())
    elif stack:
        hosts = discover(stack, load_stack(Path(__file__).resolve().parents[3], stack).settings).hosts
    else:
        raise AnsibleParserError(f"neither {FILE} nor PATCHWAVE_STACK is set: say whose hosts are meant")
    if not hosts:
        raise AnsibleParserError("the inventory has no host: a wave over nothing is an error")
    return hosts


def template_in(value: Any, where: str) -> str | None:
    """Where a template hides in a variable; Ansible would run it on the controller."""
    if isinstance(value, str):
        return where if any(mark in value for mark in ("{{", "{%", "{#")) else None
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in pairs:
        found = template_in(key, f"{where}: a key") or template_in(part, f"{where}.{key}")
        if found:
            return found
    return None


class InventoryModule(BaseInventoryPlugin):  # type: ignore[misc]
    """Ansible's entry to the hosts."""

    NAME = "patchwave"

    def verify_file(self, path: str) -> bool:
        return bool(super().verify_file(path)) and path.endswith(("patchwave.yml", "patchwave.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        for name, value in load_extra_vars(loader).items():
            if where := template_in(value, name):
                raise AnsibleParserError(f"{where} holds a template: variables are data here, write it out")
        try:
            hosts = planned()
        except (PatchwaveError, ValueError, OSError) as error:
            raise AnsibleParserError(" ".join(str(error).split())) from error
        user = self.get_option("user")
        common = f"-F {shlex.quote(config)}" if (config := os.environ.get("PATCHWAVE_SSH_CONFIG")) else ""
        for host in hosts:
            self.inventory.add_host(host.name)
            values = {"ansible_host": host.address, "ansible_user": user, "ansible_become": user != "root"}
            values |= {"ansible_ssh_common_args": common} if common else {}
            values |= {f"pw_{key}": getattr(host, key) for key in VARIABLES}
            for key, value in values.items():
                self.inventory.set_variable(host.name, key, value)
            for group in GROUPS:
                if value := getattr(host, group):
                    name = self.inventory.add_group(f"{group}_{re.sub(r'[^A-Za-z0-9]', '_', value)}")
                    self.inventory.add_child(name, host.name)
