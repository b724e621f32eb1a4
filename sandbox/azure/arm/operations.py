"""What takes long: carried out in the background, and polled as the official clients' pollers do."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sandbox.azure.resources.errors import AzureError, conflict
from sandbox.azure.resources.ids import SUBSCRIPTION
from sandbox.azure.resources.kinds import Kind, Polling
from sandbox.azure.resources.store import Operation, Row, Store

Json = Any
_PATIENCE = {"microsoft.network": 2.0}
"""Seconds for which an answer waits for its operation, where they are more than the usual."""
_PATH = re.compile(r".*/(operations|operationresults)/([0-9a-f-]{36})/?", re.IGNORECASE)


@dataclass
class Answer:
    """What a request gets."""

    status: int
    body: Json = None
    headers: dict[str, str] = field(default_factory=dict)


class Operations:
    """The operations of one store; `run` carries one out and never raises."""

    def __init__(self, store: Store, endpoint: str, run: Callable[[Operation], None]) -> None:
        self._store = store
        self._endpoint = endpoint
        self._run = run
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="operation")
        self._running: dict[str, Future[None]] = {}
        self._guard = threading.Lock()

    def close(self, *, wait: bool) -> None:
        self._pool.shutdown(wait=wait, cancel_futures=True)

    def submit(self, operation: Operation) -> None:
        with self._guard:
            self._running = {key: future for key, future in self._running.items() if not future.done()}
            self._running[operation.id] = self._pool.submit(self._run, operation)

    def wait(self, operation: Operation, patience: float) -> Operation:
        """The operation as it is when it has ended, or after so many seconds."""
        future = self._running.get(operation.id)
        if future is not None:
            try:
                future.result(timeout=patience)
            except TimeoutError:
                return operation
        return self._store.operation(operation.id) or operation

    def carry_out(self, operation: Operation, type_: str) -> Operation:
        """Begins it, and waits for the short time that an answer may take; raises when it has failed by then."""
        self.submit(operation)
        ended = self.wait(operation, _PATIENCE.get(type_.split("/")[0], 0.05))
        _raise_failed(ended)
        return ended

    def pending(self, kind: Kind, operation: Operation, status: int) -> dict[str, str]:
        """The headers of a PUT's answer; none when there is nothing to wait for."""
        if operation.status == "Succeeded" and status != 202:
            return {}
        return self._headers(kind, operation, location=status == 202)

    def begun(self, kind: Kind, operation: Operation) -> Answer:
        """The answer to a POST whose result is fetched later."""
        return Answer(202, None, self._headers(kind, operation, location=True))

    def accepted(self, kind: Kind, operation: Operation) -> Answer:
        """The answer to a DELETE or a POST."""
        _raise_failed(operation)
        if operation.status == "Succeeded" and kind.polling is not Polling.BOTH:
            return Answer(200)
        alone = kind.polling is Polling.LOCATION
        return Answer(202, None, self._headers(kind, operation, location=True, asynchronous=not alone))

    def _headers(
        self, kind: Kind, operation: Operation, *, location: bool, asynchronous: bool = True
    ) -> dict[str, str]:
        base = f"{self._endpoint}/subscriptions/{SUBSCRIPTION}"
        namespace = kind.type.split("/")[0]
        place = base if namespace == "Microsoft.Resources" else f"{base}/providers/{namespace}/locations/sandbox"
        headers = {"Retry-After": "1"}
        if asynchronous:
            headers["Azure-AsyncOperation"] = f"{place}/operations/{operation.id}?api-version={kind.api}"
        if location:
            headers["Location"] = f"{place}/operationresults/{operation.id}?api-version={kind.api}"
        return headers

    def status(self, path: str, shown: Callable[[Row], Json]) -> Answer | None:
        """The answer at either header's address; None when the path is no operation's."""
        found = _PATH.fullmatch(path)
        if not found:
            return None
        operation = self._store.operation(found[2])
        if operation is None:
            raise AzureError(404, "OperationNotFound", f"The operation '{found[2]}' was not found.")
        if operation.status == "InProgress":
            operation = self.wait(operation, 5.0)
        if found[1].lower() == "operationresults":
            return self._result(path, operation, shown)
        body: dict[str, Json] = {
            "id": path, "name": operation.id, "status": operation.status, "startTime": _iso(operation.started),
        }  # fmt: skip
        if operation.finished:
            body["endTime"] = _iso(operation.finished)
        if operation.error:
            body["error"] = operation.error
        if operation.result is not None:
            body["properties"] = {"output": operation.result}
        return Answer(200, body, {"Retry-After": "1"} if operation.status == "InProgress" else {})

    def _result(self, path: str, operation: Operation, shown: Callable[[Row], Json]) -> Answer:
        _raise_failed(operation)
        if operation.status == "InProgress":
            again = f"{self._endpoint}{path}?api-version=2024-03-01"
            return Answer(202, None, {"Retry-After": "1", "Location": again})
        if operation.result is not None:
            return Answer(200, operation.result)
        made = self._store.get(operation.key) if operation.verb == "put" else None
        return Answer(200, shown(made) if made else None)


def _raise_failed(operation: Operation) -> None:
    if operation.error:
        raise conflict(operation.error["code"], operation.error["message"])


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
