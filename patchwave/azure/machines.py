"""The rows of the inventory query as machines: each with its fleet, its addresses, and what is wrong with it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from patchwave.azure import addresses
from patchwave.azure.claims import (
    ARC,
    INSTANCE,
    MACHINE,
    SCALE_SET,
    STACK_TAG,
    Claims,
    escaped,
    group_of,
    plain_tags,
    subscription_of,
)
from patchwave.base.model import first_problem
from patchwave.config.settings import Source

LONGEST_NAME = 80
HostName = Annotated[str, Field(pattern=rf"^[a-z0-9][a-z0-9._-]{{0,{LONGEST_NAME - 1}}}$")]
Id = Annotated[str, Field(pattern=r"^(/[\w(.][\w.()-]*)+$", max_length=1024)]
Plain = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f{}\[\]<>$`\\]*$", max_length=200)]

_KINDS: dict[str, Source] = {MACHINE: "vm", ARC: "arc", INSTANCE: "vmss"}
_NO_NUMBER = frozenset({UUID(int=0), UUID(int=2**128 - 1), UUID("03000200-0400-0500-0006-000700080009")})
"""What boards report whose maker gave them no number."""


class Details(BaseModel):
    """What is used of a machine's row."""

    model_config = ConfigDict(strict=True, frozen=True)

    id: Id
    name: str
    address: str | None
    pooled: bool | None
    power: Annotated[str, Field(pattern=r"^(PowerState/)?[A-Za-z]{0,30}$")]
    os: Plain
    os_type: Plain
    smbios: Plain
    computer: str
    cloud: str


_NAME = TypeAdapter(HostName)


@dataclass
class Machine:
    """One machine; `fleet` is None where only the stack's tag claims it.

    Without `details` its row is strange, with its `problem`. `address_problem` is why it has no address of its own.
    `pooled`: whether a balancer's pool holds one of its interfaces, None when that is not known.
    """

    id: str
    kind: str
    name: str
    source: Source
    fleet: str | None
    scale_set: str = ""
    details: Details | None = None
    problem: str | None = None
    addresses: tuple[str, ...] = ()
    address_problem: str | None = None
    pooled: bool | None = None

    @property
    def key(self) -> str:
        """The same for every spelling of the id."""
        return self.id.lower()

    @property
    def power(self) -> str:
        """Such as running, deallocated or connected."""
        return self.details.power.removeprefix("PowerState/").lower() if self.details else ""

    @property
    def is_windows(self) -> bool:
        """By the disk or the agent; an old agent reports only the system's name."""
        return self.details is not None and "windows" in f"{self.details.os_type or self.details.os}".lower()


@dataclass
class Answer:
    """The rows of the query by what they are about; keys are ids in lower case.

    `capacity` is of scale sets. `balancers` holds the addresses that pools list, None where they cannot be understood.
    `readable` are subscriptions of which anything was seen.
    """

    machines: list[Machine] = field(default_factory=list)
    capacity: dict[str, int] = field(default_factory=dict)
    balancers: dict[str, set[str] | None] = field(default_factory=dict)
    readable: set[str] = field(default_factory=set)


def sort(rows: Iterable[Mapping[str, Any]], claims: Claims) -> Answer:
    """The machines of the rows, in the order of their ids, those of other people left out."""
    answer = Answer()
    interfaces: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    pooled: set[str] = set()
    for row in rows:
        kind, identity = str(row.get("type")).lower(), str(row.get("id"))
        answer.readable.add(subscription_of(identity))
        if kind in _KINDS:
            answer.machines += _machine(row, kind, identity, claims)
        elif kind == f"{INSTANCE}/networkinterfaces":
            interfaces[str(row.get("owner"))].append(row)
        elif kind == "microsoft.network/networkinterfaces":
            pooled.add(str(row.get("owner")))
        elif kind == SCALE_SET:
            capacity = row.get("capacity")
            answer.capacity[identity.lower()] = capacity if type(capacity) is int else 0
        elif kind.startswith("microsoft.network/"):
            answer.balancers[identity.lower()] = _pools(row)
    answer.machines.sort(key=lambda one: one.key)
    for one in answer.machines:
        if one.kind == INSTANCE:
            _locate(one, interfaces[one.key])
        one.pooled = one.key in pooled or one.pooled
    return answer


def _machine(row: Mapping[str, Any], kind: str, identity: str, claims: Claims) -> Iterator[Machine]:
    tags, scale_set = plain_tags(row.get("tags")), str(row.get("scale_set") or "").lower()
    if kind == INSTANCE:
        scale_set = identity.lower().rpartition("/virtualmachines/")[0]
    fleet = claims.fleet(kind, identity, scale_set, tags)
    if fleet is None and tags.get(STACK_TAG) != claims.stack:
        return
    name = "-".join(identity.split("/")[-3::2]) if kind == INSTANCE else str(row.get("name"))
    source = claims.settings.fleets[fleet].kind if fleet else _KINDS[kind]
    made = Machine(identity, kind, name.lower(), source, fleet, scale_set)
    try:
        _NAME.validate_python(made.name)
        made.details = details = Details.model_validate(row)
    except ValidationError as error:
        made.problem = f"has a row in Azure's answer that cannot be used ({escaped(first_problem(error))}): rename it"
    else:
        made.addresses = (details.address,) if kind == MACHINE and details.address else ()
        made.pooled = details.pooled if kind == MACHINE else False
        if kind == ARC:
            _agent_addresses(made, row.get("network"))
    yield made


