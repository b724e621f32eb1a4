"""Azure Resource Graph: KQL over tables made from the store, with the service's paging, truncation and quota."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .errors import AzureError
from .ids import SUBSCRIPTION, TENANT
from .store import Row, Store

Json = Any
COLUMNS = (
    "id", "name", "type", "tenantId", "kind", "location", "resourceGroup", "subscriptionId", "managedBy", "sku", "plan",
    "properties", "tags", "identity", "zones", "extendedLocation",
)  # fmt: skip
_DYNAMIC = ("sku", "plan", "properties", "tags", "identity", "zones", "extendedLocation")
TABLES = (
    "resources", "resourcecontainers", "computeresources", "networkresources", "authorizationresources",
    "maintenanceresources", "patchassessmentresources", "patchinstallationresources", "alertsmanagementresources",
)  # fmt: skip
_ELSEWHERE = {
    "microsoft.resources/resourcegroups": "resourcecontainers",
    "microsoft.compute/virtualmachinescalesets/virtualmachines": "computeresources",
    "microsoft.authorization/roleassignments": "authorizationresources",
    "microsoft.maintenance/configurationassignments": "maintenanceresources",
}
_NOT_TRACKED = (
    "microsoft.compute/restorepointcollections/restorepoints",
    "microsoft.operationalinsights/workspaces/tables",
)
QUOTA, PERIOD = 15, 5.0
LARGEST_PAGE, DEFAULT_PAGE = 1000, 100


class Graph:
    """Answers queries; `extended` adds to a machine's properties what only Resource Graph knows of it."""

    def __init__(
        self, store: Store, extended: Callable[[Row], dict[str, Json]], clock: Callable[[], float] = time.monotonic
    ):
        self._store = store
        self._extended = extended
        self._clock = clock
        self._asked: deque[float] = deque()
        self._lock = threading.Lock()

    def query(self, body: Json) -> tuple[dict[str, Json], dict[str, str]]:
        """One page of rows and the quota's headers."""
        headers = self._quota()
        if not isinstance(body, Mapping) or not isinstance(body.get("query"), str):
            raise AzureError(400, "BadRequest", "Query is missing: the body needs a 'query'.", headers)
        options = body.get("options") or {}
        size, skip = _page(options, headers)
        rows, columns = self._rows(body, headers)
        token = options.get("$skipToken")
        if token is not None:
            skip = _offset(token, body["query"], headers)
        page = rows[skip : skip + size]
        more = skip + len(page) < len(rows)
        answer: dict[str, Json] = {
            "totalRecords": len(rows),
            "count": len(page),
            "resultTruncated": "true" if more and "id" not in columns else "false",
            "facets": [],
            "data": page if options.get("resultFormat", "objectArray") == "objectArray" else _table(page, columns),
        }
        if more and "id" in columns:
            answer["$skipToken"] = _token(skip + len(page), body["query"])
        return answer, headers

    def warm(self) -> None:
        """The first query takes a second longer than the next one: let no user wait for it."""
        self._rows({"query": "resources | where type =~ 'x' | project id | order by id asc"}, {})

    def _quota(self) -> dict[str, str]:
        with self._lock:
            now = self._clock()
            while self._asked and now - self._asked[0] >= PERIOD:
                self._asked.popleft()
            resets = max(0.0, PERIOD - (now - self._asked[0])) if self._asked else PERIOD
            left = QUOTA - len(self._asked)
            if left > 0:
                self._asked.append(now)
        headers = {
            "x-ms-user-quota-remaining": str(max(0, left - 1)),
            "x-ms-user-quota-resets-after": f"00:00:{max(1, round(resets)):02d}",
            "x-ms-resource-graph-request-duration": "0:00:00:00.0",
        }
        if left <= 0:
            raise AzureError(
                429, "RateLimiting",
                "Please provide below info when asking for support: the client application has been "
                "throttled and should "
                "not attempt to repeat the request until an amount of time has elapsed.",
                headers | {"Retry-After": str(max(1, round(resets)))},
            )  # fmt: skip
        return headers

    def _rows(self, body: Mapping[str, Json], headers: dict[str, str]) -> tuple[list[dict[str, Json]], list[str]]:
        import duckdb
        import duckdb_kql

        scope = body.get("subscriptions")
        seen = scope is None or SUBSCRIPTION in [str(one).lower() for one in scope]
        connection = duckdb_kql.connect()
        try:
            self._fill(connection, seen)
            found = duckdb_kql.query(connection, body["query"], allow_write=False)
            columns, kinds = list(found.columns), [str(kind).upper() for kind in found.types]
            return [
                {name: _plain(value, kind) for name, value, kind in zip(columns, values, kinds, strict=True)}
                for values in found.fetchall()
            ], columns
        except (duckdb_kql.KqlError, duckdb.Error, ValueError) as error:
            why = " ".join(str(error).split())
            raise AzureError(400, "BadRequest", f"InvalidQuery: Query is invalid. {why}", headers) from None
        finally:
            connection.close()

    def _fill(self, connection: Any, seen: bool) -> None:
        columns = ", ".join(f'"{name}" {"json" if name in _DYNAMIC else "varchar"}' for name in COLUMNS)
        for table in TABLES:
            connection.execute(f"create table {table} ({columns})")
        rows: dict[str, list[list[Json]]] = {}
        for row in self._store.all() if seen else ():
            if row.type not in _NOT_TRACKED and not row.deleting:
                rows.setdefault(_ELSEWHERE.get(row.type, "resources"), []).append(list(self._cells(row)))
        places = ", ".join("?" * len(COLUMNS))
        for table, cells in rows.items():
            connection.executemany(f"insert into {table} values ({places})", cells)  # noqa: S608 - names of our own

    def _cells(self, row: Row) -> Iterator[Json]:
        body = dict(row.body)
        extra = self._extended(row)
        if extra:
            body["properties"] = {**body.get("properties", {}), **extra}
        if row.type == "microsoft.resources/resourcegroups":
            body["type"] = "microsoft.resources/subscriptions/resourcegroups"
        body |= {"type": str(body.get("type", row.type)).lower(), "tenantId": TENANT, "subscriptionId": SUBSCRIPTION}
        body["resourceGroup"] = row.group.lower()
        for name in COLUMNS:
            value = body.get(name)
            yield (
                json.dumps(value)
                if name in _DYNAMIC and value is not None
                else value
                if name in _DYNAMIC
                else value or ""
            )


