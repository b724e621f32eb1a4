"""The inventory of 10,000 machines against its own floor, and against Ansible's `azure_rm` on the same endpoint."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from azure.identity import ManagedIdentityCredential

from patchwave.azure.claims import Claims
from patchwave.azure.client import GRAPH, MANAGEMENT, PAGE
from patchwave.azure.inventory import FILE, HOSTS, discover
from patchwave.config.settings import Settings, load_stack
from sandbox.azure.queries.graph import PERIOD
from sandbox.azure.resources.ids import SUBSCRIPTION
from sandbox.azure.server.conditions import VARIABLE
from sandbox.config import cache_folder
from tests.fleet import with_fleets

PROJECT = Path(__file__).resolve().parents[1]
MACHINES, PEER_MACHINES, RUNS = 10_000, 500, 9
USUAL = {"latency_ms": 80, "throttled": 0.01, "failing": 0.01}
ROUGH = {"latency_ms": 80, "throttled": 0.2, "failing": 0.2}
CALM = {"latency_ms": 80}
PEER = "ansible==12.3.0"
ENDPOINT = """import os

import azure.cli.core.cloud as known

known.AZURE_PUBLIC_CLOUD.endpoints.resource_manager = os.environ["ARM_ENDPOINT"]
"""


@dataclass
class Endpoint:
    """A served emulator: the environment of its clients and the requests that it has answered."""

    environment: dict[str, str]
    requests: list[tuple[str, str, int]] = field(default_factory=list)

    def since(self, mark: int) -> Counter[int]:
        """How many requests were answered since then, by status; tokens are not counted."""
        return Counter(status for _, path, status in self.requests[mark:] if not path.startswith("/metadata/"))


@contextlib.contextmanager
def endpoint(machines: int, conditions: Mapping[str, Any]) -> Iterator[Endpoint]:
    """A endpoint of a process of its own, with a fleet behind it."""
    with tempfile.TemporaryDirectory(prefix="patchwave-bench-") as folder:
        command = [sys.executable, "-m", "benchmarks.server", folder, str(machines)]
        environment = os.environ | {VARIABLE: json.dumps(conditions)}
        child = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        try:
            made = Endpoint(json.loads(child.stdout.readline()))
            threading.Thread(target=_listen, args=(child.stdout, made), daemon=True).start()
            with _environment(made.environment):
                yield made
        finally:
            child.terminate()
            child.wait()


def _listen(lines: Iterator[str], into: Endpoint) -> None:
    for line in lines:
        method, path, status, _ = line.split(" ")
        into.requests.append((method, path, int(status)))


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def floor(at: Endpoint, query: str) -> tuple[float, int]:
    """The seconds that the answered page requests and the parsing of their bytes take, and the number of pages."""
    url = f"{at.environment['ARM_ENDPOINT']}/providers/Microsoft.ResourceGraph/resources?api-version={GRAPH}"
    options: dict[str, Any] = {"$top": PAGE, "resultFormat": "objectArray"}
    spent, pages = 0.0, 0
    with ManagedIdentityCredential() as credential, httpx.Client(timeout=60) as client:
        headers = {"Authorization": f"Bearer {credential.get_token(MANAGEMENT).token}"}
        while True:
            body = {"subscriptions": [at.environment["ARM_SUBSCRIPTION_ID"]], "query": query, "options": options}
            began = time.perf_counter()
            answer = client.post(url, json=body, headers=headers)
            if answer.is_success:
                page = json.loads(answer.content)
                spent += time.perf_counter() - began
                pages += 1
                if "$skipToken" not in page:
                    return spent, pages
                options = {**options, "$skipToken": page["$skipToken"]}
            if not answer.is_success or answer.headers["x-ms-user-quota-remaining"] == "0":
                time.sleep(PERIOD)


def decisions() -> Settings:
    """The settings of a stack that claims the machines behind the endpoint."""
    with tempfile.TemporaryDirectory(prefix="patchwave-bench-") as scratch:
        return load_stack(with_fleets(PROJECT / "tests" / "fixtures" / "desk", Path(scratch) / "desk"), "prod").settings


def rest() -> None:
    """Lets the quota of what was asked before come back."""
    time.sleep(PERIOD + 0.2)


def ours(at: Endpoint, runs: int) -> tuple[list[tuple[float, float]], list[Counter[int]], int]:
    """For each run our seconds and the floor's; the requests of each run; the pages."""
    settings = decisions()
    query = Claims("prod", settings, SUBSCRIPTION).query
    taken, answered, pages = [], [], 0
    for run in range(runs + 1):
        rest()
        least, pages = floor(at, query)
        rest()
        mark, began = len(at.requests), time.perf_counter()
        found = discover("prod", settings)
        took = time.perf_counter() - began
        if len({host.name for host in found.hosts}) != MACHINES or not found.complete:
            raise SystemExit(f"{len(found.hosts)} of {MACHINES} machines were found")
        if run:
            taken.append((took, least))
            answered.append(at.since(mark))
    return taken, answered, pages


