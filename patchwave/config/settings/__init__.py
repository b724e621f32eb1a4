"""Everything that a human decides for one stack: the `patchwave:settings` object of `Pulumi.<stack>.yaml`."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Self, get_args

from pydantic import Field, model_validator

from patchwave.base.documents import parse, read_yaml
from patchwave.base.errors import UsageError
from patchwave.base.model import Model
from patchwave.calendar.update_manager import parts, schedule
from patchwave.calendar.windows import Calendar, Opening
from patchwave.config.settings.alerts import Alerts
from patchwave.config.settings.fleets import Fleet, Ring, Rollout, Source
from patchwave.config.settings.machines import Machines
from patchwave.config.settings.maintenance import Maintenance
from patchwave.config.settings.service import Preflight, Service
from patchwave.config.settings.slots import Slot, Slots
from patchwave.config.settings.snapshots import Backup, Snapshots
from patchwave.config.settings.types import AddressSpace, Guid, Name
from patchwave.config.standard import StackName

__all__ = [
    "STACKS",
    "Ring",
    "Rollout",
    "Settings",
    "Slot",
    "Source",
    "StackFile",
    "load_stack",
    "stack_path",
]

STACKS: tuple[StackName, ...] = ("dev", "staging", "prod")
MINUTE = timedelta(minutes=1)


class Runner(Model):
    """The identity that carries waves out; it gets the roles that a wave needs, and no more."""

    principal_id: Guid


class Settings(Model):
    """One stack's decisions; without `backup` and `runner` nothing is backed up, and roles are given by hand."""

    location: Annotated[str, Field(pattern=r"^[a-z0-9]+$")]
    address_space: AddressSpace
    ssh_public_key: Annotated[str, Field(pattern=r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp256) [A-Za-z0-9+/=]+( .*)?$")]
    calendar: Calendar
    fleets: dict[Name, Fleet]
    rollout: Rollout
    service: Service
    preflight: Preflight
    slots: Slots
    machines: Machines
    maintenance: Maintenance
    snapshots: Snapshots
    backup: Backup | None = None
    alerts: Alerts
    runner: Runner | None = None

    @model_validator(mode="after")
    def _one_fleet_a_source(self) -> Self:
        sources = [fleet.source for fleet in self.fleets.values()]
        if sorted(sources) != ["arc", "vm", "vmss"]:
            raise ValueError(f"fleets have the sources {sources}: name one fleet each for vmss, vm and arc")
        return self

    @model_validator(mode="after")
    def _somebody_answers(self) -> Self:
        if self.rollout.live_out_of_service >= self.slots.instances:
            raise ValueError(
                f"rollout.live_out_of_service {self.rollout.live_out_of_service} of {self.slots.instances} instances: "
                "no live host would be left to answer"
            )
        return self

    @model_validator(mode="after")
    def _assigned_to_a_ring(self) -> Self:
        rings = self.rollout.ring_names
        if lost := next((one for one in self.maintenance.assigned if one.ring not in rings), None):
            raise ValueError(f"maintenance.assigned: {lost.name} is in ring {lost.ring}, choose of {', '.join(rings)}")
        return self

    @model_validator(mode="after")
    def _a_host_fits_a_window(self) -> Self:
        takes = self.rollout.host_takes
        longest = max(one.closes - one.opens for one in self._first_year(self.calendar.openings))
        if takes > longest:
            raise ValueError(
                f"rollout.host_takes is {takes // MINUTE} min, the longest window lasts {longest // MINUTE} min: "
                "nothing could ever start, widen calendar.windows or take less"
            )
        return self

    @model_validator(mode="after")
    def _schedules_can_be_told(self) -> Self:
        """Every window that Azure keeps can be said in its words, as the program will have to say it."""
        upgrade, since = self.slots.image_upgrade, self.maintenance.starts_on
        try:
            where = "calendar.windows"
            for window in self.calendar.windows:
                parts(window, self.rollout.ring_names, since)
            where = "slots.image_upgrade.window"
            if upgrade:
                schedule(upgrade.window, since, "OSImage")
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        return self

    @model_validator(mode="after")
    def _images_roll_between_waves(self) -> Self:
        if upgrade := self.slots.image_upgrade:
            rolls = list(self._first_year(upgrade.window.openings))
            for wave in self._first_year(self.calendar.openings):
                if any(roll.opens < wave.closes and wave.opens < roll.closes for roll in rolls):
                    raise ValueError(
                        f"slots.image_upgrade.window overlaps the calendar's on {wave.opens:%a %Y-%m-%d}: "
                        "instances would be replaced in the middle of a wave, move one of the two"
                    )
        return self

    def _first_year(self, openings: Callable[[datetime], Iterator[Opening]]) -> Iterator[Opening]:
        """What opens in the year from the day on which maintenance starts."""
        since = datetime.combine(self.maintenance.starts_on, time(), UTC)
        return takewhile(lambda one: one.opens < since + timedelta(days=366), openings(since))

    def declared_hosts(self, stack: str) -> dict[str, bool]:
        """The hosts that the stack declares, and whether each answers users; Arc machines are not declared."""
        live = self.slots.live
        slots = {f"{stack}-{slot}-{n}": slot == live for slot in get_args(Slot) for n in range(self.slots.instances)}
        return slots | {f"{stack}-vm-{n}": False for n in range(self.machines.instances)}

    def fleet(self, source: Source) -> str:
        """The name of the fleet that holds hosts of a source."""
        return next(name for name, fleet in self.fleets.items() if fleet.source == source)


class StackFile(Model):
    """`Pulumi.<stack>.yaml` as far as Patchwave reads it."""

    settings: Settings
    release: str | None
    waivers: tuple[str, ...] = ()


def stack_path(project: Path, stack: str) -> Path:
    """The stack's settings file; UsageError for a stack that is none of ours."""
    if stack not in STACKS:
        raise UsageError(f"stack {stack!r}: choose dev, staging or prod")
    return project / f"Pulumi.{stack}.yaml"


def load_stack(project: Path, stack: str) -> StackFile:
    """The decisions and the release of one stack."""
    path = stack_path(project, stack)
    config = (read_yaml(path) or {}).get("config", {})
    if "patchwave:settings" not in config:
        raise UsageError(f"{path}: config has no patchwave:settings object: copy it from another stack's file")
    settings = parse(config["patchwave:settings"], Settings, f"{path}: patchwave:settings")
    release = config.get("patchwave:release")
    if release is not None and not isinstance(release, str):
        raise UsageError(f"{path}: patchwave:release must be a text such as '2026-11-22.1'")
    named = config.get("patchwave:waivers") or []
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise UsageError(f"{path}: patchwave:waivers must be a list of waiver ids, as `patchwave waivers --pin` writes")
    return StackFile(settings=settings, release=release, waivers=tuple(named))
