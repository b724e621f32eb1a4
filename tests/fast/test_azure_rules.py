"""Each refusal beside its admitted neighbour: one step over the line, and on it."""

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from sandbox.azure.errors import AzureError
from sandbox.azure.rules import RULES, Change, check
from sandbox.azure.store import Row

from .azure_stand_in import (
    BALANCER,
    BLUE,
    GROUP,
    LOCATION,
    MACHINE,
    balancer,
    compute,
    machine,
    public_address,
    scale_set,
    vnet,
)

Json = Any
MISSING = object()
CONFIGURATION = f"{GROUP}/providers/Microsoft.Maintenance/maintenanceConfigurations/weekly"
DYNAMIC = f"{GROUP}/providers/Microsoft.Maintenance/configurationAssignments/dynamic"
WORKSPACE = f"{GROUP}/providers/Microsoft.OperationalInsights/workspaces/logs"
INSIGHTS = f"{GROUP}/providers/Microsoft.Insights"
GUID = "0b9a7f6e-8d2c-4b1a-9f3e-2d4c6b8a0e1f"


def in_guest() -> dict[str, Json]:
    return {"location": LOCATION, "properties": {
        "maintenanceScope": "InGuestPatch", "extensionProperties": {"InGuestPatchMode": "User"},
        "maintenanceWindow": {
            "startDateTime": "2026-12-01 09:00", "duration": "03:55", "timeZone": "UTC", "recurEvery": "1Week Monday"},
        "installPatches": {
            "rebootSetting": "IfRequired", "linuxParameters": {"classificationsToInclude": ["Security"]}},
    }}  # fmt: skip


def os_image() -> dict[str, Json]:
    return {
        "location": LOCATION,
        "properties": {
            "maintenanceScope": "OSImage",
            "maintenanceWindow": {
                "startDateTime": "2026-12-01 09:00",
                "duration": "05:00",
                "timeZone": "UTC",
                "recurEvery": "1Day",
            },
        },
    }


def dynamic() -> dict[str, Json]:
    return {"location": LOCATION, "properties": {"maintenanceConfigurationId": CONFIGURATION, "filter": {
        "locations": [LOCATION], "resourceTypes": ["Microsoft.HybridCompute/machines"]}}}  # fmt: skip


def assigned() -> dict[str, Json]:
    return {"location": LOCATION, "properties": {"maintenanceConfigurationId": CONFIGURATION}}


def query_rule() -> dict[str, Json]:
    return {
        "location": LOCATION,
        "properties": {
            "scopes": [WORKSPACE],
            "severity": 1,
            "evaluationFrequency": "PT5M",
            "windowSize": "PT15M",
            "criteria": {
                "allOf": [
                    {
                        "query": "Wave_CL",
                        "timeAggregation": "Count",
                        "operator": "GreaterThan",
                        "threshold": 0,
                        "failingPeriods": {"numberOfEvaluationPeriods": 1, "minFailingPeriodsToAlert": 1},
                    }
                ]
            },
        },
    }


def action_group() -> dict[str, Json]:
    return {
        "location": "Global",
        "properties": {
            "groupShortName": "ops",
            "emailReceivers": [{"name": "ops", "emailAddress": "ops@fieldops.example"}],
        },
    }


def table() -> dict[str, Json]:
    return {"properties": {"retentionInDays": 30, "schema": {"name": "Wave_CL", "columns": [
        {"name": "TimeGenerated", "type": "dateTime"}, {"name": "Host", "type": "string"}]}}}  # fmt: skip


def collection_rule() -> dict[str, Json]:
    return {
        "location": LOCATION,
        "properties": {
            "dataCollectionEndpointId": f"{INSIGHTS}/dataCollectionEndpoints/dce",
            "streamDeclarations": {"Custom-Wave": {"columns": [{"name": "TimeGenerated", "type": "datetime"}]}},
            "destinations": {"logAnalytics": [{"name": "logs", "workspaceResourceId": WORKSPACE}]},
            "dataFlows": [{"streams": ["Custom-Wave"], "destinations": ["logs"], "outputStream": "Custom-Wave_CL"}],
        },
    }


def collection() -> dict[str, Json]:
    return {"location": LOCATION, "properties": {"source": {"id": MACHINE}}}


