"""What Event Grid refuses: https://learn.microsoft.com/azure/event-grid/event-schema-maintenance-configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from sandbox.azure.arm.rules.change import Change, dig, refuses
from sandbox.azure.resources.errors import AzureError, bad_request

TOPIC_TYPE = "Microsoft.Maintenance.MaintenanceConfigurations"
EVENT_TYPES = ("Microsoft.Maintenance.PreMaintenanceEvent", "Microsoft.Maintenance.PostMaintenanceEvent")
_SCHEMAS = ("EventGridSchema", "CloudEventSchemaV1_0")


def _wrong(why: str) -> AzureError:
    return bad_request("InvalidRequest", why)


@refuses("Microsoft.EventGrid/systemTopics")
def topic(change: Change) -> Iterator[AzureError]:
    yield from _name(change, "System topic", 50)
    source, type_ = str(change.at("source", "")), str(change.at("topicType", ""))
    if type_.lower() != TOPIC_TYPE.lower():
        yield _wrong(f"The topic type '{type_}' is not known to the sandbox: {TOPIC_TYPE} is.")
    if "/providers/microsoft.maintenance/maintenanceconfigurations/" not in source.lower():
        yield _wrong(f"The source '{source}' is not of the kind that topic type '{type_}' needs.")
    found = change.view.get(source)
    if found is not None and found.body.get("location") != change.body.get("location"):
        yield _wrong(f"The location of a system topic must be its source's, '{found.body.get('location')}'.")
    for name in ("source", "topicType"):
        if change.old is not None and str(change.at(name)).lower() != str(change.was(name)).lower():
            yield _wrong(f"The property '{name}' of a system topic cannot be changed.")
    for row in change.view.of_type("Microsoft.EventGrid/systemTopics"):
        if row.key != change.id.lower() and str(row.properties.get("source", "")).lower() == source.lower():
            yield _wrong(
                f"There is an existing tracked system topic for the given source {source}. "
                "Only one system topic is allowed per source."
            )
    if change.body.get("location") == "global" and dig(change.body, "identity.type", "None") != "None":
        yield _wrong("A system topic in location global has no managed identity.")


@refuses("Microsoft.EventGrid/systemTopics/eventSubscriptions")
def subscription(change: Change) -> Iterator[AzureError]:
    yield from _name(change, "Event subscription", 64)
    destination = change.at("destination") or change.at("deliveryWithResourceIdentity.destination")
    if not destination:
        yield _wrong("Event subscription must have a destination.")
    else:
        yield from _destination(destination)
    wanted = change.at("filter.includedEventTypes")
    if wanted is not None and not wanted:
        yield _wrong("The list of included event types must not be empty.")
    for name in wanted or ():
        if name not in EVENT_TYPES:
            yield _wrong(f"Event type '{name}' is not among the topic's: {', '.join(EVENT_TYPES)}.")
    schema = change.at("eventDeliverySchema", "EventGridSchema")
    if schema not in _SCHEMAS:
        yield _wrong(f"Event delivery schema '{schema}' is not one of {', '.join(_SCHEMAS)}.")
    for name, most in (("maxDeliveryAttempts", 30), ("eventTimeToLiveInMinutes", 1440)):
        value = change.at(f"retryPolicy.{name}")
        if value is not None and not 1 <= value <= most:
            yield _wrong(f"{name} {value} of the retry policy must be between 1 and {most}.")


def _name(change: Change, what: str, longest: int) -> Iterator[AzureError]:
    if not re.fullmatch(rf"[A-Za-z0-9-]{{3,{longest}}}", change.name):
        yield _wrong(f"{what} name '{change.name}' must have 3 to {longest} letters, digits and hyphens.")


def _destination(destination: object) -> Iterator[AzureError]:
    match dig(destination, "endpointType"):
        case "WebHook":
            url = urlsplit(str(dig(destination, "properties.endpointUrl", "")))
            if url.scheme != "https" or not url.hostname:
                yield _wrong("The endpoint of a webhook must be an absolute HTTPS URL.")
        case "StorageQueue" if not dig(destination, "properties.queueName"):
            yield _wrong("A storage queue destination must name its queue.")
        case _:
            if not dig(destination, "properties.resourceId"):
                yield _wrong("The destination must name a resource.")
