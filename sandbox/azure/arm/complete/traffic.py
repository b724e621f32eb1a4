"""What Traffic Manager adds to a body."""

from __future__ import annotations

from sandbox.azure.arm.complete.common import completes
from sandbox.azure.resources.places import Places
from sandbox.azure.resources.store import Row, Store

DOMAIN = "trafficmanager.net"


@completes("Microsoft.Network/trafficManagerProfiles")
def _profile(row: Row, old: Row | None, store: Store, places: Places) -> None:
    properties = row.properties
    properties.setdefault("profileStatus", "Enabled")
    properties.setdefault("trafficViewEnrollmentStatus", "Disabled")
    dns = properties["dnsConfig"]
    dns["fqdn"] = f"{dns['relativeName']}.{DOMAIN}".lower()
    dns.setdefault("ttl", 60)
    monitor = properties["monitorConfig"]
    for name, value in (("intervalInSeconds", 30), ("timeoutInSeconds", 10), ("toleratedNumberOfFailures", 3)):
        monitor.setdefault(name, value)
    endpoints = properties.setdefault("endpoints", [])
    on = properties["profileStatus"] == "Enabled"
    monitor["profileMonitorStatus"] = "CheckingEndpoints" if on and endpoints else "Inactive"
    for number, endpoint in enumerate(endpoints, 1):
        kind = endpoint["type"].rsplit("/", 1)[-1]
        endpoint["id"] = f"{row.id}/{kind}/{endpoint['name']}"
        own = endpoint["properties"]
        own.setdefault("endpointStatus", "Enabled")
        own.setdefault("weight", 1)
        own.setdefault("priority", number)
        own["endpointMonitorStatus"] = _monitored(own["endpointStatus"], on)
        target = store.get(str(own.get("targetResourceId", "")))
        if target is not None:
            own["target"] = target.properties["dnsSettings"]["fqdn"]


def _monitored(status: str, on: bool) -> str:
    if status == "Disabled":
        return "Disabled"
    return "CheckingEndpoint" if on else "Inactive"
