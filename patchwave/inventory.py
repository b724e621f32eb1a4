"""Which hosts a stack has: one Resource Graph query, plus one address list a scale set."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from patchwave.arm import NETWORK, Arm
from patchwave.errors import Failed
from patchwave.model import Model
from patchwave.settings import Settings, Slot, Source

FILE = "PATCHWAVE_INVENTORY_FILE"

QUERY = (Path(__file__).parent / "queries" / "inventory.kql").read_text(encoding="utf-8")

SOURCES: dict[str, Source] = {
    "microsoft.compute/virtualmachines": "vm",
    "microsoft.hybridcompute/machines": "arc",
    "microsoft.compute/virtualmachinescalesets/virtualmachines": "vmss",
}


class Host(Model):
    """One machine that a stack patches; `live` means that users' requests reach it."""

    id: str
    name: str
    address: str
    source: Source
    fleet: str
    ring: str
    slot: Slot | None
    os: str
    live: bool


HOSTS = TypeAdapter(tuple[Host, ...])


def discover(stack: str, settings: Settings, environ: Mapping[str, str] = os.environ) -> tuple[Host, ...]:
    """The stack's hosts by name; a host without an address is an error, never a smaller fleet."""
    if path := environ.get(FILE):
        return HOSTS.validate_json(Path(path).read_bytes())
    with Arm(environ) as arm:
        rows = arm.graph(QUERY.replace("{stack}", stack))
        sets = sorted({scale_set_id(row["id"]) for row in rows if _kind(row) == "vmss"})
        nics = [nic for sid in sets for nic in arm.pages(f"{sid}/networkInterfaces", api=NETWORK)]
    return hosts(rows, nics, settings)


def hosts(rows: Sequence[Mapping[str, Any]], nics: Sequence[Mapping[str, Any]], settings: Settings) -> tuple[Host, ...]:
    """Resource Graph's rows and the scale sets' network interfaces, joined into hosts."""
    interfaces = [*nics, *(row for row in rows if _type(row) == "microsoft.network/networkinterfaces")]
    addresses = {owner: address for nic in interfaces for owner, address in _addresses(nic)}
    found: dict[str, Host] = {}
    for row in rows:
        source = _kind(row)
        if source is None:
            continue
        name = _host_name(row, source)
        properties = _object(row["properties"])
        tags = _object(row.get("tags")) or {}
        address = _arc_address(properties) if source == "arc" else addresses.get(row["id"].lower())
        if not address:
            raise Failed(
                f"{row['id']}: no private address in Azure's answer: is it running and its interface attached?"
            )
        if name in found:
            raise Failed(f"two machines are named {name} ({found[name].id}, {row['id']}): rename or untag one")
        slot: Slot | None = tags.get("patchwave-slot") if source == "vmss" else None
        live = settings.slots.live
        found[name] = Host(
            id=row["id"],
            name=name,
            address=address,
            source=source,
            fleet=settings.fleet(source),
            ring=settings.rollout.ring_of(name, live).name,
            slot=slot,
            os=_os(properties),
            live=slot == live,
        )
    return tuple(found[name] for name in sorted(found))


def scale_set_id(instance: str) -> str:
    """The scale set of an instance id."""
    return instance[: instance.lower().rindex("/virtualmachines/")]


def _type(row: Mapping[str, Any]) -> str:
    return str(row.get("type", "")).lower()


def _kind(row: Mapping[str, Any]) -> Source | None:
    return SOURCES.get(_type(row))


def _object(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _host_name(row: Mapping[str, Any], source: Source) -> str:
    if source != "vmss":
        return str(row["name"]).lower()
    return f"{scale_set_id(row['id']).rsplit('/', 1)[1]}-{row['id'].rsplit('/', 1)[1]}".lower()


def _addresses(nic: Mapping[str, Any]) -> list[tuple[str, str]]:
    properties = _object(nic["properties"])
    owner = (properties.get("virtualMachine") or {}).get("id")
    if not owner:
        return []
    return [
        (owner.lower(), address)
        for config in properties.get("ipConfigurations", [])
        if (address := config["properties"].get("privateIPAddress"))
    ][:1]


def _arc_address(properties: Mapping[str, Any]) -> str | None:
    for interface in (properties.get("networkProfile") or {}).get("networkInterfaces", []):
        for address in interface.get("ipAddresses", []):
            if address.get("ipAddressVersion", "IPv4") == "IPv4":
                return str(address["address"])
    return None


def _os(properties: Mapping[str, Any]) -> str:
    disk = (properties.get("storageProfile") or {}).get("osDisk") or {}
    return str(properties.get("osSku") or properties.get("osName") or disk.get("osType") or "Linux")
