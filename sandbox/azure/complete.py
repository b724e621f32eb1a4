"""What Azure adds to a body by itself: ids, etags, states, addresses and defaults."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from typing import Any

from .kinds import Kind
from .places import Places
from .rules import dig
from .store import Row, Store
from .wire import Wire

Json = Any
Completion = Callable[[Row, Row | None, Store, Places], None]
_OWN: dict[str, Completion] = {}
WITHOUT_STATE = {
    "microsoft.maintenance/maintenanceconfigurations", "microsoft.maintenance/configurationassignments",
    "microsoft.insights/workbooks", "microsoft.insights/scheduledqueryrules", "microsoft.insights/actiongroups",
    "microsoft.authorization/roleassignments",
}  # fmt: skip


def complete(kind: Kind, row: Row, old: Row | None, store: Store, places: Places, wire: Wire) -> None:
    """Fills in the row's body as Azure would answer it; run inside the transaction that stores it."""
    body = row.body
    body |= {"id": row.id, "name": row.name, "type": kind.type}
    if kind.type.lower() not in WITHOUT_STATE:
        row.properties["provisioningState"] = "Succeeded"
    if kind.type.lower().startswith("microsoft.network/"):
        body["etag"] = _etag(row)
        row.properties["resourceGuid"] = stable(row.id)
        for path in wire.children(kind.shape):
            _name_children(row, path)
    if own := _OWN.get(kind.type.lower()):
        own(row, old, store, places)


def _name_children(row: Row, path: tuple[str, ...]) -> None:
    for child in dig(row.body, ".".join(path), []):
        if child.get("name"):
            child["id"] = f"{row.id}/{path[-1]}/{child['name']}"
            child["etag"] = row.body["etag"]
            child["type"] = f"{row.body['type']}/{path[-1]}"
            child.setdefault("properties", {})["provisioningState"] = "Succeeded"


def _etag(row: Row) -> str:
    return f'W/"{uuid.uuid4()}"'


def stable(text: str) -> str:
    """The same GUID for the same resource, whenever it is asked for."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text.lower()))


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _completes(type_: str) -> Callable[[Completion], Completion]:
    def keep(one: Completion) -> Completion:
        _OWN[type_.lower()] = one
        return one

    return keep


def _created(row: Row, old: Row | None) -> str:
    return str(dig(old.body, "properties.timeCreated") if old else "") or now()


@_completes("Microsoft.Network/publicIPAddresses")
def _public(row: Row, old: Row | None, store: Store, places: Places) -> None:
    index = old.hidden.get("public") if old else None
    if index is None:
        taken = {other.hidden.get("public") for other in store.of_type(row.type)}
        index = next(number for number in range(240) if number not in taken)
    row.hidden["public"] = index
    row.properties["ipAddress"] = places.public_address(index)
    row.properties.setdefault("idleTimeoutInMinutes", 4)
    row.properties.setdefault("publicIPAddressVersion", "IPv4")


@_completes("Microsoft.Network/loadBalancers")
def _balancer(row: Row, old: Row | None, store: Store, places: Places) -> None:
    for rule in row.properties.get("loadBalancingRules", []):
        rule["properties"].setdefault("idleTimeoutInMinutes", 4)
        rule["properties"].setdefault("enableFloatingIP", False)
        rule["properties"].setdefault("loadDistribution", "Default")
    for probe in row.properties.get("probes", []):
        probe["properties"].setdefault("intervalInSeconds", 15)


@_completes("Microsoft.Network/virtualNetworks")
def _network(row: Row, old: Row | None, store: Store, places: Places) -> None:
    row.properties.setdefault("enableDdosProtection", False)


@_completes("Microsoft.Network/networkInterfaces")
def _interface(row: Row, old: Row | None, store: Store, places: Places) -> None:
    before = dig(old.body, "properties", {}) if old else {}
    row.hidden["addresses"] = []
    for config in row.properties.get("ipConfigurations", []):
        kept: Json = next((one for one in before.get("ipConfigurations", []) if one["name"] == config["name"]), {})
        address = dig(kept, "properties.privateIPAddress") or allocate(store, places, row.hidden["addresses"])
        config["properties"]["privateIPAddress"] = address
        config["properties"].setdefault("privateIPAllocationMethod", "Dynamic")
        row.hidden["addresses"].append(address)
    if machine := before.get("virtualMachine"):
        row.properties["virtualMachine"] = machine


def allocate(store: Store, places: Places, also: Collection[str] = ()) -> str:
    """The first address of the lab's subnet that no resource holds; rows stored in this transaction count."""
    taken = {address for row in store.all() for address in row.hidden.get("addresses", [])}
    return places.free_address(taken.union(also))