def role() -> dict[str, Json]:
    return {"properties": {"principalId": GUID, "roleDefinitionId": f"/roleDefinitions/{GUID}"}}


def workbook() -> dict[str, Json]:
    return {"location": LOCATION, "properties": {"serializedData": "{}"}}


DECLARED = {
    "mc": (CONFIGURATION, "Microsoft.Maintenance/maintenanceConfigurations", in_guest),
    "os": (CONFIGURATION, "Microsoft.Maintenance/maintenanceConfigurations", os_image),
    "dynamic": (DYNAMIC, "Microsoft.Maintenance/configurationAssignments", dynamic),
    "on-vm": (f"{MACHINE}/providers/Microsoft.Maintenance/configurationAssignments/a",
              "Microsoft.Maintenance/configurationAssignments", assigned),
    "vmss": (BLUE, "Microsoft.Compute/virtualMachineScaleSets", scale_set),
    "vm": (MACHINE, "Microsoft.Compute/virtualMachines", machine),
    "points": (compute("restorePointCollections/points"), "Microsoft.Compute/restorePointCollections", collection),
    "vnet": (f"{GROUP}/providers/Microsoft.Network/virtualNetworks/net", "Microsoft.Network/virtualNetworks", vnet),
    "ip": (f"{GROUP}/providers/Microsoft.Network/publicIPAddresses/ip",
           "Microsoft.Network/publicIPAddresses", public_address),
    "lb": (BALANCER, "Microsoft.Network/loadBalancers", balancer),
    "alert": (f"{INSIGHTS}/scheduledQueryRules/a", "Microsoft.Insights/scheduledQueryRules", query_rule),
    "group": (f"{INSIGHTS}/actionGroups/ops", "Microsoft.Insights/actionGroups", action_group),
    "table": (f"{WORKSPACE}/tables/Wave_CL", "Microsoft.OperationalInsights/workspaces/tables", table),
    "logs": (WORKSPACE, "Microsoft.OperationalInsights/workspaces",
             lambda: {"location": LOCATION, "properties": {"retentionInDays": 30}}),
    "dcr": (f"{INSIGHTS}/dataCollectionRules/dcr", "Microsoft.Insights/dataCollectionRules", collection_rule),
    "workbook": (f"{INSIGHTS}/workbooks/{GUID}", "Microsoft.Insights/workbooks", workbook),
    "role": (f"{GROUP}/providers/Microsoft.Authorization/roleAssignments/{GUID}",
             "Microsoft.Authorization/roleAssignments", role),
}  # fmt: skip


class Known:
    """What a rule may look up: the table, the maintenance configuration and a machine fit for schedules."""

    def __init__(self) -> None:
        fit = machine()
        fit["properties"]["osProfile"]["linuxConfiguration"] = {"patchSettings": {
            "patchMode": "AutomaticByPlatform",
            "automaticByPlatformSettings": {"bypassPlatformSafetyChecksOnUserSchedule": True}}}  # fmt: skip
        self.rows = {
            row.key: row
            for row in (
                Row(f"{WORKSPACE}/tables/Wave_CL", "", "", table()),
                Row(CONFIGURATION, "", "", in_guest()),
                Row(MACHINE, "", "", fit),
            )
        }

    def get(self, key: str) -> Row | None:
        return self.rows.get(key.lower())

    def of_type(self, type_: str) -> list[Row]:
        return []

    def children(self, key: str, type_: str) -> list[Row]:
        return []


def changed(body: dict[str, Json], path: str, value: Json) -> dict[str, Json]:
    """A copy of the body with one value set, or taken out."""
    made = copy.deepcopy(body)
    *way, last = path.split(".")
    target: Any = made if last in made or path.startswith(("sku", "location")) else made["properties"]
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
    declared, type_, _ = DECLARED[name]
    change = Change(identity or declared, body, old, Known(), datetime(2026, 11, 22, tzinfo=UTC))
    try:
        check(type_, change)
    except AzureError as error:
        return error.code if 400 <= error.status <= 500 else f"status {error.status}"
    return ""


