"""The load balancer: HAProxy, driven by the declared load balancers; a switch of pools loses no request."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from sandbox.azure.arm import pools
from sandbox.azure.arm.pools import members
from sandbox.azure.arm.rules import dig
from sandbox.azure.resources.errors import AzureError
from sandbox.azure.resources.store import Row, Store
from sandbox.config import Sandbox, write_atomically
from sandbox.lab import processes

PROCESS = "haproxy"
AGENT = "Load Balancer Agent"
_DRAINED = 0x08


@dataclass(frozen=True)
class Server:
    """One member of a pool; `admin` is its administrative state: None (the probe decides), Up (no probe) or Down."""

    name: str
    address: str
    port: int
    admin: str = "None"


@dataclass(frozen=True)
class Backend:
    """A pool as one rule sees it: its members, and the probe that decides who gets requests."""

    name: str
    servers: tuple[Server, ...]
    protocol: str = "Tcp"
    path: str = ""
    port: int = 0
    interval: int = 15
    threshold: int = 2
    sticky: bool = False
    http: bool = False


@dataclass(frozen=True)
class Frontend:
    """A rule: where it listens, the pool it points at, and the other pools of the same load balancer."""

    name: str
    address: str
    port: int
    live: str | None
    backends: tuple[Backend, ...]
    idle_minutes: int = 4

    @property
    def http(self) -> bool:
        """Requests are handled one by one only where the probe shows that the rule's port speaks HTTP."""
        return any(backend.http for backend in self.backends)


def frontends(store: Store) -> list[Frontend]:
    """What the stored load balancers declare."""
    there = members(store)
    found = []
    for balancer in store.of_type("Microsoft.Network/loadBalancers"):
        if balancer.deleting:
            continue
        addresses = dict(_addresses(balancer, store))
        probes = {one["id"].lower(): one["properties"] for one in balancer.properties.get("probes", [])}
        keys = [one["id"].lower() for one in balancer.properties.get("backendAddressPools", [])]
        for rule in balancer.properties.get("loadBalancingRules", []):
            properties = rule["properties"]
            port = properties["backendPort"]
            address = addresses.get(str(dig(properties, "frontendIPConfiguration.id")).lower())
            if address is None:
                continue
            name = _word(f"{balancer.group}.{balancer.name}.{rule['name']}")
            probe = probes.get(str(dig(properties, "probe.id")).lower(), {})
            live = str(dig(properties, "backendAddressPool.id", "")).lower()
            backends = tuple(
                Backend(
                    name=f"{name}.{_word(pool.rsplit('/', 1)[1])}",
                    servers=tuple(
                        Server(_word(one.host), one.address, port, pools.state(balancer, pool, one))
                        for one in sorted(there.get(pool, ()))
                    ),
                    protocol=probe.get("protocol", "Tcp"), path=probe.get("requestPath", ""),
                    port=probe.get("port", port),
                    http=probe.get("protocol") == "Http" and probe.get("port", port) == port,
                    interval=probe.get("intervalInSeconds", 15),
                    threshold=probe.get("probeThreshold") or 2,
                    sticky=properties.get("loadDistribution", "Default") != "Default",
                )
                for pool in keys
            )  # fmt: skip
            target = f"{name}.{_word(live.rsplit('/', 1)[1])}" if live in keys else None
            idle = properties.get("idleTimeoutInMinutes", 4)
            found.append(Frontend(name, address, properties["frontendPort"], target, backends, idle))
    return found


def _addresses(balancer: Row, store: Store) -> Iterator[tuple[str, str]]:
    for one in balancer.properties.get("frontendIPConfigurations", []):
        public = store.get(str(dig(one, "properties.publicIPAddress.id")))
        if public and (address := public.properties.get("ipAddress")):
            yield one["id"].lower(), address


