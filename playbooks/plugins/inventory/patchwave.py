"""The stack's hosts as an Ansible inventory, from the same query as everything else."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.utils.vars import load_extra_vars
from patchwave.azure.inventory import FILE, HOSTS, Host, discover
from patchwave.base.errors import PatchwaveError, UsageError
from patchwave.config.settings import load_stack

DOCUMENTATION = """
name: patchwave
short_description: The hosts of a Patchwave stack
description:
  - Reads the hosts that the wave has planned from E(PATCHWAVE_INVENTORY_FILE), or queries Resource Graph for those
    of E(PATCHWAVE_STACK). The ssh configuration that E(PATCHWAVE_SSH_CONFIG) names, else ssh's own, decides user,
    port, proxy and keys by the host's name, and its address where it sets HostName; else Azure's is used.
options:
  plugin: {description: Marks the file as this plugin's., required: true, choices: [patchwave]}
author: Patchwave
"""

GROUPS = ("fleet", "service", "ring", "source", "slot", "method")
VARIABLES = ("id", "name", "address", "fleet", "service", "method", "ring", "source", "slot", "live")
SSH_CONFIG = "PATCHWAVE_SSH_CONFIG"
# What ssh reads without one, the user's before the system's.
OWN = (Path("~/.ssh/config"), Path("/etc/ssh/ssh_config"))
SSH_TIMEOUT = 20


def planned() -> tuple[Host, ...]:
    """The hosts, every field checked; none at all is an error."""
    stack = os.environ.get("PATCHWAVE_STACK")
    if path := os.environ.get(FILE):
        hosts = HOSTS.validate_json(Path(path).read_bytes())
    elif stack:
        hosts = discover(stack, load_stack(Path(__file__).resolve().parents[3], stack).settings).hosts
    else:
        raise AnsibleParserError(f"neither {FILE} nor PATCHWAVE_STACK is set: name a stack by the latter")
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


def addresses(hosts: Sequence[Host], config: Path | None) -> dict[str, str]:
    """The address from Azure by name, for each host to which the ssh configuration gives no HostName.

    UsageError when the configuration is not there or does not parse.
    """
    if config and not config.exists():
        raise UsageError(f"{SSH_CONFIG}={config}: there is no such file")
    roots = [config] if config else [path.expanduser() for path in OWN]
    if not any(_names_hosts(path, set()) for path in roots):
        return {host.name: host.address for host in hosts}
    with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        known = pool.map(lambda host: _host_name(host.name, config), hosts)
    return {host.name: host.address for host, name in zip(hosts, known, strict=True) if name == host.name}


def connection(host: Host, config: Path | None) -> str:
    """The name of a host's kept connection: another one for another machine, address or configuration."""
    return sha256(f"{host.id}\0{host.address}\0{config}".encode()).hexdigest()[:16]


def _names_hosts(path: Path, seen: set[Path]) -> bool:
    """Whether a configuration, or one that it includes, sets HostName anywhere: most set it nowhere."""
    if path in seen or not path.is_file():
        return False
    seen.add(path)
    text = path.read_text(encoding="utf-8", errors="replace")
    return bool(re.search(r"(?im)^\s*HostName\b", text)) or any(
        _names_hosts(one, seen) for one in _included(text, path)
    )


def _included(text: str, path: Path) -> Iterator[Path]:
    home = path.parent if path.is_relative_to("/etc/ssh") else Path("~/.ssh").expanduser()
    for line in re.findall(r"(?im)^\s*Include[\s=]+(.+)$", text):
        for pattern in shlex.split(line, comments=True):
            absolute = home / Path(pattern).expanduser()
            yield from Path("/").glob(str(absolute.relative_to("/")))


def _host_name(name: str, config: Path | None) -> str:
    """The HostName by which ssh would reach a host; the name itself where its configuration gives none."""
    argv = ["ssh", "-G", *(["-F", str(config)] if config else []), "--", name]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SSH_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"ssh -G {name} does not end: look for a Match exec in the ssh configuration") from None
    found = re.search(r"(?m)^hostname (\S+)$", done.stdout)
    if done.returncode or not found:
        raise UsageError(f"ssh -G {name}: {' '.join(done.stderr.split())[:300]}: fix the ssh configuration")
    return found[1]


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
            config = Path(os.environ[SSH_CONFIG]).absolute() if os.environ.get(SSH_CONFIG) else None
            known = addresses(hosts, config)
        except (PatchwaveError, ValueError, OSError) as error:
            raise AnsibleParserError(" ".join(str(error).split())) from error
        common = [*(["-F", str(config)] if config else []), "-o", "StrictHostKeyChecking=yes"]
        for host in hosts:
            self.inventory.add_host(host.name)
            values = {"ansible_host": host.name, "ansible_become": True, "ansible_become_method": "patchwave"}
            # Two stacks may have hosts of one name: a kept connection is shared only with the same machine.
            values["ansible_control_path"] = f"%(directory)s/{connection(host, config)}"
            address = ["-o", f"HostName={known[host.name]}"] if host.name in known else []
            values["ansible_ssh_common_args"] = shlex.join([*common, *address])
            values |= {f"pw_{key}": getattr(host, key) for key in VARIABLES}
            for key, value in values.items():
                self.inventory.set_variable(host.name, key, value)
            for group in GROUPS:
                if value := getattr(host, group):
                    name = self.inventory.add_group(f"{group}_{re.sub(r'[^A-Za-z0-9]', '_', value)}")
                    self.inventory.add_child(name, host.name)
