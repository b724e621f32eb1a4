"""What Traffic Manager refuses: https://learn.microsoft.com/rest/api/trafficmanager/profiles/create-or-update."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sandbox.azure.arm.rules.change import Change, dig, refuses
from sandbox.azure.resources.errors import AzureError, bad_request, conflict

Json = Any
_KINDS = ("azureendpoints", "externalendpoints")
_PREFIX = "microsoft.network/trafficmanagerprofiles/"


def _wrong(why: str) -> AzureError:
    return bad_request("BadRequest", why)


@refuses("Microsoft.Network/trafficManagerProfiles")
def profile(change: Change) -> Iterator[AzureError]:
    if str(change.body.get("location", "")).lower() != "global":
        yield _wrong("The 'location' property of a Traffic Manager profile must be 'global'.")
    if not change.at("trafficRoutingMethod"):
        yield _wrong("The 'trafficRoutingMethod' property is missing.")
    yield from _name(change)
    yield from _monitor(change.at("monitorConfig", {}))
    names: set[str] = set()
    priorities: set[int] = set()
    for one in change.at("endpoints", []):
        name, priority = str(one.get("name", "")).lower(), dig(one, "properties.priority")
        if not name or name in names:
            yield _wrong(f"Endpoint name '{one.get('name')}' is missing or used twice in the profile.")
        if priority is not None and priority in priorities:
            yield _wrong(f"The 'priority' property {priority} of endpoint '{one.get('name')}' is used twice.")
        names.add(name)
        priorities.add(priority)
        yield from _endpoint(change, one)


def _name(change: Change) -> Iterator[AzureError]:
    label, ttl = str(change.at("dnsConfig.relativeName", "")), change.at("dnsConfig.ttl", 60)
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", label):
        yield _wrong(f"The 'dnsConfig.relativeName' property '{label}' is missing or no DNS label.")
    if not 0 <= ttl <= 2147483647:
        yield _wrong(f"The 'dnsConfig.ttl' property {ttl} must be between 0 and 2147483647.")
    if change.old is not None and label != change.was("dnsConfig.relativeName"):
        yield _wrong("The 'dnsConfig.relativeName' property of a profile cannot be changed.")
    for row in change.view.of_type("Microsoft.Network/trafficManagerProfiles"):
        taken = str(dig(row.body, "properties.dnsConfig.relativeName", "")).lower()
        if row.key != change.id.lower() and taken == label.lower():
            yield conflict(
                "Conflict",
                f"Domain name {label}.trafficmanager.net already exists. Please choose a different DNS prefix.",
            )


def _monitor(monitor: Mapping[str, Json]) -> Iterator[AzureError]:
    protocol, port = monitor.get("protocol"), monitor.get("port")
    if protocol not in ("HTTP", "HTTPS", "TCP") or port is None or not 1 <= port <= 65535:
        yield _wrong("The 'monitorConfig' property must have a protocol and a port from 1 to 65535.")
    if protocol == "TCP" and monitor.get("path"):
        yield _wrong("The 'monitorConfig.path' property must be empty for protocol TCP.")
    if protocol != "TCP" and not str(monitor.get("path", "")).startswith("/"):
        yield _wrong("The 'monitorConfig.path' property must start with '/'.")
    every, patience = monitor.get("intervalInSeconds", 30), monitor.get("timeoutInSeconds", 10)
    if every not in (10, 30):
        yield _wrong(f"The 'monitorConfig.intervalInSeconds' property {every} must be 10 or 30.")
    elif not 5 <= patience <= (9 if every == 10 else 10):
        yield _wrong(f"The 'monitorConfig.timeoutInSeconds' property {patience} is out of range for that interval.")
    if not 0 <= monitor.get("toleratedNumberOfFailures", 3) <= 9:
        yield _wrong("The 'monitorConfig.toleratedNumberOfFailures' property must be between 0 and 9.")


def _endpoint(change: Change, one: Mapping[str, Json]) -> Iterator[AzureError]:
    name, kind = one.get("name"), str(one.get("type", "")).lower()
    for limit in ("weight", "priority"):
        value = dig(one, f"properties.{limit}")
        if value is not None and not 1 <= value <= 1000:
            yield _wrong(f"The '{limit}' property {value} of endpoint '{name}' must be between 1 and 1000.")
    if not kind.startswith(_PREFIX) or kind.removeprefix(_PREFIX) not in _KINDS:
        yield _wrong(f"The type '{one.get('type')}' of endpoint '{name}' is not azureEndpoints or externalEndpoints.")
        return
    target = dig(one, "properties.targetResourceId")
    if kind.endswith("externalendpoints"):
        if not dig(one, "properties.target"):
            yield _wrong(f"The 'target' property of endpoint '{name}' is missing.")
        return
    address = change.view.get(str(target))
    if not target or "/providers/microsoft.network/publicipaddresses/" not in target.lower():
        yield _wrong(f"The 'targetResourceId' property of endpoint '{name}' is invalid or missing.")
    elif address is not None and not dig(address.body, "properties.dnsSettings.fqdn"):
        yield _wrong(f"The public IP address of endpoint '{name}' must have a DNS name.")
