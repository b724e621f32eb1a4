"""Administrative states of backend pools: written as a whole list, by who has read it, and followed by the balancer."""

from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.azure.server.haproxy import frontends, render
from tests.unit.azure_emulator import BALANCER, BLUE, Emulator, balancer, declare, emulator, scale_set
from tests.unit.changes import Change, changed

POOL = f"{BALANCER}/backendAddressPools/blue"
Json = Any


@pytest.fixture
def azure() -> Iterator[Emulator]:
    with emulator() as made:
        declare(made)
        yield made


def read(azure: Emulator) -> dict[str, Json]:
    found: dict[str, Json] = azure.ask("GET", POOL).json()
    return found


def states(azure: Emulator) -> list[str]:
    return [one["properties"]["adminState"] for one in read(azure)["properties"]["loadBalancerBackendAddresses"]]


def down(azure: Emulator) -> dict[str, Json]:
    return changed(read(azure), {"properties.loadBalancerBackendAddresses.0.properties.adminState": "Down"})


def test_members_are_those_that_interfaces_have_joined_and_none_is_out_at_first(azure: Emulator) -> None:
    found = read(azure)["properties"]["loadBalancerBackendAddresses"]
    assert [one["properties"]["adminState"] for one in found] == ["None", "None"]
    configurations = [one["properties"]["networkInterfaceIPConfiguration"]["id"] for one in found]
    assert [one.startswith(f"{BLUE}/virtualMachines/{n}/networkInterfaces/") for n, one in enumerate(configurations)]
    assert len({one["name"] for one in found}) == 2


def test_a_member_that_is_down_is_so_until_it_is_written_otherwise(azure: Emulator) -> None:
    azure.put(POOL, down(azure))
    assert states(azure) == ["Down", "None"]
    (front,) = frontends(azure.endpoints.store)
    assert [server.admin for server in front.backends[0].servers] == ["Down", "None"]
    azure.put(BALANCER, balancer("green"))
    azure.put(BLUE, scale_set(3))
    assert states(azure) == ["Down", "None", "None"], (
        "neither the balancer's nor the scale set's own change asks for it"
    )
    azure.put(POOL, changed(read(azure), {"properties.loadBalancerBackendAddresses.0.properties.adminState": "None"}))
    assert states(azure) == ["None", "None", "None"]


def test_a_member_that_is_down_changes_no_structure_and_one_that_is_up_is_not_probed(azure: Emulator) -> None:
    before = render(azure.sandbox, frontends(azure.endpoints.store))
    azure.put(POOL, down(azure))
    assert render(azure.sandbox, frontends(azure.endpoints.store)) == before
    azure.put(POOL, changed(read(azure), {"properties.loadBalancerBackendAddresses.0.properties.adminState": "Up"}))
    probed = [
        line for line in render(azure.sandbox, frontends(azure.endpoints.store)).splitlines() if " check " in line
    ]
    assert len(probed) == before.count(" check ") - 1


ADDRESSES = "properties.loadBalancerBackendAddresses"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({f"{ADDRESSES}": []}, "BackendAddressesOfNicBasedPoolCannotBeChanged"),
        ({f"{ADDRESSES}.0.name": "invented"}, "BackendAddressesOfNicBasedPoolCannotBeChanged"),
        ({f"{ADDRESSES}.0.properties.adminState": "Off"}, None),
        ({f"{ADDRESSES}.0.properties.adminStat": "Down"}, None),
        ({f"{ADDRESSES}.0.properties.networkInterfaceIPConfiguration.id": f"{BLUE}/x"}, "InvalidResourceReference"),
    ],
)
def test_a_list_that_is_not_the_pools_own_is_refused(azure: Emulator, change: Change, code: str | None) -> None:
    status, found = azure.refused("PUT", POOL, changed(read(azure), change))
    assert status == 400
    assert code in (None, found)
    assert states(azure) == ["None", "None"]


def test_who_writes_what_somebody_else_has_changed_meanwhile_is_refused(azure: Emulator) -> None:
    stale = read(azure)["etag"]
    azure.put(POOL, down(azure))
    headers = {**azure.bearer, "If-Match": stale}
    answer = azure.azure("PUT", POOL, params={"api-version": "2024-05-01"}, json=read(azure), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (412, "PreconditionFailed")
    headers["If-Match"] = read(azure)["etag"]
    assert azure.azure("PUT", POOL, params={"api-version": "2024-05-01"}, json=read(azure), headers=headers).is_success


def test_a_pool_that_no_rule_with_a_probe_uses_takes_no_state(azure: Emulator) -> None:
    azure.put(BALANCER, balancer("green"))
    status, code = azure.refused("PUT", POOL, down(azure))
    assert (status, code) == (400, "AdminStateNeedsProbe")


def test_pools_are_listed_and_none_is_made_here(azure: Emulator) -> None:
    listed = azure.ask("GET", f"{BALANCER}/backendAddressPools").json()["value"]
    assert [one["name"] for one in listed] == ["blue", "green"]
    assert azure.refused("PUT", f"{BALANCER}/backendAddressPools/red", {"properties": {}})[0] == 404
