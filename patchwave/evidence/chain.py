"""What a wave did, as an append-only chain of records: any later change to it is found and named."""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from patchwave.base.errors import Failed, UsageError
from patchwave.evidence import signing

FILE = "evidence.jsonl"
SIGNATURE = "evidence.sig"
NAMESPACE = "patchwave-evidence"
IDENTITY = "runner"
GENESIS = "0" * 64
CLOCK_SLACK = timedelta(seconds=1)  # threads of one process may write in another order than they looked at the clock

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_HASH_MEMBER = b',"hash":"'
_KEYS = frozenset({"seq", "at", "run", "kind", "data", "prev", "hash"})
_TYPES = [int, str, str, str, dict, str, str]

Signed = Literal["signed", "in-progress", "missing", "foreign", "wrong"]


class Record(NamedTuple):
    """One line of the chain; `prev` and `hash` tie it to the line before and to its own content."""

    seq: int
    at: str
    run: str
    kind: str
    data: dict[str, Any]
    prev: str
    hash: str


class Verdict(NamedTuple):
    """What verification found; `problem` is one line that names the record, `verified` is true only without one."""

    records: int
    head: str
    verified: bool
    problem: str | None
    signer: str | None
    signed: Signed


def canonical(value: Any) -> bytes:
    """The one byte form of a JSON value: sorted keys, no spaces, UTF-8, no NaN."""
    # A lone surrogate (undecodable bytes of a host's output) becomes "?".
    return _ENCODER.encode(value).encode("utf-8", "replace")


def _sealed(seq: int, at: datetime, run: str, kind: str, data: Mapping[str, Any], prev: str) -> tuple[Record, bytes]:
    if at.tzinfo is None:
        raise ValueError("evidence needs a time with a zone")
    when = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = {"seq": seq, "at": when, "run": run, "kind": kind, "data": data, "prev": prev}
    body = json.loads(canonical(body))
    record = Record(**body, hash=sha256(canonical(body)).hexdigest())
    return record, canonical(record._asdict()) + b"\n"


def _parse(line: bytes) -> Record | None:
    """The record that the line holds, or nothing when it is not exactly one record in its canonical form."""
    try:
        value = json.loads(line.decode())
        if type(value) is not dict or value.keys() != _KEYS or canonical(value) != line:
            return None
    except (ValueError, RecursionError):
        return None
    record = Record(**value)
    return record if [type(member) for member in record] == _TYPES else None


def _content_hash(line: bytes) -> str:
    # In canonical form only `kind`, `prev`, `run` and `seq` follow `hash`, none of which can hold a bare quote.
    start = line.rindex(_HASH_MEMBER)
    end = line.index(b'"', start + len(_HASH_MEMBER)) + 1
    return sha256(line[:start] + line[end:]).hexdigest()


def _lines(content: bytes) -> list[bytes]:
    """The lines with their ends; only a line feed ends one."""
    *whole, rest = content.split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])


def _links(lines: Iterable[bytes], seq: int, prev: str) -> Iterator[tuple[Record | None, str | None]]:
    """Each line as (record, problem), judged as the continuation of record `seq` whose hash is `prev`."""
    for number, line in enumerate(lines, start=seq + 1):
        record = _parse(line.removesuffix(b"\n"))
        if not line.endswith(b"\n"):
            yield record, f"line {number} is torn"
        elif record is None:
            yield None, f"line {number} is not a record"
        elif _content_hash(line[:-1]) != record.hash:
            yield record, f"{_named(record, number)}: hash does not match its content"
        elif record.seq != seq + 1 or record.prev != prev:
            fault = f"does not follow record {seq}" if seq else "does not begin the chain"
            yield record, f"{_named(record, number)}: {fault}"
        else:
            yield record, None
        if record is not None:
            seq, prev = record.seq, record.hash


def _named(record: Record, line: int) -> str:
    return f"record {record.seq}" + ("" if record.seq == line else f" (line {line})")


def _scan(folder: Path) -> tuple[list[Record], str | None]:
    """Every readable record and the first problem of the chain."""
    path = folder / FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"no evidence in {folder}: a wave writes {FILE} there, run one first") from None
    records: list[Record] = []
    first: str | None = None
    for record, problem in _links(_lines(content), 0, GENESIS):
        if record is not None:
            records.append(record)
        first = first or problem
    return records, first


