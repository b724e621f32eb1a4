"""Ids inside bodies: what they point at must exist, and what is pointed at cannot go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sandbox.azure.arm.complete.recovery import ITEM, POLICY, VAULT, deferred, protected_by
from sandbox.azure.arm.rules import dig
from sandbox.azure.resources.errors import AzureError, bad_request, conflict, not_found
from sandbox.azure.resources.ids import ResourceId, looks_like_id, under
from sandbox.azure.resources.store import Row, Store

Json = Any
_NOT_REFERENCES = ("serializedData", "roleDefinitionId", "query", "fullyQualifiedResourceId", "principalId")
_VIRTUAL = ("/providers/microsoft.authorization/roledefinitions/", "/diskrestorepoints/", "/versions/latest")


def ids_in(value: Json, key: str = "") -> Iterator[str]:
    """Every id in a body, apart from what only looks like one."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in _NOT_REFERENCES:
                yield from ids_in(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from ids_in(inner, key)
    elif looks_like_id(value):
        yield value


def exists(store: Store, key: str) -> bool:
    """Whether an id names a resource, a part of one, a group or the subscription."""
    key = key.lower()
    if key.count("/") <= 2 or any(part in key for part in _VIRTUAL):
        return True
    if (row := store.get(key)) is not None:
        return not row.deleting
    owner, part, name = key.rsplit("/", 2)
    if (row := store.get(owner)) is None or row.deleting:
        return False
    for label, children in row.body.get("properties", {}).items():
        if label.lower() == part and isinstance(children, list):
            return any(isinstance(one, Mapping) and str(one.get("name")).lower() == name for one in children)
    return False


def check_targets(row: Row, store: Store) -> None:
    """Refuses a body that points at what is not there."""
    for target in ids_in({name: value for name, value in row.body.items() if name != "id"}):
        if under(target.lower(), row.key) or exists(store, target):
            continue
        if row.type.startswith("microsoft.network/"):
            raise bad_request(
                "InvalidResourceReference",
                f"Resource {target} referenced by resource {row.id} was not found. Please make sure "
                "that the referenced "
                "resource exists, and that both resources are in the same region.",
            )
        found = ResourceId.parse(target)
        if found is None or not found.names:
            raise AzureError(404, "NotFound", f"Resource {target} was not found.")
        raise not_found("/".join([found.type, *found.names]) if len(found.names) == 1 else target, found.group)


def users(key: str, store: Store, *, leaving: str = "") -> Iterator[tuple[Row, str]]:
    """Who points at a resource or a part of it, and at what exactly; those that go along are no users."""
    for row in store.all():
        if row.deleting or under(row.key, key) or (leaving and under(row.key, leaving)):
            continue
        for target in ids_in({name: value for name, value in row.body.items() if name != "id"}):
            if under(target.lower(), key) and not under(row.key, target.lower()):
                yield row, target
                break


def check_unused(row: Row, store: Store) -> None:
    """Refuses to delete what another resource holds, in the provider's own words."""
    if row.type == VAULT:
        _check_empty(row, store)
    if row.type == POLICY and (items := protected_by(row, store)):
        raise bad_request(
            "BMSUserErrorPolicyInUse", f"Policy {row.name} cannot be deleted: it protects {items[0].id}. "
            "Give its items another policy, or stop their protection.",
        )  # fmt: skip
    for user, target in users(row.key, store):
        if refusal := _in_use(row, user, target):
            raise refusal


def _in_use(row: Row, user: Row, target: str) -> AzureError | None:
    part = target.rsplit("/", 1)[-1]
    compute = user.type.startswith("microsoft.compute/")
    match row.type:
        case "microsoft.network/publicipaddresses" if user.type != "microsoft.network/trafficmanagerprofiles":
            return bad_request(
                "PublicIPAddressCannotBeDeleted",
                f"Public IP address {row.id} can not be deleted since it is still allocated to resource {user.id}. In "
                "order to delete the public IP, disassociate/detach the Public IP address from the resource.",
            )
        case "microsoft.network/networkinterfaces" if compute:
            return bad_request(
                "NicInUse",
                f"Network Interface {row.id} is used by existing resource {user.id}. In order to delete the network "
                "interface, it must be dissociated from the resource.",
            )
        case "microsoft.network/virtualnetworks":
            return bad_request(
                "InUseSubnetCannotBeDeleted",
                f"Subnet {part} is in use by {user.id} and cannot be deleted. In order to delete "
                "the subnet, delete all "
                "the resources within the subnet.",
            )
        case "microsoft.network/loadbalancers":
            what = "virtual machine scale set" if compute else "resource"
            return bad_request(
                "LoadBalancerInUseByVirtualMachineScaleSet" if compute else "LoadBalancerInUse",
                f"Cannot delete load balancer {row.id} since its child resources {part} are in use "
                f"by {what} {user.id}.",
            )
        case "microsoft.compute/disks":
            return conflict("OperationNotAllowed", f"Disk {row.name} is attached to VM {user.id}.")
        case "microsoft.compute/galleries" | "microsoft.compute/galleries/images":
            if user.type.startswith("microsoft.compute/galleries"):
                return conflict(
                    "CannotDeleteResource", f"Can not delete {row.id} before its nested resources are deleted."
                )
    return None


def _check_empty(vault: Row, store: Store) -> None:
    """A vault goes when nothing is protected in it, and nothing that was deleted is still kept."""
    items = store.children(vault.key, ITEM)
    if kept := [item for item in items if item.properties.get("isScheduledForDeferredDelete")]:
        raise conflict(
            "ServiceResourceNotEmptyWithBackendMessage",
            f"Vault {vault.name} cannot be deleted as there are backup items in soft deleted state in the vault: "
            f"{', '.join(item.name for item in kept)}. Undelete them and stop their protection with soft delete "
            "disabled, or wait for their retention to end.",
        )
    if items:
        raise conflict(
            "ServiceResourceNotEmptyWithContainerDetails",
            "Recovery Services vault cannot be deleted as there are existing resources within the vault. Please ensure "
            f"there are no backup items associated with this vault: {', '.join(item.name for item in items)}.",
        )


def check_deletable(group: Row, store: Store) -> None:
    """A group goes only when everything in it can."""
    for vault in store.of_type(VAULT):
        if under(vault.key, group.key):
            try:
                _check_empty(vault, store)
            except AzureError as refusal:
                raise conflict(
                    "ResourceGroupDeletionBlocked",
                    f"Deletion of resource group '{group.name}' failed as resources with identifiers "
                    f"'{vault.body['type']}/{vault.name}' could not be deleted. {refusal.message}",
                ) from None


def stays(row: Row, store: Store) -> bool:
    """Whether Azure keeps what is deleted: a protected item of a vault with soft delete, which is marked then."""
    vault = store.get(row.parent)
    if row.type != ITEM or vault is None:
        return False
    if dig(vault.body, "properties.securitySettings.softDeleteSettings.softDeleteState") == "Disabled":
        return False
    deferred(row)
    store.put(row)
    return True


def followers(row: Row, store: Store) -> list[Row]:
    """What goes along with a resource although it is not below it: the assignments of a maintenance configuration."""
    if row.type != "microsoft.maintenance/maintenanceconfigurations":
        return []
    assignments = store.of_type("Microsoft.Maintenance/configurationAssignments")
    return [one for one in assignments if str(one.properties.get("maintenanceConfigurationId")).lower() == row.key]


def check_parts_kept(old: Row, new: Row, store: Store) -> None:
    """A subnet that something uses cannot be left out of its network's new body."""
    if new.type != "microsoft.network/virtualnetworks":
        return
    kept = {str(one.get("name")).lower() for one in new.properties.get("subnets", [])}
    for one in old.properties.get("subnets", []):
        if one["name"].lower() not in kept:
            for user, target in users(one["id"].lower(), store):
                if refusal := _in_use(old, user, target):
                    raise refusal
