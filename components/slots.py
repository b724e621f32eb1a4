"""Blue and green: two scale sets with a fixed pool each, and rules that decide which of them users reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import pulumi
import pulumi_azure_native as azure

from components import tags
from components.scale_set import ScaleSet
from components.site import Site
from components.traffic import Traffic
from patchwave.config.settings import Settings, Slot
from patchwave.config.settings.service import Probe
from patchwave.config.settings.slots import Slots as Decisions

PUBLIC = "public"


class Slots(pulumi.ComponentResource):
    """Requests reach the live slot only, and switching changes one rule and no instance; or they are spread by weight.

    Attributes: `address` (public IPv4 of the live slot), `url`, `scale_sets` (by slot),
    `weighted_name` (the name that spreads by weight, or None).
    """

    def __init__(
        self, name: str, *, settings: Settings, site: Site, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("patchwave:index:Slots", name, None, opts)
        pools = fronts(settings.slots)
        addresses = {front: self._address(name, front, settings, site) for front in pools}
        self_id = pulumi.Output.concat(site.group_id, f"/providers/Microsoft.Network/loadBalancers/{name}-balancer")
        balancer = azure.network.LoadBalancer(
            f"{name}-balancer",
            load_balancer_name=f"{name}-balancer",
            resource_group_name=site.group,
            location=settings.location,
            sku={"name": "Standard", "tier": "Regional"},
            frontend_ip_configurations=[
                {"name": front, "public_ip_address": {"id": address.id}} for front, address in addresses.items()
            ],
            backend_address_pools=[{"name": slot} for slot in get_args(Slot)],
            probes=[_probe(settings.service.probe)],
            load_balancing_rules=[
                {
                    "name": "web" if front == PUBLIC else front,
                    "protocol": "Tcp",
                    "frontend_port": 80,
                    "backend_port": settings.service.probe.port,
                    "frontend_ip_configuration": {"id": _part(self_id, "frontendIPConfigurations", front)},
                    "backend_address_pool": {"id": _part(self_id, "backendAddressPools", slot)},
                    "probe": {"id": _part(self_id, "probes", "health")},
                }
                for front, slot in pools.items()
            ],
            tags=tags.common(name),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.scale_sets: dict[str, ScaleSet] = {}
        for slot in get_args(Slot):
            self.scale_sets[slot] = ScaleSet(
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
        self.weighted_name: pulumi.Output[str] | None = None
        if settings.slots.traffic_manager:
            self.weighted_name = Traffic(
                f"{name}-traffic",
                stack=name,
                site=site,
                decisions=settings.slots.traffic_manager,
                probe=settings.service.probe,
                address_ids={front: address.id for front, address in addresses.items()},
                opts=pulumi.ResourceOptions(parent=self),
            ).name
        live = next(front for front, slot in pools.items() if slot == settings.slots.live)
        self.address = addresses[live].ip_address.apply(lambda ip: ip or "")
        self.url = pulumi.Output.concat("http://", self.address, "/")
        self.register_outputs({"address": self.address, "url": self.url})

    def _address(self, name: str, front: str, settings: Settings, site: Site) -> azure.network.PublicIPAddress:
        traffic = settings.slots.traffic_manager
        own = f"{name}-address" if front == PUBLIC else f"{name}-{front}-address"
        return azure.network.PublicIPAddress(
            own,
            public_ip_address_name=own,
            resource_group_name=site.group,
            location=settings.location,
            sku={"name": "Standard", "tier": "Regional"},
            public_ip_allocation_method="Static",
            dns_settings={"domain_name_label": f"{traffic.dns_name}-{front}"} if traffic else None,
            tags=tags.common(name),
            opts=pulumi.ResourceOptions(parent=self),
        )


def fronts(slots: Decisions) -> Mapping[str, Slot]:
    """Each public front and the slot behind it: one that follows the live slot, or one a slot where weights decide.

    Two rules of one balancer may not share a pool and its port, so the two ways exclude each other.
    https://learn.microsoft.com/azure/load-balancer/load-balancer-multivip-overview
    """
    return {slot: slot for slot in get_args(Slot)} if slots.traffic_manager else {PUBLIC: slots.live}


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
