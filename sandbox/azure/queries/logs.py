"""The Log Analytics query API: KQL over the tables of a workspace, in Azure's shapes and with Azure's refusals.

https://learn.microsoft.com/azure/azure-monitor/logs/api/overview
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from patchwave.base.model import first_problem
from sandbox.azure.arm.manager import Answer
from sandbox.azure.arm.rules.logs import table_columns
from sandbox.azure.language import kql
from sandbox.azure.resources.errors import AzureError, not_implemented
from sandbox.azure.resources.store import Row, Store

Json = Any
MOST_ROWS, MOST_BYTES = 500_000, 64_000_000
_AT_ONCE = 1000
WAIT, LONGEST_WAIT = 180.0, 600.0
_WORKSPACE = "microsoft.operationalinsights/workspaces"
_INVALID = "The request had some invalid properties"


class Refusal(AzureError):
    """A refusal of this API, which nests its reasons."""

    def __init__(self, status: int, code: str, message: str, inner: Json = None) -> None:
        super().__init__(status, code, message)
        self.inner = inner

    @property
    def envelope(self) -> dict[str, Any]:
        error = {"message": self.message, "code": self.code, "correlationId": str(uuid.uuid4())}
        return {"error": error if self.inner is None else {**error, "innererror": self.inner}}


class Asked(BaseModel):
    """A query's body."""

    query: str
    timespan: str | None = None
    workspaces: list[str] | None = None


