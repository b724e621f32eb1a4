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
from patchwave.config.settings import Administrators, Slot
from patchwave.config.settings.network import PortRule, Probe
from patchwave.config.settings.slots import SlotHosts

PUBLIC = "public"
_SCHEMES = {80: "http", 443: "https"}


class Slots(pulumi.ComponentResource):
    """Requests reach the live slot only, and switching changes rules and no instance; or they are spread by weight.

    Attributes: `address` (public IPv4 of the live slot), `url`, `balancer_id`, `scale_sets` (by slot),
    `weighted_name` (the name that spreads by weight, or None).
    """

    def __init__(
        self,
        name: str,
        *,
        hosts: SlotHosts,
        administrators: Administrators,
        labels: Mapping[str, str],
        site: Site,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("patchwave:index:Slots", name, None, opts)
        pools = fronts(hosts)
        addresses = {front: self._address(name, front, hosts, site) for front in pools}
        self_id = pulumi.Output.concat(site.group_id, f"/providers/Microsoft.Network/loadBalancers/{name}-balancer")
        balancer = azure.network.LoadBalancer(
            f"{name}-balancer",
            load_balancer_name=f"{name}-balancer",
            resource_group_name=site.group,
            location=site.location,
            sku={"name": "Standard", "tier": "Regional"},
            frontend_ip_configurations=[
                {"name": front, "public_ip_address": {"id": address.id}} for front, address in addresses.items()
            ],
            backend_address_pools=[{"name": slot} for slot in get_args(Slot)],
            probes=[probe(hosts.balancer.probe)],
            load_balancing_rules=[
                {
                    "name": f"{front}-{rule.port}",
                    "protocol": "Tcp",
                    "frontend_port": rule.port,
                    "backend_port": rule.to,
                    "frontend_ip_configuration": {"id": _part(self_id, "frontendIPConfigurations", front)},
                    "backend_address_pool": {"id": _part(self_id, "backendAddressPools", slot)},
                    "probe": {"id": _part(self_id, "probes", "health")},
                }
                for front, slot in pools.items()
                for rule in hosts.balancer.ports
            ],
            tags=tags.common(site.stack),
            # a wave takes single addresses out of service: their administrative state is its own
            opts=pulumi.ResourceOptions(
                parent=self, ignore_changes=["backendAddressPools[*].loadBalancerBackendAddresses"]
            ),
        )
        self.balancer_id = balancer.id
        self.scale_sets: dict[str, ScaleSet] = {}
        for slot in get_args(Slot):
            self.scale_sets[slot] = ScaleSet(
                f"{name}-{slot}",
                hosts=hosts,
                administrators=administrators,
                labels={**labels, "patchwave-slot": slot},
                pool_id=_part(balancer.id, "backendAddressPools", slot),
                site=site,
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.weighted_name: pulumi.Output[str] | None = None
        if hosts.traffic_manager:
            self.weighted_name = Traffic(
                f"{name}-traffic",
                decisions=hosts.traffic_manager,
                probe=hosts.balancer.probe,
                port=_asked(hosts.balancer.probe, hosts.balancer.ports).port,
                address_ids={front: address.id for front, address in addresses.items()},
                site=site,
                opts=pulumi.ResourceOptions(parent=self),
            ).name
        live = next(front for front, slot in pools.items() if slot == hosts.live)
        self.address = addresses[live].ip_address.apply(lambda ip: ip or "")
        self.url = self.address.apply(lambda ip: url(ip, _asked(hosts.balancer.probe, hosts.balancer.ports).port))
        self.register_outputs({"address": self.address, "url": self.url})

    def _address(self, name: str, front: str, hosts: SlotHosts, site: Site) -> azure.network.PublicIPAddress:
        traffic = hosts.traffic_manager
        own = f"{name}-address" if front == PUBLIC else f"{name}-{front}-address"
        return azure.network.PublicIPAddress(
            own,
            public_ip_address_name=own,
            resource_group_name=site.group,
            location=site.location,
            sku={"name": "Standard", "tier": "Regional"},
            public_ip_allocation_method="Static",
            dns_settings={"domain_name_label": f"{traffic.dns_name}-{front}"} if traffic else None,
            tags=tags.common(site.stack),
            opts=pulumi.ResourceOptions(parent=self),
        )


def fronts(hosts: SlotHosts) -> Mapping[str, Slot]:
    """Each public front and the slot behind it: one that follows the live slot, or one a slot where weights decide.

    Two rules of one balancer may not share a pool and its port, so the two ways exclude each other.
    https://learn.microsoft.com/azure/load-balancer/load-balancer-multivip-overview
    """
    return {slot: slot for slot in get_args(Slot)} if hosts.traffic_manager else {PUBLIC: hosts.live}


def url(address: str, port: int) -> str:
    """The URL of an address and port: https on 443 only."""
    return f"{_SCHEMES[port]}://{address}/" if port in _SCHEMES else f"http://{address}:{port}/"


def probe(decisions: Probe) -> azure.network.ProbeArgsDict:
    """The service's form of a probe."""
    made: azure.network.ProbeArgsDict = {
        "name": "health",
        "protocol": decisions.protocol.capitalize(),
        "port": decisions.port,
        "interval_in_seconds": int(decisions.interval.total_seconds()),
        "number_of_probes": 1,
        "probe_threshold": decisions.threshold,
    }
    if decisions.path:
        made["request_path"] = decisions.path
    return made


def _asked(decisions: Probe, ports: tuple[PortRule, ...]) -> PortRule:
    """The public port in front of the probe's port, which is known to answer; else the first."""
    return next((rule for rule in ports if rule.to == decisions.port), ports[0])


def _part(balancer: pulumi.Input[str], kind: str, name: str) -> pulumi.Output[str]:
    return pulumi.Output.concat(balancer, f"/{kind}/{name}")
