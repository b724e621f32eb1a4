"""Each refusal beside its admitted neighbour: one step over the line, and on it."""

import contextlib
import copy
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from sandbox.azure.arm.rules import RULES, Change, check
from sandbox.azure.resources.errors import AzureError
from sandbox.azure.resources.ids import PRINCIPAL
from sandbox.azure.resources.store import Row
from tests.unit.azure_bodies import (
    ASSIGNMENTS,
    BODIES,
    CONFIGURATION,
    DISK,
    DYNAMIC,
    GUID,
    INSIGHTS,
    POINTS,
    POLICY,
    READER,
    ROLES,
    SNAPSHOT,
    VAULT,
    WORKSPACE,
    assigned,
    dynamic,
    in_guest,
    os_image,
    policy,
    role,
    scheduled_machine,
    table,
    weekly,
)
from tests.unit.azure_emulator import ADDRESS, BALANCER, BLUE, GROUP, LOCATION, MACHINE, compute, machine, scale_set

Json = Any
MISSING = object()
LOGS = "microsoft.operationalinsights/workspaces"


class Known:
    """What a rule may look up: what the declared bodies point at, and a machine fit for schedules."""

    def __init__(self) -> None:
        address = BODIES["ip"][2]()
        address["properties"]["dnsSettings"]["fqdn"] = "patchwave-dev.westeurope.cloudapp.azure.com"
        rows = (
            Row(f"{WORKSPACE}/tables/Wave_CL", f"{LOGS}/tables", WORKSPACE, table()),
            Row(WORKSPACE, LOGS, "", {"location": LOCATION}),
            Row(CONFIGURATION, "", "", in_guest()),
            Row(MACHINE, "", "", scheduled_machine()),
            Row(DISK, "", "", {"location": LOCATION}),
            Row(VAULT, "", "", {"location": LOCATION}),
            Row(ADDRESS, "", "", address),
        )
        self.rows = {row.key: row for row in rows}
        self.others: list[Row] = []

    def get(self, key: str) -> Row | None:
        return self.rows.get(key.lower())

    def of_type(self, type_: str) -> list[Row]:
        return [row for row in self.others if row.type == type_.lower()]

    def children(self, key: str, type_: str) -> list[Row]:
        return [row for row in self.rows.values() if (row.parent.lower(), row.type) == (key.lower(), type_.lower())]


def changed(body: dict[str, Json], path: str, value: Json) -> dict[str, Json]:
    """A copy of the body with one value set, or taken out."""
    made = copy.deepcopy(body)
    *way, last = path.split(".")
    top = last in made or path.startswith(("sku", "location", "kind", "zones"))
    target: Any = made if top else made["properties"]
    for part in way:
        target = target[int(part)] if isinstance(target, list) else target.setdefault(part, {})
    if value is MISSING:
        target.pop(last, None)
    elif isinstance(target, list):
        target[int(last)] = value
    else:
        target[last] = value
    return made


def refusal(name: str, body: Mapping[str, Json], old: Mapping[str, Json] | None = None, identity: str = "") -> str:
    declared, type_, _ = BODIES[name]
    change = Change(identity or declared, body, old, Known(), datetime(2026, 11, 22, tzinfo=UTC))
    try:
        check(type_, change)
    except AzureError as error:
        return error.code if 400 <= error.status <= 500 else f"status {error.status}"
    return ""


WINDOW, WRONG, FIXED = "InvalidMaintenanceWindow", "InvalidRequestContent", "PropertyChangeNotAllowed"
ROLLING = "upgradePolicy.rollingUpgradePolicy"
EXTENSION = "virtualMachineProfile.extensionProfile.extensions.0.properties"
PATCHING = "osProfile.linuxConfiguration.patchSettings"
CONDITION = "criteria.allOf.0"
TRANSFORM = "dataFlows.0.transformKql"
AUTOMATIC = {"patchMode": "AutomaticByPlatform"}
SYDNEY = {"timeZone": "AUS Eastern Standard Time", "recurEvery": "Day", "duration": "03:00"}
TOKYO = {"timeZone": "Tokyo Standard Time", "startDateTime": "2022-12-31 13:00", "recurEvery": "Day"}
REQUEST, BACKUP, TRAFFIC = "InvalidRequest", "BMSUserErrorInvalidPolicyInput", "BadRequest"
SMS = {"name": "phone", "countryCode": "49", "phoneNumber": "15112345678"}
HOOK = {"endpointType": "WebHook", "properties": {"endpointUrl": "https://hooks.example/go"}}
SOFT_DELETE = "securitySettings.softDeleteSettings"
HOURLY = {"schedulePolicyType": "SimpleSchedulePolicyV2", "scheduleRunFrequency": "Hourly"}
DAILY = "retentionPolicy.dailySchedule.retentionDuration"
FAST = {"protocol": "HTTP", "port": 80, "path": "/", "intervalInSeconds": 10}

