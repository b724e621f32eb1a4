"""Many requests in one: the endpoint that Azure's portal uses, and with it Ansible's `azure_rm` inventory.

It is not documented by Microsoft; its shape is what its users describe, such as
https://maciejporebski.github.io/azure-management-batch-api
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sandbox.azure.arm.manager import Answer
from sandbox.azure.resources.errors import AzureError, bad_request

Json = Any
Handle = Callable[[str, str, Mapping[str, str], Json], Answer]
LARGEST, AT_ONCE = 500, 20
KEPT = 32


class Batches:
    """Carries batches out; up to 20 requests are answered at once, more by a second request to their `Location`."""

    def __init__(self, handle: Handle, endpoint: str) -> None:
        self._handle = handle
        self._endpoint = endpoint
        self._done: OrderedDict[str, list[dict[str, Json]]] = OrderedDict()
        self._guard = threading.Lock()

    def post(self, body: Json, version: str) -> Answer:
        """The answers of a batch, or where they will be."""
        requests = body.get("requests") if isinstance(body, Mapping) else None
        if not isinstance(requests, list) or not 1 <= len(requests) <= LARGEST:
            raise bad_request("InvalidBatchRequest", f"A batch has 1 to {LARGEST} requests.")
        answers = [self._one(request) for request in requests]
        if len(requests) <= AT_ONCE:
            return Answer(200, {"responses": answers})
        identity = str(uuid.uuid4())
        with self._guard:
            self._done[identity] = answers
            while len(self._done) > KEPT:
                self._done.popitem(last=False)
        location = f"{self._endpoint}/batch/{identity}?api-version={version}"
        return Answer(202, None, {"Location": location, "Retry-After": "1"})

    def get(self, identity: str) -> Answer:
        """The answers of a batch that was too large to be answered at once."""
        with self._guard:
            answers = self._done.get(identity)
        if answers is None:
            raise AzureError(404, "BatchNotFound", f"The batch '{identity}' could not be found.")
        return Answer(200, {"value": answers})

    def _one(self, request: Json) -> dict[str, Json]:
        if not isinstance(request, Mapping):
            raise bad_request("InvalidBatchRequest", "Each request of a batch is an object.")
        target = urlsplit(str(request.get("url") or request.get("relativeUrl") or ""))
        query = {name.lower(): value for name, value in parse_qsl(target.query)}
        try:
            answer = self._handle(str(request.get("httpMethod")).upper(), target.path, query, request.get("content"))
            status, content, headers = answer.status, answer.body, answer.headers
        except AzureError as refusal:
            status, content, headers = refusal.status, refusal.envelope, refusal.headers
        return {"name": request.get("name"), "httpStatusCode": status, "headers": headers, "content": content}
