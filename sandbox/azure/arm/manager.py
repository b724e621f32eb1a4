"""Azure Resource Manager: resources by id, each change checked, stored in one transaction and carried out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sandbox.azure.arm import complete, effects, patching, pools, references, rules, runs
from sandbox.azure.arm.operations import Answer, Operations
from sandbox.azure.arm.rules import dig
from sandbox.azure.bodies import readback
from sandbox.azure.bodies.differences import WRITE_ONLY
from sandbox.azure.bodies.wire import Wire
from sandbox.azure.resources import roles
from sandbox.azure.resources.errors import AzureError, bad_request, conflict, group_not_found, not_found
from sandbox.azure.resources.ids import SUBSCRIPTION, ResourceId, under
from sandbox.azure.resources.kinds import BY_TYPE, INSTALLS, KINDS, Kind, Polling
from sandbox.azure.resources.places import Hosts, Places
from sandbox.azure.resources.store import Row, Store

__all__ = ["Answer", "Manager"]
Json = Any
INSTANCES = effects.INSTANCE
_NAMESPACES = {kind.type.split("/")[0].lower() for kind in KINDS}
OPERATIONS_KEPT = 24 * 3600.0
_ACTIONS = ("start", "poweroff", "deallocate", "restart")
_ALIASES = {"backupprotecteditems": "backupFabrics/Azure/protectionContainers/any/protectedItems"}
"""Collections that are listed under another name than their members'."""
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?")


