"""Azure's rows become hosts: every kind, its address and its ring; what cannot be a host is an error."""

import json
from typing import Any

import pytest

from patchwave.errors import Failed
from patchwave.inventory import Host, hosts
from tests.fast.builders import settings

GROUP = "/subscriptions/S/resourceGroups/patchwave-dev/providers"
SET = f"{GROUP}/Microsoft.Compute/virtualMachineScaleSets/dev-blue"
MACHINE = f"{GROUP}/Microsoft.Compute/virtualMachines/dev-vm-0"


def row(kind: str, identity: str, properties: dict[str, Any], **tags: str) -> dict[str, Any]:
    named = {"id": identity, "name": identity.rsplit("/", 1)[1], "type": kind}
    return {**named, "tags": {"patchwave-stack": "dev", **tags}, "properties": properties}


def nic(owner: str, address: str) -> dict[str, Any]:
    configs = [{"properties": {"privateIPAddress": address}}]
    properties = {"virtualMachine": {"id": owner}, "ipConfigurations": configs}
    return {"type": "Microsoft.Network/networkInterfaces", "id": f"{owner}-nic", "properties": properties}


INSTANCE = row(
    "microsoft.compute/virtualmachinescalesets/virtualmachines",
    f"{SET}/virtualMachines/0",
    {},
    **{"patchwave-slot": "blue"},
)
ARC = row(
    "microsoft.hybridcompute/machines",
    "/subscriptions/S/resourceGroups/sites/providers/Microsoft.HybridCompute/machines/site-arc-0",
    {"networkProfile": {"networkInterfaces": [{"ipAddresses": [{"address": "10.0.0.9"}]}]}, "osSku": "Debian 12"},
)
VM = row("microsoft.compute/virtualmachines", MACHINE, {})


def found(rows: list[dict[str, Any]], nics: list[dict[str, Any]]) -> dict[str, Host]:
    return {host.name: host for host in hosts(rows, nics, settings())}


def test_each_kind_of_machine_becomes_a_host() -> None:
    made = found([INSTANCE, VM, ARC, nic(MACHINE.upper(), "10.0.0.5")], [nic(f"{SET}/virtualMachines/0", "10.0.0.4")])
    assert {name: (h.address, h.source, h.fleet, h.ring, h.slot, h.live) for name, h in made.items()} == {
        "dev-blue-0": ("10.0.0.4", "vmss", "web", "canary", "blue", True),
        "dev-vm-0": ("10.0.0.5", "vm", "machines", "rest", None, False),
        "site-arc-0": ("10.0.0.9", "arc", "sites", "rest", None, False),
    }


def test_properties_may_come_as_text() -> None:
    text = {**ARC, "properties": json.dumps(ARC["properties"]), "tags": json.dumps(ARC["tags"])}
    assert found([text], [])["site-arc-0"].os == "Debian 12"


def test_a_machine_without_an_address_is_an_error_and_not_a_smaller_fleet() -> None:
    with pytest.raises(Failed, match="no private address"):
        found([VM, ARC], [])


def test_two_machines_of_one_name_are_an_error() -> None:
    twin = {**ARC, "id": ARC["id"].replace("sites", "other")}
    with pytest.raises(Failed, match="two machines are named site-arc-0"):
        found([ARC, twin], [])
