"""What a wave does to the world: thin, one method each, and replaceable as a whole."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Protocol

from patchwave.azure.inventory import Host, Inventory
from patchwave.methods.ansible import HostResult
from patchwave.releases.quarantine import Entry
from patchwave.services.gates import Reading
from patchwave.wave.exports import HostRow, RunRow

Playbook = Literal["preflight", "protect", "patch", "restore", "return", "scan"]
Line = Mapping[str, Any]


class Stop(NamedTuple):
    """Somebody stopped the stack's line: who, and why."""

    by: str
    reason: str


class Readings(Protocol):
    """Gates that are watched while a batch is away."""

    def readings(self) -> Sequence[Reading]:
        """What they have measured before, during and after."""
        ...


class Effects(Protocol):
    """Everything by which a wave touches the world or learns of it.

    Any of these may raise a PatchwaveError; the wave decides what that means for the step at hand.
    """

    def now(self) -> datetime:
        """The time by which permission is judged and evidence is dated."""
        ...

    def rehearsal(self) -> dict[str, Any] | None:
        """How far the clock is moved and what time it really is; None in a wave that counts."""
        ...

    def real_time(self) -> datetime:
        """The time that no rehearsal moves."""
        ...

    def discover(self) -> Inventory:
        """The hosts that the stack has now."""
        ...

    def decide(self, before: str, needs: timedelta, earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Whether work that takes so long may start now: a decision's record, after the run's earlier ones."""
        ...

    def play(
        self, playbook: Playbook, hosts: Sequence[Host], variables: dict[str, Any], heard: Callable[[Line], None]
    ) -> dict[str, HostResult]:
        """Runs a playbook; one result a host, and each line as it is reported."""
        ...

    def snapshot(self, host: Host, run: str) -> str:
        """Takes the machine's snapshot; what was done, in a few words."""
        ...

    def swap_back(self, host: Host, run: str) -> None:
        """Puts the disks of this run's snapshot back."""
        ...

    def switch_repairs(self, action: str, hosts: Sequence[Host]) -> None:
        """Suspends or resumes the automatic repairs of these instances' scale sets."""
        ...

    def watch(self, service: str) -> AbstractContextManager[Readings]:
        """Watches the service's gates from now on."""
        ...

    def stop_requested(self) -> Stop | None:
        """Takes a stop that was requested since the last call."""
        ...

    def send(self, table: str, rows: Sequence[HostRow | RunRow]) -> bool:
        """Sends rows to Log Analytics; False where the stack has no workspace."""
        ...

    def quarantine(self, entries: Sequence[Entry]) -> list[Entry]:
        """Puts versions that were taken back on the project's list; those that are new there."""
        ...

    def publish(self) -> None:
        """Signs the evidence and draws its page; may be repeated."""
        ...
