"""What Azure Monitor refuses of alert rules, action groups and workbooks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from sandbox.azure.arm.rules.change import Change, dig, minutes, refuses
from sandbox.azure.arm.rules.logs import table_columns
from sandbox.azure.language import kql
from sandbox.azure.resources.errors import AzureError, bad_request, not_implemented

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
    if size is None or (size not in grains and not size == every == 1):
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
        if (override := change.at("overrideQueryTimeRange")) is not None:
            range_ = minutes(override)
            if range_ is None or range_ < size * periods or (range_ not in grains and range_ != 20):
                yield wrong(
                    f"OverrideQueryTimeRange of {range_ or 0:.0f} minutes must cover the {size * periods:.0f} minutes "
                    f"that the rule looks back. Supported values are: {supported}"
                )
    if change.old is not None and change.at("scopes") != change.was("scopes"):
        yield bad_request("InvalidRequestContent", "Scopes can not be updated.")


@refuses("Microsoft.Insights/scheduledQueryRules")
def query(change: Change) -> Iterator[AzureError]:
    """The workspace answers the rule's queries, unless the rule skips that."""
    workspace = change.view.get(str(change.at("scopes", [""])[0]))
    kind = "microsoft.operationalinsights/workspaces"
    if change.at("skipQueryValidation") or workspace is None or workspace.type != kind:
        return
    tables = {table.name: table_columns(table) for table in change.view.children(workspace.key, f"{kind}/tables")}
    for one in change.at("criteria.allOf", []):
        try:
            kql.check(one["query"], tables)
        except kql.Unsupported as problem:
            yield not_implemented(problem)
        except kql.Problem as problem:
            yield bad_request("BadRequest", str(problem))


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
    for kind, receivers in dict(change.body.get("properties", {})).items():
        if not kind.endswith("Receivers") or not isinstance(receivers, list):
            continue
        if len(receivers) > (1000 if kind == "emailReceivers" else 10):
            yield bad_request("InvalidRequestContent", f"Too many {kind} in the action group.")
        for one in receivers:
            name = str(one.get("name", "")).lower()
            if name in names:
                yield bad_request(
                    "InvalidRequestContent", f"Receiver name '{one.get('name')}' is used twice in the action group."
                )
            names.add(name)
            for field, pattern in _RECEIVERS.get(kind, {}).items():
                if not re.fullmatch(pattern, str(one.get(field, ""))):
                    yield bad_request(
                        "InvalidRequestContent",
                        f"The {field} '{one.get(field)}' of receiver '{one.get('name')}' is invalid.",
                    )


_RECEIVERS = {
    "emailReceivers": {"emailAddress": r"[^@\s]+@[^@\s]+\.[^@\s]+"},
    "smsReceivers": {"countryCode": r"[1-9]\d{0,2}", "phoneNumber": r"\d{1,15}"},
    "voiceReceivers": {"countryCode": r"[1-9]\d{0,2}", "phoneNumber": r"\d{1,15}"},
    "webhookReceivers": {"serviceUri": r"https?://[^\s/]+\S*"},
}


@refuses("Microsoft.Insights/workbooks")
def workbook(change: Change) -> Iterator[AzureError]:
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", change.name):
        yield bad_request("BadRequest", f"Workbook resource name '{change.name}' must be a GUID.")
    if change.body.get("kind", "shared") != "shared":
        yield bad_request("BadRequest", f"Workbook kind '{change.body['kind']}' is not 'shared'.")
    for name in ("displayName", "category"):
        if not change.at(name):
            yield bad_request("BadRequest", f"Workbook {name} must be specified.")
    try:
        json.loads(change.at("serializedData", ""))
    except ValueError:
        yield bad_request("BadRequest", "Workbook serializedData must be a JSON document.")
