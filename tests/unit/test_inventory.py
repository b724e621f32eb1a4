"""Azure's rows become machines of fleets: who claims them, where they are reached, whether users reach them."""

import itertools
from functools import cache
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwave.azure.claims import Claims
from patchwave.azure.inventory import read
from patchwave.base.errors import Failed, Refused, UsageError
from patchwave.config.settings import Settings
from patchwave.schedule.batches import batches
from tests.unit.azure_rows import (
    BALANCER,
    INSTANCES,
    NUMBER,
    OTHER,
    OWN,
    SETS,
    SITES,
    SUB,
    Row,
    arc,
    by_name,
    desk,
    desk_settings,
    fleet,
    found,
    instance,
    interfaces,
    machine,
    parsed,
    row,
    scale_set,
    slots,
    stack,
    subscription,
)

ELSEWHERE = f"/subscriptions/{OTHER}/resourceGroups/plant/providers"
VMS = fleet("vm", tags={"env": "prod"})
BALANCED = {"driver": "balancer", "port": 80, "settle": "PT1M"}


def prod(name: str, address: str, **changed: Any) -> Row:
    return machine(name, address, within=SITES, **{"tags": {"env": "prod"}, **changed})


def test_created_and_tagged_machines_become_hosts_of_their_fleets() -> None:
    made = found(*desk())
    shown = {n: (h.address, h.source, h.fleet, h.ring, h.slot, h.live, h.os) for n, h in by_name(made).items()}
    assert shown == {
        "dev-web-blue-0": ("10.0.1.4", "vmss", "web", "canary", "blue", True, "Linux"),
        "dev-web-blue-1": ("10.0.1.5", "vmss", "web", "rest", "blue", True, "Linux"),
        "dev-web-green-0": ("10.0.2.4", "vmss", "web", "rest", "green", False, "Linux"),
        "dev-web-green-1": ("10.0.2.5", "vmss", "web", "rest", "green", False, "Linux"),
        "dev-machines-0": ("10.0.0.5", "vm", "machines", "canary", None, False, "Linux"),
        "site-0": ("10.0.0.9", "arc", "sites", "canary", None, False, "Debian 12"),
    }
    assert (made.complete, made.notes, made.lacks) == (True, (), ())
    assert (made.power["dev-machines-0"], made.power["site-0"]) == ("running", "connected")
    assert made.whole() == made.hosts


@given(st.permutations(desk()))
def test_the_order_of_the_rows_changes_nothing(rows: list[Row]) -> None:
    assert read(rows, Claims("dev", desk_settings(), SUB)) == found(*desk())


# Claims


@pytest.mark.parametrize(
    ("tags", "identity", "claimed"),
    [
        ({"env": "prod", "role": "web"}, "web-1", True),
        ({"ENV": "Prod", "Role": "WEB"}, "web-1", True),
        ({"env": "prod"}, "web-1", False),
        ({"env": "production", "role": "web"}, "web-1", False),
        ({"env": "prod", "role": 7}, "web-1", False),
        (None, "web-1", False),
    ],
)
def test_names_and_values_of_tags_are_compared_in_any_case(tags: Any, identity: str, claimed: bool) -> None:
    decided = stack(shop=fleet("vm", tags={"Env": "prod", "role": "Web"}))
    assert bool(found(machine(identity, within=SITES, tags=tags), of=decided).hosts) is claimed


@pytest.mark.parametrize(
    ("within", "claimed"), [(SITES, False), (ELSEWHERE, True), (ELSEWHERE.replace("plant", "office"), False)]
)
def test_groups_and_subscriptions_narrow_a_fleet(within: str, claimed: bool) -> None:
    decided = stack(plant=fleet("arc", tags={"env": "prod"}, resource_groups=["Plant"], subscriptions=[OTHER]))
    made = read([subscription(OTHER), arc(within=within, tags={"env": "prod"})], Claims("dev", decided, SUB))
    assert bool(made.hosts) is claimed


