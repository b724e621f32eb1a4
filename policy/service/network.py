"""What Azure refuses of load balancers, public addresses and Traffic Manager."""

import re
from collections.abc import Iterator

from policy.declared import Props
from policy.service.registry import refuses
from policy.service.values import at, number, objects, outside, plain

BALANCER = "network:LoadBalancer"
ADDRESS = "network:PublicIPAddress"
PROFILE = "trafficmanager:Profile"

_LEARN = "https://learn.microsoft.com/azure"
PROBES = f"{_LEARN}/load-balancer/load-balancer-custom-probe-overview"
BASIC = f"{_LEARN}/load-balancer/skus"
STANDARD = f"{_LEARN}/virtual-network/ip-services/public-ip-addresses"
WEIGHTS = f"{_LEARN}/traffic-manager/traffic-manager-routing-methods"
MONITORING = f"{_LEARN}/traffic-manager/traffic-manager-monitoring"
PROFILES = "https://learn.microsoft.com/rest/api/trafficmanager/profiles/create-or-update"

METHODS = ("Performance", "Priority", "Weighted", "Geographic", "MultiValue", "Subnet")


@refuses(BALANCER, source=BASIC)
def balancers_are_standard(props: Props) -> Iterator[str]:
    """Basic load balancers are retired, and without a sku a balancer is Basic."""
    if (sku := at(props, "sku", "name")) not in ("Standard", "Gateway"):
        yield f"sku.name is {sku!r}: set Standard"


@refuses(BALANCER, source=PROBES)
def probes_ask_every_five_seconds_at_most(props: Props) -> Iterator[str]:
    """A probe asks every 5 seconds or less often, and over HTTP it asks for a path."""
    for probe in objects(props.get("probes")):
        name, interval = probe.get("name"), probe.get("intervalInSeconds")
        if outside(interval, 5, 2147483647):
            yield f"probe {name} asks every {plain(interval)} s: set 5 or more"
        if str(probe.get("protocol")).lower() in ("http", "https") and not probe.get("requestPath"):
            yield f"probe {name} has protocol {probe.get('protocol')} and no requestPath: name one"


@refuses(ADDRESS, source=STANDARD)
def standard_addresses_are_static(props: Props) -> Iterator[str]:
    """A public address of sku Standard is static."""
    if at(props, "sku", "name") == "Standard" and (how := props.get("publicIPAllocationMethod")) != "Static":
        yield f"publicIPAllocationMethod is {how!r} with sku Standard: set Static"


@refuses(ADDRESS, source=STANDARD)
def address_labels_are_names(props: Props) -> Iterator[str]:
    """A label is a lower-case name of 3 to 63 characters that begins with a letter."""
    label = at(props, "dnsSettings", "domainNameLabel")
    if label is not None and not re.fullmatch(r"[a-z][a-z0-9-]{1,61}[a-z0-9]", str(label)):
        yield f"dnsSettings.domainNameLabel is {label!r}: write 3 to 63 lower-case letters, digits and hyphens"


@refuses(PROFILE, source=WEIGHTS)
def weights_are_one_to_a_thousand(props: Props) -> Iterator[str]:
    """Zero is no weight: an endpoint that takes no traffic is disabled."""
    for endpoint in objects(props.get("endpoints")):
        if outside(weight := endpoint.get("weight"), 1, 1000):
            yield f"endpoint {endpoint.get('name')} has weight {plain(weight)}: set 1 to 1000, and Disabled for none"


@refuses(PROFILE, source=PROFILES)
def endpoints_have_names_and_a_status(props: Props) -> Iterator[str]:
    """Endpoints are named differently, each is enabled or disabled."""
    names: set[str] = set()
    for endpoint in objects(props.get("endpoints")):
        name, status = str(endpoint.get("name")), endpoint.get("endpointStatus")
        if name.lower() in names:
            yield f"endpoint {name} is named twice: rename one"
        names.add(name.lower())
        if status not in (None, "Enabled", "Disabled"):
            yield f"endpoint {name} has endpointStatus {status!r}: set Enabled or Disabled"


@refuses(PROFILE, source=WEIGHTS)
def traffic_is_routed_by_a_known_method(props: Props) -> Iterator[str]:
    """A profile routes in one of six ways."""
    if (method := props.get("trafficRoutingMethod")) not in METHODS:
        yield f"trafficRoutingMethod is {method!r}: set Weighted"


@refuses(PROFILE, source=MONITORING)
def endpoints_are_probed_within_the_ranges(props: Props) -> Iterator[str]:
    """Every 30 seconds with 5 to 10 for the answer, or every 10 with 5 to 9; up to 9 failures are tolerated."""
    monitor = at(props, "monitorConfig")
    interval, timeout = at(monitor, "intervalInSeconds"), at(monitor, "timeoutInSeconds")
    if interval is not None and number(interval) not in (10, 30):
        yield f"monitorConfig.intervalInSeconds is {plain(interval)}: set 10 or 30"
    most = 9 if number(interval) == 10 else 10
    if outside(timeout, 5, most):
        yield f"monitorConfig.timeoutInSeconds is {plain(timeout)}: set 5 to {most}"
    if outside(tolerated := at(monitor, "toleratedNumberOfFailures"), 0, 9):
        yield f"monitorConfig.toleratedNumberOfFailures is {plain(tolerated)}: set 0 to 9"


@refuses(PROFILE, source=MONITORING)
def endpoints_are_probed_for_a_path(props: Props) -> Iterator[str]:
    """Over HTTP and HTTPS a path is needed, over TCP none is possible."""
    protocol, path = (at(props, "monitorConfig", key) for key in ("protocol", "path"))
    if protocol not in ("HTTP", "HTTPS", "TCP"):
        yield f"monitorConfig.protocol is {protocol!r}: set HTTP, HTTPS or TCP"
    elif (protocol == "TCP") == bool(path):
        yield f"monitorConfig.path is {path!r} with protocol {protocol}: " + ("remove it" if path else "name one")


@refuses(PROFILE, source=PROFILES)
def profiles_have_a_name_and_a_time_to_live(props: Props) -> Iterator[str]:
    """A profile is one DNS name whose answers may be kept for up to 2147483647 seconds."""
    name, ttl = (at(props, "dnsConfig", key) for key in ("relativeName", "ttl"))
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", str(name or "")):
        yield f"dnsConfig.relativeName is {name!r}: write a DNS label of up to 63 characters"
    if ttl is None or outside(ttl, 0, 2147483647):
        yield f"dnsConfig.ttl is {plain(ttl)}: set 0 to 2147483647 seconds"
