"""Rollback by restore point: a collection for each machine whose fleet goes back by one."""

from collections.abc import Mapping

import pulumi
import pulumi_azure_native as azure

from components import tags
from components.site import Site
from patchwave.azure.restore_points import collection_name
from patchwave.config.settings.snapshots import Snapshots as Decisions


class Snapshots(pulumi.ComponentResource):
    """Every given machine has a collection for its waves' restore points.

    The points are taken by the wave, one a run; as resources they would be taken once and then be stale.
    Snapshots of a disk need no collection. Attributes: `collection_ids` (by machine).
    """

    def __init__(
        self,
        name: str,
        *,
        decisions: Decisions,
        machines: Mapping[str, pulumi.Input[str]],
        site: Site,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("patchwave:index:Snapshots", name, None, opts)
        self.collection_ids: dict[str, pulumi.Output[str]] = {}
        for machine, machine_id in machines.items():
            self.collection_ids[machine] = azure.compute.RestorePointCollection(
                f"{name}-{machine}",
                restore_point_collection_name=collection_name(machine),
                resource_group_name=site.group,
                location=site.location,
                source={"id": machine_id},
                tags=tags.common(site.stack)
                | {"patchwave-protects": machine, "patchwave-keep-days": str(decisions.keep.days)},
                opts=pulumi.ResourceOptions(parent=self),
            ).id
        self.register_outputs({})
