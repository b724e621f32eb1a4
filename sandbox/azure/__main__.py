"""`python -m sandbox.azure serve`: the daemon behind both endpoints."""

from __future__ import annotations

import argparse
import asyncio
import logging.config
import os
import signal
import sys
from pathlib import Path

from patchwave.base.errors import PatchwaveError
from sandbox.azure.server.conditions import Conditions
from sandbox.azure.server.endpoints import Endpoints
from sandbox.config import DEFAULT_NAME, Sandbox
from sandbox.lab.hosts import Hosts

LOGGING = {
    "version": 1, "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(message)s"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stdout"}},
    "root": {"handlers": ["out"], "level": "WARNING"}, "loggers": {"patchwave": {"level": "INFO"}},
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.azure")
    commands = parser.add_subparsers(required=True)
    serve = commands.add_parser("serve", help="serve the HTTPS endpoint and the identity endpoint")
    serve.add_argument("--project", type=Path, required=True)
    serve.add_argument("--name", default=DEFAULT_NAME)
    options = parser.parse_args(arguments)
    logging.config.dictConfig(LOGGING)
    try:
        sandbox = Sandbox.open(options.project, options.name)
        asyncio.run(_serve(Endpoints(sandbox, Hosts(sandbox), conditions=Conditions.read(os.environ))))
    except PatchwaveError as error:
        print(error, file=sys.stderr)
        return error.code
    return 0


async def _serve(endpoints: Endpoints) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, endpoints.close)
    await endpoints.serve()


if __name__ == "__main__":
    sys.exit(main())
