"""What waves report to Log Analytics, who is notified, and the page that shows it."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pulumi
import pulumi_azure_native as azure

from components import tags
from components.site import Site
from patchwave.config.settings.alerts import Alerts as Decisions
from patchwave.wave import exports

QUERIES = Path(__file__).parent / "queries"
WORKBOOK = (
    "compliance_rate",
    "noncompliant_hosts",
    "unrestored_hosts",
    "failed_waves",
    "unfinished_waves",
    "success_rate",
    "wave_states",
    "patch_status",
)
NAMESPACE = uuid.UUID("6a2fd1c8-7b0e-5a55-9d1e-0c4b8f2f9f10")


class Alerts(pulumi.ComponentResource):
    """A host that a wave leaves unpatched or broken raises an alert that reaches somebody.

    Attributes: `ingestion_url`, `ingestion_rule` (immutable id), `ingestion_rule_id`, `workspace_id`.
    """

    def __init__(
        self, name: str, *, decisions: Decisions, site: Site, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("patchwave:index:Alerts", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        workspace = azure.operationalinsights.Workspace(
            f"{name}-workspace",
            workspace_name=f"{name}-workspace",
            resource_group_name=site.group,
            location=site.location,
            sku={"name": "PerGB2018"},
            retention_in_days=decisions.retention_days,
            tags=tags.common(site.stack),
            opts=child,
        )
        tables = [
            azure.operationalinsights.Table(
                f"{name}-{table}",
                table_name=exports.table(table),
                workspace_name=workspace.name,
                resource_group_name=site.group,
                plan="Analytics",
                retention_in_days=decisions.retention_days,
                schema={"name": exports.table(table), "columns": table_columns(table)},
                opts=child,
            )
            for table in exports.TABLES
        ]
        endpoint = azure.monitor.DataCollectionEndpoint(
            f"{name}-endpoint",
            data_collection_endpoint_name=f"{name}-endpoint",
            resource_group_name=site.group,
            location=site.location,
            network_acls={"public_network_access": "Enabled"},
            tags=tags.common(site.stack),
            opts=child,
        )
        rule = azure.monitor.DataCollectionRule(
            f"{name}-rule",
            data_collection_rule_name=f"{name}-rule",
            resource_group_name=site.group,
            location=site.location,
            data_collection_endpoint_id=endpoint.id,
            stream_declarations={exports.stream(table): {"columns": stream_columns(table)} for table in exports.TABLES},
            destinations={"log_analytics": [{"name": "workspace", "workspace_resource_id": workspace.id}]},
            data_flows=[
                {
                    "streams": [exports.stream(table)],
                    "destinations": ["workspace"],
                    "transform_kql": "source",
                    "output_stream": f"Custom-{exports.table(table)}",
                }
                for table in exports.TABLES
            ],
            tags=tags.common(site.stack),
            # the service refuses a rule whose output table is not there yet
            opts=pulumi.ResourceOptions(parent=self, depends_on=tables),
        )
        receivers = azure.monitor.ActionGroup(
            f"{name}-receivers",
            action_group_name=f"{name}-receivers",
            resource_group_name=site.group,
            location="Global",
            group_short_name=site.stack[:12],
            enabled=True,
            email_receivers=[
                {"name": f"email-{i}", "email_address": address, "use_common_alert_schema": True}
                for i, address in enumerate(decisions.emails)
            ],
            sms_receivers=[
                {"name": f"sms-{i}", "country_code": sms.country_code, "phone_number": sms.number}
                for i, sms in enumerate(decisions.sms)
            ],
            webhook_receivers=[
                {"name": f"webhook-{i}", "service_uri": url, "use_common_alert_schema": True}
                for i, url in enumerate(decisions.webhooks)
            ],
            tags=tags.common(site.stack),
            opts=child,
        )
        for query, severity in (("noncompliant_hosts", 2), ("unrestored_hosts", 1)):
            azure.monitor.ScheduledQueryRule(
                f"{name}-{query.replace('_', '-')}",
                rule_name=f"{name}-{query.replace('_', '-')}",
                resource_group_name=site.group,
                location=site.location,
                display_name=f"{site.stack}: {query.replace('_', ' ')}",
                enabled=True,
                severity=severity,
                scopes=[workspace.id],
                evaluation_frequency="PT15M",
                window_size="PT1H",
                auto_mitigate=True,
                criteria={"all_of": [condition(query)]},
                actions={"action_groups": [receivers.id]},
                tags=tags.common(site.stack),
                # the provider plans a changed scope as an update, which the service refuses
                opts=pulumi.ResourceOptions(
                    parent=self, depends_on=tables, replace_on_changes=["scopes"], delete_before_replace=True
                ),
            )
        azure.applicationinsights.Workbook(
            f"{name}-workbook",
            resource_name_=str(uuid.uuid5(NAMESPACE, name)),
            resource_group_name=site.group,
            location=site.location,
            kind="shared",
            category="workbook",
            display_name=f"Patching {site.stack}",
            source_id=workspace.id,
            serialized_data=workbook(),
            tags=tags.common(site.stack),
            opts=child,
        )
        self.workspace_id = workspace.id
        self.ingestion_url = endpoint.logs_ingestion.apply(lambda found: (found.endpoint if found else None) or "")
        self.ingestion_rule = rule.immutable_id
        self.ingestion_rule_id = rule.id
        self.register_outputs({"ingestion_url": self.ingestion_url, "ingestion_rule": self.ingestion_rule})


def table_columns(table: str) -> list[azure.operationalinsights.ColumnArgsDict]:
    """A table's columns; a table spells the time's type `dateTime`."""
    spelled = {"datetime": "dateTime"}
    return [{"name": name, "type": spelled.get(kind, kind)} for name, kind in exports.columns(table).items()]


def stream_columns(table: str) -> list[azure.monitor.ColumnDefinitionArgsDict]:
    """The columns of the stream that feeds a table; a stream spells types as KQL does."""
    return [{"name": name, "type": kind} for name, kind in exports.columns(table).items()]


def query_text(name: str) -> str:
    """A query's text, from its file."""
    return (QUERIES / f"{name}.kql").read_text(encoding="utf-8").strip()


def condition(query: str) -> azure.monitor.ConditionArgsDict:
    """Fires on any row."""
    return {
        "query": query_text(query),
        "time_aggregation": "Count",
        "operator": "GreaterThan",
        "threshold": 0,
        "failing_periods": {"number_of_evaluation_periods": 1, "min_failing_periods_to_alert": 1},
    }


def workbook() -> str:
    """The workbook's content: each query as a table, titled with the question that it answers."""
    items = [
        {
            "type": 3,
            "name": name,
            "content": {
                "version": "KqlItem/1.0",
                "query": query_text(name),
                "size": 0,
                "title": query_text(name).splitlines()[0].removeprefix("// "),
                "queryType": 0,
                "resourceType": "microsoft.operationalinsights/workspaces",
            },
        }
        for name in WORKBOOK
    ]
    return json.dumps({"version": "Notebook/1.0", "items": items}, sort_keys=True)
