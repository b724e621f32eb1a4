"""Who is patched together, and in which order: ring by ring, service by service, batch by batch."""

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import groupby
from typing import Generic, NamedTuple, Protocol, TypeVar

from patchwave.azure.inventory import Host
from patchwave.base.model import Model
from patchwave.config.settings import Settings
from patchwave.config.settings.fleets import assign
from patchwave.config.settings.types import CountOrPercent

RESERVE = timedelta(minutes=5)


class Batch(Model):
    """Hosts of one service that are out of service together; `number` counts from 1 over the whole wave."""

    number: int
    ring: str
    service: str
    hosts: tuple[Host, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts' names, in the order in which they were put together."""
        return tuple(host.name for host in self.hosts)


class Placed(Protocol):
    """What a host's place in the order depends on."""

    @property
    def name(self) -> str: ...
    @property
    def fleet(self) -> str: ...
    @property
    def service(self) -> str: ...
    @property
    def ring(self) -> str: ...
    @property
    def live(self) -> bool: ...


H = TypeVar("H", bound=Placed)


class Group(NamedTuple, Generic[H]):
    """The hosts of one ring and service that have no order between them, hosts that users reach first."""

    ring: str
    service: str
    batch: int
    away: int
    hosts: tuple[H, ...]


def groups(hosts: Sequence[H], settings: Settings) -> Iterator[Group[H]]:
    """Every host once, in the order in which groups are patched; no group is empty."""
    levels = settings.levels()
    rings = {name: place for place, name in enumerate(settings.rollout.ring_names)}
    away = {name: max_unavailable(name, hosts, settings) for name in settings.services}

    def place(host: H) -> tuple[int, int, str]:
        return rings[host.ring], levels[host.fleet], host.service

    ordered = sorted(hosts, key=lambda host: (*place(host), not host.live, host.name))
    for (_, _, service), together in groupby(ordered, key=place):
        mine = tuple(together)
        ring = mine[0].ring
        fleets = {host.fleet for host in mine}
        batch = min(one.batch for fleet in fleets for one in settings.rings(fleet) if one.name == ring)
        yield Group(ring, service, batch, away[service], mine)


def rings(hosts: Sequence[Placed], settings: Settings) -> dict[str, str]:
    """The ring of each host by name, when each fleet's rings are shared out among exactly these hosts."""
    by_fleet: dict[str, dict[str, bool]] = {}
    for host in hosts:
        by_fleet.setdefault(host.fleet, {})[host.name] = host.live
    return {
        name: ring for fleet, mine in by_fleet.items() for name, ring in assign(settings.rings(fleet), mine).items()
    }


def batches(hosts: Sequence[Host], settings: Settings) -> tuple[Batch, ...]:
    """Every host once, never more of a service's live hosts away than it allows."""
    made: list[Batch] = []
    for group in groups(hosts, settings):
        numbers = batch_numbers([host.live for host in group.hosts], group.batch, group.away)
        together: dict[int, list[Host]] = {}
        for host, number in zip(group.hosts, numbers, strict=True):
            together.setdefault(len(made) + number, []).append(host)
        made += [
            Batch(number=number, ring=group.ring, service=group.service, hosts=tuple(together[number]))
            for number in sorted(together)
        ]
    return tuple(made)


def batch_numbers(live: Sequence[bool], size: int, room: int) -> list[int]:
    """The batch of each host of a group, in the order in which they come: `size` together, `room` of them live."""
    numbers = [0] * len(live)
    others, lives = (deque(place for place, is_live in enumerate(live) if is_live is kind) for kind in (False, True))
    number = 0
    while others or lives:
        number, left = number + 1, room
        for _ in range(size):
            queue = lives if left and lives and not (others and others[0] < lives[0]) else others
            if not queue:
                break
            left -= queue is lives
            numbers[queue.popleft()] = number
    return numbers


def max_unavailable(service: str, hosts: Sequence[Placed], settings: Settings) -> int:
    """How many live hosts of a service may be away at once; a share is rounded down, and is one at least."""
    live = sum(host.live and host.service == service for host in hosts)
    return count_of(settings.services[service].max_unavailable, live)


def count_of(limit: CountOrPercent, live: int) -> int:
    """A count, or the share of so many."""
    return limit if isinstance(limit, int) else max(1, live * int(limit[:-1]) // 100)


def objections(hosts: Sequence[Host], settings: Settings) -> Iterator[str]:
    """Why these hosts cannot be patched by the settings, each with its fix; nothing when they can."""
    by_fleet: Mapping[str, list[Host]] = {name: [h for h in hosts if h.fleet == name] for name in settings.fleets}
    for name, fleet in settings.fleets.items():
        if fleet.carried_out and not by_fleet[name]:
            yield (
                f"fleet {name} has no host, so its canary ring is empty: look whether this runner may read its hosts, "
                "or remove the fleet"
            )
    for name, service in settings.services.items():
        live = sum(host.live and host.service == name for host in hosts)
        limit = service.max_unavailable
        if isinstance(limit, int) and 0 < live <= limit and service.traffic.driver != "none":
            yield (
                f"service {name} has {live} live host{'s' if live > 1 else ''}, max_unavailable {limit} leaves nobody "
                'to answer: take less, or write "100%" if nobody needs to'
            )


def without_room(hosts: Sequence[Placed], silent: Collection[str], settings: Settings) -> Iterator[str]:
    """The services of which no more live hosts may be away, because too many of them do not answer."""
    for name in settings.services:
        away = sum(host.live and host.service == name and host.name in silent for host in hosts)
        if away and away >= max_unavailable(name, hosts, settings):
            many = f"{away} of its live hosts do not answer" if away > 1 else "a live host of it does not answer"
            yield f"service {name} has no room for another host away: {many}, its other live hosts would be deferred"


def needed(todo: Sequence[Batch], settings: Settings) -> timedelta:
    """How long these batches may take: they run one after the other, each as long as one may."""
    return settings.rollout.batch_timeout * len(todo) + RESERVE