def test_existing_scale_sets_give_their_instances_uniform_or_flexible() -> None:
    decided = stack(shop=fleet("scale_set", ids=[f"{SETS}/uniform", f"{SETS}/FLEX"]))
    flexible = prod("flex_1a2b", "10.0.3.1", scale_set=f"{SETS}/flex".lower(), tags=None)
    other = prod("other_1", "10.0.3.2", scale_set=f"{SETS}/other".lower(), tags=None)
    uniform = instance(f"{SETS}/uniform", 7, "10.0.3.7")
    sets = [scale_set(f"{SETS}/uniform", 1), scale_set(f"{SETS}/flex", 1)]
    made = found(*uniform, flexible, other, *sets, *instance(f"{SETS}/foreign", 0, "10.0.3.3"), of=decided)
    assert {(host.name, host.source, host.address) for host in made.hosts} == {
        ("uniform-7", "vmss", "10.0.3.7"),
        ("flex_1a2b", "vmss", "10.0.3.1"),
    }
    assert made.complete


def test_two_fleets_that_claim_one_machine_are_refused_by_name() -> None:
    two = stack(shop=VMS, spare=fleet("vm", tags={"role": "web"}))
    with pytest.raises(UsageError, match=r"fleets shop and spare both claim .*/web-1: leave it to one") as error:
        found(prod("web-1", "10.0.3.1", tags={"env": "prod", "role": "web"}), of=two)
    assert error.value.code == 2
    everything = desk_settings().fleets | {"all": stack(all=fleet("vm", tags={"patchwave-stack": "dev"})).fleets["all"]}
    with pytest.raises(UsageError, match="fleets machines and all both claim"):
        found(machine(tags={"patchwave-stack": "dev"}), of=desk_settings().model_copy(update={"fleets": everything}))


def test_a_scale_set_that_the_program_creates_is_no_existing_one() -> None:
    own = f"{OWN}/Microsoft.Compute/virtualMachineScaleSets/DEV-web-blue"
    fleets = desk_settings().fleets | {"again": stack(again=fleet("scale_set", ids=[own])).fleets["again"]}
    with pytest.raises(UsageError, match="fleets web and again both claim"):
        Claims("dev", desk_settings().model_copy(update={"fleets": fleets}), SUB)


def test_one_call_names_every_subscription_that_a_fleet_needs() -> None:
    far = fleet("scale_set", ids=[f"/subscriptions/{OTHER}{SETS.removeprefix(f'/subscriptions/{SUB}')}/x"])
    assert Claims("dev", desk_settings(), SUB).subscriptions == (SUB,)
    assert Claims("dev", stack(shop=far), SUB).subscriptions == (OTHER,)
    assert Claims("dev", stack(shop=far, vms=VMS), SUB).subscriptions == (SUB, OTHER)


# The same machine twice


def test_a_machine_that_is_registered_with_arc_as_well_counts_once() -> None:
    """Firmware reports the first three groups of the number in the other byte order."""
    swapped = str(UUID(bytes_le=UUID(NUMBER).bytes)).upper()
    for number in (NUMBER, NUMBER.upper(), swapped):
        made = found(machine(smbios=NUMBER), arc("else", smbios=number))
        assert [(host.name, host.source) for host in made.hosts] == [("dev-machines-0", "vm")]
        assert any("is the same machine as dev-machines-0" in note and "not sites" in note for note in made.notes)


@pytest.mark.parametrize("number", ["", "Not Set", str(UUID(int=0)), "03000200-0400-0500-0006-000700080009"])
@pytest.mark.parametrize(
    ("twin", "once"),
    [
        ({"computer": "DEV-MACHINES-0.corp.example"}, True),
        ({"computer": "dev-machines-0", "address": "10.9.9.9", "cloud": "Azure"}, True),
        ({"computer": "dev-machines-0", "address": "10.9.9.9"}, False),
        ({"computer": "other", "address": "10.9.9.9", "cloud": "Azure"}, False),
    ],
)
def test_without_a_number_the_same_computer_with_an_address_or_in_azure_is_the_same(
    number: str, twin: dict[str, str], once: bool
) -> None:
    made = found(machine(smbios=NUMBER), arc("a", **{"address": "10.0.0.5", "smbios": number, **twin}))
    assert ([host.name for host in made.hosts] == ["dev-machines-0"]) is once


def test_two_numbers_are_two_machines_and_one_address_of_two_is_refused() -> None:
    other = "7f9619ff-8b86-d011-b42d-00c04fc964ff"
    apart = found(machine(smbios=NUMBER), arc("a", smbios=other, computer="dev-machines-0", cloud="Azure"))
    assert {host.name for host in apart.hosts} == {"a", "dev-machines-0"}
    same = found(machine(smbios=NUMBER), arc("a", "10.0.0.5", smbios=other), arc("b"))
    assert [host.name for host in same.hosts] == ["b"]
    reasons = {one.name: one.reason for one in same.problems}
    assert "has the address 10.0.0.5 of" in reasons["a"]
    assert machine()["id"] in reasons["a"]
    assert arc("a")["id"] in reasons["dev-machines-0"]
    assert not same.complete