WINDOW, WRONG = "InvalidMaintenanceWindow", "InvalidRequestContent"
ROLLING = "upgradePolicy.rollingUpgradePolicy"
EXTENSION = "virtualMachineProfile.extensionProfile.extensions.0.properties"
PATCHING = "osProfile.linuxConfiguration.patchSettings"
CONDITION = "criteria.allOf.0"
AUTOMATIC = {"patchMode": "AutomaticByPlatform"}

TABLE = [
    # what, where, refused value, its code, admitted neighbour
    ("mc", "maintenanceWindow.duration", "01:29", WINDOW, "01:30"),
    ("mc", "maintenanceWindow.duration", "03:56", WINDOW, "03:55"),
    ("mc", "maintenanceWindow.duration", "3:55", WINDOW, "03:00"),
    ("os", "maintenanceWindow.duration", "04:59", WINDOW, "05:00"),
    ("mc", "maintenanceWindow.startDateTime", MISSING, WINDOW, "2026-12-01 09:00"),
    ("mc", "maintenanceWindow.startDateTime", "2026-12-01T09:00", WINDOW, "2026-12-01 09:01"),
    ("mc", "maintenanceWindow.expirationDateTime", "2026-11-21 00:00", WINDOW, "2026-11-23 00:00"),
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
    ("mc", "visibility", "Public", WRONG, "Custom"),
    ("mc", "extensionProperties", MISSING, WRONG, {"InGuestPatchMode": "User"}),
    ("mc", "extensionProperties.InGuestPatchMode", "Platform", WRONG, "User"),
    ("mc", "installPatches.rebootSetting", "AlwaysReboot", WRONG, "Always"),
    ("mc", "installPatches.linuxParameters.classificationsToInclude", ["Others"], WRONG, ["Other", "Critical"]),
    ("os", "installPatches", {"rebootSetting": "Never"}, WRONG, MISSING),
    ("dynamic", "filter", MISSING, "InternalServerError", {"locations": [LOCATION]}),
    ("dynamic", "filter.locations", MISSING, WRONG, [LOCATION]),
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
    ("vm", "hardwareProfile", MISSING, "InvalidParameter", {"vmSize": "Standard_D2s_v5"}),
    ("points", "source.id", BLUE + "/virtualMachines/0", "InvalidParameter", MACHINE),
    ("points", "source", MISSING, "InvalidParameter", {"id": MACHINE}),
    ("vnet", "subnets.0.properties.addressPrefix", "10.1.1.0/24", "NetcfgInvalidSubnet", "10.0.255.0/24"),
    ("vnet", "subnets.0.properties.addressPrefix", "10.0.1.1/24", "InvalidAddressPrefixFormat", "10.0.1.1/32"),
    ("vnet", "addressSpace.addressPrefixes", [], "NetcfgInvalidSubnet", ["10.0.0.0/8"]),
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
    ("alert", CONDITION + ".operator", "gt", WRONG, "LessThan"),
    ("alert", CONDITION + ".metricMeasureColumn", "x", WRONG, MISSING),
    ("alert", CONDITION + ".timeAggregation", "Average", WRONG, "Count"),
    ("alert", CONDITION + ".failingPeriods.minFailingPeriodsToAlert", 2, WRONG, 1),
    ("alert", CONDITION + ".failingPeriods.numberOfEvaluationPeriods", 7, WRONG, 6),
    ("group", "groupShortName", "thirteen-char", WRONG, "twelve-chars"),
    ("group", "location", "westeurope", "LocationNotAvailableForResourceType", "global"),
    ("group", "smsReceivers", [{"name": "OPS"}], WRONG, [{"name": "other"}]),
    ("table", "schema.name", "Other_CL", "InvalidParameter", "Wave_CL"),
    ("table", "schema.columns", [{"name": "Host", "type": "string"}], "InvalidParameter",
     [{"name": "TimeGenerated", "type": "dateTime"}]),
    ("table", "schema.columns.1.type", "datetime", "InvalidParameter", "dateTime"),
    ("table", "schema.columns.1.name", "Title", "InvalidParameter", "Titles"),
    ("table", "retentionInDays", 3, "InvalidParameter", 4),
    ("table", "totalRetentionInDays", 4384, "InvalidParameter", -1),
    ("logs", "retentionInDays", 731, "InvalidParameter", 730),
    ("dcr", "dataFlows.0.streams", ["Custom-Other"], "InvalidPayload", ["Custom-Wave"]),
    ("dcr", "dataFlows.0.destinations", ["elsewhere"], "InvalidPayload", ["logs"]),
    ("dcr", "dataFlows.0.outputStream", "Custom-Other_CL", "InvalidPayload", "Custom-Wave_CL"),
    ("dcr", "dataFlows.0.transformKql", "x" * 15361, "InvalidPayload", "x" * 15360),
    ("dcr", "streamDeclarations.Custom-Wave.columns.0.type", "dateTime", "InvalidPayload", "datetime"),
    ("dcr", "dataCollectionEndpointId", MISSING, "InvalidPayload", f"{INSIGHTS}/dataCollectionEndpoints/dce"),
    ("workbook", "serializedData", "{", "BadRequest", "[]"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "path", "refused", "code", "admitted"), TABLE, ids=[f"{row[0]}-{row[1]}-{row[3]}" for row in TABLE]
)
def test_one_step_over_the_line_is_refused_and_the_line_is_not(
    name: str, path: str, refused: Json, code: str, admitted: Json
) -> None:
    body = DECLARED[name][2]()
    assert refusal(name, changed(body, path, refused)) == code
    assert refusal(name, changed(body, path, admitted)) == ""


