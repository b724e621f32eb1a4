"""What Azure Monitor, its workspaces, workbooks and role assignments refuse."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ..errors import AzureError, bad_request, conflict
from .change import Change, dig, minutes, refuses

Json = Any

_GRAINS = (5, 10, 15, 30, 45, 60, 120, 180, 240, 300, 360, 1440, 2880)
_FREQUENCIES = (1, 5, 10, 15, 30, 45, 60, 120, 180, 240, 300, 360, 1440)
_OPERATORS = ("Equals", "GreaterThan", "GreaterThanOrEqual", "LessThan", "LessThanOrEqual")


@refuses("Microsoft.Insights/scheduledQueryRules")
def query_rule(change: Change) -> Iterator[AzureError]:
    def wrong(why: str) -> AzureError:
        return bad_request("InvalidRequestContent", why)

    grains = _GRAINS
    supported = ", ".join(map(str, grains))
    every, size, mute = (
        minutes(change.at(name)) for name in ("evaluationFrequency", "windowSize", "muteActionsDuration")
    )
    if every is None or every not in _FREQUENCIES:
        yield wrong(f"EvaluationFrequency {change.at('evaluationFrequency')} is not supported.")
        return
    if size is None or (size not in grains and not (size == 1 and every == 1)):
        yield wrong(f"WindowSize of {size or 0:.0f} minutes is not supported. Supported granularities are: {supported}")
        return
    if len(change.at("scopes", [])) != 1:
        yield wrong("Exactly one scope must be specified.")
    severity = change.at("severity")
    if severity is None or severity not in range(5):
        yield wrong(f"Severity {severity} is not one of 0, 1, 2, 3, 4.")
    if change.at("muteActionsDuration") is not None:
        if mute is None or mute not in grains:
            yield wrong(
                f"MuteActionsDuration of {mute or 0:.0f} minutes is not supported. Supported values are: {supported}"
            )
        elif every > mute:
            yield wrong("EvaluationFrequency cannot be greater than MuteActionsDuration")
        if change.at("autoMitigate", True):
            yield wrong("MuteActionsDuration cannot be set when AutoMitigate is true.")
    conditions = change.at("criteria.allOf", [])
    if not conditions:
        yield wrong("Criteria must have at least one condition.")
    for one in conditions:
        periods = dig(one, "failingPeriods.numberOfEvaluationPeriods", 1)
        failing = dig(one, "failingPeriods.minFailingPeriodsToAlert", 1)
        if not 1 <= periods <= 6 or not 1 <= failing <= periods:
            yield wrong("FailingPeriods must have 1 to 6 evaluation periods and no more failing ones.")
        if not every <= size * periods <= 2880:
            yield wrong("WindowSize times NumberOfEvaluationPeriods must lie between EvaluationFrequency and 48 hours.")
        if one.get("operator") not in _OPERATORS:
            yield wrong(f"Operator '{one.get('operator')}' is not one of {', '.join(_OPERATORS)}.")
        counting = one.get("timeAggregation") == "Count"
        if counting and one.get("metricMeasureColumn"):
            yield wrong("MetricMeasureColumn must not be specified for time aggregation Count.")
        if not counting and not one.get("metricMeasureColumn"):
            yield wrong(f"MetricMeasureColumn must be specified for time aggregation {one.get('timeAggregation')}.")
        if one.get("threshold") is None:
            yield wrong("Threshold must be specified.")
        if not str(one.get("query", "")).strip():
            yield wrong("Query must be specified.")
    if change.old is not None and change.at("scopes") != change.was("scopes"):
        yield bad_request("InvalidRequestContent", "Scopes can not be updated.")


@refuses("Microsoft.Insights/actionGroups")
def action_group(change: Change) -> Iterator[AzureError]:
    short = change.at("groupShortName", "")
    if not 1 <= len(short) <= 12:
        yield bad_request("InvalidRequestContent", f"The group short name '{short}' must have 1 to 12 characters.")
    if str(change.body.get("location", "")).lower().replace(" ", "") not in (
        "global", "swedencentral", "germanywestcentral", "northcentralus", "southcentralus", "eastus2",
    ):  # fmt: skip
        yield bad_request(
            "LocationNotAvailableForResourceType",
            f"The provided location '{change.body.get('location')}' is not available for resource type "
            "'microsoft.insights/actiongroups'.",
        )
    names: set[str] = set()
    for key, receivers in dict(change.body.get("properties", {})).items():
        if key.endswith("Receivers") and isinstance(receivers, list):
            if len(receivers) > (1000 if key == "emailReceivers" else 10):
                yield bad_request("InvalidRequestContent", f"Too many {key} in the action group.")
            for one in receivers:
                name = str(one.get("name", ""))
                if name.lower() in names:
                    yield bad_request(
                        "InvalidRequestContent", f"Receiver name '{name}' is used twice in the action group."
                    )
                names.add(name.lower())


_STREAM_TYPES = ("string", "int", "long", "real", "boolean", "dynamic", "datetime")
_COLUMN_TYPES = ("string", "int", "long", "real", "boolean", "dateTime", "guid", "dynamic")
_RESERVED = ("_resourceid", "id", "_subscriptionid", "tenantid", "type", "uniqueid", "title")


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


@refuses("Microsoft.OperationalInsights/workspaces")
def workspace(change: Change) -> Iterator[AzureError]:
    days = change.at("retentionInDays")
    if days is not None and not 4 <= days <= 730:
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


@refuses("Microsoft.Insights/workbooks")
def workbook(change: Change) -> Iterator[AzureError]:
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", change.name):
        yield bad_request("BadRequest", f"Workbook resource name '{change.name}' must be a GUID.")
    try:
        json.loads(change.at("serializedData", ""))
    except ValueError:
        yield bad_request("BadRequest", "Workbook serializedData must be a JSON document.")


@refuses("Microsoft.Authorization/roleAssignments")
def role_assignment(change: Change) -> Iterator[AzureError]:
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", change.name):
        yield bad_request(
            "InvalidRoleAssignmentId",
            f"The role assignment ID '{change.name}' is not valid. The role assignment ID must be a GUID.",
        )
    if change.old is not None and (
        change.at("principalId") != change.was("principalId")
        or change.at("roleDefinitionId") != change.was("roleDefinitionId")
    ):
        yield conflict(
            "RoleAssignmentUpdateNotPermitted",
            "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.",
        )
    scope = change.id.lower().rsplit("/providers/microsoft.authorization/", 1)[0]
    for row in change.view.of_type("Microsoft.Authorization/roleAssignments"):
        same = row.key != change.id.lower() and row.key.rsplit("/providers/microsoft.authorization/", 1)[0] == scope
        if same and all(
            str(dig(row.body, f"properties.{name}")).lower() == str(change.at(name)).lower()
            for name in ("principalId", "roleDefinitionId")
        ):
            yield conflict("RoleAssignmentExists", "The role assignment already exists.")
