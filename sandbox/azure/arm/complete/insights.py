"""What Azure Monitor and its workspaces add to a body."""

from __future__ import annotations

from typing import Any

from sandbox.azure.arm.complete.common import completes, etag, kept, now, stable
from sandbox.azure.arm.rules import dig
from sandbox.azure.resources.places import Places
from sandbox.azure.resources.store import Row, Store

Json = Any


@completes("Microsoft.OperationalInsights/workspaces")
def _workspace(row: Row, old: Row | None, store: Store, places: Places) -> None:
    row.properties["customerId"] = stable(row.id)
    row.properties.setdefault("sku", {"name": "PerGB2018"})
    row.properties.setdefault("retentionInDays", 30)
    row.properties["createdDate"] = kept(old, "properties.createdDate", now())
    row.properties["modifiedDate"] = now()


@completes("Microsoft.OperationalInsights/workspaces/tables")
def _table(row: Row, old: Row | None, store: Store, places: Places) -> None:
    workspace = store.get(row.parent)
    default = dig(workspace.body, "properties.retentionInDays", 30) if workspace else 30
    row.properties.setdefault("plan", "Analytics")
    for name in ("retentionInDays", "totalRetentionInDays"):
        if row.properties.get(name) in (None, -1):
            row.properties[name] = default


@completes("Microsoft.Insights/dataCollectionEndpoints")
def _endpoint(row: Row, old: Row | None, store: Store, places: Places) -> None:
    row.properties["immutableId"] = f"dce-{stable(row.id).replace('-', '')}"
    row.properties["logsIngestion"] = {"endpoint": places.endpoint}
    row.body["etag"] = etag()


@completes("Microsoft.Insights/dataCollectionRules")
def _rule(row: Row, old: Row | None, store: Store, places: Places) -> None:
    row.properties["immutableId"] = f"dcr-{stable(row.id).replace('-', '')}"
    for one in dig(row.body, "properties.destinations.logAnalytics", []):
        one["workspaceId"] = stable(one["workspaceResourceId"])
    row.body["etag"] = etag()


@completes("Microsoft.Insights/scheduledQueryRules")
def _alert(row: Row, old: Row | None, store: Store, places: Places) -> None:
    row.properties.setdefault("autoMitigate", True)
    row.properties.setdefault("enabled", True)
    row.body.setdefault("kind", "LogAlert")
    row.body["etag"] = etag()


@completes("Microsoft.Insights/workbooks")
def _workbook(row: Row, old: Row | None, store: Store, places: Places) -> None:
    row.properties.update({"version": "Notebook/1.0", "timeModified": now(), "userId": stable("identity")})
    row.body["etag"] = etag()
