"""Everything that a human decides for one stack: the `patchwave:settings` object of `Pulumi.<stack>.yaml`."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from graphlib import CycleError, TopologicalSorter
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from patchwave.base.documents import Document, read_document
from patchwave.base.model import Model
from patchwave.calendar.update_manager import parts, schedule
from patchwave.calendar.windows import Calendar, Opening
from patchwave.config.settings.alerts import Alerts
from patchwave.config.settings.fleets import ExistingHosts, Fleet, Ring, Rollout, ScaleSetHosts, Source
from patchwave.config.settings.machines import MachineHosts
from patchwave.config.settings.maintenance import Maintenance
from patchwave.config.settings.network import Naming, Network
from patchwave.config.settings.services import Preflight, Service
from patchwave.config.settings.slots import Slot, SlotHosts
from patchwave.config.settings.snapshots import Backup, Snapshots
from patchwave.config.settings.types import Guid, Name
from patchwave.config.standard import StackName, load_standard

__all__ = ["Fleet", "Ring", "Rollout", "Service", "Settings", "Slot", "Source", "StackFile", "load_stack", "stack_path"]

SETTINGS, RELEASE, WAIVERS = "patchwave:settings", "patchwave:release", "patchwave:waivers"
MINUTE = timedelta(minutes=1)


class Runner(Model):
    """The identity that carries waves out; it gets the roles that a wave needs, and no more."""

    principal_id: Guid


class Administrators(Model):
    """Who may log in to hosts that the program creates: the user's name and public key."""

    user: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")] = "patchwave"
    ssh_public_key: Annotated[str, Field(pattern=r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp256) [A-Za-z0-9+/=]+( .*)?$")]


class Settings(Model):
    """One stack's decisions; what is left out is not declared.

    `network` and `administrators` are needed where the program creates hosts, `snapshots` where a fleet goes back by
    one, `maintenance` where Update Manager has a part.
    """

    location: Annotated[str, Field(pattern=r"^[a-z0-9]+$")]
    naming: Naming = Naming()
    network: Network | None = None
    administrators: Administrators | None = None
    calendar: Calendar
    services: Annotated[dict[Name, Service], Field(min_length=1)]
    fleets: Annotated[dict[Name, Fleet], Field(min_length=1)]
    rollout: Rollout
    preflight: Preflight
    maintenance: Maintenance | None = None
    snapshots: Snapshots | None = None
    backup: Backup | None = None
    alerts: Alerts | None = None
    runner: Runner | None = None

    @model_validator(mode="after")
    def _services_and_fleets_fit(self) -> Self:
        for name, fleet in self.fleets.items():
            if fleet.service not in self.services:
                raise ValueError(
                    f"fleets.{name}.service is {fleet.service!r}: name one of services: {', '.join(self.services)}"
                )
        used = {fleet.service for fleet in self.fleets.values()}
        if idle := next((name for name in self.services if name not in used), None):
            raise ValueError(f"services.{idle} is run by no fleet: remove it, or name it in a fleet")
        return self

    @model_validator(mode="after")
    def _order_without_cycles(self) -> Self:
        services = {name: service.patch_after for name, service in self.services.items()}
        fleets = {name: fleet.patch_after for name, fleet in self.fleets.items()}
        for kind, graph in (("services", services), ("fleets", fleets)):
            for name, before in graph.items():
                if unknown := next((one for one in before if one not in graph), None):
                    raise ValueError(f"{kind}.{name}.patch_after names {unknown!r}: there is no such one in {kind}")
            try:
                list(TopologicalSorter(graph).static_order())
            except CycleError as error:
                raise ValueError(
                    f"{kind}: {' after '.join(error.args[1])} is a circle: take one patch_after away"
                ) from None
        for name, before in fleets.items():
            if other := next((one for one in before if self.fleets[one].service != self.fleets[name].service), None):
                raise ValueError(
                    f"fleets.{name}.patch_after names {other}, a fleet of another service: order services by theirs"
                )
        return self

    @model_validator(mode="after")
    def _the_same_rings(self) -> Self:
        for name, fleet in self.fleets.items():
            own = [ring.name for ring in fleet.rings or self.rollout.rings]
            if own != [ring for ring in self.rollout.ring_names if ring in own]:
                raise ValueError(
                    f"fleets.{name}.rings are {', '.join(own)}: use names of rollout.rings, in their order: "
                    f"{', '.join(self.rollout.ring_names)}"
                )
        return self

    @model_validator(mode="after")
    def _a_scale_set_belongs_to_one_fleet(self) -> Self:
        owner: dict[str, str] = {}
        for name, fleet in self.fleets.items():
            for one in fleet.hosts.ids if isinstance(fleet.hosts, ScaleSetHosts) else ():
                if one.lower() in owner:
                    raise ValueError(
                        f"fleets {owner[one.lower()]} and {name} both claim {one}: leave it to one of them"
                    )
                owner[one.lower()] = name
        return self

    @model_validator(mode="after")
    def _drivers_have_what_they_need(self) -> Self:
        for name, service in self.services.items():
            mine = {key: fleet for key, fleet in self.fleets.items() if fleet.service == name}
            arc = next((key for key, fleet in mine.items() if fleet.kind == "arc"), None)
            if arc and service.traffic.driver == "balancer" and not service.traffic.pools:
                raise ValueError(
                    f"services.{name}.traffic: driver balancer on fleet {arc}: Azure's pools hold no Arc machine by "
                    "itself, name the pools or use another driver"
                )
            public = any(isinstance(fleet.hosts, SlotHosts) for fleet in mine.values())
            if any(gate.driver == "http" and gate.url is None for gate in service.gates) and not public:
                raise ValueError(
                    f"services.{name}.gates: no fleet of it has a public address of its own: name the gate's url"
                )
        return self

    @model_validator(mode="after")
    def _what_is_created_has_a_place(self) -> Self:
        if created := next((name for name, _ in self.created()), None):
            for key in ("network", "administrators"):
                if getattr(self, key) is None:
                    raise ValueError(f"{key} is missing: the program creates the hosts of fleet {created}")
        left = next((name for name, fleet in self.fleets.items() if fleet.method == "update_manager"), None)
        if left and self.maintenance is None:
            raise ValueError(f"maintenance is missing: fleet {left} is left to Update Manager")
        back = next((name for name, fleet in self.fleets.items() if fleet.rollback != "downgrade"), None)
        if back and self.snapshots is None:
            raise ValueError(f"snapshots is missing: fleet {back} goes back by {self.fleets[back].rollback}")
        return self

    @model_validator(mode="after")
    def _somebody_answers(self) -> Self:
        for name, service in self.services.items():
            limit = service.max_unavailable
            mine = [fleet.hosts for fleet in self.fleets.values() if fleet.service == name]
            slots = [hosts for hosts in mine if isinstance(hosts, SlotHosts) and not hosts.autoscaled]
            answering = sum(hosts.instances for hosts in slots)
            if isinstance(limit, int) and len(slots) == len(mine) and limit >= answering:
                raise ValueError(
                    f"services.{name}.max_unavailable is {limit} of {answering} instances: nobody would answer, take "
                    'less, or write "100%" if nobody needs to'
                )
        return self

    @model_validator(mode="after")
    def _assigned_to_a_ring(self) -> Self:
        rings = self.rollout.ring_names
        assigned = self.maintenance.assigned if self.maintenance else ()
        if lost := next((one for one in assigned if one.ring not in rings), None):
            raise ValueError(f"maintenance.assigned: {lost.name} is in ring {lost.ring}, choose of {', '.join(rings)}")
        return self

    @model_validator(mode="after")
    def _a_batch_fits_a_window(self) -> Self:
        takes = self.rollout.batch_timeout
        longest = max(one.closes - one.opens for one in self._first_year(self.calendar.openings))
        if takes > longest:
            raise ValueError(
                f"rollout.batch_timeout is {takes // MINUTE} min, the longest window lasts {longest // MINUTE} min: "
                "nothing could ever start, widen calendar.windows or take less"
            )
        return self

    @model_validator(mode="after")
    def _schedules_can_be_declared(self) -> Self:
        """Every window can be expressed as a schedule of Azure's, as the program will declare it."""
        since, where = self.starts_on, ""
        try:
            if self.maintenance:
                where = "calendar.windows"
                for window in self.calendar.windows:
                    parts(window, self.rollout.ring_names, since)
            for name, slots in self.slots():
                where = f"fleets.{name}.hosts.image_upgrade.window"
                if slots.image_upgrade:
                    schedule(slots.image_upgrade.window, since, "OSImage")
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        return self

    @model_validator(mode="after")
    def _images_roll_between_waves(self) -> Self:
        for name, slots in self.slots():
            if upgrade := slots.image_upgrade:
                rolls = list(self._first_year(upgrade.window.openings))
                for wave in self._first_year(self.calendar.openings):
                    if any(roll.opens < wave.closes and wave.opens < roll.closes for roll in rolls):
                        raise ValueError(
                            f"fleets.{name}.hosts.image_upgrade.window overlaps the calendar's on "
                            f"{wave.opens:%a %Y-%m-%d}: instances would be replaced in the middle of a wave, "
                            "move one of the two"
                        )
        return self

    @property
    def starts_on(self) -> date:
        """The day on which maintenance starts, or one that serves as well."""
        return self.maintenance.starts_on if self.maintenance else date(2026, 1, 1)

    def _first_year(self, openings: Callable[[datetime], Iterator[Opening]]) -> Iterator[Opening]:
        since = datetime.combine(self.starts_on, time(), UTC)
        return takewhile(lambda one: one.opens < since + timedelta(days=366), openings(since))

    def slots(self) -> Iterator[tuple[str, SlotHosts]]:
        """The fleets of slots that the program creates."""
        return ((name, fleet.hosts) for name, fleet in self.fleets.items() if isinstance(fleet.hosts, SlotHosts))

    def created(self) -> Iterator[tuple[str, SlotHosts | MachineHosts]]:
        """The fleets whose hosts the program creates."""
        for name, fleet in self.fleets.items():
            if isinstance(fleet.hosts, (SlotHosts, MachineHosts)):
                yield name, fleet.hosts

    def existing(self) -> Iterator[tuple[str, ScaleSetHosts | ExistingHosts]]:
        """The fleets whose hosts exist without the program."""
        for name, fleet in self.fleets.items():
            if isinstance(fleet.hosts, (ScaleSetHosts, ExistingHosts)):
                yield name, fleet.hosts

    def rings(self, fleet: str) -> tuple[Ring, ...]:
        """The rings of a fleet: its own or the stack's."""
        return self.fleets[fleet].rings or self.rollout.rings

    def levels(self) -> Mapping[str, int]:
        """For each fleet its place in the order of patching: fleets of one number have no order between them."""
        services = {name: service.patch_after for name, service in self.services.items()}
        level: dict[str, int] = {}
        for name in TopologicalSorter(services).static_order():
            first = max(
                (level[key] + 1 for key in self.fleets if self.fleets[key].service in services[name]), default=0
            )
            mine = {key: fleet.patch_after for key, fleet in self.fleets.items() if fleet.service == name}
            for key in TopologicalSorter(mine).static_order():
                level[key] = max([first, *(level[before] + 1 for before in mine[key])])
        return level

    def prefix(self, stack: str) -> str:
        """What every name begins with that the program chooses."""
        return self.naming.prefix or stack

    def group(self, stack: str) -> str:
        """The resource group of what the program creates."""
        return self.naming.resource_group or f"patchwave-{stack}"

    def declared_hosts(self, stack: str) -> dict[str, tuple[str, bool]]:
        """The fleet of each host that the program declares with a fixed name, and whether users reach it."""
        found: dict[str, tuple[str, bool]] = {}
        for name, hosts in self.created():
            own = f"{self.prefix(stack)}-{name}"
            if isinstance(hosts, SlotHosts):
                for slot in ("blue", "green"):
                    for number in range(hosts.instances):
                        found[f"{own}-{slot}-{number}"] = name, hosts.serves(slot)
            else:
                found |= {f"{own}-{number}": (name, False) for number in range(hosts.instances)}
        return found


class StackFile(Model):
    """`Pulumi.<stack>.yaml` as far as Patchwave reads it."""

    settings: Settings
    release: str | None
    waivers: tuple[str, ...] = ()


def stack_path(project: Path, stack: StackName) -> Path:
    """The stack's settings file; UsageError for a stack that the standard does not name."""
    load_standard(project).stack(stack)
    return project / f"Pulumi.{stack}.yaml"


def load_stack(project: Path, stack: StackName) -> StackFile:
    """The decisions and the release of one stack."""
    return read_stack(read_document(stack_path(project, stack)))


def read_stack(file: Document) -> StackFile:
    """The decisions and the release that a stack's file holds."""
    config = file.data.get("config") if isinstance(file.data, dict) else None
    if not isinstance(config, dict) or SETTINGS not in config:
        raise file.refusal(("config",), f"config has no {SETTINGS} object: copy it from another stack's file")
    own = {name: value for name, value in config.items() if name.startswith("patchwave:")}
    if unknown := next((name for name in own if name not in (SETTINGS, RELEASE, WAIVERS)), None):
        raise file.refusal(("config", unknown), f"{unknown} is no key of Patchwave: correct its name or remove it")
    if not isinstance(release := own.get(RELEASE), str | None):
        raise file.refusal(("config", RELEASE), f"{RELEASE} must be a text such as 2026-11-22.1")
    named = own.get(WAIVERS) or []
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise file.refusal(("config", WAIVERS), f"{WAIVERS} must be a list of ids: run `patchwave waivers --pin`")
    settings = file.parse(Settings, ("config", SETTINGS))
    return StackFile(settings=settings, release=release, waivers=tuple(named))
