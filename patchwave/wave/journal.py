"""What a run has done so far, read from its evidence: the only memory that a wave has between its processes."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from patchwave.azure.inventory import Host
from patchwave.evidence.chain import Chain, Record, sign
from patchwave.releases.waivers import Waiver
from patchwave.schedule.rollout import Batch, Facts, State


class Journal:
    """The records of one run, as answers."""

    def __init__(self, records: Callable[[], Sequence[Record]], run: str) -> None:
        self._records = records
        self.run = run

    def of(self, kind: str) -> list[Record]:
        """The run's records of one kind, in order."""
        return [record for record in self._records() if record.run == self.run and record.kind == kind]

    @property
    def planned(self) -> tuple[Host, ...]:
        """The hosts that the run set out to patch."""
        rows = self.of("wave-started")[0].data["planned"]
        return tuple(Host.model_validate({key: row[key] for key in Host.model_fields}) for row in rows)

    @property
    def waivers(self) -> tuple[Waiver, ...]:
        """The waivers by which the run leaves packages as they are."""
        rows = self.of("wave-started")[0].data["waivers"]
        return tuple(Waiver.model_validate_json(json.dumps(row)) for row in rows)

    def did(self, phase: str) -> bool:
        """Whether a phase has ended."""
        return any(r.data["phase"] == phase and r.data["event"] == "ended" for r in self.of("phase"))

    def did_batch(self, batch: Batch) -> bool:
        """Whether a batch has ended, well or badly."""
        ended = [r.data for r in self.of("phase") if r.data["phase"] == "patch" and r.data["event"] == "ended"]
        return any(data["batch"] == batch.number for data in ended)

    def touched(self, host: Host) -> bool:
        """Whether a batch was begun with this host."""
        return any(r.data["phase"] == "patch" and host.name in r.data["hosts"] for r in self.of("phase"))

    def facts(self, host: Host) -> Facts:
        """What the preflight found on a host."""
        found: dict[str, Any] = {"before": {}, "todo": {}, "held": [], "waived": {}, "problem": None, "looked": False}
        for record in self.of("host"):
            if record.data["host"] == host.name and record.data["step"] == "preflight":
                found |= {**record.data["summary"], "looked": True}
        return Facts.model_validate({key: found[key] for key in Facts.model_fields})

    def todo(self) -> list[Host]:
        """Planned hosts that are fit and have something to bring that is not on hold."""
        return [host for host in self.planned if self.facts(host).to_patch]

    def restored(self) -> dict[str, tuple[State, str]]:
        """Hosts that were taken back, how that ended, and why."""
        return {r.data["host"]: (r.data["state"], r.data["reason"]) for r in self.of("restore")}

    def count(self, step: str, field: str) -> int:
        """On how many hosts a step reported a true field."""
        rows: list[Mapping[str, Any]] = [r.data for r in self.of("host") if r.data["step"] == step]
        return len({row["host"] for row in rows if row["summary"].get(field)})

    def seconds(self) -> float:
        """From the run's first record to its last."""
        times = [datetime.fromisoformat(r.at) for r in self._records() if r.run == self.run]
        return (times[-1] - times[0]).total_seconds()


def open_run(records: Sequence[Record], digest: str) -> str | None:
    """The run of this digest that was begun last and has not ended, to be gone on with."""
    begun = [r.run for r in records if r.kind == "wave-started" and r.data["digest"] == digest]
    ended = {r.run for r in records if r.kind == "wave-ended"}
    return begun[-1] if begun and begun[-1] not in ended else None


def close_rehearsals(project: Path, reason: str, real: datetime, key: Path) -> None:
    """Ends every rehearsed run that is still open: its hosts are gone, nobody may go on with it."""
    for place in sorted((project / "evidence" / "patching").glob("*/*/")):
        with Chain.open(place) as chain:
            started = [r for r in chain.records if r.kind == "wave-started" and r.data.get("rehearsal") is not None]
            ended = {r.run for r in chain.records if r.kind == "wave-ended"}
            for record in [r for r in started if r.run not in ended]:
                data = {"outcome": "failed", "counts": {}, "reason": reason, "real_time": real.isoformat()}
                last = next(r.at for r in reversed(chain.records) if r.run == record.run)
                chain.append("wave-ended", record.run, data, at=datetime.fromisoformat(last))
                sign(place, key)
