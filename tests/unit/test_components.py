"""What single decisions declare: each optional section, what it brings, and what it must never bring."""

import uuid
from collections import Counter
from collections.abc import Sequence

import pytest

from components import access, roles
from components.maintenance import updates
from patchwave.config.settings import STACKS
from patchwave.config.standard import Reversibility
from patchwave.releases.release import Release
from tests.unit.builders import release, settings
from tests.unit.engine import GROUP, Declared, declare_stack
from tests.unit.service_settings_cases import BACKUP, GATEWAY, REPAIRS, TRAFFIC, UPGRADE, WEBHOOK

RUNNER = {"runner": {"principal_id": "8f2d1c4a-6c1b-4a3d-b0d7-2e9a54c3f6b8"}}


def of(declared: Sequence[Declared], kind: str) -> list[Declared]:
    return [one for one in declared if one.type.endswith(f":{kind}")]


def brought(change: dict[str, object]) -> Counter[str]:
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
    assert assigned == {"dev-blue-vmss", "dev-green-vmss"}  # the mock names a resource as the program does


def test_instances_are_repaired_only_where_that_is_decided_and_the_runner_may_hold_it_off() -> None:
    policies = [
        one.props["automaticRepairsPolicy"]
        for change in ({}, REPAIRS)
        for one in of(declare_stack("dev", change=change), "VirtualMachineScaleSet")
    ]
    decided = {"enabled": True, "gracePeriod": "PT30M", "repairAction": "Restart"}
    assert policies == [{"enabled": False}, {"enabled": False}, decided, decided]
    assert (
        brought(RUNNER | REPAIRS)["authorization:RoleAssignment"] - brought(RUNNER)["authorization:RoleAssignment"] == 2
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
    declared = declare_stack("dev", change=WEBHOOK | {"calendar.windows.1": evening, "maintenance.assigned": [GATEWAY]})
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
    declared = declare_stack("dev", change=BACKUP | {"machines.instances": 3})
    items = of(declared, "ProtectedItem")
    assert {item.props["properties"]["sourceResourceId"] for item in items} == {
        f"{GROUP}/rg/providers/x/{machine.name}" for machine in of(declared, "VirtualMachine")
    }
    assert len({item.props["protectedItemName"] for item in items}) == 3


def test_deleted_backups_are_kept_unless_the_stack_says_none_are() -> None:
    states = []
    for days in (14, None):
        (vault,) = of(declare_stack("dev", change=BACKUP | {"backup.soft_delete_days": days}), "Vault")
        states.append(vault.props["properties"]["securitySettings"]["softDeleteSettings"]["softDeleteState"])
    assert states == ["Enabled", "Disabled"]


def test_weight_zero_disables_a_slot_and_keeps_a_legal_weight() -> None:
    declared = declare_stack("dev", change=TRAFFIC | {"slots.traffic_manager.weights.green": 0})
    (profile,) = of(declared, "Profile")
    endpoints = {one["name"]: (one["endpointStatus"], one["weight"]) for one in profile.props["endpoints"]}
    assert endpoints == {"blue": ("Enabled", 900), "green": ("Disabled", 1)}


@pytest.mark.parametrize("change", [{}, {"slots.live": "green"}, TRAFFIC])
def test_no_two_rules_share_a_pool_or_a_front(change: dict[str, object]) -> None:
    (balancer,) = of(declare_stack("dev", change=change), "LoadBalancer")
    rules = balancer.props["loadBalancingRules"]
    for end in ("backendAddressPool", "frontendIPConfiguration"):
        assert len({rule[end]["id"] for rule in rules}) == len(rules)


def test_an_endpoint_of_traffic_manager_has_a_dns_name() -> None:
    declared = declare_stack("dev", change=TRAFFIC)
    labels = {d.props["dnsSettings"]["domainNameLabel"] for d in of(declared, "PublicIPAddress")}
    assert labels == {"desk-blue", "desk-green"}


@pytest.mark.parametrize("way_back", ["snapshot", "disk_snapshot", "downgrade"])
def test_the_runner_gets_no_role_above_a_group_and_what_its_way_back_needs(way_back: str) -> None:
    declared = declare_stack("dev", change=RUNNER | {"fleets.machines.way_back": way_back})
    given = [(d.props["scope"], d.props["roleDefinitionId"].rsplit("/", 1)[1]) for d in of(declared, "RoleAssignment")]
    assert all("/resourceGroups/" in scope for scope, _ in given)
    assert len(set(given)) == len(given)
    groups = {role for scope, role in given if scope.endswith(("dev-group", "/sites"))}
    wide = {roles.READER.id, roles.PATCHING_CONTRIBUTOR.id}
    narrow = {
        "snapshot": {roles.DISK_RESTORER.id},
        "disk_snapshot": {roles.DISK_RESTORER.id, roles.SNAPSHOT_CONTRIBUTOR.id},
        "downgrade": set(),
    }
    assert groups == wide | narrow[way_back]
    single = {(scope.rsplit("/", 1)[1], role) for scope, role in given if not scope.endswith(("dev-group", "/sites"))}
    machine = {("dev-vm-0-machine", roles.MACHINE_CONTRIBUTOR.id)} if way_back != "downgrade" else set()
    points = {("dev-snapshots-dev-vm-0", roles.CONTRIBUTOR.id)} if way_back == "snapshot" else set()
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


def test_a_release_narrows_update_manager_to_what_goes_back_by_downgrade() -> None:
    sealed = release()
    (package,) = sealed.packages
    dumped: Reversibility = "dump"
    twice = sealed.model_copy(
        update={"packages": (package, package.model_copy(update={"name": "postgresql-15", "reversibility": dumped}))}
    )
    decisions = settings("prod").maintenance
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
    linux = updates(settings("prod").maintenance, sealed, ["openssl", "nginx-*"])["linux_parameters"]
    assert isinstance(linux, dict)
    assert linux["package_name_masks_to_exclude"] == sorted(["openssl", "nginx-*"])


@pytest.mark.parametrize("stack", STACKS)
def test_more_instances_are_no_more_resources(stack: str) -> None:
    few, many = (len(declare_stack(stack, change={"slots.instances": count})) for count in (3, 100))
    assert few == many


def test_every_receiver_is_told() -> None:
    alerts = settings("prod").alerts
    (group,) = of(declare_stack("prod"), "ActionGroup")
    found = [group.props[f"{kind}Receivers"] for kind in ("email", "sms", "webhook")]
    assert [len(one) for one in found] == [len(alerts.emails), len(alerts.sms), len(alerts.webhooks)]
    assert group.props["smsReceivers"][0]["phoneNumber"] == alerts.sms[0].number
