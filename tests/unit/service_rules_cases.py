"""What Azure refuses, an example each with a neighbour that it admits; the reference page is made of these."""

from typing import Any, NamedTuple

from policy.declared import Declared
from tests.unit.changes import Change


class Case(NamedTuple):
    """A change of the rule's base that it refuses, and one that every rule admits."""

    rule: str
    refused: Change
    admitted: Change
    base: str = ""


class StackCase(NamedTuple):
    """Resources that a rule refuses together, and ones that it admits."""

    rule: str
    refused: tuple[Declared, ...]
    admitted: tuple[Declared, ...]


WINDOWS_MACHINE = "windows"
SETTINGS = {
    "protocol": "http",
    "port": 80,
    "requestPath": "/healthz",
    "intervalInSeconds": 5,
    "numberOfProbes": 1,
}
FLOW = {"streams": ["Custom-Rows"], "destinations": ["workspace"], "outputStream": "Custom-Rows_CL"}
CONDITION = {
    "query": "Rows_CL",
    "timeAggregation": "Count",
    "operator": "GreaterThan",
    "threshold": 0,
    "failingPeriods": {"numberOfEvaluationPeriods": 1, "minFailingPeriodsToAlert": 1},
}
AT = "2026-12-01T22:00:00Z"
GUID = "6e14c0eb-6971-59b5-8823-2a41316928e1"

BASES: dict[str, dict[str, Any]] = {
    "compute:VirtualMachineScaleSet": {
        "orchestrationMode": "Uniform",
        "sku": {"name": "Standard_B2s", "capacity": 2},
        "upgradePolicy": {
            "mode": "Rolling",
            "rollingUpgradePolicy": {
                "maxBatchInstancePercent": 20,
                "maxUnhealthyInstancePercent": 20,
                "maxUnhealthyUpgradedInstancePercent": 20,
                "pauseTimeBetweenBatches": "PT1M",
            },
            "automaticOSUpgradePolicy": {"enableAutomaticOSUpgrade": True, "useRollingUpgradePolicy": True},
        },
        "virtualMachineProfile": {
            "osProfile": {"linuxConfiguration": {}},
            "storageProfile": {"imageReference": {"version": "latest"}},
            "networkProfile": {},
            "extensionProfile": {"extensions": [{"type": "ApplicationHealthLinux", "settings": SETTINGS}]},
        },
        "automaticRepairsPolicy": {"enabled": True, "gracePeriod": "PT30M"},
    },
    "compute:VirtualMachine": {
        "osProfile": {
            "linuxConfiguration": {
                "provisionVMAgent": True,
                "patchSettings": {
                    "patchMode": "AutomaticByPlatform",
                    "assessmentMode": "AutomaticByPlatform",
                    "automaticByPlatformSettings": {"bypassPlatformSafetyChecksOnUserSchedule": True},
                },
            }
        }
    },
    WINDOWS_MACHINE: {
        "osProfile": {
            "windowsConfiguration": {
                "provisionVMAgent": True,
                "enableAutomaticUpdates": True,
                "patchSettings": {
                    "patchMode": "AutomaticByPlatform",
                    "automaticByPlatformSettings": {"bypassPlatformSafetyChecksOnUserSchedule": True},
                },
            }
        }
    },
    "maintenance:MaintenanceConfiguration": {
        "resourceName": "prod-maintenance-rest",
        "resourceGroupName": "patchwave-prod",
        "maintenanceScope": "InGuestPatch",
        "extensionProperties": {"InGuestPatchMode": "User"},
        "startDateTime": "2026-12-01 02:00",
        "duration": "03:55",
        "timeZone": "UTC",
        "recurEvery": "1Month Second Tuesday Offset5",
        "installPatches": {
            "rebootSetting": "IfRequired",
            "linuxParameters": {"classificationsToInclude": ["Critical", "Security"]},
            "windowsParameters": {"classificationsToInclude": ["Critical", "Definition"]},
        },
    },
    "OSImage": {
        "resourceName": "staging-images",
        "maintenanceScope": "OSImage",
        "startDateTime": "2026-12-01 16:00",
        "duration": "05:00",
        "timeZone": "UTC",
        "recurEvery": "1Week Wednesday",
    },
    "maintenance:ConfigurationAssignmentsForResourceGroup": {
        "filter": {
            "locations": ["westeurope"],
            "osTypes": ["Linux"],
            "resourceTypes": ["Microsoft.Compute/virtualMachines"],
            "tagSettings": {"filterOperator": "All", "tags": {"patchwave-ring": ["rest"]}},
        }
    },
    "maintenance:ConfigurationAssignment": {"providerName": "Microsoft.HybridCompute", "resourceType": "machines"},
    "recoveryservices:Vault": {
        "properties": {"securitySettings": {"softDeleteSettings": {"softDeleteRetentionPeriodInDays": 14}}}
    },
    "recoveryservices:ProtectionPolicy": {
        "properties": {
            "backupManagementType": "AzureIaasVM",
            "policyType": "V2",
            "timeZone": "UTC",
            "instantRpRetentionRangeInDays": 7,
            "schedulePolicy": {
                "schedulePolicyType": "SimpleSchedulePolicyV2",
                "scheduleRunFrequency": "Daily",
                "dailySchedule": {"scheduleRunTimes": [AT]},
            },
            "retentionPolicy": {
                "dailySchedule": {"retentionTimes": [AT], "retentionDuration": {"count": 30}},
                "weeklySchedule": {"retentionTimes": [AT], "retentionDuration": {"count": 12}},
            },
        }
    },
    "weekly": {
        "properties": {
            "backupManagementType": "AzureIaasVM",
            "policyType": "V1",
            "timeZone": "UTC",
            "instantRpRetentionRangeInDays": 5,
            "schedulePolicy": {
                "schedulePolicyType": "SimpleSchedulePolicy",
                "scheduleRunFrequency": "Weekly",
                "scheduleRunTimes": [AT],
            },
            "retentionPolicy": {"weeklySchedule": {"retentionTimes": [AT], "retentionDuration": {"count": 12}}},
        }
    },
    "hourly": {
        "properties": {
            "backupManagementType": "AzureIaasVM",
            "policyType": "V2",
            "schedulePolicy": {
                "schedulePolicyType": "SimpleSchedulePolicyV2",
                "scheduleRunFrequency": "Hourly",
                "hourlySchedule": {"interval": 4, "scheduleWindowDuration": 12},
            },
            "retentionPolicy": {"dailySchedule": {"retentionDuration": {"count": 7}}},
        }
    },
    "recoveryservices:ProtectedItem": {
        "fabricName": "Azure",
        "properties": {"protectedItemType": "Microsoft.Compute/virtualMachines"},
    },
    "eventgrid:SystemTopic": {
        "systemTopicName": "prod-rest-events",
        "location": "westeurope",
        "topicType": "Microsoft.Maintenance.MaintenanceConfigurations",
    },
    "eventgrid:SystemTopicEventSubscription": {
        "destination": {"endpointType": "WebHook", "endpointUrl": "https://patching.dcmms.com/maintenance"},
        "eventDeliverySchema": "CloudEventSchemaV1_0",
        "filter": {"includedEventTypes": ["Microsoft.Maintenance.PreMaintenanceEvent"]},
    },
    "network:LoadBalancer": {
        "sku": {"name": "Standard"},
        "probes": [{"name": "health", "protocol": "Http", "requestPath": "/healthz", "intervalInSeconds": 5}],
    },
    "network:PublicIPAddress": {
        "sku": {"name": "Standard"},
        "publicIPAllocationMethod": "Static",
        "dnsSettings": {"domainNameLabel": "fieldops-desk-blue"},
    },
    "trafficmanager:Profile": {
        "trafficRoutingMethod": "Weighted",
        "dnsConfig": {"relativeName": "fieldops-desk", "ttl": 30},
        "monitorConfig": {
            "protocol": "HTTP",
            "path": "/healthz",
            "intervalInSeconds": 10,
            "timeoutInSeconds": 9,
            "toleratedNumberOfFailures": 1,
        },
        "endpoints": [
            {"name": "blue", "endpointStatus": "Enabled", "weight": 1000},
            {"name": "green", "endpointStatus": "Disabled", "weight": 1},
        ],
    },
    "operationalinsights:Workspace": {"retentionInDays": 30},
    "operationalinsights:Table": {
        "tableName": "Rows_CL",
        "plan": "Analytics",
        "retentionInDays": 30,
        "totalRetentionInDays": 30,
        "schema": {
            "name": "Rows_CL",
            "columns": [{"name": "TimeGenerated", "type": "dateTime"}, {"name": "Host", "type": "string"}],
        },
    },
    "monitor:DataCollectionRule": {
        "dataCollectionEndpointId": "/dataCollectionEndpoints/e",
        "streamDeclarations": {"Custom-Rows": {"columns": [{"name": "TimeGenerated", "type": "datetime"}]}},
        "destinations": {"logAnalytics": [{"name": "workspace"}]},
        "dataFlows": [FLOW],
    },
    "monitor:ScheduledQueryRule": {
        "scopes": ["/workspaces/w"],
        "severity": 2,
        "evaluationFrequency": "PT15M",
        "windowSize": "PT1H",
        "autoMitigate": True,
        "criteria": {"allOf": [CONDITION]},
    },
    "monitor:ActionGroup": {
        "groupShortName": "prod",
        "emailReceivers": [{"name": "email-0", "emailAddress": "a@example.com"}],
        "smsReceivers": [{"name": "sms-0", "countryCode": "49", "phoneNumber": "15550100100"}],
        "webhookReceivers": [{"name": "webhook-0", "serviceUri": "https://example.com"}],
    },
    "applicationinsights:Workbook": {"resourceName": GUID, "displayName": "Patching prod", "serializedData": "{}"},
    "authorization:RoleAssignment": {"roleAssignmentName": GUID, "principalType": "ServicePrincipal"},
}

