"""Which hosts a stack has: one Resource Graph query, read strictly."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from patchwave.azure.client import Arm
from patchwave.base.errors import Failed
from patchwave.base.model import Model, first_problem
from patchwave.config.settings import Settings, Slot, Source
from patchwave.config.settings.fleets import Method
from patchwave.config.settings.types import Name

FILE = "PATCHWAVE_INVENTORY_FILE"

QUERY = (Path(__file__).parent / "queries" / "inventory.kql").read_text(encoding="utf-8")

SOURCES: dict[str, Source] = {
    "microsoft.compute/virtualmachines": "vm",
    "microsoft.hybridcompute/machines": "arc",
    "microsoft.compute/virtualmachinescalesets/virtualmachines": "vmss",
}

_OCTET = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
Address = Annotated[str, Field(pattern=rf"^({_OCTET}\.){{3}}{_OCTET}$")]
HostName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")]
Id = Annotated[str, Field(pattern=r"^(/[\w(.][\w.()-]*)+$", max_length=1024)]
Plain = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f{}\[\]<>$`\\]*$", max_length=200)]
Tag = Annotated[str, Field(pattern=r"^([a-z][a-z0-9-]{1,30})?$")]


class Host(Model):
    """One machine of a stack; `live` means that users' requests reach it, as far as can be known."""

    id: Id
    name: HostName
    address: Address
    source: Source
    fleet: Name
    service: Name
    method: Method
    ring: Name
    slot: Slot | None
    os: Plain
    live: bool


HOSTS = TypeAdapter(tuple[Host, ...])


class Inventory(Model):
    """The hosts by name, the power state of each, and what a reader should know about them."""

    hosts: tuple[Host, ...]
    power: dict[str, str]
    notes: tuple[str, ...]
    expected: int

    @property
    def complete(self) -> bool:
        """Whether Azure lists at least the hosts that the settings declare; who lacks access is shown fewer."""
        return len(self.hosts) >= self.expected


class _Row(Model):
    """One row of the query; a machine's own, or that of a scale-set instance's primary interface."""

    id: Id
    name: str
    type: str
    owner: str
    address: str | None
    network: list[dict[str, Any]] | None
    power: Annotated[str, Field(pattern=r"^(PowerState/)?[A-Za-z]{0,30}$")]
    os: Plain
    smbios: Plain
    fleet: Tag
    ring: Tag
    slot: Literal["", "blue", "green"]


class _Part(BaseModel):
    """A piece of Azure's answer of which only some fields matter; those are strict."""

    model_config = ConfigDict(strict=True, frozen=True)


class _ArcAddress(_Part):
    address: str = ""
    ipAddressVersion: str = "IPv4"  # noqa: N815 - Azure's name


class _ArcInterface(_Part):
    ipAddresses: list[_ArcAddress] = []  # noqa: N815 - Azure's name


class _Properties(_Part):
    privateIPAddress: str = ""  # noqa: N815 - Azure's name
    primary: bool = False


class _Configuration(_Part):
    properties: _Properties


Kind = TypeVar("Kind", bound=_Part)
_INTERFACES = TypeAdapter(list[_ArcInterface])
_CONFIGURATIONS = TypeAdapter(list[_Configuration])


def discover(stack: str, settings: Settings, environ: Mapping[str, str] = os.environ) -> Inventory:
    """The stack's hosts; a host without an address is an error, never a smaller fleet."""
    if path := environ.get(FILE):
        planned = HOSTS.validate_json(Path(path).read_bytes())
        return Inventory(hosts=planned, power={}, notes=(), expected=len(planned))
    with Arm(environ) as arm:
        return read(arm.graph(QUERY.replace("{stack}", stack)), settings)


