"""The one table of what the stand-in knows: Pulumi's token, Azure's type, the SDK's model and the path of its ids."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from .shapes import Field, Shape, Shapes

FORMAT = "3"
"""Changes when shapes are read otherwise, so that an old cache is not used."""
GROUP = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}"


@dataclass(frozen=True)
class Kind:
    """One type of resource, as Pulumi, the wire and the SDK each call it."""

    type: str
    token: str
    model: str
    path: str
    api: str
    pinned: tuple[str, ...] = ()
    asynchronous: bool = False
    created: int = 201

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
        return frozenset({*self.arguments, "location", *self.pinned})

    @property
    def shape(self) -> str:
        module, _, name = self.model.partition(":")
        return f"{module.removeprefix('azure.mgmt.').removesuffix('.models')}.{name}"


def _in_group(type_: str, argument: str) -> str:
    return f"{GROUP}/providers/{type_}/{{{argument}}}"


_COMPUTE, _NETWORK = "azure.mgmt.compute.models", "azure.mgmt.network.models"
_MONITOR, _LOGS = "azure.mgmt.monitor.models", "azure.mgmt.loganalytics.models"
_MAINTENANCE = "azure.mgmt.maintenance.models"

KINDS: tuple[Kind, ...] = (
    Kind("Microsoft.Resources/resourceGroups", "resources:ResourceGroup",
         "azure.mgmt.resource.resources.models:ResourceGroup", GROUP, "2025-04-01"),
    Kind("Microsoft.Network/virtualNetworks", "network:VirtualNetwork", f"{_NETWORK}:VirtualNetwork",
         _in_group("Microsoft.Network/virtualNetworks", "virtualNetworkName"), "2025-05-01"),
    Kind("Microsoft.Network/publicIPAddresses", "network:PublicIPAddress", f"{_NETWORK}:PublicIPAddress",
         _in_group("Microsoft.Network/publicIPAddresses", "publicIpAddressName"), "2025-05-01",
         pinned=("sku", "publicIPAddressVersion", "zones")),
    Kind("Microsoft.Network/loadBalancers", "network:LoadBalancer", f"{_NETWORK}:LoadBalancer",
         _in_group("Microsoft.Network/loadBalancers", "loadBalancerName"), "2025-05-01",
         pinned=("sku",), asynchronous=True),
    Kind("Microsoft.Network/networkInterfaces", "network:NetworkInterface", f"{_NETWORK}:NetworkInterface",
         _in_group("Microsoft.Network/networkInterfaces", "networkInterfaceName"), "2025-05-01", asynchronous=True),
    Kind("Microsoft.Compute/virtualMachineScaleSets", "compute:VirtualMachineScaleSet",
         f"{_COMPUTE}:VirtualMachineScaleSet",
         _in_group("Microsoft.Compute/virtualMachineScaleSets", "vmScaleSetName"), "2025-04-01",
         pinned=("orchestrationMode", "zones", "platformFaultDomainCount"), asynchronous=True),
    Kind("Microsoft.Compute/virtualMachines", "compute:VirtualMachine", f"{_COMPUTE}:VirtualMachine",
         _in_group("Microsoft.Compute/virtualMachines", "vmName"), "2025-04-01",
         pinned=("zones", "availabilitySet", "osProfile.computerName", "osProfile.adminUsername",
                 "storageProfile.imageReference", "storageProfile.osDisk.createOption"), asynchronous=True),
    Kind("Microsoft.Compute/restorePointCollections", "compute:RestorePointCollection",
         f"{_COMPUTE}:RestorePointCollection",
         _in_group("Microsoft.Compute/restorePointCollections", "restorePointCollectionName"), "2025-04-01",
         pinned=("source",)),
    Kind("Microsoft.Compute/restorePointCollections/restorePoints", "compute:RestorePoint",
         f"{_COMPUTE}:RestorePoint",
         _in_group("Microsoft.Compute/restorePointCollections", "restorePointCollectionName")
         + "/restorePoints/{restorePointName}", "2025-04-01",
         pinned=("consistencyMode", "excludeDisks", "sourceRestorePoint"), asynchronous=True),
    Kind("Microsoft.Compute/disks", "compute:Disk", f"{_COMPUTE}:Disk",
         _in_group("Microsoft.Compute/disks", "diskName"), "2025-01-02",
         pinned=("creationData", "zones", "osType"), asynchronous=True, created=202),
    Kind("Microsoft.Compute/galleries", "compute:Gallery", f"{_COMPUTE}:Gallery",
         _in_group("Microsoft.Compute/galleries", "galleryName"), "2025-03-03"),
    Kind("Microsoft.Compute/galleries/images", "compute:GalleryImage", f"{_COMPUTE}:GalleryImage",
         _in_group("Microsoft.Compute/galleries", "galleryName") + "/images/{galleryImageName}", "2025-03-03",
         pinned=("osType", "osState", "identifier", "hyperVGeneration")),
    Kind("Microsoft.Compute/galleries/images/versions", "compute:GalleryImageVersion",
         f"{_COMPUTE}:GalleryImageVersion",
         _in_group("Microsoft.Compute/galleries", "galleryName")
         + "/images/{galleryImageName}/versions/{galleryImageVersionName}", "2025-03-03", asynchronous=True),
    Kind("Microsoft.HybridCompute/machines", "hybridcompute:Machine", "azure.mgmt.hybridcompute.models:Machine",
         _in_group("Microsoft.HybridCompute/machines", "machineName"), "2025-01-13", created=200),
    Kind("Microsoft.Maintenance/maintenanceConfigurations", "maintenance:MaintenanceConfiguration",
         f"{_MAINTENANCE}:MaintenanceConfiguration",
         _in_group("Microsoft.Maintenance/maintenanceConfigurations", "resourceName"), "2023-10-01-preview",
         pinned=("maintenanceScope",)),
    Kind("Microsoft.Maintenance/configurationAssignments", "maintenance:ConfigurationAssignment",
         f"{_MAINTENANCE}:ConfigurationAssignment",
         GROUP + "/providers/{providerName}/{resourceType}/{resourceName}"
         "/providers/Microsoft.Maintenance/configurationAssignments/{configurationAssignmentName}",
         "2023-10-01-preview", pinned=("maintenanceConfigurationId", "resourceId")),
    Kind("Microsoft.Maintenance/configurationAssignments", "maintenance:ConfigurationAssignmentsForResourceGroup",
         f"{_MAINTENANCE}:ConfigurationAssignment",
         GROUP + "/providers/Microsoft.Maintenance/configurationAssignments/{configurationAssignmentName}",
         "2023-10-01-preview", pinned=("maintenanceConfigurationId", "resourceId")),
    Kind("Microsoft.OperationalInsights/workspaces", "operationalinsights:Workspace", f"{_LOGS}:Workspace",
         _in_group("Microsoft.OperationalInsights/workspaces", "workspaceName"), "2023-09-01"),
    Kind("Microsoft.OperationalInsights/workspaces/tables", "operationalinsights:Table", f"{_LOGS}:Table",
         _in_group("Microsoft.OperationalInsights/workspaces", "workspaceName") + "/tables/{tableName}",
         "2023-09-01", created=200),
    Kind("Microsoft.Insights/dataCollectionEndpoints", "monitor:DataCollectionEndpoint",
         f"{_MONITOR}:DataCollectionEndpointResource",
         _in_group("Microsoft.Insights/dataCollectionEndpoints", "dataCollectionEndpointName"), "2022-06-01"),
    Kind("Microsoft.Insights/dataCollectionRules", "monitor:DataCollectionRule",
         f"{_MONITOR}:DataCollectionRuleResource",
         _in_group("Microsoft.Insights/dataCollectionRules", "dataCollectionRuleName"), "2022-06-01"),
    Kind("Microsoft.Insights/scheduledQueryRules", "monitor:ScheduledQueryRule",
         f"{_MONITOR}:ScheduledQueryRuleResource",
         _in_group("Microsoft.Insights/scheduledQueryRules", "ruleName"), "2025-01-01-preview", pinned=("kind",)),
    Kind("Microsoft.Insights/actionGroups", "monitor:ActionGroup", f"{_MONITOR}:ActionGroupResource",
         _in_group("Microsoft.Insights/actionGroups", "actionGroupName"), "2024-10-01-preview"),
    Kind("Microsoft.Insights/workbooks", "applicationinsights:Workbook",
         "azure.mgmt.applicationinsights.v2023_06_01.models:Workbook",
         _in_group("Microsoft.Insights/workbooks", "resourceName"), "2023-06-01"),
    Kind("Microsoft.Authorization/roleAssignments", "authorization:RoleAssignment",
         "azure.mgmt.authorization.v2022_04_01.models:RoleAssignment",
         "/{scope}/providers/Microsoft.Authorization/roleAssignments/{roleAssignmentName}", "2022-04-01",
         pinned=("roleDefinitionId", "principalId", "scope")),
)  # fmt: skip

BY_TOKEN: Mapping[str, Kind] = {f"azure-native:{kind.token}": kind for kind in KINDS}
BY_TYPE: Mapping[str, Kind] = {kind.type.lower(): kind for kind in reversed(KINDS)}


def build() -> Shapes:
    """Reads every model of the table from the SDK; takes seconds, so callers use `shapes`."""
    found = Shapes()
    for kind in KINDS:
        found.add(kind.model)
    return found


def versions() -> str:
    """What the cached shapes depend on: the table and the SDK packages."""
    packages = sorted({f"azure-mgmt-{kind.model.split('.')[2]}" for kind in KINDS})
    text = "|".join([FORMAT, *(f"{p}={metadata.version(p)}" for p in packages), *(kind.model for kind in KINDS)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def shapes(folder: Path | None = None) -> Mapping[str, Shape]:
    """The shapes of all kinds, from the cache in `folder` when the SDK has not changed since."""
    if folder is None:
        return build()
    kept = folder / f"shapes-{versions()}.json"
    try:
        return _load(kept.read_text())
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    found = build()
    folder.mkdir(parents=True, exist_ok=True)
    draft = kept.with_suffix(f".{os.getpid()}")
    draft.write_text(_dump(found))
    draft.replace(kept)
    return found


def _dump(found: Mapping[str, Shape]) -> str:
    def row(one: Field) -> list[Any]:
        return [one.path, one.type, int(one.readonly), int(one.required), one.choices]

    return json.dumps(
        {
            name: [{key: row(one) for key, one in shape.fields.items()}, shape.discriminator, dict(shape.subtypes)]
            for name, shape in found.items()
        },
        separators=(",", ":"),
    )


def _load(text: str) -> dict[str, Shape]:
    def fields(rows: Mapping[str, Any]) -> Iterator[tuple[str, Field]]:
        for name, (path, kind, readonly, required, choices) in rows.items():
            yield name, Field(tuple(path), kind, bool(readonly), bool(required), tuple(choices))

    return {
        name: Shape(dict(fields(rows)), discriminator, subtypes)
        for name, (rows, discriminator, subtypes) in json.loads(text).items()
    }
