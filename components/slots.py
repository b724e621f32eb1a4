"""Blue and green: two scale sets with a fixed pool each, and one rule that points at the live pool."""

from typing import get_args

import pulumi
import pulumi_azure_native as azure

from components import tags
from components.scale_set import ScaleSet
from components.site import Site
from patchwave.settings import Probe, Settings, Slot


class Slots(pulumi.ComponentResource):
    """Requests reach the live slot only; switching changes the rule and no instance.

    Attributes: `address` (public IPv4), `url`.
    """

    def __init__(
        self, name: str, *, settings: Settings, site: Site, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("patchwave:index:Slots", name, None, opts)
        address = azure.network.PublicIPAddress(
            f"{name}-address",
            public_ip_address_name=f"{name}-address",
            resource_group_name=site.group,
            location=settings.location,
            sku={"name": "Standard", "tier": "Regional"},
            public_ip_allocation_method="Static",
            tags=tags.common(name),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self_id = pulumi.Output.concat(site.group_id, f"/providers/Microsoft.Network/loadBalancers/{name}-balancer")
        balancer = azure.network.LoadBalancer(
            f"{name}-balancer",
            load_balancer_name=f"{name}-balancer",
            resource_group_name=site.group,
            location=settings.location,
            sku={"name": "Standard", "tier": "Regional"},
            frontend_ip_configurations=[{"name": "public", "public_ip_address": {"id": address.id}}],
            backend_address_pools=[{"name": slot} for slot in get_args(Slot)],
            probes=[_probe(settings.service.probe)],
            load_balancing_rules=[
                {
                    "name": "web",
                    "protocol": "Tcp",
                    "frontend_port": 80,
                    "backend_port": settings.service.probe.port,
                    "frontend_ip_configuration": {"id": _part(self_id, "frontendIPConfigurations", "public")},
                    "backend_address_pool": {"id": _part(self_id, "backendAddressPools", settings.slots.live)},
                    "probe": {"id": _part(self_id, "probes", "health")},
                }
            ],
            tags=tags.common(name),
            opts=pulumi.ResourceOptions(parent=self),
        )
        for slot in get_args(Slot):
            ScaleSet(
                f"{name}-{slot}",
                stack=name,
                slot=slot,
                settings=settings,
                group=site.group,
                group_id=site.group_id,
                subnet_id=site.subnet_id,
                pool_id=_part(balancer.id, "backendAddressPools", slot),
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.address = address.ip_address.apply(lambda ip: ip or "")
        self.url = pulumi.Output.concat("http://", self.address, "/")
        self.register_outputs({"address": self.address, "url": self.url})


def _part(balancer: pulumi.Input[str], kind: str, name: str) -> pulumi.Output[str]:
    return pulumi.Output.concat(balancer, f"/{kind}/{name}")


def _probe(probe: Probe) -> azure.network.ProbeArgsDict:
    return {
        "name": "health",
        "protocol": "Http",
        "port": probe.port,
        "request_path": probe.path,
        "interval_in_seconds": int(probe.interval.total_seconds()),
        "number_of_probes": 1,
        "probe_threshold": probe.threshold,
    }