class Chain:
    """The writer's end of one evidence file: what `append` returned is on disk and follows everything before it."""

    def __init__(self, folder: Path, file: int) -> None:
        self.folder = folder
        self._file = file
        self._lock = Lock()
        self._end = 0
        self._records: list[Record] = []

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The chain in the folder, made when it is not there; a chain that is torn or broken is refused."""
        folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        chain = cls(folder, os.open(folder / FILE, flags, 0o644))
        parent = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(parent)
            with chain._lock:
                fcntl.flock(chain._file, fcntl.LOCK_EX)
                chain._catch_up()
        except BaseException:
            chain.close()
            raise
        finally:
            os.close(parent)
            if chain._file >= 0:
                fcntl.flock(chain._file, fcntl.LOCK_UN)
        return chain

    @property
    def records(self) -> Sequence[Record]:
        """What the chain held when this writer last looked."""
        return tuple(self._records)

    @property
    def head(self) -> str:
        """The hash that stands for everything so far."""
        return self._records[-1].hash if self._records else GENESIS

    def append(self, kind: str, run: str, data: Mapping[str, Any], *, at: datetime) -> Record:
        """Adds one record, flushed to disk before this returns; several processes may append to one chain."""
        with self._lock:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                self._catch_up()
                record, line = _sealed(len(self._records) + 1, at, run, kind, data, self.head)
                self._write(line)
                self._records.append(record)
                return record
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Gives the file back; the chain stays as it is."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        try:
            written = os.write(self._file, line)
            if written != len(line):
                raise OSError(None, "the disk is full")
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._end)
            where = self.folder / FILE
            raise Failed(f"cannot write {where}: {error.strerror}: free space there, then run again") from None
        self._end += len(line)

    def _catch_up(self) -> None:
        """Reads what others appended since; must hold the lock."""
        size = os.fstat(self._file).st_size
        path = self.folder / FILE
        if size < self._end:
            raise Failed(f"{path}: shorter than when it was opened: something cut it, restore it from its export")
        if size == self._end:
            return
        new = os.pread(self._file, size - self._end, self._end)
        for record, problem in _links(_lines(new), len(self._records), self.head):
            if problem is None and record is not None:
                self._records.append(record)
            elif problem is not None and problem.endswith("is torn"):
                raise Failed(f"{path}: {problem}, by a crash while it was written: cut it with `sed -i '$d' {path}`")
            else:
                raise Failed(f"{path}: {problem}: nothing may follow it, restore the file from its export")
        self._end = size


def read(folder: Path) -> list[Record]:
    """Every record in order; refuses a file with a line that is none (`verify` judges the rest)."""
    records, problem = _scan(folder)
    if problem is not None and problem.startswith("line "):
        raise Failed(f"{folder / FILE}: {problem}: see `patchwave evidence verify`")
    return records


def scan(folder: Path) -> tuple[list[Record], str | None]:
    """Every readable record, and the first that was changed or is dated before what it follows; no signature."""
    records, problem = _scan(folder)
    return records, problem or _backwards(records)


def _backwards(records: Sequence[Record]) -> str | None:
    """The first record of a run that is dated clearly before the run's record before it."""
    latest: dict[str, datetime] = {}
    for record in records:
        try:
            at = datetime.fromisoformat(record.at)
            early = latest.get(record.run, at) - at
        except (ValueError, TypeError):
            return f"record {record.seq}: {record.at!r} is no time in UTC"
        if early > CLOCK_SLACK:
            seconds = early.total_seconds()
            return f"record {record.seq}: dated {seconds:.0f} s before what it follows, the clock ran backwards"
        latest[record.run] = max(at, latest.get(record.run, at))
    return None


def inspect(folder: Path, signers: Path | None) -> tuple[list[Record], Verdict]:
    """Every readable record with the verdict on the whole, so that a damaged chain can still be looked at."""
    records, problem = scan(folder)
    head = records[-1].hash if records else GENESIS
    if problem is None and not records:
        problem = "the chain is empty"
    if problem is not None:
        return records, Verdict(len(records), head, False, problem, None, "wrong")
    signed, signer, problem = _signature(folder, records, signers)
    return records, Verdict(len(records), head, problem is None, problem, signer, signed)


def verify(folder: Path, signers: Path | None) -> Verdict:
    """Whether each record is unchanged, follows the one before and is covered by an allowed signature.

    Without `signers` the signature must still fit the chain, but anyone may have made it.
    """
    return inspect(folder, signers)[1]


