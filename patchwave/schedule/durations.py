"""How long waves have really taken, from their evidence."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from patchwave.config.standard import StackName
from patchwave.evidence import chain as evidence
from patchwave.evidence.chain import Record

PERCENT = 95
LATEST = 10


class Durations(NamedTuple):
    """The 95th percentile of each part of earlier waves, None or missing where there was none.

    `before` is from a wave's start to its first batch, `hosts` from a batch's start until the host is back, `gate`
    from there to the batch's end, `after` from the last batch to the wave's end.
    """

    before: timedelta | None
    hosts: Mapping[str, timedelta]
    gate: timedelta | None
    after: timedelta | None


def measured(runs: Iterable[Sequence[Record]]) -> Durations:
    """What these runs took; only batches whose gate passed count, and only the last attempt of one that was resumed."""
    before: list[timedelta] = []
    gates: list[timedelta] = []
    after: list[timedelta] = []
    hosts: dict[str, list[timedelta]] = {}
    for records in runs:
        begun: datetime | None = None
        passed = False
        back: dict[str, datetime] = {}
        first, last = datetime.fromisoformat(records[0].at), None
        for record in records:
            at, data = datetime.fromisoformat(record.at), record.data
            match record.kind, data.get("phase"), data.get("event") or data.get("step"):
                case "phase", "patch", "started":
                    if begun is None and last is None:
                        before.append(at - first)
                    begun, passed, back = at, False, {}
                case "host", "patch", "undrain" if data["ok"]:
                    back[data["host"]] = at
                case "gate", _, _:
                    passed = bool(data["passed"])
                case "phase", "patch", "ended" if begun and passed and back:
                    for host, since in back.items():
                        hosts.setdefault(host, []).append(since - begun)
                    gates.append(at - max(back.values()))
                    last = at
                case "wave-ended", _, _ if last:
                    after.append(at - last)
    return Durations(
        _high(before),
        {host: high for host, taken in hosts.items() if (high := _high(taken))},
        _high(gates),
        _high(after),
    )


def of_stack(project: Path, stack: StackName) -> Durations:
    """What the stack's last waves took."""
    files = (project / "evidence" / "patching" / stack).glob(f"*/{evidence.FILE}")
    places = sorted((file.parent for file in files), key=lambda place: (place.name[:10], len(place.name), place.name))
    runs: dict[tuple[Path, str], list[Record]] = {}
    for place in places[-LATEST:]:
        for record in evidence.read(place):
            runs.setdefault((place, record.run), []).append(record)
    return measured(runs.values())


def _high(taken: Sequence[timedelta]) -> timedelta | None:
    """The 95th percentile by nearest rank: with fewer than 20 samples the longest."""
    return sorted(taken)[-(-PERCENT * len(taken) // 100) - 1] if taken else None
