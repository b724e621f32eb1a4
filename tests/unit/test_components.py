"""What single decisions declare: each optional section, what it brings, and what it must never bring."""

import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pulumi_azure_native as azure
import pytest

from components import access, roles
from components.maintenance import updates
from patchwave.config.settings.maintenance import Maintenance
from patchwave.config.standard import Reversibility
from patchwave.releases.release import Release
from tests.unit.builders import release, settings
from tests.unit.changes import Change
from tests.unit.engine import GROUP, Declared, declare_stack

SUBSCRIPTION = "00000000-0000-4000-8000-00000000000a"
ELSEWHERE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/shop"
WEB = "fleets.web.hosts"
RUNNER: Change = {"runner": {"principal_id": "8f2d1c4a-6c1b-4a3d-b0d7-2e9a54c3f6b8"}}
WINDOW = {
    "recurrence": {"every": "week", "weekdays": ["Saturday"]},
    "starts": "09:00",
    "duration": "PT5H",
    "zone": "Etc/UTC",
}
UPGRADE: Change = {f"{WEB}.image.version": "latest", f"{WEB}.image_upgrade": {"defer": True, "window": WINDOW}}
REPAIRS: Change = {f"{WEB}.repairs": {"grace": "PT30M", "action": "Restart"}}
BACKUP: Change = {"backup": {"at": "22:00", "zone": "Etc/UTC", "instant_days": 5, "days": 30, "soft_delete_days": 14}}
TRAFFIC: Change = {
    f"{WEB}.traffic_manager": {"dns_name": "desk", "ttl": "PT30S", "weights": {"blue": 900, "green": 100}}
}
WEBHOOK: Change = {"maintenance.events": {"kind": "webhook", "url": "https://example.com/maintenance"}}
GATEWAY = {"ring": "rest", "source": "arc", "resource_group": "plant", "name": "gateway-0"}
EXISTING = {
    "shop": {
        "service": "desk",
        "method": "apt",
        "hosts": {"source": "scale_set", "ids": [f"{ELSEWHERE}/providers/Microsoft.Compute/virtualMachineScaleSets/s"]},
    },
    "sites": {"service": "desk", "method": "apt", "hosts": {"source": "arc", "tags": {"site": "north"}}},
}
LEFT: Change = {
    "fleets.machines": {
        "service": "desk",
        "method": "update_manager",
        "hosts": {
            "source": "machines",
            "instances": 3,
            "size": "Standard_B2s",
            "image": {
                "kind": "marketplace",
                "publisher": "Debian",
                "offer": "debian-12",
                "sku": "12",
                "version": "latest",
            },
        },
    },
    "fleets.sites.method": "update_manager",
}


def of(declared: Sequence[Declared], kind: str) -> list[Declared]:
    return [one for one in declared if one.type.endswith(f":{kind}")]


def brought(change: Change) -> Counter[str]:
    """How many resources of each type a change of the dev stack adds."""
    before, after = (Counter(d.type.split(":", 1)[1] for d in declare_stack("dev", change=c)) for c in ({}, change))
    return after - before


def test_without_its_optional_sections_a_stack_declares_none_of_them() -> None:
    kinds = {d.type for d in declare_stack("dev")}
    for kind in ("eventgrid", "recoveryservices", "trafficmanager", "authorization"):
        assert not [one for one in kinds if kind in one]


def test_images_upgrade_themselves_only_where_that_is_decided() -> None:
    for scale_set in of(declare_stack("dev"), "VirtualMachineScaleSet"):
        assert scale_set.props["upgradePolicy"]["automaticOSUpgradePolicy"]["enableAutomaticOSUpgrade"] is False
    declared = declare_stack("dev", change=UPGRADE)
    for scale_set in of(declared, "VirtualMachineScaleSet"):
        policy = scale_set.props["upgradePolicy"]["automaticOSUpgradePolicy"]
        assert policy["enableAutomaticOSUpgrade"]
        assert policy["osRollingUpgradeDeferral"]
    (window,) = [d for d in of(declared, "MaintenanceConfiguration") if d.props["maintenanceScope"] == "OSImage"]
    assert (window.props["duration"], window.props["recurEvery"]) == ("05:00", "1Week Saturday")
    assigned = {d.props["resourceName"] for d in of(declared, "ConfigurationAssignment")}
    assert assigned == {"dev-web-blue-vmss", "dev-web-green-vmss"}  # the mock names a resource as the program does


