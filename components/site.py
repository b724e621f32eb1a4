"""Where a stack's own resources stand: its resource group and network."""

import pulumi
import pulumi_azure_native as azure

from components import tags
from patchwave.base.errors import UsageError
from patchwave.config.settings.network import Network


class Site(pulumi.ComponentResource):
    """A resource group and a network, each made here or there already.

    Attributes: `stack`, `location`, `group` (name), `group_id`, `subnet_id`, `subscription` (as /subscriptions/…).
    """

    def __init__(
        self,
        name: str,
        *,
        stack: str,
        location: str,
        group: str,
        group_exists: bool,
        network: Network | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("patchwave:index:Site", name, None, opts)
        self.stack, self.location = stack, location
        self.group: pulumi.Output[str]
        if group_exists:
            known = azure.resources.get_resource_group_output(
                resource_group_name=group, opts=pulumi.InvokeOutputOptions(parent=self)
            )
            self.group, self.group_id = known.name, known.id
        else:
            made = azure.resources.ResourceGroup(
                f"{name}-group",
                resource_group_name=group,
                location=location,
                tags=tags.common(stack),
                opts=pulumi.ResourceOptions(parent=self),
            )
            self.group, self.group_id = made.name, made.id
        self.subscription = self.group_id.apply(lambda group_id: group_id.split("/resourceGroups/")[0])
        self._subnet_id = self._subnet(name, network) if network else None
        self.register_outputs({"group": self.group, "subnet_id": self._subnet_id})

    @property
    def subnet_id(self) -> pulumi.Output[str]:
        """The subnet of hosts; UsageError without one, which the settings exclude where hosts are created."""
        if self._subnet_id is None:
            raise UsageError("patchwave:settings: network is missing: hosts that are created need one")
        return self._subnet_id

    def _subnet(self, name: str, network: Network) -> pulumi.Output[str]:
        if network.address_space is None:
            return pulumi.Output.from_input(network.subnet_id or "")
        subnet: azure.network.SubnetArgsDict = {"name": "hosts", "address_prefix": network.address_space}
        if network.nat_gateway_id:
            subnet["nat_gateway"] = {"id": network.nat_gateway_id}
        made = azure.network.VirtualNetwork(
            f"{name}-network",
            virtual_network_name=f"{name}-network",
            resource_group_name=self.group,
            location=self.location,
            address_space={"address_prefixes": [network.address_space]},
            subnets=[subnet],
            tags=tags.common(self.stack),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return pulumi.Output.concat(made.id, "/subnets/hosts")
