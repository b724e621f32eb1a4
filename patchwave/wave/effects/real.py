"""The effects of a wave that counts, or of one in a rehearsal: Azure, Ansible, the project's files."""

import json
import os
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from patchwave.authorization.decision import decide
from patchwave.authorization.inputs import gather, record
from patchwave.azure import disk_snapshots, repairs, restore_points
from patchwave.azure.client import Arm
from patchwave.azure.inventory import Host, Inventory, discover
from patchwave.base import clock
from patchwave.config.order import Order
from patchwave.config.settings.fleets import RollbackMethod
from patchwave.config.standard import Standard
from patchwave.evidence import chain as evidence
from patchwave.evidence import signing
from patchwave.methods import ansible
from patchwave.methods.ansible import HostResult
from patchwave.releases import quarantine
from patchwave.releases.quarantine import Entry
from patchwave.releases.release import Release
from patchwave.services.gates import Watch, enough, meters
from patchwave.wave import exports, page
from patchwave.wave.effects import Line, Playbook, Stop
from patchwave.wave.exports import HostRow, RunRow

STOP = "stop"
SNAPSHOTS = {"restore_point": restore_points, "disk_snapshot": disk_snapshots}
"""Who takes a machine's snapshot and swaps it back, by the rollback method of its fleet."""


class RealEffects:
    """Acts for one order; `folder` holds the evidence of its release on its stack."""

    def __init__(
        self,
        project: Path,
        order: Order,
        release: Release,
        standard: Standard,
        folder: Path,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.project, self.order, self.release, self.standard = project, order, release, standard
        self.folder, self.environ = folder, environ

    def now(self) -> datetime:
        """The clock, moved by a rehearsal."""
        return clock.now(self.environ)

    def real_time(self) -> datetime:
        """The clock."""
        return datetime.now(UTC)

    def rehearsal(self) -> dict[str, Any] | None:
        """How far the clock is moved and what time it really is."""
        shift = clock.shift(self.environ)
        if shift is None:
            return None
        return {"shift_seconds": int(shift.total_seconds()), "real_time": clock.iso(self.real_time())}

    def discover(self) -> Inventory:
        """The hosts by Resource Graph."""
        return discover(self.order.stack, self.order.settings, self.environ)

    def decide(self, before: str, needs: timedelta, earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Decided from the order and the project's files."""
        order = self.order
        inputs = gather(
            self.project,
            order.stack,
            self.release,
            order.waivers,
            order.settings,
            standard=order.standard,
            needs=needs,
            at=self.now(),
            environ=self.environ,
        )
        return record(before, inputs, decide(inputs), earlier)

    def play(
        self, playbook: Playbook, hosts: Sequence[Host], variables: dict[str, Any], heard: Callable[[Line], None]
    ) -> dict[str, HostResult]:
        """By Ansible, on this machine."""
        return ansible.run(self.project, playbook, hosts, variables=variables, heard=heard)

    def snapshot(self, host: Host, run: str) -> str:
        """Takes the point or snapshot of this run and lets old ones expire."""
        snapshots = self.order.settings.snapshots
        assert snapshots, "the settings are refused where a fleet needs snapshots and has none"
        way = SNAPSHOTS[self._rollback(host)]
        with Arm(self.environ) as arm:
            if way is restore_points and self.order.settings.fleets[host.fleet].hosts.source == "vm":
                restore_points.ensure_collection(arm, host.id)
            taken = way.take(arm, host.id, run)
            expired = way.expire(arm, host.id, snapshots.keep, self.real_time())
        return f"snapshot {taken.rsplit('/', 1)[1]}, {expired} expired"

    def swap_back(self, host: Host, run: str) -> None:
        """Swaps the disks of this run's snapshot in."""
        with Arm(self.environ) as arm:
            SNAPSHOTS[self._rollback(host)].swap_back(arm, host.id, run)

    def _rollback(self, host: Host) -> RollbackMethod:
        return self.order.settings.fleets[host.fleet].rollback

    def switch_repairs(self, action: str, hosts: Sequence[Host]) -> None:
        """Each scale set once."""
        with Arm(self.environ) as arm:
            for scale_set in repairs.scale_sets(host.id for host in hosts if host.source == "vmss"):
                repairs.switch(arm, scale_set, "Suspend" if action == "Suspend" else "Resume")

    def watch(self, service: str) -> AbstractContextManager[Watch]:
        """The service's gates, an http gate without a url at the public addresses of its fleets."""
        settings = self.order.settings
        public = [
            address
            for fleet, address in sorted(self.order.addresses.public.items())
            if settings.fleets[fleet].service == service
        ]
        made = meters(settings.services[service].gates, project=self.project, public=public, query=self._query)
        return Watch(made, enough(self.standard.rollback))

    def _query(self, workspace: str, query: str, timeout: float) -> Sequence[Sequence[object]]:
        with Arm(self.environ) as arm:
            return arm.query_logs(workspace, query, timeout)

    def stop_requested(self) -> Stop | None:
        """Takes the file that `patchwave stop` leaves."""
        path = self.folder.parent / STOP
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            path.unlink()
            return Stop(by=str(found["by"]), reason=str(found["reason"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            path.unlink(missing_ok=True)
            return Stop(by="somebody", reason="no reason that can be read")

    def send(self, table: str, rows: Sequence[HostRow | RunRow]) -> bool:
        """By the Logs Ingestion API."""
        addresses = self.order.addresses
        if not addresses.ingestion_url or not addresses.ingestion_rule:
            return False
        plain: list[MutableMapping[str, Any]] = [row.model_dump(mode="json") for row in rows]
        with Arm(self.environ) as arm:
            arm.ingest(addresses.ingestion_url, addresses.ingestion_rule, exports.stream(table), plain)
        return True

    def quarantine(self, entries: Sequence[Entry]) -> list[Entry]:
        """On the list that is committed."""
        return quarantine.add(self.project, entries)

    def publish(self) -> None:
        """Signs with the runner's key where there is one, and draws the page."""
        if key := self.environ.get("PATCHWAVE_SIGNING_KEY"):
            evidence.sign(self.folder, Path(key))
        signers = signing.allowed_signers(self.project, self.environ)
        page.render(self.folder, signers=signers, release=self.release)
