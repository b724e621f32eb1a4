"""Which part of KQL Azure Resource Graph takes, and its own words for the rest.

https://learn.microsoft.com/azure/governance/resource-graph/concepts/query-language
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from duckdb_kql import ir

from sandbox.azure.language import kql
from sandbox.azure.resources.errors import AzureError

Json = Any
LARGEST_COUNT = 3
_FLAVORS = ("innerunique", "inner", "leftouter", "fullouter")
_OPERATORS = (
    ir.Count, ir.Distinct, ir.Extend, ir.Join, ir.MvExpand, ir.Parse, ir.Project, ir.ProjectAway, ir.Sort,
    ir.Summarize, ir.Take, ir.Top, ir.Union, ir.Where,
)  # fmt: skip
_INVALID = (
    "InvalidQuery",
    "Query is invalid. Please refer to the documentation for the Azure Resource Graph service and fix the error "
    "before retrying.",
)


class GraphError(AzureError):
    """A refusal whose reason stands in its details, as Resource Graph writes it."""

    def __init__(self, status: int, code: str, *details: tuple[str, str], headers: dict[str, str] | None = None):
        at = datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00")
        super().__init__(
            status, code,
            "Please provide below info when asking for support: "
            f"timestamp = {at}Z, correlationId = {uuid.uuid4()}.", headers,
        )  # fmt: skip
        self.details = details

    @property
    def envelope(self) -> dict[str, Json]:
        details = [{"code": code, "message": message} for code, message in self.details]
        return {"error": {"code": self.code, "message": self.message, "details": details}}


def invalid(code: str, message: str) -> GraphError:
    """A query that Resource Graph does not take."""
    return GraphError(400, "BadRequest", _INVALID, (code, message))


def check(query: str, tables: Mapping[str, Mapping[str, str]]) -> None:
    """Refuses what the service refuses: unknown names and operators, other joins, and too many of them.

    `tables` are columns by a name in lower case; a query may spell a table's name as it likes.
    """
    try:
        found = kql.parsed(query)
        if problem := next(_problems(found, tables), None):
            raise invalid(*problem)
        spelled = {name: tables[name.lower()] for name in map(_table, _parts(found))}
        kql.resolve(query, spelled)
    except kql.Unresolved as problem:
        raise invalid("SemanticError", str(problem)) from None
    except kql.Problem as problem:
        raise invalid("ParserFailure", str(problem)) from None


def _problems(query: Any, tables: Collection[str]) -> Iterator[tuple[str, str]]:
    queries = list(_parts(query))
    for name in (_table(one) for one in queries):
        if name.lower() not in tables:
            yield "DisallowedLogicalTableName", f"Table {name} is invalid, unsupported or disallowed."
    operators = [operator for one in queries for operator in one.operators]
    for operator in operators:
        if not isinstance(operator, _OPERATORS):
            yield "OperatorNotSupported", f"The operator {type(operator).__name__} is not supported."
        if isinstance(operator, ir.Join) and operator.kind not in _FLAVORS:
            yield "UnsupportedJoinFlavor", f'The join kind "{operator.kind}" is not supported or not allowed.'
    remote = [_table(one).lower() for one in queries[1:] if _table(one).lower() != _table(query).lower()]
    combined = sum(isinstance(one, ir.Join) + len(getattr(one, "branches", ())) for one in operators)
    expanded = sum(isinstance(one, ir.MvExpand) for one in operators)
    if len(set(remote)) < len(remote) or combined > LARGEST_COUNT:
        yield (
            "DisallowedMaxNumberOfRemoteTables",
            f"A query may have {LARGEST_COUNT} join and union operations, and name another table only once.",
        )
    if expanded > LARGEST_COUNT:
        yield "DisallowedMaxNumberOfMvExpand", f"A query may have {LARGEST_COUNT} mv-expand operations."


def _parts(query: Any) -> Iterator[Any]:
    """The query and everything that it joins or unites."""
    yield query
    for operator in query.operators:
        for part in (*([operator.right] if hasattr(operator, "right") else ()), *getattr(operator, "branches", ())):
            yield from _parts(part)


def _table(query: Any) -> str:
    return str(getattr(query.source, "name", type(query.source).__name__))