TABLE = [
    # what, where, refused value, its code, admitted neighbour
    ("mc", "maintenanceWindow.duration", "01:29", WINDOW, "01:30"),
    ("mc", "maintenanceWindow.duration", "03:56", WINDOW, "03:55"),
    ("mc", "maintenanceWindow.duration", "3:55", WINDOW, "03:00"),
    ("os", "maintenanceWindow.duration", "04:59", WINDOW, "05:00"),
    ("mc", "maintenanceWindow.startDateTime", MISSING, WINDOW, "2026-12-01 09:00"),
    ("mc", "maintenanceWindow.startDateTime", "2026-12-01T09:00", WINDOW, "2026-12-01 09:01"),
    ("mc", "maintenanceWindow.expirationDateTime", "2026-11-21 00:00", WINDOW, "9999-12-31 23:59:59"),
    ("mc", "maintenanceWindow", TOKYO | {"expirationDateTime": "2026-11-22 09:00"}, WINDOW,
     TOKYO | {"expirationDateTime": "2026-11-22 09:01"}),
    ("mc", "maintenanceWindow.timeZone", "Europe/Berlin", WINDOW, "W. Europe Standard Time"),
    ("mc", "maintenanceWindow.timeZone", MISSING, WINDOW, "UTC"),
    ("mc", "maintenanceWindow.recurEvery", "Month", WINDOW, "Month day1"),
    ("mc", "maintenanceWindow.recurEvery", "2Months", WINDOW, "2Months Last Sunday"),
    ("mc", "maintenanceWindow.recurEvery", "Month Third Tuesday Offset7", WINDOW, "Month Third Tuesday Offset6"),
    ("mc", "maintenanceWindow.recurEvery", "Month Fifth Tuesday", WINDOW, "Month Fourth Tuesday Offset-3"),
    ("mc", "maintenanceWindow.recurEvery", "Month day32", WINDOW, "Month day31,day1"),
    ("mc", "maintenanceWindow.recurEvery", "1Week Mondays", WINDOW, "1Week Monday,Friday"),
    ("mc", "maintenanceWindow.recurEvery", "5Hours", WINDOW, "6Hours"),
    ("mc", "maintenanceWindow.recurEvery", MISSING, WINDOW, "Day"),
    ("os", "maintenanceWindow.recurEvery", "Month day1", WINDOW, "Week Saturday"),
    ("os", "maintenanceWindow.recurEvery", "2Weeks Saturday", WINDOW, "7Days"),
    ("mc", "maintenanceWindow.recurEvery", "0Days", WINDOW, "1Days"),
    ("mc", "visibility", "Public", WRONG, "Custom"),
    ("mc", "extensionProperties", MISSING, WRONG, {"InGuestPatchMode": "User"}),
    ("mc", "extensionProperties.InGuestPatchMode", "Platform", WRONG, "User"),
    ("mc", "installPatches.rebootSetting", "AlwaysReboot", WRONG, "Always"),
    ("mc", "installPatches.linuxParameters.classificationsToInclude", ["Others"], WRONG, ["Other", "Critical"]),
    ("mc", "maintenanceScope", "Guest", WRONG, "InGuestPatch"),
    ("mc", "maintenanceWindow", SYDNEY | {"startDateTime": "2027-10-03 02:00"}, WINDOW,
     SYDNEY | {"startDateTime": "2027-10-03 03:00"}),
    ("mc", "maintenanceWindow.timeZone", "Mars Standard Time", WINDOW, "Tokyo Standard Time"),
    ("mc", "maintenanceWindow.startDateTime", "2026-02-30 09:00", WINDOW, "2022-12-31 13:00"),
    ("mc", "installPatches.windowsParameters", {"classificationsToInclude": ["Definitions"]}, WRONG,
     {"classificationsToInclude": ["Definition", "UpdateRollup"]}),
    ("os", "installPatches", {"rebootSetting": "Never"}, WRONG, MISSING),
    ("dynamic", "filter", MISSING, "InternalServerError", {"locations": [LOCATION]}),
    ("dynamic", "filter.locations", MISSING, WRONG, [LOCATION]),
    ("everywhere", "filter", MISSING, "InternalServerError", {"osTypes": ["Linux"]}),
    ("dynamic", "filter.osTypes", ["linux"], WRONG, ["Linux", "Windows"]),
    ("dynamic", "filter.tagSettings", {"filterOperator": "and", "tags": {}}, WRONG, {"filterOperator": "All"}),
    ("dynamic", "filter.tagSettings", {"tags": {f"t{n}": ["x"] for n in range(51)}}, WRONG,
     {"tags": {f"t{n}": ["x"] for n in range(50)}}),
    ("dynamic", "filter.resourceGroups", [f"g{n}" for n in range(51)], WRONG, [f"g{n}" for n in range(50)]),
    ("on-vm", "filter", {"locations": [LOCATION]}, WRONG, MISSING),
    ("dynamic", "filter.resourceTypes", ["Microsoft.Compute/virtualMachineScaleSets"], WRONG,
     ["microsoft.compute/virtualmachines"]),
    ("dynamic", "maintenanceConfigurationId", CONFIGURATION + "x", "NotFound", CONFIGURATION.upper()),
    ("vmss", EXTENSION + ".type", "CustomScript", "BadRequest", "ApplicationHealthLinux"),
    ("vmss", ROLLING + ".maxBatchInstancePercent", 4, "InvalidParameter", 5),
    ("vmss", ROLLING + ".maxBatchInstancePercent", 21, "BadRequest", 20),
    ("vmss", ROLLING + ".maxUnhealthyInstancePercent", 101, "InvalidParameter", 100),
    ("vmss", ROLLING + ".maxUnhealthyUpgradedInstancePercent", -1, "InvalidParameter", 0),
    ("vmss", ROLLING + ".pauseTimeBetweenBatches", "PT11M", "InvalidParameter", "PT10M"),
    ("vmss", ROLLING + ".pauseTimeBetweenBatches", "10 minutes", "InvalidParameter", "PT0S"),
    ("vmss", EXTENSION + ".settings.intervalInSeconds", 4, "VMExtensionProvisioningError", 5),
    ("vmss", EXTENSION + ".settings.port", 65536, "VMExtensionProvisioningError", 65535),
    ("vmss", EXTENSION + ".settings.numberOfProbes", 25, "VMExtensionProvisioningError", 24),
    ("vmss", EXTENSION + ".settings.requestPath", MISSING, "VMExtensionProvisioningError", "/x"),
    ("vmss", EXTENSION + ".settings.protocol", "tcp", "VMExtensionProvisioningError", "https"),
    ("vmss", "automaticRepairsPolicy", {"enabled": True, "gracePeriod": "PT9M"}, "BadRequest",
     {"enabled": True, "gracePeriod": "PT10M"}),
    ("vmss", "upgradePolicy.mode", MISSING, "InvalidParameter", "Manual"),
    ("vmss", "orchestrationMode", "Flexible", "OperationNotAllowed", "Uniform"),
    ("vmss", "sku.capacity", 1001, "InvalidParameter", 0),
    ("vmss", "virtualMachineProfile.osProfile.computerNamePrefix", MISSING, "InvalidParameter", "x"),
    ("vm", PATCHING, {"automaticByPlatformSettings": {"rebootSetting": "Never"}}, "InvalidParameter",
     AUTOMATIC | {"automaticByPlatformSettings": {"rebootSetting": "Never"}}),
    ("vm", "osProfile.linuxConfiguration", {"provisionVMAgent": False, "patchSettings": AUTOMATIC}, "InvalidParameter",
     {"provisionVMAgent": True, "patchSettings": AUTOMATIC}),
    ("vm", "osProfile.windowsConfiguration",
     {"enableAutomaticUpdates": False, "patchSettings": {"patchMode": "AutomaticByOS"}},
     "InvalidParameter", {"enableAutomaticUpdates": True, "patchSettings": {"patchMode": "AutomaticByOS"}}),
    ("vm", "osProfile.windowsConfiguration.patchSettings", {"enableHotpatching": True}, "InvalidParameter",
     AUTOMATIC | {"enableHotpatching": True}),
    ("vm", "osProfile.windowsConfiguration.patchSettings", AUTOMATIC | {"enableHotpatching": True,
     "automaticByPlatformSettings": {"bypassPlatformSafetyChecksOnUserSchedule": True}}, "InvalidParameter",
     AUTOMATIC | {"automaticByPlatformSettings": {"bypassPlatformSafetyChecksOnUserSchedule": True}}),
    ("vm", "osProfile.windowsConfiguration",
     {"enableAutomaticUpdates": True, "patchSettings": {"patchMode": "Manual"}},
     "InvalidParameter", {"enableAutomaticUpdates": False, "patchSettings": {"patchMode": "Manual"}}),
    ("vm", "hardwareProfile", MISSING, "InvalidParameter", {"vmSize": "Standard_D2s_v5"}),
    ("points", "source.id", BLUE + "/virtualMachines/0", "InvalidParameter", MACHINE),
    ("points", "source.id", f"{GROUP}/providers/Microsoft.HybridCompute/machines/site", "InvalidParameter", MACHINE),
    ("point", "consistencyMode", "ApplicationConsistent", "InvalidParameter", "CrashConsistent"),
    ("snapshot", "creationData.createOption", "Empty", "OperationNotAllowed", "Copy"),
    ("snapshot", "creationData.sourceResourceId", MACHINE, "InvalidParameter", DISK.upper()),
    ("snapshot", "location", "northeurope", "InvalidParameter", LOCATION),
    ("snapshot", "sku", {"name": "UltraSSD_LRS"}, "InvalidParameter", {"name": "Standard_ZRS"}),
    ("disk", "creationData.createOption", "Empty", "OperationNotAllowed", "Copy"),
    ("disk", "creationData.sourceResourceId", DISK, "OperationNotAllowed", SNAPSHOT),
    ("points", "source", MISSING, "InvalidParameter", {"id": MACHINE}),
    ("vnet", "subnets.0.properties.addressPrefix", "10.1.1.0/24", "NetcfgInvalidSubnet", "10.0.255.0/24"),
    ("vnet", "subnets.0.properties.addressPrefix", "10.0.1.1/24", "InvalidAddressPrefixFormat", "10.0.1.1/32"),
    ("vnet", "addressSpace.addressPrefixes", [], "NetcfgInvalidSubnet", ["10.0.0.0/8"]),
    ("ip", "dnsSettings.domainNameLabel", "Blue", "InvalidDomainNameLabel", "blue"),
    ("ip", "publicIPAllocationMethod", "Dynamic", "PublicIPAddressWithStandardSkuMustBeStatic", "Static"),
    ("lb", "sku.name", "Basic", "BasicSkuNotSupported", "Standard"),
    ("lb", "probes.0.properties.intervalInSeconds", 4, "ProbeIntervalInvalid", 5),
    ("lb", "probes.0.properties.requestPath", MISSING, "ProbeRequestPathMissing", "/"),
    ("lb", "probes.0.properties.protocol", "Tcp", "ProbeRequestPathNotAllowed", "Https"),
    ("lb", "loadBalancingRules.0.properties.backendAddressPool.id", f"{BALANCER}/backendAddressPools/red",
     "InvalidResourceReference", f"{BALANCER}/backendAddressPools/green"),
    ("lb", "loadBalancingRules.0.properties.frontendIPConfiguration", MISSING, "LoadBalancingRuleMissingFrontend",
     {"id": f"{BALANCER}/frontendIPConfigurations/public"}),
    ("alert", "evaluationFrequency", "PT7M", WRONG, "PT10M"),
    ("alert", "evaluationFrequency", "PT30M", WRONG, "PT15M"),
    ("alert", "windowSize", "PT20M", WRONG, "PT30M"),
    ("alert", "windowSize", "PT1M", WRONG, "PT5M"),
    ("alert", "severity", 5, WRONG, 4),
    ("alert", "scopes", [WORKSPACE, GROUP], WRONG, [WORKSPACE]),
    ("alert", "muteActionsDuration", "PT5M", WRONG, MISSING),
    ("alert", CONDITION + ".query", "Wave_CL | where host == 'a'", "BadRequest", "Wave_CL | where Host == 'a'"),
    ("alert", CONDITION + ".query", "Waves_CL", "BadRequest", "Wave_CL | where Type == 'Wave_CL'"),
    ("alert", CONDITION + ".query", "Wave_CL | where", "BadRequest", "Wave_CL | where true"),
    ("alert", CONDITION + ".query", "Wave_CL | where Host > 1", "BadRequest", "Wave_CL | where Host > '1'"),
    ("alert", CONDITION + ".operator", "gt", WRONG, "LessThan"),
    ("alert", CONDITION + ".metricMeasureColumn", "x", WRONG, MISSING),
    ("alert", CONDITION + ".timeAggregation", "Average", WRONG, "Count"),
    ("alert", CONDITION + ".failingPeriods.minFailingPeriodsToAlert", 2, WRONG, 1),
    ("alert", CONDITION + ".failingPeriods.numberOfEvaluationPeriods", 7, WRONG, 6),
    ("group", "groupShortName", "thirteen-char", WRONG, "twelve-chars"),
    ("group", "location", "westeurope", "LocationNotAvailableForResourceType", "global"),
    ("group", "smsReceivers", [SMS | {"name": "OPS"}], WRONG, [SMS]),
    ("group", "smsReceivers", [SMS | {"countryCode": "+49"}], WRONG, [SMS | {"countryCode": "49"}]),
    ("group", "smsReceivers", [SMS | {"phoneNumber": "151 1"}], WRONG, [SMS | {"phoneNumber": "1511"}]),
    ("group", "smsReceivers", [SMS | {"name": f"n{n}"} for n in range(11)], WRONG,
     [SMS | {"name": f"n{n}"} for n in range(10)]),
    ("group", "emailReceivers.0.emailAddress", "ops", WRONG, "ops@fieldops.example"),
    ("group", "webhookReceivers", [{"name": "w", "serviceUri": "hooks.example"}], WRONG,
     [{"name": "w", "serviceUri": "https://hooks.example"}]),
    ("table", "schema.name", "Other_CL", "InvalidParameter", "Wave_CL"),
    ("table", "schema.columns", [{"name": "Host", "type": "string"}], "InvalidParameter",
     [{"name": "TimeGenerated", "type": "dateTime"}]),
    ("table", "schema.columns.1.type", "datetime", "InvalidParameter", "dateTime"),
    ("table", "schema.columns.1.name", "Title", "InvalidParameter", "Titles"),
    ("table", "retentionInDays", 3, "InvalidParameter", 4),
    ("table", "totalRetentionInDays", 4384, "InvalidParameter", -1),
    ("logs", "retentionInDays", 731, "InvalidParameter", 730),
    ("logs", "retentionInDays", 29, "InvalidParameter", 30),
    ("dcr", "dataFlows.0.streams", ["Custom-Other"], "InvalidPayload", ["Custom-Wave"]),
    ("dcr", "dataFlows.0.destinations", ["elsewhere"], "InvalidPayload", ["logs"]),
    ("dcr", "dataFlows.0.outputStream", "Custom-Other_CL", "InvalidPayload", "Custom-Wave_CL"),
    ("dcr", "dataFlows.0.outputStream", "Wave_CL", "InvalidPayload", "Custom-Wave_CL"),
    ("dcr", TRANSFORM, "source//" + "x" * 15353, "InvalidPayload", "source//" + "x" * 15352),
    ("dcr", TRANSFORM, "source | project TimeGenerated,", "InvalidPayload", "source | project TimeGenerated"),
    ("dcr", TRANSFORM, "source | where host != ''", "InvalidPayload", "source | where Host != ''"),
    ("dcr", TRANSFORM, "Wave_CL", "InvalidPayload", "source"),
    ("dcr", TRANSFORM, "source | summarize TimeGenerated = max(TimeGenerated)", "InvalidPayload",
     "source | extend TimeGenerated = now()"),
    ("dcr", TRANSFORM, "source | project Host", "InvalidPayload", "source | project-away Host"),
    ("dcr", TRANSFORM, "source | extend Host = strlen(Host)", "InvalidPayload",
     "source | extend Host = tostring(strlen(Host))"),
    ("dcr", TRANSFORM, "source | extend TimeGenerated = tostring(TimeGenerated)", "InvalidPayload",
     "source | extend Other = tostring(TimeGenerated)"),
    ("dcr", "streamDeclarations.Custom-Wave.columns.0.type", "dateTime", "InvalidPayload", "datetime"),
    ("dcr", "dataCollectionEndpointId", MISSING, "InvalidPayload", f"{INSIGHTS}/dataCollectionEndpoints/dce"),
    ("alert", "overrideQueryTimeRange", "PT10M", WRONG, "PT15M"),
    ("alert", "overrideQueryTimeRange", "PT16M", WRONG, "PT20M"),
    ("dcr", "kind", "Direct", "InvalidPayload", "Linux"),
    ("dcr", "location", "northeurope", "InvalidPayload", LOCATION),
    ("workbook", "serializedData", "{", "BadRequest", "[]"),
    ("workbook", "kind", "user", "BadRequest", "shared"),
    ("workbook", "displayName", MISSING, "BadRequest", "x"),
    ("role", "roleDefinitionId", f"{ROLES}/{GUID}", "RoleDefinitionDoesNotExist", f"/{ROLES}/{READER.upper()}"),
    ("role", "principalId", "nobody", "InvalidPrincipalId", PRINCIPAL),
    ("role", "principalId", GUID, "PrincipalNotFound", PRINCIPAL),
    ("topic", "topicType", "Microsoft.Storage.StorageAccounts", REQUEST,
     "microsoft.maintenance.maintenanceconfigurations"),
    ("topic", "source", MACHINE, REQUEST, CONFIGURATION.lower()),
    ("topic", "location", "global", REQUEST, LOCATION),
    ("event", "destination", MISSING, REQUEST, HOOK),
    ("event", "destination.properties.endpointUrl", "http://hooks.example", REQUEST, "https://hooks.example"),
    ("event", "destination", {"endpointType": "AzureFunction", "properties": {}}, REQUEST,
     {"endpointType": "AzureFunction", "properties": {"resourceId": f"{GROUP}/providers/Microsoft.Web/sites/f"}}),
    ("event", "destination", {"endpointType": "StorageQueue", "properties": {"resourceId": GROUP}}, REQUEST,
     {"endpointType": "StorageQueue", "properties": {"resourceId": GROUP, "queueName": "events"}}),
    ("event", "filter.includedEventTypes", [], REQUEST, MISSING),
    ("event", "filter.includedEventTypes", ["Microsoft.Maintenance.PreMaintenance"], REQUEST,
     ["Microsoft.Maintenance.PostMaintenanceEvent"]),
    ("event", "eventDeliverySchema", "CustomInputSchema", REQUEST, "CloudEventSchemaV1_0"),
    ("event", "retryPolicy", {"maxDeliveryAttempts": 31}, REQUEST, {"maxDeliveryAttempts": 30}),
    ("event", "retryPolicy", {"eventTimeToLiveInMinutes": 0}, REQUEST, {"eventTimeToLiveInMinutes": 1440}),
    ("vault", "sku", MISSING, "InvalidParameter", {"name": "Standard"}),
    ("vault", SOFT_DELETE + ".softDeleteRetentionPeriodInDays", 13, "InvalidParameter", 14),
    ("policy", "backupManagementType", "AzureStorage", "OperationNotAllowed", "AzureIaasVM"),
    ("policy", "instantRpRetentionRangeInDays", 31, BACKUP, 30),
    ("policy", "policyType", "V1", BACKUP, "V2"),
    ("policy", "schedulePolicy", HOURLY | {"hourlySchedule": {"interval": 5, "scheduleWindowDuration": 10}}, BACKUP,
     HOURLY | {"hourlySchedule": {"interval": 4, "scheduleWindowDuration": 12}}),
    ("policy", "schedulePolicy", HOURLY | {"hourlySchedule": {"interval": 8, "scheduleWindowDuration": 12}}, BACKUP,
     HOURLY | {"hourlySchedule": {"interval": 12, "scheduleWindowDuration": 24}}),
    ("policy", "schedulePolicy.dailySchedule.scheduleRunTimes", ["2026-12-01T02:15:00Z"], BACKUP,
     ["2026-12-01T02:00:00Z"]),
    ("policy", "retentionPolicy.dailySchedule.retentionTimes", ["2026-12-01T03:00:00Z"], BACKUP,
     ["2026-12-01T02:00:00Z"]),
    ("policy", "timeZone", "Europe/Berlin", BACKUP, "W. Europe Standard Time"),
    ("policy", DAILY, {"count": 6, "durationType": "Days"}, BACKUP, {"count": 7, "durationType": "Days"}),
    ("policy", DAILY, {"count": 10000, "durationType": "Days"}, BACKUP, {"count": 9999, "durationType": "Days"}),
    ("policy", DAILY, {"count": 30, "durationType": "Weeks"}, BACKUP, {"count": 30, "durationType": "Days"}),
    ("policy", "retentionPolicy.yearlySchedule", {"retentionDuration": {"count": 0, "durationType": "Years"}}, BACKUP,
     {"retentionDuration": {"count": 1, "durationType": "Years"}}),
    ("policy", "retentionPolicy.dailySchedule", MISSING, BACKUP,
     policy()["properties"]["retentionPolicy"]["dailySchedule"]),
    ("item", "policyId", f"{GROUP}/providers/Microsoft.RecoveryServices/vaults/other/backupPolicies/x",
     "BMSUserErrorInvalidInput", POLICY.upper()),
    ("item", "sourceResourceId", f"{MACHINE}x", "BMSUserErrorInvalidInput", MACHINE.upper()),
    ("traffic", "location", LOCATION, TRAFFIC, "Global"),
    ("traffic", "endpoints.0.properties.weight", 1001, TRAFFIC, 1),
    ("traffic", "endpoints.0.properties.weight", 0, TRAFFIC, 1000),
    ("traffic", "endpoints.1.name", "BLUE", TRAFFIC, "green"),
    ("traffic", "endpoints.0.type", "azureEndpoints", TRAFFIC,
     "microsoft.network/trafficmanagerprofiles/azureEndpoints"),
    ("traffic", "endpoints.0.properties.targetResourceId", BALANCER, TRAFFIC, ADDRESS),
    ("traffic", "endpoints.1.properties.target", MISSING, TRAFFIC, "other.example"),
    ("traffic", "dnsConfig.relativeName", "", TRAFFIC, "x"),
    ("traffic", "dnsConfig.relativeName", "fieldops.desk", TRAFFIC, "fieldops-desk"),
    ("traffic", "monitorConfig.path", "healthz", TRAFFIC, "/"),
    ("traffic", "monitorConfig.protocol", "TCP", TRAFFIC, "HTTPS"),
    ("traffic", "monitorConfig.intervalInSeconds", 20, TRAFFIC, 30),
    ("traffic", "monitorConfig", FAST | {"timeoutInSeconds": 10}, TRAFFIC, FAST | {"timeoutInSeconds": 9}),
    ("traffic", "monitorConfig.toleratedNumberOfFailures", 10, TRAFFIC, 9),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "path", "refused", "code", "admitted"), TABLE, ids=[f"{row[0]}-{row[1]}-{row[3]}" for row in TABLE]
)
def test_one_step_over_the_line_is_refused_and_the_line_is_not(
    name: str, path: str, refused: Json, code: str, admitted: Json
) -> None:
    body = BODIES[name][2]()
    assert refusal(name, changed(body, path, refused)) == code
    assert refusal(name, changed(body, path, admitted)) == ""


