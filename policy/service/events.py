"""What Event Grid refuses, and what it would take in silence and never deliver."""

import re
from collections.abc import Iterator

from policy.declared import Props
from policy.service.registry import refuses
from policy.service.values import at, items

TOPIC = "eventgrid:SystemTopic"
SUBSCRIPTION = "eventgrid:SystemTopicEventSubscription"

SCHEMA = "https://learn.microsoft.com/azure/event-grid/event-schema-maintenance-configuration"
TOPICS = "https://learn.microsoft.com/azure/event-grid/system-topics"
HANDLERS = "https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema"
NAMES = "https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules#microsofteventgrid"

MAINTENANCE = "Microsoft.Maintenance.MaintenanceConfigurations"
TYPES = ("Microsoft.Maintenance.PreMaintenanceEvent", "Microsoft.Maintenance.PostMaintenanceEvent")
ENDPOINTS = (
    "AzureFunction",
    "EventHub",
    "HybridConnection",
    "MonitorAlert",
    "NamespaceTopic",
    "PartnerDestination",
    "ServiceBusQueue",
    "ServiceBusTopic",
    "StorageQueue",
    "WebHook",
)


@refuses(TOPIC, source=TOPICS)
def maintenance_topics_have_their_type(props: Props) -> Iterator[str]:
    """The topic of a maintenance configuration has one type."""
    kind = str(props.get("topicType"))
    if kind.lower().startswith("microsoft.maintenance") and kind.lower() != MAINTENANCE.lower():
        yield f"topicType is {kind!r}: set {MAINTENANCE}"


@refuses(TOPIC, source=TOPICS)
def topics_say_what_they_are_of(props: Props) -> Iterator[str]:
    """A system topic has a type and a location; it stands where its source does."""
    for key in ("topicType", "location"):
        if not props.get(key):
            yield f"{key} is missing: set that of the source"


@refuses(TOPIC, source=NAMES)
def topic_names_fit(props: Props) -> Iterator[str]:
    """A topic's name has 3 to 50 letters, digits and hyphens."""
    if not re.fullmatch(r"[A-Za-z0-9-]{3,50}", name := str(props.get("systemTopicName"))):
        yield f"systemTopicName is {name!r}: write 3 to 50 letters, digits and hyphens"


@refuses(SUBSCRIPTION, source=SCHEMA)
def subscriptions_choose_known_events(props: Props) -> Iterator[str]:
    """Maintenance has two events; a subscription without a filter gets all there are."""
    chosen = items(at(props, "filter", "includedEventTypes"))
    if not chosen:
        yield f"filter.includedEventTypes is empty: choose of {', '.join(TYPES)}"
    for one in chosen:
        if str(one).startswith("Microsoft.Maintenance.") and one not in TYPES:
            yield f"filter.includedEventTypes has {one!r}: choose of {', '.join(TYPES)}"


@refuses(
    SUBSCRIPTION,
    source="https://learn.microsoft.com/rest/api/eventgrid/controlplane/event-subscriptions/create-or-update",
)
def events_go_to_a_known_kind_of_endpoint(props: Props) -> Iterator[str]:
    """A subscription delivers to one endpoint, in a schema that can be had of a system topic."""
    if (kind := at(props, "destination", "endpointType")) not in ENDPOINTS:
        yield f"destination.endpointType is {kind!r}: set WebHook or AzureFunction"
    if (schema := props.get("eventDeliverySchema")) not in (None, "EventGridSchema", "CloudEventSchemaV1_0"):
        yield f"eventDeliverySchema is {schema!r}: set EventGridSchema or CloudEventSchemaV1_0"


@refuses(SUBSCRIPTION, source=HANDLERS)
def webhooks_are_reached_over_https(props: Props) -> Iterator[str]:
    """Events are delivered over HTTPS only."""
    if at(props, "destination", "endpointType") == "WebHook":
        url = at(props, "destination", "endpointUrl")
        if not str(url).startswith("https://"):
            yield "destination.endpointUrl is no https URL: write one"
