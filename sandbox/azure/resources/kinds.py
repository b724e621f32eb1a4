"""The one table of what the emulator knows: Pulumi's token, Azure's type, the SDK's model and the path of its ids."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

GROUP = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}"


class Polling(enum.Enum):
    """How a resource provider lets a caller wait for what takes long."""

    NONE = "the answer is final"
    OPERATION = "Azure-AsyncOperation, and Location besides for a DELETE"
    LOCATION = "Location alone"
    BOTH = "as OPERATION, but a DELETE is answered 202 even when it is done already"


@dataclass(frozen=True)
class Kind:
    """One type of resource, as Pulumi, the wire and the SDK each call it.

    `fixed` are the inputs for which the official provider plans a replacement, besides those that are part of the
    id: where the specification has a property for creation only, and what the provider's own list adds.
    `created` and `updated` are the statuses of a PUT; 202 is answered with both headers, always.
    """

    type: str
    token: str
    model: str
    path: str
    api: str
    fixed: tuple[str, ...] = ("location",)
    located: bool = True
    polling: Polling = Polling.NONE
    created: int = 201
    updated: int = 200

    @property
    def arguments(self) -> tuple[str, ...]:
        """The inputs that are part of the id."""
        return tuple(re.findall(r"{(\w+)}", self.path))

    @property
    def name_argument(self) -> str:
        """The input that holds the resource's own name."""
        return self.arguments[-1]

    @property
    def replaces(self) -> frozenset[str]:
        """The inputs that cannot change on a living resource."""
        return frozenset({*self.arguments, *self.fixed})

    @property
    def shape(self) -> str:
        return shape_of(self.model)


def shape_of(model: str) -> str:
    """The name of a model's shape."""
    module, _, name = model.partition(":")
    return f"{module.removeprefix('azure.mgmt.').removesuffix('.models')}.{name}"


def _in_group(type_: str, *arguments: str) -> str:
    """The path of a type in a group: each word of the type after the namespace is followed by its argument."""
    namespace, *words = type_.split("/")
    steps = "".join(f"/{word}/{{{argument}}}" for word, argument in zip(words, arguments, strict=True))
    return f"{GROUP}/providers/{namespace}{steps}"


def _assigned_to(scope: str) -> str:
    return f"{scope}/providers/Microsoft.Maintenance/configurationAssignments/{{configurationAssignmentName}}"


def _kinds(namespace: str, module: str, models: str, api: str, *rows: tuple[Any, ...]) -> Iterator[Kind]:
    """Kinds of one resource provider: type, token, model, arguments, and what is not as usual."""
    for type_, token, model, arguments, *more in rows:
        special = dict(more[0]) if more else {}
        full = f"{namespace}/{type_}"
        path = special.pop("path", None) or _in_group(full, *arguments)
        yield Kind(full, f"{module}:{token}", f"{models}:{model}", path, special.pop("api", api), **special)


_UNLOCATED: dict[str, Any] = {"located": False, "fixed": ()}
_MOVABLE: dict[str, Any] = {"fixed": ()}
_LONG: dict[str, Any] = {"polling": Polling.OPERATION}
_ALWAYS_LONG: dict[str, Any] = {"polling": Polling.BOTH, "created": 202, "updated": 202}
_ASSIGNMENT: dict[str, Any] = {"located": False, "fixed": (), "created": 200}