@pytest.mark.parametrize("name", BODIES)
def test_what_the_program_declares_is_admitted(name: str) -> None:
    assert refusal(name, BODIES[name][2]()) == ""


def test_each_type_with_rules_is_in_the_table() -> None:
    tested = {BODIES[row[0]][1].lower() for row in TABLE}
    elsewhere = {"microsoft.compute/galleries/images", "microsoft.compute/galleries/images/versions"}
    assert set(RULES) == tested | elsewhere


def test_rolling_and_automatic_upgrades_need_one_source_of_health() -> None:
    blind = changed(scale_set(), "virtualMachineProfile.extensionProfile", MISSING)
    assert refusal("vmss", blind) == "BadRequest"
    probe = {"id": f"{BALANCER}/probes/health"}
    seeing = changed(blind, "virtualMachineProfile.networkProfile.healthProbe", probe)
    assert refusal("vmss", seeing) == ""
    both = changed(scale_set(), "virtualMachineProfile.networkProfile.healthProbe", probe)
    automatic = {"enableAutomaticOSUpgrade": True}
    upgraded = changed(scale_set(), "upgradePolicy.automaticOSUpgradePolicy", automatic)
    for where, wrong, right in (
        ("osProfile.windowsConfiguration", {}, {"enableAutomaticUpdates": False}),
        ("storageProfile.imageReference", {"id": f"{GALLERY}/versions/1.0.0"}, {"id": f"{GALLERY}/versions/latest"}),
        ("storageProfile.imageReference", {"sku": "x", "version": "1.0.0"}, {"sku": "x", "version": "latest"}),
    ):
        assert refusal("vmss", changed(upgraded, f"virtualMachineProfile.{where}", wrong)) == "BadRequest"
        assert refusal("vmss", changed(upgraded, f"virtualMachineProfile.{where}", right)) == ""
    assert refusal("vmss", changed(both, "upgradePolicy.automaticOSUpgradePolicy", automatic)) == "BadRequest"
    assert refusal("vmss", changed(scale_set(), "upgradePolicy.automaticOSUpgradePolicy", automatic)) == ""
    manual = changed(changed(blind, "upgradePolicy", {"mode": "Manual"}), "automaticRepairsPolicy", {"enabled": True})
    assert refusal("vmss", manual) == "BadRequest"