def _page(options: Mapping[str, Json], headers: dict[str, str]) -> tuple[int, int]:
    size, skip = options.get("$top", DEFAULT_PAGE), options.get("$skip", 0)
    if not isinstance(size, int) or not 1 <= size <= LARGEST_PAGE or not isinstance(skip, int) or skip < 0:
        raise AzureError(400, "BadRequest", f"$top must be 1 to {LARGEST_PAGE} and $skip not negative.", headers)
    return size, skip


def _token(offset: int, query: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([offset, query]).encode()).decode()


def _offset(token: str, query: str, headers: dict[str, str]) -> int:
    try:
        offset, asked = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError):
        offset, asked = None, None
    if asked != query or not isinstance(offset, int):
        raise AzureError(400, "BadRequest", "The $skipToken is invalid for this query.", headers)
    return offset


def _plain(value: Json, kind: str) -> Json:
    if isinstance(value, str) and kind == "JSON":
        return json.loads(value)
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=None).isoformat() + "Z"
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.timedelta):
        return str(value)
    if isinstance(value, list):
        return [_plain(one, kind.removesuffix("[]")) for one in value]
    return value


def _table(page: list[dict[str, Json]], columns: list[str]) -> dict[str, Json]:
    return {
        "columns": [{"name": name, "type": "object" if name in _DYNAMIC else "string"} for name in columns],
        "rows": [[row[name] for name in columns] for row in page],
    }
