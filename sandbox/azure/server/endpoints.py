"""Both endpoints over one store, put together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from sandbox.azure.arm import machines
from sandbox.azure.arm.effects import ARC, INSTANCE, MACHINE, Spreads
from sandbox.azure.arm.manager import Manager
from sandbox.azure.bodies import shape_cache
from sandbox.azure.bodies.wire import Wire
from sandbox.azure.queries.graph import Graph
from sandbox.azure.resources.places import Hosts, Places
from sandbox.azure.resources.store import Row, Store
from sandbox.azure.server import app, tls
from sandbox.azure.server.conditions import Conditions, Traffic
from sandbox.azure.server.haproxy import Balancer
from sandbox.azure.server.identity import Identity
from sandbox.config import HTTPS_PORT, IDENTITY_PORT, Sandbox
from sandbox.sample import package

LOG = logging.getLogger("patchwave.azure")


class Endpoints:
    """The HTTPS endpoint and the identity endpoint of one sandbox."""

    def __init__(
        self,
        sandbox: Sandbox,
        hosts: Hosts,
        layers: Sequence[Path] = (),
        balancer: Spreads | None = None,
        cache: Path | None = None,
        conditions: Conditions | None = None,
    ) -> None:
        tls.prepare(sandbox)
        self.sandbox = sandbox
        self.store = Store(sandbox.store)
        if layers:
            web = {"key": f"{machines.IMAGE}/versions/{package.FIRST}", "os": "Debian GNU/Linux", "files": {}}
            machines.provide(self.store, [web | {"layers": [str(layer) for layer in layers]}])
        wire = Wire(shape_cache.shapes(cache or sandbox.cache))
        conditions = conditions or Conditions()
        spreads = balancer or Balancer(sandbox, self.store)
        self.manager = Manager(self.store, wire, Places(sandbox), hosts, spreads, rationed=conditions.rationed)
        self.identity = Identity(sandbox.folder / "tokens.key", sandbox.endpoint)
        self.graph = Graph(self.store, self._extended)
        traffic = Traffic(conditions, lambda key: self.store.get(key) is not None)
        self.ready = threading.Event()
        self.applications = (
            app.resource_manager(self.manager, self.graph, self.identity, traffic, self.ready.is_set),
            app.identity_door(self.manager, self.identity),
        )
        self._servers = [
            _door(application, sandbox, port)
            for application, port in zip(self.applications, (HTTPS_PORT, IDENTITY_PORT), strict=True)
        ]

    async def serve(self) -> None:
        """Serves until `close`; what a kill has interrupted is taken up again first."""
        threading.Thread(target=self._resume, daemon=True).start()
        try:
            await asyncio.gather(*(server.serve() for server in self._servers))
        finally:
            self.manager.close()
            self.store.close()

    def close(self) -> None:
        """Lets `serve` end."""
        for server in self._servers:
            server.should_exit = True

    def _resume(self) -> None:
        try:
            self.manager.resume()
        except Exception:
            LOG.exception("the hosts could not be brought in line with the store")
        self.ready.set()
        with contextlib.suppress(Exception):
            self.graph.warm()

    def _extended(self, row: Row) -> dict[str, object]:
        """What Resource Graph shows of a machine beyond the resource itself."""
        if row.type in (MACHINE, INSTANCE):
            statuses = self.manager.instance_view(row, health=False)["statuses"]
            power = next(one for one in statuses if one["code"].startswith("PowerState/"))
            return {
                "extended": {"instanceView": {"powerState": power, "computerName": row.hidden.get("host", row.name)}}
            }
        if row.type == ARC:
            return {"status": "Connected" if self.manager.running(row) else "Disconnected"}
        return {}


class _Server(uvicorn.Server):
    """A server that leaves signals to the daemon."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _door(application: Starlette, sandbox: Sandbox, port: int) -> _Server:
    secure = port == HTTPS_PORT
    config = uvicorn.Config(
        application, host=sandbox.loopback, port=port, log_config=None, access_log=False, lifespan="off",
        timeout_graceful_shutdown=2, timeout_keep_alive=75,
        ssl_certfile=sandbox.tls_certificate if secure else None, ssl_keyfile=sandbox.tls_key if secure else None,
    )  # fmt: skip
    return _Server(config)
