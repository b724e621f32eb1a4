"""The sandbox's Resource Graph: one answer over all its pages, what it refuses, and the batch endpoint."""

from collections.abc import Iterator
from typing import Any

import pytest

from patchwave.azure.claims import Claims
from patchwave.azure.inventory import read
from sandbox.azure.language import graph_language
from sandbox.azure.queries.graph import TABLES
from sandbox.azure.resources.ids import SUBSCRIPTION
from sandbox.azure.resources.store import Row, Store
from tests.fleet import seed
from tests.unit.azure_emulator import BLUE, GROUP, MACHINE, NIC, Emulator, declare, emulator, network, public_address
from tests.unit.azure_rows import desk_settings, fleet, stack

OTHER, UNKNOWN = "00000000-0000-4000-8000-000000000009", "00000000-0000-4000-8000-00000000000a"
NICS = "microsoft.compute/virtualmachinescalesets/virtualmachines/networkinterfaces"


@pytest.fixture
def azure() -> Iterator[Emulator]:
    with emulator() as made:
        yield made


def ask(azure: Emulator, query: str, **options: Any) -> Any:
    body = {"query": query, "options": {"$top": 1000, **options}}
    return azure.ask("POST", "/providers/Microsoft.ResourceGraph/resources", body)


def ids(answer: Any) -> list[str]:
    return [row["id"].rsplit("/", 1)[1] for row in answer.json()["data"]]


def test_the_pages_of_an_answer_are_of_one_moment(azure: Emulator) -> None:
    azure.put(GROUP, {"location": "westeurope"})
    for name in ("a", "b", "c"):
        azure.put(network(f"publicIPAddresses/{name}"), public_address())
    query = "resources | where type =~ 'microsoft.network/publicipaddresses' | project id | order by id asc"
    first = ask(azure, query, **{"$top": 2})
    azure.ask("DELETE", network("publicIPAddresses/c"))
    azure.put(network("publicIPAddresses/d"), public_address())
    follow = ask(azure, query, **{"$top": 2, "$skipToken": first.json()["$skipToken"]})
    assert ids(first) + ids(follow) == ["a", "b", "c"]
    assert first.json()["totalRecords"] == follow.json()["totalRecords"] == 3
    assert ids(ask(azure, query)) == ["a", "b", "d"]


def test_a_token_belongs_to_its_query(azure: Emulator) -> None:
    follow = ask(azure, "resources | project id | order by id asc", **{"$top": 1}).json()["$skipToken"]
    for query, token in (("resources | project id | order by id desc", follow), ("resources | project id", "x")):
        assert ask(azure, query, **{"$skipToken": token}).status_code == 400


def test_an_answer_that_is_no_longer_kept_is_made_again(azure: Emulator) -> None:
    query = "resources | project id | order by id asc"
    whole, first = ids(ask(azure, query)), ask(azure, query, **{"$top": 1})
    azure.endpoints.graph._kept.clear()
    follow = ask(azure, query, **{"$skipToken": first.json()["$skipToken"]})
    assert ids(first) + ids(follow) == whole


def test_what_hosts_do_is_seen_at_once(azure: Emulator) -> None:
    declare(azure)
    query = (
        "resources | project id, power = tostring(properties.extended.instanceView.powerState.code) | where power != ''"
    )
    assert ask(azure, query).json()["data"][0]["power"] == "PowerState/running"
    azure.hosts.on["dev-vm-0"] = False
    assert ask(azure, query).json()["data"][0]["power"] == "PowerState/stopped"


def test_what_another_process_stores_is_seen_at_once(azure: Emulator) -> None:
    query = "resources | where type =~ 'microsoft.hybridcompute/machines' | project id"
    assert ids(ask(azure, query)) == []
    other = Store(azure.sandbox.store)
    seed(other, 1)
    other.close()
    assert ids(ask(azure, query)) == ["prod-arc-000000"]


def test_interfaces_of_instances_are_found_beside_the_instances(azure: Emulator) -> None:
    declare(azure)
    rows = ask(azure, f"computeresources | where type =~ '{NICS}' | order by id asc").json()["data"]
    assert [row["id"] for row in rows] == [
        f"{BLUE}/virtualMachines/{number}/networkInterfaces/nic" for number in (0, 1)
    ]
    listed = azure.ask("GET", f"{BLUE}/networkInterfaces").json()["value"]
    assert [row["properties"] for row in rows] == [nic["properties"] for nic in listed]


