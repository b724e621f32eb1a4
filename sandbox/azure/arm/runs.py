"""Maintenance runs as Azure Maintenance keeps them: what a caller applies to a resource, and the cancelling of a run.

https://learn.microsoft.com/rest/api/maintenance/apply-updates/create-or-update-or-cancel
"""

from __future__ import annotations

import re
import uuid
from typing import Any

from sandbox.azure.arm.complete import now
from sandbox.azure.arm.rules import dig
from sandbox.azure.resources.errors import AzureError, bad_request, not_found
from sandbox.azure.resources.ids import ResourceId, under
from sandbox.azure.resources.store import Row, Store

Json = Any
TYPE = "microsoft.maintenance/applyupdates"
_CONFIGURATION = "microsoft.maintenance/maintenanceconfigurations"
_RUN = re.compile(r"\d{14}")


def listed(store: Store, scope: str) -> list[Row]:
    """The runs in a subscription, a group or of a resource."""
    return [row for row in store.of_type(TYPE) if under(row.key, scope.lower())]


def found(store: Store, target: ResourceId) -> Row:
    row = store.get(target.key)
    if row is None:
        raise not_found(f"{target.type}/{target.name}", target.group)
    return row


def apply(store: Store, owner: Row, target: ResourceId, body: Json) -> Row:
    """The platform's pending updates, of which a host of the sandbox has none; a schedule's run can be cancelled.

    No schedule runs in the sandbox, so that there is no run to cancel either.
    """
    if owner.type == _CONFIGURATION:
        if dig(body, "properties.status") != "Cancel" or not _RUN.fullmatch(target.name):
            raise bad_request(
                "InvalidRequestContent", "A run is named YYYYMMDDhhmmss, and only the status 'Cancel' can be set."
            )
        raise not_found(f"{target.type}/{target.name}", target.group)
    if not owner.type.startswith("microsoft.compute/virtualmachine"):
        raise bad_request("InvalidRequestContent", f"Updates cannot be applied to resources of {owner.type}.")
    if target.name.lower() != "default":
        raise AzureError(405, "MethodNotAllowed", "Updates are applied by a PUT of applyUpdates/default.")
    name = str(uuid.uuid4())
    identity = f"{target.text.rpartition('/')[0]}/{name}"
    properties = {"status": "NoUpdatesPending", "resourceId": owner.id, "lastUpdateTime": now()}
    body = {"id": identity, "name": name, "type": "Microsoft.Maintenance/applyUpdates", "properties": properties}
    row = Row(identity, TYPE, owner.key, body)
    store.put(row)
    return row
