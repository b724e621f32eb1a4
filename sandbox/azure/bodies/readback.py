"""How Azure spells a resource when it is read: some providers return other spellings than they were sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from sandbox.azure.resources.errors import bad_request
from sandbox.azure.resources.store import Row

Json = Any


def shown(row: Row) -> dict[str, Json]:
    """The body as a GET answers it."""
    habit = _HABITS.get(row.type)
    return habit(row.body) if habit else row.body


def _configuration(body: dict[str, Json]) -> dict[str, Json]:
    """https://github.com/Azure/azure-rest-api-specs/issues/27222."""
    properties = dict(body["properties"])
    if (patches := properties.get("installPatches")) and patches.get("rebootSetting") == "Always":
        properties["installPatches"] = {**patches, "rebootSetting": "AlwaysReboot"}
    return {**body, "properties": properties}


def _assignment(body: dict[str, Json]) -> dict[str, Json]:
    """https://github.com/Azure/azure-rest-api-specs/issues/34824."""
    properties = dict(body["properties"])
    for name in ("maintenanceConfigurationId", "resourceId"):
        properties[name] = properties[name].lower()
    return {**body, "id": body["id"].lower(), "properties": properties}


_HABITS: dict[str, Callable[[dict[str, Json]], dict[str, Json]]] = {
    "microsoft.maintenance/maintenanceconfigurations": _configuration,
    "microsoft.maintenance/configurationassignments": _assignment,
}


def farewell(row: Row) -> dict[str, Json] | None:
    """The body of the answer to a DELETE, from the one provider that has one."""
    return {"boolean": True} if row.type == "microsoft.network/trafficmanagerprofiles" else None


def filtered(rows: Sequence[Row], query: str | None, scope: str) -> Sequence[Row]:
    """The rows that OData's `$filter` leaves of a list."""
    if not query:
        return rows
    if query == "atScope()":
        return [row for row in rows if row.key.rsplit("/providers/", 1)[0] == scope]
    equal = re.fullmatch(r"(principalId|assignedTo)(?:\(| eq )'([^']+)'\)?", query)
    if equal:
        return [row for row in rows if str(row.properties.get("principalId", "")).lower() == equal[2].lower()]
    if query.startswith("backupManagementType eq 'AzureIaasVM'"):
        return rows
    raise bad_request("BadRequest", f"The filter '{query}' is not known to the sandbox.")
