"""Which hosts a stack has: one Resource Graph query over all its subscriptions, read machine by machine."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from patchwave.azure import addresses
from patchwave.azure.claims import STACK_TAG, Claims, escaped, subscription_of
from patchwave.azure.client import UNREADABLE, Arm
from patchwave.azure.machines import Answer, HostName, Id, Machine, Plain, once, qualify, sort
from patchwave.base.errors import Failed, Refused, UsageError
from patchwave.base.model import Model
from patchwave.config.settings import Settings, Slot, Source
from patchwave.config.settings.fleets import Method, ScaleSetHosts, assign
from patchwave.config.settings.slots import SlotHosts
from patchwave.config.settings.types import Name

FILE = "PATCHWAVE_INVENTORY_FILE"
"""The variable by which a wave names the file of its hosts to the Ansible inventory plugin; nothing else reads it."""

OFF = frozenset({"deallocated", "deallocating", "stopped", "stopping"})

_OCTET = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
Address = Annotated[str, Field(pattern=rf"^({_OCTET}\.){{3}}{_OCTET}$")]


class Host(Model):
    """One machine that a wave patches; `live` means that users' requests reach it, as far as can be known."""

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


class Unplanned(Model):
    """A machine that no wave touches, and why; `fleet` is None where none claims it. Azure's text is escaped."""

    id: str
    name: str
    fleet: Name | None
    source: Source
    os: str
    reason: str


class Inventory(Model):
    """What is known of a stack's machines. Each is in exactly one of `hosts`, `left_alone` and `problems`.

    `hosts` are what a wave patches. `left_alone` are not Patchwave's to patch: Windows, a method that is not carried
    out, no fleet. `problems` belong to a fleet and cannot be used: no address, switched off, a row that makes no sense.
    `missing` names declared hosts that Azure does not list, and scale sets that lack some; `partial` names which
    subscriptions and scale sets could not be read. Plan, seal and SLA use `hosts` and show the rest; a wave takes
    `whole()`. `power` is the state of each host, such as running or connected.
    """

    hosts: tuple[Host, ...]
    left_alone: tuple[Unplanned, ...] = ()
    problems: tuple[Unplanned, ...] = ()
    missing: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    power: dict[str, str] = Field(default_factory=dict)

    @property
    def gaps(self) -> tuple[str, ...]:
        """One line for everything of which nothing is known."""
        return (*self.partial, *(f"{one} is declared and not in Azure's answer: create it, or look for it"
                                 for one in self.missing))  # fmt: skip

    @property
    def lacks(self) -> tuple[str, ...]:
        """One line for each thing that keeps the inventory from being complete."""
        return (*self.gaps, *(f"{one.name} {one.reason}" for one in self.problems))

    @property
    def complete(self) -> bool:
        """Whether every declared host is there by name, every id could be read, and every host can be used."""
        return not self.lacks

    def whole(self) -> tuple[Host, ...]:
        """The hosts for a wave's own batches; Refused when anything lacks."""
        if lacks := self.lacks:
            more = f" (and {len(lacks) - 1} more: run patchwave inventory)" if len(lacks) > 1 else ""
            raise Refused(f"the inventory is not complete, no part of a stack is patched: {lacks[0]}{more}")
        return self.hosts


def discover(stack: str, settings: Settings, environ: Mapping[str, str] = os.environ) -> Inventory:
    """The stack's machines as Azure lists them.

    UsageError when two fleets claim one machine or an address override names none; Failed when nothing can be read.
    """
    with Arm(environ) as arm:
        claims = Claims(stack, settings, arm.subscription)
        return read(arm.graph(claims.query, claims.subscriptions), claims)


def read(rows: Iterable[Mapping[str, Any]], claims: Claims) -> Inventory:
    """The query's rows as an inventory; a row that makes no sense makes its machine a problem, and no more."""
    answer = sort(rows, claims)
    if not answer.readable.intersection(claims.subscriptions):
        raise Failed(f"subscription {', '.join(claims.subscriptions)}: {UNREADABLE}")
    machines, notes = once(answer.machines)
    notes += qualify(machines)
    partial = tuple(_unread(answer, claims))
    notes += _override(machines, claims.settings, partial)
    usable, left_alone, problems = _divide(machines, claims)
    hosts = sorted(_hosts(usable, answer, claims), key=lambda host: host.name)
    filled = {host.fleet for host in hosts}
    notes += [
        f"fleet {name} has no host that can be patched"
        for name, fleet in claims.settings.fleets.items()
        if fleet.carried_out and name not in filled
    ]
    return Inventory(
        hosts=tuple(hosts),
        left_alone=tuple(left_alone),
        problems=tuple(problems),
        missing=tuple(_missing(answer, claims)),
        partial=partial,
        notes=tuple(notes),
        power={machine.name: machine.power or "unknown" for machine, _ in usable},
    )


def _unread(answer: Answer, claims: Claims) -> Iterator[str]:
    for one in claims.subscriptions:
        if one not in answer.readable:
            yield f"subscription {one}: {UNREADABLE}"
    for key, scale_set in claims.sets.items():
        existing = isinstance(claims.settings.fleets[scale_set.fleet].hosts, ScaleSetHosts)
        if existing and key not in answer.capacity and subscription_of(key) in answer.readable:
            yield f"scale set {key} of fleet {scale_set.fleet}: it does not exist, or this runner may not read it"


