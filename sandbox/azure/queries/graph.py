"""Azure Resource Graph: KQL over tables made from the store, with the service's paging, truncation and quota.

https://learn.microsoft.com/azure/governance/resource-graph/concepts/work-with-data
https://learn.microsoft.com/azure/governance/resource-graph/reference/supported-tables-resources
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sandbox.azure.arm import patching, runs
from sandbox.azure.arm.complete import interfaces
from sandbox.azure.arm.effects import ARC, INSTANCE, MACHINE
from sandbox.azure.language import graph_language, kql
from sandbox.azure.language.graph_language import GraphError
from sandbox.azure.resources.errors import AzureError, not_implemented
from sandbox.azure.resources.ids import SUBSCRIPTION, TENANT
from sandbox.azure.resources.store import Row, Store

Json = Any
COLUMNS = dict.fromkeys(
    ("id", "name", "type", "tenantId", "kind", "location", "resourceGroup", "subscriptionId", "managedBy"), "string"
) | dict.fromkeys(("sku", "plan", "properties", "tags", "identity", "zones", "extendedLocation"), "dynamic")
SUBSCRIPTION_ID = list(COLUMNS).index("subscriptionId")
TABLES = dict.fromkeys((
    "resources", "resourcecontainers", "computeresources", "networkresources", "authorizationresources",
    "maintenanceresources", "patchassessmentresources", "patchinstallationresources", "alertsmanagementresources",
    "recoveryservicesresources",
), COLUMNS)  # fmt: skip
INSTANCE_NIC = f"{INSTANCE}/networkinterfaces"
_ELSEWHERE = {
    runs.TYPE: "maintenanceresources",
    "microsoft.resources/resourcegroups": "resourcecontainers",
    INSTANCE: "computeresources",
    INSTANCE_NIC: "computeresources",
    "microsoft.authorization/roleassignments": "authorizationresources",
    "microsoft.maintenance/configurationassignments": "maintenanceresources",
    "microsoft.recoveryservices/vaults/backuppolicies": "recoveryservicesresources",
    "microsoft.recoveryservices/vaults/backupfabrics/protectioncontainers/protecteditems": "recoveryservicesresources",
}
_ELSEWHERE |= dict(patching.tables((MACHINE, ARC)))
_NOT_TRACKED = (
    "microsoft.compute/restorepointcollections/restorepoints",
    "microsoft.operationalinsights/workspaces/tables",
    "microsoft.eventgrid/systemtopics/eventsubscriptions",
)
_HOSTED = (MACHINE, INSTANCE, ARC)
_FORMATS = ("objectArray", "table")
_SHOWN_AS = {
    "string": "string", "int": "integer", "long": "integer", "real": "number", "decimal": "number", "bool": "boolean",
    "datetime": "datetime",
}  # fmt: skip
"""https://learn.microsoft.com/rest/api/azureresourcegraph/resourcegraph/resources/resources#columndatatype"""
QUOTA, PERIOD = 15, 5.0
LARGEST_PAGE, DEFAULT_PAGE = 1000, 100
ANSWERS_KEPT = 8
PATIENCE = 60.0