# Addresses


@pytest.mark.parametrize(
    "strange",
    [
        ("docker0", "172.17.0.1"),
        ("eth9", "172.17.0.1"),
        ("lo", "127.0.0.1"),
        ("eth9", "127.0.1.1"),
        ("br-7f3a", "172.20.0.1"),
        ("eth9", "169.254.10.20"),
        ("virbr0", "192.168.122.1"),
        ("veth12", "10.1.1.1"),
        ("cni0", "10.42.0.1"),
        ("podman0", "10.88.0.1"),
        ("eth9", "fe80::1"),
    ],
)
def test_addresses_that_every_machine_has_are_passed_over(strange: tuple[str, str]) -> None:
    first = arc("a", network=interfaces(strange, ("eth0", "10.0.0.7")))
    second = arc("b", network=interfaces(strange, ("local0", "10.0.0.8")))
    assert {host.address for host in found(first, second).hosts} == {"10.0.0.7", "10.0.0.8"}
    (lost,) = found(arc(network=interfaces(strange))).problems
    assert "has no private IPv4 address of its own" in lost.reason


@pytest.mark.parametrize("address", ["224.0.0.5", "0.1.2.3", "255.255.255.255", "fe80::1", "127.0.0.1", "010.0.0.5"])
def test_an_address_that_reaches_nobody_makes_a_problem_and_no_smaller_fleet(address: str) -> None:
    made = found(*slots(0, 1), machine(address=address), arc())
    assert [one.name for one in made.problems] == ["dev-machines-0"]
    assert len(made.hosts) == 5
    assert not made.complete


@pytest.mark.parametrize("address", [None, ""])
def test_a_machine_without_an_address_is_listed_with_the_fix(address: str | None) -> None:
    start = "has no private IPv4 address of its own in Azure: "
    (created,) = found(machine(address=address)).problems
    assert created.reason == f"{start}attach its interface again"
    (existing,) = found(machine("web-1", address, tags={"env": "prod"}), of=stack(shop=VMS)).problems
    assert existing.reason == f"{start}name one in fleets.shop.hosts.addresses"


def test_an_address_of_the_settings_wins() -> None:
    decided = stack(shop={**VMS, "hosts": {**VMS["hosts"], "addresses": {"Web-1": "192.0.2.7", "web-2": "192.0.2.8"}}})
    made = found(prod("web-1", "10.0.3.1"), prod("web-2", ""), prod("web-3", "10.0.3.3"), of=decided)
    addresses = {name: host.address for name, host in by_name(made).items()}
    assert addresses == {"web-1": "192.0.2.7", "web-2": "192.0.2.8", "web-3": "10.0.3.3"}


def test_an_address_for_nobody_is_an_error_unless_its_host_may_be_unread() -> None:
    hosts = {**VMS["hosts"], "addresses": {"web-9": "192.0.2.7"}}
    with pytest.raises(UsageError, match=r"fleets\.shop\.hosts\.addresses names web-9, the fleet has no such host"):
        found(prod("web-1", "10.0.3.1"), of=stack(shop={**VMS, "hosts": hosts}))
    wide = stack(shop={**VMS, "hosts": {**hosts, "subscriptions": [SUB, OTHER]}})
    made = found(prod("web-1", "10.0.3.1"), of=wide)
    assert any("names web-9" in note for note in made.notes)


# Traffic and rings


@pytest.mark.parametrize(
    ("traffic", "pooled", "live"),
    [
        (BALANCED, True, True),
        (BALANCED, False, False),
        (BALANCED, None, True),
        ({"driver": "none"}, True, False),
        ({"driver": "http", "drain_url": "http://x", "return_url": "http://x", "settle": "PT1M"}, False, True),
        ({"driver": "flag", "path": "/run/drain", "settle": "PT1M"}, False, True),
        ({"driver": "command", "drain": ["a"], "put_back": ["b"], "timeout": "PT1M"}, False, True),
    ],
)
def test_a_host_is_live_by_its_pools_or_where_nothing_better_is_known(
    traffic: dict[str, Any], pooled: bool | None, live: bool
) -> None:
    decided = stack(traffic, shop=VMS, sets=fleet("scale_set", ids=[f"{SETS}/uniform"]))
    rows = [prod("web-1", "10.0.3.1", pooled=pooled), *instance(f"{SETS}/uniform", 3, "10.0.3.2")]
    rows[2]["pooled"] = pooled
    made = found(*rows, of=decided)
    assert {host.name: host.live for host in made.hosts} == {"web-1": live, "uniform-3": live}


