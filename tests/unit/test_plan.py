"""The plan of a large fleet: what it costs grows as the fleet does, and hosts without an answer stop nobody."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import pytest

from patchwave.azure.inventory import Inventory, Unplanned
from patchwave.methods.ansible import HostResult
from patchwave.schedule.durations import Durations
from patchwave.schedule.forecast import Before, Forecast
from patchwave.schedule.plan import draw
from patchwave.schedule.scans import HostScan, Scans, answers
from tests.unit.builders import STANDARD, host, pending, release, settings

NOW = datetime(2026, 12, 13, 2, 0, tzinfo=UTC)
LACKS = HostScan({"openssl": "3.0.19-1~deb12u2"}, (pending(),), ())
CURRENT = HostScan({"openssl": "3.0.20-1~deb12u2"}, (), ())


def fleet(count: int) -> Inventory:
    """Every third host live, as in a slot that users are on."""
    hosts = tuple(host(f"prod-{number:06}", live=number % 3 == 0) for number in range(count))
    return Inventory(hosts=hosts, notes=("as noted",))


def plan(inventory: Inventory, scans: Scans | None = None) -> dict[str, Any]:
    sealed = release(pending())
    known = {advisory.id: advisory for advisory in sealed.advisories}
    nothing = Durations(None, {}, None, None)
    seen = Forecast("prod", settings("prod"), STANDARD, sealed, known, Before((), None), nothing, False, (), ())
    return draw(seen, inventory, scans or Scans({one.name: LACKS for one in inventory.hosts}, {}), NOW)


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
    decided = settings("prod")
    assert [one["ring"] for one in drawn["hosts"]].count("canary") == 1
    assert drawn["hosts"][0]["ring"] == "canary"
    assert max(map(len, batches.values())) == decided.rollout.rings[-1].batch
    assert max(sum(n % 3 == 0 for n in batch) for batch in batches.values()) == decided.services["desk"].max_unavailable
    assert drawn["notes"] == [
        "as noted",
        "drift: 10000 scale-set instances are patched in place, the next scale-out is not",
    ]


def test_a_host_without_an_answer_is_named_and_the_others_are_planned() -> None:
    off = Unplanned(id="/h/off", name="off", fleet="web", source="vm", os="Linux", reason="is deallocated: start it")
    hosts = (host("web-0", live=True), host("web-1", live=True), host("web-2", live=True))
    inventory = Inventory(hosts=hosts, problems=(off,), missing=("web-3 is declared and not there",))
    scans = Scans({"web-0": CURRENT, "web-2": LACKS}, {"off": off.reason, "web-1": "unreachable"}, inventory.missing)
    drawn = plan(inventory, scans)
    shown = {one["name"]: (one["batch"], len(one["packages"]), one["problem"]) for one in drawn["hosts"]}
    assert shown == {"web-0": (None, 0, None), "web-1": (None, 0, "unreachable"), "web-2": (1, 1, None)}
    assert drawn["partial"] is True
    assert drawn["unanswered"] == [
        {"name": "off", "reason": "is deallocated: start it"},
        {"name": "web-1", "reason": "unreachable"},
    ]
    assert "web-3 is declared and not there" in drawn["notes"]


def test_the_canary_is_one_of_the_hosts_that_lack_something() -> None:
    hosts = (host("web-0", live=True), host("web-1", live=True), host("web-2", live=True))
    scans = Scans({"web-0": CURRENT, "web-1": LACKS, "web-2": LACKS}, {})
    drawn = plan(Inventory(hosts=hosts), scans)
    assert [(one["ring"], one["batch"]) for one in drawn["hosts"][1:]] == [("canary", 1), ("rest", 2)]


def test_objections_to_the_wave_are_shown() -> None:
    drawn = plan(Inventory(hosts=(host("web-0", live=True), host("web-1", live=True))))
    assert "service desk has 2 live hosts, max_unavailable 2 leaves nobody to answer" in drawn["objections"][-1]


@pytest.mark.parametrize(("silent", "objected"), [(("web-0",), False), (("web-0", "web-1"), True), (("web-3",), False)])
def test_live_hosts_that_do_not_answer_take_the_room_of_others(silent: tuple[str, ...], objected: bool) -> None:
    hosts = tuple(host(f"web-{number}", live=number != 3) for number in range(4))
    scans = Scans({one.name: LACKS for one in hosts if one.name not in silent}, dict.fromkeys(silent, "unreachable"))
    drawn = plan(Inventory(hosts=hosts), scans)
    assert any("has no room for another host away" in line for line in drawn["objections"]) == objected


def result(name: str, scan: dict[str, Any] | None, problem: str | None = None) -> HostResult:
    steps = {} if scan is None else {"scan": scan}
    return HostResult(host=name, reached=problem is None, problem=problem, steps=steps)


def test_a_strange_answer_is_that_hosts_problem_alone() -> None:
    row = {**pending().model_dump(mode="json", by_alias=True), "from": ""}
    good = {"packages": {"openssl": "1"}, "pending": [row], "brought": []}
    results = [
        result("good", good),
        result("silent", None),
        result("broken", good, problem="scan: \x1b[31mdpkg is locked"),
        result("bad-version", {**good, "packages": {"openssl": 1}}),
        result("bad-row", {**good, "pending": [{**row, "name": "a;b"}]}),
        result("bad-shape", {**good, "pending": None}),
        result("short", {"packages": {}, "pending": []}),
    ]
    found = answers(Inventory(hosts=()), {one.host: one for one in results})
    assert found.found["good"].pending[0].from_ is None
    assert found.unanswered.keys() == {one.host for one in results} - {"good"}
    assert found.unanswered["broken"] == "scan: dpkg is locked"