@_completes("Microsoft.Compute/virtualMachineScaleSets")
def _scale_set(row: Row, old: Row | None, store: Store, places: Places) -> None:
    properties = row.properties
    properties["uniqueId"] = stable(row.id)
    properties["timeCreated"] = _created(row, old)
    properties.setdefault("overprovision", False)
    properties.setdefault("singlePlacementGroup", True)
    properties.setdefault("orchestrationMode", "Uniform")
    row.body["sku"].setdefault("tier", "Standard")
    row.properties["provisioningState"] = "Creating" if old is None else "Updating"


@_completes("Microsoft.Compute/virtualMachines")
def _machine(row: Row, old: Row | None, store: Store, places: Places) -> None:
    properties = row.properties
    properties["vmId"] = stable(row.id)
    properties["timeCreated"] = _created(row, old)
    disk = properties["storageProfile"].setdefault("osDisk", {})
    before = dig(old.body, "properties.storageProfile.osDisk", {}) if old else {}
    disk.setdefault("osType", before.get("osType", "Linux"))
    disk.setdefault("createOption", before.get("createOption", "FromImage"))
    disk.setdefault("deleteOption", before.get("deleteOption", "Detach"))
    managed = disk.setdefault("managedDisk", {})
    managed.setdefault("id", dig(before, "managedDisk.id") or _disk_id(row))
    managed.setdefault("storageAccountType", dig(before, "managedDisk.storageAccountType", "Premium_LRS"))
    disk["name"] = managed["id"].rsplit("/", 1)[-1]
    properties["provisioningState"] = "Creating" if old is None else "Updating"


def _disk_id(row: Row) -> str:
    group = row.id.lower().index("/providers/")
    mark = hashlib.sha256(f"{row.id}{now()}".encode()).hexdigest()[:32]
    return f"{row.id[:group]}/providers/Microsoft.Compute/disks/{row.name}_OsDisk_1_{mark}"


@_completes("Microsoft.Compute/restorePointCollections")
def _collection(row: Row, old: Row | None, store: Store, places: Places) -> None:
    source = store.get(row.properties["source"]["id"])
    if source:
        row.properties["source"]["location"] = source.body.get("location")
    row.properties["restorePointCollectionId"] = stable(row.id)


@_completes("Microsoft.Compute/restorePointCollections/restorePoints")
def _point(row: Row, old: Row | None, store: Store, places: Places) -> None:
    collection = store.get(row.parent)
    machine = store.get(dig(collection.body, "properties.source.id", "")) if collection else None
    row.properties["timeCreated"] = _created(row, old)
    row.properties["provisioningState"] = "Creating"
    if machine is None:
        return
    disk = dict(machine.properties["storageProfile"]["osDisk"])
    row.properties["sourceMetadata"] = {
        "vmId": machine.properties["vmId"],
        "location": machine.body.get("location"),
        "hardwareProfile": machine.properties.get("hardwareProfile"),
        "osProfile": {k: v for k, v in machine.properties.get("osProfile", {}).items() if k != "adminPassword"},
        "storageProfile": {
            "osDisk": {
                "osType": disk["osType"], "name": disk["name"], "managedDisk": disk["managedDisk"],
                "diskRestorePoint": {"id": f"{row.id}/diskRestorePoints/{disk['name']}_{stable(row.id)}"},
            },
            "dataDisks": [],
        },
    }  # fmt: skip
    row.hidden["machine"] = machine.key