@pytest.mark.parametrize(
    ("rows", "live"),
    [
        ([], True),
        ([{"network": [{"properties": {"backendAddresses": [{"ipAddress": "10.0.0.9"}]}}]}], True),
        ([{"network": [{"properties": {"backendAddresses": [{"ipAddress": "10.0.0.8"}]}}]}], False),
        ([{"network": "strange"}], True),
    ],
)
def test_pools_that_a_service_names_list_addresses_and_unread_they_count_as_live(rows: list[Row], live: bool) -> None:
    pools = [f"{BALANCER}/backendAddressPools/web"]
    decided = stack({**BALANCED, "pools": pools}, sites=fleet("arc", tags={"patchwave-stack": "dev"}))
    (host,) = found(arc(), *(row("microsoft.network/loadbalancers", BALANCER, **one) for one in rows), of=decided).hosts
    assert host.live is live


def test_another_interface_in_a_pool_makes_a_machine_live() -> None:
    nic = row("microsoft.network/networkinterfaces", f"{SITES}/Microsoft.Network/networkInterfaces/second")
    one = prod("web-1", "10.0.3.1")
    (host,) = found(one, nic | {"owner": one["id"].lower()}, of=stack(BALANCED, shop=VMS)).hosts
    assert host.live


@pytest.mark.parametrize(("green", "live"), [(100, True), (0, False)])
def test_a_slot_with_weight_is_live_as_well(green: int, live: bool) -> None:
    decided = desk_settings().model_dump(mode="json")
    weights = {"blue": 900, "green": green}
    decided["fleets"]["web"]["hosts"]["traffic_manager"] = {"dns_name": "desk", "ttl": "PT30S", "weights": weights}
    assert by_name(found(*slots(0), of=parsed(decided)))["dev-web-green-0"].live is live


@pytest.mark.parametrize("numbers", [(4, 7), (1, 2), (0, 1)])
def test_whatever_numbers_instances_have_a_live_one_goes_first_and_alone(numbers: tuple[int, int]) -> None:
    made = found(*slots(*numbers), machine(), arc())
    first = next(batch for batch in batches(made.hosts, desk_settings()) if batch.hosts[0].fleet == "web")
    assert [(host.live, host.ring) for host in first.hosts] == [(True, "canary")]
    assert made.complete


def test_eight_existing_live_instances_never_go_together() -> None:
    decided = stack(BALANCED, shop=fleet("scale_set", ids=[f"{SETS}/uniform"]))
    rows = [instance(f"{SETS}/uniform", number, f"10.0.3.{number}", pooled=True) for number in range(1, 9)]
    made = found(scale_set(f"{SETS}/uniform", 8), *itertools.chain(*rows), of=decided)
    assert [len(batch.hosts) for batch in batches(made.hosts, decided)] == [1] * 8


# What lacks


def test_a_stranger_with_the_stacks_tag_never_makes_it_complete() -> None:
    stranger = machine("dev-machines-1", "10.0.0.77", tags={"patchwave-stack": "dev", "patchwave-fleet": "machines"})
    made = found(*slots(0, 1), stranger, arc())
    assert made.missing == ("dev-machines-0",)
    assert made.lacks == ("dev-machines-0 is declared and not in Azure's answer: create it, or look for it",)
    assert not made.complete
    (left,) = made.left_alone
    assert (left.name, left.fleet) == ("dev-machines-1", None)
    assert "has the tag patchwave-stack: dev, no fleet claims it" in left.reason


def test_instances_lack_by_their_number() -> None:
    rows = [one for one in desk() if "dev-web-blue/virtualMachines/1" not in one["id"]]
    assert found(*rows).missing == ("dev-web-blue (1 of 2 instances listed)",)
    decided = stack(shop=fleet("scale_set", ids=[f"{SETS}/uniform"]))
    short = found(scale_set(f"{SETS}/uniform", 2), *instance(f"{SETS}/uniform", 3, "10.0.3.3"), of=decided)
    assert short.missing == ("uniform (1 of 2 instances listed)",)


