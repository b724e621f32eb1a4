"""What the identity that carries waves out may do in Azure."""

import uuid
from collections.abc import Mapping

import pulumi
import pulumi_azure_native as azure

from components import roles
from components.roles import Role
from components.scale_set import ScaleSet
from components.site import Site
from patchwave.config.settings import Settings

NAMESPACE = uuid.UUID("0d0e4f0e-8f0a-5a0b-9e53-6c1f6d6a2b77")


class Access(pulumi.ComponentResource):
    """The runner may do what a wave does, on this stack alone: nothing is given above a resource group.

    It reads the stack and the Arc machines, writes the wave's rows, edits schedules when the release changes, holds off
    repairs where there are any, and, where a snapshot is the way back, takes snapshots and gives a machine its disk
    back. Declaring a new stack takes more than this.
    """

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        site: Site,
        principal: str,
        ingestion_rule: pulumi.Input[str],
        scale_sets: Mapping[str, ScaleSet],
        machines: Mapping[str, pulumi.Input[str]],
        collections: Mapping[str, pulumi.Input[str]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("patchwave:index:Access", name, None, opts)
        self._subscription = pulumi.Output.from_input(site.group_id).apply(
            lambda group: group.split("/resourceGroups/")[0]
        )
        self._principal = principal
        sites = pulumi.Output.concat(self._subscription, f"/resourceGroups/{settings.maintenance.arc_resource_group}")
        self._give(f"{name}-stack", roles.READER, site.group_id)
        self._give(f"{name}-sites", roles.READER, sites)
        self._give(f"{name}-stack", roles.PATCHING_CONTRIBUTOR, site.group_id)
        self._give(f"{name}-rows", roles.METRICS_PUBLISHER, ingestion_rule)
        if settings.slots.repairs:
            for slot, scale_set in scale_sets.items():
                self._give(f"{name}-{slot}", roles.MACHINE_CONTRIBUTOR, scale_set.id)
        way_back = settings.fleets[settings.fleet("vm")].way_back
        if way_back != "downgrade":
            self._give(f"{name}-stack", roles.DISK_RESTORER, site.group_id)
            for machine, machine_id in machines.items():
                self._give(f"{name}-{machine}", roles.MACHINE_CONTRIBUTOR, machine_id)
        if way_back == "disk_snapshot":
            self._give(f"{name}-stack", roles.SNAPSHOT_CONTRIBUTOR, site.group_id)
        for machine, collection in collections.items():
            self._give(f"{name}-{machine}-points", roles.CONTRIBUTOR, collection)
        self.register_outputs({})

    def _give(self, name: str, role: Role, scope: pulumi.Input[str]) -> None:
        """One assignment, under a name that is the same in every preview: the service takes only GUIDs."""
        own = f"{name}-{role.name}"
        azure.authorization.RoleAssignment(
            own,
            role_assignment_name=str(uuid.uuid5(NAMESPACE, f"{own}/{self._principal}")),
            scope=scope,
            principal_id=self._principal,
            principal_type="ServicePrincipal",
            description=f"Patchwave's runner: {role.source}",
            role_definition_id=pulumi.Output.concat(
                self._subscription, f"/providers/Microsoft.Authorization/roleDefinitions/{role.id}"
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
