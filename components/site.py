"""Where a stack lives: its resource group and network."""

import pulumi
import pulumi_azure_native as azure

from components import tags
from patchwave.config.settings import Settings


class Site(pulumi.ComponentResource):
    """One resource group with one network; everything of the stack stands in it.

    Attributes: `group` (name), `group_id`, `subnet_id`.
    """

    def __init__(self, name: str, *, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("patchwave:index:Site", name, None, opts)
        group = azure.resources.ResourceGroup(
            f"{name}-group",
            resource_group_name=f"patchwave-{name}",
            location=settings.location,
            tags=tags.common(name),
            opts=pulumi.ResourceOptions(parent=self),
        )
        network = azure.network.VirtualNetwork(
            f"{name}-network",
            virtual_network_name=f"{name}-network",
            resource_group_name=group.name,
            location=settings.location,
            address_space={"address_prefixes": [settings.address_space]},
            subnets=[{"name": "hosts", "address_prefix": settings.address_space}],
            tags=tags.common(name),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.group = group.name
        self.group_id = group.id
        self.subnet_id = pulumi.Output.concat(network.id, "/subnets/hosts")
        self.register_outputs({"group": self.group, "subnet_id": self.subnet_id})
