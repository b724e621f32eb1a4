"""The official Azure SDK clients, unmodified, against the emulator: `python -m tests.clients` prints the table.

Real sockets, real TLS, real tokens by the managed-identity protocol; only the hosts are not booted.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Self

import httpx
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import ManagedIdentityCredential
from azure.mgmt.applicationinsights import ApplicationInsightsManagementClient
from azure.mgmt.applicationinsights.v2023_06_01 import models as workbooks
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.authorization.v2022_04_01 import models as access
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.eventgrid import EventGridManagementClient
from azure.mgmt.eventgrid import models as events
from azure.mgmt.hybridcompute import HybridComputeManagementClient
from azure.mgmt.loganalytics import LogAnalyticsManagementClient
from azure.mgmt.maintenance import MaintenanceManagementClient
from azure.mgmt.maintenance import models as maintenance
from azure.mgmt.monitor import MonitorManagementClient
from azure.mgmt.monitor import models as monitor
from azure.mgmt.network import NetworkManagementClient
from azure.mgmt.recoveryservices import RecoveryServicesClient
from azure.mgmt.recoveryservicesbackup import RecoveryServicesBackupClient
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.mgmt.resourcegraph import ResourceGraphClient
from azure.mgmt.trafficmanager import TrafficManagerManagementClient
from azure.monitor.ingestion import LogsIngestionClient

from sandbox.azure.resources.ids import SUBSCRIPTION
from sandbox.azure.server.conditions import Conditions
from sandbox.azure.server.endpoints import Endpoints
from sandbox.config import Sandbox, cache_folder
from tests.unit.azure_bodies import BODIES, CONFIGURATION, DISK, GUID, POLICY, READER, in_guest, snapshot, weekly
from tests.unit.azure_emulator import GROUP, LOCATION, ROOT, RecordedHosts, StillBalancer, located

Json = Any
VERBS = ("create", "read", "update", "list", "delete")
RG = GROUP.rsplit("/", 1)[1]
TOUCHED = {"touched": "yes"}
ARC = f"{ROOT}/resourceGroups/sites/providers/Microsoft.HybridCompute/machines/site-0"


@dataclass(frozen=True)
class Row:
    """One type of resource through one client: what each verb calls, and how an update is seen."""

    package: str
    name: str
    create: Callable[[], Any]
    read: Callable[[], Any]
    update: Callable[[], Any] | None
    listed: Callable[[], Any]
    delete: Callable[[], Any]
    seen: Callable[[Any], bool]
    id: str


@dataclass
class Outcome:
    """What a verb did on a row: `yes`, a dash where Azure has no such verb, or what went wrong."""

    name: str
    package: str
    verbs: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def endpoints(conditions: Conditions | None = None) -> Iterator[tuple[Sandbox, Endpoints, RecordedHosts]]:
    """Both endpoints of a sandbox of their own, with the environment in which clients find them."""
    kept = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="patchwave-clients-") as folder:
        sandbox = Sandbox("clients", Path(folder), Path(folder), IPv4Network("10.219.8.0/24"))
        with serving(sandbox, conditions) as (made, hosts):
            os.environ |= {
                "AZURE_POD_IDENTITY_AUTHORITY_HOST": sandbox.identity,
                "REQUESTS_CA_BUNDLE": str(sandbox.ca_bundle),
                "NO_PROXY": sandbox.loopback,
            }
            try:
                yield sandbox, made, hosts
            finally:
                os.environ.clear()
                os.environ.update(kept)


@contextlib.contextmanager
def serving(sandbox: Sandbox, conditions: Conditions | None = None) -> Iterator[tuple[Endpoints, RecordedHosts]]:
    """Both endpoints of a sandbox, on its loopback address; its hosts only remember what was asked of them."""
    hosts = RecordedHosts()
    made = Endpoints(sandbox, hosts, (Path("/layer"),), StillBalancer(), cache_folder(), conditions)
    server = threading.Thread(target=lambda: asyncio.run(made.serve()), daemon=True)
    server.start()
    while not made.ready.is_set() or not all(endpoint.started for endpoint in made._servers):
        time.sleep(0.01)
    try:
        yield made, hosts
    finally:
        made.close()
        server.join(10)


class Clients:
    """Every client of one subscription, with one credential."""

    def __init__(self, endpoint: str) -> None:
        self._credential = ManagedIdentityCredential()
        self._door: dict[str, Any] = {
            "base_url": endpoint, "credential_scopes": ["https://management.azure.com/.default"],
        }  # fmt: skip
        self.endpoint = endpoint
        self._open: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in (self._credential, *self._open):
            client.close()

    def _made(self, client: Any, *arguments: str) -> Any:
        made = client(self._credential, *arguments, **self._door)
        self._open.append(made)
        return made

    @cached_property
    def resource(self) -> Any:
        return self._made(ResourceManagementClient, SUBSCRIPTION)

    @cached_property
    def network(self) -> Any:
        return self._made(NetworkManagementClient, SUBSCRIPTION)

    @cached_property
    def traffic(self) -> Any:
        return self._made(TrafficManagerManagementClient, SUBSCRIPTION)

    @cached_property
    def compute(self) -> Any:
        return self._made(ComputeManagementClient, SUBSCRIPTION)

    @cached_property
    def hybrid(self) -> Any:
        return self._made(HybridComputeManagementClient, SUBSCRIPTION)

    @cached_property
    def maintenance(self) -> Any:
        return self._made(MaintenanceManagementClient, SUBSCRIPTION)

    @cached_property
    def logs(self) -> Any:
        return self._made(LogAnalyticsManagementClient, SUBSCRIPTION)

    @cached_property
    def monitor(self) -> Any:
        return self._made(MonitorManagementClient, SUBSCRIPTION)

    @cached_property
    def insights(self) -> Any:
        return self._made(ApplicationInsightsManagementClient, SUBSCRIPTION)

    @cached_property
    def access(self) -> Any:
        return self._made(AuthorizationManagementClient, SUBSCRIPTION)

    @cached_property
    def events(self) -> Any:
        return self._made(EventGridManagementClient, SUBSCRIPTION)

    @cached_property
    def vaults(self) -> Any:
        return self._made(RecoveryServicesClient, SUBSCRIPTION)

    @cached_property
    def backup(self) -> Any:
        return self._made(RecoveryServicesBackupClient, SUBSCRIPTION)

    @cached_property
    def graph(self) -> Any:
        return self._made(ResourceGraphClient)

    def ingestion(self, endpoint: str) -> LogsIngestionClient:
        made = LogsIngestionClient(endpoint, self._credential)
        self._open.append(made)
        return made


def done(answer: Any) -> Any:
    """The result of a call, waited for when it is long."""
    return answer.result() if hasattr(answer, "polling_method") else answer


def rows(to: Clients) -> Iterator[Row]:
    """All rows, in an order in which they can be created."""

    def row(
        package: str, name: str, group: Any, *where: str, create: str = "begin_create_or_update",
        update: str | None = "", patch: Any = None, delete: str = "begin_delete", model: Any = None,
        listed: Callable[[], Any], change: Callable[[Json], Json] = lambda body: {**body, "tags": TOUCHED},
        seen: Callable[[Any], bool] = lambda found: found.tags == TOUCHED,
    ) -> Row:  # fmt: skip
        identity, type_, body = BODIES[name]

        def shaped(value: Json) -> Any:
            return model.deserialize(value) if model else value

        def put(value: Json) -> Any:
            return done(getattr(group, create)(*where, shaped(value)))

        def again() -> Any:
            if update:
                return done(getattr(group, update)(*where, patch or {"tags": TOUCHED}))
            return put(change(body()))

        return Row(
            f"azure-mgmt-{package}", type_.removeprefix("Microsoft."), lambda: put(body()), lambda: group.get(*where),
            None if update is None else again, listed, lambda: done(getattr(group, delete)(*where)), seen, identity,
        )  # fmt: skip

    def properties(**more: Json) -> Callable[[Json], Json]:
        return lambda body: {**body, "properties": {**body["properties"], **more}}

    yield _group(to)
    yield from _network(to, row)
    yield from _galleries(to)
    yield from _compute(to, row)
    yield from _maintenance(to, row, properties)
    yield from _monitor(to, row, properties)
    yield from _events(to, row, properties)
    yield from _backup(to, row, properties)
    yield _arc(to)


def _network(to: Clients, row: Any) -> Iterator[Row]:
    net = to.network
    tags = {"update": "update_tags"}
    yield row("network", "vnet", net.virtual_networks, RG, "net", listed=lambda: net.virtual_networks.list(RG), **tags)
    ips = net.public_ip_addresses
    yield row("network", "ip", ips, RG, "front", listed=lambda: ips.list_all(), **tags)
    yield row("network", "lb", net.load_balancers, RG, "lb", listed=lambda: net.load_balancers.list(RG))
    yield row("network", "nic", net.network_interfaces, RG, "nic", listed=lambda: net.network_interfaces.list_all())
    profiles = to.traffic.profiles
    yield row(
        "trafficmanager", "traffic", profiles, RG, "front", create="create_or_update", update="update", delete="delete",
        listed=lambda: profiles.list_by_resource_group(RG),
    )  # fmt: skip


def _group(to: Clients) -> Row:
    groups = to.resource.resource_groups
    return Row(
        "azure-mgmt-resource", "Resources/resourceGroups",
        lambda: groups.create_or_update(RG, {"location": LOCATION}), lambda: groups.get(RG),
        lambda: groups.update(RG, {"tags": TOUCHED}), groups.list, lambda: done(groups.begin_delete(RG)),
        lambda found: found.tags == TOUCHED, GROUP,
    )  # fmt: skip


def _galleries(to: Clients) -> Iterator[Row]:
    """Two kinds that no program here declares: the sandbox has a gallery before any program runs."""
    galleries, images = to.compute.galleries, to.compute.gallery_images
    identity = f"{GROUP}/providers/Microsoft.Compute/galleries/mine"
    image = {"publisher": "FieldOps", "offer": "desk", "sku": "own"}
    own = located({"osType": "Linux", "osState": "Generalized", "identifier": image})
    yield Row(
        "azure-mgmt-compute", "Compute/galleries",
        lambda: done(galleries.begin_create_or_update(RG, "mine", located())), lambda: galleries.get(RG, "mine"),
        lambda: done(galleries.begin_update(RG, "mine", {"tags": TOUCHED})),
        lambda: galleries.list_by_resource_group(RG), lambda: done(galleries.begin_delete(RG, "mine")),
        lambda found: found.tags == TOUCHED, identity,
    )  # fmt: skip
    yield Row(
        "azure-mgmt-compute", "Compute/galleries/images",
        lambda: done(images.begin_create_or_update(RG, "mine", "own", own)), lambda: images.get(RG, "mine", "own"),
        lambda: done(images.begin_update(RG, "mine", "own", {"tags": TOUCHED})),
        lambda: images.list_by_gallery(RG, "mine"), lambda: done(images.begin_delete(RG, "mine", "own")),
        lambda found: found.tags == TOUCHED, f"{identity}/images/own",
    )  # fmt: skip


def _compute(to: Clients, row: Any) -> Iterator[Row]:
    compute, update = to.compute, {"update": "begin_update"}
    sets, machines = compute.virtual_machine_scale_sets, compute.virtual_machines
    yield row("compute", "vmss", sets, RG, "dev-blue", listed=lambda: sets.list(RG), **update)
    yield row("compute", "vm", machines, RG, "dev-vm-0", listed=lambda: machines.list_all(), **update)
    points = compute.restore_point_collections
    yield row(
        "compute", "points", points, RG, "points", create="create_or_update", update="update",
        listed=lambda: points.list(RG),
    )  # fmt: skip
    yield row(
        "compute", "point", compute.restore_points, RG, "points", "p", create="begin_create", update=None,
        listed=lambda: points.get(RG, "points", expand="restorePoints").restore_points,
    )  # fmt: skip
    yield row("compute", "snapshot", compute.snapshots, RG, "before", listed=lambda: compute.snapshots.list(), **update)
    yield row("compute", "disk", compute.disks, RG, "back", listed=lambda: compute.disks.list(), **update)


def _maintenance(to: Clients, row: Any, properties: Any) -> Iterator[Row]:
    client, plain = to.maintenance, {"create": "create_or_update", "delete": "delete"}
    configurations = client.maintenance_configurations
    yield row(
        "maintenance", "mc", configurations, RG, "weekly", update="update", model=maintenance.MaintenanceConfiguration,
        patch=maintenance.MaintenanceConfiguration(tags=TOUCHED), listed=lambda: configurations.list(), **plain,
    )  # fmt: skip
    second = f"{CONFIGURATION}-2"
    assigned = {
        "model": maintenance.ConfigurationAssignment, "change": properties(maintenanceConfigurationId=second),
        "seen": lambda found: found.maintenance_configuration_id == second.lower(),
    }  # fmt: skip
    everywhere = client.configuration_assignments_within_subscription
    yield row(
        "maintenance", "dynamic", client.configuration_assignments_for_resource_group, RG, "dynamic",
        listed=lambda: everywhere.list(), **plain, **assigned,
    )  # fmt: skip
    yield row(
        "maintenance", "everywhere", client.configuration_assignments_for_subscriptions, "everywhere",
        listed=lambda: everywhere.list(), **plain, **assigned,
    )  # fmt: skip
    machine = (RG, "Microsoft.Compute", "virtualMachines", "dev-vm-0")
    yield row(
        "maintenance", "on-vm", client.configuration_assignments, *machine, "a",
        listed=lambda: client.configuration_assignments.list(*machine), **plain, **assigned,
    )  # fmt: skip


def _monitor(to: Clients, row: Any, properties: Any) -> Iterator[Row]:
    workspaces, tables = to.logs.workspaces, to.logs.tables
    yield row("loganalytics", "logs", workspaces, RG, "logs", update="update", listed=lambda: workspaces.list())
    yield row(
        "loganalytics", "table", tables, RG, "logs", "Wave_CL", listed=lambda: tables.list_by_workspace(RG, "logs"),
        change=properties(totalRetentionInDays=90), seen=lambda found: found.total_retention_in_days == 90,
    )  # fmt: skip
    for name, group, create, models in (
        ("dce", "data_collection_endpoints", "create", ("DataCollectionEndpointResource", "ResourceForUpdate")),
        ("dcr", "data_collection_rules", "create", ("DataCollectionRuleResource", "ResourceForUpdate")),
        ("group", "action_groups", "create_or_update", ("ActionGroupResource", "ActionGroupPatchBody")),
        ("alert", "scheduled_query_rules", "create_or_update",
         ("ScheduledQueryRuleResource", "ScheduledQueryRuleResourcePatch")),
    ):  # fmt: skip
        made, patch = (getattr(monitor, model) for model in models)
        operations = getattr(to.monitor, group)
        yield row(
            "monitor", name, operations, RG, BODIES[name][0].rsplit("/", 1)[1], create=create, update="update",
            delete="delete", model=made, patch=patch(tags=TOUCHED),
            listed=lambda operations=operations: operations.list_by_resource_group(RG),
        )  # fmt: skip
    pages = to.insights.workbooks
    yield row(
        "applicationinsights", "workbook", pages, RG, BODIES["workbook"][0].rsplit("/", 1)[1],
        create="create_or_update", delete="delete", model=workbooks.Workbook,
        listed=lambda: pages.list_by_resource_group(RG, "workbook"),
    )  # fmt: skip
    roles, scope = to.access.role_assignments, GROUP.removeprefix("/")
    yield row(
        "authorization", "role", roles, scope, BODIES["role"][0].rsplit("/", 1)[1], create="create", update=None,
        delete="delete", model=access.RoleAssignmentCreateParameters,
        listed=lambda: roles.list_for_scope(scope, filter="atScope()"),
    )  # fmt: skip


def _events(to: Clients, row: Any, properties: Any) -> Iterator[Row]:
    topics, subscriptions = to.events.system_topics, to.events.system_topic_event_subscriptions
    yield row(
        "eventgrid", "topic", topics, RG, "windows", update="begin_update", model=events.SystemTopic,
        patch=events.SystemTopicUpdateParameters(tags=TOUCHED), listed=lambda: topics.list_by_resource_group(RG),
    )  # fmt: skip
    yield row(
        "eventgrid", "event", subscriptions, RG, "windows", "before", model=events.EventSubscription,
        listed=lambda: subscriptions.list_by_system_topic(RG, "windows"),
        change=properties(labels=["before"]), seen=lambda found: found.labels == ["before"],
    )  # fmt: skip


def _backup(to: Clients, row: Any, properties: Any) -> Iterator[Row]:
    vaults, policies, items = to.vaults.vaults, to.backup.protection_policies, to.backup.protected_items
    yield row(
        "recoveryservices", "vault", vaults, RG, "vault", update="begin_update",
        listed=lambda: vaults.list_by_resource_group(RG),
    )  # fmt: skip
    yield row(
        "recoveryservicesbackup", "policy", policies, "vault", RG, "daily", create="create_or_update",
        listed=lambda: to.backup.backup_policies.list("vault", RG), change=properties(instantRpRetentionRangeInDays=9),
        seen=lambda found: found.properties.instant_rp_retention_range_in_days == 9,
    )  # fmt: skip
    *_, container, _, item = BODIES["item"][0].split("/")
    yield row(
        "recoveryservicesbackup", "item", items, "vault", RG, "Azure", container, item, delete="delete",
        listed=lambda: to.backup.backup_protected_items.list("vault", RG),
        change=properties(policyId=f"{POLICY}-2"), seen=lambda found: found.properties.policy_id == f"{POLICY}-2",
    )  # fmt: skip


def _arc(to: Clients) -> Row:
    """An Arc machine is created by its agent; the client only finds it, tags it and removes it."""
    machines = to.hybrid.machines
    agent = to.endpoint.replace("https", "http").rsplit(":", 1)[0] + ":8080/sandbox/arc"
    return Row(
        "azure-mgmt-hybridcompute", "HybridCompute/machines",
        lambda: httpx.post(agent, json={"name": "site-0"}, trust_env=False).raise_for_status(),
        lambda: machines.get("sites", "site-0"), lambda: machines.update("sites", "site-0", {"tags": TOUCHED}),
        lambda: machines.list_by_resource_group("sites"), lambda: done(machines.begin_delete("sites", "site-0")),
        lambda found: found.tags == TOUCHED, ARC,
    )  # fmt: skip


def seconds(to: Clients, name: str) -> None:
    """What the update of a later row moves to."""
    if name.endswith("maintenanceConfigurations"):
        made = maintenance.MaintenanceConfiguration.deserialize(in_guest())
        to.maintenance.maintenance_configurations.create_or_update(RG, "weekly-2", made)
    if name.endswith("backupPolicies"):
        to.backup.protection_policies.create_or_update("vault", RG, "daily-2", weekly())


class Trial:
    """Every row made, read, updated and listed in order; later deleted in reverse."""

    def __init__(self, to: Clients) -> None:
        self.rows = list(rows(to))
        self.outcomes = [Outcome(row.name, row.package) for row in self.rows]
        for row, outcome in zip(self.rows, self.outcomes, strict=True):
            verbs: Mapping[str, Callable[[Row], Any] | None] = {
                "create": lambda row: row.create(), "read": _read, "update": _update if row.update else None,
                "list": _list,
            }  # fmt: skip
            for verb, do in verbs.items():
                outcome.verbs[verb] = _say(do, row)
            seconds(to, row.name)

    def end(self) -> None:
        for row, outcome in reversed(list(zip(self.rows, self.outcomes, strict=True))):
            outcome.verbs["delete"] = _say(_delete, row)

    @property
    def failures(self) -> list[str]:
        return [
            f"{one.package} {one.name}: {verb}: {shown}"
            for one in self.outcomes
            for verb, shown in one.verbs.items()
            if shown not in ("yes", "-")
        ]


def _say(do: Callable[[Row], Any] | None, row: Row) -> str:
    if do is None:
        return "-"
    try:
        do(row)
    except (HttpResponseError, AssertionError, ValueError, httpx.HTTPError) as error:
        return " ".join(str(error).split()) or repr(error)
    return "yes"


def _read(row: Row) -> None:
    found = row.read()
    assert found.id.lower() == row.id.lower(), f"read {found.id}"


def _update(row: Row) -> None:
    assert row.update is not None
    assert not row.seen(row.read()), "it was so before"
    row.update()
    assert row.seen(row.read()), "the update is not seen"


def _list(row: Row) -> None:
    ids = [found.id.lower() for found in row.listed()]
    assert ids.count(row.id.lower()) == 1, f"listed {ids}"


def _delete(row: Row) -> None:
    row.delete()
    with contextlib.suppress(ResourceNotFoundError):
        raise AssertionError(f"{row.read().id} is still there")


def code(call: Callable[[], Any]) -> str:
    """Azure's code for a call that is refused."""
    try:
        done(call())
    except HttpResponseError as error:
        return str(error.error.code if error.error else error.message)
    return "admitted"


