"""What Azure adds to a body by itself: ids, etags, states, addresses and defaults."""

from __future__ import annotations

from sandbox.azure.arm.complete import (  # noqa: F401 - each registers
    access,
    compute,
    events,
    insights,
    maintenance,
    network,
    recovery,
    traffic,
)
from sandbox.azure.arm.complete.common import COMPLETIONS, allocate, etag, now, stable
from sandbox.azure.arm.complete.instances import instances, interfaces
from sandbox.azure.arm.rules import dig
from sandbox.azure.bodies.wire import Wire
from sandbox.azure.resources.kinds import Kind
from sandbox.azure.resources.places import Places
from sandbox.azure.resources.store import Row, Store

__all__ = ["allocate", "complete", "instances", "interfaces", "now", "stable"]
WITHOUT_STATE = {
    "microsoft.maintenance/maintenanceconfigurations", "microsoft.maintenance/configurationassignments",
    "microsoft.insights/workbooks", "microsoft.insights/scheduledqueryrules", "microsoft.insights/actiongroups",
    "microsoft.authorization/roleassignments", "microsoft.network/trafficmanagerprofiles",
    "microsoft.recoveryservices/vaults/backuppolicies",
    "microsoft.recoveryservices/vaults/backupfabrics/protectioncontainers/protecteditems",
}  # fmt: skip


def complete(kind: Kind, row: Row, old: Row | None, store: Store, places: Places, wire: Wire) -> None:
    """Fills in the row's body as Azure would answer it; run inside the transaction that stores it."""
    body = row.body
    body |= {"id": row.id, "name": row.name, "type": kind.type}
    if kind.type.lower() not in WITHOUT_STATE:
        row.properties["provisioningState"] = "Succeeded"
        if kind.type.startswith("Microsoft.Network/"):
            _as_network(kind, row, wire)
    if own := COMPLETIONS.get(kind.type.lower()):
        own(row, old, store, places)


def _as_network(kind: Kind, row: Row, wire: Wire) -> None:
    """Resources of Azure Network have an etag, and so have the parts that they name."""
    row.body["etag"] = etag()
    row.properties["resourceGuid"] = stable(row.id)
    for path in wire.children(kind.shape):
        for part in dig(row.body, ".".join(path), []):
            if part.get("name"):
                part |= {
                    "id": f"{row.id}/{path[-1]}/{part['name']}",
                    "etag": row.body["etag"],
                    "type": f"{row.body['type']}/{path[-1]}",
                }
                part.setdefault("properties", {})["provisioningState"] = "Succeeded"