def test_an_extension_that_nobody_published_is_refused_by_name() -> None:
    body = scale_set()
    profile = body["properties"]["virtualMachineProfile"]["extensionProfile"]
    profile["extensions"].append({"name": "x", "properties": {"publisher": "Nobody", "type": "Nothing"}})
    assert refusal("vmss", body) == "ArtifactNotFound"


def test_a_machine_is_scheduled_only_when_its_prerequisites_are_met() -> None:
    known = Known()
    unfit = Change(BODIES["on-vm"][0], assigned(), None, known)
    check(ASSIGNMENTS, unfit)
    without_agent = changed(scheduled_machine(), "osProfile.linuxConfiguration.provisionVMAgent", False)
    kept_safe = changed(scheduled_machine(), PATCHING + ".automaticByPlatformSettings", MISSING)
    for body in (machine(), without_agent, kept_safe):
        known.rows[MACHINE.lower()].body = body
        with pytest.raises(AzureError, match="PrerequisiteNotMet"):
            check(ASSIGNMENTS, unfit)


def test_an_arc_machine_takes_guest_schedules_only_and_has_no_prerequisites() -> None:
    on_arc = f"{GROUP}/providers/Microsoft.HybridCompute/machines/site-0/providers/{ASSIGNMENTS}/a"
    assert refusal("on-vm", assigned(), identity=on_arc) == ""
    known = Known()
    known.rows[CONFIGURATION.lower()].body = os_image()
    for place in (on_arc, BODIES["on-vm"][0]):
        with pytest.raises(AzureError, match="Maintenance scope OSImage is not supported"):
            check(ASSIGNMENTS, Change(place, assigned(), None, known))


