"""How long waves took, read from the records that they leave."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from patchwave.evidence.chain import Chain, Record, read
from patchwave.schedule import durations
from patchwave.schedule.durations import measured

START = datetime(2026, 11, 23, 9, tzinfo=UTC)


def wave(
    place: Path, *batches: dict[str, int], run: str = "run-1", passed: bool = True, resumed: bool = False
) -> Sequence[Record]:
    """A wave: 40 s before its first batch, then each host its seconds, 2 s for each gate and 10 s to prove."""
    with Chain.open(place) as chain:
        clock = START

        def record(kind: str, after: int, **data: Any) -> None:
            nonlocal clock
            clock += timedelta(seconds=after)
            chain.append(kind, run, data, at=clock)

        record("wave-started", 0)
        for number, hosts in enumerate(batches, start=1):
            began = {"phase": "patch", "event": "started", "batch": number, "hosts": list(hosts)}
            record("phase", 40 if number == 1 else 0, **began)
            if resumed:
                record("phase", 3600, **began)
            done = 0
            for host, seconds in sorted(hosts.items(), key=lambda item: item[1]):
                data = {"phase": "patch", "step": "undrain", "batch": number, "host": host, "ok": True, "summary": {}}
                record("host", seconds - done, **data)
                done = seconds
            record("gate", 1, passed=passed)
            record("phase", 1, **{**began, "event": "ended"})
        record("wave-ended", 10, outcome="succeeded")
    return [record for record in read(place) if record.run == run]


def seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()


def test_each_part_of_a_wave_is_measured_by_itself(tmp_path: Path) -> None:
    found = measured([wave(tmp_path, {"a": 60}, {"b": 90, "c": 100})])
    assert {host: seconds(span) for host, span in found.hosts.items()} == {"a": 60, "b": 90, "c": 100}
    assert (seconds(found.before), seconds(found.gate), seconds(found.after)) == (40, 2, 10)


def test_nothing_measured_is_nothing_known() -> None:
    assert measured([]) == (None, {}, None, None)


def test_a_batch_that_was_taken_back_and_a_pause_before_a_resumed_one_do_not_count(tmp_path: Path) -> None:
    assert measured([wave(tmp_path / "back", {"a": 60}, passed=False)]).hosts == {}
    assert seconds(measured([wave(tmp_path / "resumed", {"a": 60}, resumed=True)]).hosts["a"]) == 60


def test_one_slow_wave_in_twenty_does_not_set_the_pace_and_two_do(tmp_path: Path) -> None:
    runs = [wave(tmp_path / str(n), {"a": 60}) for n in range(18)]
    slow = [wave(tmp_path / f"slow-{n}", {"a": 600}) for n in range(2)]
    assert seconds(measured([*runs, wave(tmp_path / "another", {"a": 60}), slow[0]]).hosts["a"]) == 60
    assert seconds(measured([*runs, *slow]).hosts["a"]) == 600


def test_only_the_last_waves_of_a_stack_are_read(tmp_path: Path) -> None:
    for day in range(1, durations.LATEST + 3):
        taken = 600 if day <= 2 else 60
        wave(tmp_path / "evidence" / "patching" / "dev" / f"2026-11-{day:02d}.1", {"a": taken})
    assert seconds(durations.of_stack(tmp_path, "dev").hosts["a"]) == 60
    assert durations.of_stack(tmp_path, "prod") == (None, {}, None, None)
