"""What a run has done so far, read from its evidence: the only memory that a wave has between its processes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from patchwave.azure.inventory import Host
from patchwave.config.order import Order
from patchwave.evidence.chain import Chain, Record, sign
from patchwave.releases.waivers import Waiver
from patchwave.wave.states import Facts, State


class Decided(NamedTuple):
    """The last decision before one piece of work."""

    at: datetime
    allowed: bool
    reasons: str


class Tried(NamedTuple):
    """A batch that was begun: its hosts, and once it is known, whether its gate passed, why, and who failed.

    One that was `cut_off` was never judged, so that nothing speaks against what it brought.
    """

    number: int
    ring: str
    hosts: tuple[str, ...]
    passed: bool | None = None
    reason: str = ""
    failed: Mapping[str, str] = {}
    cut_off: bool = False
    ended: bool = False


class Journal:
    """The records of one run, folded once into answers; a record of another run is passed over."""

    def __init__(self, records: Iterable[Record], run: str) -> None:
        self.run = run
        self.planned: tuple[Host, ...] = ()
        self._order: Mapping[str, Any] = {}
        self.unusable: dict[str, str] = {}
        self.waivers: tuple[Waiver, ...] = ()
        self.begun: datetime | None = None
        self.latest: datetime | None = None
        self.decisions: dict[str, Decided] = {}
        self.decision_data: list[dict[str, Any]] = []
        self.done: set[str] = set()
        self.facts: dict[str, Facts] = {}
        self.unprotected: dict[str, str] = {}
        self.batches: dict[int, Tried] = {}
        self.restored: dict[str, tuple[State, str]] = {}
        self.repairs: tuple[str, str | None] | None = None
        self.stop: Mapping[str, Any] | None = None
        self.scans: dict[str, dict[str, str] | None] = {}
        self.states: dict[str, State] = {}
        self.rebooted: set[str] = set()
        self.ended: Mapping[str, Any] | None = None
        for record in records:
            self.take(record)

    @property
    def open_batch(self) -> Tried | None:
        """The batch that was begun and has not ended."""
        return next((tried for tried in self.batches.values() if not tried.ended), None)

    @property
    def touched(self) -> frozenset[str]:
        """The hosts with which a batch was begun."""
        return frozenset(name for tried in self.batches.values() for name in tried.hosts)

    @property
    def seconds(self) -> float:
        """From the run's first record to its last."""
        return (self.latest - self.begun).total_seconds() if self.latest and self.begun else 0.0

    @property
    def order(self) -> Order:
        """The order that the run was started with."""
        return Order.read(json.dumps(self._order))

    def take(self, record: Record) -> None:
        """Adds the next record."""
        if record.run != self.run:
            return
        self.latest = datetime.fromisoformat(record.at)
        self.begun = self.begun or self.latest
        take = getattr(self, f"_take_{record.kind.replace('-', '_')}", None)
        if take is not None:
            take(record)

    def _take_wave_started(self, record: Record) -> None:
        data = record.data
        self.planned = tuple(
            Host.model_validate({key: row[key] for key in Host.model_fields}) for row in data["planned"]
        )
        self._order = data["order"]
        self.unusable = {row["name"]: row["reason"] for row in data["unusable"]}
        self.waivers = tuple(Waiver.model_validate_json(json.dumps(row)) for row in data["waivers"])

    def _take_decision(self, record: Record) -> None:
        data, decision = record.data, record.data["decision"]
        reasons = "; ".join(refusal["why"] for refusal in decision["refusals"])
        self.decisions[data["before"]] = Decided(datetime.fromisoformat(record.at), decision["allowed"], reasons)
        self.decision_data.append(data)

    def _take_phase(self, record: Record) -> None:
        data = record.data
        if data["phase"] == "patch":
            number = data["batch"]
            if data["event"] == "started":
                self.batches[number] = Tried(number, data["ring"], tuple(data["hosts"]))
            else:
                self.batches[number] = self.batches[number]._replace(ended=True)
        elif data["event"] == "ended":
            self.done.add(data["phase"])

    def _take_host(self, record: Record) -> None:
        data, host = record.data, record.data["host"]
        match data["step"]:
            case "preflight":
                self.facts[host] = Facts.model_validate(
                    {key: value for key, value in data["summary"].items() if key in Facts.model_fields}
                )
            case "protect":
                self.unprotected.pop(host, None)
                if not data["ok"]:
                    self.unprotected[host] = str(data["summary"].get("reason"))
            case "scan":
                self.scans[host] = data["summary"]["after"]
            case "reboot" if data["summary"].get("rebooted"):
                self.rebooted.add(host)

    def _take_gate(self, record: Record) -> None:
        data = record.data
        self.batches[data["batch"]] = self.batches[data["batch"]]._replace(
            passed=data["passed"], reason=data["reason"], failed=data["failed"], cut_off=data["cut_off"]
        )

    def _take_restore(self, record: Record) -> None:
        data = record.data
        self.restored[data["host"]] = data["state"], data["reason"]

    def _take_repairs(self, record: Record) -> None:
        self.repairs = record.data["action"], record.data["problem"]

    def _take_stop(self, record: Record) -> None:
        self.stop = record.data

    def _take_state(self, record: Record) -> None:
        self.states[record.data["host"]] = record.data["state"]

    def _take_wave_ended(self, record: Record) -> None:
        self.ended = record.data


def open_run(records: Sequence[Record]) -> str | None:
    """The run that was begun last, if it has not ended."""
    begun = [record.run for record in records if record.kind == "wave-started"]
    ended = {record.run for record in records if record.kind == "wave-ended"}
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
