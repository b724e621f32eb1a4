"""An admitted body of each kind beside machines and their network, and where it is put."""

from collections.abc import Callable
from typing import Any

from sandbox.azure.resources.ids import PRINCIPAL
from tests.unit.azure_emulator import (
    ADDRESS,
    BALANCER,
    BLUE,
    GROUP,
    LOCATION,
    MACHINE,
    NIC,
    ROOT,
    VNET,
    balancer,
    compute,
    interface,
    located,
    machine,
    network,
    public_address,
    scale_set,
    vnet,
)

Json = Any
MAINTENANCE = f"{GROUP}/providers/Microsoft.Maintenance"
CONFIGURATION = f"{MAINTENANCE}/maintenanceConfigurations/weekly"
ASSIGNMENTS = "Microsoft.Maintenance/configurationAssignments"
DYNAMIC = f"{GROUP}/providers/{ASSIGNMENTS}/dynamic"
WORKSPACE = f"{GROUP}/providers/Microsoft.OperationalInsights/workspaces/logs"
INSIGHTS = f"{GROUP}/providers/Microsoft.Insights"
POINTS = compute("restorePointCollections/points")
DISK = compute("disks/dev-vm-0-os")
SNAPSHOT = compute("snapshots/before")
TOPIC = f"{GROUP}/providers/Microsoft.EventGrid/systemTopics/windows"
VAULT = f"{GROUP}/providers/Microsoft.RecoveryServices/vaults/vault"
POLICY = f"{VAULT}/backupPolicies/daily"
_CONTAINED = "iaasvmcontainerv2;dev;dev-vm-0"
ITEM = f"{VAULT}/backupFabrics/Azure/protectionContainers/iaasvmcontainer;{_CONTAINED}/protectedItems/vm;{_CONTAINED}"
GUID = "0b9a7f6e-8d2c-4b1a-9f3e-2d4c6b8a0e1f"
ROLES = f"{ROOT}/providers/Microsoft.Authorization/roleDefinitions"
READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"


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
            "streamDeclarations": {
                "Custom-Wave": {
                    "columns": [{"name": "TimeGenerated", "type": "datetime"}, {"name": "Host", "type": "string"}]
                }
            },
            "destinations": {"logAnalytics": [{"name": "logs", "workspaceResourceId": WORKSPACE}]},
            "dataFlows": [{"streams": ["Custom-Wave"], "destinations": ["logs"], "outputStream": "Custom-Wave_CL"}],
        },
    }


def collection() -> dict[str, Json]:
    return {"location": LOCATION, "properties": {"source": {"id": MACHINE}}}


def role() -> dict[str, Json]:
    return {"properties": {"principalId": PRINCIPAL, "roleDefinitionId": f"{ROLES}/{READER}"}}


def workbook() -> dict[str, Json]:
    return located({"serializedData": "{}", "displayName": "Patching", "category": "workbook"}, kind="shared")


def point() -> dict[str, Json]:
    return {"properties": {}}


def snapshot(disk: str = DISK) -> dict[str, Json]:
    return located({"creationData": {"createOption": "Copy", "sourceResourceId": disk}, "incremental": True})


def disk() -> dict[str, Json]:
    return located({"creationData": {"createOption": "Copy", "sourceResourceId": SNAPSHOT}})


def topic() -> dict[str, Json]:
    return located({"source": CONFIGURATION, "topicType": "Microsoft.Maintenance.MaintenanceConfigurations"})


def subscription() -> dict[str, Json]:
    return {"properties": {
        "destination": {"endpointType": "WebHook", "properties": {"endpointUrl": "https://hooks.fieldops.example/go?k=1"}},
        "filter": {"includedEventTypes": ["Microsoft.Maintenance.PreMaintenanceEvent"]},
    }}  # fmt: skip


def vault() -> dict[str, Json]:
    return located({"securitySettings": {"softDeleteSettings": {"softDeleteState": "Disabled"}}}, sku={"name": "RS0"})


def policy() -> dict[str, Json]:
    times = ["2026-12-01T02:00:00Z"]
    return {"properties": {
        "backupManagementType": "AzureIaasVM", "policyType": "V2", "instantRpRetentionRangeInDays": 7,
        "schedulePolicy": {
            "schedulePolicyType": "SimpleSchedulePolicyV2", "scheduleRunFrequency": "Daily",
            "dailySchedule": {"scheduleRunTimes": times}},
        "retentionPolicy": {
            "retentionPolicyType": "LongTermRetentionPolicy", "dailySchedule": {
                "retentionTimes": times, "retentionDuration": {"count": 30, "durationType": "Days"}}},
    }}  # fmt: skip


def weekly(version: str = "V2") -> dict[str, Json]:
    """A backup policy that runs once a week."""
    made, when = policy(), {"scheduleRunDays": ["Sunday"], "scheduleRunTimes": ["2026-12-01T02:00:00Z"]}
    schedule = {"schedulePolicyType": "SimpleSchedulePolicyV2", "weeklySchedule": when}
    if version == "V1":
        schedule = {"schedulePolicyType": "SimpleSchedulePolicy", **when}
        made["properties"] |= {"policyType": "V1", "instantRpRetentionRangeInDays": 5}
    made["properties"]["schedulePolicy"] = {"scheduleRunFrequency": "Weekly", **schedule}
    made["properties"]["retentionPolicy"]["weeklySchedule"] = {
        "daysOfTheWeek": ["Sunday"], "retentionTimes": when["scheduleRunTimes"],
        "retentionDuration": {"count": 4, "durationType": "Weeks"},
    }  # fmt: skip
    return made