def test_instances_are_repaired_only_where_that_is_decided_and_the_runner_may_hold_it_off() -> None:
    policies = [
        one.props["automaticRepairsPolicy"]
        for change in ({}, REPAIRS)
        for one in of(declare_stack("dev", change=change), "VirtualMachineScaleSet")
    ]
    decided = {"enabled": True, "gracePeriod": "PT30M", "repairAction": "Restart"}
    assert policies == [{"enabled": False}, {"enabled": False}, decided, decided]
    assert (
        brought({**RUNNER, **REPAIRS})["authorization:RoleAssignment"] - brought(RUNNER)["authorization:RoleAssignment"]
        == 2
    )


def test_each_rings_schedule_has_one_topic_and_one_subscription() -> None:
    assert brought(WEBHOOK) == {
        "index:Events": 1,
        "eventgrid:SystemTopic": 2,
        "eventgrid:SystemTopicEventSubscription": 2,
    }
    topics = of(declare_stack("dev", change=WEBHOOK), "SystemTopic")
    assert len({topic.props["source"] for topic in topics}) == len(topics)


def test_a_ring_has_a_schedule_for_each_of_the_calendars_windows() -> None:
    evening = {
        "recurrence": {"every": "week", "weekdays": ["Friday"]},
        "starts": "20:00",
        "duration": "PT2H",
        "zone": "Etc/UTC",
    }
    declared = declare_stack(
        "dev", change={**WEBHOOK, "calendar.windows.1": evening, "maintenance.assigned": [GATEWAY]}
    )
    found = {d.props["resourceName"]: d.props["startDateTime"][-5:] for d in of(declared, "MaintenanceConfiguration")}
    names = {"canary": "09:00", "canary-2": "20:00", "rest": "09:30", "rest-2": "20:30"}
    assert found == {f"dev-maintenance-{name}": starts for name, starts in names.items()}
    assert len({d.props["systemTopicName"] for d in of(declared, "SystemTopic")}) == 4
    assert len(of(declared, "ConfigurationAssignment")) == 2


def test_a_named_machine_is_assigned_to_its_ring() -> None:
    change = {"maintenance.assigned": [GATEWAY]}
    assert brought(change) == {"maintenance:ConfigurationAssignment": 1}
    (assigned,) = of(declare_stack("dev", change=change), "ConfigurationAssignment")
    assert assigned.props["maintenanceConfigurationId"].endswith("/dev-maintenance-rest")
    assert (assigned.props["resourceGroupName"], assigned.props["resourceName"]) == ("plant", "gateway-0")


def test_every_machine_that_stands_alone_is_backed_up() -> None:
    declared = declare_stack("dev", change={**BACKUP, "fleets.machines.hosts.instances": 3})
    items = of(declared, "ProtectedItem")
    assert {item.props["properties"]["sourceResourceId"] for item in items} == {
        f"{GROUP}/rg/providers/x/{machine.name}" for machine in of(declared, "VirtualMachine")
    }
    assert len({item.props["protectedItemName"] for item in items}) == 3


def test_deleted_backups_are_kept_unless_the_stack_says_none_are() -> None:
    states = []
    for days in (14, None):
        (vault,) = of(declare_stack("dev", change={**BACKUP, "backup.soft_delete_days": days}), "Vault")
        states.append(vault.props["properties"]["securitySettings"]["softDeleteSettings"]["softDeleteState"])
    assert states == ["Enabled", "Disabled"]


def test_weight_zero_disables_a_slot_and_keeps_a_legal_weight() -> None:
    declared = declare_stack("dev", change={**TRAFFIC, f"{WEB}.traffic_manager.weights.green": 0})
    (profile,) = of(declared, "Profile")
    endpoints = {one["name"]: (one["endpointStatus"], one["weight"]) for one in profile.props["endpoints"]}
    assert endpoints == {"blue": ("Enabled", 900), "green": ("Disabled", 1)}


PORTS: Change = {f"{WEB}.balancer.ports": [{"port": 80, "to": 80}, {"port": 443, "to": 8443}]}