def test_a_scale_set_takes_no_guest_schedule_and_a_dynamic_scope_no_image_schedule() -> None:
    on_set = f"{BLUE}/providers/Microsoft.Maintenance/configurationAssignments/a"
    assert refusal("dynamic", assigned(), identity=on_set) == WRONG
    known = Known()
    known.rows[CONFIGURATION.lower()].body = os_image()
    check(ASSIGNMENTS, Change(on_set, assigned(), None, known))
    with pytest.raises(AzureError, match="Dynamic scope"):
        check(ASSIGNMENTS, Change(DYNAMIC, dynamic(), None, known))


GALLERY = compute("galleries/fieldops/images/web")


@pytest.mark.parametrize(
    ("name", "path", "value", "code"),
    [
        ("vm", "storageProfile.osDisk.createOption", "Attach", FIXED),
        ("vm", "osProfile.computerName", "other", FIXED),
        ("vm", "storageProfile.imageReference", {"id": "/other"}, FIXED),
        ("vm", "zones", ["2"], FIXED),
        ("vmss", ROLLING, MISSING, FIXED),
        ("vmss", "virtualMachineProfile.osProfile.computerNamePrefix", "other", FIXED),
        ("vmss", "zones", ["2"], FIXED),
        ("points", "source.id", MACHINE + "x", FIXED),
        ("snapshot", "creationData.sourceResourceId", DISK + "x", FIXED),
        ("snapshot", "incremental", False, FIXED),
        ("disk", "creationData.sourceResourceId", SNAPSHOT + "x", FIXED),
        ("mc", "maintenanceScope", "Host", WRONG),
        ("alert", "scopes", [f"{WORKSPACE}x"], WRONG),
        ("topic", "source", CONFIGURATION + "x", REQUEST),
        ("traffic", "dnsConfig.relativeName", "other", TRAFFIC),
    ],
)
def test_what_is_settled_at_creation_cannot_change(name: str, path: str, value: Json, code: str) -> None:
    old = BODIES[name][2]()
    assert refusal(name, changed(old, path, value), old) == code
    assert refusal(name, copy.deepcopy(old), old) == ""