def item() -> dict[str, Json]:
    return {"properties": {
        "protectedItemType": "Microsoft.Compute/virtualMachines", "sourceResourceId": MACHINE, "policyId": POLICY,
    }}  # fmt: skip


def profile() -> dict[str, Json]:
    return {"location": "global", "properties": {
        "trafficRoutingMethod": "Weighted", "dnsConfig": {"relativeName": "patchwave-dev", "ttl": 30},
        "monitorConfig": {"protocol": "HTTP", "port": 80, "path": "/healthz"},
        "endpoints": [
            {"name": "blue", "type": "Microsoft.Network/trafficManagerProfiles/azureEndpoints",
             "properties": {"targetResourceId": ADDRESS, "weight": 1000}},
            {"name": "elsewhere", "type": "Microsoft.Network/trafficManagerProfiles/externalEndpoints",
             "properties": {"target": "desk.fieldops.example", "weight": 1, "endpointStatus": "Disabled"}}],
    }}  # fmt: skip


def named_address() -> dict[str, Json]:
    """A public address that Traffic Manager can send requests to."""
    made = public_address()
    made["properties"]["dnsSettings"] = {"domainNameLabel": "patchwave-dev"}
    return made


def scheduled_machine() -> dict[str, Json]:
    """A machine that schedules may be assigned to."""
    made = machine()
    made["properties"]["storageProfile"]["osDisk"]["name"] = DISK.rsplit("/", 1)[1]
    made["properties"]["osProfile"]["linuxConfiguration"] = {"patchSettings": {
        "patchMode": "AutomaticByPlatform",
        "automaticByPlatformSettings": {"bypassPlatformSafetyChecksOnUserSchedule": True}}}  # fmt: skip
    return made


BODIES: dict[str, tuple[str, str, Callable[[], dict[str, Json]]]] = {
    "vnet": (VNET, "Microsoft.Network/virtualNetworks", vnet),
    "ip": (ADDRESS, "Microsoft.Network/publicIPAddresses", named_address),
    "lb": (BALANCER, "Microsoft.Network/loadBalancers", balancer),
    "nic": (NIC, "Microsoft.Network/networkInterfaces", interface),
    "traffic": (network("trafficManagerProfiles/front"), "Microsoft.Network/trafficManagerProfiles", profile),
    "vmss": (BLUE, "Microsoft.Compute/virtualMachineScaleSets", scale_set),
    "vm": (MACHINE, "Microsoft.Compute/virtualMachines", scheduled_machine),
    "points": (POINTS, "Microsoft.Compute/restorePointCollections", collection),
    "point": (f"{POINTS}/restorePoints/p", "Microsoft.Compute/restorePointCollections/restorePoints", point),
    "snapshot": (SNAPSHOT, "Microsoft.Compute/snapshots", snapshot),
    "disk": (compute("disks/back"), "Microsoft.Compute/disks", disk),
    "mc": (CONFIGURATION, "Microsoft.Maintenance/maintenanceConfigurations", in_guest),
    "os": (f"{MAINTENANCE}/maintenanceConfigurations/image", "Microsoft.Maintenance/maintenanceConfigurations",
           os_image),
    "dynamic": (DYNAMIC, ASSIGNMENTS, dynamic),
    "everywhere": (f"{ROOT}/providers/{ASSIGNMENTS}/everywhere", ASSIGNMENTS, dynamic),
    "on-vm": (f"{MACHINE}/providers/{ASSIGNMENTS}/a", ASSIGNMENTS, assigned),
    "logs": (WORKSPACE, "Microsoft.OperationalInsights/workspaces",
             lambda: located({"retentionInDays": 30, "sku": {"name": "PerGB2018"}})),
    "table": (f"{WORKSPACE}/tables/Wave_CL", "Microsoft.OperationalInsights/workspaces/tables", table),
    "dce": (f"{INSIGHTS}/dataCollectionEndpoints/dce", "Microsoft.Insights/dataCollectionEndpoints", located),
    "dcr": (f"{INSIGHTS}/dataCollectionRules/dcr", "Microsoft.Insights/dataCollectionRules", collection_rule),
    "group": (f"{INSIGHTS}/actionGroups/ops", "Microsoft.Insights/actionGroups", action_group),
    "alert": (f"{INSIGHTS}/scheduledQueryRules/a", "Microsoft.Insights/scheduledQueryRules", query_rule),
    "workbook": (f"{INSIGHTS}/workbooks/{GUID}", "Microsoft.Insights/workbooks", workbook),
    "role": (f"{GROUP}/providers/Microsoft.Authorization/roleAssignments/{GUID}",
             "Microsoft.Authorization/roleAssignments", role),
    "topic": (TOPIC, "Microsoft.EventGrid/systemTopics", topic),
    "event": (f"{TOPIC}/eventSubscriptions/before", "Microsoft.EventGrid/systemTopics/eventSubscriptions",
              subscription),
    "vault": (VAULT, "Microsoft.RecoveryServices/vaults", vault),
    "policy": (POLICY, "Microsoft.RecoveryServices/vaults/backupPolicies", policy),
    "item": (ITEM, "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems", item),
}  # fmt: skip
"""By short name, in an order in which they can be made: id, type and body."""
