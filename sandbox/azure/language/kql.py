"""KQL over tables in memory: what Log Analytics and Resource Graph have in common."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import math
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from duckdb_kql import KqlSyntaxError, ir

Json = Any
N = TypeVar("N")
_SQL = {
    "string": "varchar", "datetime": "timestamp", "dynamic": "json", "bool": "boolean", "int": "integer",
    "long": "bigint", "real": "double", "decimal": "decimal(34, 14)", "guid": "uuid", "timespan": "interval",
}  # fmt: skip
# the engine carries out control commands; these services only query
_COMMAND = re.compile(r"((?:\s|//[^\n]*\n)*)\.")
# a name that is no table's is no file either, and no variable of this process
_CLOSED = {"enable_external_access": "false", "python_enable_replacements": "false"}

_AGAIN = 0.05
"""Seconds between two interruptions of a query whose time is up."""


class Table(NamedTuple):
    """Columns with their Kusto types, and rows of JSON values in that order; what a type cannot hold becomes null."""

    columns: Mapping[str, str]
    rows: Sequence[Sequence[Json]]


@dataclass(frozen=True)
class Found:
    """What a query gave: columns with their Kusto types, and cells as the engine has them."""

    columns: list[tuple[str, str]]
    cells: Sequence[Sequence[Json]]

    @property
    def rows(self) -> list[list[Json]]:
        return self.page(0, len(self.cells))

    def page(self, skip: int, size: int) -> list[list[Json]]:
        """Some of the rows in plain JSON values; a dynamic is JSON data."""
        return [
            [_plain(value, kind) for value, (_, kind) in zip(values, self.columns, strict=True)]
            for values in self.cells[skip : skip + size]
        ]


class Problem(Exception):
    """A query that cannot be answered."""


class Syntax(Problem):
    """It does not parse; `line` counts from 1, `column` from 0."""

    def __init__(self, line: int, column: int, token: str) -> None:
        super().__init__(f"Query could not be parsed at '{token}' on line [{line},{column}]")
        self.line, self.column, self.token = line, column, token


class Unresolved(Problem):
    """It names a table or a column that is not there."""


class Wrong(Problem):
    """It parses, and means nothing."""


class Unsupported(Problem):
    """It may be good KQL, but the engine here does not know it."""


class TooLong(Problem):
    """Its time was up."""


class Database:
    """Tables to be queried, one query at a time."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        import duckdb_kql

        self._connection = duckdb_kql.connect(config=_CLOSED)
        for name, table in tables.items():
            _fill(self._connection, name, table)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, query: str, *, most: int, seconds: float) -> Found:
        """Answers a query with at most so many rows and within that time, or raises Problem."""
        import duckdb_kql

        with _problems(query, seconds), _interrupted(self._connection, seconds):
            answer = duckdb_kql.execute(self._connection, query, allow_write=False)
            return Found([(name, _kind(kind)) for name, kind, *_ in answer.description or ()], answer.fetchmany(most))

    def columns(self, query: str) -> list[tuple[str, str]]:
        """The columns that a query would give, which is not carried out; raises Problem."""
        import duckdb_kql

        with _problems(query):
            found = duckdb_kql.kql(self._connection, query, allow_write=False)
            return [(name, _kind(kind)) for name, kind in zip(found.columns, found.types, strict=True)]


def run(tables: Mapping[str, Table], query: str, *, most: int, seconds: float) -> Found:
    """One query over these tables."""
    with Database(tables) as database:
        return database.ask(query, most=most, seconds=seconds)


def check(query: str, tables: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str]]:
    """The columns that a query over such tables would give; raises Problem when it could not be answered."""
    resolve(query, tables)
    with Database({name: Table(columns, []) for name, columns in tables.items()}) as database:
        return database.columns(query)


@contextlib.contextmanager
def _interrupted(connection: DuckDBPyConnection, seconds: float) -> Iterator[None]:
    """Ends what the connection does when the time is up."""
    done = threading.Event()

    def interrupt() -> None:
        # the engine forgets an interruption that comes before it has begun
        waiting = seconds
        while not done.wait(waiting):
            connection.interrupt()
            waiting = _AGAIN

    clock = threading.Thread(target=interrupt, name="clock", daemon=True)
    clock.start()
    try:
        yield
    finally:
        done.set()
        clock.join()


@contextlib.contextmanager
def _problems(query: str, seconds: float = math.inf) -> Iterator[None]:
    """Control commands and the engine's errors as Problem."""
    import duckdb
    import duckdb_kql

    if command := _COMMAND.match(query):
        before = command[1].rpartition("\n")
        raise Syntax(command[1].count("\n") + 1, len(before[2]), ".")
    try:
        yield
    except duckdb_kql.KqlSyntaxError as error:
        raise _syntax(query, error) from None
    except (duckdb_kql.KqlUnsupportedError, duckdb_kql.KqlSchemaError) as error:
        raise Unsupported(_first_line(error)) from None
    except duckdb.CatalogException as error:
        raise Unresolved(_first_line(error)) from None
    except duckdb.InterruptException:
        raise TooLong(f"The query was not done after {seconds:g} s.") from None
    except (duckdb_kql.KqlError, duckdb.Error) as error:
        raise Wrong(_first_line(error)) from None


