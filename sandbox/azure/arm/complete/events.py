"""What Event Grid adds to a body."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from sandbox.azure.arm.complete.common import completes, kept, stable
from sandbox.azure.arm.rules import dig
from sandbox.azure.arm.rules.events import EVENT_TYPES
from sandbox.azure.resources.places import Places
from sandbox.azure.resources.store import Row, Store


@completes("Microsoft.EventGrid/systemTopics")
def _topic(row: Row, old: Row | None, store: Store, places: Places) -> None:
    row.properties["metricResourceId"] = kept(old, "properties.metricResourceId", stable(row.id))


@completes("Microsoft.EventGrid/systemTopics/eventSubscriptions")
def _subscription(row: Row, old: Row | None, store: Store, places: Places) -> None:
    properties = row.properties
    topic = store.get(row.parent)
    properties["topic"] = dig(topic.body, "properties.source") if topic else None
    properties.setdefault("eventDeliverySchema", "EventGridSchema")
    properties.setdefault("labels", [])
    retry = properties.setdefault("retryPolicy", {})
    retry.setdefault("maxDeliveryAttempts", 30)
    retry.setdefault("eventTimeToLiveInMinutes", 1440)
    wanted = properties.setdefault("filter", {})
    wanted.setdefault("includedEventTypes", list(EVENT_TYPES))
    for name in ("subjectBeginsWith", "subjectEndsWith"):
        wanted.setdefault(name, "")
    destination = dig(properties, "destination.properties", {})
    if url := destination.get("endpointUrl"):
        destination["endpointBaseUrl"] = urlunsplit(urlsplit(url)._replace(query="", fragment=""))
