"""What Azure Network refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from sandbox.azure.arm.rules.change import Change, dig, refuses
from sandbox.azure.resources.errors import AzureError, bad_request

Json = Any
_LABEL = "[a-z][a-z0-9-]{1,61}[a-z0-9]"


@refuses("Microsoft.Network/virtualNetworks")
def subnets(change: Change) -> Iterator[AzureError]:
    try:
        spaces = [ip_network(prefix) for prefix in change.at("addressSpace.addressPrefixes", [])]
        for one in change.at("subnets", []):
            texts = dig(one, "properties.addressPrefixes") or [dig(one, "properties.addressPrefix")]
            if texts == [None]:
                yield bad_request("NetcfgInvalidSubnet", f"Subnet '{one.get('name')}' has no address prefix.")
                continue
            for prefix in map(ip_network, texts):
                if not any(prefix.version == space.version and prefix.subnet_of(space) for space in spaces):  # type: ignore[arg-type]
                    yield bad_request(
                        "NetcfgInvalidSubnet",
                        f"Subnet '{one.get('name')}' is not valid in virtual network '{change.name}'.",
                    )
    except ValueError as error:
        yield bad_request("InvalidAddressPrefixFormat", f"Address prefix is invalid: {error}.")
    if not change.at("addressSpace.addressPrefixes"):
        yield bad_request("InvalidRequestFormat", "Virtual network must have at least one address prefix.")


@refuses("Microsoft.Network/publicIPAddresses")
def public_address(change: Change) -> Iterator[AzureError]:
    standard = str(dig(change.body, "sku.name", "Standard")).lower() == "standard"
    if standard and change.at("publicIPAllocationMethod", "Dynamic") != "Static":
        yield bad_request(
            "PublicIPAddressWithStandardSkuMustBeStatic", "Standard sku publicIp must have static allocation method."
        )
    label = change.at("dnsSettings.domainNameLabel")
    if label is not None and not re.fullmatch(_LABEL, label):
        yield bad_request(
            "InvalidDomainNameLabel",
            f"The domain name label {label} is invalid. It must conform to the following regular expression: "
            f"^{_LABEL}$.",
        )
    for row in change.view.of_type("Microsoft.Network/publicIPAddresses") if label else ():
        if row.key != change.id.lower() and dig(row.body, "properties.dnsSettings.domainNameLabel") == label:
            yield bad_request(
                "DnsRecordInUse",
                f"DNS record {label}.{change.body.get('location')}.cloudapp.azure.com is already used by another "
                "public IP.",
            )


@refuses("Microsoft.Network/loadBalancers")
def load_balancer(change: Change) -> Iterator[AzureError]:
    if str(dig(change.body, "sku.name", "Basic")).lower() == "basic":
        yield bad_request("BasicSkuNotSupported", "Basic sku load balancers are retired: use sku Standard.")
    parts = {name: {one.get("name") for one in change.at(name, [])} for name in
             ("frontendIPConfigurations", "backendAddressPools", "probes")}  # fmt: skip
    ends: set[tuple[Json, Json, Json]] = set()
    for rule in change.at("loadBalancingRules", []):
        properties = rule.get("properties", {})
        for name, group in (
            ("frontendIPConfiguration", "frontendIPConfigurations"), ("backendAddressPool", "backendAddressPools"),
            ("probe", "probes"),
        ):  # fmt: skip
            target = dig(properties, f"{name}.id")
            if target is None:
                if name == "frontendIPConfiguration":
                    yield bad_request(
                        "LoadBalancingRuleMissingFrontend", f"Rule '{rule.get('name')}' has no frontendIPConfiguration."
                    )
                continue
            if (
                not target.lower().startswith(f"{change.id.lower()}/{group.lower()}/")
                or target.rsplit("/", 1)[1] not in parts[group]
            ):
                yield bad_request(
                    "InvalidResourceReference",
                    f"Resource {target} referenced by resource "
                    f"{change.id}/loadBalancingRules/{rule.get('name')} was not "
                    "found. Please make sure that the referenced resource exists, and that both resources are in the "
                    "same region.",
                )
        end = (
            dig(properties, "frontendIPConfiguration.id"),
            properties.get("frontendPort"),
            properties.get("protocol"),
        )
        if end in ends:
            yield bad_request(
                "RulesUseSameFrontendPortProtocolAndVIP",
                f"Load balancing rule '{rule.get('name')}' uses the same frontend, port and protocol as another rule.",
            )
        ends.add(end)
    for probe in change.at("probes", []):
        properties = probe.get("properties", {})
        if properties.get("intervalInSeconds", 15) < 5:
            yield bad_request(
                "ProbeIntervalInvalid", f"Probe '{probe.get('name')}' interval must be at least 5 seconds."
            )
        if properties.get("protocol") in ("Http", "Https") and not properties.get("requestPath"):
            yield bad_request("ProbeRequestPathMissing", f"Probe '{probe.get('name')}' must have a request path.")
        if properties.get("protocol") == "Tcp" and properties.get("requestPath"):
            yield bad_request(
                "ProbeRequestPathNotAllowed", f"Probe '{probe.get('name')}' of protocol Tcp has no request path."
            )
    yield from _lost_parts(change)


def _lost_parts(change: Change) -> Iterator[AzureError]:
    """A pool or a probe that a scale set uses stays, and so does the probe's rule."""
    kept = {
        f"{change.id}/{group}/{one.get('name')}".lower()
        for group in ("backendAddressPools", "probes", "frontendIPConfigurations")
        for one in change.at(group, [])
    }
    ruled = {str(dig(rule, "properties.probe.id", "")).lower() for rule in change.at("loadBalancingRules", [])}
    for owner in change.view.of_type("Microsoft.Compute/virtualMachineScaleSets"):
        network = dig(owner.body, "properties.virtualMachineProfile.networkProfile", {})
        probe = str(dig(network, "healthProbe.id", "")).lower()
        if probe.startswith(f"{change.id.lower()}/") and (probe not in kept or probe not in ruled):
            yield bad_request(
                "CannotRemoveRuleUsedByProbeUsedByVMSS",
                f"Load balancing rule cannot be removed because its probe {probe} is used as health probe by virtual "
                f"machine scale set {owner.id}.",
            )
        for pool in pools_of(network):
            if pool.startswith(f"{change.id.lower()}/") and pool not in kept:
                yield bad_request(
                    "InUseBackendAddressPoolCannotBeDeleted",
                    f"Cannot remove backend address pool {pool.rsplit('/', 1)[1]} from load "
                    f"balancer {change.id} since it "
                    f"is in use by virtual machine scale set {owner.id}.",
                )


def pools_of(network: Mapping[str, Json]) -> Iterator[str]:
    """The keys of the pools that a scale set's network profile joins."""
    for nic in dig(network, "networkInterfaceConfigurations", []):
        for config in dig(nic, "properties.ipConfigurations", []):
            for pool in dig(config, "properties.loadBalancerBackendAddressPools", []):
                yield str(pool.get("id", "")).lower()
