"""The HTTPS endpoint behaves as Azure Resource Manager does: what it admits, what it refuses, and what it does then."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest

from sandbox.azure.arm.machines import IMAGE
from tests.unit.azure_emulator import (
    ADDRESS,
    BALANCER,
    BLUE,
    GROUP,
    LOCATION,
    MACHINE,
    NIC,
    ROOT,
    SUBNET,
    VNET,
    Emulator,
    RecordedHosts,
    balancer,
    compute,
    declare,
    emulator,
    interface,
    located,
    machine,
    network,
    scale_set,
    vnet,
)

POINTS = compute("restorePointCollections/points")


@pytest.fixture
def azure() -> Iterator[Emulator]:
    with emulator() as made:
        yield made


@pytest.fixture(scope="module")
def standing() -> Iterator[Emulator]:
    """A declared group, for tests that only look."""
    with emulator() as made:
        declare(made)
        yield made


# Who may ask


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "AuthenticationFailed"),
        ("Basic x", "AuthenticationFailedInvalidHeader"),
        ("Bearer x.y.z", "InvalidAuthenticationToken"),
        (
            "Bearer " + jwt.encode({"aud": "https://management.azure.com"}, "x" * 32, "HS256"),
            "InvalidAuthenticationToken",
        ),
    ],
)
def test_a_stranger_is_refused(standing: Emulator, header: str | None, code: str) -> None:
    answer = standing.azure(
        "GET", GROUP, params={"api-version": "2024-11-01"}, headers={"Authorization": header} if header else {}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
    assert "Bearer" in answer.headers["WWW-Authenticate"]


def test_a_token_for_another_audience_is_refused(standing: Emulator) -> None:
    token = standing.token("https://monitor.azure.com")
    answer = standing.azure(
        "GET", GROUP, params={"api-version": "2024-11-01"}, headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.json()["error"]["code"] == "InvalidAuthenticationTokenAudience"


def test_the_identity_door_wants_its_header_and_a_known_audience(standing: Emulator) -> None:
    path, query = "/metadata/identity/oauth2/token", {"resource": "https://management.azure.com/"}
    assert standing.identity("GET", path, params=query).status_code == 400
    query["resource"] = "https://vault.azure.net"
    assert (
        standing.identity("GET", path, params=query, headers={"Metadata": "true"}).json()["error"] == "invalid_resource"
    )


def test_readiness_needs_no_token(azure: Emulator) -> None:
    assert azure.azure("GET", "/ready").status_code == 503
    azure.endpoints.ready.set()
    assert azure.azure("GET", "/ready").status_code == 200


# What may be asked


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", GROUP.replace("dev", "nowhere"), "ResourceGroupNotFound"),
        ("GET", MACHINE.replace("/dev/", "/nowhere/"), "ResourceGroupNotFound"),
        ("GET", compute("virtualMachines/none"), "ResourceNotFound"),
        ("GET", f"{VNET}/subnets/none", "ResourceNotFound"),
        ("GET", f"{GROUP}/providers/Microsoft.Nothing/things/x", "InvalidResourceNamespace"),
        ("GET", compute("spaceships/x"), "InvalidResourceType"),
        ("PUT", compute("virtualMachines/-bad-"), "InvalidParameter"),
        ("GET", "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/dev", "SubscriptionNotFound"),
        ("POST", f"{MACHINE}/explode", "InvalidResourceType"),
        ("DELETE", f"{GROUP}/providers/Microsoft.Compute/virtualMachines", "MethodNotAllowed"),
    ],
)
def test_what_is_not_there_is_refused_by_name(standing: Emulator, method: str, path: str, code: str) -> None:
    assert standing.refused(method, path, machine() if method == "PUT" else None)[1] == code


def test_an_api_version_is_needed(standing: Emulator) -> None:
    missing = standing.azure("GET", GROUP, headers=standing.bearer)
    wrong = standing.azure("GET", GROUP, params={"api-version": "latest"}, headers=standing.bearer)
    codes = [answer.json()["error"]["code"] for answer in (missing, wrong)]
    assert codes == ["MissingApiVersionParameter", "InvalidApiVersionParameter"]


def test_ids_are_the_same_in_any_spelling(standing: Emulator) -> None:
    for path in (MACHINE.upper().replace("/SUBSCRIPTIONS/", "/subscriptions/"), MACHINE.lower()):
        assert standing.ask("GET", path).json()["id"] == MACHINE
    assert standing.ask("GET", SUBNET.lower()).json()["id"] == SUBNET


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff\xfe"])
def test_a_body_that_is_no_object_is_refused(standing: Emulator, body: bytes) -> None:
    answer = standing.azure("PUT", VNET, params={"api-version": "2024-11-01"}, headers=standing.bearer, content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidRequestContent")


def test_lists_hold_what_is_in_their_scope(standing: Emulator) -> None:
    everywhere = standing.ask("GET", f"{ROOT}/providers/Microsoft.Compute/virtualMachines").json()["value"]
    here = standing.ask("GET", compute("virtualMachines")).json()["value"]
    assert [one["name"] for one in everywhere] == [one["name"] for one in here] == ["dev-vm-0"]
    assert standing.ask("GET", f"{BLUE}/virtualMachines").json()["value"][1]["name"] == "dev-blue_1"
    names = [one["name"] for one in standing.ask("GET", f"{ROOT}/resourcegroups").json()["value"]]
    assert names == ["shared-images", "dev"]


# Parents, references, deletion


def test_a_resource_needs_its_group_its_parent_and_what_it_points_at(azure: Emulator) -> None:
    assert azure.refused("PUT", VNET, vnet()) == (404, "ResourceGroupNotFound")
    azure.put(GROUP, {"location": LOCATION})
    assert azure.refused("PUT", NIC, interface()) == (400, "InvalidResourceReference")
    assert azure.refused("PUT", BALANCER, balancer()) == (400, "InvalidResourceReference")
    assert azure.refused("PUT", f"{POINTS}/restorePoints/p", {"properties": {}}) == (404, "ParentResourceNotFound")
    azure.put(VNET, vnet())
    assert azure.refused("PUT", MACHINE, machine()) == (404, "ResourceNotFound")
    azure.put(NIC, interface())
    wrong = machine()
    wrong["properties"]["storageProfile"]["imageReference"]["id"] = IMAGE + "x"
    assert azure.refused("PUT", MACHINE, wrong)[0] == 404


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (ADDRESS, "PublicIPAddressCannotBeDeleted"),
        (NIC, "NicInUse"),
        (VNET, "InUseSubnetCannotBeDeleted"),
        (BALANCER, "LoadBalancerInUseByVirtualMachineScaleSet"),
    ],
)
def test_what_is_in_use_stays(standing: Emulator, path: str, code: str) -> None:
    assert standing.refused("DELETE", path) == (400, code)
    assert standing.ask("GET", path).json()["properties"]["provisioningState"] == "Succeeded"


def test_a_used_subnet_or_pool_cannot_be_left_out(standing: Emulator) -> None:
    smaller = vnet()
    smaller["properties"]["subnets"] = []
    assert standing.refused("PUT", VNET, smaller)[1] == "InUseSubnetCannotBeDeleted"
    smaller = balancer("green")
    smaller["properties"]["backendAddressPools"] = [{"name": "green"}]
    assert standing.refused("PUT", BALANCER, smaller)[1] == "InUseBackendAddressPoolCannotBeDeleted"


def test_everything_goes_in_the_right_order_and_again_is_no_error(azure: Emulator) -> None:
    declare(azure)
    for path in (MACHINE, BLUE, NIC, BALANCER, ADDRESS, VNET):
        assert azure.ended(azure.ask("DELETE", path)) == "Succeeded", path
        assert azure.refused("GET", path)[0] == 404
        assert azure.ask("DELETE", path).status_code == 204
    assert azure.hosts.names() == []


def test_a_group_takes_everything_in_it_along(azure: Emulator) -> None:
    declare(azure)
    answer = azure.ask("DELETE", GROUP)
    assert answer.status_code in (200, 202)
    if answer.status_code == 202:
        location = answer.headers["Location"].removeprefix(azure.sandbox.endpoint)
        while azure.azure("GET", location, headers=azure.bearer).status_code == 202:
            time.sleep(0.02)
    assert azure.refused("GET", GROUP)[0] == 404
    assert azure.hosts.names() == []
    assert [row.id for row in azure.endpoints.store.under(GROUP)] == []


def test_a_place_is_for_life(azure: Emulator) -> None:
    declare(azure, machines=False)
    assert azure.refused("PUT", VNET, vnet() | {"location": "northeurope"}) == (409, "InvalidResourceLocation")
    assert (
        azure.refused("PUT", network("virtualNetworks/other"), {"properties": vnet()["properties"]})[1]
        == "LocationRequired"
    )
    assert azure.put(VNET, vnet() | {"location": "West Europe"})["location"] == "westeurope"


# Machines


def test_a_scale_set_boots_its_instances_with_name_slot_and_address(standing: Emulator) -> None:
    spec = standing.hosts.specs["dev-blue-1"]
    assert spec.files["/etc/fieldops/host.env"] == "FIELDOPS_HOST=dev-blue-1\nFIELDOPS_SLOT=blue\n"
    nics = standing.ask("GET", f"{BLUE}/networkInterfaces").json()["value"]
    assert nics[1]["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"] == spec.address
    assert nics[1]["properties"]["virtualMachine"]["id"] == f"{BLUE}/virtualMachines/1"
    one = standing.ask("GET", f"{BLUE}/virtualMachines/1", **{"$expand": "instanceView"}).json()
    assert one["tags"] == {"patchwave-stack": "dev", "patchwave-slot": "blue"}
    assert one["properties"]["osProfile"]["computerName"] == "dev-blue-1"
    assert "PowerState/running" in [state["code"] for state in one["properties"]["instanceView"]["statuses"]]


def test_capacity_adds_new_numbers_and_takes_the_highest(azure: Emulator) -> None:
    declare(azure)
    azure.put(BLUE, scale_set(4))
    assert [name for name in azure.hosts.names() if "blue" in name] == [f"dev-blue-{n}" for n in range(4)]
    azure.put(BLUE, scale_set(1))
    azure.put(BLUE, scale_set(2))
    assert [name for name in azure.hosts.names() if "blue" in name] == ["dev-blue-0", "dev-blue-4"]
    assert len({spec.address for name, spec in azure.hosts.specs.items() if name in azure.hosts.names()}) == 3
    assert azure.ask("DELETE", f"{BLUE}/virtualMachines/0").status_code in (200, 202)
    azure.put(BLUE, scale_set(azure.ask("GET", BLUE).json()["sku"]["capacity"]))
    assert [name for name in azure.hosts.names() if "blue" in name] == ["dev-blue-4"]


def test_no_secret_comes_back(standing: Emulator) -> None:
    shown = standing.ask("GET", MACHINE).text + standing.ask("GET", f"{BLUE}/virtualMachines").text
    assert "not-kept-1" not in shown


def test_power_is_what_was_asked_for(azure: Emulator) -> None:
    declare(azure)
    for action, power in (
        ("deallocate", "deallocated"),
        ("start", "running"),
        ("powerOff", "stopped"),
        ("restart", "stopped"),
    ):
        assert azure.ended(azure.ask("POST", f"{MACHINE}/{action}")) == "Succeeded"
        if action != "restart":
            states = azure.ask("GET", f"{MACHINE}/instanceView").json()["statuses"]
            assert [one["code"] for one in states] == ["ProvisioningState/succeeded", f"PowerState/{power}"]
    assert ("restart", "dev-vm-0") in azure.hosts.calls


def test_a_boot_that_fails_fails_the_operation_and_a_second_try_mends_it(azure: Emulator) -> None:
    declare(azure, machines=False)
    azure.hosts.broken.add("dev-vm-0")
    answer = azure.ask("PUT", MACHINE, machine())
    if answer.is_success:
        assert azure.ended(answer) == "Failed"
    else:
        assert answer.json()["error"] == {"code": "InternalExecutionError", "message": "dev-vm-0 has no sshd"}
    assert azure.ask("GET", MACHINE).json()["properties"]["provisioningState"] == "Failed"
    azure.hosts.broken.clear()
    assert azure.put(MACHINE, machine())["properties"]["provisioningState"] == "Succeeded"


def test_a_long_operation_is_polled_as_azures(azure: Emulator) -> None:
    declare(azure, machines=False)
    azure.hosts.gate.clear()
    answer = azure.ask("PUT", MACHINE, machine())
    assert answer.status_code == 201
    assert answer.json()["properties"]["provisioningState"] == "Creating"
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Azure-AsyncOperation"].startswith(f"{azure.sandbox.endpoint}/subscriptions/")
    azure.hosts.gate.set()
    assert azure.ended(answer) == "Succeeded"
    assert azure.ask("GET", MACHINE).json()["properties"]["provisioningState"] == "Succeeded"


def test_a_restore_point_becomes_a_disk_and_the_disk_a_machines_own(azure: Emulator) -> None:
    declare(azure)
    azure.put(POINTS, located({"source": {"id": MACHINE}}))
    point = azure.put(f"{POINTS}/restorePoints/p1", {"properties": {}})
    source = point["properties"]["sourceMetadata"]["storageProfile"]["osDisk"]["diskRestorePoint"]["id"]
    disk = compute("disks/back")
    azure.put(disk, located({"creationData": {"createOption": "Restore", "sourceResourceId": source}}))
    before = azure.ask("GET", MACHINE).json()["properties"]["storageProfile"]["osDisk"]["managedDisk"]["id"]
    answer = azure.ask("PATCH", MACHINE, {"properties": {"storageProfile": {"osDisk": {"managedDisk": {"id": disk}}}}})
    assert azure.ended(answer) == "Succeeded", answer.text
    assert azure.hosts.calls[-4:] == [
        ("stop", "dev-vm-0"),
        ("snapshot", "dev-vm-0"),
        ("restore", "dev-vm-0"),
        ("start", "dev-vm-0"),
    ]
    assert azure.ask("GET", disk).json()["managedBy"] == MACHINE
    assert azure.ask("GET", before).json()["properties"]["diskState"] == "Unattached"
    assert azure.refused("DELETE", disk) == (409, "OperationNotAllowed")


def test_two_machines_never_share_a_host_or_an_interface(azure: Emulator) -> None:
    declare(azure)
    second = machine()
    assert azure.refused("PUT", compute("virtualMachines/dev-vm-1"), second)[1] == "NicInUse"
    assert azure.refused("PUT", compute("virtualMachines/dev-blue-0"), second)[1] == "OperationNotAllowed"


def test_a_patch_of_tags_replaces_them_and_touches_nothing_else(azure: Emulator) -> None:
    declare(azure)
    before = azure.ask("GET", MACHINE).json()
    answer = azure.ask("PATCH", MACHINE, {"tags": {"owner": "ops"}})
    assert azure.ended(answer) == "Succeeded"
    after = azure.ask("GET", MACHINE).json()
    assert after["tags"] == {"owner": "ops"}
    assert after["properties"] == before["properties"]
    assert azure.refused("PATCH", MACHINE, {"tagz": {}})[0] == 400


# Arc


def test_an_arc_machine_joins_once_shows_its_address_and_leaves_with_its_host(azure: Emulator) -> None:
    body = {"name": "site-arc-0", "tags": {"patchwave-stack": "dev"}}
    for _ in range(2):
        answer = azure.identity("POST", "/sandbox/arc", json=body)
        assert answer.status_code == 200, answer.text
    path = answer.json()["id"]
    found = azure.ask("GET", path).json()
    address = found["properties"]["networkProfile"]["networkInterfaces"][0]["ipAddresses"][0]["address"]
    assert address == azure.hosts.specs["site-arc-0"].address
    assert found["properties"]["status"] == "Connected"
    assert azure.hosts.calls.count(("create", "site-arc-0")) == 1
    assert azure.ended(azure.ask("DELETE", path)) == "Succeeded"
    assert azure.hosts.names() == []


@pytest.mark.parametrize("body", [{}, {"name": "A b"}, {"name": "x", "tags": {"a": 1}}, [], {"name": "../x"}])
def test_a_bad_enrolment_is_refused(azure: Emulator, body: Any) -> None:
    assert azure.identity("POST", "/sandbox/arc", json=body).status_code == 400
    assert azure.hosts.names() == []


# After a kill


def test_what_a_kill_interrupted_is_finished_by_the_next_start(azure: Emulator) -> None:
    declare(azure, machines=False)
    azure.hosts.gate.clear()
    azure.ask("PUT", BLUE, scale_set())
    azure.endpoints.store.close()  # the daemon is gone: whatever its threads still do is not recorded
    hosts = RecordedHosts()
    hosts.on = {"left-over": True}
    again = Emulator(azure.sandbox.folder, hosts)
    try:
        again.endpoints.manager.resume()
        for _ in range(200):
            state = again.ask("GET", BLUE).json()["properties"]["provisioningState"]
            if state == "Succeeded":
                break
            time.sleep(0.02)
        assert state == "Succeeded"
        assert hosts.names() == ["dev-blue-0", "dev-blue-1"]
        assert ("delete", "left-over") in hosts.calls
    finally:
        again.close()
        azure.endpoints = again.endpoints


def test_hosts_that_are_off_run_again_after_a_start_unless_they_were_stopped_on_purpose(azure: Emulator) -> None:
    declare(azure)
    azure.ended(azure.ask("POST", f"{MACHINE}/deallocate"))
    azure.hosts.on = dict.fromkeys(azure.hosts.on, False)
    azure.endpoints.manager.resume()
    assert azure.hosts.on == {"dev-blue-0": True, "dev-blue-1": True, "dev-vm-0": False}


# Resource Graph


def graph(azure: Emulator, query: str, **options: Any) -> Any:
    body = {"subscriptions": [ROOT.rsplit("/", 1)[1]], "query": query, "options": {"$top": 1000, **options}}
    return azure.ask("POST", "/providers/Microsoft.ResourceGraph/resources", body)


@pytest.fixture
def rested(standing: Emulator) -> Emulator:
    """The quota of five seconds is not what these tests are about."""
    standing.endpoints.graph._requests.clear()
    return standing


def test_the_fleet_is_found_by_its_tags(rested: Emulator) -> None:
    query = """resources
        | where type =~ 'Microsoft.Compute/virtualMachines' or type =~ 'microsoft.hybridcompute/machines'
        | where tags['patchwave-stack'] =~ 'DEV'
        | project id, name, type, tags, properties, location | order by id asc"""
    answer = graph(rested, query)
    (row,) = answer.json()["data"]
    assert (row["name"], row["type"], row["tags"]) == (
        "dev-vm-0",
        "microsoft.compute/virtualmachines",
        {"patchwave-stack": "dev"},
    )
    assert row["properties"]["extended"]["instanceView"]["powerState"]["code"] == "PowerState/running"
    assert answer.headers["x-ms-user-quota-remaining"] == "14"
    assert answer.json()["resultTruncated"] == "false"


def test_a_machine_is_joined_with_its_address(rested: Emulator) -> None:
    query = """resources | where type =~ 'microsoft.compute/virtualmachines'
        | extend nic = tolower(tostring(properties.networkProfile.networkInterfaces[0].id))
        | join kind=leftouter (resources | where type =~ 'microsoft.network/networkinterfaces'
            | project nic = tolower(id), address = tostring(properties.ipConfigurations[0].properties.privateIPAddress))
            on nic
        | project id, name, address"""
    (row,) = graph(rested, query).json()["data"]
    assert row["address"] == rested.hosts.specs["dev-vm-0"].address


def test_instances_carry_their_scale_sets_tags(rested: Emulator) -> None:
    query = (
        "computeresources | where type =~ 'microsoft.compute/virtualmachinescalesets/virtualmachines' | order by id asc"
    )
    rows = graph(rested, query).json()["data"]
    assert [row["id"] for row in rows] == [f"{BLUE}/virtualMachines/{number}" for number in range(2)]
    assert {row["tags"]["patchwave-slot"] for row in rows} == {"blue"}


def test_pages_follow_each_other_only_when_ids_are_shown(rested: Emulator) -> None:
    query = "resources | project id | order by id asc"
    whole = graph(rested, query).json()
    rows, token = [], None
    while True:
        page = graph(rested, query, **{"$top": 2}, **({"$skipToken": token} if token else {})).json()
        rows += page["data"]
        if (token := page.get("$skipToken")) is None:
            break
    assert rows == whole["data"]
    lost = graph(rested, "resources | project name", **{"$top": 2}).json()
    assert (lost["resultTruncated"], "$skipToken" in lost) == ("true", False)


def test_the_quota_runs_out_and_comes_back(rested: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rested.endpoints.graph, "_clock", lambda: 100.0)
    answers = [graph(rested, "resources | project id | take 1") for _ in range(16)]
    assert [answer.status_code for answer in answers] == [200] * 15 + [429]
    assert int(answers[-1].headers["Retry-After"]) <= 5
    assert answers[0].headers["x-ms-user-quota-resets-after"].startswith("00:00:0")
    monkeypatch.setattr(rested.endpoints.graph, "_clock", lambda: 105.0)
    assert graph(rested, "resources | project id | take 1").status_code == 200


@pytest.mark.parametrize(
    "query", ["resources | wherex", "nowhere", "resources | where nosuch == 1", ".drop table resources", ""]
)
def test_a_wrong_query_is_azures_bad_request(rested: Emulator, query: str) -> None:
    answer = graph(rested, query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BadRequest")


# Logs


WORKSPACE = f"{GROUP}/providers/Microsoft.OperationalInsights/workspaces/logs"
INSIGHTS = f"{GROUP}/providers/Microsoft.Insights"


def pipeline(azure: Emulator) -> str:
    """A workspace, a table, an endpoint and a rule; the rule's immutable id."""
    azure.put(GROUP, {"location": LOCATION})
    azure.put(WORKSPACE, located({"sku": {"name": "PerGB2018"}}))
    columns = [{"name": "TimeGenerated", "type": "dateTime"}, {"name": "Host", "type": "string"}]
    azure.put(f"{WORKSPACE}/tables/Wave_CL", {"properties": {"schema": {"name": "Wave_CL", "columns": columns}}})
    azure.put(f"{INSIGHTS}/dataCollectionEndpoints/dce", located())
    rule = located({
        "dataCollectionEndpointId": f"{INSIGHTS}/dataCollectionEndpoints/dce",
        "streamDeclarations": {"Custom-Wave": {"columns": [
            {"name": "TimeGenerated", "type": "datetime"}, {"name": "Host", "type": "string"},
            {"name": "Count", "type": "int"}]}},
        "destinations": {"logAnalytics": [{"name": "logs", "workspaceResourceId": WORKSPACE}]},
        "dataFlows": [{"streams": ["Custom-Wave"], "destinations": ["logs"], "outputStream": "Custom-Wave_CL"}],
    })  # fmt: skip
    return str(azure.put(f"{INSIGHTS}/dataCollectionRules/dcr", rule)["properties"]["immutableId"])


