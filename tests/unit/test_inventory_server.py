"""The inventory through a served emulator: the function and the command line see the same machines."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from patchwave.azure.inventory import FILE, HOSTS, discover
from patchwave.config.settings import load_stack
from sandbox.azure.server.conditions import Conditions
from sandbox.azure.server.endpoints import Endpoints
from sandbox.config import Sandbox
from tests.fleet import IdleHosts, seed, with_fleets
from tests.slow_server import served
from tests.unit.azure_emulator import StillBalancer, shape_cache
from tests.unit.builders import FIXTURE, host
from tests.unit.engine import PROJECT

MACHINES = 2300


@pytest.fixture(scope="module")
def endpoint() -> Iterator[tuple[dict[str, str], set[str], Endpoints]]:
    with tempfile.TemporaryDirectory(prefix="patchwave-endpoint-") as folder:
        sandbox = Sandbox("endpoint", Path(folder), Path(folder), IPv4Network("10.219.7.0/24"))
        unsteady = Conditions(throttled=0.1, failing=0.3, seed=7)
        endpoints = Endpoints(sandbox, IdleHosts(), (Path("/layer"),), StillBalancer(), shape_cache(), unsteady)
        names = seed(endpoints.store, MACHINES)
        with served(endpoints) as environment, pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            yield environment, names, endpoints


@pytest.fixture(scope="module")
def decisions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_fleets(FIXTURE, tmp_path_factory.mktemp("decisions") / "desk")


def test_no_machine_is_missing_when_the_service_fails_often(
    endpoint: tuple[dict[str, str], set[str], Endpoints], decisions: Path
) -> None:
    _, names, _ = endpoint
    found = discover("prod", load_stack(decisions, "prod").settings)
    assert {host.name for host in found.hosts} == names
    assert len(found.hosts) == MACHINES
    assert found.complete
    assert [host.name for host in found.hosts] == sorted(names)
    assert len(found.notes) == sum("is the same machine as" in note for note in found.notes) == MACHINES // 100


def test_a_file_in_the_environment_is_not_the_inventory(
    endpoint: tuple[dict[str, str], set[str], Endpoints], decisions: Path, tmp_path: Path
) -> None:
    environment, names, _ = endpoint
    (tmp_path / "hosts.json").write_bytes(HOSTS.dump_json((host("prod-vm-000001"),)))
    found = discover("prod", load_stack(decisions, "prod").settings, environment | {FILE: str(tmp_path / "hosts.json")})
    assert {host.name for host in found.hosts} == names


def test_the_command_line_shows_the_machines(
    endpoint: tuple[dict[str, str], set[str], Endpoints], decisions: Path
) -> None:
    environment, names, _ = endpoint
    shown = subprocess.run(
        [sys.executable, "-m", "patchwave.cli", "inventory", "--stack", "prod", "--json"],
        cwd=decisions, env=os.environ | environment | {"PYTHONPATH": str(PROJECT)}, check=True, stdout=subprocess.PIPE,
    ).stdout  # fmt: skip
    answer = json.loads(shown)
    hosts = {host["name"]: host for host in answer["hosts"]}
    assert (set(hosts), answer["complete"], answer["stack"]) == (names, True, "prod")
    assert {name: answer[name] for name in ("partial", "left_alone", "problems", "missing")} == {
        "partial": [], "left_alone": [], "problems": [], "missing": []}  # fmt: skip
    assert hosts["prod-vm-000001"]["power"] == "running"
    fields = {"id", "name", "address", "source", "fleet", "service", "ring", "slot", "os"}
    assert fields <= set(hosts["prod-arc-000000"])