def test_a_query_is_judged_unless_the_rule_says_not_to_or_the_engine_cannot() -> None:
    nowhere = changed(BODIES["alert"][2](), CONDITION + ".query", "Nowhere_CL")
    assert refusal("alert", changed(nowhere, "skipQueryValidation", False)) == "BadRequest"
    assert refusal("alert", changed(nowhere, "skipQueryValidation", True)) == ""
    series = "Wave_CL | make-series n = count() on TimeGenerated step 1h"
    assert refusal("alert", changed(nowhere, CONDITION + ".query", series)) == "status 501"


def test_an_image_keeps_what_it_is_and_a_version_is_three_numbers() -> None:
    old = {"properties": {"osType": "Linux", "identifier": {"sku": "web"}}}
    moved = Change(GALLERY, changed(old, "identifier.sku", "other"), old, Known())
    with pytest.raises(AzureError, match=re.escape("'galleryImage.properties.identifier' is not allowed")):
        check("Microsoft.Compute/galleries/images", moved)
    check("Microsoft.Compute/galleries/images", Change(GALLERY, copy.deepcopy(old), old, Known()))
    for name in ("1.0", "latest", "1.0.0"):
        change = Change(f"{GALLERY}/versions/{name}", {"properties": {}}, {} if name == "1.0.0" else None, Known())
        with contextlib.nullcontext() if name == "1.0.0" else pytest.raises(AzureError, match="InvalidParameter"):
            check("Microsoft.Compute/galleries/images/versions", change)