def test_the_inventory_finds_both_kinds_of_scale_sets_and_their_pools(azure: Emulator) -> None:
    declare(azure)
    flexible = f"{GROUP}/providers/Microsoft.Compute/virtualMachineScaleSets/flex"
    own = {"virtualMachineScaleSet": {"id": flexible}, "vmId": "x", "storageProfile": {"osDisk": {"osType": "Linux"}}}
    body = {"id": f"{MACHINE}1", "name": "flex_1", "type": "Microsoft.Compute/virtualMachines", "properties": own}
    store = Store(azure.sandbox.store)
    store.put(Row(f"{MACHINE}1", "microsoft.compute/virtualmachines", GROUP, body, {"host": "flex_1"}))
    store.close()
    balanced = {"driver": "balancer", "port": 80, "settle": "PT1M"}
    decided = stack(
        balanced, blue=fleet("scale_set", ids=[BLUE, flexible]), machines=fleet("vm", tags={"Patchwave-Stack": "DEV"})
    )
    claims = Claims("dev", decided, SUBSCRIPTION)
    answer = ask(azure, claims.query)
    assert answer.status_code == 200, answer.text
    found = read(answer.json()["data"], claims)
    assert {(host.name, host.fleet, host.live, host.os) for host in found.hosts} == {
        ("dev-blue-0", "blue", True, "Linux"),
        ("dev-blue-1", "blue", True, "Linux"),
        ("dev-vm-0", "machines", False, "Linux"),
    }
    assert len({host.address for host in found.hosts}) == 3
    assert [(one.name, one.fleet) for one in found.problems] == [("flex_1", "blue")]
    assert [line.split(" of fleet ")[0] for line in found.partial] == [f"scale set {flexible.lower()}"]
    azure.hosts.on["dev-vm-0"] = False
    off = read(ask(azure, claims.query).json()["data"], claims)
    assert next((one.name, one.reason) for one in off.problems) == (
        "dev-vm-0",
        "is stopped: start it, or take it out of the fleet",
    )


@pytest.mark.parametrize(
    ("name", "value"), [("env", "prod"), ("Äther ✓", "ß"), ("a.b-c", 'quo"te'), ("path", r"c:\x\y"), ("empty", "")]
)
def test_tags_of_any_letters_are_found_in_any_case(azure: Emulator, name: str, value: str) -> None:
    body = {"id": MACHINE, "name": "m", "type": "Microsoft.Compute/virtualMachines", "properties": {"vmId": "x"}}
    store = Store(azure.sandbox.store)
    tags = {name.upper().replace("SS", "ß"): value.upper().replace("SS", "ß")}
    store.put(Row(MACHINE, "microsoft.compute/virtualmachines", GROUP, body | {"tags": tags}, {"host": "m"}))
    store.close()
    claims = Claims("dev", stack(tagged=fleet("vm", tags={name: value})), SUBSCRIPTION)
    found = read(ask(azure, claims.query).json()["data"], claims)
    assert [one.fleet for one in found.problems] == ["tagged"]


def test_the_primary_interface_of_a_machine_is_marked_while_it_is_attached(azure: Emulator) -> None:
    declare(azure)
    assert azure.ask("GET", NIC).json()["properties"]["primary"] is True
    azure.ended(azure.ask("DELETE", MACHINE))
    assert "primary" not in azure.ask("GET", NIC).json()["properties"]


