"""The declared rule decides who gets requests, and changing it loses none of them."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from sandbox.azure.server.haproxy import PROCESS, Backend, Balancer, Frontend, Server, frontends, render, rules
from sandbox.config import Sandbox
from sandbox.lab import processes
from tests.unit.azure_emulator import BALANCER, BLUE, balancer, declare, emulator, scale_set

PORT, FRONT = 8097, 8096


def test_the_rules_pool_gets_the_requests_and_membership_follows_the_machines() -> None:
    with emulator() as azure:
        declare(azure)
        (front,) = frontends(azure.endpoints.store)
        assert (front.address, front.port, front.live) == (azure.sandbox.public_address(0), 80, "dev.lb.web.blue")
        blue, green = front.backends
        assert [server.name for server in blue.servers] == ["dev-blue-0", "dev-blue-1"]
        assert {server.address for server in blue.servers} == {azure.hosts.specs[s.name].address for s in blue.servers}
        assert (blue.path, blue.interval, blue.threshold) == ("/healthz", 5, 2)
        assert green.servers == ()
        before = render(azure.sandbox, frontends(azure.endpoints.store))
        azure.put(BALANCER, balancer("green"))
        assert rules(frontends(azure.endpoints.store)) == {"dev.lb.web": "dev.lb.web.green"}
        assert render(azure.sandbox, frontends(azure.endpoints.store)) == before, "a switch is no new structure"
        azure.put(BLUE, scale_set(1))
        assert [server.name for server in frontends(azure.endpoints.store)[0].backends[0].servers] == ["dev-blue-0"]


def test_a_hostile_probe_path_stays_within_its_line() -> None:
    server = Server("a", "127.0.0.1", 80)
    backend = Backend("f.blue", (server,), "Http", "/x\n  server evil 1.2.3.4:80", 80)
    text = render(
        Sandbox("t", Path("/p"), Path("/p"), IPv4Network("10.0.0.0/24")),
        [Frontend("f", "127.0.0.1", 1, None, (backend,))],
    )
    assert [line.split()[1] for line in text.splitlines() if line.startswith("  server ")] == ["a"]


class Slot:
    """A small service that knows its slot and may fall ill."""

    def __init__(self, name: str, address: str) -> None:
        self.healthy = True
        slot = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(503 if self.path == "/healthz" and not slot.healthy else 200)
                self.send_header("Content-Length", str(len(name)))
                self.end_headers()
                self.wfile.write(name.encode())

            def log_message(self, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self.server = Quiet((address, PORT), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Clients:
    """Half of them keep their connection, half open one a request; every answer counts."""

    def __init__(self, address: str) -> None:
        self.answers: Counter[str] = Counter()
        self._address = address
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(number % 2 == 0,)) for number in range(6)]
        for thread in self._threads:
            thread.start()

    def _ask(self, keep: bool) -> None:
        connection = http.client.HTTPConnection(self._address, FRONT, timeout=5)
        while not self._stop.is_set():
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                text = answer.read().decode()
                shown = text if answer.status == 200 else str(answer.status)
            except (OSError, http.client.HTTPException) as error:
                shown = type(error).__name__
                connection.close()
            with self._lock:
                self.answers[shown] += 1
            if not keep:
                connection.close()
            time.sleep(0.005)
        connection.close()

    def stop(self) -> Counter[str]:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.answers


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[tuple[Sandbox, dict[str, Slot]]]:
    sandbox = Sandbox.open(tmp_path)
    sandbox.run.mkdir()
    made = {
        name: Slot(name, sandbox.public_address(100 + index)) for index, name in enumerate(("b0", "b1", "g0", "g1"))
    }
    try:
        yield sandbox, made
    finally:
        processes.stop(sandbox, PROCESS)
        for slot in made.values():
            slot.server.shutdown()
            slot.server.server_close()


def declared(sandbox: Sandbox, live: str, blues: int = 2, **admin: str) -> list[Frontend]:
    pools = {"blue": ("b0", "b1")[:blues], "green": ("g0", "g1")}
    index = {"b0": 100, "b1": 101, "g0": 102, "g1": 103}
    backends = tuple(
        Backend(
            f"web.{pool}",
            tuple(Server(name, sandbox.public_address(index[name]), PORT, admin.get(name, "None")) for name in names),
            "Http", "/healthz", PORT, 1, 2, http=True,
        )
        for pool, names in pools.items()
    )  # fmt: skip
    return [Frontend("web", sandbox.public_address(0), FRONT, f"web.{live}", backends)]


def answered(address: str, wanted: str, patience: float = 10) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(address, FRONT, timeout=2)
        try:
            connection.request("GET", "/")
            if connection.getresponse().read().decode().startswith(wanted):
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    raise AssertionError(f"{wanted} does not answer")


def test_no_request_is_lost_while_pools_are_switched_and_members_come_and_go(
    slots: tuple[Sandbox, dict[str, Slot]],
) -> None:
    sandbox, services = slots
    balancer = Balancer(sandbox, None)  # type: ignore[arg-type]  # what is wanted is given below
    address = sandbox.public_address(0)
    balancer._refresh(declared(sandbox, "blue"))
    answered(address, "b")
    time.sleep(1.5)  # every member has been probed
    clients = Clients(address)
    try:
        for live in ("green", "blue", "green"):
            time.sleep(0.3)
            balancer._refresh(declared(sandbox, live))
        for blues in (1, 2):
            time.sleep(0.3)
            balancer._refresh(declared(sandbox, "green", blues))
        services["g0"].healthy = False
        time.sleep(3.5)
        before = Counter(clients.answers)
        clients.answers.clear()
        balancer._refresh(declared(sandbox, "green", 1))
        time.sleep(0.5)
        after_illness = set(clients.answers)
    finally:
        answers = clients.stop()
    assert set(before) | set(answers) <= {"b0", "b1", "g0", "g1"}
    assert len(before) == 4
    assert after_illness == {"g1"}, "a reload remembers who is ill"


def test_a_member_that_is_down_gets_nothing_new_and_one_that_is_up_is_not_probed(
    slots: tuple[Sandbox, dict[str, Slot]],
) -> None:
    sandbox, services = slots
    balancer = Balancer(sandbox, None)  # type: ignore[arg-type]  # what is wanted is given below
    balancer._refresh(declared(sandbox, "blue"))
    answered(sandbox.public_address(0), "b")
    time.sleep(1.5)  # every member has been probed
    clients = Clients(sandbox.public_address(0))
    seen = []
    try:
        for step in (
            declared(sandbox, "blue", b0="Down"),
            declared(sandbox, "blue", b0="Down", g0="Up"),  # another structure: a reload
            declared(sandbox, "blue"),
        ):
            balancer._refresh(step)
            time.sleep(0.5)
            clients.answers.clear()
            time.sleep(0.5)
            seen.append(set(clients.answers))
        services["b1"].healthy = False
        balancer._refresh(declared(sandbox, "blue", b0="Down", b1="Up"))
        time.sleep(3.5)
        clients.answers.clear()
        time.sleep(0.5)
    finally:
        seen.append(set(clients.stop()))
    assert seen == [{"b1"}, {"b1"}, {"b0", "b1"}, {"b1"}]


def test_a_rule_without_a_pool_answers_503(slots: tuple[Sandbox, dict[str, Slot]]) -> None:
    sandbox, _ = slots
    balancer = Balancer(sandbox, None)  # type: ignore[arg-type]
    (front,) = declared(sandbox, "blue")
    balancer._refresh([replace(front, live=None)])
    connection = http.client.HTTPConnection(sandbox.public_address(0), FRONT, timeout=5)
    connection.request("GET", "/")
    assert connection.getresponse().status == 503
    connection.close()
    balancer._refresh([])
    assert not processes.alive(sandbox, PROCESS)