ROLLING = "upgradePolicy.rollingUpgradePolicy"
AUTOMATIC = "upgradePolicy.automaticOSUpgradePolicy"
NO_UPGRADE = {f"{AUTOMATIC}.enableAutomaticOSUpgrade": False}
NO_HEALTH = {"virtualMachineProfile.extensionProfile.extensions": []}
EXTENSION = "virtualMachineProfile.extensionProfile.extensions.0.settings"
PROBE = {"virtualMachineProfile.networkProfile.healthProbe": {"id": "/probes/health"}}
NOT_ROLLING = {"upgradePolicy.mode": "Manual"}
NO_REPAIRS = {"automaticRepairsPolicy.enabled": False}
PATCHING = "osProfile.linuxConfiguration.patchSettings"
WINDOWS = "osProfile.windowsConfiguration"
POLICY = "properties"
DAILY = f"{POLICY}.retentionPolicy.dailySchedule"
WEEKLY = f"{POLICY}.retentionPolicy.weeklySchedule"
ONE = "criteria.allOf.0"

CASES: tuple[Case, ...] = (
    Case("scale-sets-upgrade-in-a-known-mode", {"upgradePolicy.mode": ...}, {"upgradePolicy.mode": "Automatic"}),
    Case("scale-sets-upgrade-in-a-known-mode", {"upgradePolicy.mode": "rolling"}, {"upgradePolicy.mode": "Rolling"}),
    Case(
        "rolling-percentages-are-in-range",
        {f"{ROLLING}.maxBatchInstancePercent": 4},
        {f"{ROLLING}.maxBatchInstancePercent": 5},
    ),
    Case(
        "rolling-percentages-are-in-range",
        {f"{ROLLING}.maxBatchInstancePercent": 101},
        {f"{ROLLING}.maxBatchInstancePercent": 100},
    ),
    Case(
        "rolling-percentages-are-in-range",
        {f"{ROLLING}.maxUnhealthyInstancePercent": 4},
        {f"{ROLLING}.maxUnhealthyInstancePercent": 5},
    ),
    Case(
        "rolling-percentages-are-in-range",
        {f"{ROLLING}.maxUnhealthyUpgradedInstancePercent": 101},
        {f"{ROLLING}.maxUnhealthyUpgradedInstancePercent": 0},
    ),
    Case(
        "rolling-percentages-are-in-range",
        {f"{ROLLING}.maxBatchInstancePercent": "20"},
        {f"{ROLLING}.maxBatchInstancePercent": 20.0},
    ),
    Case(
        "pauses-last-ten-minutes-at-most",
        {f"{ROLLING}.pauseTimeBetweenBatches": "PT10M1S"},
        {f"{ROLLING}.pauseTimeBetweenBatches": "PT10M"},
    ),
    Case(
        "pauses-last-ten-minutes-at-most",
        {f"{ROLLING}.pauseTimeBetweenBatches": "60"},
        {f"{ROLLING}.pauseTimeBetweenBatches": "PT0S"},
    ),
    Case(
        "only-uniform-sets-take-back-failed-instances",
        {f"{ROLLING}.rollbackFailedInstancesOnPolicyBreach": True, "orchestrationMode": "Flexible"},
        {f"{ROLLING}.rollbackFailedInstancesOnPolicyBreach": True},
    ),
    Case(
        "rolling-upgrades-see-health", NO_HEALTH | NO_UPGRADE | NO_REPAIRS, NO_HEALTH | NO_UPGRADE | NO_REPAIRS | PROBE
    ),
    Case(
        "rolling-upgrades-see-health",
        NO_HEALTH | NO_UPGRADE | NO_REPAIRS,
        NO_HEALTH | NO_UPGRADE | NO_REPAIRS | NOT_ROLLING,
    ),
    Case(
        "image-upgrades-see-health",
        NO_HEALTH | NOT_ROLLING | NO_REPAIRS,
        NO_HEALTH | NOT_ROLLING | NO_REPAIRS | NO_UPGRADE,
    ),
    Case("health-has-one-source", PROBE, PROBE | NO_HEALTH),
    Case(
        "health-has-one-source",
        {
            "virtualMachineProfile.extensionProfile.extensions.1": {
                "type": "ApplicationHealthWindows",
                "settings": SETTINGS,
            }
        },
        {"virtualMachineProfile.extensionProfile.extensions.1": {"type": "CustomScript"}},
    ),
    Case(
        "image-upgrades-exclude-guest-patching",
        {"virtualMachineProfile.osProfile.linuxConfiguration.patchSettings": {"patchMode": "AutomaticByPlatform"}},
        {"virtualMachineProfile.osProfile.linuxConfiguration.patchSettings": {"patchMode": "ImageDefault"}},
    ),
    Case(
        "image-upgrades-exclude-guest-patching",
        {"virtualMachineProfile.osProfile": {"windowsConfiguration": {"provisionVMAgent": True}}},
        {"virtualMachineProfile.osProfile": {"windowsConfiguration": {"enableAutomaticUpdates": False}}},
    ),
    Case(
        "image-upgrades-follow-the-latest-version",
        {"virtualMachineProfile.storageProfile.imageReference.version": "1.0.0"},
        {"virtualMachineProfile.storageProfile.imageReference.version": "1.0.0"} | NO_UPGRADE,
    ),
    Case(
        "image-upgrades-use-the-declared-policy",
        {f"{AUTOMATIC}.useRollingUpgradePolicy": ...},
        {f"{AUTOMATIC}.useRollingUpgradePolicy": ..., ROLLING: ...},
    ),
    Case(
        "only-image-upgrades-are-deferred",
        {f"{AUTOMATIC}.osRollingUpgradeDeferral": True} | NO_UPGRADE,
        {f"{AUTOMATIC}.osRollingUpgradeDeferral": True},
    ),
    Case(
        "image-upgrades-are-for-uniform-sets",
        {"orchestrationMode": "Flexible"},
        {"orchestrationMode": "Flexible"} | NO_UPGRADE,
    ),
    Case(
        "surging-excludes-image-upgrades-of-flexible-sets",
        {f"{ROLLING}.maxSurge": "true"},
        {f"{ROLLING}.maxSurge": True},
    ),
    Case(
        "surging-excludes-image-upgrades-of-flexible-sets",
        {f"{ROLLING}.maxSurge": True, "orchestrationMode": "Flexible"},
        {f"{ROLLING}.maxSurge": True, "orchestrationMode": "Flexible"} | NO_UPGRADE,
    ),
    Case("health-is-asked-by-a-known-protocol", {f"{EXTENSION}.protocol": "icmp"}, {f"{EXTENSION}.protocol": "https"}),
    Case("health-is-asked-by-a-known-protocol", {f"{EXTENSION}.requestPath": ...}, {f"{EXTENSION}.requestPath": "/"}),
    Case(
        "health-is-asked-by-a-known-protocol",
        {f"{EXTENSION}.protocol": "tcp"},
        {f"{EXTENSION}.protocol": "tcp", f"{EXTENSION}.requestPath": ...},
    ),
    Case(
        "health-is-asked-by-a-known-protocol",
        {EXTENSION: {"protocol": "tcp"}},
        {EXTENSION: {"protocol": "tcp", "port": 5432}},
    ),
    Case("health-is-asked-by-a-known-protocol", {f"{EXTENSION}.port": 65536}, {f"{EXTENSION}.port": 65535}),
    Case(
        "health-is-asked-within-the-ranges",
        {f"{EXTENSION}.intervalInSeconds": 4},
        {f"{EXTENSION}.intervalInSeconds": 60},
    ),
    Case(
        "health-is-asked-within-the-ranges",
        {f"{EXTENSION}.intervalInSeconds": 61},
        {f"{EXTENSION}.intervalInSeconds": ...},
    ),
    Case("health-is-asked-within-the-ranges", {f"{EXTENSION}.numberOfProbes": 25}, {f"{EXTENSION}.numberOfProbes": 24}),
    Case("health-is-asked-within-the-ranges", {f"{EXTENSION}.gracePeriod": 14401}, {f"{EXTENSION}.gracePeriod": 14400}),
    Case("repairs-see-health", NO_HEALTH | NOT_ROLLING | NO_UPGRADE, NO_HEALTH | NOT_ROLLING | NO_UPGRADE | NO_REPAIRS),
    Case(
        "repairs-wait-ten-to-ninety-minutes",
        {"automaticRepairsPolicy.gracePeriod": "PT9M"},
        {"automaticRepairsPolicy.gracePeriod": "PT10M"},
    ),
    Case(
        "repairs-wait-ten-to-ninety-minutes",
        {"automaticRepairsPolicy.gracePeriod": "PT91M"},
        {"automaticRepairsPolicy.gracePeriod": "PT1H30M"},
    ),
    Case(
        "repairs-are-a-known-action",
        {"automaticRepairsPolicy.repairAction": "Reboot"},
        {"automaticRepairsPolicy.repairAction": "Restart"},
    ),
    Case("scale-sets-have-a-size", {"sku.capacity": 1001}, {"sku.capacity": 1000}),
    Case("scale-sets-have-a-size", {"sku.capacity": ...}, {"sku.capacity": 0}),
    Case("scale-sets-have-a-size", {"sku.name": ...}, {"sku.name": "Standard_D4s_v5"}),
    Case(
        "machines-are-patched-in-a-known-mode",
        {f"{PATCHING}.patchMode": "AutomaticByOS"},
        {f"{PATCHING}.patchMode": "ImageDefault"},
    ),
    Case(
        "machines-are-patched-in-a-known-mode",
        {f"{PATCHING}.assessmentMode": "Daily"},
        {f"{PATCHING}.assessmentMode": "ImageDefault"},
    ),
    Case(
        "machines-are-patched-in-a-known-mode",
        {f"{WINDOWS}.patchSettings.patchMode": "ImageDefault"},
        {f"{WINDOWS}.patchSettings.patchMode": "AutomaticByOS"},
        WINDOWS_MACHINE,
    ),
    Case(
        "platform-patching-has-the-agent",
        {"osProfile.linuxConfiguration.provisionVMAgent": False},
        {"osProfile.linuxConfiguration.provisionVMAgent": ...},
    ),
    Case(
        "windows-updates-agree-with-the-mode",
        {f"{WINDOWS}.patchSettings.patchMode": "Manual"},
        {f"{WINDOWS}.patchSettings.patchMode": "Manual", f"{WINDOWS}.enableAutomaticUpdates": False},
        WINDOWS_MACHINE,
    ),
    Case(
        "windows-updates-agree-with-the-mode",
        {f"{WINDOWS}.enableAutomaticUpdates": False},
        {f"{WINDOWS}.enableAutomaticUpdates": True},
        WINDOWS_MACHINE,
    ),
    Case(
        "hotpatching-is-left-to-the-platform",
        {f"{WINDOWS}.patchSettings": {"patchMode": "AutomaticByOS", "enableHotpatching": True}},
        {f"{WINDOWS}.patchSettings": {"patchMode": "AutomaticByPlatform", "enableHotpatching": True}},
        WINDOWS_MACHINE,
    ),
    Case(
        "hotpatching-excludes-schedules",
        {f"{WINDOWS}.patchSettings.enableHotpatching": True},
        {f"{WINDOWS}.patchSettings.enableHotpatching": False},
        WINDOWS_MACHINE,
    ),
    Case(
        "reboots-are-left-to-the-schedule",
        {f"{PATCHING}.automaticByPlatformSettings.rebootSetting": "Never"},
        {f"{PATCHING}.automaticByPlatformSettings": {"rebootSetting": "Never"}},
    ),
    Case(
        "maintenance-has-a-known-scope",
        {"maintenanceScope": "Guest", "installPatches": ...},
        {"maintenanceScope": "Host", "installPatches": ...},
    ),
    Case("configurations-are-custom", {"visibility": "Public"}, {"visibility": "Custom"}),
    Case("configuration-names-fit", {"resourceName": "x" * 114}, {"resourceName": "x" * 113}),
    Case(
        "configuration-names-fit",
        {"resourceName": "x" * 127, "resourceGroupName": ...},
        {"resourceName": "x" * 37, "resourceGroupName": "g" * 90},
    ),
    Case(
        "guest-patching-names-its-mode",
        {"extensionProperties": ...},
        {"extensionProperties": {"InGuestPatchMode": "Platform"}, "installPatches": ...},
    ),
    Case(
        "only-the-users-guest-patching-chooses-patches",
        {"extensionProperties.InGuestPatchMode": "Platform"},
        {"extensionProperties.InGuestPatchMode": "Platform", "installPatches": ...},
    ),
    Case(
        "only-the-users-guest-patching-chooses-patches",
        {"installPatches": {"rebootSetting": "IfRequired"}},
        {},
        "OSImage",
    ),
    Case("maintenance-has-a-start", {"startDateTime": ...}, {"startDateTime": "2026-12-01 02:00:00"}),
    Case("maintenance-has-a-start", {"startDateTime": "2026-02-30 02:00"}, {"startDateTime": "2026-02-28 02:00"}),
    Case(
        "maintenance-keeps-off-midnight", {"startDateTime": "2026-12-01 23:45"}, {"startDateTime": "2026-12-01 23:44"}
    ),
    Case(
        "maintenance-expires-after-it-starts",
        {"expirationDateTime": "2026-12-01 02:00"},
        {"expirationDateTime": "2026-12-01 02:01"},
    ),
    Case(
        "maintenance-expires-after-it-starts",
        {"expirationDateTime": "2027"},
        {"expirationDateTime": "9999-12-31 23:59:59"},
    ),
    Case("maintenance-lasts-as-long-as-its-scope-takes", {"duration": "01:29"}, {"duration": "01:30"}),
    Case("maintenance-lasts-as-long-as-its-scope-takes", {"duration": "03:56"}, {"duration": "03:55"}),
    Case("maintenance-lasts-as-long-as-its-scope-takes", {"duration": "PT2H"}, {"duration": "02:00"}),
    Case("maintenance-lasts-as-long-as-its-scope-takes", {"duration": "04:59"}, {"duration": "05:00"}, "OSImage"),
    Case(
        "maintenance-counts-in-a-windows-zone", {"timeZone": "Europe/Berlin"}, {"timeZone": "W. Europe Standard Time"}
    ),
    Case("maintenance-counts-in-a-windows-zone", {"timeZone": ...}, {"timeZone": "UTC"}),
    Case(
        "maintenance-starts-on-the-clock",
        {"startDateTime": "2027-10-03 02:30", "timeZone": "AUS Eastern Standard Time"},
        {"startDateTime": "2027-10-03 03:00", "timeZone": "AUS Eastern Standard Time"},
    ),
    Case("maintenance-counts-in-a-windows-zone", {"timeZone": "CEST"}, {"timeZone": "Tokyo Standard Time"}),
    Case("recurrences-keep-the-grammar", {"recurEvery": "weekly"}, {"recurEvery": "2Weeks Monday, Friday"}),
    Case(
        "recurrences-keep-the-grammar",
        {"recurEvery": "1Month Second Tuesday Offset7"},
        {"recurEvery": "Month Third Tuesday Offset-6"},
    ),
    Case("recurrences-keep-the-grammar", {"recurEvery": "1Month day32"}, {"recurEvery": "1Month day1,day31"}),
    Case("recurrences-keep-the-grammar", {"recurEvery": "0Days"}, {"recurEvery": "20days"}),
    Case("monthly-maintenance-names-its-day", {"recurEvery": "1Month"}, {"recurEvery": "1Month Last Sunday"}),
    Case("maintenance-repeats-after-six-hours-at-least", {"recurEvery": "5Hours"}, {"recurEvery": "6Hours"}),
    Case("maintenance-repeats-after-six-hours-at-least", {"recurEvery": "Hour"}, {"recurEvery": "Day"}),
    Case(
        "images-roll-weekly-or-more-often", {"recurEvery": "1Month Second Tuesday"}, {"recurEvery": "1Day"}, "OSImage"
    ),
    Case("images-roll-weekly-or-more-often", {"recurEvery": "2Weeks Monday"}, {"recurEvery": "Week Monday"}, "OSImage"),
    Case("images-roll-weekly-or-more-often", {"recurEvery": "8Days"}, {"recurEvery": "7Days"}, "OSImage"),
    Case(
        "reboots-are-a-known-word",
        {"installPatches.rebootSetting": "NeverReboot"},
        {"installPatches.rebootSetting": "Never"},
    ),
    Case(
        "reboots-read-back-as-written",
        {"installPatches.rebootSetting": "Always"},
        {"installPatches.rebootSetting": "IfRequired"},
    ),
    Case(
        "linux-classes-are-known-words",
        {"installPatches.linuxParameters.classificationsToInclude": ["Others"]},
        {"installPatches.linuxParameters.classificationsToInclude": ["Other"]},
    ),
    Case(
        "windows-classes-are-known-words",
        {"installPatches.windowsParameters.classificationsToInclude": ["Security updates"]},
        {"installPatches.windowsParameters.classificationsToInclude": ["Security", "UpdateRollup"]},
    ),
    Case("dynamic-scopes-have-a-filter", {"filter": ...}, {"filter": {"locations": ["westeurope"]}}),
    Case(
        "dynamic-scopes-of-a-group-name-locations",
        {"filter.locations": ...},
        {"filter.locations": ["westeurope", "northeurope"]},
    ),
    Case(
        "dynamic-scopes-select-machines",
        {"filter.resourceTypes": ["Microsoft.Compute/virtualMachineScaleSets"]},
        {"filter.resourceTypes": ["microsoft.hybridcompute/machines"]},
    ),
    Case("dynamic-scopes-use-known-words", {"filter.osTypes": ["Debian"]}, {"filter.osTypes": ["Linux", "Windows"]}),
    Case(
        "dynamic-scopes-use-known-words",
        {"filter.tagSettings.filterOperator": "Or"},
        {"filter.tagSettings.filterOperator": "Any"},
    ),
    Case(
        "dynamic-scopes-stay-within-the-limits",
        {"filter.tagSettings.tags": {f"t{i}": ["x"] for i in range(51)}},
        {"filter.tagSettings.tags": {f"t{i}": ["x"] for i in range(50)}},
    ),
    Case(
        "dynamic-scopes-stay-within-the-limits",
        {"filter.resourceGroups": [f"g{i}" for i in range(51)]},
        {"filter.resourceGroups": [f"g{i}" for i in range(50)]},
    ),
    Case(
        "assignments-name-what-azure-maintains",
        {"providerName": "Microsoft.Compute", "resourceType": "machines"},
        {"providerName": "Microsoft.Compute", "resourceType": "virtualMachineScaleSets"},
    ),
    Case(
        "deleted-backups-are-kept-two-weeks",
        {"properties.securitySettings.softDeleteSettings.softDeleteRetentionPeriodInDays": 13},
        {"properties.securitySettings.softDeleteSettings.softDeleteRetentionPeriodInDays": 180},
    ),
    Case(
        "schedules-are-of-the-policys-type",
        {f"{POLICY}.policyType": "V1", f"{POLICY}.instantRpRetentionRangeInDays": 5},
        {},
    ),
    Case("schedules-are-of-the-policys-type", {f"{POLICY}.policyType": "V3"}, {f"{POLICY}.policyType": "V2"}),
    Case(
        "instant-points-last-as-long-as-the-type-takes",
        {f"{POLICY}.instantRpRetentionRangeInDays": 31},
        {f"{POLICY}.instantRpRetentionRangeInDays": 30},
    ),
    Case(
        "instant-points-last-as-long-as-the-type-takes",
        {f"{POLICY}.instantRpRetentionRangeInDays": 4},
        {f"{POLICY}.instantRpRetentionRangeInDays": 5},
        "weekly",
    ),
    Case(
        "instant-points-last-as-long-as-the-type-takes",
        {f"{POLICY}.instantRpRetentionRangeInDays": 6},
        {f"{POLICY}.instantRpRetentionRangeInDays": ...},
        "weekly",
    ),
    Case(
        "nightly-points-are-kept-a-week-at-least",
        {f"{DAILY}.retentionDuration.count": 6},
        {f"{DAILY}.retentionDuration.count": 7},
    ),
    Case(
        "nightly-points-are-kept-a-week-at-least",
        {f"{DAILY}.retentionDuration.count": 10000},
        {f"{DAILY}.retentionDuration.count": 9999},
    ),
    Case("nightly-points-are-kept-a-week-at-least", {DAILY: ...}, {WEEKLY: ...}),
    Case(
        "older-points-are-kept-within-the-range",
        {f"{WEEKLY}.retentionDuration.count": 0},
        {f"{WEEKLY}.retentionDuration.count": 1},
    ),
    Case(
        "older-points-are-kept-within-the-range",
        {f"{WEEKLY}.retentionDuration": ...},
        {f"{WEEKLY}.retentionDuration.count": 9999},
    ),
    Case("weekly-backups-keep-no-daily-points", {DAILY: {"retentionDuration": {"count": 7}}}, {}, "weekly"),
    Case("weekly-backups-keep-no-daily-points", {WEEKLY: ...}, {f"{WEEKLY}.retentionDuration.count": 5}, "weekly"),
    Case(
        "hourly-backups-fit-their-stretch",
        {f"{POLICY}.schedulePolicy.hourlySchedule.interval": 5},
        {f"{POLICY}.schedulePolicy.hourlySchedule.interval": 6},
        "hourly",
    ),
    Case(
        "hourly-backups-fit-their-stretch",
        {f"{POLICY}.schedulePolicy.hourlySchedule.scheduleWindowDuration": 14},
        {f"{POLICY}.schedulePolicy.hourlySchedule.scheduleWindowDuration": 24},
        "hourly",
    ),
    Case("hourly-backups-fit-their-stretch", {f"{POLICY}.policyType": "V1"}, {f"{POLICY}.policyType": "V2"}, "hourly"),
    Case(
        "backups-start-on-the-half-hour",
        {
            f"{POLICY}.schedulePolicy.dailySchedule.scheduleRunTimes": ["2026-12-01T22:15:00Z"],
            DAILY + ".retentionTimes": ...,
            WEEKLY + ".retentionTimes": ...,
        },
        {
            f"{POLICY}.schedulePolicy.dailySchedule.scheduleRunTimes": ["2026-12-01T22:30:00Z"],
            DAILY + ".retentionTimes": ...,
            WEEKLY + ".retentionTimes": ...,
        },
    ),
    Case(
        "backups-start-on-the-half-hour",
        {
            f"{POLICY}.schedulePolicy.dailySchedule.scheduleRunTimes": ["22:00"],
            DAILY + ".retentionTimes": ...,
            WEEKLY + ".retentionTimes": ...,
        },
        {},
    ),
    Case(
        "points-are-kept-from-the-time-of-the-backup",
        {f"{DAILY}.retentionTimes": ["2026-12-01T23:00:00Z"]},
        {f"{DAILY}.retentionTimes": [AT]},
    ),
    Case("backups-count-in-a-windows-zone", {f"{POLICY}.timeZone": "Etc/UTC"}, {f"{POLICY}.timeZone": ...}),
    Case("protected-machines-name-azures-fabric", {"fabricName": "azure-fabric"}, {"fabricName": "Azure"}),
    Case("protected-machines-name-azures-fabric", {"properties": {"protected_item_type": "x"}}, {}),
    Case(
        "maintenance-topics-have-their-type",
        {"topicType": "Microsoft.Maintenance.Configurations"},
        {"topicType": "Microsoft.Resources.Subscriptions"},
    ),
    Case("topics-say-what-they-are-of", {"location": ...}, {"location": "northeurope"}),
    Case("topic-names-fit", {"systemTopicName": "x" * 51}, {"systemTopicName": "x" * 50}),
    Case("topic-names-fit", {"systemTopicName": "prod_rest"}, {"systemTopicName": "prod-rest"}),
    Case(
        "subscriptions-choose-known-events",
        {"filter": ...},
        {"filter.includedEventTypes": ["Microsoft.Maintenance.PostMaintenanceEvent"]},
    ),
    Case(
        "subscriptions-choose-known-events",
        {"filter.includedEventTypes": ["Microsoft.Maintenance.PreEvent"]},
        {"filter.includedEventTypes": ["Microsoft.Resources.ResourceWriteSuccess"]},
    ),
    Case(
        "events-go-to-a-known-kind-of-endpoint",
        {"destination.endpointType": "Http"},
        {"destination": {"endpointType": "AzureFunction"}},
    ),
    Case(
        "events-go-to-a-known-kind-of-endpoint",
        {"eventDeliverySchema": "CustomInputSchema"},
        {"eventDeliverySchema": "EventGridSchema"},
    ),
    Case(
        "webhooks-are-reached-over-https",
        {"destination.endpointUrl": "http://example.com"},
        {"destination.endpointUrl": "https://example.com"},
    ),
    Case("balancers-are-standard", {"sku": ...}, {"sku.name": "Standard"}),
    Case(
        "probes-ask-every-five-seconds-at-most", {"probes.0.intervalInSeconds": 4}, {"probes.0.intervalInSeconds": ...}
    ),
    Case(
        "probes-ask-every-five-seconds-at-most",
        {"probes.0.requestPath": ...},
        {"probes.0.requestPath": ..., "probes.0.protocol": "Tcp"},
    ),
    Case(
        "standard-addresses-are-static", {"publicIPAllocationMethod": "Dynamic"}, {"publicIPAllocationMethod": "Static"}
    ),
    Case("address-labels-are-names", {"dnsSettings.domainNameLabel": "Blue"}, {"dnsSettings.domainNameLabel": "blue"}),
    Case(
        "address-labels-are-names", {"dnsSettings.domainNameLabel": "a" * 64}, {"dnsSettings.domainNameLabel": "a" * 63}
    ),
    Case("weights-are-one-to-a-thousand", {"endpoints.0.weight": 0}, {"endpoints.0.weight": 1}),
    Case("weights-are-one-to-a-thousand", {"endpoints.0.weight": 1001}, {"endpoints.0.weight": ...}),
    Case("endpoints-have-names-and-a-status", {"endpoints.1.name": "Blue"}, {"endpoints.1.name": "red"}),
    Case(
        "endpoints-have-names-and-a-status", {"endpoints.1.endpointStatus": "Off"}, {"endpoints.1.endpointStatus": ...}
    ),
    Case("traffic-is-routed-by-a-known-method", {"trafficRoutingMethod": ...}, {"trafficRoutingMethod": "Priority"}),
    Case(
        "endpoints-are-probed-within-the-ranges",
        {"monitorConfig.intervalInSeconds": 20},
        {"monitorConfig.intervalInSeconds": 30},
    ),
    Case(
        "endpoints-are-probed-within-the-ranges",
        {"monitorConfig.timeoutInSeconds": 10},
        {"monitorConfig.timeoutInSeconds": 10, "monitorConfig.intervalInSeconds": 30},
    ),
    Case(
        "endpoints-are-probed-within-the-ranges",
        {"monitorConfig.toleratedNumberOfFailures": 10},
        {"monitorConfig.toleratedNumberOfFailures": 0},
    ),
    Case(
        "endpoints-are-probed-for-a-path",
        {"monitorConfig.path": ...},
        {"monitorConfig.path": ..., "monitorConfig.protocol": "TCP"},
    ),
    Case("endpoints-are-probed-for-a-path", {"monitorConfig.protocol": "Ping"}, {"monitorConfig.protocol": "HTTPS"}),
    Case("profiles-have-a-name-and-a-time-to-live", {"dnsConfig.ttl": -1}, {"dnsConfig.ttl": 0}),
    Case(
        "profiles-have-a-name-and-a-time-to-live",
        {"dnsConfig.relativeName": "fieldops.desk"},
        {"dnsConfig.relativeName": "d"},
    ),
    Case("workspaces-keep-a-month-to-two-years", {"retentionInDays": 29}, {"retentionInDays": 730}),
    Case("tables-keep-within-the-ranges", {"retentionInDays": 3}, {"retentionInDays": 4}),
    Case("tables-keep-within-the-ranges", {"retentionInDays": 731}, {"retentionInDays": -1}),
    Case("tables-keep-within-the-ranges", {"totalRetentionInDays": 4384}, {"totalRetentionInDays": 4383}),
    Case("only-analytics-tables-choose-their-retention", {"plan": "Basic"}, {"plan": "Basic", "retentionInDays": ...}),
    Case("custom-tables-are-named-alike-twice", {"tableName": "Rows"}, {"tableName": "R_CL", "schema.name": "R_CL"}),
    Case("custom-tables-are-named-alike-twice", {"schema.name": "Row_CL"}, {"schema.name": "Rows_CL"}),
    Case(
        "custom-tables-have-proper-columns",
        {"schema.columns.0.type": "datetime"},
        {"schema.columns.0.type": "dateTime"},
    ),
    Case("custom-tables-have-proper-columns", {"schema.columns.1.name": "x" * 46}, {"schema.columns.1.name": "x" * 45}),
    Case("custom-tables-have-proper-columns", {"schema.columns.1.name": "Title"}, {"schema.columns.1.name": "Titles"}),
    Case("custom-tables-have-proper-columns", {"schema.columns.1.type": "text"}, {"schema.columns.1.type": "guid"}),
    Case(
        "streams-have-proper-columns",
        {"streamDeclarations.Custom-Rows.columns.0.type": "dateTime"},
        {"streamDeclarations.Custom-Rows.columns.0.type": "datetime"},
    ),
    Case(
        "streams-have-proper-columns",
        {"streamDeclarations": {"Rows": {}}, "dataFlows": []},
        {"streamDeclarations": {"Custom-R": {}}, "dataFlows": []},
    ),
    Case(
        "flows-carry-what-is-declared",
        {"dataFlows.0.streams": ["Custom-Row"]},
        {"dataFlows.0.streams": ["Microsoft-Syslog"]},
    ),
    Case(
        "flows-carry-what-is-declared",
        {"dataFlows.0.destinations": ["logs"]},
        {"dataFlows.0.destinations": ["workspace"]},
    ),
    Case(
        "flows-end-in-a-custom-table",
        {"dataFlows.0.outputStream": "Rows_CL"},
        {"dataFlows.0.outputStream": "Custom-Other_CL"},
    ),
    Case("collection-rules-stay-within-the-limits", {"dataFlows": [FLOW] * 11}, {"dataFlows": [FLOW] * 10}),
    Case(
        "collection-rules-stay-within-the-limits",
        {"dataFlows.0.transformKql": "x" * 15361},
        {"dataFlows.0.transformKql": "x" * 15360},
    ),
    Case(
        "collection-rules-stay-within-the-limits",
        {"streamDeclarations": {f"Custom-{i}": {} for i in range(11)}, "dataFlows": []},
        {"streamDeclarations": {f"Custom-{i}": {} for i in range(10)}, "dataFlows": []},
    ),
    Case("rules-of-this-version-have-an-endpoint", {"kind": "Direct"}, {"kind": "Linux"}),
    Case(
        "rules-of-this-version-have-an-endpoint",
        {"dataCollectionEndpointId": ...},
        {"dataCollectionEndpointId": "/dataCollectionEndpoints/other"},
    ),
    Case(
        "alerts-look-as-often-as-the-service-does", {"evaluationFrequency": "PT20M"}, {"evaluationFrequency": "PT30M"}
    ),
    Case(
        "alerts-look-as-often-as-the-service-does",
        {"windowSize": "PT1M", "evaluationFrequency": "PT5M"},
        {"windowSize": "PT1M", "evaluationFrequency": "PT1M"},
    ),
    Case("alerts-look-back-over-a-known-stretch", {"windowSize": "PT7H"}, {"windowSize": "PT6H"}),
    Case("alerts-look-back-over-a-known-stretch", {"windowSize": "P3D"}, {"windowSize": "P2D"}),
    Case("alerts-miss-no-minute", {"windowSize": "PT10M"}, {"windowSize": "PT15M"}),
    Case(
        "alerts-miss-no-minute",
        {"windowSize": "P1D", f"{ONE}.failingPeriods.numberOfEvaluationPeriods": 3},
        {"windowSize": "P1D", f"{ONE}.failingPeriods.numberOfEvaluationPeriods": 2},
    ),
    Case(
        "alerts-count-up-to-six-periods",
        {f"{ONE}.failingPeriods.numberOfEvaluationPeriods": 7},
        {f"{ONE}.failingPeriods.numberOfEvaluationPeriods": 6},
    ),
    Case(
        "alerts-count-up-to-six-periods",
        {f"{ONE}.failingPeriods.minFailingPeriodsToAlert": 2},
        {f"{ONE}.failingPeriods": {"numberOfEvaluationPeriods": 2, "minFailingPeriodsToAlert": 2}},
    ),
    Case(
        "alerts-are-muted-or-resolve-themselves",
        {"muteActionsDuration": "PT1H"},
        {"muteActionsDuration": "PT1H", "autoMitigate": False},
    ),
    Case(
        "alerts-are-muted-or-resolve-themselves",
        {"muteActionsDuration": "PT0M", "autoMitigate": False},
        {"muteActionsDuration": "PT15M", "autoMitigate": False},
    ),
    Case(
        "alerts-are-muted-or-resolve-themselves",
        {"muteActionsDuration": "PT10M", "autoMitigate": False},
        {"muteActionsDuration": "PT10M", "autoMitigate": False, "evaluationFrequency": "PT10M"},
    ),
    Case(
        "alerts-are-of-one-scope-and-severity",
        {"scopes": ["/workspaces/a", "/workspaces/b"]},
        {"scopes": ["/workspaces/a"]},
    ),
    Case("alerts-are-of-one-scope-and-severity", {"severity": 5}, {"severity": 4}),
    Case("alerts-are-of-one-scope-and-severity", {"severity": ...}, {"severity": 0}),
    Case("alerts-compare-by-a-known-word", {f"{ONE}.operator": "gt"}, {f"{ONE}.operator": "Equals"}),
    Case("alerts-compare-by-a-known-word", {f"{ONE}.threshold": ...}, {f"{ONE}.threshold": 1.5}),
    Case(
        "alerts-measure-a-column-unless-they-count",
        {f"{ONE}.metricMeasureColumn": "Hosts"},
        {f"{ONE}.metricMeasureColumn": "Hosts", f"{ONE}.timeAggregation": "Total"},
    ),
    Case(
        "alerts-measure-a-column-unless-they-count",
        {f"{ONE}.timeAggregation": "Sum"},
        {f"{ONE}.timeAggregation": "Count"},
    ),
    Case("alerts-have-a-query", {f"{ONE}.query": " "}, {f"{ONE}.query": "Rows_CL | take 1"}),
    Case("alerts-have-a-query", {"criteria": ...}, {"criteria.allOf": [CONDITION, CONDITION]}),
    Case(
        "overridden-ranges-reach-back-far-enough",
        {"overrideQueryTimeRange": "PT30M"},
        {"overrideQueryTimeRange": "PT1H"},
    ),
    Case(
        "overridden-ranges-reach-back-far-enough", {"overrideQueryTimeRange": "P3D"}, {"overrideQueryTimeRange": "P2D"}
    ),
    Case("action-groups-have-a-short-name", {"groupShortName": "thirteen-long"}, {"groupShortName": "twelve-chars"}),
    Case("action-groups-have-a-short-name", {"groupShortName": ...}, {"groupShortName": "x"}),
    Case(
        "action-groups-stay-within-the-limits",
        {"smsReceivers": [{"name": f"n{i}", "countryCode": "49", "phoneNumber": "1"} for i in range(11)]},
        {"smsReceivers": [{"name": f"n{i}", "countryCode": "49", "phoneNumber": "1"} for i in range(10)]},
    ),
    Case("receivers-are-named-once", {"smsReceivers.0.name": "Email-0"}, {"smsReceivers.0.name": "sms"}),
    Case("receivers-say-where-they-are", {"smsReceivers.0.countryCode": ...}, {"smsReceivers.0.countryCode": "1"}),
    Case("receivers-say-where-they-are", {"webhookReceivers.0.serviceUri": ""}, {"webhookReceivers": []}),
    Case(
        "workbooks-are-named-by-a-guid",
        {"resourceName": "patching"},
        {"resourceName": "6a2fd1c8-7b0e-5a55-9d1e-0c4b8f2f9f10"},
    ),
    Case("workbooks-are-named-by-a-guid", {"displayName": ...}, {"displayName": "Patching"}),
    Case("workbooks-hold-json", {"serializedData": "{'version': 1}"}, {"serializedData": '{"version": 1}'}),
    Case(
        "role-assignments-are-named-by-a-guid",
        {"roleAssignmentName": "runner-reader"},
        {"roleAssignmentName": "6A2FD1C8-7B0E-5A55-9D1E-0C4B8F2F9F10"},
    ),
    Case("role-assignments-say-what-the-principal-is", {"principalType": ...}, {"principalType": "Group"}),
)

