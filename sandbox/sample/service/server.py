"""FieldOps desk: answers with work orders from the database, and shows the load balancer whether to send any more."""

import http.client
import json
import os
import pathlib
import queue
import signal
import socket
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

import psycopg2

LISTEN = ("127.0.0.1", 8000)
BUILD = json.loads(pathlib.Path("/usr/lib/fieldops-desk/build.json").read_text())
# The first is forgotten by a reboot, the second is not.
DRAINING = (pathlib.Path("/run/fieldops/draining"), pathlib.Path("/var/lib/fieldops/draining"))
PROBE = "Load Balancer Agent"
STARTED = time.time()


class Database:
    """A few connections, each used by one request at a time; a broken one is thrown away."""

    def __init__(self, size: int = 8) -> None:
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()
        for _ in range(size):
            self._idle.put(None)

    def one(self, statement: str) -> Any:
        connection = self._idle.get(timeout=10)
        try:
            if connection is None:
                connection = psycopg2.connect(dbname="fieldops", connect_timeout=3)
                connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchone()
        except psycopg2.Error:
            if connection is not None:
                connection.close()
            connection = None
            raise
        finally:
            self._idle.put(connection)


class Counters:
    """What /statz returns; every number is exact, whichever thread counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.in_flight = self.refused = self.passed = 0
        self._since: float | None = None

    def enter(self) -> None:
        with self._lock:
            self.in_flight += 1

    def leave(self) -> None:
        with self._lock:
            self.in_flight -= 1

    def draining_since(self) -> float | None:
        since: float | None = None
        for marker in DRAINING:
            try:
                since = marker.stat().st_mtime
            except FileNotFoundError:
                continue
        with self._lock:
            if since != self._since:
                self._since, self.refused = since, 0
        return since

    def refuse_probe(self) -> None:
        with self._lock:
            self.refused += 1

    def pass_probe(self) -> None:
        with self._lock:
            self.passed += 1


DATABASE = Database()
COUNTERS = Counters()


class Handler(BaseHTTPRequestHandler):
    server_version = "fieldops-desk/" + BUILD["version"]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/healthz":
            self.health()
        elif path == "/statz":
            self.statistics()
        elif path == "/":
            self.orders()
        else:
            self.answer(404, {"error": "not found"})

    def orders(self) -> None:
        COUNTERS.enter()
        try:
            slow()
            (orders,) = DATABASE.one("SELECT count(*) FROM work_orders")
            self.answer(
                200,
                {
                    "host": os.environ.get("FIELDOPS_HOST", socket.gethostname()),
                    "slot": os.environ.get("FIELDOPS_SLOT") or None,
                    "version": BUILD["version"],
                    "started": STARTED,
                    "orders": orders,
                },
            )
        except (psycopg2.Error, queue.Empty) as error:
            self.answer(500, {"error": "database: " + " ".join(str(error).split())})
        finally:
            COUNTERS.leave()

    def health(self) -> None:
        slow()
        facts = {"version": BUILD["version"], "started": STARTED, "pid": os.getpid()}
        probe = PROBE in self.headers.get("User-Agent", "")
        if COUNTERS.draining_since() is not None:
            if probe:
                COUNTERS.refuse_probe()
            self.unhealthy(facts, "draining")
        elif BUILD["fault"] == "unhealthy":
            self.unhealthy(facts, "the self-test of this version fails")
        else:
            try:
                DATABASE.one("SELECT id FROM work_orders ORDER BY id LIMIT 1")
            except (psycopg2.Error, queue.Empty) as error:
                self.unhealthy(facts, "database: " + " ".join(str(error).split()))
            else:
                if probe:
                    COUNTERS.pass_probe()
                self.answer(200, {"ApplicationHealthState": "Healthy", **facts, "database": "ok"})

    def unhealthy(self, facts: dict[str, Any], reason: str) -> None:
        self.answer(503, {"ApplicationHealthState": "Unhealthy", "reason": reason, **facts})

    def statistics(self) -> None:
        COUNTERS.draining_since()
        self.answer(
            200,
            {
                "in_flight": COUNTERS.in_flight,
                "refused": COUNTERS.refused,
                "passed": COUNTERS.passed,
            },
        )

    def answer(self, status: int, body: dict[str, Any]) -> None:
        payload = json.dumps(body).encode() + b"\n"
        self.send_response(status, http.client.responses[status])
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        pass


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    request_queue_size = 256
    daemon_threads = False
    block_on_close = True


def slow() -> None:
    if BUILD["fault"] == "slow":
        time.sleep(0.8)


def tell_systemd(message: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(message.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


def main() -> None:
    if BUILD["fault"] == "crash":
        sys.exit("fieldops-desk " + BUILD["version"] + ": cannot read the schema of this database")
    server = Server(LISTEN, Handler)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    tell_systemd("READY=1")
    server.serve_forever(poll_interval=0.1)
    server.server_close()


if __name__ == "__main__":
    main()
