"""Versions that a wave had to take back: a committed list, so that no machine brings them again."""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from patchwave.base.errors import Refused
from patchwave.base.model import Model, first_problem
from patchwave.base.names import PackageName, Version
from patchwave.calendar.windows import Instant
from patchwave.config.standard import StackName
from patchwave.evidence.chain import Record
from patchwave.releases.release import Release, ReleaseId

FILE = "quarantine.json"


class Entry(Model):
    """One version of one package, and the run that took it back first."""

    package: PackageName
    version: Version
    stack: StackName
    release: ReleaseId
    run: str
    at: Instant
    reason: Annotated[str, Field(min_length=1)]


class Quarantine(Model):
    """The whole list; a newer version of a package is not on it, an entry that is removed is lifted."""

    entries: tuple[Entry, ...]

    def holds(self, package: str, version: str) -> Entry | None:
        """The entry for exactly this version."""
        return next((e for e in self.entries if (e.package, e.version) == (package, version)), None)

    def of(self, release: Release) -> tuple[Entry, ...]:
        """The entries for versions of a release."""
        return tuple(entry for package in release.packages if (entry := self.holds(package.name, package.to)))


def taken_back(records: Sequence[Record]) -> tuple[Entry, ...]:
    """What one run brought to hosts that it then had to restore; empty for a run that restored nothing."""
    started = next((record for record in records if record.kind == "wave-started"), None)
    if started is None:
        return ()
    todo = {
        record.data["host"]: record.data["summary"].get("todo", {})
        for record in records
        if record.kind == "host" and record.data["step"] == "preflight"
    }
    changed = {r.data["host"] for r in records if r.kind == "host" and r.data["step"] == "transaction"}
    found: dict[tuple[str, str], Entry] = {}
    for record in records:
        if record.kind == "restore" and record.data["blamed"] and record.data["host"] in changed:
            for package, version in sorted(todo.get(record.data["host"], {}).items()):
                entry = {
                    "package": package,
                    "version": version,
                    "stack": started.data["stack"],
                    "release": started.data["release"],
                    "run": record.run,
                    "at": record.at,
                    "reason": f"{record.data['host']}: {record.data['reason']}",
                }
                found.setdefault((package, version), Entry.model_validate_json(json.dumps(entry)))
    return tuple(found[key] for key in sorted(found))


def load(project: Path) -> Quarantine:
    """The project's list; Refused when it does not parse, because then no version is known to be free."""
    path = _path(project)
    try:
        return Quarantine.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Quarantine(entries=())
    except ValidationError as error:
        raise Refused(f"{path}: {first_problem(error)}: restore it from git") from None


def add(project: Path, entries: Iterable[Entry]) -> list[Entry]:
    """Puts versions on the list, each once, and returns those that were not there; the file is replaced whole."""
    path = _path(project)
    path.parent.mkdir(exist_ok=True)
    with _locked(path.parent):
        known = load(project)
        fresh = [entry for entry in entries if known.holds(entry.package, entry.version) is None]
        if fresh:
            rows = sorted([*known.entries, *fresh], key=lambda entry: (entry.package, entry.version))
            draft = path.with_name(f".{FILE}.{os.getpid()}")
            data = Quarantine(entries=tuple(rows)).model_dump(mode="json")
            draft.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            draft.replace(path)
        return fresh


def objections(held: Sequence[Entry], release: ReleaseId) -> Iterator[str]:
    """Why a release may go nowhere when versions of it are on the list."""
    if not held:
        return
    first, more = held[0], f" (and {len(held) - 1} more)" if len(held) > 1 else ""
    yield (
        f"release {release} holds {first.package} {first.version}{more}, taken back on {first.stack} "
        f"on {first.at:%Y-%m-%d} ({first.reason}): seal a release without it, or lift it in releases/{FILE}"
    )


def _path(project: Path) -> Path:
    return project / "releases" / FILE


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
