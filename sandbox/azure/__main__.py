"""`python -m sandbox.azure serve`: the daemon behind both doors."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import logging.config
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from patchwave.errors import PatchwaveError
from sandbox import base, package
from sandbox.config import DEFAULT_NAME, HTTPS_PORT, IDENTITY_PORT, Sandbox
from sandbox.hosts import Hosts

from . import app, kinds, machines, places, tls
from .effects import ARC, INSTANCE, MACHINE
from .graph import Graph
from .haproxy import Balancer
from .identity import Identity
from .manager import Manager
from .store import Row, Store
from .wire import Wire

_LOGGING = {
    "version": 1, "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(message)s"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stdout"}},
    "root": {"handlers": ["out"], "level": "WARNING"}, "loggers": {"patchwave": {"level": "INFO"}},
}  # fmt: skip


class _Door(uvicorn.Server):
    """A server that leaves signals to the daemon."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main(arguments: list[str] | None = None) -> int:
    """Serves until it is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.azure")
    commands = parser.add_subparsers(required=True)
    serve = commands.add_parser("serve", help="serve the HTTPS door and the identity door")
    serve.add_argument("--project", type=Path, required=True)
    serve.add_argument("--name", default=DEFAULT_NAME)
    options = parser.parse_args(arguments)
    logging.config.dictConfig(_LOGGING)
    try:
        sandbox = Sandbox.open(options.project, options.name)
        layers = base.image_lower(sandbox, base.IMAGE, package.FIRST)
        asyncio.run(serve_doors(sandbox, Hosts(sandbox), layers))
    except PatchwaveError as error:
        print(error, file=sys.stderr)
        return error.code
    return 0


async def serve_doors(sandbox: Sandbox, hosts: places.Hosts, layers: tuple[Path, ...]) -> None:
    """Both doors, until a signal; machines become hosts, the shared image has these layers."""
    tls.prepare(sandbox)
    store = Store(sandbox.store)
    machines.seed(store, package.FIRST, [str(layer) for layer in layers])
    wire = Wire(kinds.shapes(sandbox.cache))
    manager = Manager(store, wire, places.Places(sandbox), hosts, Balancer(sandbox, store))
    identity = Identity(sandbox.folder / "tokens.key", sandbox.endpoint)
    graph = Graph(store, lambda row: _extended(manager, row))
    ready = threading.Event()

    def start() -> None:
        try:
            manager.resume()
        except Exception:
            logging.getLogger("patchwave.azure").exception("the hosts could not be brought in line with the store")
        ready.set()
        graph.warm()

    threading.Thread(target=start, daemon=True).start()
    doors = [
        _door(app.resource_manager(manager, graph, identity, ready.is_set), sandbox, HTTPS_PORT, secure=True),
        _door(app.identity_door(manager, identity), sandbox, IDENTITY_PORT, secure=False),
    ]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _close, doors)
    try:
        await asyncio.gather(*(door.serve() for door in doors))
    finally:
        manager.close()
        store.close()


def _close(doors: list[_Door]) -> None:
    for door in doors:
        door.should_exit = True


def _door(application: Starlette, sandbox: Sandbox, port: int, *, secure: bool) -> _Door:
    config = uvicorn.Config(
        application, host=sandbox.loopback, port=port, log_config=None, access_log=False, lifespan="off",
        timeout_graceful_shutdown=2, timeout_keep_alive=75,
        ssl_certfile=sandbox.tls_certificate if secure else None, ssl_keyfile=sandbox.tls_key if secure else None,
    )  # fmt: skip
    return _Door(config)


def _extended(manager: Manager, row: Row) -> dict[str, object]:
    """What Resource Graph shows of a machine beyond the resource itself."""
    if row.type in (MACHINE, INSTANCE):
        statuses = manager.instance_view(row, health=False)["statuses"]
        power = next(one for one in statuses if one["code"].startswith("PowerState/"))
        return {"extended": {"instanceView": {"powerState": power, "computerName": row.hidden["host"]}}}
    if row.type == ARC:
        return {"status": "Connected" if manager.running(row) else "Disconnected"}
    return {}


if __name__ == "__main__":
    sys.exit(main())