def test_subscriptions_limit_what_is_seen_and_unknown_ones_are_passed_over(azure: Emulator) -> None:
    store = Store(azure.sandbox.store)
    seed(store, 1)
    far = OTHER.join(GROUP.split(SUBSCRIPTION))
    body = {"id": far, "name": "dev", "type": "Microsoft.Resources/resourceGroups", "properties": {}}
    store.put(Row(far, "microsoft.resources/resourcegroups", far.rsplit("/", 2)[0], body))
    store.close()
    query = "resources | union resourcecontainers | distinct subscriptionId | order by subscriptionId asc"

    def seen(*named: str) -> Any:
        body = {"query": query, "subscriptions": named}
        return azure.ask("POST", "/providers/Microsoft.ResourceGraph/resources", body).json()

    for named in ((SUBSCRIPTION,), (OTHER,), (SUBSCRIPTION, OTHER), (SUBSCRIPTION, UNKNOWN)):
        assert [row["subscriptionId"] for row in seen(*named)["data"]] == [one for one in named if one != UNKNOWN]
    assert seen(UNKNOWN)["error"]["details"][0]["code"] == "NoValidSubscriptionsInQueryRequest"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("nowhere | project id", "DisallowedLogicalTableName"),
        ("resources | join kind=leftouter (nowhere | project id) on id", "DisallowedLogicalTableName"),
        ("resources | join kind=leftanti (resourcecontainers) on id", "UnsupportedJoinFlavor"),
        ("resources | union computeresources, computeresources", "DisallowedMaxNumberOfRemoteTables"),
        ("resources" + " | join kind=inner (resources | project id) on id" * 4, "DisallowedMaxNumberOfRemoteTables"),
        ("resources" + " | mv-expand one = tags" * 4, "DisallowedMaxNumberOfMvExpand"),
        ("resources | lookup kind=leftouter (resourcecontainers) on id", "OperatorNotSupported"),
        ("resources | wherex", "ParserFailure"),
        ("resources | where Id has 'x'", "SemanticError"),
        (
            "resources | join kind=inner (Resources | project x = id) on $left.id == $right.x | project Location",
            "SemanticError",
        ),
    ],
)
def test_what_the_service_does_not_take_is_refused_in_its_shape(azure: Emulator, query: str, code: str) -> None:
    answer = ask(azure, query)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "BadRequest")
    assert [one["code"] for one in error["details"]] == ["InvalidQuery", code]
    assert error["message"].startswith("Please provide below info when asking for support: timestamp = ")


@pytest.mark.parametrize(
    "query",
    [
        Claims("dev", desk_settings(), SUBSCRIPTION).query,
        "Resources | project id",
        "resources | union computeresources | union resourcecontainers | project id",
        "resources" + " | join kind=inner (resources | project id) on id" * 3,
        "computeresources | join kind=leftouter (computeresources | project id) on id",
        "resources" + " | mv-expand one = tags" * 3,
    ],
)
def test_what_the_service_takes_is_taken(query: str) -> None:
    graph_language.check(query, TABLES)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"$top": 1000}, 200),
        ({"$top": 1001}, 400),
        ({"$top": 0}, 400),
        ({"$top": True}, 400),
        ({"$skip": -1}, 400),
        ({"resultFormat": "table"}, 200),
        ({"resultFormat": "csv"}, 400),
    ],
)
def test_options_have_their_limits(azure: Emulator, options: dict[str, Any], status: int) -> None:
    assert ask(azure, "resources | project id", **options).status_code == status


def batch(azure: Emulator, *paths: str) -> Any:
    requests = [{"httpMethod": "GET", "name": str(n), "url": f"https://x{p}"} for n, p in enumerate(paths)]
    return azure.azure("POST", "/batch?api-version=2015-11-01", json={"requests": requests}, headers=azure.bearer)


def test_a_batch_answers_each_of_its_requests(azure: Emulator) -> None:
    azure.put(GROUP, {"location": "westeurope"})
    here, gone = f"{GROUP}?api-version=2024-11-01", f"{network('publicIPAddresses/no')}?api-version=2024-11-01"
    answers = batch(azure, here, gone).json()["responses"]
    assert [(one["name"], one["httpStatusCode"]) for one in answers] == [("0", 200), ("1", 404)]
    assert answers[0]["content"]["name"] == "dev"
    assert answers[1]["content"]["error"]["code"] == "ResourceNotFound"


def test_a_large_batch_is_fetched_at_its_location(azure: Emulator) -> None:
    azure.put(GROUP, {"location": "westeurope"})
    answer = batch(azure, *[f"{GROUP}?api-version=2024-11-01"] * 21)
    assert answer.status_code == 202
    path = answer.headers["Location"].removeprefix(azure.sandbox.endpoint)
    fetched = azure.azure("GET", path, headers=azure.bearer)
    assert [one["httpStatusCode"] for one in fetched.json()["value"]] == [200] * 21
    assert azure.azure("GET", "/batch/none", headers=azure.bearer).status_code == 404
    assert azure.azure("GET", path).status_code == 401


def test_a_batch_has_a_largest_size(azure: Emulator) -> None:
    assert batch(azure).status_code == 400
    assert batch(azure, *[GROUP] * 501).status_code == 400
