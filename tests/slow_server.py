"""Both doors of an emulator of Azure on loopback, for clients that open real connections."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from sandbox.azure.resources.ids import SUBSCRIPTION
from sandbox.azure.server.endpoints import Doors
from sandbox.config import Sandbox


@contextlib.contextmanager
def served(doors: Doors) -> Iterator[dict[str, str]]:
    """The environment in which a client finds the doors while they are open."""
    thread = threading.Thread(target=lambda: asyncio.run(doors.serve()), daemon=True)
    thread.start()
    try:
        if not doors.ready.wait(60):
            raise TimeoutError("the doors do not open")
        yield environment(doors.sandbox)
    finally:
        doors.close()
        thread.join(20)


def environment(sandbox: Sandbox) -> dict[str, str]:
    """What a client's environment needs to find and trust the doors."""
    bundle = str(Path(sandbox.ca_bundle))
    return {
        "ARM_ENDPOINT": sandbox.endpoint,
        "ARM_SUBSCRIPTION_ID": SUBSCRIPTION,
        "AZURE_POD_IDENTITY_AUTHORITY_HOST": sandbox.identity,
        "REQUESTS_CA_BUNDLE": bundle,
        "SSL_CERT_FILE": bundle,
    }