@pytest.mark.parametrize("change", [{}, {f"{WEB}.live": "green"}, TRAFFIC, PORTS, {**TRAFFIC, **PORTS}])
def test_no_two_rules_share_a_port_of_a_pool_or_of_a_front(change: Change) -> None:
    (balancer,) = of(declare_stack("dev", change=change), "LoadBalancer")
    rules = balancer.props["loadBalancingRules"]
    for end, port in (("backendAddressPool", "backendPort"), ("frontendIPConfiguration", "frontendPort")):
        assert len({(rule[end]["id"], rule[port]) for rule in rules}) == len(rules)


@pytest.mark.parametrize(
    ("probe", "balancer", "extension"),
    [
        ({"protocol": "tcp", "path": ..., "rich": False}, ("Tcp", None), ("tcp", None, "1.0")),
        ({"protocol": "https", "port": 8443}, ("Https", "/healthz"), ("https", "/healthz", "2.0")),
        ({"rich": False}, ("Http", "/healthz"), ("http", "/healthz", "1.0")),
    ],
)
def test_the_balancer_the_extension_and_users_ask_by_the_same_probe(
    probe: Change, balancer: tuple[str, str | None], extension: tuple[str, str | None, str]
) -> None:
    declared = declare_stack(
        "dev", change={**PORTS, **{f"{WEB}.balancer.probe.{key}": it for key, it in probe.items()}}
    )
    (wanted,) = of(declared, "LoadBalancer")[0].props["probes"]
    assert (wanted["protocol"], wanted.get("requestPath")) == balancer
    profile = of(declared, "VirtualMachineScaleSet")[0].props["virtualMachineProfile"]
    (health,) = profile["extensionProfile"]["extensions"]
    found = health["settings"]
    assert (found["protocol"], found.get("requestPath"), health["typeHandlerVersion"]) == extension


def test_each_fleet_has_a_balancer_of_its_own_and_its_service_on_its_hosts() -> None:
    shop = {"service": "shop", "method": "apt", "hosts": settings().fleets["web"].hosts.model_dump(mode="json")}
    service = {
        "traffic": {"driver": "balancer", "port": 80, "settle": "PT1M"},
        "health": {"checks": [{"driver": "tcp", "port": 80}]},
    }
    declared = declare_stack("dev", change={"services.shop": service, "fleets.shop": shop, **RUNNER})
    balancers = {one.name for one in of(declared, "LoadBalancer")}
    assert balancers == {"dev-web-balancer", "dev-shop-balancer"}
    tags = {one.props["vmScaleSetName"]: one.props["tags"] for one in of(declared, "VirtualMachineScaleSet")}
    assert tags["dev-shop-green"]["patchwave-service"] == "shop"
    assert tags["dev-web-green"]["patchwave-service"] == "desk"
    drained = [one for one in of(declared, "RoleAssignment") if roles.NETWORK_CONTRIBUTOR.id in str(one.props)]
    assert [one.props["scope"].rsplit("/", 1)[1] for one in drained] == ["dev-shop-balancer"]