class Graph:
    """Answers queries; `extended` adds to a machine's properties what only Resource Graph knows of it."""

    def __init__(
        self, store: Store, extended: Callable[[Row], dict[str, Json]], clock: Callable[[], float] = time.monotonic
    ):
        self._store = store
        self._extended = extended
        self._clock = clock
        self._requests: deque[float] = deque()
        self._quota_guard = threading.Lock()
        self._guard = threading.Lock()
        self._tables: dict[frozenset[str] | None, kql.Database] = {}
        self._rows: dict[str, list[list[Json]]] = {}
        self._version = (-1, -1)
        self._hosted: list[Row] = []
        self._seen_of_hosts: list[dict[str, Json]] = []
        self._kept: OrderedDict[str, kql.Found] = OrderedDict()

    def query(self, body: Json) -> tuple[dict[str, Json], dict[str, str]]:
        """One page of rows and the quota's headers."""
        headers = self._quota()
        try:
            return self._page(body), headers
        except AzureError as refusal:
            refusal.headers |= headers
            raise

    def warm(self) -> None:
        """The first query takes a second longer than the next one: let no user wait for it."""
        self._page({"query": "resources | where type =~ 'x' | project id | order by id asc"})

    def _page(self, body: Json) -> dict[str, Json]:
        if not isinstance(body, Mapping) or not isinstance(body.get("query"), str):
            raise GraphError(400, "BadRequest", ("BadRequest", "Query is missing: the body needs a 'query'."))
        options = body.get("options") or {}
        size, skip, shape = _options(options)
        named = body.get("subscriptions")
        scope = None if named is None else frozenset(str(one).lower() for one in named)
        query_digest = hashlib.sha256(f"{sorted(scope or ())} {body['query']}".encode()).hexdigest()[:16]
        name = ""
        if (token := options.get("$skipToken")) is not None:
            name, skip = _read_token(token, query_digest)
        with self._guard:
            if name not in self._kept:
                name = self._ask(body["query"], scope)
            found = self._kept[name]
        page, names = found.page(skip, size), [column for column, _ in found.columns]
        more, pageable = skip + len(page) < len(found.cells), "id" in names
        answer: dict[str, Json] = {
            "totalRecords": len(found.cells),
            "count": len(page),
            "resultTruncated": "true" if more and not pageable else "false",
            "facets": [],
            "data": _table(page, found.columns)
            if shape == "table"
            else [dict(zip(names, row, strict=True)) for row in page],
        }
        if more and pageable:
            answer["$skipToken"] = _token(name, skip + len(page), query_digest)
        return answer

    def _quota(self) -> dict[str, str]:
        with self._quota_guard:
            now = self._clock()
            while self._requests and now - self._requests[0] >= PERIOD:
                self._requests.popleft()
            resets = max(0.0, PERIOD - (now - self._requests[0])) if self._requests else PERIOD
            left = QUOTA - len(self._requests)
            if left > 0:
                self._requests.append(now)
        headers = {
            "x-ms-user-quota-remaining": str(max(0, left - 1)),
            "x-ms-user-quota-resets-after": f"00:00:{max(1, round(resets)):02d}",
            "x-ms-resource-graph-request-duration": "0:00:00:00.0",
        }
        if left <= 0:
            raise GraphError(
                429, "RateLimiting",
                ("RateLimiting", "Client application has been throttled and should not attempt to repeat the request "
                 "until an amount of time has elapsed. Please see https://aka.ms/resourcegraph-throttling for help."),
                headers=headers | {"Retry-After": str(max(1, round(resets)))},
            )  # fmt: skip
        return headers

    def _ask(self, query: str, scope: frozenset[str] | None) -> str:
        """Under which name the answer, as things are now, is kept for the requests that follow with its token.

        Subscriptions that do not exist are passed over, unless all of them are such.
        """
        graph_language.check(query, TABLES)
        self._refresh()
        if scope is not None:
            known = {str(row[SUBSCRIPTION_ID]) for rows in self._rows.values() for row in rows}
            if not scope & known:
                raise GraphError(400, "BadRequest", (
                    "NoValidSubscriptionsInQueryRequest", "There must be at least one subscription that is eligible to "
                    f"contain resources. Given: '{', '.join(sorted(scope))}'."))  # fmt: skip
            scope = None if scope >= known else scope & known
        if scope not in self._tables:
            self._tables[scope] = _tables(self._rows, scope)
        try:
            found = self._tables[scope].ask(query, most=sys.maxsize, seconds=PATIENCE)
        except kql.Unsupported as problem:
            raise not_implemented(problem) from None
        except kql.TooLong as problem:
            raise GraphError(504, "GatewayTimeout", ("GatewayTimeout", str(problem))) from None
        except kql.Problem as problem:
            raise graph_language.invalid("SemanticError", str(problem)) from None
        name = uuid.uuid4().hex
        self._kept[name] = found
        while len(self._kept) > ANSWERS_KEPT:
            self._kept.popitem(last=False)
        return name

    def _refresh(self) -> None:
        """Makes the tables anew when the store or what the hosts do has changed."""
        version = self._store.version
        if version == self._version and [self._extended(row) for row in self._hosted] == self._seen_of_hosts:
            return
        rows = [row for row in self._store.all() if row.type not in _NOT_TRACKED and not row.deleting]
        self._hosted = [row for row in rows if row.type in _HOSTED]
        self._seen_of_hosts = [self._extended(row) for row in self._hosted]
        by_table: dict[str, list[list[Json]]] = {}
        shown = {row.key: seen for row, seen in zip(self._hosted, self._seen_of_hosts, strict=True)}
        for row in (*rows, *_instance_interfaces(rows)):
            cells = _cells(row, shown.get(row.key, {}))
            by_table.setdefault(_ELSEWHERE.get(row.type, "resources"), []).append(cells)
        subscriptions = {SUBSCRIPTION} | {str(cells[SUBSCRIPTION_ID]) for rows in by_table.values() for cells in rows}
        by_table.setdefault("resourcecontainers", []).extend(map(_subscription, sorted(subscriptions)))
        self._rows, self._tables = by_table, {}
        self._version = version


