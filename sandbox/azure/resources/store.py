"""What the resource manager knows, in SQLite: each change is one transaction and survives a kill at any point."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.azure.resources.ids import ResourceId

_TABLES = """
create table if not exists resources (
  key text primary key, id text not null, type text not null, parent text not null,
  body text not null, hidden text not null, deleting integer not null default 0, serial integer not null);
create index if not exists resources_type on resources (type);
create index if not exists resources_serial on resources (serial);
create index if not exists resources_parent on resources (parent);
create table if not exists operations (
  id text primary key, key text not null, verb text not null, detail text not null, status text not null,
  error text, started real not null, finished real);
create table if not exists notes (name text primary key, value text not null);
create table if not exists rows (
  id integer primary key, workspace text not null, name text not null, at text not null, row text not null);
"""
_RESOURCES = "select id, type, parent, body, hidden, deleting from resources "
_OPERATIONS = "select id, key, verb, detail, status, error, started, finished from operations "


@dataclass
class Row:
    """A resource: Azure's body, and what only the sandbox needs to know."""

    id: str
    type: str
    parent: str
    body: dict[str, Any]
    hidden: dict[str, Any] = field(default_factory=dict)
    deleting: bool = False

    @property
    def key(self) -> str:
        return self.id.lower()

    @property
    def name(self) -> str:
        return self.id.rsplit("/", 1)[-1]

    @property
    def properties(self) -> dict[str, Any]:
        """The body's `properties`, made when missing."""
        found: dict[str, Any] = self.body.setdefault("properties", {})
        return found

    @property
    def group(self) -> str:
        found = ResourceId.parse(self.id)
        return found.group if found else ""

    @property
    def subscription(self) -> str:
        """In lower case."""
        found = ResourceId.parse(self.id)
        return found.subscription.lower() if found else ""


@dataclass(frozen=True)
class Operation:
    """A long-running operation."""

    id: str
    key: str
    verb: str
    detail: dict[str, Any]
    status: str
    error: dict[str, str] | None
    started: float
    finished: float | None

    @property
    def result(self) -> Any:
        """The result of an operation that has one."""
        return self.detail.get("result")


class Store:
    """One connection, one writer at a time; use `with store.change():` for everything that belongs together."""

    def __init__(self, path: Path | str) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=normal")
        self._db.executescript(_TABLES)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @property
    def version(self) -> tuple[int, int]:
        """Another one after every change, also after one that another process has made."""
        with self._lock:
            return self._db.total_changes, int(self._db.execute("pragma data_version").fetchone()[0])

    @contextmanager
    def change(self) -> Iterator[Store]:
        """All or nothing; nested changes join the outer one."""
        with self._lock:
            if self._depth == 0:
                self._db.execute("begin immediate")
            self._depth += 1
            try:
                yield self
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._db.execute("rollback")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._db.execute("commit")

    def get(self, key: str) -> Row | None:
        found = self._rows("where key = ?", key.lower())
        return found[0] if found else None

    def of_type(self, type_: str) -> list[Row]:
        return self._rows("where type = ? order by serial", type_.lower())

    def under(self, key: str) -> list[Row]:
        """What lies below an id, the id itself not included."""
        key = key.lower()
        return self._rows("where substr(key, 1, ?) = ? order by serial", len(key) + 1, f"{key}/")

    def children(self, key: str, type_: str) -> list[Row]:
        return self._rows("where parent = ? and type = ? order by serial", key.lower(), type_.lower())

    def all(self) -> list[Row]:
        return self._rows("order by serial")

    def _rows(self, where: str, *values: Any) -> list[Row]:
        with self._lock:
            found = self._db.execute(_RESOURCES + where, values)
            return [Row(i, t, p, json.loads(b), json.loads(h), bool(d)) for i, t, p, b, h, d in found]

    def put(self, row: Row) -> None:
        """Creates or replaces; a replaced row keeps its place in listings."""
        with self.change():
            self._db.execute(
                "insert into resources (key, id, type, parent, body, hidden, deleting, serial) values (?,?,?,?,?,?,?,"
                " (select coalesce(max(serial), 0) + 1 from resources)) on conflict (key) do update set"
                " body = excluded.body, hidden = excluded.hidden, deleting = excluded.deleting",
                (row.key, row.id, row.type.lower(), row.parent.lower(), json.dumps(row.body), json.dumps(row.hidden),
                 int(row.deleting)),
            )  # fmt: skip

    def remove(self, key: str) -> None:
        with self.change():
            self._db.execute("delete from resources where key = ?", (key.lower(),))

    def begin(self, key: str, verb: str, **detail: Any) -> Operation:
        """Writes down that something long has begun."""
        operation = Operation(str(uuid.uuid4()), key.lower(), verb, detail, "InProgress", None, time.time(), None)
        with self.change():
            self._db.execute(
                "insert into operations values (?,?,?,?,?,?,?,?)",
                (operation.id, operation.key, verb, json.dumps(detail), "InProgress", None, operation.started, None),
            )
        return operation

    def finish(self, operation: str, error: dict[str, str] | None = None, result: Any = None) -> None:
        """Closes an operation, well or with Azure's error."""
        status = "Failed" if error else "Succeeded"
        with self.change():
            self._db.execute(
                "update operations set status = ?, error = ?, finished = ?, "
                "detail = json_set(detail, '$.result', json(?)) where id = ?",
                (status, json.dumps(error) if error else None, time.time(), json.dumps(result), operation),
            )

    def operation(self, identity: str) -> Operation | None:
        found = self._operations("where id = ?", identity)
        return found[0] if found else None

    def unfinished(self) -> list[Operation]:
        return self._operations("where status = 'InProgress' order by started")

    def forget_operations(self, seconds: float) -> None:
        """Drops what ended longer ago than that."""
        with self.change():
            self._db.execute("delete from operations where finished < ?", (time.time() - seconds,))

    def _operations(self, where: str, *values: Any) -> list[Operation]:
        with self._lock:
            found = self._db.execute(_OPERATIONS + where, values)
            return [
                Operation(i, k, v, json.loads(d), s, json.loads(e) if e else None, b, f)
                for i, k, v, d, s, e, b, f in found
            ]

    def note(self, name: str) -> str | None:
        with self._lock:
            found = self._db.execute("select value from notes where name = ?", (name,)).fetchone()
            return str(found[0]) if found else None

    def set_note(self, name: str, value: str) -> None:
        with self.change():
            self._db.execute("insert or replace into notes values (?, ?)", (name, value))

    def ingest(self, workspace: str, name: str, rows: list[tuple[str, dict[str, Any]]]) -> None:
        """Adds log rows, all or none."""
        with self.change():
            self._db.executemany(
                "insert into rows (workspace, name, at, row) values (?, ?, ?, ?)",
                [(workspace.lower(), name, at, json.dumps(row)) for at, row in rows],
            )

    def logged(self, workspace: str, name: str) -> list[dict[str, Any]]:
        """The log rows of a workspace's table, oldest first."""
        with self._lock:
            found = self._db.execute(
                "select row from rows where workspace = ? and name = ? order by id", (workspace.lower(), name)
            )
            return [json.loads(row) for (row,) in found]