class Logs:
    """Answers queries over what was ingested."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def query(self, workspace: str, content: bytes, prefer: str) -> Answer:
        """One query over a workspace, which is named by its workspace id or its resource id."""
        return Answer(200, self._query(workspace, _parsed(content), _wishes(prefer)))

    def batch(self, content: bytes) -> Answer:
        """Several queries, each with its own status."""
        body = _parsed(content)
        requests = body.get("requests") if isinstance(body, Mapping) else None
        if not isinstance(requests, list) or not all(isinstance(one, Mapping) and "id" in one for one in requests):
            raise _invalid("QueryValidationError", "Failed parsing the query: each request needs an id")
        if len({one["id"] for one in requests}) < len(requests):
            raise _invalid("QueryValidationError", "Failed parsing the query: two requests have one id")
        return Answer(200, {"responses": [{"id": one["id"], **self._part(one)} for one in requests]})

    def _part(self, request: Mapping[str, Json]) -> dict[str, Json]:
        try:
            if (request.get("method"), request.get("path")) != ("POST", "/query"):
                raise Refusal(404, "PathNotFoundError", "The requested path does not exist")
            wanted = _wishes(str((request.get("headers") or {}).get("Prefer", "")))
            return {"status": 200, "body": self._query(str(request.get("workspace")), request.get("body"), wanted)}
        except AzureError as refusal:
            return {"status": refusal.status, "body": refusal.envelope}

    def _query(self, workspace: str, body: Json, wanted: Mapping[str, str]) -> dict[str, Json]:
        try:
            asked = Asked.model_validate(body)
        except ValidationError as error:
            raise _invalid("QueryValidationError", f"Failed parsing the query: {first_problem(error)}") from None
        others = [self._workspace(name, by_name=True) for name in asked.workspaces or ()]
        begins, ends = _span(asked.timespan, datetime.now(UTC))
        tables = _united(self._tables([self._workspace(workspace), *others], begins, ends))
        began = time.monotonic()
        found = _answered(tables, asked.query, _seconds(wanted))
        spent = time.monotonic() - began
        rows, why = _cut(found)
        columns = [{"name": name, "type": kind} for name, kind in found.columns]
        answer: dict[str, Json] = {"tables": [{"name": "PrimaryResult", "columns": columns, "rows": rows}]}
        if why:
            answer["error"] = _partial(why)
        if wanted.get("include-statistics") == "true":
            answer["statistics"] = {"query": {"executionTime": spent}}
        return answer

    def _workspace(self, name: str, *, by_name: bool = False) -> Row:
        wanted = name.strip("/").lower()
        for row in self._store.of_type(_WORKSPACE):
            names = [row.properties["customerId"], row.key.strip("/"), *([row.name.lower()] if by_name else [])]
            if wanted in names and not row.deleting:
                return row
        raise Refusal(400, "FailedToResolveResource", "Resource identity could not be resolved")

    def _tables(
        self, places: Sequence[Row], begins: datetime | None, ends: datetime | None
    ) -> Iterator[tuple[str, kql.Table]]:
        for place in places:
            for table in self._store.children(place.key, f"{_WORKSPACE}/tables"):
                columns = table_columns(table)
                known = {"TenantId": place.properties["customerId"], "Type": table.name}
                rows = [
                    [known.get(name, row.get(name)) for name in columns]
                    for row in self._store.logged(place.id, table.name)
                    if _within(_instant(row["TimeGenerated"]), begins, ends)
                ]
                yield table.name, kql.Table(columns, rows)


def _united(tables: Iterator[tuple[str, kql.Table]]) -> dict[str, kql.Table]:
    """Tables of one name in several workspaces are one table."""
    found: dict[str, kql.Table] = {}
    for name, table in tables:
        there = found.get(name)
        if there is None:
            found[name] = table
            continue
        columns = {**there.columns, **table.columns}
        rows = [
            [dict(zip(one.columns, row, strict=True)).get(column) for column in columns]
            for one in (there, table)
            for row in one.rows
        ]
        found[name] = kql.Table(columns, rows)
    return found


def _answered(tables: Mapping[str, kql.Table], query: str, seconds: float) -> kql.Found:
    try:
        kql.resolve(query, {name: table.columns for name, table in tables.items()})
        return kql.run(tables, query, most=MOST_ROWS + 1, seconds=seconds)
    except kql.Syntax as problem:
        place = {"line": problem.line, "pos": problem.column, "token": problem.token}
        inner = {"code": "SYN0002", "message": str(problem), **place}
        raise _invalid("SyntaxError", "A recognition error occurred in the query.", innererror=inner) from None
    except kql.Unresolved as problem:
        inner = {"code": "SEM0100", "message": str(problem)}
        raise _invalid("SemanticError", "A semantic error occurred.", innererror=inner) from None
    except kql.Wrong as problem:
        raise _invalid("SemanticError", str(problem)) from None
    except kql.TooLong as problem:
        raise Refusal(504, "GatewayTimeout", str(problem)) from None
    except kql.Unsupported as problem:
        refusal = not_implemented(problem)
        raise Refusal(refusal.status, refusal.code, refusal.message) from None


def _invalid(code: str, message: str, **more: Json) -> Refusal:
    return Refusal(400, "BadArgumentError", _INVALID, {"code": code, "message": message, **more})


def _parsed(content: bytes) -> Json:
    try:
        return json.loads(content)
    except ValueError as error:
        details = [{"code": "InvalidJsonBody", "message": str(error), "target": None}]
        raise _invalid("QueryValidationError", "Failed parsing the query", details=details) from None


def _cut(found: kql.Found) -> tuple[list[list[Json]], str]:
    """The rows that fit into an answer, a dynamic as its JSON text, and what limit kept others out."""
    rows = found.page(0, MOST_ROWS)
    for place in (place for place, (_, kind) in enumerate(found.columns) if kind == "dynamic"):
        for row in rows:
            row[place] = _text(row[place])
    room = MOST_BYTES
    for begin in range(0, len(rows), _AT_ONCE):
        some = rows[begin : begin + _AT_ONCE]
        size = len(json.dumps(some))
        if size > room:
            sizes = accumulate(len(json.dumps(row)) for row in some)
            fit = sum(total <= room for total in sizes)
            return rows[: begin + fit], f"{MOST_BYTES} bytes"
        room -= size
    return rows, f"{MOST_ROWS} records" if len(found.cells) > MOST_ROWS else ""


def _text(value: Json) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _partial(why: str) -> Json:
    message = (
        f"The results of this query exceed the set limit of {why}, so not all records were returned "
        "(E_QUERY_RESULT_SET_TOO_LARGE, 0x80DA0003, see https://aka.ms/kustoquerylimits for more information and "
        "possible solutions)."
    )
    return {
        "code": "PartialError",
        "message": "There were some errors when processing your query.",
        "details": [{
            "code": "EngineError",
            "message": "Something went wrong processing your query on the server.",
            "innererror": {"code": "-2133196797", "message": message, "severity": 2, "severityName": "Error"},
        }],
    }  # fmt: skip


def _within(at: datetime, begins: datetime | None, ends: datetime | None) -> bool:
    return (begins is None or begins <= at) and (ends is None or at <= ends)


def _span(timespan: str | None, now: datetime) -> tuple[datetime | None, datetime | None]:
    """Both ends of an ISO 8601 duration that ends now, or of an interval of instants and durations."""
    if not timespan:
        return None, None
    try:
        first, _, last = timespan.rpartition("/")
        if not first:
            return now - _duration(last), now
        if first.startswith("P"):
            return _instant(last) - _duration(first), _instant(last)
        return _instant(first), _instant(first) + _duration(last) if last.startswith("P") else _instant(last)
    except (ValueError, OverflowError):
        raise _invalid("QueryValidationError", f"Failed parsing the timespan '{timespan}'") from None


def _duration(text: str) -> timedelta:
    if not text.startswith("P"):
        raise ValueError(text)
    return TypeAdapter(timedelta).validate_python(text)


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _wishes(prefer: str) -> dict[str, str]:
    """https://learn.microsoft.com/azure/azure-monitor/logs/api/prefer-options"""
    parts = (part.strip().partition("=") for part in prefer.split(","))
    return {name.lower(): value.lower() for name, _, value in parts}


def _seconds(wanted: Mapping[str, str]) -> float:
    try:
        return min(float(wanted.get("wait", WAIT)), LONGEST_WAIT)
    except ValueError:
        return WAIT
