"""What Azure Monitor refuses of workspaces, tables and data collection."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sandbox.azure.arm.rules.change import Change, dig, refuses
from sandbox.azure.language import kql
from sandbox.azure.resources.errors import AzureError, bad_request, not_implemented
from sandbox.azure.resources.store import Row

Json = Any

_STREAM_TYPES = ("string", "int", "long", "real", "boolean", "dynamic", "datetime")
_COLUMN_TYPES = ("string", "int", "long", "real", "boolean", "dateTime", "guid", "dynamic")
_STANDARD = {"TenantId": "string", "Type": "string"}
_TRANSFORMS = ("Extend", "Parse", "Project", "ProjectAway", "ProjectRename", "Where")
_NAMED = {
    "string": "String", "int": "Int", "long": "Long", "real": "Double", "bool": "Boolean", "datetime": "DateTime",
    "guid": "Guid", "dynamic": "Dynamic",
}  # fmt: skip
_RESERVED = ("_resourceid", "id", "_subscriptionid", "tenantid", "type", "uniqueid", "title")


def kinds(columns: Mapping[str, str]) -> dict[str, str]:
    """Columns of a table or a stream with their types as KQL spells them."""
    spelled = {"dateTime": "datetime", "boolean": "bool"}
    return {name: spelled.get(kind, kind) for name, kind in columns.items()}


def table_columns(table: Row) -> dict[str, str]:
    """What a query finds in a table: its own columns and those that every table has."""
    return kinds({one["name"]: one["type"] for one in dig(table.body, "properties.schema.columns", [])}) | _STANDARD


@refuses("Microsoft.OperationalInsights/workspaces/tables")
def table(change: Change) -> Iterator[AzureError]:
    def wrong(why: str) -> AzureError:
        return bad_request("InvalidParameter", why)

    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}_CL", change.name):
        yield wrong(f"Table name '{change.name}' is invalid: custom tables start with a letter and end with _CL.")
    schema = change.at("schema", {})
    if schema.get("name") != change.name:
        yield wrong(f"Schema name '{schema.get('name')}' does not match the table name '{change.name}'.")
    columns = schema.get("columns", [])
    if "TimeGenerated" not in [one.get("name") for one in columns]:
        yield wrong("Table schema must have a column 'TimeGenerated' of type dateTime.")
    for one in columns:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,44}", str(one.get("name"))):
            yield wrong(f"Column name '{one.get('name')}' is invalid.")
        if str(one.get("name")).lower() in _RESERVED:
            yield wrong(f"Column name '{one.get('name')}' is reserved.")
        if one.get("type") not in _COLUMN_TYPES:
            yield wrong(f"Column type '{one.get('type')}' is not one of {', '.join(_COLUMN_TYPES)}.")
    yield from _retention(change)
    days = change.at("retentionInDays", -1)
    if change.at("plan") == "Basic" and days not in (-1, change.was("retentionInDays")):
        yield wrong("'retentionInDays' cannot be set for a table on the Basic plan.")


@refuses("Microsoft.OperationalInsights/workspaces")
def workspace(change: Change) -> Iterator[AzureError]:
    days = change.at("retentionInDays")
    if days is not None and not 30 <= days <= 730:
        yield bad_request("InvalidParameter", "'RetentionInDays' property doesn't match the SKU limits")


def _retention(change: Change) -> Iterator[AzureError]:
    for name, least, most in (("retentionInDays", 4, 730), ("totalRetentionInDays", 4, 4383)):
        days = change.at(name)
        if days is not None and days != -1 and not least <= days <= most:
            yield bad_request("InvalidParameter", f"'{name}' must be -1 or between {least} and {most}.")


@refuses("Microsoft.Insights/dataCollectionRules")
def collection_rule(change: Change) -> Iterator[AzureError]:
    streams = change.at("streamDeclarations", {})
    flows = change.at("dataFlows", [])
    logs = {one.get("name"): one for one in change.at("destinations.logAnalytics", [])}
    kind = change.body.get("kind")
    if kind not in (None, "Linux", "Windows"):
        yield bad_request("InvalidPayload", f"InvalidKind: kind '{kind}' is not known to this api-version.")
    for where in (change.at("dataCollectionEndpointId"), *(one.get("workspaceResourceId") for one in logs.values())):
        target = change.view.get(str(where or ""))
        if target is not None and target.body.get("location") != change.body.get("location"):
            yield bad_request("InvalidPayload", f"InvalidLocation: {where} is not in the region of the rule.")
    if len(flows) > 10 or len(streams) > 10:
        yield bad_request("InvalidPayload", "A data collection rule has at most 10 data flows and 10 streams.")
    for name, declared in streams.items():
        if not name.startswith("Custom-"):
            yield bad_request("InvalidPayload", f"InvalidStream: '{name}' must be a custom stream (Custom-...).")
        for one in declared.get("columns", []):
            if one.get("type") not in _STREAM_TYPES:
                yield bad_request(
                    "InvalidPayload", f"Column type '{one.get('type')}' is not one of {', '.join(_STREAM_TYPES)}."
                )
    for flow in flows:
        if len(flow.get("transformKql", "")) > 15360:
            yield bad_request(
                "InvalidPayload", "InvalidTransformQuery: the transformation is longer than 15360 characters."
            )
        for stream in flow.get("streams", []):
            if stream not in streams and not stream.startswith("Microsoft-"):
                yield bad_request(
                    "InvalidPayload",
                    f"InvalidStream: '{stream}' must be a custom stream or one of: Microsoft-Event, Microsoft-Perf, "
                    "Microsoft-Syslog.",
                )
        for name in flow.get("destinations", []):
            if name not in logs:
                yield bad_request("InvalidPayload", f"InvalidDestination: destination '{name}' is not declared.")
                continue
            workspace_id = logs[name].get("workspaceResourceId", "")
            output = str(flow.get("outputStream", ""))
            if output and not output.startswith(("Custom-", "Microsoft-")):
                yield bad_request(
                    "InvalidPayload",
                    f"InvalidOutputTable: Output stream '{output}' is not of the form Custom-… or Microsoft-….",
                )
            if output.startswith("Custom-") and change.view.get(f"{workspace_id}/tables/{output[7:]}") is None:
                yield bad_request(
                    "InvalidPayload",
                    f"InvalidOutputTable: Table for output stream '{output}' is not available for "
                    f"destination '{name}'.",
                )
    if streams and not change.at("dataCollectionEndpointId"):
        yield bad_request(
            "InvalidPayload", "InvalidProperty: a rule with custom streams must have a dataCollectionEndpointId."
        )


@refuses("Microsoft.Insights/dataCollectionRules")
def transformation(change: Change) -> Iterator[AzureError]:
    """https://learn.microsoft.com/azure/azure-monitor/data-collection/data-collection-transformations-kql."""
    places = {one.get("name"): one.get("workspaceResourceId") for one in change.at("destinations.logAnalytics", [])}
    for flow in change.at("dataFlows", []):
        table = str(flow.get("outputStream", "")).removeprefix("Custom-")
        outputs = [change.view.get(f"{places.get(name)}/tables/{table}") for name in flow.get("destinations", [])]
        for stream in flow.get("streams", []):
            columns = change.at("streamDeclarations", {}).get(stream, {}).get("columns", [])
            source = {one.get("name"): one.get("type") for one in columns}
            if source and set(source.values()) <= set(_STREAM_TYPES):
                query = str(flow.get("transformKql") or "source")
                yield from _transformed(query, kinds(source), [row for row in outputs if row])