def sign(folder: Path, key: Path) -> None:
    """Signs the chain's head with the runner's SSH key; a chain with a problem is not signed."""
    records, problem = _scan(folder)
    if problem is not None or not records:
        raise Failed(f"{folder / FILE}: {problem or 'the chain is empty'}: it will not be signed")
    armoured = signing.sign(_message(records[-1]), key, NAMESPACE)
    fresh = folder / f".{SIGNATURE}.{os.getpid()}"
    with fresh.open("w") as file:
        file.write(armoured)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / SIGNATURE)


def _signature(folder: Path, records: Sequence[Record], signers: Path | None) -> tuple[Signed, str | None, str | None]:
    """How the chain is signed, by whom, and the problem with that if there is one."""
    path = folder / SIGNATURE
    running = records[-1].kind != "wave-ended"
    if not path.exists():
        if running:
            return "in-progress", None, f"unsigned: run {records[-1].run} has not ended"
        return "missing", None, f"unsigned: {SIGNATURE} is missing although run {records[-1].run} has ended"
    signer, why = _signed_by(path, records[-1], signers)
    if why is None:
        return "signed", signer, None
    if signer is not None:
        return "foreign", signer, why
    for earlier in reversed(records[:-1]):  # the signature of the run before may still be in its place
        if earlier.kind == "wave-ended" and _signed_by(path, earlier, signers)[1] is None:
            since = f"unsigned: {SIGNATURE} ends at record {earlier.seq}, run {records[-1].run}"
            return (
                ("in-progress", None, f"{since} has not ended") if running else ("missing", None, f"{since} has ended")
            )
    return "wrong", None, why


def _signed_by(path: Path, record: Record, signers: Path | None) -> tuple[str | None, str | None]:
    """Who signed the chain up to `record`, and why not to trust that."""
    message, signature = _message(record), path.read_text(encoding="utf-8", errors="replace")
    fingerprint = signing.fingerprint(message, signature, NAMESPACE)
    if fingerprint is None:
        return (
            None,
            f"{SIGNATURE} does not fit record {record.seq}: records were lost or rewritten since it was made",
        )
    if signers is None:
        return fingerprint, None
    if not signers.is_file():
        raise UsageError(f"no allowed signers at {signers}: name the file that lists the runner's public key")
    if not signing.vouched(message, signature, NAMESPACE, identity=IDENTITY, signers=signers):
        return fingerprint, f"signed by {fingerprint}, which {signers.name} does not list for `{IDENTITY}`"
    return f"{IDENTITY} {fingerprint}", None


def _message(record: Record) -> bytes:
    return f"{record.hash}\n".encode("ascii")


def summary(records: Sequence[Record], verdict: Verdict | None = None, *, run: str | None = None) -> dict[str, Any]:
    """What a run came to, each planned host with its one end state; the last run unless another is named."""
    if not records:
        raise UsageError("the evidence is empty: no wave has begun here")
    chosen = records[-1].run if run is None else run
    mine = [record for record in records if record.run == chosen]
    if not mine:
        raise UsageError(f"no run {chosen} in this evidence: it holds {', '.join(dict.fromkeys(r.run for r in records))}")
    started = next((record for record in mine if record.kind == "wave-started"), None)
    ended = next((record for record in reversed(mine) if record.kind == "wave-ended"), None)
    facts = started.data if started else {}
    over = ended is not None or records[-1].run != chosen
    states = {record.data["host"]: record.data for record in mine if record.kind == "state"}
    planned = [host["name"] for host in facts.get("planned", [])]
    return {
        "stack": facts.get("stack"),
        "release": facts.get("release"),
        "run": chosen,
        "rehearsal": facts.get("rehearsal"),
        "started": mine[0].at,
        "ended": ended.at if ended else None,
        "outcome": ended.data.get("outcome") if ended else ("failed" if over else None),
        "hosts": [_host(name, states.get(name), over) for name in dict.fromkeys([*planned, *states])],
        "chain": {
            "records": len(records),
            "head": records[-1].hash,
            "verified": verdict is not None and verdict.verified,
        },
    }


def _host(name: str, state: Mapping[str, Any] | None, over: bool) -> dict[str, Any]:
    if state is None:  # silence is not success: a host nobody vouched for is unknown once the run is over
        return {"name": name, "state": "unknown" if over else "not-attempted", "before": {}, "after": {}}
    shown = {
        "name": name,
        "state": state["state"],
        "before": state.get("before", {}),
        "after": state.get("after", {}),
    }
    return shown | ({"reason": state["reason"]} if state.get("reason") else {})