def test_a_subscription_that_cannot_be_read_is_named() -> None:
    decided = stack(shop={**VMS, "hosts": {**VMS["hosts"], "subscriptions": [SUB, OTHER]}})
    made = found(prod("web-1", "10.0.3.1"), of=decided)
    assert [host.name for host in made.hosts] == ["web-1"]
    assert made.partial == (
        f"subscription {OTHER}: nothing of it can be read: give this runner's identity Reader there, or correct the id",
    )
    with pytest.raises(Refused, match=f"not complete, no part of a stack is patched: subscription {OTHER}"):
        made.whole()
    with pytest.raises(Failed, match=f"subscription {SUB}, {OTHER}: nothing of it can be read"):
        read([], Claims("dev", decided, SUB))


def test_an_existing_scale_set_that_is_not_there_is_named() -> None:
    made = found(of=stack(shop=fleet("scale_set", ids=[f"{SETS}/gone"])))
    assert made.partial == (
        f"scale set {SETS}/gone of fleet shop: it does not exist, or this runner may not read it".replace(
            SETS, SETS.lower()
        ),
    )
    assert "fleet shop has no host that can be patched" in made.notes


@pytest.mark.parametrize("power", ["deallocated", "stopped", "Deallocating"])
def test_a_machine_that_is_off_is_shown_and_keeps_a_wave_from_starting(power: str) -> None:
    made = found(*slots(0, 1), machine(power=f"PowerState/{power}"), arc())
    assert [(one.name, one.reason.partition(":")[0]) for one in made.problems] == [
        ("dev-machines-0", f"is {power.lower()}")
    ]
    with pytest.raises(Refused, match="dev-machines-0 is") as error:
        made.whole()
    assert error.value.code == 3


@pytest.mark.parametrize(
    "changed", [{"os_type": "Windows"}, {"os_type": "windows"}, {"os_type": "", "os": "Windows Server 2022"}]
)
def test_windows_is_left_alone_even_without_an_address(changed: dict[str, str]) -> None:
    made = found(*desk(), arc("pc-1") | {"network": []} | changed)
    assert [(one.name, one.reason) for one in made.left_alone] == [("pc-1", "runs Windows, which no wave patches")]
    assert made.complete


def test_a_fleet_whose_method_is_not_carried_out_is_left_alone() -> None:
    decided = stack(shop=VMS, managed=fleet("arc", tags={"patchwave-stack": "dev"}, method="update_manager"))
    made = found(prod("web-1", "10.0.3.1"), arc(), of=decided)
    assert [(one.name, one.fleet) for one in made.left_alone] == [("site-0", "managed")]
    assert (len(made.hosts), made.complete, made.notes) == (1, True, ())


def test_machines_of_one_name_are_told_apart_by_group_and_subscription() -> None:
    decided = stack(shop={**VMS, "hosts": {**VMS["hosts"], "subscriptions": [SUB, OTHER]}})
    office, far = SITES.replace("Sites", "Office(1)"), SITES.replace(SUB, OTHER)
    alone = found(prod("web", "10.0.3.1"), of=stack(shop=VMS))
    assert [host.name for host in alone.hosts] == ["web"]
    rows = [
        machine("web", f"10.0.3.{number}", within=one, tags={"env": "prod"})
        for number, one in enumerate((SITES, office, far), 1)
    ]
    made = found(subscription(OTHER), *rows, of=decided)
    assert {host.name: host.address for host in made.hosts} == {
        f"web.sites.{SUB}": "10.0.3.1",
        "web.office-1-": "10.0.3.2",
        f"web.sites.{OTHER}": "10.0.3.3",
    }
    assert sum("another machine is called web as well" in note for note in made.notes) == 3


# Hostile data

PROXY = "-oProxyCommand=touch${IFS}PWN"
TEMPLATE = "{{ lookup('pipe', 'touch PWN') }}"
HOSTILE = [
    {"name": PROXY},
    {"name": "web;reboot"},
    {"name": TEMPLATE},
    {"name": "[red]x[/"},
    {"name": 7},
    {"address": PROXY},
    {"address": "10.0.0.5 -oProxyCommand=id"},
    {"os": TEMPLATE},
    {"os": "Debian\n12"},
    {"power": PROXY},
    {"smbios": None},
    {"network": "eth0", "type": "microsoft.hybridcompute/machines"},
    {"network": [{"ipAddresses": [{"address": ["10.0.0.9"]}]}], "type": "microsoft.hybridcompute/machines"},
    {"id": f"{SITES}/x/machines/{TEMPLATE}"},
    {"id": f"{SITES}/x/machines/{PROXY}\x1b[31m"},
]


