"""Azure Monitor's Logs Ingestion API: rows of a declared stream land in the workspace's table."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox.azure.arm.rules import dig
from sandbox.azure.arm.rules.logs import kinds
from sandbox.azure.language import kql
from sandbox.azure.resources.errors import AzureError, bad_request
from sandbox.azure.resources.store import Row, Store

Json = Any
LARGEST_CALL = 1024 * 1024
LARGEST_FIELD = 64 * 1024
OLDEST, NEWEST = timedelta(days=-2), timedelta(days=1)
_PYTHON: dict[str, Any] = {
    "string": str, "int": int, "long": int, "real": (int, float), "boolean": bool, "datetime": str,
}  # fmt: skip
_MOST_ROWS, _PATIENCE = 1_000_000, 30.0


def ingest(store: Store, immutable_id: str, stream: str, body: bytes, encoding: str = "") -> None:
    """Stores one call's rows, all of them or none.

    https://learn.microsoft.com/azure/azure-monitor/fundamentals/service-limits#logs-ingestion-api
    """
    rule = next(
        (row for row in store.of_type("Microsoft.Insights/dataCollectionRules")
         if row.properties.get("immutableId") == immutable_id), None,
    )  # fmt: skip
    if rule is None:
        raise AzureError(404, "NotFound", f"Data collection rule with immutable Id '{immutable_id}' not found.")
    declared = dig(rule.body, "properties.streamDeclarations", {}).get(stream)
    if declared is None:
        raise bad_request("InvalidStream", f"The stream {stream} was not configured in the data collection rule.")
    columns = {column["name"]: column["type"] for column in declared.get("columns", [])}
    received = datetime.now(UTC)
    rows = [_kept(row, columns) for row in _rows(body, encoding)]
    with store.change():
        for workspace, table, transform in _flows(rule, stream):
            shaped = [_timed(row, received) for row in _transformed(rows, columns, transform)]
            store.ingest(workspace, table, [(row["TimeGenerated"], row) for row in shaped])


def _rows(body: bytes, encoding: str) -> list[dict[str, Json]]:
    if len(body) > LARGEST_CALL:
        raise _too_large(len(body))
    if encoding not in ("", "gzip"):
        raise AzureError(415, "UnsupportedMediaType", f"Content-Encoding '{encoding}' is not supported, only gzip is.")
    try:
        rows = json.loads(_unpacked(body) if encoding else body)
    except ValueError:
        raise bad_request("InvalidPayload", "Invalid payload: the body is not JSON.") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise bad_request("InvalidPayload", "Invalid payload: a JSON array of objects is needed.")
    # the official clients fill a call with 1 MiB of rows and do not count what stands between them
    if encoding and (size := sum(len(json.dumps(row).encode()) for row in rows)) > LARGEST_CALL:
        raise _too_large(size)
    return rows


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        unpacked = unpacker.decompress(body, 2 * LARGEST_CALL)
    except zlib.error:
        raise bad_request("InvalidPayload", "Invalid payload: the body is not gzip.") from None
    if unpacker.unconsumed_tail:
        raise _too_large(len(unpacked))
    return unpacked


def _too_large(size: int) -> AzureError:
    return AzureError(
        413, "ContentLengthLimitExceeded",
        f"Maximum allowed content length: {LARGEST_CALL} bytes (1 MB). Provided content length: {size} bytes.",
    )  # fmt: skip


def _flows(rule: Row, stream: str) -> Iterator[tuple[str, str, str]]:
    """The workspace, the table and the transformation of each way that the stream's rows take."""
    places = {
        one["name"]: one["workspaceResourceId"] for one in dig(rule.body, "properties.destinations.logAnalytics", [])
    }
    for flow in dig(rule.body, "properties.dataFlows", []):
        if stream in flow.get("streams", []):
            table = str(flow.get("outputStream", stream)).removeprefix("Custom-")
            for name in flow.get("destinations", []):
                yield places[name], table, str(flow.get("transformKql") or "source")


def _transformed(
    rows: Sequence[dict[str, Json]], columns: Mapping[str, str], transform: str
) -> Iterator[dict[str, Json]]:
    """The rows as the rule's transformation gives them; `source` is the stream."""
    if transform.strip() == "source":
        yield from (dict(row) for row in rows)
        return
    source = {"source": kql.Table(kinds(columns), [[row[name] for name in columns] for row in rows])}
    try:
        found = kql.run(source, transform, most=_MOST_ROWS, seconds=_PATIENCE)
    except kql.Problem as problem:
        raise bad_request("InvalidTransformOutput", f"The transformation failed: {problem}") from None
    for values in found.rows:
        yield {name: value for (name, _), value in zip(found.columns, values, strict=True)}


def _kept(row: Mapping[str, Json], columns: Mapping[str, str]) -> dict[str, Json]:
    """The declared columns of a row: another type becomes null, a long text is cut, what is not declared is dropped."""
    kept: dict[str, Json] = {}
    for name, type_ in columns.items():
        value = row.get(name)
        if type_ != "dynamic" and value is not None and not isinstance(value, _PYTHON[type_]):
            value = json.dumps(value) if type_ == "string" else None
        if isinstance(value, str) and len(value.encode()) > LARGEST_FIELD:
            value = value.encode()[:LARGEST_FIELD].decode("utf-8", "ignore")
        kept[name] = value
    return kept


def _timed(row: dict[str, Json], received: datetime) -> dict[str, Json]:
    """A time that is missing, too old or too far ahead is replaced by the time of receipt.

    https://learn.microsoft.com/azure/azure-monitor/logs/log-standard-columns#timegenerated
    """
    try:
        at = datetime.fromisoformat(str(row.get("TimeGenerated")))
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
    except ValueError:
        at = received
    if not OLDEST <= at - received <= NEWEST:
        at = received
    return row | {"TimeGenerated": at.astimezone(UTC).isoformat().replace("+00:00", "Z")}
