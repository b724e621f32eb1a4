"""What the endpoint does with single kinds: what is deleted with what, what stays, how it is spelt and waited for."""

import json
from collections.abc import Iterator

import pytest

from .azure_bodies import (
    BODIES,
    CONFIGURATION,
    DISK,
    DYNAMIC,
    ITEM,
    POLICY,
    READER,
    ROLES,
    SNAPSHOT,
    VAULT,
    assigned,
    in_guest,
    item,
    named_address,
    policy,
    profile,
    role,
    scheduled_machine,
    snapshot,
    subscription,
    topic,
    vault,
)
from .azure_emulator import (
    ADDRESS,
    GROUP,
    LOCATION,
    MACHINE,
    ROOT,
    Emulator,
    compute,
    declare,
    emulator,
    located,
    network,
)


@pytest.fixture
def azure() -> Iterator[Emulator]:
    with emulator() as made:
        declare(made, machines=False)
        yield made


@pytest.fixture
def protected(azure: Emulator) -> Emulator:
    """A machine in a vault whose soft delete is on, as it is unless somebody turns it off."""
    azure.put(MACHINE, scheduled_machine())
    azure.put(VAULT, located(sku={"name": "RS0"}))
    azure.put(POLICY, policy())
    azure.put(ITEM, item())
    return azure


def missing(azure: Emulator, path: str) -> bool:
    return azure.ask("GET", path).status_code == 404


# Recovery Services


def test_a_vault_goes_only_when_nothing_is_protected_in_it(protected: Emulator) -> None:
    assert protected.refused("DELETE", VAULT) == (409, "ServiceResourceNotEmptyWithContainerDetails")
    assert protected.refused("DELETE", POLICY) == (400, "BMSUserErrorPolicyInUse")
    assert protected.refused("DELETE", GROUP) == (409, "ResourceGroupDeletionBlocked")


def test_a_deleted_item_stays_in_a_vault_with_soft_delete_and_blocks_it(protected: Emulator) -> None:
    assert protected.ask("DELETE", ITEM).status_code == 202
    kept = protected.ask("GET", ITEM).json()["properties"]
    assert (kept["isScheduledForDeferredDelete"], kept["protectionState"]) == (True, "ProtectionStopped")
    assert protected.refused("DELETE", VAULT) == (409, "ServiceResourceNotEmptyWithBackendMessage")
    assert protected.ended(protected.ask("DELETE", POLICY)) == "Succeeded", "it protects nothing any more"


def test_an_item_is_undeleted_without_a_policy_and_goes_for_good_without_soft_delete(protected: Emulator) -> None:
    assert protected.ask("DELETE", ITEM).status_code == 202
    assert protected.ended(protected.ask("DELETE", POLICY)) == "Succeeded"
    assert protected.refused("PUT", ITEM, item()) == (404, "ResourceNotFound")
    kept = {"protectedItemType": "Microsoft.Compute/virtualMachines", "sourceResourceId": MACHINE}
    protected.put(ITEM, {"properties": {**kept, "isRehydrate": True}})
    assert "isScheduledForDeferredDelete" not in protected.ask("GET", ITEM).json()["properties"]
    protected.put(VAULT, vault())
    assert protected.ended(protected.ask("DELETE", ITEM)) == "Succeeded"
    assert missing(protected, ITEM)
    for path in (VAULT, GROUP):
        assert protected.ended(protected.ask("DELETE", path)) == "Succeeded"


def test_items_are_listed_by_their_vault(protected: Emulator) -> None:
    (found,) = protected.ask("GET", f"{VAULT}/backupProtectedItems").json()["value"]
    assert found["id"] == ITEM
    assert found["properties"]["friendlyName"] == "dev-vm-0"
    assert protected.ask("GET", f"{VAULT}/backupPolicies").json()["value"][0]["properties"]["protectedItemsCount"] == 0


# Maintenance