@_completes("Microsoft.Compute/disks")
def _disk(row: Row, old: Row | None, store: Store, places: Places) -> None:
    row.properties["timeCreated"] = _created(row, old)
    row.properties["uniqueId"] = stable(row.id)
    row.properties.setdefault("diskState", "Unattached")
    row.properties["provisioningState"] = "Creating" if old is None else "Succeeded"
    if old:
        row.properties["diskState"] = dig(old.body, "properties.diskState", "Unattached")
        if owner := old.body.get("managedBy"):
            row.body["managedBy"] = owner


@_completes("Microsoft.Maintenance/maintenanceConfigurations")
def _configuration(row: Row, old: Row | None, store: Store, places: Places) -> None:
    row.properties.setdefault("visibility", "Custom")
    if window := row.properties.get("maintenanceWindow"):
        window.setdefault("expirationDateTime", "9999-12-31 23:59:59")


@_completes("Microsoft.OperationalInsights/workspaces")
def _workspace(row: Row, old: Row | None, store: Store, places: Places) -> None:
    row.properties["customerId"] = stable(row.id)
    row.properties.setdefault("sku", {"name": "PerGB2018"})
    row.properties.setdefault("retentionInDays", 30)
    row.properties["createdDate"] = str(dig(old.body, "properties.createdDate") if old else "") or now()
    row.properties["modifiedDate"] = now()


@_completes("Microsoft.OperationalInsights/workspaces/tables")
def _table(row: Row, old: Row | None, store: Store, places: Places) -> None:
    workspace = store.get(row.parent)
    default = dig(workspace.body, "properties.retentionInDays", 30) if workspace else 30
    row.properties.setdefault("plan", "Analytics")
    for name in ("retentionInDays", "totalRetentionInDays"):
        if row.properties.get(name) in (None, -1):
            row.properties[name] = default


@_completes("Microsoft.Insights/dataCollectionEndpoints")
def _endpoint(row: Row, old: Row | None, store: Store, places: Places) -> None:
    row.properties["immutableId"] = f"dce-{stable(row.id).replace('-', '')}"
    row.properties["logsIngestion"] = {"endpoint": places.endpoint}
    row.body["etag"] = _etag(row)


@_completes("Microsoft.Insights/dataCollectionRules")
def _rule(row: Row, old: Row | None, store: Store, places: Places) -> None:
    row.properties["immutableId"] = f"dcr-{stable(row.id).replace('-', '')}"
    for one in dig(row.body, "properties.destinations.logAnalytics", []):
        one["workspaceId"] = stable(one["workspaceResourceId"])
    row.body["etag"] = _etag(row)


@_completes("Microsoft.Insights/scheduledQueryRules")
def _alert(row: Row, old: Row | None, store: Store, places: Places) -> None:
    row.properties.setdefault("autoMitigate", True)
    row.properties.setdefault("enabled", True)
    row.body.setdefault("kind", "LogAlert")
    row.body["etag"] = _etag(row)


@_completes("Microsoft.Insights/workbooks")
def _workbook(row: Row, old: Row | None, store: Store, places: Places) -> None:
    row.properties.update({"version": "Notebook/1.0", "timeModified": now(), "userId": stable("identity")})
    row.body["etag"] = _etag(row)


@_completes("Microsoft.Authorization/roleAssignments")
def _assignment(row: Row, old: Row | None, store: Store, places: Places) -> None:
    scope = row.id[: row.id.lower().rindex("/providers/microsoft.authorization/")]
    row.properties["scope"] = scope
    row.properties["createdOn"] = str(dig(old.body, "properties.createdOn") if old else "") or now()