def _kind(duckdb_type: object) -> str:
    from duckdb_kql.types import kusto_type

    return kusto_type(duckdb_type)


def resolve(query: str, tables: Mapping[str, Mapping[str, str]]) -> None:
    """Raises Unresolved for a table or column that these tables do not have; KQL distinguishes `Host` and `host`.

    The engine does not, so a query that Azure refuses would be answered here.
    """
    try:
        with _problems(query):
            _resolve(parsed(query), {name: list(columns) for name, columns in tables.items()})
    except (Unsupported, Wrong):
        return  # the engine does not know it, and `ask` reports that


def parsed(query: str) -> ir.Query:
    """The query as the engine reads it; raises Problem."""
    from duckdb_kql.lower import lower

    with _problems(query):
        return lower(query)


def _resolve(query: ir.Query, known: Mapping[str, list[str]]) -> None:
    from duckdb_kql import ir
    from duckdb_kql.schema import output_columns

    known = dict(known)
    for name, bound in query.lets:
        if isinstance(bound, ir.Query):
            _resolve(bound, known)
            known[name] = output_columns(bound, known)
    source = query.source
    if isinstance(source, ir.TableRef) and source.database is None and source.name not in known:
        where = f"'{_keyword(query.operators[0])}' operator: " if query.operators else ""
        raise Unresolved(f"{where}Failed to resolve table or column expression named '{source.name}'")
    for place, operator in enumerate(query.operators):
        for inner in _inside(operator, ir.Query):
            _resolve(inner, known)
        if not isinstance(operator, ir.Where | ir.Project | ir.Extend | ir.Summarize | ir.Distinct | ir.Sort | ir.Top):
            continue
        here = output_columns(ir.Query(source, query.operators[:place]), known)
        for reference in _inside(operator, ir.ColumnRef):
            if reference.name not in here:
                raise Unresolved(
                    f"'{_keyword(operator)}' operator: Failed to resolve scalar expression named '{reference.name}'"
                )


def _inside(node: object, kind: type[N]) -> Iterator[N]:
    """Every node of that kind below this one, nested queries not entered; a shared node counts once."""
    from duckdb_kql import ir

    stack, seen = [node], set[int]()
    while stack:
        one = stack.pop()
        if isinstance(one, list | tuple):
            stack.extend(one)
        elif dataclasses.is_dataclass(one) and id(one) not in seen:
            seen.add(id(one))
            if isinstance(one, kind):
                yield one
            if not isinstance(one, ir.Query):
                stack.extend(getattr(one, field.name) for field in dataclasses.fields(one))


def _keyword(operator: ir.Operator) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(operator).__name__).lower()


def _fill(connection: DuckDBPyConnection, name: str, table: Table) -> None:
    columns = ", ".join(f"{_quoted(column)} {_SQL[kind]}" for column, kind in table.columns.items())
    connection.execute(f"create table {_quoted(name)} ({columns})")
    if not table.rows:
        return
    # one statement with a list for each column: a statement for each row takes twenty times as long
    kinds = table.columns.values()
    lists = [
        [_text(value, kind) for value in cells]
        for cells, kind in zip(zip(*table.rows, strict=True), kinds, strict=True)
    ]
    cells = [_cell(f"unnest(${place}::varchar[])", kind) for place, kind in enumerate(kinds, 1)]
    connection.execute(f"insert into {_quoted(name)} select {', '.join(cells)}", lists)


def _cell(text: str, kind: str) -> str:
    if kind == "string":
        return f"coalesce({text}, '')"  # Kusto's strings are empty, never null
    if kind == "datetime":
        return f"try_cast({text} as timestamptz)::timestamp"  # a plain timestamp forgets the text's offset
    return f"try_cast({text} as {_SQL[kind]})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: Json, kind: str) -> str | None:
    return value if value is None or (isinstance(value, str) and kind != "dynamic") else json.dumps(value)


def _plain(value: Json, kind: str) -> Json:
    """A value as Azure writes it into JSON."""
    if kind == "dynamic":
        return json.loads(value) if isinstance(value, str) else json.loads(json.dumps(value, default=str))
    if isinstance(value, dt.datetime):
        return f"{value.replace(tzinfo=None).isoformat()}Z"
    if isinstance(value, dt.date):
        return f"{value.isoformat()}T00:00:00Z"
    if isinstance(value, dt.timedelta):
        return _timespan(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'-' * (value < 0)}Infinity"
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)


def _timespan(value: dt.timedelta) -> str:
    """`[-][d.]hh:mm:ss[.fffffff]`."""
    rest = abs(value)
    hours, seconds = divmod(rest.seconds, 3600)
    days = f"{rest.days}." if rest.days else ""
    part = f".{rest.microseconds:06}0" if rest.microseconds else ""
    return f"{'-' * (value < dt.timedelta())}{days}{hours:02}:{seconds // 60:02}:{seconds % 60:02}{part}"


def _syntax(query: str, error: KqlSyntaxError) -> Syntax:
    place = error.diagnostics[0].span
    rest = "".join(query.splitlines(keepends=True)[place.line - 1 : place.line])[place.column :]
    token = re.match(r"\w+|\S", rest)
    return Syntax(place.line, place.column, token[0] if token else "<EOF>")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
