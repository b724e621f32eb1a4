"""The emulator of Azure in memory: its endpoints by test clients, its hosts recorded, everything else real."""

import asyncio
import contextlib
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette

from sandbox.azure.arm.machines import IMAGE
from sandbox.azure.bodies.shape_cache import shapes
from sandbox.azure.bodies.wire import Wire
from sandbox.azure.resources.ids import SUBSCRIPTION
from sandbox.azure.server.conditions import Conditions
from sandbox.azure.server.endpoints import Endpoints
from sandbox.config import Sandbox
from sandbox.lab.hosts import HostError, HostSpec

ROOT = f"/subscriptions/{SUBSCRIPTION}"
GROUP = f"{ROOT}/resourceGroups/dev"
LOCATION = "westeurope"
VERSION = "2024-11-01"
Json = Any


class RecordedHosts:
    """Hosts that only remember what was asked of them; `broken` names boot to an error, `gate` holds boots back."""

    def __init__(self) -> None:
        self.on: dict[str, bool] = {}
        self.specs: dict[str, HostSpec] = {}
        self.calls: list[tuple[str, str]] = []
        self.broken: set[str] = set()
        self.system: Callable[[str, str], str] | None = None
        self.gate = threading.Event()
        self.gate.set()

    def create(self, spec: HostSpec) -> None:
        self.calls.append(("create", spec.name))
        self.gate.wait(20)
        if spec.name in self.broken:
            raise RuntimeError(f"{spec.name} has no sshd")
        self.specs[spec.name] = spec
        self.on[spec.name] = True

    def start(self, name: str) -> None:
        if not self.on[name]:
            self.calls.append(("start", name))
        self.on[name] = True

    def stop(self, name: str) -> None:
        self.calls.append(("stop", name))
        self.on[name] = False

    def restart(self, name: str) -> None:
        self.calls.append(("restart", name))

    def delete(self, name: str) -> None:
        self.calls.append(("delete", name))
        self.on.pop(name, None)

    def run(self, name: str, script: str, seconds: float) -> str:
        if self.system is None:
            raise HostError(f"{name} is only remembered: there is no system to ask")
        return self.system(name, script)

    def names(self) -> list[str]:
        return sorted(self.on)

    def running(self, name: str) -> bool:
        return self.on.get(name, False)

    def snapshot(self, name: str, target: Path) -> None:
        self.calls.append(("snapshot", name))
        target.mkdir(parents=True, exist_ok=True)
        (target / "disk").write_text(name)

    def restore(self, name: str, source: Path) -> None:
        assert not self.on[name]
        self.calls.append(("restore", (source / "disk").read_text()))


class StillBalancer:
    """A load balancer that nobody uses."""

    def refresh(self) -> None:
        pass

    def connections(self, server: str) -> int:
        return 0


def _send(application: Starlette, method: str, path: str, more: dict[str, Any]) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="https://endpoint") as client:
            return await client.request(method, path, **more)

    return asyncio.run(send())


@cache
def shape_cache() -> Path:
    """Read from the SDK once a run."""
    return Path(tempfile.mkdtemp(prefix="patchwave-shapes-"))


@cache
def wire() -> Wire:
    return Wire(shapes(shape_cache()))


class Emulator:
    """Both endpoints with a token in hand."""

    def __init__(self, folder: Path, hosts: RecordedHosts | None = None, conditions: Conditions | None = None) -> None:
        self.hosts = hosts or RecordedHosts()
        self.sandbox = Sandbox("test", folder, folder, IPv4Network("10.219.7.0/24"))
        self.endpoints = Endpoints(
            self.sandbox, self.hosts, (Path("/layer"),), StillBalancer(), shape_cache(), conditions
        )
        self.bearer = {"Authorization": f"Bearer {self.token()}"}

    def token(self, resource: str = "https://management.azure.com/") -> str:
        path = "/metadata/identity/oauth2/token"
        query = {"api-version": "2018-02-01", "resource": resource}
        answer = self.identity("GET", path, params=query, headers={"Metadata": "true"})
        return str(answer.json()["access_token"])

    def azure(self, method: str, path: str, **more: Any) -> httpx.Response:
        return _send(self.endpoints.applications[0], method, path, more)

    def identity(self, method: str, path: str, **more: Any) -> httpx.Response:
        return _send(self.endpoints.applications[1], method, path, more)

    def ask(self, method: str, path: str, body: Json = None, **query: str) -> httpx.Response:
        params = {"api-version": VERSION, **query}
        return self.azure(method, path, params=params, json=body, headers=self.bearer)

    def put(self, path: str, body: Json) -> dict[str, Json]:
        """The resource after its operation has ended well."""
        answer = self.ask("PUT", path, body)
        assert answer.is_success, answer.text
        assert self.ended(answer) == "Succeeded"
        found: dict[str, Json] = self.ask("GET", path).json()
        return found

    def refused(self, method: str, path: str, body: Json = None) -> tuple[int, str]:
        answer = self.ask(method, path, body)
        assert answer.is_error, answer.text
        error = answer.json()["error"]
        assert error["message"]
        return answer.status_code, error["code"]

    def ended(self, answer: httpx.Response) -> str:
        """How the answer's long-running operation ended."""
        poll = answer.headers.get("Azure-AsyncOperation")
        if poll is None:
            return "Succeeded"
        for _ in range(400):
            state = self.azure("GET", poll.removeprefix(self.sandbox.endpoint), headers=self.bearer).json()["status"]
            if state != "InProgress":
                return str(state)
            time.sleep(0.02)
        raise AssertionError("the operation does not end")

    @property
    def environment(self) -> dict[str, str]:
        """Where the official clients find the served endpoints, and whom they trust."""
        return {
            "ARM_ENDPOINT": self.sandbox.endpoint,
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": self.sandbox.identity,
            "REQUESTS_CA_BUNDLE": str(self.sandbox.ca_bundle),
        }

    def close(self) -> None:
        self.endpoints.manager.close()
        self.endpoints.store.close()


