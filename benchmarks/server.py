"""`python -m benchmarks.server FOLDER MACHINES`: an emulator of Azure that holds a fleet of rows, until it is ended.

What callers meet is read from PATCHWAVE_SANDBOX_CONDITIONS. The first line printed is the environment of a client,
every later one a request: method, path, status, milliseconds.
"""

import asyncio
import json
import logging
import os
import sys
import threading
from ipaddress import IPv4Network
from pathlib import Path

from sandbox.azure.server.conditions import Conditions
from sandbox.azure.server.endpoints import Endpoints
from sandbox.config import Sandbox
from tests.fleet import IdleHosts, seed
from tests.slow_server import environment
from tests.unit.azure_emulator import StillBalancer


def main() -> None:
    """Serves; the first query has been asked already when the environment is printed."""
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    sandbox = Sandbox("inventory", folder, folder, IPv4Network("10.219.7.0/24"))
    endpoints = Endpoints(
        sandbox, IdleHosts(), (Path("/layer"),), StillBalancer(), sandbox.cache, Conditions.read(os.environ)
    )
    seed(endpoints.store, count)
    endpoints.graph.warm()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("patchwave.azure").setLevel(logging.INFO)

    def announce() -> None:
        endpoints.ready.wait()
        print(json.dumps(environment(sandbox)), flush=True)

    threading.Thread(target=announce, daemon=True).start()
    asyncio.run(endpoints.serve())


if __name__ == "__main__":
    main()