@pytest.mark.parametrize("name", DECLARED)
def test_what_the_program_declares_is_admitted(name: str) -> None:
    assert refusal(name, DECLARED[name][2]()) == ""


def test_each_type_with_rules_is_in_the_table() -> None:
    tested = {type_.lower() for _, type_, _ in DECLARED.values()}
    elsewhere = {"microsoft.compute/restorepointcollections/restorepoints", "microsoft.compute/disks"}
    assert set(RULES) == tested | elsewhere


def test_rolling_and_automatic_upgrades_need_one_source_of_health() -> None:
    blind = changed(scale_set(), "virtualMachineProfile.extensionProfile", MISSING)
    assert refusal("vmss", blind) == "BadRequest"
    probe = {"id": f"{BALANCER}/probes/health"}
    seeing = changed(blind, "virtualMachineProfile.networkProfile.healthProbe", probe)
    assert refusal("vmss", seeing) == ""
    both = changed(scale_set(), "virtualMachineProfile.networkProfile.healthProbe", probe)
    automatic = {"enableAutomaticOSUpgrade": True}
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
    unfit = Change(DECLARED["on-vm"][0], assigned(), None, known)
    check("Microsoft.Maintenance/configurationAssignments", unfit)
    known.rows[MACHINE.lower()].body = machine()
    with pytest.raises(AzureError, match="PrerequisiteNotMet"):
        check("Microsoft.Maintenance/configurationAssignments", unfit)


def test_a_scale_set_takes_no_guest_schedule_and_a_dynamic_scope_no_image_schedule() -> None:
    on_set = f"{BLUE}/providers/Microsoft.Maintenance/configurationAssignments/a"
    assert refusal("dynamic", assigned(), identity=on_set) == WRONG
    known = Known()
    known.rows[CONFIGURATION.lower()].body = os_image()
    check("Microsoft.Maintenance/configurationAssignments", Change(on_set, assigned(), None, known))
    with pytest.raises(AzureError, match="Dynamic scope"):
        check("Microsoft.Maintenance/configurationAssignments", Change(DYNAMIC, dynamic(), None, known))


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("vm", "storageProfile.osDisk.createOption", "Attach"),
        ("vm", "osProfile.computerName", "other"),
        ("vm", "storageProfile.imageReference", {"id": "/other"}),
        ("vmss", ROLLING, MISSING),
        ("points", "source.id", MACHINE + "x"),
    ],
)
def test_what_is_settled_at_creation_cannot_change(name: str, path: str, value: Json) -> None:
    old = DECLARED[name][2]()
    assert refusal(name, changed(old, path, value), old) == "PropertyChangeNotAllowed"
    assert refusal(name, copy.deepcopy(old), old) == ""


def test_a_role_is_assigned_once_and_never_moved() -> None:
    moved = changed(role(), "principalId", GUID.replace("0", "1"))
    assert refusal("role", moved, role()) == "RoleAssignmentUpdateNotPermitted"
    assert refusal("role", role(), identity=DECLARED["role"][0].replace(GUID, "x")) == "InvalidRoleAssignmentId"
