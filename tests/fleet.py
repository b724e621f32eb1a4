"""A fleet of any size in a store: virtual machines with two network interfaces each, and Arc machines."""

from __future__ import annotations

import shutil
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import yaml

from sandbox.azure.arm.complete import stable
from sandbox.azure.resources.ids import SUBSCRIPTION
from sandbox.azure.resources.store import Row, Store
from sandbox.lab.hosts import HostSpec

GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/patchwave-prod"
SITES = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/sites"
SUBNET = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/prod/subnets/hosts"
LOCATION = "westeurope"
FIRST = IPv4Address("10.64.0.4")
ARC_EVERY = 10
Json = Any
FLEETS = {
    "machines": {"service": "desk", "method": "apt", "hosts": {"source": "vm", "tags": {"Role": "Machines"}}},
    "sites": {"service": "desk", "method": "apt", "hosts": {
        "source": "arc", "tags": {"role": "sites"}, "resource_groups": ["Sites"]}},
}  # fmt: skip
"""What claims the machines of `seed`, in the plain data of a stack's settings."""


class IdleHosts:
    """Hosts that run and that nobody can reach: the rows of a fleet are all that is looked at."""

    def create(self, spec: HostSpec) -> None:
        raise AssertionError(f"{spec.name} is a row only")

    def start(self, name: str) -> None: ...

    def stop(self, name: str) -> None: ...

    def restart(self, name: str) -> None: ...

    def delete(self, name: str) -> None: ...

    def names(self) -> list[str]:
        return []

    def running(self, name: str) -> bool:
        return True

    def snapshot(self, name: str, target: Path) -> None:
        raise AssertionError(f"{name} has no disk")

    def restore(self, name: str, source: Path) -> None:
        raise AssertionError(f"{name} has no disk")


def seed(store: Store, count: int, *, stack: str = "prod") -> set[str]:
    """Stores that many machines, one in ten an Arc machine; their names.

    One Arc machine in ten has a virtual machine's SMBIOS number: it is registered twice and counted once.
    """
    names: set[str] = set()
    with store.change():
        for key in (GROUP, SITES):
            body = {"id": key, "name": key.rsplit("/", 1)[1], "type": "Microsoft.Resources/resourceGroups",
                    "location": LOCATION, "properties": {"provisioningState": "Succeeded"}}  # fmt: skip
            store.put(Row(key, "microsoft.resources/resourcegroups", key.rsplit("/", 2)[0], body))
        for number in range(count):
            name = f"{stack}-arc-{number:06}" if number % ARC_EVERY == 0 else f"{stack}-vm-{number:06}"
            rows = _arc(name, number, stack) if number % ARC_EVERY == 0 else _machine(name, number, stack)
            names.add(name)
            if number % (ARC_EVERY * ARC_EVERY) == 1:
                rows += _arc(f"{name}-arc", number, stack, twin=rows[0].properties["vmId"])
            for row in rows:
                store.put(row)
    return names


def with_fleets(project: Path, into: Path, stack: str = "prod") -> Path:
    """A copy of a project's decisions in which the stack has the fleets of `seed` and nothing else."""
    shutil.copytree(project, into)
    path = into / f"Pulumi.{stack}.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings = document["config"]["patchwave:settings"]
    settings |= {"fleets": FLEETS, "services": {"desk": settings["services"]["desk"] | {"gates": []}}}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return into


def clear(store: Store) -> None:
    """Takes away what `seed` has stored."""
    with store.change():
        for row in (*store.under(GROUP), *store.under(SITES)):
            if "-vm-" in row.name or "-arc-" in row.name:
                store.remove(row.key)


def _row(group: str, provider: str, name: str, properties: Json, hidden: Json, **more: Json) -> Row:
    identity = f"{group}/providers/{provider}/{name}"
    body = {"id": identity, "name": name, "type": provider, "location": LOCATION, **more, "properties": properties}
    return Row(identity, provider.lower(), group, body, hidden)


def _tags(stack: str, fleet: str) -> dict[str, str]:
    return {"stack": stack, "role": fleet, "owner": "fieldops", "cost-centre": "4711"}


def _machine(name: str, number: int, stack: str) -> list[Row]:
    interfaces = [_interface(f"{name}-nic{index}", name, number, index) for index in range(2)]
    references = [{"id": nic.id, "properties": {"primary": index == 0}} for index, nic in enumerate(interfaces)]
    disk = f"{GROUP}/providers/Microsoft.Compute/disks/{name}-os"
    properties = {
        "vmId": stable(name), "provisioningState": "Succeeded", "timeCreated": "2026-01-01T00:00:00+00:00",
        "hardwareProfile": {"vmSize": "Standard_D4s_v5"}, "networkProfile": {"networkInterfaces": references},
        "osProfile": {"computerName": name, "adminUsername": "patchwave", "linuxConfiguration": {
            "disablePasswordAuthentication": True, "provisionVMAgent": True}},
        "storageProfile": {
            "imageReference": {"publisher": "Debian", "offer": "debian-12", "sku": "12-gen2", "version": "latest"},
            "osDisk": {
                "name": f"{name}-os", "osType": "Linux", "createOption": "FromImage", "managedDisk": {"id": disk}},
            "dataDisks": []},
    }  # fmt: skip
    hidden = {"host": name, "power": "running"}
    machine = _row(GROUP, "Microsoft.Compute/virtualMachines", name, properties, hidden, tags=_tags(stack, "machines"))
    return [machine, *interfaces]


def _interface(name: str, machine: str, number: int, index: int) -> Row:
    properties = {
        "provisioningState": "Succeeded", "resourceGuid": stable(name), "primary": index == 0,
        "macAddress": f"00-0D-3A-{number >> 8 & 255:02X}-{number & 255:02X}-{index:02X}",
        "enableAcceleratedNetworking": False, "enableIPForwarding": False,
        "virtualMachine": {"id": f"{GROUP}/providers/Microsoft.Compute/virtualMachines/{machine}"},
        "ipConfigurations": [{"name": "primary", "properties": {
            "privateIPAddress": str(FIRST + 2 * number + index), "privateIPAllocationMethod": "Dynamic",
            "privateIPAddressVersion": "IPv4", "primary": True, "subnet": {"id": SUBNET}}}],
    }  # fmt: skip
    return _row(GROUP, "Microsoft.Network/networkInterfaces", name, properties, {})


def _arc(name: str, number: int, stack: str, twin: str | None = None) -> list[Row]:
    properties = {
        "provisioningState": "Succeeded", "status": "Connected", "vmId": stable(f"agent {name}"),
        "vmUuid": twin or stable(f"board {name}"), "osType": "linux", "osName": "linux",
        "osSku": "Debian GNU/Linux 12 (bookworm)", "machineFqdn": f"{name}.site.example",
        "osProfile": {"computerName": name},
        "networkProfile": {"networkInterfaces": [{"name": "eth0", "ipAddresses": [
            {"address": "fe80::1", "ipAddressVersion": "IPv6"},
            {"address": str(FIRST + 2 * number), "ipAddressVersion": "IPv4"}]}]},
    }  # fmt: skip
    hidden = {"host": name, "power": "running"}
    return [_row(SITES, "Microsoft.HybridCompute/machines", name, properties, hidden, tags=_tags(stack, "sites"))]
