"""What the identity that carries waves out may do in Azure."""

import uuid
from collections.abc import Iterable, Mapping

import pulumi
import pulumi_azure_native as azure

from components import roles
from components.roles import Role
from components.site import Site

NAMESPACE = uuid.UUID("0d0e4f0e-8f0a-5a0b-9e53-6c1f6d6a2b77")


class Access(pulumi.ComponentResource):
    """The runner may do what a wave does, on this stack alone: nothing is given above a resource group.

    It reads the stack's group and the named groups of existing hosts. Where they are given, it writes rows by the
    ingestion rule, edits the schedules of the stack when the release changes, drains by the balancers, holds off the
    repairs of scale sets, and gives machines their disk back from restore points or snapshots.
    Declaring a new stack takes more than this.
    """

    def __init__(
        self,
        name: str,
        *,
        principal: str,
        existing_groups: Iterable[str],
        schedules: bool,
        ingestion_rule: pulumi.Input[str] | None,
        balancers: Mapping[str, pulumi.Input[str]],
        repaired: Mapping[str, pulumi.Input[str]],
        restored: Mapping[str, pulumi.Input[str]],
        collections: Mapping[str, pulumi.Input[str]],
        disk_snapshots: bool,
        site: Site,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("patchwave:index:Access", name, None, opts)
        self._subscription = site.subscription
        self._principal = principal
        self._give(f"{name}-stack", roles.READER, site.group_id)
        for group in existing_groups:
            key = group.strip("/").replace("/", "-").lower()
            scope: pulumi.Input[str] = group
            if not group.startswith("/"):
                scope = pulumi.Output.concat(self._subscription, f"/resourceGroups/{group}")
            self._give(f"{name}-{key}", roles.READER, scope)
        if schedules:
            self._give(f"{name}-stack", roles.PATCHING_CONTRIBUTOR, site.group_id)
        if ingestion_rule is not None:
            self._give(f"{name}-rows", roles.METRICS_PUBLISHER, ingestion_rule)
        for fleet, balancer in balancers.items():
            self._give(f"{name}-{fleet}-balancer", roles.NETWORK_CONTRIBUTOR, balancer)
        for scale_set, scale_set_id in repaired.items():
            self._give(f"{name}-{scale_set}", roles.MACHINE_CONTRIBUTOR, scale_set_id)
        if restored:
            self._give(f"{name}-stack", roles.DISK_RESTORER, site.group_id)
        for machine, machine_id in restored.items():
            self._give(f"{name}-{machine}", roles.MACHINE_CONTRIBUTOR, machine_id)
        if disk_snapshots:
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
