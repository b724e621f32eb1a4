"""The way back by snapshot: a restore-point collection for each machine whose fleet asks for one."""

import pulumi
import pulumi_azure_native as azure

from components import tags
from components.site import Site
from patchwave.azure.restore_points import collection_name
from patchwave.config.settings import Settings


class Snapshots(pulumi.ComponentResource):
    """Every machine of a fleet whose way back is a snapshot has a collection for its waves' restore points.

    The points are taken by the wave, a run each; as resources they would be taken once and then be stale.
    Snapshots of a disk need no collection. Attributes: `collection_ids` (by machine).
    """

    def __init__(
        self,
        name: str,
        *,
        stack: str,
        settings: Settings,
        site: Site,
        machines: dict[str, pulumi.Output[str]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("patchwave:index:Snapshots", name, None, opts)
        self.collection_ids: dict[str, pulumi.Output[str]] = {}
        if settings.fleets[settings.fleet("vm")].way_back == "snapshot":
            for machine, machine_id in machines.items():
                self.collection_ids[machine] = azure.compute.RestorePointCollection(
                    f"{name}-{machine}",
                    restore_point_collection_name=collection_name(machine),
                    resource_group_name=site.group,
                    location=settings.location,
                    source={"id": machine_id},
                    tags=tags.common(stack)
                    | {"patchwave-protects": machine, "patchwave-keep-days": str(settings.snapshots.keep.days)},
                    opts=pulumi.ResourceOptions(parent=self),
                ).id
        self.register_outputs({})
