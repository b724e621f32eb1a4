"""The plan of a large fleet: what it costs grows as the fleet does, and no faster."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from patchwave.azure.inventory import Inventory
from patchwave.schedule.durations import Durations
from patchwave.schedule.forecast import Chain, View
from patchwave.schedule.plan import draw
from tests.unit.builders import STANDARD, host, pending, release, settings

NOW = datetime(2026, 12, 13, 2, 0, tzinfo=UTC)


def fleet(count: int) -> Inventory:
    """Every third host live, as in a slot that users are on."""
    hosts = tuple(host(f"prod-{number:06}", live=number % 3 == 0) for number in range(count))
    return Inventory(hosts=hosts, power={}, notes=("as told",), expected=count)


def plan(inventory: Inventory) -> dict[str, Any]:
    scan = {"packages": {"openssl": "3.0.19-1~deb12u2"}, "pending": [{"name": "openssl", "to": pending().to}]}
    scans = {one.name: scan for one in inventory.hosts}
    sealed = release(pending())
    known = {advisory.id: advisory for advisory in sealed.advisories}
    nothing = Durations(None, {}, None, None)
    seen = View("prod", settings("prod"), STANDARD, sealed, known, Chain((), None), nothing, False, (), ())
    return draw(seen, inventory, scans, NOW)


def operations(work: Callable[[], object]) -> int:
    """The bytecode instructions that Python carries out for a piece of work."""
    counted = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal counted
        frame.f_trace_opcodes = True
        counted += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return counted


def test_twice_the_hosts_cost_twice_the_work() -> None:
    few, many = fleet(300), fleet(600)
    plan(few)  # what is compiled and remembered once is not what this is about
    least, most = operations(lambda: plan(few)), operations(lambda: plan(many))
    assert most < 2.1 * least


def test_every_host_of_a_large_fleet_is_in_the_plan_once() -> None:
    drawn = plan(fleet(10_000))
    assert [one["name"] for one in drawn["hosts"]] == [f"prod-{number:06}" for number in range(10_000)]
    batches: dict[int, list[int]] = {}
    for number, one in enumerate(drawn["hosts"]):
        batches.setdefault(one["batch"], []).append(number)
    rollout = settings("prod").rollout
    assert max(map(len, batches.values())) == rollout.rings[-1].batch
    assert max(sum(n % 3 == 0 for n in batch) for batch in batches.values()) == rollout.live_out_of_service
    assert drawn["notes"] == [
        "as told",
        "drift: 10000 scale-set instances are patched in place, the next scale-out is not",
    ]