def _missing(answer: Answer, claims: Claims) -> Iterator[str]:
    """Declared machines by name; of a scale set the number, as the names of its instances are never given twice."""
    listed = {one.key for one in answer.machines}
    for key in claims.machines:
        if key not in listed:
            yield key.rpartition("/")[2]
    instances: dict[str, int] = defaultdict(int)
    for one in answer.machines:
        instances[one.scale_set] += 1
    for key, scale_set in claims.sets.items():
        wanted = answer.capacity.get(key, 0) if scale_set.instances is None else scale_set.instances
        if instances[key] < wanted:
            yield f"{key.rpartition('/')[2]} ({instances[key]} of {wanted} instances listed)"


def _override(machines: Sequence[Machine], settings: Settings, partial: Sequence[str]) -> Iterator[str]:
    """Puts the addresses of the settings in place; one that names no host is an error unless it may be unread."""
    named = {(one.fleet, one.name): one for one in machines}
    for fleet, hosts in settings.existing():
        for name, address in hosts.addresses.items():
            if machine := named.get((fleet, name.lower())):
                machine.addresses, machine.address_problem = (address,), None
            elif partial:
                yield f"fleets.{fleet}.hosts.addresses names {name}, which is not among the hosts that could be read"
            else:
                raise UsageError(
                    f"fleets.{fleet}.hosts.addresses names {name}, the fleet has no such host: correct the name, or "
                    "remove the line"
                )


def _divide(
    machines: Sequence[Machine], claims: Claims
) -> tuple[list[tuple[Machine, str]], list[Unplanned], list[Unplanned]]:
    """Those that can be used, each with its address; those that are left alone; and those with a problem."""
    usable: list[tuple[Machine, str]] = []
    left_alone, problems = [], []
    for one in machines:
        if reason := _left_alone(one, claims):
            left_alone.append(_unplanned(one, reason))
        elif reason := _problem(one, claims.settings):
            problems.append(_unplanned(one, reason))
        else:
            usable.append((one, one.addresses[0]))
    owners: dict[str, list[Machine]] = defaultdict(list)
    for one, address in usable:
        owners[address].append(one)
    for address, several in owners.items():
        for one in several if len(several) > 1 else ():
            others = ", ".join(escaped(other.id) for other in several if other is not one)
            problems.append(_unplanned(one, f"has the address {address} of {others}: correct it, or override it"))
    usable = [(one, address) for one, address in usable if len(owners[address]) == 1]
    return usable, left_alone, sorted(problems, key=lambda one: (one.name, one.id))


def _left_alone(machine: Machine, claims: Claims) -> str | None:
    if machine.fleet is None:
        return f"has the tag {STACK_TAG}: {claims.stack}, no fleet claims it: declare one, or remove the tag"
    fleet = claims.settings.fleets[machine.fleet]
    if not fleet.carried_out:
        return f"belongs to fleet {machine.fleet}, whose method {fleet.method} no wave carries out"
    return "runs Windows, which no wave patches" if machine.is_windows else None


def _problem(machine: Machine, settings: Settings) -> str | None:
    if machine.problem:
        return machine.problem
    if machine.power in OFF:
        return f"is {machine.power}: start it, or take it out of the fleet"
    created = any(name == machine.fleet for name, _ in settings.created())
    fix = "attach its interface again" if created else f"name one in fleets.{machine.fleet}.hosts.addresses"
    if machine.address_problem or not machine.addresses:
        return f"{machine.address_problem or 'has no private IPv4 address of its own in Azure'}: {fix}"
    address = machine.addresses[0]
    wrong = addresses.problem(address)
    return wrong and f"has the address {escaped(address)}, which {wrong}: {fix}"


def _unplanned(machine: Machine, reason: str) -> Unplanned:
    return Unplanned(
        id=escaped(machine.id),
        name=escaped(machine.name, 80),
        fleet=machine.fleet,
        source=machine.source,
        os=machine.details.os if machine.details else "",
        reason=reason,
    )


def _hosts(usable: Sequence[tuple[Machine, str]], answer: Answer, claims: Claims) -> Iterator[Host]:
    """The hosts with their rings, which are shares of the hosts of a fleet that can be used, live ones first."""
    settings = claims.settings
    live = {one.key: _live(one, address, answer, claims) for one, address in usable}
    by_fleet: dict[str, dict[str, bool]] = defaultdict(dict)
    for one, _ in usable:
        by_fleet[str(one.fleet)][one.name] = live[one.key]
    rings = {name: assign(settings.rings(name), hosts) for name, hosts in by_fleet.items()}
    for one, address in usable:
        name = str(one.fleet)
        yield Host(
            id=one.id,
            name=one.name,
            address=address,
            source=one.source,
            fleet=name,
            service=settings.fleets[name].service,
            method=settings.fleets[name].method,
            ring=rings[name][one.name],
            slot=claims.sets[one.scale_set].slot if one.scale_set in claims.sets else None,
            os=(one.details.os if one.details else "") or "Linux",
            live=live[one.key],
        )


def _live(machine: Machine, address: str, answer: Answer, claims: Claims) -> bool:
    """A slot by its traffic, anything else by the pools that hold it; what cannot be known counts as live."""
    fleet = claims.settings.fleets[str(machine.fleet)]
    if isinstance(fleet.hosts, SlotHosts):
        return fleet.hosts.serves(claims.sets[machine.scale_set].slot)
    traffic = claims.settings.services[fleet.service].traffic
    if traffic.driver != "balancer":
        return traffic.driver != "none"
    if machine.pooled is not False:
        return True
    named = claims.balancers[fleet.service]
    lists = [answer.balancers.get(one) for one in named | set(answer.balancers)]
    return any(one is None or address in one for one in lists)