@pytest.mark.parametrize("changed", HOSTILE, ids=str)
def test_hostile_data_makes_one_machine_unusable_and_is_escaped(changed: dict[str, Any]) -> None:
    both = {"env": "prod"}
    decided = stack(shop=VMS, sites=fleet("arc", tags=both))
    made = found(prod("good", "10.0.3.1"), prod("bad", "10.0.3.2") | changed, of=decided)
    assert [host.name for host in made.hosts] == ["good"]
    (problem,) = made.problems
    assert f"{problem.id}{problem.name}{problem.reason}".isprintable()
    assert not made.complete


SOME = st.none() | st.integers() | st.text(max_size=6) | st.lists(st.dictionaries(st.text(max_size=3), st.none()))
VM, ARC = "microsoft.compute/virtualmachines", "microsoft.hybridcompute/machines"
OTHERS = (INSTANCES, f"{INSTANCES}/networkinterfaces", "microsoft.network/loadbalancers",
          "microsoft.network/networkinterfaces", "microsoft.compute/virtualmachinescalesets")  # fmt: skip
OURS = ({"env": "prod"}, {"patchwave-stack": "dev"})
POSSIBLE = {
    "type": st.sampled_from([VM, VM, ARC, ARC, *OTHERS]),
    "id": st.sampled_from([f"{within}/x/{name}" for within in (OWN, SITES, ELSEWHERE) for name in "abc"]),
    "name": st.sampled_from(["web", "Web", "web.sites", "db", TEMPLATE]),
    "address": st.sampled_from(["10.0.0.1", "10.0.0.2", "127.0.0.1", ""]),
    "network": st.sampled_from([interfaces(("eth0", "10.0.0.1")), interfaces(("eth0", "10.0.0.3")), []]),
    "tags": st.sampled_from([*OURS, {"env": "test"}]),
    "scale_set": st.sampled_from(["", "", f"{SETS}/flex".lower()]),
    "power": st.sampled_from(["PowerState/running", "PowerState/deallocated", "Connected"]),
    "os_type": st.sampled_from(["Linux", "Windows"]),
    "smbios": st.sampled_from(["", NUMBER]),
}
ROWS = st.lists(
    st.tuples(
        st.fixed_dictionaries(POSSIBLE), st.dictionaries(st.sampled_from(sorted(POSSIBLE)), SOME, max_size=1)
    ).map(lambda parts: parts[0] | parts[1]),
    max_size=8,
)


@cache
def _of_many_fleets() -> Settings:
    wide = {"tags": {"env": "prod"}, "subscriptions": [SUB, OTHER]}
    sets = fleet("scale_set", ids=[f"{SETS}/flex"])
    traffic = BALANCED | {"pools": [f"{BALANCER}/backendAddressPools/web"]}
    return stack(traffic, shop=fleet("vm", **wide), sites=fleet("arc", **wide), sets=sets)


@given(ROWS.filter(lambda rows: not any(one["scale_set"] and one["tags"] == {"env": "prod"} for one in rows)))
def test_every_machine_is_in_one_list_whatever_the_rows_say(drawn: list[Row]) -> None:
    """Machines of other people are in none, and one that is listed twice is in the list of the virtual machine."""
    rows = list({str(one["id"]).lower(): machine("x") | one for one in drawn}.values())
    made = found(*rows, of=_of_many_fleets())
    listed = [one.id for part in (made.hosts, made.left_alone, made.problems) for one in part]
    assert len(listed) == len(set(listed))
    assert len({host.address for host in made.hosts}) == len({host.name for host in made.hosts}) == len(made.hosts)
    ours = {
        one["id"]
        for one in rows
        if one["type"] in (VM, ARC) and str(one["id"]).startswith("/subscriptions/") and one["tags"] in OURS
    }
    assert all(any(f"{lost} is the same machine as" in note for note in made.notes) for lost in ours - set(listed))
    assert made.complete == (not made.lacks)
