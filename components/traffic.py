"""Users are spread over the slots by weight."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_azure_native as azure

from components import tags
from components.site import Site
from patchwave.config.settings import Slot
from patchwave.config.settings.network import Probe
from patchwave.config.settings.slots import TrafficManager

ENDPOINT = "Microsoft.Network/trafficManagerProfiles/azureEndpoints"


class Traffic(pulumi.ComponentResource):
    """One name that answers with the slots' addresses in proportion to their weights; clients keep answers for a while.

    Attributes: `name` (the full DNS name).
    """

    def __init__(
        self,
        name: str,
        *,
        decisions: TrafficManager,
        probe: Probe,
        port: int,
        address_ids: Mapping[str, pulumi.Input[str]],
        site: Site,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("patchwave:index:Traffic", name, None, opts)
        profile = azure.trafficmanager.Profile(
            f"{name}-profile",
            profile_name=name,
            resource_group_name=site.group,
            location="global",
            profile_status="Enabled",
            traffic_routing_method=azure.trafficmanager.TrafficRoutingMethod.WEIGHTED,
            dns_config={"relative_name": decisions.dns_name, "ttl": int(decisions.ttl.total_seconds())},
            monitor_config=monitor(probe, port),
            endpoints=[endpoint(slot, weight, address_ids[slot]) for slot, weight in sorted(decisions.weights.items())],
            tags=tags.common(site.stack),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.name = profile.dns_config.apply(lambda dns: (dns.fqdn if dns else None) or "")
        self.register_outputs({"name": self.name})


def monitor(probe: Probe, port: int) -> azure.trafficmanager.MonitorConfigArgsDict:
    """Traffic Manager probes from outside what the balancer probes from inside."""
    monitor: azure.trafficmanager.MonitorConfigArgsDict = {
        "protocol": probe.protocol.upper(),
        "port": port,
        "interval_in_seconds": 10,
        "timeout_in_seconds": 5,
        "tolerated_number_of_failures": 1,
    }
    if probe.path:
        monitor["path"] = probe.path
    return monitor


def endpoint(slot: Slot, weight: int, address_id: pulumi.Input[str]) -> azure.trafficmanager.EndpointArgsDict:
    """A slot as the service takes it: weights begin at 1, so that a slot without weight is disabled."""
    return {
        "name": slot,
        "type": ENDPOINT,
        "target_resource_id": address_id,
        "endpoint_status": "Enabled" if weight else "Disabled",
        "weight": weight or 1,
    }