def refusals(to: Clients) -> dict[str, tuple[str, Callable[[], Any]]]:
    """What Azure refuses when every row is made: the code, and the call that gets it."""

    def body(name: str, **more: Json) -> Json:
        made = BODIES[name][2]()
        return {**made, "properties": {**made["properties"], **more}}

    def machine() -> Json:
        made = body("vm")
        made["properties"]["osProfile"]["computerName"] = "other"
        return made

    def monthly() -> Any:
        window = {**in_guest()["properties"]["maintenanceWindow"], "recurEvery": "Month"}
        made = maintenance.MaintenanceConfiguration.deserialize(body("mc", maintenanceWindow=window))
        return to.maintenance.maintenance_configurations.create_or_update(RG, "monthly", made)

    def blind() -> Any:
        made = body("vmss")
        del made["properties"]["virtualMachineProfile"]["extensionProfile"]
        return sets.begin_create_or_update(RG, "blind", made)

    def stranger() -> Any:
        given = body("role", roleDefinitionId=f"{ROOT}/providers/Microsoft.Authorization/roleDefinitions/{GUID}")
        made = access.RoleAssignmentCreateParameters.deserialize(given)
        return to.access.role_assignments.create(GROUP.removeprefix("/"), READER, made)

    def tableless() -> Any:
        flow = {"streams": ["Custom-Wave"], "destinations": ["logs"], "outputStream": "Custom-None_CL"}
        made = monitor.DataCollectionRuleResource.deserialize(body("dcr", dataFlows=[flow]))
        return to.monitor.data_collection_rules.create(RG, "tableless", made)

    def shapeless() -> Any:
        made = body("dcr")
        made["properties"]["dataFlows"][0]["transformKql"] = "source | where Nowhere != ''"
        return to.monitor.data_collection_rules.create(
            RG, "shapeless", monitor.DataCollectionRuleResource.deserialize(made)
        )

    def blindfolded() -> Any:
        made = body("alert")
        made["properties"]["criteria"]["allOf"][0]["query"] = "Wave_CL | where Nowhere != ''"
        rule = monitor.ScheduledQueryRuleResource.deserialize(made)
        return to.monitor.scheduled_query_rules.create_or_update(RG, "blindfolded", rule)

    def elsewhere() -> Any:
        made = monitor.ActionGroupResource.deserialize(body("group") | {"location": LOCATION})
        return to.monitor.action_groups.create_or_update(RG, "elsewhere", made)

    def heavy() -> Any:
        made = body("traffic")
        made["properties"]["dnsConfig"]["relativeName"] = "heavy"
        made["properties"]["endpoints"][0]["properties"]["weight"] = 1001
        return to.traffic.profiles.create_or_update(RG, "heavy", made)

    sets, machines, net = to.compute.virtual_machine_scale_sets, to.compute.virtual_machines, to.network
    topic = events.SystemTopic.deserialize(BODIES["topic"][2]())
    short = body("policy", instantRpRetentionRangeInDays=31)
    return {
        "a group that is not there": ("ResourceGroupNotFound", lambda: machines.get("nowhere", "x")),
        "a machine that is not there": ("ResourceNotFound", lambda: machines.get(RG, "x")),
        "a type that nobody knows": (
            "InvalidResourceNamespace",
            lambda: to.resource.resources.get_by_id(f"{GROUP}/providers/Contoso.Things/x/y", api_version="2024-01-01"),
        ),
        "a property that nobody knows": (
            "InvalidRequestContent", lambda: machines.begin_create_or_update(RG, "dev-vm-0", body("vm", color="red")),
        ),
        "a monthly window without its day": ("InvalidMaintenanceWindow", monthly),
        "a rolling scale set without health": ("BadRequest", blind),
        "another computer name": (
            "PropertyChangeNotAllowed", lambda: machines.begin_create_or_update(RG, "dev-vm-0", machine()),
        ),
        "another source of a snapshot": (
            "PropertyChangeNotAllowed",
            lambda: to.compute.snapshots.begin_create_or_update(RG, "before", snapshot(BODIES["disk"][0])),
        ),
        "an attached disk deleted": (
            "OperationNotAllowed", lambda: to.compute.disks.begin_delete(RG, DISK.rsplit("/", 1)[1]),
        ),
        "a used interface deleted": ("NicInUse", lambda: net.network_interfaces.begin_delete(RG, "nic")),
        "a used address deleted": (
            "PublicIPAddressCannotBeDeleted", lambda: net.public_ip_addresses.begin_delete(RG, "front"),
        ),
        "a pool with members left out": (
            "InUseBackendAddressPoolCannotBeDeleted",
            lambda: net.load_balancers.begin_create_or_update(
                RG, "lb", body("lb", backendAddressPools=[{"name": "green"}], loadBalancingRules=[])
            ),
        ),
        "a network with machines deleted": (
            "InUseSubnetCannotBeDeleted", lambda: net.virtual_networks.begin_delete(RG, "net"),
        ),
        "a role that is none": ("RoleDefinitionDoesNotExist", stranger),
        "a second topic of one source": (
            "InvalidRequest", lambda: to.events.system_topics.begin_create_or_update(RG, "second", topic),
        ),
        "a rule whose table is not there": ("InvalidPayload", tableless),
        "an action group in a region": ("LocationNotAvailableForResourceType", elsewhere),
        "a backup policy out of bounds": (
            "BMSUserErrorInvalidPolicyInput",
            lambda: to.backup.protection_policies.create_or_update("vault", RG, "long", short),
        ),
        "a policy that protects deleted": (
            "BMSUserErrorPolicyInUse", lambda: to.backup.protection_policies.begin_delete("vault", RG, "daily-2"),
        ),
        "a vault with items deleted": (
            "ServiceResourceNotEmptyWithContainerDetails", lambda: to.vaults.vaults.begin_delete(RG, "vault"),
        ),
        "a weight of 1001": ("BadRequest", heavy),
        "an alert over a column that is not there": ("BadRequest", blindfolded),
        "a transformation of such a column": ("InvalidPayload", shapeless),
        "an installation that is silent about reboots": (
            "InvalidParameter", lambda: machines.begin_install_patches(RG, "dev-vm-0", {"maximumDuration": "PT1H"}),
        ),
    }  # fmt: skip


def table(outcomes: list[Outcome]) -> str:
    """The table as text."""
    width = max(len(one.name) for one in outcomes)
    lines = [f"{'type':<{width}}  " + "  ".join(f"{verb:<6}" for verb in VERBS) + "  client"]
    for one in outcomes:
        cells = "  ".join(f"{one.verbs[verb]:<6}" for verb in VERBS)
        lines.append(f"{one.name:<{width}}  {cells}  {one.package}")
    return "\n".join(lines)


def main() -> int:
    with endpoints() as (sandbox, _, _), Clients(sandbox.endpoint) as to:
        trial = Trial(to)
        found = {what: code(call) for what, (_, call) in refusals(to).items()}
        trial.end()
    print(table(trial.outcomes), "", *(f"{shown:<46}{what}" for what, shown in found.items()), sep="\n")
    return int(bool(trial.failures))


if __name__ == "__main__":
    sys.exit(main())