class Manager:
    """The generic part of Azure: PUT, PATCH, GET, DELETE, lists and actions on any kind of the table."""

    def __init__(
        self,
        store: Store,
        wire: Wire,
        places: Places,
        hosts: Hosts,
        balancer: effects.Spreads,
        *,
        rationed: bool = False,
    ) -> None:
        self.store = store
        self._wire = wire
        self._rationed = rationed
        self.places = places
        self._hosts = hosts
        self.world = effects.World(store, hosts, places, balancer)
        self.operations = Operations(store, places.endpoint, self.world.run)

    def resume(self) -> None:
        """After a start: hosts and load balancer in step with the store, and what was under way goes on."""
        self.store.forget_operations(OPERATIONS_KEPT)
        self.world.reconcile()
        for operation in self.store.unfinished():
            self.operations.submit(operation)

    def close(self, *, wait: bool = False) -> None:
        """Nothing new begins; with `wait` what is under way has ended, too."""
        self.operations.close(wait=wait)

    # Requests

    def handle(self, method: str, path: str, query: Mapping[str, str], body: Json, etag: str = "") -> Answer:
        """One request to an id or a collection; `etag` is its If-Match, which single kinds look at."""
        self._check_version(query)
        if done := self.operations.status(path, self._shown):
            return done
        action = path.rstrip("/").rsplit("/", 1)
        target = ResourceId.parse(action[0] if method == "POST" else path)
        if target is None:
            raise AzureError(404, "InvalidResourceType", f"The path '{path}' is not a resource id.")
        if target.subscription.lower() != SUBSCRIPTION:
            raise AzureError(
                404, "SubscriptionNotFound", f"The subscription '{target.subscription}' could not be found."
            )
        if method == "POST":
            return self._act(target, action[1], body)
        if method == "HEAD":
            return Answer(204 if references.exists(self.store, target.key) else 404)
        if target.type.lower() == runs.TYPE:
            return self._run_of(method, target, body)
        if method == "GET" and target.type == roles.TYPE:
            return self._role(target, query)
        if method == "GET":
            return self._get(target, query) if not target.collection and target.names else self._list(target, query)
        if target.collection or not target.names:
            raise AzureError(405, "MethodNotAllowed", f"The HTTP method '{method}' is not supported at scope '{path}'.")
        if method == "DELETE":
            return self._delete(target)
        if not isinstance(body, Mapping):
            raise bad_request("InvalidRequestContent", "The request content was invalid: a JSON object is needed.")
        if target.type.lower() == pools.TYPE:
            return self._put_pool(target, body, etag)
        return self._put(target, body, patch=method == "PATCH")

    def _put_pool(self, target: ResourceId, body: Mapping[str, Json], etag: str) -> Answer:
        with self.store.change():
            balancer, pool = self.store.get(target.parent), self._part(target)
            if balancer is None or pool is None:
                raise self._missing(target)
            pools.write(balancer, pool, body, etag, self.store, self._wire)
            operation = self.store.begin(balancer.key, "put")
        operation = self.operations.carry_out(operation, balancer.type)
        headers = self.operations.pending(BY_TYPE[balancer.type], operation, 200)
        return Answer(200, pools.shown(balancer, pool, self.store), headers)

    def _role(self, target: ResourceId, query: Mapping[str, str]) -> Answer:
        if not target.names:
            return Answer(200, {"value": list(roles.definitions(query.get("$filter", "")))})
        if (guid := roles.guid(target.name)) not in roles.ROLES:
            raise AzureError(
                404, "RoleDefinitionDoesNotExist", f"The specified role definition with ID '{guid}' does not exist."
            )
        return Answer(200, roles.definition(guid))

    def _run_of(self, method: str, target: ResourceId, body: Json) -> Answer:
        if method == "GET" and not target.names:
            return Answer(200, {"value": [row.body for row in runs.listed(self.store, target.scope)]})
        owner = self.store.get(target.scope)
        if owner is None:
            raise self._missing(ResourceId.parse(target.scope) or target)
        if method == "GET":
            return Answer(200, runs.found(self.store, target).body)
        if method != "PUT":
            raise AzureError(405, "MethodNotAllowed", f"The HTTP method '{method}' is not supported for a run.")
        return Answer(201, runs.apply(self.store, owner, target, body).body)

    def _check_version(self, query: Mapping[str, str]) -> None:
        version = query.get("api-version")
        if not version:
            raise bad_request(
                "MissingApiVersionParameter",
                "The api-version query parameter (?api-version=) is required for all requests.",
            )
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}(-preview|-privatepreview)?", version):
            raise bad_request("InvalidApiVersionParameter", f"The api-version '{version}' is invalid.")

    def _kind(self, target: ResourceId) -> Kind:
        found = BY_TYPE.get(target.type.lower())
        if found is None:
            namespace, _, rest = target.type.partition("/")
            if namespace.lower() not in _NAMESPACES:
                raise AzureError(404, "InvalidResourceNamespace", f"The resource namespace '{namespace}' is invalid.")
            raise bad_request(
                "InvalidResourceType",
                f"The resource type '{rest}' could not be found in the namespace '{namespace}' of the sandbox.",
            )
        return found

    def _check_name(self, target: ResourceId) -> None:
        for name in target.names:
            special = ";" if target.type.lower().startswith("microsoft.recoveryservices/") else ""
            if not re.fullmatch(rf"[\w.(){special}-]{{1,260}}", name) or name.endswith("."):
                raise bad_request("InvalidResourceName", f"Resource name {name} is invalid.")

    # PUT and PATCH

    def _put(self, target: ResourceId, body: Mapping[str, Json], *, patch: bool = False) -> Answer:
        kind = self._kind(target)
        self._check_name(target)
        with self.store.change():
            if patch:
                body = self._patched(kind, target, body)
            for problem in self._wire.problems(body, kind.shape):
                raise bad_request(problem.code, problem.reason)
            row, old = self._store_row(kind, target, self._wire.writable(body, kind.shape))
            long = self._has_effect(row) or kind.polling in (Polling.OPERATION, Polling.BOTH)
            operation = self.store.begin(row.key, "put") if long else None
        if operation is not None:
            operation = self.operations.carry_out(operation, row.type)
        status = kind.created if old is None else kind.updated
        headers = self.operations.pending(kind, operation, status) if operation else {}
        return Answer(status, self._shown(self.store.get(row.key) or row), headers)

    def _patched(self, kind: Kind, target: ResourceId, change: Mapping[str, Json]) -> dict[str, Json]:
        """What is there with the change merged in; names that the resource does not have stay, to be refused."""
        old = self.store.get(target.key)
        if old is None:
            raise self._missing(target)
        foreign = {name: value for name, value in change.items() if name not in old.body and value is not None}
        return self._wire.writable(_merged(old.body, change), kind.shape) | foreign

    def _store_row(self, kind: Kind, target: ResourceId, wanted: dict[str, Json]) -> tuple[Row, Row | None]:
        old = self.store.get(target.key)
        if old is not None and old.deleting:
            raise conflict("ResourceIsBeingDeleted", f"Resource {old.id} is being deleted: try again when it is gone.")
        self._check_parents(target)
        row = Row(old.id if old else target.text, kind.type.lower(), target.parent, wanted)
        if old is not None:
            row.hidden = old.hidden
        self._place(kind, row, old)
        before = old.body if old else None
        rules.check(kind.type, rules.Change(row.id, row.body, before, self.store, rationed=self._rationed))
        references.check_targets(row, self.store)
        if old is not None:
            references.check_parts_kept(old, row, self.store)
        complete.complete(kind, row, old, self.store, self.places, self._wire)
        row.body = _without_secrets(row.body)
        self.store.put(row)
        self._attend(row, old)
        return row, old

    def _check_parents(self, target: ResourceId) -> None:
        if target.group and target.type != "Microsoft.Resources/resourceGroups":
            group = self.store.get(target.group_key)
            if group is None:
                raise group_not_found(target.group)
            if group.deleting:
                raise conflict(
                    "ResourceGroupBeingDeleted",
                    f"The resource group '{target.group}' is in deprovisioning state and cannot "
                    "perform this operation.",
                )
        parent = target.parent
        if parent.count("/") > 2 and not references.exists(self.store, parent):
            found = ResourceId.parse(parent)
            if found is None or len(target.names) > 1:
                raise AzureError(
                    404, "ParentResourceNotFound",
                    "Failed to perform 'write' on resource(s) of type "
                    f"'{'/'.join(target.type.split('/')[1:])}', because the parent resource "
                    f"'{parent}' could not be found.",
                )  # fmt: skip
            raise not_found("/".join([found.type, *found.names]), found.group)

    def _place(self, kind: Kind, row: Row, old: Row | None) -> None:
        if not kind.located:
            return
        location = row.body.get("location") or (old.body.get("location") if old else None)
        if not location:
            raise bad_request("LocationRequired", "The location property is required for this definition.")
        row.body["location"] = location = re.sub(r"\s", "", str(location)).lower()
        if old is not None and old.body.get("location") != location:
            raise conflict(
                "InvalidResourceLocation",
                f"The resource '{row.name}' already exists in location '{old.body.get('location')}' in resource group "
                f"'{row.group}'. A resource with the same name cannot be created in location "
                f"'{location}'. Please select "
                "a new resource name.",
            )

    def _attend(self, row: Row, old: Row | None) -> None:
        """What must be stored along with some kinds."""
        if row.type == effects.SCALE_SET:
            _check_host_name(row.name)
            if dig(row.body, "properties.orchestrationMode") == "Flexible":
                return
            effects.image_key(self.store, dig(row.body, _IMAGE_OF_SET, {}))
            complete.instances(row, self.store, self.places)
            for one in self.store.children(row.key, INSTANCES):
                self._check_host_free(one)
        elif row.type == effects.MACHINE:
            self._attend_machine(row, old)

    def _attend_machine(self, row: Row, old: Row | None) -> None:
        _check_host_name(row.name)
        if old is None:
            row.hidden["power"] = "running"
            if dig(row.body, "properties.osProfile.windowsConfiguration") is None:
                effects.image_key(self.store, dig(row.body, "properties.storageProfile.imageReference", {}))
                row.hidden["host"] = row.name.lower()
                self._check_host_free(row)
        references = row.properties["networkProfile"]["networkInterfaces"]
        nics = [self.store.get(one["id"]) for one in references]
        for reference, nic in zip(references, nics, strict=True):
            if nic is None:
                continue
            owner = dig(nic.body, "properties.virtualMachine.id")
            if owner and owner.lower() != row.key:
                raise bad_request("NicInUse", f"Network Interface {nic.id} is used by existing resource {owner}.")
            nic.properties["virtualMachine"] = {"id": row.id}
            nic.properties["primary"] = len(nics) == 1 or bool(dig(reference, "properties.primary"))
            self.store.put(nic)
        row.hidden["addresses_of"] = [nic.key for nic in nics if nic]
        row.hidden["addresses"] = [nic.hidden["addresses"][0] for nic in nics if nic and nic.hidden.get("addresses")]
        disk = row.properties["storageProfile"]["osDisk"]
        if self.store.get(disk["managedDisk"]["id"]) is None:
            self._make_os_disk(row, disk)
        elif old is None and disk["createOption"] == "FromImage":
            raise conflict(
                "ConflictingUserInput",
                f"Disk {disk['name']} already exists in resource group {row.group}. Only CreateOption.Attach is "
                "supported.",
            )
        self.store.put(row)

    def _make_os_disk(self, row: Row, disk: Mapping[str, Json]) -> None:
        kind = BY_TYPE[effects.DISK]
        target = ResourceId.parse(disk["managedDisk"]["id"])
        if target is None:
            raise bad_request("InvalidParameter", "The id of the managed disk is invalid.")
        made = Row(target.text, effects.DISK, target.parent, {
            "location": row.body["location"], "managedBy": row.id,
            "sku": {"name": disk["managedDisk"]["storageAccountType"]},
            "properties": {
                "osType": disk["osType"], "creationData": {"createOption": "FromImage"}, "diskState": "Attached",
            },
        })  # fmt: skip
        complete.complete(kind, made, None, self.store, self.places, self._wire)
        made.body["managedBy"] = row.id
        made.properties.update({"provisioningState": "Succeeded", "diskState": "Attached"})
        self.store.put(made)

    def _check_host_free(self, row: Row) -> None:
        for other in self.store.all():
            if other.key != row.key and other.hidden.get("host") == row.hidden["host"]:
                raise conflict(
                    "OperationNotAllowed", f"The sandbox has a host named {row.hidden['host']} already ({other.id})."
                )

    # DELETE

    def _delete(self, target: ResourceId) -> Answer:
        with self.store.change():
            row = self.store.get(target.key)
            if row is None:
                if target.type == "Microsoft.Resources/resourceGroups":
                    raise group_not_found(target.group)
                return Answer(204)
            if row.type == INSTANCES:
                return self._remove_instance(row)
            kind = self._kind(target)
            if kind.type == "Microsoft.Resources/resourceGroups":
                references.check_deletable(row, self.store)
            else:
                references.check_unused(row, self.store)
            if references.stays(row, self.store):
                return Answer(202 if kind.polling is Polling.BOTH else 200)
            leaving = [row, *self.store.under(row.key), *references.followers(row, self.store)]
            for one in leaving:
                one.deleting = True
                if "provisioningState" in one.properties:
                    one.properties["provisioningState"] = "Deleting"
                self.store.put(one)
            if not self._has_effect(row) and len(leaving) == 1 and kind.polling is Polling.NONE:
                self.store.remove(row.key)
                return Answer(200, readback.farewell(row))
            operation = self.store.begin(row.key, "delete")
        return self.operations.accepted(kind, self.operations.carry_out(operation, row.type))

    def _remove_instance(self, row: Row) -> Answer:
        """An instance goes, and its scale set's capacity with it; its number is never given again."""
        scale_set = self.store.get(row.parent)
        if scale_set is None or row.deleting:
            return Answer(204)
        row.deleting = True
        row.properties["provisioningState"] = "Deleting"
        scale_set.body["sku"]["capacity"] -= 1
        self.store.put(row)
        self.store.put(scale_set)
        operation = self.store.begin(scale_set.key, "put")
        kind = BY_TYPE[scale_set.type]
        return self.operations.accepted(kind, self.operations.carry_out(operation, scale_set.type))

    # GET

    def _get(self, target: ResourceId, query: Mapping[str, str]) -> Answer:
        if target.type.lower().endswith("/instanceview"):
            raise AzureError(405, "MethodNotAllowed", "Use the path .../instanceView of the machine.")
        row = self.store.get(target.key)
        if row is None:
            if target.type != "Microsoft.Resources/resourceGroups" and (part := self._part(target)):
                balancer = self.store.get(target.parent) if target.type.lower() == pools.TYPE else None
                return Answer(200, pools.shown(balancer, part, self.store) if balancer else part)
            raise self._missing(target)
        wanted = str(query.get("$expand", "")).lower()
        if "instanceview" in wanted and row.hidden.get("host"):
            row.properties["instanceView"] = self.instance_view(row)
        if "restorepoints" in wanted and row.type == effects.COLLECTION:
            points = self.store.children(row.key, effects.POINT)
            row.properties["restorePoints"] = [self._shown(point) for point in points]
        return Answer(200, self._shown(row))

    def _shown(self, row: Row) -> dict[str, Json]:
        if row.type == effects.ARC:
            row.properties["status"] = "Connected" if self.running(row) else "Disconnected"
        return readback.shown(row)

    def _missing(self, target: ResourceId) -> AzureError:
        if target.group and self.store.get(target.group_key) is None:
            return group_not_found(target.group)
        owner = self.store.get(target.parent) if len(target.names) > 1 else None
        part = (
            target.type.rsplit("/", 1)[-1].lower() in {label.lower() for label in owner.properties} if owner else False
        )
        if target.type.lower() not in BY_TYPE and target.type.lower() != INSTANCES and not part:
            try:
                self._kind(target)
            except AzureError as refusal:
                return refusal
        names = (
            "/".join(target.names) if len(target.names) == 1 else target.key.split("/providers/")[-1].split("/", 2)[-1]
        )
        return not_found(f"{target.type}/{names}", target.group)

    def _part(self, target: ResourceId) -> Json | None:
        """A subnet, pool, probe, rule… of a stored resource."""
        owner = self.store.get(target.parent) if len(target.names) > 1 else None
        part = target.type.rsplit("/", 1)[-1].lower()
        for label, children in (owner.properties if owner else {}).items():
            if label.lower() == part and isinstance(children, list):
                return next((one for one in children if str(one.get("name")).lower() == target.name.lower()), None)
        return None

    def _list(self, target: ResourceId, query: Mapping[str, str]) -> Answer:
        owner, _, last = target.text.rpartition("/")
        if last.lower() in _ALIASES:
            target = ResourceId.parse(f"{owner}/{_ALIASES[last.lower()]}") or target
        type_ = target.type.lower()
        if target.text.lower().endswith("/instanceview"):
            return Answer(200, self._view_of(target.key.rsplit("/", 1)[0]))
        if not target.type:
            return Answer(200, {
                "id": target.text, "subscriptionId": SUBSCRIPTION, "displayName": "patchwave sandbox",
                "state": "Enabled", "authorizationSource": "RoleBased",
            })  # fmt: skip
        if target.group and self.store.get(target.group_key) is None:
            raise group_not_found(target.group)
        if type_.endswith("virtualmachinescalesets/networkinterfaces"):
            return Answer(200, {"value": list(self._instance_nics(target))})
        if type_ == "microsoft.compute/virtualmachinescalesets/virtualmachines/networkinterfaces":
            owner = target.key.rsplit("/", 1)[0]
            return Answer(200, {"value": [nic for nic in self._all_nics(owner.rsplit("/", 2)[0])
                                          if nic["properties"]["virtualMachine"]["id"].lower() == owner]})  # fmt: skip
        if type_ == pools.TYPE:
            balancer = self.store.get(target.owner)
            if balancer is None:
                raise self._missing(ResourceId.parse(target.owner) or target)
            kept = balancer.properties.get("backendAddressPools", [])
            return Answer(200, {"value": [pools.shown(balancer, pool, self.store) for pool in kept]})
        rows = self.store.of_type(type_)
        if type_ != INSTANCES:
            self._kind(target)
        prefix = target.owner
        if type_ == "microsoft.resources/resourcegroups":
            prefix = f"/subscriptions/{SUBSCRIPTION}"
        elif len(target.names) and self.store.get(prefix) is None:
            raise self._missing(ResourceId.parse(prefix) or target)
        chosen = readback.filtered([row for row in rows if under(row.key, prefix)], query.get("$filter"), prefix)
        return Answer(200, {"value": [self._shown(row) for row in chosen]})

    def _instance_nics(self, target: ResourceId) -> Iterator[dict[str, Json]]:
        owner = target.key.rsplit("/", 1)[0]
        if self.store.get(owner) is None:
            raise self._missing(ResourceId.parse(owner) or target)
        return self._all_nics(owner)

    def _all_nics(self, scale_set: str) -> Iterator[dict[str, Json]]:
        owner = self.store.get(scale_set)
        for row in self.store.children(scale_set, INSTANCES):
            if owner is not None and not row.deleting:
                yield from complete.interfaces(row, owner)

    def _view_of(self, key: str) -> Json:
        row = self.store.get(key)
        if row is None or row.type not in (effects.MACHINE, effects.SCALE_SET, INSTANCES):
            raise self._missing(ResourceId.parse(key) or ResourceId(key))
        if row.type != effects.SCALE_SET:
            return self.instance_view(row)
        counts: dict[str, int] = {}
        for one in self.store.children(row.key, INSTANCES):
            for status in self.instance_view(one)["statuses"]:
                counts[status["code"]] = counts.get(status["code"], 0) + 1
        view: dict[str, Json] = {
            "virtualMachine": {"statusesSummary": [{"code": code, "count": count} for code, count in counts.items()]},
            "statuses": [_provisioning(row)],
        }
        if policy := row.properties.get("automaticRepairsPolicy"):
            state = row.hidden.get("repairs", "Running") if policy.get("enabled") else "NotRunning"
            view["orchestrationServices"] = [{"serviceName": "AutomaticRepairs", "serviceState": state}]
        return view

    def running(self, row: Row) -> bool:
        """Whether the host behind a machine runs; of one without, whether it was left running."""
        if "host" not in row.hidden:
            return bool(row.hidden.get("power") == "running")
        return self._hosts.running(row.hidden["host"])

    def instance_view(self, row: Row, *, health: bool = True) -> dict[str, Json]:
        """State, power and health of a machine as they are now."""
        running = self.running(row)
        power = "running" if running else "deallocated" if row.hidden.get("power") == "deallocated" else "stopped"
        view: dict[str, Json] = {
            "computerName": dig(row.body, "properties.osProfile.computerName"),
            "statuses": [
                _provisioning(row),
                {"code": f"PowerState/{power}", "level": "Info", "displayStatus": f"VM {power}"},
            ],
        }
        owner = self.store.get(row.parent) if health and row.type == INSTANCES else None
        settings = rules.health_extension(owner.body) if owner else None
        if settings is not None:
            state = effects.health(row.hidden["addresses"][0], settings) if running else "Unknown"
            view["vmHealth"] = {
                "status": {"code": f"HealthState/{state.lower()}", "level": "Info", "displayStatus": state}
            }
        return view

    # POST

    def _act(self, target: ResourceId, action: str, body: Json) -> Answer:
        verb = action.lower()
        row = self.store.get(target.key)
        if row is None:
            raise self._missing(target)
        if verb == "setorchestrationservicestate" and row.type == effects.SCALE_SET:
            return self._hold_repairs(row, body)
        if verb in patching.VERBS and row.type in INSTALLS:
            return self._patch(row, action, body or {})
        if verb not in _ACTIONS or row.type not in (effects.MACHINE, effects.SCALE_SET, INSTANCES):
            raise bad_request(
                "InvalidResourceType", f"The action '{action}' on '{target.type}' is not known to the sandbox."
            )
        rows = [row]
        if row.type == effects.SCALE_SET:
            wanted = [str(one) for one in (body or {}).get("instanceIds", [])]
            rows = [
                one
                for one in self.store.children(row.key, INSTANCES)
                if not wanted or one.name in wanted or "*" in wanted
            ]
        kind = BY_TYPE[effects.MACHINE]
        with self.store.change():
            operations = [self.store.begin(one.key, verb) for one in rows]
        for operation in operations:
            self.operations.submit(operation)
        if not operations:
            return Answer(200)
        for operation in operations[:-1]:
            self.operations.wait(operation, 120)
        return self.operations.accepted(kind, operations[-1])

    def _patch(self, row: Row, action: str, body: Json) -> Answer:
        if not isinstance(body, Mapping):
            raise bad_request("InvalidRequestContent", "The request content was invalid: a JSON object is needed.")
        patching.check(row, action.lower(), body, self._wire)
        if not self.running(row):
            raise conflict("OperationNotAllowed", f"Operation '{action}' is not allowed: '{row.name}' is not running.")
        with self.store.change():
            operation = self.store.begin(row.key, action.lower(), wanted=dict(body))
        self.operations.submit(operation)
        return self.operations.begun(BY_TYPE[row.type], operation)

    def _hold_repairs(self, row: Row, body: Json) -> Answer:
        """The sandbox repairs nothing by itself; it keeps the state that a caller set."""
        wanted = {"Suspend": "Suspended", "Resume": "Running"}.get(str(dig(body, "action")))
        if dig(body, "serviceName") != "AutomaticRepairs" or wanted is None:
            raise bad_request("InvalidParameter", "serviceName must be AutomaticRepairs, action Suspend or Resume.")
        if dig(row.body, "properties.automaticRepairsPolicy.enabled") is not True:
            raise conflict("OperationNotAllowed", f"Automatic repairs are not enabled on scale set '{row.name}'.")
        with self.store.change():
            row.hidden["repairs"] = wanted
            self.store.put(row)
        return Answer(200)

    def _has_effect(self, row: Row) -> bool:
        return "host" in row.hidden or row.type in (
            effects.SCALE_SET, effects.MACHINE, effects.POINT, effects.DISK, effects.NIC,
            "microsoft.network/loadbalancers", "microsoft.network/publicipaddresses",
        )  # fmt: skip


_IMAGE_OF_SET = "properties.virtualMachineProfile.storageProfile.imageReference"


def _without_secrets(value: Json) -> Json:
    """A body without what Azure takes and never shows again; the sandbox does not keep it either."""
    if isinstance(value, Mapping):
        return {name: _without_secrets(inner) for name, inner in value.items() if name not in WRITE_ONLY}
    return [_without_secrets(inner) for inner in value] if isinstance(value, list) else value


def _check_host_name(name: str) -> None:
    if not _HOST_NAME.fullmatch(name.lower()):
        raise bad_request("InvalidParameter", f"The name '{name}' of parameter 'name' is not a valid computer name.")


def _provisioning(row: Row) -> dict[str, Json]:
    state = str(row.properties.get("provisioningState", "Succeeded"))
    return {
        "code": f"ProvisioningState/{state.lower()}",
        "level": "Info",
        "displayStatus": f"Provisioning {state.lower()}",
    }


def _merged(old: Json, change: Json) -> Json:
    """JSON merge patch, with tags replaced as a whole."""
    if not isinstance(old, Mapping) or not isinstance(change, Mapping):
        return change
    merged = dict(old)
    for name, value in change.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = value if name == "tags" else _merged(old.get(name), value)
    return merged