def _transformed(query: str, source: Mapping[str, str], outputs: list[Row]) -> Iterator[AzureError]:
    def wrong(code: str, why: str) -> AzureError:
        return bad_request("InvalidPayload", f"Data collection rule is invalid. {code}: {why}")

    try:
        operators = [type(one).__name__ for one in kql.parsed(query).operators]
        if others := [name for name in operators if name not in _TRANSFORMS]:
            yield wrong("InvalidTransformQuery", f"Operator '{others[0]}' is not supported in a transformation.")
            return
        produced = dict(kql.check(query, {"source": source}))
    except kql.Syntax as problem:
        why = f"SyntaxError at {problem.line}:{problem.column} : unexpected '{problem.token}'"
        yield wrong("InvalidTransformQuery", f"Error occurred while compiling query in query: {why}")
        return
    except kql.Unsupported as problem:
        yield not_implemented(problem)
        return
    except kql.Problem as problem:
        yield wrong("InvalidTransformQuery", f"Error occurred while compiling query in query: {problem}")
        return
    if produced.get("TimeGenerated") != "datetime":
        yield wrong("InvalidTransformQuery", "Transform output must contain TimeGenerated of type datetime.")
    for table in outputs:
        there = table_columns(table)
        other = [
            f"{name} [produced:'{_NAMED.get(kind, kind)}', output:'{_NAMED[there[name]]}']"
            for name, kind in produced.items()
            if there.get(name, kind) != kind
        ]
        if other:
            yield wrong(
                "InvalidTransformOutput",
                "Types of transform output columns do not match the ones defined by the output stream: "
                + ", ".join(other),
            )
