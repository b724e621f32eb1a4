"""What Azure Monitor refuses of workspaces, tables and collection rules."""

import re
from collections.abc import Iterator

from policy.declared import Props
from policy.service.registry import refuses
from policy.service.values import at, items, number, objects, outside, plain, table

WORKSPACE = "operationalinsights:Workspace"
TABLE = "operationalinsights:Table"
COLLECTION = "monitor:DataCollectionRule"

_LEARN = "https://learn.microsoft.com/azure/azure-monitor"
INGESTION = f"{_LEARN}/logs/logs-ingestion-api-overview"
CUSTOM = f"{_LEARN}/logs/create-custom-table"
RETENTION = f"{_LEARN}/logs/data-retention-configure"
LIMITS = f"{_LEARN}/fundamentals/service-limits"

TABLE_TYPES = ("string", "int", "long", "real", "boolean", "dateTime", "guid", "dynamic")
STREAM_TYPES = ("string", "int", "long", "real", "boolean", "dynamic", "datetime")
RESERVED = ("_resourceid", "id", "_subscriptionid", "tenantid", "type", "uniqueid", "title")


@refuses(WORKSPACE, source=RETENTION)
def workspaces_keep_a_month_to_two_years(props: Props) -> Iterator[str]:
    """A workspace keeps logs for 30 to 730 days."""
    if outside(days := props.get("retentionInDays"), 30, 730):
        yield f"retentionInDays is {plain(days)}: set 30 to 730"


@refuses(TABLE, source=RETENTION)
def tables_keep_within_the_ranges(props: Props) -> Iterator[str]:
    """A table keeps rows 4 to 730 days at hand and 4 to 4383 in all; -1 stands for the workspace's."""
    for key, most in (("retentionInDays", 730), ("totalRetentionInDays", 4383)):
        days = props.get(key)
        if number(days) != -1 and outside(days, 4, most):
            yield f"{key} is {plain(days)}: set 4 to {most}, or -1 for the workspace's"


@refuses(TABLE, source="https://github.com/hashicorp/terraform-provider-azurerm/issues/24341")
def only_analytics_tables_choose_their_retention(props: Props) -> Iterator[str]:
    """Rows of a Basic table are kept for a time that cannot be chosen."""
    if props.get("plan") == "Basic" and props.get("retentionInDays") is not None:
        yield "retentionInDays stands beside plan Basic: leave it out, or set plan Analytics"


@refuses(TABLE, source=CUSTOM)
def custom_tables_are_named_alike_twice(props: Props) -> Iterator[str]:
    """A custom table's name ends in _CL and is its schema's as well."""
    name = props.get("tableName")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,59}_CL", str(name)):
        yield f"tableName is {name!r}: begin with a letter and end in _CL"
    elif (schema := at(props, "schema", "name")) != name:
        yield f"schema.name is {schema!r}: set {name}"


@refuses(TABLE, source=INGESTION)
def custom_tables_have_proper_columns(props: Props) -> Iterator[str]:
    """Columns have names of up to 45 characters that are not reserved, known types, and one is TimeGenerated."""
    columns = {str(one.get("name")): one.get("type") for one in objects(at(props, "schema", "columns"))}
    if columns.get("TimeGenerated") != "dateTime":
        yield "schema.columns has no TimeGenerated of type dateTime: add it"
    for name, kind in columns.items():
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,44}", name):
            yield f"column {name!r}: begin with a letter, use letters, digits and _, 45 at most"
        if name.lower() in RESERVED:
            yield f"column {name} is reserved: rename it"
        if kind not in TABLE_TYPES:
            yield f"column {name} has type {kind!r}: choose of {', '.join(TABLE_TYPES)}"


@refuses(COLLECTION, source=INGESTION)
def streams_have_proper_columns(props: Props) -> Iterator[str]:
    """A custom stream is named Custom-…, and spells the type of times datetime."""
    streams = table(props.get("streamDeclarations"))
    for name in streams:
        if not str(name).startswith("Custom-"):
            yield f"stream {name}: name it Custom-{name}"
        for column in objects(at(streams, name, "columns")):
            if (kind := column.get("type")) not in STREAM_TYPES:
                yield f"a column of stream {name} has type {kind!r}: choose of {', '.join(STREAM_TYPES)}"


@refuses(COLLECTION, source="https://github.com/hashicorp/terraform-provider-azurerm/issues/18481")
def flows_carry_what_is_declared(props: Props) -> Iterator[str]:
    """A flow's streams and destinations are declared in its rule, or are Microsoft's own."""
    declared = set(table(props.get("streamDeclarations")))
    named = {str(one.get("name")) for one in objects(at(props, "destinations", "logAnalytics"))}
    for flow in objects(props.get("dataFlows")):
        for stream in items(flow.get("streams")):
            if not str(stream).startswith("Microsoft-") and str(stream) not in declared:
                yield f"a flow carries {stream!r}: declare it in streamDeclarations"
        for destination in items(flow.get("destinations")):
            if str(destination) not in named:
                yield f"a flow ends in {destination!r}: declare it in destinations.logAnalytics"


@refuses(COLLECTION, source="https://github.com/MicrosoftDocs/azure-docs/issues/113557")
def flows_end_in_a_custom_table(props: Props) -> Iterator[str]:
    """What comes from a custom stream goes to a named custom table."""
    for flow in objects(props.get("dataFlows")):
        own = any(str(one).startswith("Custom-") for one in items(flow.get("streams")))
        output = str(flow.get("outputStream"))
        if own and not output.startswith("Microsoft-") and not re.fullmatch(r"Custom-\w+_CL", output):
            yield f"a flow's outputStream is {flow.get('outputStream')!r}: write Custom- and the table's name"


@refuses(COLLECTION, source=LIMITS)
def collection_rules_stay_within_the_limits(props: Props) -> Iterator[str]:
    """A rule has up to 10 streams and 10 flows, whose transformations have up to 15360 characters."""
    streams, flows = table(props.get("streamDeclarations")), objects(props.get("dataFlows"))
    if len(streams) > 10:
        yield f"streamDeclarations has {len(streams)} streams: keep 10"
    if len(flows) > 10:
        yield f"dataFlows has {len(flows)} flows: keep 10"
    for flow in flows:
        if len(str(flow.get("transformKql") or "")) > 15360:
            yield "a flow's transformKql has more than 15360 characters: shorten it"


@refuses(COLLECTION, source=INGESTION)
def rules_of_this_version_have_an_endpoint(props: Props) -> Iterator[str]:
    """Version 2022-06-01 of the service has no rules of kind Direct: custom streams need an endpoint."""
    if (kind := props.get("kind")) not in (None, "Linux", "Windows"):
        yield f"kind is {kind!r}: leave it out"
    if props.get("streamDeclarations") and "dataCollectionEndpointId" not in set(props):
        yield "dataCollectionEndpointId is missing beside custom streams: declare an endpoint"