def _agent_addresses(machine: Machine, network: Any) -> None:
    try:
        machine.addresses = addresses.of_arc(network)
    except ValidationError as error:
        machine.address_problem = f"has interfaces that cannot be understood ({escaped(first_problem(error))})"


def _locate(machine: Machine, interfaces: Sequence[Mapping[str, Any]]) -> None:
    machine.pooled = any(one.get("pooled") is not False for one in interfaces) if interfaces else None
    try:
        found = [addresses.of_interface(one.get("network")) for one in interfaces if one.get("primary") is True]
        machine.addresses = tuple(filter(None, found))
    except ValidationError as error:
        machine.address_problem = f"has an interface that cannot be understood ({escaped(first_problem(error))})"


def _pools(row: Mapping[str, Any]) -> set[str] | None:
    try:
        return addresses.of_pools(row.get("network"))
    except ValidationError:
        return None


def once(machines: Sequence[Machine]) -> tuple[list[Machine], list[str]]:
    """Each machine once, and a note for each that Azure lists both as a virtual machine and with Arc.

    They are the same when they have one SMBIOS number. Where one of the two has none, the computer's name must be the
    same, and an address or what the agent reports of its cloud: Azure keeps no other link between the two.
    """
    numbered: dict[UUID, Machine] = {}
    named: dict[str, list[Machine]] = defaultdict(list)
    for one in machines:
        if one.kind != ARC and one.fleet and one.details:
            numbered |= dict.fromkeys(_numbers(one)[:1], one)
            named[_computer(one)].append(one)
    kept, notes = [], []
    for one in machines:
        if one.kind == ARC and (same := _same(one, numbered, named)):
            fleets = "" if one.fleet in (None, same.fleet) else f" of fleet {same.fleet}, not {one.fleet}"
            notes.append(
                f"{escaped(one.id)} is the same machine as {same.name}: it counts once, as the virtual machine{fleets}"
            )
        else:
            kept.append(one)
    return kept, notes


def _same(arc: Machine, numbered: Mapping[UUID, Machine], named: Mapping[str, list[Machine]]) -> Machine | None:
    if arc.details is None:
        return None
    numbers = _numbers(arc)
    if found := next((numbered[one] for one in numbers if one in numbered), None):
        return found
    alike = [one for one in named.get(_computer(arc), ()) if not (numbers and _numbers(one))]
    if near := next((one for one in alike if set(one.addresses) & set(arc.addresses)), None):
        return near
    return alike[0] if len(alike) == 1 and arc.details.cloud.lower() == "azure" else None


def _numbers(machine: Machine) -> tuple[UUID, ...]:
    """Its SMBIOS number in both byte orders: firmware and platform do not agree on the first three groups."""
    try:
        number = UUID(machine.details.smbios) if machine.details else None
    except ValueError:
        return ()
    return () if number is None or number in _NO_NUMBER else (number, UUID(bytes_le=number.bytes))


def _computer(machine: Machine) -> str:
    return machine.details.computer.partition(".")[0].lower() if machine.details else ""


def qualify(machines: Sequence[Machine]) -> list[str]:
    """Gives machines of one name a longer one, with a note: with their group, then their subscription, then a digest.

    The result depends on the ids alone.
    """
    usable = [one for one in machines if one.details]
    first = {one.key: one.name for one in usable}
    for longer in (_with_group, _with_subscription, _with_digest):
        count: dict[str, int] = defaultdict(int)
        for one in usable:
            count[one.name] += 1
        for one in [one for one in usable if count[one.name] > 1]:
            one.name = longer(first[one.key], one)
    return [
        f"{one.name} is {escaped(one.id)}: another machine is called {first[one.key]} as well"
        for one in usable
        if one.name != first[one.key]
    ]


def _with_group(name: str, machine: Machine) -> str:
    return _fitting(f"{name}.{group_of(machine.id)}", name, machine)


def _with_subscription(name: str, machine: Machine) -> str:
    return _fitting(f"{name}.{group_of(machine.id)}.{subscription_of(machine.id)}", name, machine)


def _with_digest(name: str, machine: Machine) -> str:
    return f"{name[: LONGEST_NAME - 13]}.{sha256(machine.key.encode()).hexdigest()[:12]}"


def _fitting(text: str, name: str, machine: Machine) -> str:
    plain = text.replace("(", "-").replace(")", "-")
    try:
        return _NAME.validate_python(plain)
    except ValidationError:
        return _with_digest(name, machine)