SCOPE = Declared(
    "azure-native:maintenance:ConfigurationAssignmentsForResourceGroup",
    "rest",
    {"filter": {"tagSettings": {"filterOperator": "All", "tags": {"patchwave-ring": ["rest"]}}}},
)
LEFT = Declared(
    "azure-native:compute:VirtualMachine",
    "machine",
    {"tags": {"patchwave-ring": "rest"}, "osProfile": {"linuxConfiguration": {}}},
)
HANDED = LEFT._replace(props={**BASES["compute:VirtualMachine"], "tags": {"patchwave-ring": "rest"}})
ELSEWHERE = LEFT._replace(props={**LEFT.props, "tags": {"patchwave-ring": "canary"}})
WINDOW = Declared("azure-native:maintenance:MaintenanceConfiguration", "images", BASES["OSImage"])
SELF = Declared("azure-native:compute:VirtualMachineScaleSet", "web", BASES["compute:VirtualMachineScaleSet"])
STILL = SELF._replace(props={"upgradePolicy": {"mode": "Rolling"}})

STACK_CASES: tuple[StackCase, ...] = (
    StackCase("scheduled-machines-are-patched-by-their-schedule", (SCOPE, LEFT), (SCOPE, HANDED)),
    StackCase("scheduled-machines-are-patched-by-their-schedule", (LEFT, SCOPE), (ELSEWHERE, SCOPE)),
    StackCase("image-windows-are-of-sets-that-upgrade-themselves", (WINDOW, STILL), (WINDOW, STILL, SELF)),
    StackCase("image-windows-are-of-sets-that-upgrade-themselves", (WINDOW, STILL), (WINDOW,)),
)