KINDS: tuple[Kind, ...] = (
    Kind("Microsoft.Resources/resourceGroups", "resources:ResourceGroup",
         "azure.mgmt.resource.resources.models:ResourceGroup", GROUP, "2024-03-01", polling=Polling.LOCATION),
    *_kinds("Microsoft.Network", "network", "azure.mgmt.network.models", "2024-05-01",
        ("virtualNetworks", "VirtualNetwork", "VirtualNetwork", ["virtualNetworkName"], _LONG),
        ("publicIPAddresses", "PublicIPAddress", "PublicIPAddress", ["publicIpAddressName"],
         _LONG | {"fixed": ("location", "publicIPAddressVersion", "publicIPPrefix", "sku")}),
        ("loadBalancers", "LoadBalancer", "LoadBalancer", ["loadBalancerName"], _LONG | _MOVABLE),
        ("networkInterfaces", "NetworkInterface", "NetworkInterface", ["networkInterfaceName"], _LONG | _MOVABLE),
    ),
    *_kinds("Microsoft.Network", "trafficmanager", "azure.mgmt.trafficmanager.models", "2022-04-01",
        ("trafficManagerProfiles", "Profile", "Profile", ["profileName"]),
    ),
    *_kinds("Microsoft.Compute", "compute", "azure.mgmt.compute.models", "2024-11-01",
        ("virtualMachineScaleSets", "VirtualMachineScaleSet", "VirtualMachineScaleSet", ["vmScaleSetName"], _LONG),
        ("virtualMachines", "VirtualMachine", "VirtualMachine", ["vmName"], _LONG),
        ("restorePointCollections", "RestorePointCollection", "RestorePointCollection", ["restorePointCollectionName"]),
        ("restorePointCollections/restorePoints", "RestorePoint", "RestorePoint",
         ["restorePointCollectionName", "restorePointName"], _LONG | _UNLOCATED),
    ),
    *_kinds("Microsoft.Compute", "compute", "azure.mgmt.compute.models", "2024-03-02",
        ("disks", "Disk", "Disk", ["diskName"], _ALWAYS_LONG),
        ("snapshots", "Snapshot", "Snapshot", ["snapshotName"], _ALWAYS_LONG),
    ),
    *_kinds("Microsoft.Compute", "compute", "azure.mgmt.compute.models", "2024-03-03",
        ("galleries", "Gallery", "Gallery", ["galleryName"]),
        ("galleries/images", "GalleryImage", "GalleryImage", ["galleryName", "galleryImageName"]),
        ("galleries/images/versions", "GalleryImageVersion", "GalleryImageVersion",
         ["galleryName", "galleryImageName", "galleryImageVersionName"], _LONG),
    ),
    *_kinds("Microsoft.HybridCompute", "hybridcompute", "azure.mgmt.hybridcompute.models", "2024-07-10",
        ("machines", "Machine", "Machine", ["machineName"],
         {"created": 200, "polling": Polling.BOTH, "fixed": ("location", "vmId")}),
    ),
    *_kinds("Microsoft.Maintenance", "maintenance", "azure.mgmt.maintenance.models", "2023-10-01-preview",
        ("maintenanceConfigurations", "MaintenanceConfiguration", "MaintenanceConfiguration", ["resourceName"],
         _MOVABLE),
        ("configurationAssignments", "ConfigurationAssignment", "ConfigurationAssignment", (),
         _ASSIGNMENT | {"path": _assigned_to(f"{GROUP}/providers/{{providerName}}/{{resourceType}}/{{resourceName}}")}),
        ("configurationAssignments", "ConfigurationAssignmentsForResourceGroup", "ConfigurationAssignment", (),
         _ASSIGNMENT | {"path": _assigned_to(GROUP)}),
        ("configurationAssignments", "ConfigurationAssignmentsForSubscription", "ConfigurationAssignment", (),
         _ASSIGNMENT | {"path": _assigned_to("/subscriptions/{subscriptionId}")}),
    ),
    *_kinds("Microsoft.OperationalInsights", "operationalinsights", "azure.mgmt.loganalytics.models", "2023-09-01",
        ("workspaces", "Workspace", "Workspace", ["workspaceName"], {"polling": Polling.OPERATION}),
        ("workspaces/tables", "Table", "Table", ["workspaceName", "tableName"],
         _UNLOCATED | _ALWAYS_LONG),
    ),
    *_kinds("Microsoft.Insights", "monitor", "azure.mgmt.monitor.models", "2022-06-01",
        ("dataCollectionEndpoints", "DataCollectionEndpoint", "DataCollectionEndpointResource",
         ["dataCollectionEndpointName"]),
        ("dataCollectionRules", "DataCollectionRule", "DataCollectionRuleResource", ["dataCollectionRuleName"]),
        ("scheduledQueryRules", "ScheduledQueryRule", "ScheduledQueryRuleResource", ["ruleName"],
         {"api": "2025-01-01-preview"}),
        ("actionGroups", "ActionGroup", "ActionGroupResource", ["actionGroupName"], {"api": "2024-10-01-preview"}),
    ),
    *_kinds("Microsoft.Insights", "applicationinsights", "azure.mgmt.applicationinsights.v2023_06_01.models",
        "2023-06-01",
        ("workbooks", "Workbook", "Workbook", ["resourceName"]),
    ),
    *_kinds("Microsoft.EventGrid", "eventgrid", "azure.mgmt.eventgrid.models", "2025-02-15",
        ("systemTopics", "SystemTopic", "SystemTopic", ["systemTopicName"], _LONG),
        ("systemTopics/eventSubscriptions", "SystemTopicEventSubscription", "EventSubscription",
         ["systemTopicName", "eventSubscriptionName"], _LONG | _UNLOCATED | {"updated": 201}),
    ),
    *_kinds("Microsoft.RecoveryServices", "recoveryservices", "azure.mgmt.recoveryservices.models", "2024-10-01",
        ("vaults", "Vault", "Vault", ["vaultName"], {"polling": Polling.BOTH}),
    ),
    *_kinds("Microsoft.RecoveryServices", "recoveryservices", "azure.mgmt.recoveryservicesbackup.models", "2024-10-01",
        ("vaults/backupPolicies", "ProtectionPolicy", "ProtectionPolicyResource", ["vaultName", "policyName"],
         {"located": False, "created": 200}),
        ("vaults/backupFabrics/protectionContainers/protectedItems", "ProtectedItem", "ProtectedItemResource",
         ["vaultName", "fabricName", "containerName", "protectedItemName"],
         _ALWAYS_LONG | {"located": False}),
    ),
    Kind("Microsoft.Authorization/roleAssignments", "authorization:RoleAssignment",
         "azure.mgmt.authorization.v2022_04_01.models:RoleAssignment",
         "/{scope}/providers/Microsoft.Authorization/roleAssignments/{roleAssignmentName}", "2022-04-01",
         fixed=("principalId", "scope"), located=False),
)  # fmt: skip

BACKEND_POOL = "azure.mgmt.network.models:BackendAddressPool"
"""The model of a part of a load balancer that is written by itself, too."""
INSTALLS: Mapping[str, str] = {
    "microsoft.compute/virtualmachines": "azure.mgmt.compute.models:VirtualMachineInstallPatchesParameters",
    "microsoft.hybridcompute/machines": "azure.mgmt.hybridcompute.models:MachineInstallPatchesParameters",
}
"""The model of what the installation of patches takes, by the machine's type."""
BY_TOKEN: Mapping[str, Kind] = {f"azure-native:{kind.token}": kind for kind in KINDS}
BY_TYPE: Mapping[str, Kind] = {kind.type.lower(): kind for kind in reversed(KINDS)}
