"""A wave, whatever fails and wherever it is killed, keeps its budget and leaves each host in exactly one state."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwave.azure.inventory import Unplanned
from patchwave.base.errors import Failed, PatchwaveError, Refused
from patchwave.config.settings import Settings
from patchwave.schedule.batches import count_of
from patchwave.wave import machine
from patchwave.wave.effects import Stop
from patchwave.wave.journal import Journal
from patchwave.wave.run import raise_for
from patchwave.wave.states import COMPLIANT
from tests.unit.builders import IN_WINDOW, settings
from tests.unit.wave_world import NEW, OLD, Killed, Memory, World, dev, fleet, order, run


def changed(**services: Any) -> Settings:
    """The dev stack with parts of its service behind the balancer changed."""
    whole = dev
    desk = whole.services["desk"].model_copy(update=services)
    return whole.model_copy(update={"services": {**whole.services, "desk": desk}})


def with_rollout(**rollout: Any) -> Settings:
    whole = dev
    return whole.model_copy(update={"rollout": whole.rollout.model_copy(update=rollout)})


def states(chain: Memory) -> Mapping[str, str]:
    found = [(data["host"], data["state"]) for data in chain.of("state")]
    assert len(found) == len(dict(found)), "a host has two end states"
    return dict(found)


def outcome(chain: Memory) -> str:
    return str(chain.of("wave-ended")[-1]["outcome"])


def test_a_wave_goes_by_live_canary_then_the_rest_and_proves_each_host() -> None:
    world, chain = World(fleet()), Memory()
    run(world, chain).carry_out()
    patched = [hosts for playbook, hosts in world.plays if playbook == "patch"]
    assert patched[:2] == [("dev-machines-0", "site-0"), ("dev-web-blue-0",)]
    assert outcome(chain) == "succeeded"
    assert set(states(chain).values()) == {"patched"}
    assert world.versions == dict.fromkeys(states(chain), NEW)
    assert (world.drained, world.published, world.sent) == (set(), 1, ["PatchRuns", "PatchHosts", "PatchRuns"])


def test_a_second_run_finds_all_current_and_patches_nothing() -> None:
    world, chain = World(fleet()), Memory()
    run(world, chain).carry_out()
    world.plays.clear()
    world.at += timedelta(minutes=1)
    run(world, chain).carry_out()
    assert [playbook for playbook, _ in world.plays] == ["preflight", "scan"]
    assert {data["state"] for data in chain.of("state")[-len(world.hosts) :]} == {"already-current"}


def test_each_phase_stops_where_its_own_work_ends() -> None:
    world, chain = World(fleet()), Memory()
    for until, played in ((0, ["preflight"]), (1, ["preflight", "protect"])):
        run(world, chain).carry_out(until)
        assert [playbook for playbook, _ in world.plays] == played
    run(world, chain).carry_out(2)
    first = [hosts for playbook, hosts in world.plays if playbook == "patch"]
    assert first == [("dev-machines-0", "site-0"), ("dev-web-blue-0",)]
    assert not chain.of("state")


@pytest.mark.parametrize("sick", ["silent", "strange", "unfit"])
def test_one_host_that_cannot_be_patched_is_deferred_and_the_others_are_not_held_up(sick: str) -> None:
    world, chain = World(fleet(), sick={"dev-web-green-1": sick}), Memory()
    run(world, chain, order(with_rollout(failure_budget=1))).carry_out()
    found = dict(states(chain))
    assert found.pop("dev-web-green-1") == "deferred"
    assert set(found.values()) == {"patched"}
    assert outcome(chain) == "succeeded"


def test_a_silent_host_needs_no_budget_and_an_unfit_one_does() -> None:
    for sick, ended in (("silent", "succeeded"), ("unfit", "failed"), ("strange", "failed")):
        world, chain = World(fleet(), sick={"dev-web-green-1": sick}), Memory()
        run(world, chain).carry_out()
        assert outcome(chain) == ended
        assert (not world.transactions) == (ended == "failed")


def test_an_unfit_canary_leaves_its_place_to_another_live_host() -> None:
    world, chain = World(fleet(live=3), sick={"dev-web-blue-0": "unfit"}), Memory()
    chosen = with_rollout(failure_budget=1)
    run(world, chain, order(chosen)).carry_out()
    first = next(hosts for playbook, hosts in world.plays if playbook == "patch" and "web" in hosts[0])
    assert first == ("dev-web-blue-1",)


def test_a_service_without_room_for_another_host_away_keeps_its_live_hosts_in_service() -> None:
    world, chain = World(fleet(), sick={"dev-web-blue-1": "silent"}), Memory()
    run(world, chain).carry_out()
    found = states(chain)
    assert found["dev-web-blue-0"] == "deferred"
    assert found["dev-web-green-0"] == "patched"
    assert not [away for away in world.away if away]


def test_eight_live_instances_never_go_together() -> None:
    world, chain = World(fleet(live=8)), Memory()
    run(world, chain, order(with_rollout(rings=settings("prod").rollout.rings))).carry_out()
    assert max(len(away) for away in world.away) == 1


def test_all_hosts_silent_is_no_success() -> None:
    world, chain = World(fleet()), Memory()
    world.sick = dict.fromkeys((one.name for one in world.hosts), "silent")
    run(world, chain).carry_out()
    assert outcome(chain) == "failed"


def test_a_bad_gate_takes_its_batch_back_and_ends_the_wave() -> None:
    world, chain = World(fleet(), bad_gates={2}), Memory()
    ended = run(world, chain).carry_out()
    found = states(chain)
    assert found["dev-web-blue-0"] == "failed-restored"
    assert found["dev-web-blue-1"] == "not-attempted"
    assert world.versions["dev-web-blue-0"] == OLD
    with pytest.raises(Failed, match=r"rolled-back: batch 2 was taken back: http: error rate rose by 100\.0 % after"):
        raise_for(ended, order())


def test_a_host_that_cannot_be_taken_back_ends_the_wave_even_within_the_budget() -> None:
    world, chain = World(fleet(), sick={"dev-web-blue-0": "verify"}), Memory()
    run(world, chain, order(with_rollout(failure_budget=3))).carry_out()
    assert states(chain)["dev-web-blue-0"] == "failed-unrestored"
    assert states(chain)["dev-web-blue-1"] == "not-attempted"
    assert outcome(chain) == "failed"


def test_a_wave_out_of_its_window_touches_nothing_and_still_ends_with_evidence() -> None:
    world, chain = World(fleet(), closed_after=IN_WINDOW - timedelta(hours=1)), Memory()
    ended = run(world, chain).carry_out()
    assert world.plays == []
    assert set(states(chain).values()) == {"not-attempted"}
    assert world.published == 1
    with pytest.raises(Refused, match="refused: outside every window"):
        raise_for(ended, order())


def test_a_window_that_closes_in_mid_wave_stops_it_and_says_who_was_patched() -> None:
    world, chain = World(fleet()), Memory()
    run(world, chain).carry_out(2)
    world.closed_after = world.at
    world.at += timedelta(hours=3)
    ended = run(world, chain).carry_out()
    assert outcome(chain) == "stopped"
    assert sorted(set(states(chain).values())) == ["not-attempted", "patched"]
    with pytest.raises(Refused, match="stopped: outside every window"):
        raise_for(ended, order())


def test_proving_needs_no_window() -> None:
    world, chain = World(fleet()), Memory()
    rings = len(order().settings.rollout.ring_names)
    run(world, chain).carry_out(1 + rings)
    assert not chain.of("wave-ended")
    world.closed_after = world.at
    world.at += timedelta(hours=3)
    run(world, chain).carry_out()
    assert (outcome(chain), set(states(chain).values()), world.published) == ("succeeded", {"patched"}, 1)


def test_a_batch_that_was_cut_off_and_may_not_go_on_is_taken_back() -> None:
    world, chain = World(fleet()), Memory()
    run(world, chain).carry_out(1)
    world.faults = [None, None, None, "die-after"]
    with pytest.raises(Killed):
        run(world, chain).carry_out()
    world.closed_after = world.at
    world.at += timedelta(hours=3)
    run(world, chain).carry_out()
    assert outcome(chain) == "rolled-back"
    assert states(chain)["dev-web-blue-0"] == "failed-restored"


def test_a_stop_lets_the_batch_end_and_nothing_follow() -> None:
    world, chain = World(fleet()), Memory()
    run(world, chain).carry_out(2)
    world.stops = [Stop("ada", "a strange graph\x1b[2J")]
    run(world, chain).carry_out()
    assert outcome(chain) == "stopped"
    assert chain.of("wave-ended")[0]["reason"] == "stopped by ada: a strange graph"
    assert "patched" in states(chain).values()


def test_another_order_ends_what_an_older_one_left_and_takes_its_half_batch_back() -> None:
    world, chain = World(fleet()), Memory()
    run(world, chain).carry_out(1)
    world.faults = [None, None, None, "die-after"]
    with pytest.raises(Killed):
        run(world, chain).carry_out()
    run(world, chain).abandon("release 2026-12-01.1", "another order came")
    assert states(chain)["dev-web-blue-0"] == "failed-restored"
    assert world.drained == set()


def test_repairs_are_suspended_before_the_first_batch_and_always_resumed() -> None:
    chosen = settings("staging")
    for bad in (set(), {1}):
        world, chain = World(fleet(), bad_gates=bad), Memory()
        run(world, chain, order(chosen, "staging")).carry_out()
        assert [data["action"] for data in chain.of("repairs")] == ["Suspend", "Resume"]
        assert not world.suspended


def test_a_short_inventory_is_not_patched() -> None:
    world, chain = World(fleet(), missing=("dev-web-blue-1",)), Memory()
    with pytest.raises(
        Failed, match="a short inventory is not patched: dev-web-blue-1 is declared and not in Azure's answer"
    ):
        run(world, chain).carry_out()
    assert not chain.records


def test_a_host_that_cannot_be_used_is_in_the_evidence_and_holds_nobody_up() -> None:
    off = Unplanned(id="/h/off", name="off", source="vm", fleet="machines", os="Linux", reason="is deallocated")
    world, chain = World(fleet(), problems=(off,)), Memory()
    run(world, chain).carry_out()
    assert states(chain)["off"] == "deferred"
    assert outcome(chain) == "succeeded"


def test_a_database_that_no_host_has_keeps_its_service_from_being_patched() -> None:
    world, chain = World(fleet()), Memory()
    world.sick = {one.name: "empty" for one in world.hosts if one.service == "branch"}
    run(world, chain).carry_out()
    assert outcome(chain) == "failed"
    assert "no host of branch has the database fieldops: correct services.branch.data" in world_reason(chain)
    assert not world.transactions


def world_reason(chain: Memory) -> str:
    return str(chain.of("wave-ended")[-1]["reason"])


def test_an_empty_fleet_is_refused_because_its_canary_would_be_empty() -> None:
    world = World([one for one in fleet() if one.fleet != "web"])
    with pytest.raises(Refused, match="fleet web has no host, so its canary ring is empty"):
        run(world, Memory()).carry_out()


FAULTS = st.lists(st.sampled_from([None, None, None, "raise", "die", "die-after"]), max_size=25)
SICK = st.dictionaries(
    st.sampled_from([one.name for one in fleet(live=4)]),
    st.sampled_from(["silent", "unfit", "strange", "drain", "transaction", "verify", "undrain", "restore in restore",
                     "silent in patch", "silent in scan", "protect"]),
    max_size=3,
)  # fmt: skip


@given(faults=FAULTS, sick=SICK, bad=st.sets(st.integers(1, 4), max_size=2), budget=st.integers(0, 2),
       away=st.sampled_from([1, "50%", "75%"]), closes=st.none() | st.integers(0, 200),
       stop=st.booleans())  # fmt: skip
def test_whatever_happens_every_host_ends_in_one_state_and_the_budget_holds(
    faults: list[str | None],
    sick: dict[str, str],
    bad: set[int],
    budget: int,
    away: int | str,
    closes: int | None,
    stop: bool,
) -> None:
    chosen = changed(max_unavailable=away)
    chosen = chosen.model_copy(update={"rollout": chosen.rollout.model_copy(update={"failure_budget": budget})})
    world, chain = World(fleet(live=4), list(faults), dict(sick), set(bad)), Memory()
    world.stops = [Stop("ada", "why not")] if stop else []
    world.closed_after = None if closes is None else world.at + timedelta(seconds=closes)
    for _ in range(len(faults) + 2):
        try:
            run(world, chain, order(chosen)).carry_out()
            break
        except (Killed, PatchwaveError):
            continue
    else:
        raise AssertionError("a run that cannot be finished")
    journal = Journal(chain.records, chain.records[-1].run)
    assert states(chain).keys() == {one.name for one in world.hosts}
    limit = count_of(chosen.services["desk"].max_unavailable, 4)
    unrestored = {name for name, state in states(chain).items() if state == "failed-unrestored"}
    assert all(len(gone - unrestored) <= limit for gone in world.away)
    assert len(world.transactions) == len(set(world.transactions))
    assert len(chain.of("wave-ended")) == 1
    assert world.published >= 1
    ended = outcome(chain)
    if ended == "succeeded":
        good = {name for name, state in states(chain).items() if state in COMPLIANT}
        assert all(world.versions.get(name) == NEW for name in good)
        assert world.drained == set()
    if ended == "refused":
        assert not world.transactions
    assert machine.next_action(journal, order(chosen), world.at) is None