def test_a_configuration_takes_its_assignments_along(azure: Emulator) -> None:
    azure.put(MACHINE, scheduled_machine())
    azure.put(CONFIGURATION, in_guest())
    on_machine = BODIES["on-vm"][0]
    azure.put(on_machine, assigned())
    azure.put(DYNAMIC, BODIES["dynamic"][2]())
    assert azure.ended(azure.ask("DELETE", CONFIGURATION)) == "Succeeded"
    assert missing(azure, on_machine)
    assert missing(azure, DYNAMIC)
    assert not missing(azure, MACHINE)


def test_an_assignment_is_spelt_in_lower_case_and_knows_what_it_is_on(azure: Emulator) -> None:
    azure.put(CONFIGURATION, in_guest())
    for path, scope in ((DYNAMIC, GROUP), (BODIES["everywhere"][0], ROOT)):
        found = azure.put(path, BODIES["dynamic"][2]())
        assert found["id"] == path.lower()
        assert found["properties"]["resourceId"] == scope.lower()
        assert found["properties"]["maintenanceConfigurationId"] == CONFIGURATION.lower()
        assert azure.ended(azure.ask("DELETE", path)) == "Succeeded"


# Disks


def test_a_snapshot_holds_what_its_machines_disk_held_and_becomes_a_disk_of_its_own(azure: Emulator) -> None:
    azure.put(MACHINE, scheduled_machine())
    made = azure.put(SNAPSHOT, snapshot())
    assert azure.hosts.calls[-1] == ("snapshot", "dev-vm-0")
    assert (made["properties"]["completionPercent"], made["properties"]["osType"]) == (100.0, "Linux")
    assert made["properties"]["creationData"]["sourceUniqueId"]
    back = compute("disks/back")
    azure.put(back, BODIES["disk"][2]())
    swap = {"properties": {"storageProfile": {"osDisk": {"managedDisk": {"id": back}}}}}
    assert azure.ended(azure.ask("PATCH", MACHINE, swap)) == "Succeeded"
    assert ("restore", "dev-vm-0") in azure.hosts.calls
    assert azure.ask("GET", DISK).json()["properties"]["diskState"] == "Unattached"
    again = compute("snapshots/of-the-old-disk")
    azure.put(again, snapshot())
    assert azure.hosts.calls.count(("snapshot", "dev-vm-0")) == 2, "an unattached disk is copied without a host"
    for path in (SNAPSHOT, again, DISK):
        assert azure.ended(azure.ask("DELETE", path)) == "Succeeded"


def test_a_machine_does_not_take_the_name_of_a_disk_that_is_there(azure: Emulator) -> None:
    azure.put(MACHINE, scheduled_machine())
    assert azure.ended(azure.ask("DELETE", MACHINE)) == "Succeeded"
    assert azure.refused("PUT", MACHINE, scheduled_machine()) == (409, "ConflictingUserInput")
    assert azure.ended(azure.ask("DELETE", DISK)) == "Succeeded"
    azure.put(MACHINE, scheduled_machine())


# Event Grid, Traffic Manager, roles


def test_where_events_go_is_shown_without_its_query(azure: Emulator) -> None:
    azure.put(CONFIGURATION, in_guest())
    azure.put(BODIES["topic"][0], topic())
    path = BODIES["event"][0]
    azure.put(path, subscription())
    text = azure.ask("GET", path).text
    assert "endpointUrl" not in text
    assert json.loads(text)["properties"]["destination"]["properties"] == {
        "endpointBaseUrl": "https://hooks.fieldops.example/go"
    }
    assert json.loads(text)["properties"]["retryPolicy"] == {
        "maxDeliveryAttempts": 30, "eventTimeToLiveInMinutes": 1440,
    }  # fmt: skip
    assert azure.ended(azure.ask("DELETE", BODIES["topic"][0])) == "Succeeded"
    assert missing(azure, path)