def as_ansible_inventory(at: Endpoint, scratch: Path) -> tuple[float, int, int]:
    """The same for our own plugin, which reads the hosts that a wave has found and written down."""
    mark, began = len(at.requests), time.perf_counter()
    hosts = scratch / "hosts.json"
    hosts.write_bytes(HOSTS.dump_json(discover("prod", decisions()).hosts))
    found = time.perf_counter() - began
    config = {"ANSIBLE_CONFIG": str(PROJECT / "playbooks" / "ansible.cfg"), FILE: str(hosts)}
    command = [sys.executable, "-m", "ansible.cli.inventory"]
    took, _, count = by_ansible(at, command, PROJECT / "playbooks" / "inventory" / "patchwave.yml", config)
    return found + took, at.since(mark).total(), count


def by_ansible(at: Endpoint, command: list[str], inventory: Path, more: Mapping[str, str]) -> tuple[float, int, int]:
    """Seconds, requests and hosts of `ansible-inventory --list` over an inventory source."""
    rest()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")} | dict(more)
    mark, began = len(at.requests), time.perf_counter()
    listing = [*command, "-i", str(inventory), "--list"]
    done = subprocess.run(
        listing, cwd=PROJECT / "playbooks", env=environment, text=True, check=False, capture_output=True
    )
    took = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{inventory.name}: {done.stderr[-2000:]}")
    return took, at.since(mark).total(), len(json.loads(done.stdout)["_meta"]["hostvars"])


def peer() -> list[str]:
    """The command of the peer, in a virtual environment of its own that is made once."""
    folder = cache_folder() / "benchmarks" / PEER
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, PEER], check=True)
        (collection,) = folder.glob("lib/python*/site-packages/ansible_collections/azure/azcollection")
        subprocess.run([*pip, "--requirement", str(collection / "requirements.txt")], check=True)
        (folder / "ready").touch()
    return [str(folder / "bin" / "ansible-inventory")]


def theirs(at: Endpoint, scratch: Path, *, batch: bool) -> tuple[float, int, int]:
    """The peer's seconds, requests and hosts; a module beside it adds the endpoint to the peer's clouds."""
    (scratch / "sitecustomize.py").write_text(ENDPOINT, encoding="utf-8")
    (scratch / "ansible.cfg").touch()
    inventory = scratch / "azure_rm.yml"
    options = {
        "plugin": "azure.azcollection.azure_rm",
        "auth_source": "msi",
        "subscription_id": at.environment["ARM_SUBSCRIPTION_ID"],
        "include_arc_resource_groups": ["*"],
        "batch_fetch": batch,
    }
    inventory.write_text(json.dumps(options), encoding="utf-8")
    return by_ansible(
        at, peer(), inventory, {"PYTHONPATH": str(scratch), "ANSIBLE_CONFIG": str(scratch / "ansible.cfg")}
    )


def main() -> None:
    """Prints the tables."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    with endpoint(MACHINES, USUAL) as at, tempfile.TemporaryDirectory(prefix="patchwave-bench-") as scratch:
        taken, answered, pages = ours(at, runs)
        whole, whole_calls, hosts = as_ansible_inventory(at, Path(scratch))
    with endpoint(MACHINES, ROUGH) as at:
        rough, rough_asked, _ = ours(at, 1)
    median, least = (statistics.median(values) for values in zip(*taken, strict=True))
    ratios = sorted(mine / floor for mine, floor in taken)
    best = min(mine for mine, _ in taken) / min(floor for _, floor in taken)
    calls = statistics.median(one.total() for one in answered)
    refused = sum(one.total() - one[200] for one in answered)
    print(f"{MACHINES} machines, {pages} pages, {USUAL}: medians of {runs}")
    print(f"  ours {median:.2f} s, pages x round trip + parse {least:.2f} s")
    print(f"  ours / floor  {statistics.median(ratios):.2f}   (at most 1.5 is wanted)")
    print(f"  from {ratios[0]:.2f} to {ratios[-1]:.2f}; the quickest of both {best:.2f}")
    print(f"  {calls:.0f} calls a run, {refused} of all were answered 429 or 500, no machine missing")
    print(f"  as an Ansible inventory: {whole:.1f} s, {whole_calls} calls, {hosts} hosts")
    print(f"  with {ROUGH}: {rough[0][0]:.2f} s, {rough_asked[0].total()} calls, no machine missing")
    print(f"{PEER_MACHINES} machines, {CALM}: azure_rm of azure.azcollection ({PEER})")
    seconds, counts = [], []
    with endpoint(PEER_MACHINES, CALM) as at, tempfile.TemporaryDirectory(prefix="patchwave-bench-") as scratch:
        for batch in (True, False):
            took, count, found = theirs(at, Path(scratch), batch=batch)
            print(f"  batch_fetch {str(batch).lower():5}  {took:.1f} s, {count} calls, {found} hosts")
            seconds.append(took / found)
            counts.append(count / found)
    print("per machine; the peer's better mode, extrapolated from what was measured:")
    print(f"  peer / ours in time   {min(seconds) / (median / MACHINES):.0f}   (at least 100 is wanted)")
    print(f"  both as ansible-inventory   {min(seconds) / (whole / hosts):.0f}")
    print(f"  peer / ours in calls  {min(counts) / (calls / MACHINES):.0f}   (at least 500 is wanted)")


if __name__ == "__main__":
    main()
