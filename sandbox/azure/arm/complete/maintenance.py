"""What Azure Maintenance adds to a body."""

from __future__ import annotations

from sandbox.azure.arm.complete.common import completes
from sandbox.azure.resources.places import Places
from sandbox.azure.resources.store import Row, Store


@completes("Microsoft.Maintenance/maintenanceConfigurations")
def _configuration(row: Row, old: Row | None, store: Store, places: Places) -> None:
    row.properties.setdefault("visibility", "Custom")
    row.properties.setdefault("namespace", "Microsoft.Maintenance")
    if window := row.properties.get("maintenanceWindow"):
        window.setdefault("expirationDateTime", "9999-12-31 23:59:59")
    if patches := row.properties.get("installPatches"):
        patches.setdefault("rebootSetting", "IfRequired")


@completes("Microsoft.Maintenance/configurationAssignments")
def _assignment(row: Row, old: Row | None, store: Store, places: Places) -> None:
    scope = row.id[: row.id.lower().rindex("/providers/microsoft.maintenance/")]
    row.properties.setdefault("resourceId", scope)
