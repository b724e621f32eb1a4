"""Azure's rows become hosts: every kind, its address and its ring; what cannot be a host is an error that names it."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import settings as configured
from hypothesis import strategies as st

from patchwave.azure.inventory import Host, Inventory, read
from patchwave.base.errors import Failed
from tests.unit.builders import settings

GROUP = "/subscriptions/S/resourceGroups/patchwave-dev/providers"
SITES = "/subscriptions/S/resourceGroups/sites/providers"
SET = f"{GROUP}/Microsoft.Compute/virtualMachineScaleSets/dev-blue"
INSTANCES = "microsoft.compute/virtualmachinescalesets/virtualmachines"
NUMBER = "6f9619ff-8b86-d011-b42d-00c04fc964ff"


def row(kind: str, identity: str, **changed: Any) -> dict[str, Any]:
    plain = {"id": identity, "name": identity.rsplit("/", 1)[1], "type": kind, "owner": "", "address": None}
    empty = {"network": [], "power": "", "os": "", "smbios": "", "fleet": "", "ring": "", "slot": ""}
    return {**plain, **empty, **changed}


def instance(number: int = 0, **changed: Any) -> dict[str, Any]:
    identity = f"{SET}/virtualMachines/{number}"
    return row(INSTANCES, identity, name=f"dev-blue_{number}", slot="blue", **changed)


def interface(number: int = 0, address: str = "10.0.0.4", **changed: Any) -> dict[str, Any]:
    owner = f"{SET}/virtualMachines/{number}"
    network = [{"properties": {"privateIPAddress": address, "primary": True}}]
    kind = f"{INSTANCES}/networkinterfaces"
    return row(kind, f"{owner}/networkInterfaces/nic", owner=owner.lower(), network=network, **changed)


def machine(name: str = "dev-vm-0", **changed: Any) -> dict[str, Any]:
    found = {"address": "10.0.0.5", "power": "PowerState/running", "os": "Linux", **changed}
    return row("microsoft.compute/virtualmachines", f"{GROUP}/Microsoft.Compute/virtualMachines/{name}", **found)


def arc(name: str = "site-arc-0", address: str = "10.0.0.9", **changed: Any) -> dict[str, Any]:
    addresses = [{"address": "fe80::1", "ipAddressVersion": "IPv6"}, {"address": address, "ipAddressVersion": "IPv4"}]
    found = {"network": [{"name": "eth0", "ipAddresses": addresses}], "power": "Connected", "os": "Debian 12"}
    return row(
        "microsoft.hybridcompute/machines", f"{SITES}/Microsoft.HybridCompute/machines/{name}", **found, **changed
    )


def found(*rows: dict[str, Any]) -> Inventory:
    return read(rows, settings())


def by_name(inventory: Inventory) -> dict[str, Host]:
    return {host.name: host for host in inventory.hosts}


def test_each_kind_of_machine_becomes_a_host() -> None:
    made = found(instance(), interface(), machine(), arc())
    shown = {n: (h.address, h.source, h.fleet, h.ring, h.slot, h.live, h.os) for n, h in by_name(made).items()}
    assert shown == {
        "dev-blue-0": ("10.0.0.4", "vmss", "web", "canary", "blue", True, "Linux"),
        "dev-vm-0": ("10.0.0.5", "vm", "machines", "rest", None, False, "Linux"),
        "site-arc-0": ("10.0.0.9", "arc", "sites", "rest", None, False, "Debian 12"),
    }
    assert made.power == {"dev-blue-0": "unknown", "dev-vm-0": "running", "site-arc-0": "connected"}


@configured(deadline=None)
@given(st.permutations([instance(0), instance(1), interface(0), interface(1, "10.0.0.6"), machine(), arc()]))
def test_the_order_of_the_rows_changes_nothing(rows: list[dict[str, Any]]) -> None:
    made = read(rows, settings())
    assert [host.name for host in made.hosts] == ["dev-blue-0", "dev-blue-1", "dev-vm-0", "site-arc-0"]
    assert made == found(*sorted(rows, key=lambda one: one["id"]))


def test_interfaces_of_other_peoples_scale_sets_are_nobodys_business() -> None:
    foreign = interface(7) | {"owner": "/subscriptions/s/aks/{{ 1 }}", "id": "{{ lookup('pipe', 'id') }}"}
    assert [host.name for host in found(machine(), foreign).hosts] == ["dev-vm-0"]


@pytest.mark.parametrize("lost", [machine(address=None), machine(address=""), instance(), arc(address="")])
def test_a_machine_without_an_address_is_an_error_and_not_a_smaller_fleet(lost: dict[str, Any]) -> None:
    with pytest.raises(Failed, match=r"no private IPv4 address") as error:
        found(machine("dev-vm-1"), lost)
    assert lost["id"] in str(error.value)


@pytest.mark.parametrize(("green", "live"), [(100, True), (0, False)])
def test_a_slot_with_weight_is_live_as_well(green: int, live: bool) -> None:
    slots = settings("prod").slots
    assert slots.traffic_manager is not None
    spread = slots.traffic_manager.model_copy(update={"weights": {"blue": 900, "green": green}})
    decided = settings("prod").model_copy(update={"slots": slots.model_copy(update={"traffic_manager": spread})})
    rows = (instance() | {"slot": "green"}, interface())
    (host,) = read(rows, decided).hosts
    assert host.live == live


def test_two_machines_of_one_name_are_an_error() -> None:
    twin = arc() | {"id": arc()["id"].replace("sites", "other")}
    with pytest.raises(Failed, match="two machines are named site-arc-0"):
        found(arc(), twin)


def test_a_machine_registered_twice_counts_once_and_it_is_said() -> None:
    """Firmware reports the first three groups of the number in the other byte order."""
    swapped = str(UUID(bytes_le=UUID(NUMBER).bytes)).upper()
    for number in (NUMBER, NUMBER.upper(), swapped):
        made = found(machine(smbios=NUMBER), arc(name="dev-vm-0", smbios=number))
        assert [(host.name, host.source) for host in made.hosts] == [("dev-vm-0", "vm")]
        assert any("is the same machine as dev-vm-0" in note for note in made.notes)
    apart = found(
        machine(smbios=NUMBER), arc(smbios="7f9619ff-8b86-d011-b42d-00c04fc964ff"), arc("b", smbios="Not Set")
    )
    assert [host.name for host in apart.hosts] == ["b", "dev-vm-0", "site-arc-0"]


PROXY = "-oProxyCommand=touch${IFS}PWN"
TEMPLATE = "{{ lookup('pipe', 'touch PWN') }}"


@pytest.mark.parametrize(
    "hostile",
    [
        machine() | {"name": PROXY},
        machine() | {"name": "web;reboot"},
        machine() | {"name": TEMPLATE},
        machine(address=PROXY),
        machine(address="10.0.0.5 -oProxyCommand=id"),
        machine(address="010.0.0.5"),
        machine(address="fe80::1"),
        machine(os=TEMPLATE),
        machine(os="Debian\n12"),
        machine(slot=TEMPLATE),
        machine(ring=TEMPLATE),
        machine(fleet=f"sites{TEMPLATE}"),
        machine(power=PROXY),
        machine(surprise="x"),
        machine() | {"name": 7},
        arc(address=PROXY),
        arc() | {"network": "eth0"},
        arc() | {"network": [{"ipAddresses": [{"address": ["10.0.0.9"]}]}]},
        machine(TEMPLATE),
        machine(PROXY),
    ],
)
def test_hostile_data_is_refused_and_the_row_is_named(hostile: dict[str, Any]) -> None:
    with pytest.raises(Failed) as error:
        found(machine("dev-vm-1"), hostile)
    assert repr(hostile["id"])[1:40] in str(error.value)
    assert "\n" not in str(error.value)


def test_tags_that_contradict_the_settings_are_said() -> None:
    made = found(arc(fleet="sites", ring="canary"), machine(fleet="web", ring="rest"))
    assert [note for note in made.notes if "tag" in note] == [
        "dev-vm-0: its tag patchwave-fleet says web, the settings say machines: correct the tag",
        "site-arc-0: its tag patchwave-ring says canary, the settings say rest: correct the tag",
    ]


def test_fewer_machines_than_declared_are_no_complete_fleet() -> None:
    """Dev declares two slots of two instances, one machine and an Arc machine."""
    slots = [instance(number) for number in range(4)] + [interface(number, f"10.0.1.{number}") for number in range(4)]
    whole, short = found(*slots, machine(), arc()), found(*slots, machine())
    assert (whole.complete, short.complete) == (True, False)
    assert any("the settings declare at least" in note for note in short.notes)
    assert not whole.notes