def _word(text: str) -> str:
    """A name that HAProxy accepts and that cannot break out of its line."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)


def render(sandbox: Sandbox, wanted: list[Frontend]) -> str:
    """HAProxy's configuration; which pool a rule points at is in the map and not in here."""
    folder = sandbox.haproxy
    lines = [
        "global",
        "  log stdout format raw local0 info",
        f"  stats socket {folder}/stats.sock mode 600 level admin expose-fd listeners",
        f"  server-state-file {folder}/servers.state",
        "  maxconn 4000",
        "  spread-checks 0",
        "defaults",
        "  log global",
        "  timeout connect 2s",
        "  timeout server 60s",
        "  timeout queue 5s",
        "  retries 3",
        "  option redispatch 1",
        "  load-server-state-from-file global",
        "  option dontlognull",
    ]
    for front in wanted:
        mode = "http" if front.http else "tcp"
        lines += [
            f"frontend {front.name}",
            f"  mode {mode}",
            f"  option {mode}log",
            f"  bind {front.address}:{front.port}",
            f"  timeout client {front.idle_minutes}m",
        ]
        if front.http:
            lines += ["  option idle-close-on-response", f"  timeout http-keep-alive {front.idle_minutes}m"]
        lines += [f"  use_backend %[str({front.name}),map({folder}/rules.map,none.{mode})]"]
        for backend in front.backends:
            lines += _backend(backend, mode)
    for mode in sorted({"http" if front.http else "tcp" for front in wanted}):
        lines += [f"backend none.{mode}", f"  mode {mode}"]
    return "\n".join(lines) + "\n"


def _backend(backend: Backend, mode: str) -> Iterator[str]:
    yield f"backend {backend.name}"
    yield f"  mode {mode}"
    yield f"  balance {'source' if backend.sticky else 'roundrobin'}"
    if mode == "http":
        yield "  retry-on conn-failure empty-response"
        yield "  http-request disable-l7-retry unless METH_GET"
        yield "  option forwardfor"
    if backend.protocol in ("Http", "Https"):
        yield "  option httpchk"
        path = re.sub(r"[^A-Za-z0-9/_.?=&%-]", "", backend.path)
        headers = f'hdr Host probe hdr User-Agent "{AGENT}" hdr Connection close'
        yield f"  http-check send meth GET uri {path} ver HTTP/1.1 {headers}"
        yield "  http-check expect status 200"
    secure = " check-ssl verify none" if backend.protocol == "Https" else ""
    timing = f"inter {backend.interval}s downinter 1s fastinter {backend.interval}s fall {backend.threshold} rise 1"
    for server in backend.servers:
        where = f"{server.address}:{server.port}"
        probed = "" if server.admin == "Up" else f" check port {backend.port or server.port} {timing}{secure}"
        yield f"  server {server.name} {where}{probed}"


def rules(wanted: list[Frontend]) -> dict[str, str]:
    """Which backend each rule points at."""
    return {front.name: front.live for front in wanted if front.live}