def test_windows_patch_modes_do_not_follow_each_other_freely() -> None:
    def with_mode(mode: str, automatic: bool) -> dict[str, Json]:
        windows = {"enableAutomaticUpdates": automatic, "patchSettings": {"patchMode": mode}}
        return changed(machine(), "osProfile.windowsConfiguration", windows)

    assert refusal("vm", with_mode("Manual", False), with_mode("AutomaticByOS", True)) == FIXED
    assert refusal("vm", with_mode("AutomaticByPlatform", True), with_mode("AutomaticByOS", True)) == ""


def test_a_backup_once_a_week_keeps_weeks_and_the_older_policy_keeps_five_days_at_hand() -> None:
    for version in ("V1", "V2"):
        assert refusal("policy", weekly(version)) == ""
    assert refusal("policy", changed(weekly("V1"), "instantRpRetentionRangeInDays", 4)) == BACKUP
    assert refusal("policy", changed(weekly("V2"), "instantRpRetentionRangeInDays", 4)) == ""
    assert refusal("policy", changed(weekly(), "retentionPolicy.weeklySchedule", MISSING)) == BACKUP
    assert refusal("policy", changed(weekly(), "schedulePolicy.weeklySchedule.scheduleRunDays", [])) == BACKUP


def among(name: str, others: list[Row]) -> str:
    """How a body is refused beside other resources."""
    identity, type_, made = BODIES[name]
    known = Known()
    known.others = others
    try:
        check(type_, Change(identity, made(), None, known, datetime(2026, 11, 22, tzinfo=UTC)))
    except AzureError as error:
        return error.code
    return ""