def test_a_profile_sends_requests_to_addresses_with_a_name_and_holds_none_of_them(azure: Emulator) -> None:
    path = network("trafficManagerProfiles/front")
    assert azure.refused("PUT", path, profile())[1] == "BadRequest"
    azure.put(ADDRESS, named_address())
    found = azure.put(path, profile())
    assert found["properties"]["dnsConfig"]["fqdn"] == "patchwave-dev.trafficmanager.net"
    blue, elsewhere = found["properties"]["endpoints"]
    assert blue["properties"]["target"] == f"patchwave-dev.{LOCATION}.cloudapp.azure.com"
    assert (blue["properties"]["priority"], elsewhere["properties"]["priority"]) == (1, 2)
    assert elsewhere["properties"]["endpointMonitorStatus"] == "Disabled"
    assert azure.refused("DELETE", ADDRESS)[1] == "PublicIPAddressCannotBeDeleted", "the load balancer holds it"
    assert azure.ended(azure.ask("DELETE", network("loadBalancers/lb"))) == "Succeeded"
    assert azure.ended(azure.ask("DELETE", ADDRESS)) == "Succeeded"


def test_roles_are_assigned_at_any_scope_and_listed_at_it(azure: Emulator) -> None:
    guids = [f"0b9a7f6e-8d2c-4b1a-9f3e-2d4c6b8a0e1{n}" for n in range(4)]
    scopes = [ROOT, GROUP, network("virtualNetworks/net"), network("virtualNetworks/net/subnets/web")]
    for scope, guid in zip(scopes, guids, strict=True):
        found = azure.put(f"{scope}/providers/Microsoft.Authorization/roleAssignments/{guid}", role())
        assert found["properties"]["scope"] == scope
    nowhere = f"{network('virtualNetworks/none')}/providers/Microsoft.Authorization/roleAssignments/{guids[0]}"
    assert azure.refused("PUT", nowhere, role())[0] == 404

    def listed(query: str) -> list[str]:
        path = f"{GROUP}/providers/Microsoft.Authorization/roleAssignments"
        return [one["name"] for one in azure.ask("GET", path, **{"$filter": query}).json()["value"]]

    assert listed("atScope()") == guids[1:2]
    assert listed("principalId eq 'nobody'") == []
    assert azure.ask("GET", f"{ROLES}/{READER}").json()["properties"]["roleName"] == "Reader"
    assert azure.refused("GET", f"{ROLES}/{guids[0]}") == (404, "RoleDefinitionDoesNotExist")
    answer = azure.ask("GET", f"{GROUP}/providers/Microsoft.Authorization/roleAssignments", **{"$filter": "name eq 1"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BadRequest")


# How answers are waited for


def test_disks_are_accepted_with_both_headers_and_a_groups_end_is_found_at_its_location(azure: Emulator) -> None:
    azure.put(MACHINE, scheduled_machine())
    accepted = azure.ask("PUT", SNAPSHOT, snapshot())
    assert accepted.status_code == 202
    assert {"azure-asyncoperation", "location", "retry-after"} <= set(accepted.headers)
    assert azure.ended(accepted) == "Succeeded"
    found = azure.azure("GET", accepted.headers["Location"].removeprefix(azure.sandbox.endpoint), headers=azure.bearer)
    assert (found.status_code, found.json()["id"]) == (200, SNAPSHOT)
    azure.hosts.gate.clear()
    slow = azure.ask("DELETE", MACHINE)
    azure.hosts.gate.set()
    assert azure.ended(slow) == "Succeeded"
    gone = azure.ask("DELETE", GROUP)
    assert gone.status_code in (200, 202)
    assert "azure-asyncoperation" not in gone.headers


def test_a_head_tells_whether_something_is_there(azure: Emulator) -> None:
    assert azure.ask("HEAD", GROUP).status_code == 204
    assert azure.ask("HEAD", MACHINE).status_code == 404


def test_an_arc_machine_without_an_agent_is_a_record_that_is_not_connected(azure: Emulator) -> None:
    path = f"{GROUP}/providers/Microsoft.HybridCompute/machines/planned"
    assert azure.put(path, located())["properties"]["status"] == "Disconnected"
    assert azure.hosts.names() == []
    assert azure.ask("DELETE", path).status_code == 202
