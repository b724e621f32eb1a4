"""Azure Monitor's Logs Ingestion API: rows of a declared stream land in the workspace's table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .errors import AzureError, bad_request
from .rules import dig
from .store import Row, Store

LARGEST_CALL = 1024 * 1024
LARGEST_FIELD = 64 * 1024
_PYTHON: dict[str, Any] = {
    "string": str, "int": int, "long": int, "real": (int, float), "boolean": bool, "datetime": str,
}  # fmt: skip


def ingest(store: Store, immutable_id: str, stream: str, body: bytes) -> None:
    """Stores one call's rows, all of them or none."""
    if len(body) > LARGEST_CALL:
        raise AzureError(413, "ContentLengthLimitExceeded", "Maximum allowed content length: 1048576 bytes (1 MB).")
    rule = next(
        (row for row in store.of_type("Microsoft.Insights/dataCollectionRules")
         if row.properties.get("immutableId") == immutable_id), None,
    )  # fmt: skip
    if rule is None:
        raise AzureError(404, "NotFound", f"Data collection rule with immutable Id '{immutable_id}' not found.")
    declared = dig(rule.body, "properties.streamDeclarations", {}).get(stream)
    if declared is None:
        raise bad_request("InvalidStream", f"The stream {stream} was not configured in the data collection rule.")
    try:
        rows = json.loads(body)
    except ValueError:
        raise bad_request("InvalidPayload", "Invalid payload: the body is not JSON.") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise bad_request("InvalidPayload", "Invalid payload: a JSON array of objects is needed.")
    kept = [_kept(row, declared.get("columns", [])) for row in rows]
    for workspace, table in _tables(rule, stream):
        store.ingest(workspace, table, kept)


def _tables(rule: Row, stream: str) -> list[tuple[str, str]]:
    places = {
        one["name"]: one["workspaceResourceId"] for one in dig(rule.body, "properties.destinations.logAnalytics", [])
    }
    return [
        (places[name], str(flow.get("outputStream", stream)).removeprefix("Custom-"))
        for flow in dig(rule.body, "properties.dataFlows", [])
        if stream in flow.get("streams", [])
        for name in flow.get("destinations", [])
    ]


def _kept(row: Mapping[str, Any], columns: list[Mapping[str, str]]) -> tuple[str, dict[str, Any]]:
    """The declared columns of a row: another type becomes null, a long text is cut, what is not declared is dropped."""
    kept: dict[str, Any] = {}
    for column in columns:
        value, type_ = row.get(column["name"]), column["type"]
        if type_ != "dynamic" and value is not None and not isinstance(value, _PYTHON[type_]):
            value = json.dumps(value) if type_ == "string" else None
        if isinstance(value, str) and len(value.encode()) > LARGEST_FIELD:
            value = value.encode()[:LARGEST_FIELD].decode("utf-8", "ignore")
        kept[column["name"]] = value
    at = str(kept.get("TimeGenerated") or datetime.now(UTC).isoformat())
    kept["TimeGenerated"] = at
    return at, kept