def test_rows_reach_their_table_all_or_none(azure: Emulator) -> None:
    rule = pipeline(azure)
    path = f"/dataCollectionRules/{rule}/streams/Custom-Wave"
    bearer = {"Authorization": f"Bearer {azure.token('https://monitor.azure.com')}"}
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    rows = [{"TimeGenerated": at, "Host": "a", "Count": "no number", "Other": 1}]
    assert azure.azure("POST", path, headers=bearer, json=rows).status_code == 204
    assert azure.endpoints.store.logged(WORKSPACE, "Wave_CL") == [{"TimeGenerated": at, "Host": "a", "Count": None}]
    for content, status in (
        (json.dumps([rows[0], 1]), 400),
        ("{}", 400),
        ("[", 400),
        (json.dumps(rows) + " " * 2**20, 413),
    ):
        assert azure.azure("POST", path, headers=bearer, content=content).status_code == status
    assert azure.azure("POST", path, headers=azure.bearer, json=rows).status_code == 401
    assert azure.azure("POST", f"{path}x", headers=bearer, json=rows).json()["error"]["code"] == "InvalidStream"
    assert len(azure.endpoints.store.logged(WORKSPACE, "Wave_CL")) == 1


def test_a_rule_needs_its_table_first(azure: Emulator) -> None:
    pipeline(azure)
    body = azure.ask("GET", f"{INSIGHTS}/dataCollectionRules/dcr").json()
    body["properties"]["dataFlows"][0]["outputStream"] = "Custom-Missing_CL"
    assert azure.refused("PUT", f"{INSIGHTS}/dataCollectionRules/other", body) == (400, "InvalidPayload")
