"""Who is patched together: rings, services in their order, batches, and what would leave nobody to answer."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwave.azure.inventory import Host
from patchwave.config.settings import Settings
from patchwave.schedule.batches import batches, objections, rings
from tests.unit.builders import host, settings

FLEETS = {"web": "front", "spare": "front", "replica": "store", "primary": "store"}


def stack(size: int = 2, away: int | str = 1, **changed: Any) -> Settings:
    """A front that is patched after its store, in which the replicas come before the primary; canaries go singly."""
    plain = settings("dev").model_dump(mode="json")
    desk, fleet = plain["services"]["desk"], plain["fleets"]["sites"]
    fleets = {name: {**fleet, "service": service} for name, service in FLEETS.items()}
    fleets["primary"]["patch_after"] = ["replica"]
    plain |= {
        "services": {
            "front": {**desk, "max_unavailable": away, "patch_after": ["store"], "gates": []},
            "store": {**desk, "gates": []},
        },
        "fleets": {name: {**one, **changed.get(name, {})} for name, one in fleets.items()},
    }
    plain["rollout"]["rings"] = [
        {"name": "canary", "hosts": 1, "batch": 1},
        {"name": "rest", "hosts": "rest", "batch": size},
    ]
    return Settings.model_validate_json(json.dumps(plain))


def of(fleet: str, *lives: bool, ring: str = "rest") -> list[Host]:
    placed = {"fleet": fleet, "service": FLEETS[fleet], "ring": ring}
    return [host(f"{fleet}-{ring}-{n}", live=live).model_copy(update=placed) for n, live in enumerate(lives)]


LIVES = st.lists(st.booleans(), max_size=8)


@given(LIVES, LIVES, LIVES, LIVES, st.integers(1, 4), st.integers(1, 3))
def test_every_host_is_in_one_batch_of_its_ring_and_service_and_few_live_ones_are_away(
    canaries: list[bool], front: list[bool], replicas: list[bool], primaries: list[bool], size: int, away: int
) -> None:
    hosts = of("web", *canaries, ring="canary") + of("web", *front) + of("replica", *replicas)
    hosts += of("primary", *primaries)
    made = batches(hosts, stack(size, away))
    assert sorted(name for batch in made for name in batch.names) == sorted(one.name for one in hosts)
    assert [batch.number for batch in made] == list(range(1, len(made) + 1))
    for batch in made:
        assert {(one.ring, one.service) for one in batch.hosts} == {(batch.ring, batch.service)}
        assert len(batch.hosts) <= (1 if batch.ring == "canary" else size)
        assert sum(one.live for one in batch.hosts) <= (away if batch.service == "front" else 1)


def test_rings_come_one_after_the_other_and_in_each_what_others_depend_on_comes_first() -> None:
    hosts = of("web", True) + of("primary", True) + of("replica", True, True) + of("web", True, ring="canary")
    assert [batch.names for batch in batches(hosts, stack())] == [
        ("web-canary-0",),
        ("replica-rest-0",),
        ("replica-rest-1",),
        ("primary-rest-0",),
        ("web-rest-0",),
    ]


@pytest.mark.parametrize(("away", "together"), [("25%", 2), ("1%", 1), ("100%", 4), (3, 3)])
def test_a_share_of_the_live_hosts_is_away_and_never_less_than_one(away: int | str, together: int) -> None:
    made = batches(of("web", *[True] * 8), stack(size=4, away=away))
    assert max(len(batch.hosts) for batch in made) == together


def test_the_smallest_batch_size_of_the_fleets_that_go_together_holds() -> None:
    own = [{"name": "canary", "hosts": 1, "batch": 1}, {"name": "rest", "hosts": "rest", "batch": 1}]
    decided = stack(size=4, spare={"rings": own})
    together = of("web", False, False)
    assert len(batches(together, decided)) == 1
    assert len(batches(together + of("spare", False), decided)) == 3


def test_a_live_host_is_the_canary_whatever_its_name() -> None:
    hosts = [host("web-4", live=False), host("web-7", live=True), host("web-9", live=True)]
    assert rings(hosts, settings("dev")) == {"web-4": "rest", "web-7": "canary", "web-9": "rest"}


def test_a_wave_that_leaves_nobody_or_patches_nobody_is_objected_to() -> None:
    hosts = of("web", True, True) + of("spare", False) + of("replica", True, False, True)
    refused = list(objections(hosts, stack(away=2)))
    assert [line.split(":")[0] for line in refused] == [
        "fleet primary has no host, so its canary ring is empty",
        "service front has 2 live hosts, max_unavailable 2 leaves nobody to answer",
    ]
    assert list(objections(hosts + of("primary", True), stack(away="100%"))) == []
