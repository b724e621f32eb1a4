"""A thin client of Azure Resource Manager: one call, its paging, and its long-running operations."""

import os
import time
from collections.abc import Iterator, Mapping, MutableMapping
from types import TracebackType
from typing import Any, Self

import httpx
from azure.core.exceptions import AzureError
from azure.identity import DefaultAzureCredential
from azure.monitor.ingestion import LogsIngestionClient

from patchwave.errors import Failed, Misuse

DEFAULT_ENDPOINT = "https://management.azure.com"
COMPUTE = "2024-11-01"
NETWORK = "2024-05-01"
GRAPH = "2022-10-01"
PAGE = 1000
ATTEMPTS = 6
PATIENCE = 60.0


class Arm:
    """Calls the resource manager that ARM_ENDPOINT names, as the identity that azure-identity finds."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.endpoint = environ.get("ARM_ENDPOINT", DEFAULT_ENDPOINT).rstrip("/")
        try:
            self.subscription = environ["ARM_SUBSCRIPTION_ID"]
        except KeyError:
            raise Misuse(
                "ARM_SUBSCRIPTION_ID is not set: export it, or `source .sandbox/env` for the sandbox"
            ) from None
        self._credential = DefaultAzureCredential(
            exclude_interactive_browser_credential=True,
            exclude_powershell_credential=True,
            exclude_developer_cli_credential=True,
            exclude_shared_token_cache_credential=True,
            exclude_visual_studio_code_credential=True,
        )
        self._http = httpx.Client(timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
        self._credential.close()

    def call(self, method: str, path: str, *, api: str, body: Any = None) -> dict[str, Any]:
        """One operation, waited for until it ends; Failed carries Azure's own code and message."""
        url = path if path.startswith("https://") else f"{self.endpoint}{path}"
        answer = self._send(method, url, {"api-version": api}, body, "https://management.azure.com/.default")
        later = answer.headers.get("Location") if answer.status_code in (201, 202) else None
        if poll := answer.headers.get("Azure-AsyncOperation") or later:
            self._wait(poll, f"{method} {path}", answer)
            if method in ("PUT", "PATCH"):
                return self.call("GET", path, api=api)
        return answer.json() if answer.content else {}

    def pages(self, path: str, *, api: str) -> Iterator[dict[str, Any]]:
        """Every item of a paged list."""
        page = self.call("GET", path, api=api)
        while True:
            yield from page["value"]
            if not (follow := page.get("nextLink")):
                return
            answer = self._send("GET", follow, {}, None, "https://management.azure.com/.default")
            page = answer.json()

    def graph(self, query: str) -> list[dict[str, Any]]:
        """All rows of a Resource Graph query over the subscription; a short answer is an error, not a smaller fleet.

        https://learn.microsoft.com/azure/governance/resource-graph/concepts/work-with-data
        """
        rows: list[dict[str, Any]] = []
        options: dict[str, Any] = {"$top": PAGE, "resultFormat": "objectArray"}
        while True:
            body = {"subscriptions": [self.subscription], "query": query, "options": options}
            page = self.call("POST", "/providers/Microsoft.ResourceGraph/resources", api=GRAPH, body=body)
            rows += page["data"]
            token = page.get("$skipToken")
            if token is None:
                break
            options = {**options, "$skipToken": token}
        if len(rows) != page["totalRecords"]:
            raise Failed(f"Resource Graph returned {len(rows)} of {page['totalRecords']} rows: run again in a minute")
        return rows

    def ingest(self, endpoint: str, rule: str, stream: str, rows: list[MutableMapping[str, Any]]) -> None:
        """Rows into a custom table, by the Logs Ingestion API, in as many calls as they need."""
        try:
            with LogsIngestionClient(endpoint, self._credential) as client:
                client.upload(rule, stream, rows)
        except AzureError as error:
            raise Failed(f"{stream}: {' '.join(error.message.split())}") from None

    def _send(self, method: str, url: str, params: dict[str, str], body: Any, scope: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._credential.get_token(scope).token}"}
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self._http.request(method, url, params=params or None, json=body, headers=headers)
            except httpx.TransportError as error:
                if attempt == ATTEMPTS or method == "POST":
                    raise Failed(f"{method} {url}: {error}: is the resource manager reachable?") from None
                time.sleep(2**attempt / 4)
                continue
            if (answer.status_code == 429 or answer.status_code >= 500) and attempt < ATTEMPTS:
                pause = float(answer.headers.get("Retry-After", 2**attempt / 4))
                if pause <= PATIENCE:
                    time.sleep(pause)
                    continue
            if answer.is_error:
                raise Failed(f"{method} {url.removeprefix(self.endpoint)}: {_problem(answer)}")
            return answer
        raise AssertionError("the last attempt returns or raises")

    def _wait(self, poll: str, what: str, first: httpx.Response) -> None:
        pause = float(first.headers.get("Retry-After", 1))
        while True:
            time.sleep(pause)
            answer = self._send("GET", poll, {}, None, "https://management.azure.com/.default")
            if answer.status_code == 202:
                continue
            status = answer.json().get("status", "Succeeded") if answer.content else "Succeeded"
            if status == "Succeeded":
                return
            if status in ("Failed", "Canceled"):
                raise Failed(f"{what}: {_problem(answer)}")
            pause = float(answer.headers.get("Retry-After", pause))


def _problem(answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
        return f"{error['code']}: {' '.join(str(error['message']).split())}"
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code} {' '.join(answer.text.split())[:200]}"