@pytest.mark.parametrize(("autoscaled", "ignored"), [(True, ["sku.capacity"]), (False, None)])
def test_only_a_capacity_that_is_scaled_by_somebody_else_is_left_alone(
    autoscaled: bool, ignored: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    registered = azure.compute.VirtualMachineScaleSet.__init__

    def keep(self: object, name: str, *args: Any, opts: Any, **properties: Any) -> None:
        seen.append(opts.ignore_changes)
        registered(self, name, *args, opts=opts, **properties)  # type: ignore[call-overload]  # the SDK's own signature

    monkeypatch.setattr(azure.compute.VirtualMachineScaleSet, "__init__", keep)
    declare_stack("dev", change={f"{WEB}.autoscaled": autoscaled})
    assert seen == [ignored, ignored]


def only_existing(*also: str) -> Change:
    """The dev stack with hosts that exist, and of what it declares beside them only these sections."""
    sections = {"network", "administrators", "maintenance", "snapshots", "alerts"} - set(also)
    idle = [f"services.{name}" for name in settings().services if name != "desk"]
    gates: Change = {"services.desk.gates.0.url": "https://desk.example.com/"}
    return {"fleets": EXISTING, **gates, **dict.fromkeys([*sections, *idle], ...)}


def test_nothing_is_declared_for_hosts_that_exist() -> None:
    declared = declare_stack("dev", change=only_existing())
    assert [one.type for one in declared if not one.type.startswith("pulumi:")] == ["patchwave:index:Stack"]


def test_the_runner_reads_the_named_groups_of_existing_hosts() -> None:
    declared = declare_stack("dev", change={**only_existing(), **RUNNER})
    scopes = {one.props["scope"].removeprefix(GROUP) for one in of(declared, "RoleAssignment")}
    assert scopes == {"/rg/providers/x/dev-group", ELSEWHERE}


def test_what_is_there_already_is_used_and_not_made() -> None:
    subnet = f"{ELSEWHERE}/providers/Microsoft.Network/virtualNetworks/shop/subnets/hosts"
    naming = {"prefix": "shop", "resource_group": "shop", "resource_group_exists": True}
    declared = declare_stack("dev", change={"network": {"subnet_id": subnet}, "naming": naming})
    assert not [*of(declared, "ResourceGroup"), *of(declared, "VirtualNetwork")]
    (nic,) = of(declared, "NetworkInterface")
    assert nic.props["ipConfigurations"][0]["subnet"]["id"] == subnet
    assert {one.props["resourceGroupName"] for one in declared if "resourceGroupName" in one.props} == {"shop"}
    assert {one.name for one in declared if not one.name.startswith("shop")} <= {"dev", "patchwave-dev"}


def test_a_created_subnet_goes_out_by_the_gateway_that_is_named() -> None:
    gateway = f"{ELSEWHERE}/providers/Microsoft.Network/natGateways/out"
    (network,) = of(declare_stack("dev", change={"network.nat_gateway_id": gateway}), "VirtualNetwork")
    assert network.props["subnets"][0]["natGateway"] == {"id": gateway}


def test_images_come_from_another_subscription_or_from_the_marketplace_with_its_plan() -> None:
    image = {"kind": "marketplace", "publisher": "p", "offer": "o", "sku": "s", "version": "1.2.3", "plan": True}
    change: Change = {"fleets.machines.hosts.image": image, f"{WEB}.image.subscription": SUBSCRIPTION}
    declared = declare_stack("dev", change=change)
    (machine,) = of(declared, "VirtualMachine")
    assert machine.props["plan"] == {"publisher": "p", "product": "o", "name": "s"}
    assert machine.props["storageProfile"]["imageReference"]["sku"] == "s"
    profile = of(declared, "VirtualMachineScaleSet")[0].props["virtualMachineProfile"]
    assert profile["storageProfile"]["imageReference"]["id"].startswith(f"/subscriptions/{SUBSCRIPTION}/")


def test_schedules_select_the_fleets_left_to_update_manager_by_ring_and_no_other() -> None:
    assert not of(declare_stack("dev"), "ConfigurationAssignmentsForResourceGroup")
    declared = declare_stack("dev", change=LEFT)
    found = {
        one.name.removeprefix("dev-maintenance-"): one.props["filter"]["tagSettings"]["tags"]
        for one in of(declared, "ConfigurationAssignmentsForResourceGroup")
    }
    mine, theirs = {"patchwave-stack": ["dev"], "patchwave-fleet": ["machines"]}, {"patchwave-stack": ["dev"]}
    assert found == {
        f"{ring}-{fleet}": {**tags, "patchwave-ring": [ring]}
        for ring in ("canary", "rest")
        for fleet, tags in (("machines", mine), ("sites", theirs))
    }
    rings = {one.props["vmName"]: one.props["tags"]["patchwave-ring"] for one in of(declared, "VirtualMachine")}
    assert rings == {"dev-machines-0": "canary", "dev-machines-1": "rest", "dev-machines-2": "rest"}


def test_a_fleet_of_one_ring_needs_no_ring_tag_and_one_without_groups_is_found_everywhere() -> None:
    change = {
        **LEFT,
        "fleets.sites.rings": [{"name": "rest", "hosts": "rest", "batch": 9}],
        "fleets.sites.hosts.resource_groups": ...,
    }
    (everywhere,) = of(declare_stack("dev", change=change), "ConfigurationAssignmentsForSubscription")
    assert everywhere.name == "dev-maintenance-rest-sites"
    assert everywhere.props["filter"]["tagSettings"]["tags"] == {"patchwave-stack": ["dev"]}


def test_an_endpoint_of_traffic_manager_has_a_dns_name() -> None:
    declared = declare_stack("dev", change=TRAFFIC)
    labels = {d.props["dnsSettings"]["domainNameLabel"] for d in of(declared, "PublicIPAddress")}
    assert labels == {"desk-blue", "desk-green"}


@pytest.mark.parametrize("rollback", ["restore_point", "disk_snapshot", "downgrade"])
def test_the_runner_gets_no_role_above_a_group_and_what_its_rollback_needs(rollback: str) -> None:
    declared = declare_stack("dev", change={**RUNNER, "fleets.machines.rollback": rollback})
    given = [(d.props["scope"], d.props["roleDefinitionId"].rsplit("/", 1)[1]) for d in of(declared, "RoleAssignment")]
    assert all("/resourceGroups/" in scope for scope, _ in given)
    assert len(set(given)) == len(given)
    groups = {role for scope, role in given if scope.endswith(("dev-group", "/sites"))}
    wide = {roles.READER.id, roles.PATCHING_CONTRIBUTOR.id}
    narrow = {
        "restore_point": {roles.DISK_RESTORER.id},
        "disk_snapshot": {roles.DISK_RESTORER.id, roles.SNAPSHOT_CONTRIBUTOR.id},
        "downgrade": set(),
    }
    assert groups == wide | narrow[rollback]
    single = {(scope.rsplit("/", 1)[1], role) for scope, role in given if not scope.endswith(("dev-group", "/sites"))}
    machine = {("dev-machines-0-machine", roles.MACHINE_CONTRIBUTOR.id)} if rollback != "downgrade" else set()
    points = {("dev-snapshots-dev-machines-0", roles.CONTRIBUTOR.id)} if rollback == "restore_point" else set()
    assert single == {("dev-alerts-rule", roles.METRICS_PUBLISHER.id)} | machine | points


def test_role_assignments_keep_their_names_and_change_them_with_the_principal() -> None:
    other = {"runner": {"principal_id": "00000000-0000-4000-8000-00000000000f"}}
    names = [
        {d.props["roleAssignmentName"] for d in of(declare_stack("dev", change=change), "RoleAssignment")}
        for change in (RUNNER, RUNNER, other)
    ]
    assert names[0] == names[1]
    assert not names[0] & names[2]
    assert all(uuid.UUID(name).version == 5 for name in names[0])
    assert access.NAMESPACE.version == 5


def maintenance() -> Maintenance:
    found = settings("prod").maintenance
    assert found is not None
    return found


def test_a_release_narrows_update_manager_to_what_goes_back_by_downgrade() -> None:
    sealed = release()
    (package,) = sealed.packages
    dumped: Reversibility = "dump"
    twice = sealed.model_copy(
        update={"packages": (package, package.model_copy(update={"name": "postgresql-15", "reversibility": dumped}))}
    )
    decisions = maintenance()
    linux = updates(decisions, twice, ())["linux_parameters"]
    assert linux == {
        "classifications_to_include": [],
        "package_name_masks_to_include": ["openssl"],
        "package_name_masks_to_exclude": ["postgresql-15"],
    }
    assert updates(decisions, None, ())["linux_parameters"] == {"classifications_to_include": list(decisions.linux)}
    assert "windows_parameters" in updates(decisions, twice, ())


@pytest.mark.parametrize("sealed", [None, release()])
def test_what_is_waived_is_excluded_with_and_without_a_release(sealed: Release | None) -> None:
    linux = updates(maintenance(), sealed, ["openssl", "nginx-*"])["linux_parameters"]
    assert isinstance(linux, dict)
    assert linux["package_name_masks_to_exclude"] == sorted(["openssl", "nginx-*"])


def test_more_instances_are_no_more_resources() -> None:
    few, many = (len(declare_stack("prod", change={f"{WEB}.instances": count})) for count in (3, 100))
    assert few == many


def test_every_receiver_gets_alerts() -> None:
    alerts = settings("prod").alerts
    assert alerts is not None
    (group,) = of(declare_stack("prod"), "ActionGroup")
    found = [group.props[f"{kind}Receivers"] for kind in ("email", "sms", "webhook")]
    assert [len(one) for one in found] == [len(alerts.emails), len(alerts.sms), len(alerts.webhooks)]
    assert group.props["smsReceivers"][0]["phoneNumber"] == alerts.sms[0].number