@contextlib.contextmanager
def emulator(conditions: Conditions | None = None) -> Iterator[Emulator]:
    with tempfile.TemporaryDirectory(prefix="patchwave-azure-") as folder:
        made = Emulator(Path(folder), conditions=conditions)
        try:
            yield made
        finally:
            made.hosts.gate.set()
            made.close()


@contextlib.contextmanager
def served() -> Iterator[Emulator]:
    """The endpoints on sockets of their own, for clients that know nothing of this process."""
    with emulator() as made:
        server = threading.Thread(target=lambda: asyncio.run(made.endpoints.serve()))
        server.start()
        try:
            trust = ssl.create_default_context(cafile=str(made.sandbox.ca))
            with httpx.Client(transport=httpx.HTTPTransport(verify=trust, retries=8)) as client:
                client.get(f"{made.sandbox.endpoint}/ready")
            assert made.endpoints.ready.wait(20)
            yield made
        finally:
            made.endpoints.close()
            server.join()


def located(properties: Mapping[str, Json] | None = None, **more: Json) -> dict[str, Json]:
    return {"location": LOCATION, "properties": dict(properties or {}), **more}


def network(name: str) -> str:
    return f"{GROUP}/providers/Microsoft.Network/{name}"


def compute(name: str) -> str:
    return f"{GROUP}/providers/Microsoft.Compute/{name}"


VNET = network("virtualNetworks/net")
SUBNET = f"{VNET}/subnets/web"
ADDRESS = network("publicIPAddresses/front")
BALANCER = network("loadBalancers/lb")
NIC = network("networkInterfaces/nic")
BLUE = compute("virtualMachineScaleSets/dev-blue")
MACHINE = compute("virtualMachines/dev-vm-0")


def vnet() -> dict[str, Json]:
    return located({
        "addressSpace": {"addressPrefixes": ["10.0.0.0/16"]},
        "subnets": [{"name": "web", "properties": {"addressPrefix": "10.0.1.0/24"}}],
    })  # fmt: skip


def public_address() -> dict[str, Json]:
    return located({"publicIPAllocationMethod": "Static"}, sku={"name": "Standard"})


def balancer(live: str = "blue") -> dict[str, Json]:
    return located({
        "frontendIPConfigurations": [{"name": "public", "properties": {"publicIPAddress": {"id": ADDRESS}}}],
        "backendAddressPools": [{"name": "blue"}, {"name": "green"}],
        "probes": [{"name": "health", "properties": {
            "protocol": "Http", "port": 80, "requestPath": "/healthz", "intervalInSeconds": 5, "probeThreshold": 2}}],
        "loadBalancingRules": [{"name": "web", "properties": {
            "protocol": "Tcp", "frontendPort": 80, "backendPort": 80,
            "frontendIPConfiguration": {"id": f"{BALANCER}/frontendIPConfigurations/public"},
            "backendAddressPool": {"id": f"{BALANCER}/backendAddressPools/{live}"},
            "probe": {"id": f"{BALANCER}/probes/health"}}}],
    }, sku={"name": "Standard"})  # fmt: skip


def interface() -> dict[str, Json]:
    return located({"ipConfigurations": [{"name": "ip", "properties": {"subnet": {"id": SUBNET}}}]})


def scale_set(capacity: int = 2, slot: str = "blue") -> dict[str, Json]:
    pool = {"id": f"{BALANCER}/backendAddressPools/{slot}"}
    config = {"name": "ip", "properties": {"subnet": {"id": SUBNET}, "loadBalancerBackendAddressPools": [pool]}}
    return located({
        "upgradePolicy": {"mode": "Rolling", "rollingUpgradePolicy": {"maxBatchInstancePercent": 20}},
        "virtualMachineProfile": {
            "osProfile": {"computerNamePrefix": "dev", "adminUsername": "fieldops"},
            "storageProfile": {"imageReference": {"id": IMAGE}, "osDisk": {"createOption": "FromImage"}},
            "networkProfile": {"networkInterfaceConfigurations": [
                {"name": "nic", "properties": {"primary": True, "ipConfigurations": [config]}}]},
            "extensionProfile": {"extensions": [{"name": "health", "properties": {
                "publisher": "Microsoft.ManagedServices", "type": "ApplicationHealthLinux", "typeHandlerVersion": "2.0",
                "settings": {"protocol": "http", "port": 80, "requestPath": "/healthz"}}}]},
        },
    }, sku={"name": "Standard_B2s", "capacity": capacity},
       tags={"patchwave-stack": "dev", "patchwave-slot": slot})  # fmt: skip


def machine() -> dict[str, Json]:
    return located({
        "hardwareProfile": {"vmSize": "Standard_B2s"},
        "networkProfile": {"networkInterfaces": [{"id": NIC}]},
        "osProfile": {"computerName": "dev-vm-0", "adminUsername": "fieldops", "adminPassword": "not-kept-1"},
        "storageProfile": {"imageReference": {"id": IMAGE}, "osDisk": {"createOption": "FromImage"}},
    }, tags={"patchwave-stack": "dev"})  # fmt: skip


def declare(azure: Emulator, *, machines: bool = True) -> None:
    """A group with everything that machines stand on, and the machines."""
    azure.put(GROUP, {"location": LOCATION})
    azure.put(VNET, vnet())
    azure.put(ADDRESS, public_address())
    azure.put(BALANCER, balancer())
    azure.put(NIC, interface())
    if machines:
        azure.put(BLUE, scale_set())
        azure.put(MACHINE, machine())
