"""The plugin's way to the HTTPS endpoint: the official SDK's client, with the identity that azure-identity finds."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any

from sandbox.azure.resources.ids import SUBSCRIPTION

Json = Any


class Refusal(Exception):
    """Azure's answer as `Code: message`, on one line."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(" ".join(text.split()))
        self.status = status


class Client:
    """CRUD by id; long-running operations are waited for unless `cancelled` is set."""

    def __init__(self, subscription: str, cancelled: threading.Event) -> None:
        self.subscription = subscription or os.environ.get("ARM_SUBSCRIPTION_ID", SUBSCRIPTION)
        self._endpoint = os.environ.get("ARM_ENDPOINT", "")
        self._cancelled = cancelled
        self._lock = threading.Lock()

    @cached_property
    def _resources(self) -> Json:
        from azure.identity import ManagedIdentityCredential
        from azure.mgmt.resource.resources import ResourceManagementClient

        if not self._endpoint:
            raise Refusal("ARM_ENDPOINT is not set: `source .sandbox/env` first, this plugin is the sandbox's emulator")
        client = ResourceManagementClient(
            ManagedIdentityCredential(), self.subscription, base_url=self._endpoint,
            credential_scopes=["https://management.azure.com/.default"],
            retry_total=4, retry_backoff_factor=0.3,
        )  # fmt: skip
        return client.resources

    def get(self, identity: str, api: str) -> Json | None:
        """The wire body, or None when there is no such resource."""
        try:
            return self._call(lambda: self._made().get_by_id(identity, api_version=api, cls=_body))
        except Refusal as refusal:
            if refusal.status == 404:
                return None
            raise

    def put(self, identity: str, api: str, body: Json) -> Json:
        """The wire body after the operation has ended."""
        content = io.BytesIO(json.dumps(body).encode())
        return self._wait(
            lambda: self._made().begin_create_or_update_by_id(identity, content, api_version=api, cls=_body)
        )

    def delete(self, identity: str, api: str) -> None:
        """Gone when this returns, also when it was gone before."""
        try:
            self._wait(lambda: self._made().begin_delete_by_id(identity, api_version=api))
        except Refusal as refusal:
            if refusal.status != 404:
                raise

    def _made(self) -> Json:
        with self._lock:
            return self._resources

    def _wait(self, begin: Callable[[], Json]) -> Json:
        def wait() -> Json:
            poller = begin()
            while not poller.done():
                poller.wait(0.2)
                if self._cancelled.is_set():
                    raise Refusal("canceled: the operation goes on in Azure; run again to see how it ended")
            return poller.result()

        return self._call(wait)

    def _call(self, do: Callable[[], Json]) -> Json:
        from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

        try:
            return do()
        except ClientAuthenticationError as error:
            raise Refusal(f"AuthenticationFailed: {error.message}", 401) from None
        except HttpResponseError as error:
            status = error.status_code or 0
            if error.error is not None and error.error.code:
                raise Refusal(f"{error.error.code}: {error.error.message}", status) from None
            raise Refusal(f"HTTP {status}: {error.message}", status) from None
        except AzureError as error:
            raise Refusal(f"{self._endpoint} does not answer ({error.message}): is the sandbox up? `make up`") from None


def _body(response: Json, *_: Json) -> Json:
    return response.http_response.json() if response.http_response.body() else None
