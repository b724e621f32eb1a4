"""The PostgreSQL databases of a service: on which hosts they are, and their dumps."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.patchwave_host import ENVIRONMENT, Done, StepError, run

OWNER = "postgres"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", re.ASCII)
_FIELD, _RECORD = "\x1f", "\x1e"
_QUERY_TIMEOUT = 30.0


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL server on this host; `name` is version and name, such as 15/main."""

    name: str
    port: int
    status: str


@dataclass(frozen=True)
class Database:
    """A named database on this host: `state` is primary, standby or absent, `detail` explains it in one line."""

    name: str
    state: str
    detail: str
    port: int = 0


def as_postgres(argv: Sequence[str], timeout: float, **more: Any) -> Done:
    """Runs one of PostgreSQL's programs as its own user, who needs no password on the local socket."""
    return run(["runuser", "-u", OWNER, "--", *argv], timeout=timeout, environment={"PGCONNECT_TIMEOUT": "5"}, **more)


def query(sql: str, *, database: str, port: int, timeout: float = _QUERY_TIMEOUT) -> list[list[str]]:
    """The rows of a query as text; one that fails is a StepError."""
    _plain(database)
    argv = ["psql", "--no-psqlrc", "--quiet", "--no-password", "--tuples-only", "--no-align"]
    argv += [f"--field-separator={_FIELD}", f"--record-separator={_RECORD}", "--set=ON_ERROR_STOP=1"]
    argv += [f"--port={port}", f"--dbname=dbname='{database}'", f"--command={sql}"]
    out = as_postgres(argv, timeout).checked(f"database {database}").out
    # A row ends with a newline at the end of all, so that no row at all and one empty field differ.
    return [row.split(_FIELD) for row in out.removesuffix("\n").split(_RECORD)] if out else []


def _plain(name: str) -> None:
    if not NAME.fullmatch(name):
        raise StepError(f"database {name[:60]!r} is not a plain name: fix the settings")


def clusters() -> list[Cluster] | None:
    """The clusters of this host, or None where Debian's tool that lists them is not installed."""
    if shutil.which("pg_lsclusters", path=ENVIRONMENT["PATH"]) is None:
        return None
    out = run(["pg_lsclusters", "--no-header"], timeout=30).checked("pg_lsclusters").out
    rows = [line.split() for line in out.splitlines() if line.strip()]
    return [Cluster(f"{row[0]}/{row[1]}", int(row[2]), row[3]) for row in rows if len(row) > 3 and row[2].isdigit()]


def _starts_by_itself(cluster: str, folder: Path = Path("/etc/postgresql")) -> bool:
    """Whether a cluster is one that its host starts, by Debian's start.conf; without one it does."""
    path = folder / cluster / "start.conf"
    words = [line.strip() for line in path.read_text().splitlines()] if path.is_file() else []
    return not {"manual", "disabled"} & set(words)


def find(setting: Mapping[str, Any]) -> Database:
    """Where a database of the settings is on this host; a cluster that cannot be queried is a StepError."""
    name, wanted, port = setting["database"], setting["cluster"], setting["port"]
    if shutil.which("psql", path=ENVIRONMENT["PATH"]) is None:
        return Database(name, "absent", "PostgreSQL is not on this host")
    known = clusters()
    if known is not None:
        match = [one for one in known if (one.name == wanted if wanted else one.port == port)]
        if not match:
            return Database(name, "absent", f"no cluster {wanted or f'at port {port}'} on this host")
        if not match[0].status.startswith("online"):
            if not wanted and not _starts_by_itself(match[0].name):
                return Database(name, "absent", f"cluster {match[0].name} is {match[0].status} on purpose")
            raise StepError(f"cluster {match[0].name} is {match[0].status}: start it, or disable it in its start.conf")
        where, port = match[0].name, match[0].port
    elif Path(f"/run/postgresql/.s.PGSQL.{port}").exists():
        where = f"port {port}"
    else:
        return Database(name, "absent", f"no cluster at port {port} on this host")
    _plain(name)
    ((standby, here),) = query(
        f"select pg_is_in_recovery(), exists(select from pg_database where datname = '{name}')",  # noqa: S608 - a plain name
        database="postgres",
        port=port,
    )
    if here != "t":
        return Database(name, "absent", f"{where} has no database {name}: nothing to dump")
    if standby == "t":
        return Database(name, "standby", f"{where} is a standby: {name} is dumped on its primary", port)
    return Database(name, "primary", f"{where} has {name}", port)


def dumpable(database: Database) -> None:
    """Nothing when a database's schema can be dumped now; else a StepError."""
    argv = ["pg_dump", f"--port={database.port}", "--schema-only", "--no-password"]
    done = as_postgres([*argv, f"--dbname=dbname='{database.name}'"], 60).checked(f"{database.name} cannot be dumped")
    if "PostgreSQL database dump" not in done.out:
        raise StepError(f"{database.name} cannot be dumped: pg_dump gave nothing")


def size(database: Database) -> int:
    """The bytes that a database takes; its dump takes less."""
    ((text,),) = query(f"select pg_database_size('{database.name}')", database="postgres", port=database.port)
    return int(text)


def dump(database: Database, folder: Path, timeout: float) -> Path:
    """The database in PostgreSQL's own format, read back by its own tool; the file appears whole or not at all."""
    folder.mkdir(mode=0o700, exist_ok=True)
    target, partial = folder / f"{database.name}.dump", folder / f".{database.name}.partial"
    argv = ["pg_dump", f"--port={database.port}", "--format=custom", "--no-password"]
    with partial.open("wb") as file:
        done = as_postgres([*argv, f"--dbname=dbname='{database.name}'"], timeout, stdout=file)
        done.checked(f"{database.name} cannot be dumped")
        file.flush()
        os.fsync(file.fileno())
    listed = run(["pg_restore", "--list", str(partial)], timeout=timeout)
    entries = listed.checked(f"the dump of {database.name} cannot be read back").out
    if not re.search(r"(?m)^[^;\s]", entries):
        raise StepError(f"the dump of {database.name} is empty: look whether it is the right database")
    partial.rename(target)
    return target