def _tables(rows: Mapping[str, Sequence[Sequence[Json]]], scope: frozenset[str] | None = None) -> kql.Database:
    """The tables as one sees them who may read only these subscriptions, or all."""
    return kql.Database({
        name: kql.Table(
            columns, [row for row in rows.get(name, ()) if scope is None or row[SUBSCRIPTION_ID] in scope]
        )
        for name, columns in TABLES.items()
    })  # fmt: skip


def _subscription(identity: str) -> list[Json]:
    body: Json = {"id": f"/subscriptions/{identity}", "name": identity, "type": "microsoft.resources/subscriptions"}
    body |= {"subscriptionId": identity, "tenantId": TENANT, "properties": {"state": "Enabled"}}
    return [body.get(name) for name in COLUMNS]


def _instance_interfaces(rows: Sequence[Row]) -> Iterator[Row]:
    """The network interfaces of scale-set instances, which the store does not hold as resources."""
    by_key = {row.key: row for row in rows}
    for row in rows:
        if row.type == INSTANCE and (scale_set := by_key.get(row.parent.lower())):
            for body in interfaces(row, scale_set):
                yield Row(body["id"], INSTANCE_NIC, row.id, {**body, "location": row.body.get("location")})


def _cells(row: Row, extended: Mapping[str, Json]) -> list[Json]:
    body = dict(row.body)
    if extended:
        body["properties"] = {**body.get("properties", {}), **extended}
    if row.type == "microsoft.resources/resourcegroups":
        body["type"] = "microsoft.resources/subscriptions/resourcegroups"
    body |= {"type": str(body.get("type", row.type)).lower(), "tenantId": TENANT}
    body["subscriptionId"] = row.subscription or SUBSCRIPTION
    body["resourceGroup"] = row.group.lower()
    return [body.get(name) for name in COLUMNS]


def _options(options: Mapping[str, Json]) -> tuple[int, int, str]:
    """Page size, offset and format."""
    size, skip = options.get("$top", DEFAULT_PAGE), options.get("$skip", 0)
    if type(size) is not int or not 1 <= size <= LARGEST_PAGE or type(skip) is not int or skip < 0:
        raise _wrong_option(f"$top must be 1 to {LARGEST_PAGE} and $skip not negative.")
    shape = options.get("resultFormat", _FORMATS[0])
    if shape not in _FORMATS:
        raise _wrong_option(f"resultFormat must be one of {', '.join(_FORMATS)}.")
    return size, skip, str(shape)


def _wrong_option(message: str) -> GraphError:
    return GraphError(400, "BadRequest", ("BadRequest", message))


def _token(name: str, offset: int, query_digest: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([name, offset, query_digest]).encode()).decode()


def _read_token(token: Json, query_digest: str) -> tuple[str, int]:
    """The name of the answer and the offset in it; a token goes with the query and the scope of its first page."""
    try:
        name, offset, digest = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError):
        name, offset, digest = None, None, None
    if digest != query_digest or type(offset) is not int or not isinstance(name, str):
        raise _wrong_option("The $skipToken is invalid for this query.")
    return name, offset


def _table(page: list[list[Json]], columns: Sequence[tuple[str, str]]) -> dict[str, Json]:
    return {
        "columns": [{"name": name, "type": _SHOWN_AS.get(kind, "object")} for name, kind in columns],
        "rows": page,
    }
