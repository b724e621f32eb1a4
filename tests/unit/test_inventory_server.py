"""The inventory through a served door: the function, the command line and Ansible see the same machines."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from patchwave.azure.inventory import discover
from sandbox.azure.server.conditions import Conditions
from sandbox.azure.server.endpoints import Doors
from sandbox.config import Sandbox
from tests.fleet import IdleHosts, seed
from tests.slow_server import served
from tests.unit.azure_emulator import StillBalancer, shape_cache
from tests.unit.builders import settings
from tests.unit.engine import PROJECT

MACHINES = 2300


@pytest.fixture(scope="module")
def door() -> Iterator[tuple[dict[str, str], set[str], Doors]]:
    with tempfile.TemporaryDirectory(prefix="patchwave-door-") as folder:
        sandbox = Sandbox("door", Path(folder), Path(folder), IPv4Network("10.219.7.0/24"))
        unsteady = Conditions(throttled=0.1, failing=0.3, seed=7)
        doors = Doors(sandbox, IdleHosts(), (Path("/layer"),), StillBalancer(), shape_cache(), unsteady)
        names = seed(doors.store, MACHINES)
        with served(doors) as environment, pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            yield environment, names, doors


def test_no_machine_is_missing_when_the_service_fails_often(door: tuple[dict[str, str], set[str], Doors]) -> None:
    _, names, _ = door
    found = discover("prod", settings("prod"))
    assert {host.name for host in found.hosts} == names
    assert len(found.hosts) == MACHINES
    assert found.complete
    assert [host.name for host in found.hosts] == sorted(names)
    assert len(found.notes) == sum("is the same machine as" in note for note in found.notes) == MACHINES // 100


def test_the_command_line_and_ansible_show_the_same_machines(door: tuple[dict[str, str], set[str], Doors]) -> None:
    environment, names, _ = door
    plugin = PROJECT / "playbooks" / "inventory" / "patchwave.yml"
    config = {"PATCHWAVE_STACK": "prod", "ANSIBLE_CONFIG": str(PROJECT / "playbooks" / "ansible.cfg")}
    shown = [
        subprocess.run(
            [sys.executable, "-m", *words], cwd=PROJECT, env=os.environ | environment | config, check=True,
            stdout=subprocess.PIPE,
        ).stdout
        for words in (
            ["patchwave.cli", "inventory", "--stack", "prod", "--json"],
            ["ansible.cli.inventory", "-i", str(plugin), "--list"],
        )
    ]  # fmt: skip
    ours, ansible = (json.loads(text) for text in shown)
    hosts = {host["name"]: host for host in ours["hosts"]}
    assert (set(hosts), ours["complete"]) == (names, True)
    assert hosts["prod-vm-000001"]["power"] == "running"
    variables = ansible["_meta"]["hostvars"]
    assert {name: one["ansible_host"]["__ansible_unsafe"] for name, one in variables.items()} == {
        n: h["address"] for n, h in hosts.items()
    }
    assert ansible["fleet_sites"]["hosts"] == sorted(name for name in names if "-arc-" in name)
