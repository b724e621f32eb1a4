"""What Azure Authorization adds to a body."""

from __future__ import annotations

from sandbox.azure.arm.complete.common import completes, kept, now
from sandbox.azure.resources.places import Places
from sandbox.azure.resources.roles import definition_id
from sandbox.azure.resources.store import Row, Store


@completes("Microsoft.Authorization/roleAssignments")
def _assignment(row: Row, old: Row | None, store: Store, places: Places) -> None:
    row.properties["scope"] = row.id[: row.id.lower().rindex("/providers/microsoft.authorization/")]
    row.properties["roleDefinitionId"] = definition_id(row.properties["roleDefinitionId"])
    row.properties.setdefault("principalType", "ServicePrincipal")
    row.properties["createdOn"] = kept(old, "properties.createdOn", now())
    row.properties["updatedOn"] = now()