class Balancer:
    """Keeps HAProxy as the store has it: a reload for a new structure, a map entry for a switch, nothing otherwise."""

    def __init__(self, sandbox: Sandbox, store: Store) -> None:
        self._sandbox = sandbox
        self._store = store
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Requests go where the store has them go when this returns."""
        with self._lock:
            self._refresh(frontends(self._store))

    def _refresh(self, wanted: list[Frontend]) -> None:
        folder = self._sandbox.haproxy
        config, table = folder / "haproxy.cfg", folder / "rules.map"
        if not wanted:
            processes.stop(self._sandbox, PROCESS)
            config.unlink(missing_ok=True)
            return
        folder.mkdir(exist_ok=True)
        text = render(self._sandbox, wanted)
        running = processes.alive(self._sandbox, PROCESS)
        same = running and config.exists() and config.read_text() == text
        before = _read_map(table.read_text()) if table.exists() else {}
        after = rules(wanted)
        write_atomically(table, "".join(f"{name} {live}\n" for name, live in sorted(after.items())))
        if same:
            if before != after:
                self._switch(table.as_posix(), after)
            self._drain(wanted)
            return
        self._checked(text)
        if not running:
            (folder / "servers.state").write_text("1\n")
            write_atomically(config, text)
            command = [_program(), "-W", "-S", f"{folder}/master.sock,mode,600", "-f", str(config)]
            processes.spawn(self._sandbox, PROCESS, command)
            self._settled(None, wanted, set())
            self._drain(wanted)
            return
        known = {name for name, _ in self._servers()}
        old = self._worker()
        (folder / "servers.state").write_text(self._ask("show servers state") + "\n")
        write_atomically(config, text)
        identity = processes.identity(self._sandbox, PROCESS)
        if identity is not None:
            os.kill(identity.pid, signal.SIGUSR2)
        self._settled(old, wanted, known)
        self._drain(wanted)

    def _drain(self, wanted: list[Frontend]) -> None:
        """Members that are Down get no new connection and keep those that they have; a reload keeps them so."""
        drained = {name for name, state in self._servers() if state & _DRAINED}
        for front in wanted:
            for backend in front.backends:
                for server in backend.servers:
                    name = f"{backend.name}/{server.name}"
                    if (server.admin == "Down") is not (name in drained):
                        self._ask(f"set server {name} state {'drain' if server.admin == 'Down' else 'ready'}")

    def _switch(self, table: str, after: dict[str, str]) -> None:
        present = {line.split()[1] for line in self._ask(f"show map {table}").splitlines() if len(line.split()) == 3}
        for name, live in after.items():
            verb = "set" if name in present else "add"
            self._ask(f"{verb} map {table} {name} {live}")
        for name in present - set(after):
            self._ask(f"del map {table} {name}")

    def _settled(self, old: str | None, wanted: list[Frontend], known: set[str]) -> None:
        """A new worker answers; a new server gets requests only after its first good probe."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if (worker := self._worker()) and worker != old:
                break
            time.sleep(0.02)
        else:
            raise AzureError(500, "InternalServerError", f"The load balancer did not start: {self._tail()}")
        for front in wanted:
            for backend in front.backends:
                for server in backend.servers:
                    if (name := f"{backend.name}/{server.name}") not in known and server.admin != "Up":
                        self._ask(f"set server {name} health down")

    def _checked(self, text: str) -> None:
        draft = self._sandbox.haproxy / "haproxy.draft"
        draft.write_text(text)
        (self._sandbox.haproxy / "servers.state").touch()
        done = subprocess.run([_program(), "-c", "-q", "-f", str(draft)], capture_output=True, text=True, check=False)
        draft.unlink()
        if done.returncode:
            why = " ".join(done.stderr.split())
            raise AzureError(500, "InternalServerError", f"The load balancer refuses its configuration: {why}")

    def _worker(self) -> str | None:
        with contextlib.suppress(OSError):
            for line in self._ask("show info").splitlines():
                if line.startswith("Pid:"):
                    return line
        return None

    def _servers(self) -> Iterator[tuple[str, int]]:
        """Each server with the flags of its administrative state."""
        for line in self._ask("show servers state").splitlines():
            parts = line.split()
            if len(parts) > 6 and parts[0].isdigit():
                yield f"{parts[1]}/{parts[3]}", int(parts[6])

    def connections(self, server: str) -> int:
        """Requests in flight to the servers of that name."""
        try:
            rows = [line.split(",") for line in self._ask("show stat").splitlines()]
        except OSError:
            return 0
        return sum(int(row[4] or 0) for row in rows if len(row) > 4 and row[1] == _word(server))

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(f"{self._sandbox.haproxy}/stats.sock")
            connection.sendall(f"{command}\n".encode())
            answer = b""
            while part := connection.recv(65536):
                answer += part
        return answer.decode().strip()

    def _tail(self) -> str:
        return processes.tail(self._sandbox, PROCESS)


def _program() -> str:
    found = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise AzureError(500, "InternalServerError", "The load balancer needs haproxy: apt install haproxy")
    return found


def _read_map(text: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
