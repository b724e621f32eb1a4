"""Who hears that Update Manager is about to patch, and that it has."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_azure_native as azure

from components import tags
from components.site import Site
from patchwave.config.settings.maintenance import Function, Webhook

TOPIC = "Microsoft.Maintenance.MaintenanceConfigurations"
TYPES = ("Microsoft.Maintenance.PreMaintenanceEvent", "Microsoft.Maintenance.PostMaintenanceEvent")


class Events(pulumi.ComponentResource):
    """Before and after each run of a ring's schedule, the receiver gets an event; it is delivered once at least.

    https://learn.microsoft.com/azure/update-manager/pre-post-scripts-overview
    """

    def __init__(
        self,
        name: str,
        *,
        receiver: Webhook | Function,
        prefix: str,
        configuration_ids: Mapping[str, pulumi.Input[str]],
        site: Site,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("patchwave:index:Events", name, None, opts)
        for ring, configuration in configuration_ids.items():
            topic = azure.eventgrid.SystemTopic(
                f"{name}-{ring}-topic",
                system_topic_name=f"{prefix}-{ring}-events",
                resource_group_name=site.group,
                location=site.location,
                topic_type=TOPIC,
                source=configuration,
                tags=tags.common(site.stack),
                opts=pulumi.ResourceOptions(parent=self),
            )
            azure.eventgrid.SystemTopicEventSubscription(
                f"{name}-{ring}-subscription",
                event_subscription_name="runs",
                system_topic_name=topic.name,
                resource_group_name=site.group,
                destination=destination(receiver),
                event_delivery_schema="CloudEventSchemaV1_0",
                filter={"included_event_types": list(TYPES)},
                opts=pulumi.ResourceOptions(parent=self),
            )
        self.register_outputs({})


def destination(
    receiver: Webhook | Function,
) -> (
    azure.eventgrid.WebHookEventSubscriptionDestinationArgsDict
    | azure.eventgrid.AzureFunctionEventSubscriptionDestinationArgsDict
):
    """The service's form of a receiver."""
    if isinstance(receiver, Webhook):
        return {"endpoint_type": "WebHook", "endpoint_url": receiver.url}
    return {"endpoint_type": "AzureFunction", "resource_id": receiver.id}
