"""Both endpoints of an emulator of Azure on loopback, for clients that open real connections."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from sandbox.azure.resources.ids import SUBSCRIPTION
from sandbox.azure.server.endpoints import Endpoints
from sandbox.config import Sandbox


@contextlib.contextmanager
def served(endpoints: Endpoints) -> Iterator[dict[str, str]]:
    """The environment in which a client finds the endpoints while they are open."""
    thread = threading.Thread(target=lambda: asyncio.run(endpoints.serve()), daemon=True)
    thread.start()
    try:
        if not endpoints.ready.wait(60):
            raise TimeoutError("the endpoints do not open")
        yield environment(endpoints.sandbox)
    finally:
        endpoints.close()
        thread.join(20)


def environment(sandbox: Sandbox) -> dict[str, str]:
    """What a client's environment needs to find and trust the endpoints."""
    bundle = str(Path(sandbox.ca_bundle))
    return {
        "ARM_ENDPOINT": sandbox.endpoint,
        "ARM_SUBSCRIPTION_ID": SUBSCRIPTION,
        "AZURE_POD_IDENTITY_AUTHORITY_HOST": sandbox.identity,
        "REQUESTS_CA_BUNDLE": bundle,
        "SSL_CERT_FILE": bundle,
    }
