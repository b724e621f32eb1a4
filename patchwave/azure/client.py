"""A thin client of Azure Resource Manager: one call, its paging, and its long-running operations.

The clients below it are imported when one is made: the Pulumi program names hosts and restore points without calling
Azure, and would pay for them with memory and time at each preview.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from datetime import timedelta
from random import SystemRandom
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from patchwave.base.errors import Failed, UsageError

if TYPE_CHECKING:
    import httpx

DEFAULT_ENDPOINT = "https://management.azure.com"
COMPUTE = "2024-11-01"
GRAPH = "2022-10-01"
PAGE = 1000
NO_SUBSCRIPTION = "NoValidSubscriptionsInQueryRequest"
UNREADABLE = "nothing of it can be read: give this runner's identity Reader there, or correct the id"
ATTEMPTS = 8
LONGEST_PAUSE = 4.0
PATIENCE = 60.0
CHANCE = SystemRandom().random
MANAGEMENT = "https://management.azure.com/.default"
LOGS = "https://api.loganalytics.io"


class Conflict(Failed):
    """The resource was changed, or is being changed, by someone else: read it again, then decide again."""


class Arm:
    """Calls the resource manager that ARM_ENDPOINT names, as the identity that azure-identity finds.

    `chance` gives numbers from 0 to 1 that spread repeated calls, so that many runners do not call at once.
    """

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        chance: Callable[[], float] = CHANCE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        import httpx
        from azure.identity import DefaultAzureCredential

        self.endpoint = environ.get("ARM_ENDPOINT", DEFAULT_ENDPOINT).rstrip("/")
        try:
            self.subscription = environ["ARM_SUBSCRIPTION_ID"]
        except KeyError:
            raise UsageError(
                "ARM_SUBSCRIPTION_ID is not set: export it, or `source .sandbox/env` for the sandbox"
            ) from None
        # an endpoint of its own, as a sovereign cloud has one, answers queries as well
        self._logs = LOGS if self.endpoint == DEFAULT_ENDPOINT else self.endpoint
        logging.getLogger("azure.identity").setLevel(logging.CRITICAL)  # it repeats an error in many lines
        self._credential = DefaultAzureCredential(
            exclude_interactive_browser_credential=True,
            exclude_powershell_credential=True,
            exclude_developer_cli_credential=True,
            exclude_shared_token_cache_credential=True,
            exclude_visual_studio_code_credential=True,
        )
        self._http = httpx.Client(timeout=60)
        self._chance = chance
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
        self._credential.close()

    def sign_in(self, scope: str = MANAGEMENT) -> str:
        """A token for a scope; Failed where the identity has none."""
        from azure.core.exceptions import ClientAuthenticationError

        try:
            return self._credential.get_token(scope).token
        except ClientAuthenticationError as error:
            why = " ".join(str(error.message).split())[:200]
            raise Failed(f"no sign-in to Azure ({why}): run `az login`, or give this runner an identity") from None

    def call(
        self, method: str, path: str, *, api: str, body: Any = None, if_match: str | None = None
    ) -> dict[str, Any]:
        """One operation, waited for until it ends; Failed carries Azure's own code and message.

        With `if_match` only the version with that etag is changed; Conflict when there is another by now.
        """
        url = path if path.startswith("https://") else f"{self.endpoint}{path}"
        answer = self._send(method, url, {"api-version": api}, body, MANAGEMENT, if_match=if_match)
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
            answer = self._send("GET", follow, {}, None, MANAGEMENT)
            page = answer.json()

    def graph(self, query: str, subscriptions: Sequence[str] = ()) -> list[dict[str, Any]]:
        """All rows of a Resource Graph query over subscriptions, the own one by default; half an answer is an error.

        A subscription that cannot be read gives no rows and no error, unless none of them can be read.
        https://learn.microsoft.com/azure/governance/resource-graph/concepts/work-with-data
        """
        rows: list[dict[str, Any]] = []
        tokens: set[str] = set()
        options: dict[str, Any] = {"$top": PAGE, "resultFormat": "objectArray"}
        while True:
            answer = self._graph_page(query, subscriptions or [self.subscription], options)
            page = answer.json()
            rows += page["data"]
            token = page.get("$skipToken")
            if token is None:
                break
            if token in tokens:
                raise Failed("Resource Graph named the same page twice: run again in a minute")
            tokens.add(token)
            options = {**options, "$skipToken": token}
            self._keep_quota(answer)
        return _whole(rows, page)

    def _graph_page(self, query: str, subscriptions: Sequence[str], options: Mapping[str, Any]) -> httpx.Response:
        url = f"{self.endpoint}/providers/Microsoft.ResourceGraph/resources"
        body = {"subscriptions": list(subscriptions), "query": query, "options": options}
        try:
            answer = self._send("POST", url, {"api-version": GRAPH}, body, MANAGEMENT, repeatable=True)
        except Failed as error:
            if NO_SUBSCRIPTION in str(error):
                raise Failed(f"subscription {', '.join(subscriptions)}: {UNREADABLE}") from None
            raise
        if answer.headers.get("x-ms-tenant-subscription-limit-hit", "").lower() == "true":
            raise Failed("Resource Graph left subscriptions out: the identity sees more than 10,000, give it fewer")
        return answer

    def _keep_quota(self, answer: httpx.Response) -> None:
        """Waits for new quota when this answer has used the last of it.

        https://learn.microsoft.com/azure/governance/resource-graph/concepts/guidance-for-throttled-requests
        """
        if answer.headers.get("x-ms-user-quota-remaining") == "0":
            self._sleep(_quota_resets(answer) + self._chance() / 2)

    def ingest(self, endpoint: str, rule: str, stream: str, rows: list[MutableMapping[str, Any]]) -> None:
        """Rows into a custom table, by the Logs Ingestion API, in as many calls as they need."""
        from azure.core.exceptions import AzureError
        from azure.monitor.ingestion import LogsIngestionClient

        try:
            with LogsIngestionClient(endpoint, self._credential) as client:
                client.upload(rule, stream, rows)
        except AzureError as error:
            raise Failed(f"{stream}: {' '.join(error.message.split())}") from None

    def query_logs(self, workspace: str, query: str, timeout: float) -> list[list[object]]:
        """The rows of the first table that a KQL query of a workspace gives, within so many seconds."""
        url = f"{self._logs}/v1/workspaces/{workspace}/query"
        answer = self._send("POST", url, {}, {"query": query}, f"{LOGS}/.default", repeatable=True, timeout=timeout)
        try:
            rows: list[list[object]] = answer.json()["tables"][0]["rows"]
        except (ValueError, KeyError, IndexError, TypeError):
            raise Failed(f"workspace {workspace}: the answer holds no table: look at the query") from None
        return rows

    def _send(
        self,
        method: str,
        url: str,
        params: dict[str, str],
        body: Any,
        scope: str,
        *,
        repeatable: bool = False,
        timeout: float = 60,
        if_match: str | None = None,
    ) -> httpx.Response:
        import httpx

        headers = {"Authorization": f"Bearer {self.sign_in(scope)}"}
        headers |= {"If-Match": if_match} if if_match else {}
        for attempt in range(1, ATTEMPTS + 1):
            pause = min(LONGEST_PAUSE, 2**attempt / 8) * (1 + self._chance()) / 2
            try:
                answer = self._http.request(
                    method, httpx.URL(url).copy_merge_params(params), json=body, headers=headers, timeout=timeout
                )
            except httpx.TransportError as error:
                if attempt == ATTEMPTS or (method == "POST" and not repeatable):
                    raise Failed(f"{method} {url}: {error}: is the resource manager reachable?") from None
                self._sleep(pause)
                continue
            if (answer.status_code == 429 or answer.status_code >= 500) and attempt < ATTEMPTS:
                wanted = _wanted_pause(answer)
                if wanted is None or wanted <= PATIENCE:
                    self._sleep(pause if wanted is None else wanted + self._chance() / 10)
                    continue
            if answer.is_error:
                kind = Conflict if answer.status_code in (409, 412) else Failed
                raise kind(f"{method} {url.removeprefix(self.endpoint)}: {_problem(answer)}")
            return answer
        raise AssertionError("the last attempt returns or raises")

    def _wait(self, poll: str, what: str, first: httpx.Response) -> None:
        pause = float(first.headers.get("Retry-After", 1))
        while True:
            self._sleep(pause)
            answer = self._send("GET", poll, {}, None, MANAGEMENT)
            if answer.status_code == 202:
                continue
            status = answer.json().get("status", "Succeeded") if answer.content else "Succeeded"
            if status == "Succeeded":
                return
            if status in ("Failed", "Canceled"):
                raise Failed(f"{what}: {_problem(answer)}")
            pause = float(answer.headers.get("Retry-After", pause))


def _whole(rows: list[dict[str, Any]], last: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows, if they are all that the query has and no page came twice."""
    if last.get("resultTruncated") == "true":
        raise Failed(
            f"Resource Graph cut its answer off after {len(rows)} of {last['totalRecords']} rows: project the id"
        )
    if len(rows) != last["totalRecords"]:
        raise Failed(f"Resource Graph returned {len(rows)} of {last['totalRecords']} rows: run again in a minute")
    if len({str(row["id"]).lower() for row in rows}) != len(rows):
        raise Failed("Resource Graph returned a row twice: resources changed between two pages, run again in a minute")
    return rows


def _wanted_pause(answer: httpx.Response) -> float | None:
    """The seconds of the service's Retry-After, if it sent one."""
    try:
        return float(answer.headers["Retry-After"])
    except (KeyError, ValueError):
        return _quota_resets(answer) if "x-ms-user-quota-resets-after" in answer.headers else None


def _quota_resets(answer: httpx.Response) -> float:
    hours, minutes, seconds = answer.headers.get("x-ms-user-quota-resets-after", "00:00:05").split(":")
    return timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds)).total_seconds()


def _problem(answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
        parts = [f"{one['code']}: {one['message']}" for one in (error, *error.get("details", [])[-1:])]
        return " ".join(" ".join(parts).split())
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code} {' '.join(answer.text.split())[:200]}"