def instances(scale_set: Row, store: Store, places: Places) -> tuple[list[Row], list[Row]]:
    """The instances to add and to remove so that the scale set has its capacity; stores them as such."""
    type_ = "microsoft.compute/virtualmachinescalesets/virtualmachines"
    there = [row for row in store.children(scale_set.key, type_) if not row.deleting]
    wanted = int(scale_set.body["sku"]["capacity"])
    removed = sorted(there, key=lambda row: int(row.name))[wanted:]
    for row in removed:
        row.deleting = True
        row.properties["provisioningState"] = "Deleting"
        store.put(row)
    added: list[Row] = []
    while len(there) - len(removed) + len(added) < wanted:
        number = int(scale_set.hidden.get("next", 0))
        scale_set.hidden["next"] = number + 1
        row = _instance(scale_set, number, allocate(store, places))
        store.put(row)
        added.append(row)
    store.put(scale_set)
    for row in there:
        if row not in removed:
            _inherit(row, scale_set)
            store.put(row)
    return added, removed


def _instance(scale_set: Row, number: int, address: str) -> Row:
    identity = f"{scale_set.id}/virtualMachines/{number}"
    row = Row(identity, "microsoft.compute/virtualmachinescalesets/virtualmachines", scale_set.key, {
        "id": identity, "name": f"{scale_set.name}_{number}", "instanceId": str(number),
        "type": "Microsoft.Compute/virtualMachineScaleSets/virtualMachines",
        "properties": {
            "vmId": stable(identity), "provisioningState": "Creating", "latestModelApplied": True, "timeCreated": now(),
        },
    })  # fmt: skip
    row.hidden = {"addresses": [address], "host": f"{scale_set.name}-{number}".lower(), "power": "running"}
    _inherit(row, scale_set)
    return row


def _inherit(row: Row, scale_set: Row) -> None:
    profile = dig(scale_set.body, "properties.virtualMachineProfile", {})
    body = row.body
    body["location"] = scale_set.body.get("location")
    body["sku"] = {"name": scale_set.body["sku"]["name"], "tier": scale_set.body["sku"].get("tier", "Standard")}
    if "tags" in scale_set.body:
        body["tags"] = dict(scale_set.body["tags"])
    else:
        body.pop("tags", None)
    system = dict(profile.get("osProfile", {}))
    system.pop("computerNamePrefix", None)
    system.pop("adminPassword", None)
    storage = dict(profile.get("storageProfile", {}))
    storage["osDisk"] = {"osType": "Linux", **storage.get("osDisk", {}), "name": f"{scale_set.name}_OsDisk_{row.name}"}
    network = profile.get("networkProfile", {})
    row.properties.update({
        "hardwareProfile": {"vmSize": scale_set.body["sku"]["name"]},
        "osProfile": {**system, "computerName": row.hidden["host"]},
        "storageProfile": storage,
        "networkProfileConfiguration": {
            "networkInterfaceConfigurations": network.get("networkInterfaceConfigurations", [])
        },
        "networkProfile": {"networkInterfaces": [{"id": one["id"]} for one in interfaces(row, scale_set)]},
    })  # fmt: skip


def interfaces(row: Row, scale_set: Row) -> Iterator[dict[str, Json]]:
    """The network interfaces of an instance, as the network provider lists them."""
    network = dig(scale_set.body, "properties.virtualMachineProfile.networkProfile", {})
    for nic in network.get("networkInterfaceConfigurations", []):
        identity = f"{row.id}/networkInterfaces/{nic['name']}"
        configs = []
        for config in dig(nic, "properties.ipConfigurations", []):
            properties = dict(config.get("properties", {}))
            configs.append({
                "name": config["name"], "id": f"{identity}/ipConfigurations/{config['name']}",
                "properties": properties | {
                    "privateIPAddress": row.hidden["addresses"][0], "privateIPAllocationMethod": "Dynamic",
                    "provisioningState": "Succeeded", "primary": properties.get("primary", True),
                },
            })  # fmt: skip
        yield {
            "id": identity, "name": nic["name"],
            "properties": {
                "provisioningState": "Succeeded", "primary": bool(dig(nic, "properties.primary")),
                "ipConfigurations": configs, "virtualMachine": {"id": row.id},
            },
        }  # fmt: skip