def read(rows: Sequence[Mapping[str, Any]], settings: Settings) -> Inventory:
    """The query's rows as hosts. A row that is not what it should be is an error that names it.

    A machine that is both a virtual machine and registered with Arc counts once, as the virtual machine.
    """
    machines = [
        (_strict(row), source) for row in rows if (source := SOURCES.get(str(row.get("type")).lower())) is not None
    ]
    ours = {row.id.lower() for row, _ in machines}
    addresses = {
        row.owner: _primary(row) for row in map(_strict, (one for one in rows if str(one.get("owner")) in ours))
    }
    virtual = {row.smbios.lower(): _host_name(row, source) for row, source in machines if source != "arc"}
    found: dict[str, Host] = {}
    power: dict[str, str] = {}
    notes: list[str] = []
    for row, source in machines:
        if source == "arc" and (same := next((virtual[one] for one in _spellings(row.smbios) if one in virtual), None)):
            notes.append(f"{row.id} is the same machine as {same}: it counts once, as the virtual machine")
            continue
        name = _host_name(row, source)
        address = _arc_address(row) if source == "arc" else row.address or addresses.get(row.id.lower())
        if not address:
            raise Failed(
                f"{row.id}: no private IPv4 address in Azure's answer: is it running and its interface attached?"
            )
        if name in found:
            raise Failed(f"two machines are named {name} ({found[name].id}, {row.id}): rename or untag one")
        found[name] = host = _host(row, name, address, source, settings)
        power[name] = row.power.removeprefix("PowerState/").lower() or "unknown"
        notes += _contradictions(row, host)
    expected = expected_count(settings)
    if len(found) < expected:
        notes.append(
            f"Azure lists {len(found)} hosts, the settings declare at least {expected}: look for what is missing"
        )
    return Inventory(
        hosts=tuple(found[name] for name in sorted(found)), power=power, notes=tuple(sorted(notes)), expected=expected
    )


def expected_count(settings: Settings) -> int:
    """The fewest hosts that a complete inventory has: both slots, the machines and one Arc machine."""
    return 2 * settings.slots.instances + settings.machines.instances + 1


def _host_name(row: _Row, source: Source) -> str:
    """What Ansible and people call it; an instance is its scale set's name and its number."""
    if source != "vmss":
        return row.name.lower()
    parts = row.id.split("/")
    return f"{parts[-3]}-{parts[-1]}".lower()


def _host(row: _Row, name: str, address: str, source: Source, settings: Settings) -> Host:
    live = settings.slots.live
    slot = (row.slot or None) if source == "vmss" else None
    try:
        return Host(
            id=row.id,
            name=name,
            address=address,
            source=source,
            fleet=settings.fleet(source),
            ring=settings.rollout.ring_of(name, live).name,
            slot=slot,
            os=row.os or "Linux",
            live=settings.slots.serves(slot),
        )
    except ValidationError as error:
        raise _refused(row.id, error) from None


def _strict(row: Mapping[str, Any]) -> _Row:
    try:
        return _Row.model_validate(row)
    except ValidationError as error:
        raise _refused(row.get("id"), error) from None


def _refused(identity: Any, error: ValidationError) -> Failed:
    return Failed(f"{str(identity)[:300]!r} in Azure's answer: {first_problem(error)}: rename or untag the machine")


def _contradictions(row: _Row, host: Host) -> Iterator[str]:
    for tag, says, settled in (("fleet", row.fleet, host.fleet), ("ring", row.ring, host.ring)):
        if says not in ("", settled):
            yield f"{host.name}: its tag patchwave-{tag} says {says}, the settings say {settled}: correct the tag"


def _spellings(smbios: str) -> tuple[str, ...]:
    """An SMBIOS number in both byte orders: firmware and platform do not agree on the first three groups."""
    try:
        number = UUID(smbios)
    except ValueError:
        return ()
    return str(number), str(UUID(bytes_le=number.bytes))


def _arc_address(row: _Row) -> str | None:
    known = (one for interface in _parts(_INTERFACES, row) for one in interface.ipAddresses)
    return next((one.address for one in known if one.ipAddressVersion == "IPv4" and one.address), None)


def _primary(row: _Row) -> str | None:
    configurations = [one.properties for one in _parts(_CONFIGURATIONS, row)]
    return next((one.privateIPAddress for one in sorted(configurations, key=lambda one: not one.primary)), None)


def _parts(kind: TypeAdapter[list[Kind]], row: _Row) -> list[Kind]:
    try:
        return kind.validate_python(row.network or [])
    except ValidationError as error:
        raise _refused(row.id, error) from None