def other(name: str, count: int = 1, **properties: Json) -> list[Row]:
    """Resources like a declared one, under other names."""
    identity, type_, made = BODIES[name]
    body = made()
    body["properties"] |= properties
    return [Row(f"{identity}-{number}", type_.lower(), "", body) for number in range(count)]


def test_what_may_be_there_once_is_refused_twice() -> None:
    assert among("topic", other("topic")) == REQUEST
    assert among("topic", other("topic", source=CONFIGURATION + "x")) == ""
    assert among("traffic", other("traffic")) == "Conflict"
    assert among("traffic", other("traffic", dnsConfig={"relativeName": "other"})) == ""
    assert among("ip", other("ip")) == "DnsRecordInUse"
    assert among("item", other("item")) == "BMSUserErrorItemAlreadyProtected"
    assert among("item", other("item", sourceResourceId=MACHINE + "x")) == ""
    elsewhere = Row(DYNAMIC.replace("/dev/", "/other/"), ASSIGNMENTS.lower(), "", dynamic())
    assert among("dynamic", [elsewhere]) == "Conflict"


def test_a_configuration_has_200_dynamic_scopes_and_a_region_250_configurations() -> None:
    assert among("dynamic", other("dynamic", 199)) == ""
    assert among("dynamic", other("dynamic", 200)) == WRONG
    assert among("mc", other("mc", 249)) == ""
    assert among("mc", other("mc", 250)) == WRONG


def test_one_restore_point_is_made_at_a_time() -> None:
    collection = Row(POINTS, "microsoft.compute/restorepointcollections", "", BODIES["points"][2]())
    busy = Row(
        f"{POINTS}/restorePoints/x", BODIES["point"][1].lower(), "", {"properties": {"provisioningState": "Creating"}}
    )
    assert among("point", [collection, busy]) == "OperationNotAllowed"
    busy.properties["provisioningState"] = "Succeeded"
    assert among("point", [collection, busy]) == ""


def test_some_disks_have_incremental_snapshots_only_and_an_incomplete_one_makes_no_disk() -> None:
    known = Known()
    known.rows[DISK.lower()].body["sku"] = {"name": "PremiumV2_LRS"}
    identity, type_, made = BODIES["snapshot"]
    check(type_, Change(identity, made(), None, known))
    with pytest.raises(AzureError, match="incremental"):
        check(type_, Change(identity, changed(made(), "incremental", False), None, known))
    known.rows[SNAPSHOT.lower()] = Row(SNAPSHOT, "", "", {"properties": {"completionPercent": 40.0}})
    identity, type_, made = BODIES["disk"]
    with pytest.raises(AzureError, match="completionPercent must be 100"):
        check(type_, Change(identity, made(), None, known))


def test_soft_delete_that_is_always_on_stays_on() -> None:
    on = changed(BODIES["vault"][2](), SOFT_DELETE + ".softDeleteState", "AlwaysON")
    assert refusal("vault", BODIES["vault"][2](), on) == "OperationNotAllowed"
    assert refusal("vault", copy.deepcopy(on), on) == ""


def test_a_table_on_the_basic_plan_keeps_the_plans_own_retention() -> None:
    basic = changed(table(), "plan", "Basic")
    assert refusal("table", changed(basic, "retentionInDays", 90)) == "InvalidParameter"
    assert refusal("table", changed(basic, "retentionInDays", MISSING)) == ""
    assert refusal("table", changed(table(), "retentionInDays", 90)) == ""


def test_a_role_is_assigned_once_and_never_moved() -> None:
    moved = changed(changed(role(), "principalId", GUID), "principalType", "User")
    assert refusal("role", moved, role()) == "RoleAssignmentUpdateNotPermitted"
    assert among("role", other("role")) == "RoleAssignmentExists"
    assert refusal("role", role(), identity=BODIES["role"][0].replace(GUID, "x")) == "InvalidRoleAssignmentId"
