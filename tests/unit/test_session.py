"""One process of a wave believes its order only as far as the project's files fit it, and finishes what others left."""

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from patchwave.base.errors import Failed, Refused, UsageError
from patchwave.config.order import Named, Order
from patchwave.evidence import chain as evidence
from patchwave.releases import release as releases
from patchwave.wave import session
from tests.unit.builders import FIXTURE
from tests.unit.wave_world import RELEASE, Killed, World, fleet, order


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "policy").mkdir()
    shutil.copy(FIXTURE / "policy" / "standard.yaml", tmp_path / "policy")
    releases.save(tmp_path, RELEASE)
    return tmp_path


def ordered(project: Path, **changed: Any) -> Order:
    standard = sha256((project / "policy" / "standard.yaml").read_bytes()).hexdigest()
    return order().model_copy(update={"standard": standard, **changed})


def carry_out(
    project: Path, world: World, chosen: Order, phase: session.Phase = "prove", ring: str | None = None
) -> None:
    build: Callable[..., Any] = lambda *parts: world  # noqa: E731
    session.carry_out(project, "dev", phase, ring, chosen.model_dump_json(), {}, build)


def outcomes(project: Path) -> list[str]:
    records = evidence.read(project / "evidence" / "patching" / "dev" / RELEASE.id)
    return [record.data["outcome"] for record in records if record.kind == "wave-ended"]


def test_a_wave_is_carried_out_phase_by_phase(project: Path) -> None:
    world, chosen = World(fleet()), ordered(project)
    phases: list[tuple[session.Phase, str | None]] = [
        ("preflight", None), ("protect", None), ("patch", "canary"), ("patch", "rest"), ("prove", None)
    ]  # fmt: skip
    for phase, ring in phases:
        carry_out(project, world, chosen, phase, ring)
    assert [playbook for playbook, _ in world.plays] == ["preflight", "protect", *["patch"] * 3, "scan"]
    assert outcomes(project) == ["succeeded"]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"stack": "prod"}, "the order is for prod, not for dev"),
        ({"standard": "0" * 64}, "policy/standard.yaml has changed since this order was made"),
        ({"release": Named(id=RELEASE.id, digest="0" * 64)}, f"release {RELEASE.id} has changed since this order"),
        ({"release": Named(id="2026-01-01.1", digest="0" * 64)}, "2026-01-01.1.json is missing"),
        ({"waivers": (Named(id="W-1", digest="0" * 64),)}, "waiver W-1: "),
    ],
)
def test_an_order_that_the_projects_files_do_not_fit_is_refused(
    project: Path, changed: dict[str, Any], problem: str
) -> None:
    world = World(fleet())
    with pytest.raises(UsageError, match=problem):
        carry_out(project, world, ordered(project, **changed))
    assert world.plays == []


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"stack": "dev"}', "\xff", json.dumps({"stack": "dev", "more": 1})])
def test_whatever_is_no_order_is_refused_on_one_line(project: Path, text: str) -> None:
    with pytest.raises(UsageError, match="standard input is no order") as caught:
        session.carry_out(project, "dev", "prove", None, text, {})
    assert "\n" not in str(caught.value)


def test_a_ring_that_the_order_does_not_have_is_refused(project: Path) -> None:
    with pytest.raises(UsageError, match="ring 'last': the order has canary, rest"):
        carry_out(project, World(fleet()), ordered(project), "patch", "last")


def test_two_processes_never_carry_one_stack(project: Path) -> None:
    with (
        session.lock(project / "evidence" / "patching" / "dev", "dev"),
        pytest.raises(Refused, match=r"dev: a wave is running \(process \d+\)"),
    ):
        carry_out(project, World(fleet()), ordered(project))


def test_a_run_that_was_killed_is_gone_on_with_by_the_same_work(project: Path) -> None:
    world = World(fleet(), faults=[None] * 8 + ["die-after"])
    with pytest.raises(Killed):
        carry_out(project, world, ordered(project))
    carry_out(project, world, ordered(project))
    assert outcomes(project) == ["succeeded"]
    assert len(world.transactions) == len(world.hosts)


def test_other_work_ends_what_was_left_open_and_takes_a_half_batch_back(project: Path) -> None:
    world = World(fleet(), faults=[None] * 7 + ["die-after"])
    with pytest.raises(Killed):
        carry_out(project, world, ordered(project))
    (half,) = world.drained or {world.plays[-1][1][0]}
    world.at = world.at.replace(hour=3)
    rollout = order().settings.rollout.model_copy(update={"failure_budget": 1})
    carry_out(project, world, ordered(project, settings=order().settings.model_copy(update={"rollout": rollout})))
    assert outcomes(project) == ["rolled-back", "succeeded"]
    assert half in world.versions
    assert world.drained == set()


def test_a_wave_that_ended_and_was_killed_before_its_signature_is_published_and_its_outcome_kept(project: Path) -> None:
    world = World(fleet(), sick={"dev-web-blue-0": "verify"}, dies_publishing=True)
    with pytest.raises(Killed):
        carry_out(project, world, ordered(project))
    plays = list(world.plays)
    with pytest.raises(Failed, match="failed"):
        carry_out(project, world, ordered(project))
    assert (world.plays, world.published) == (plays, 1)
    world.sick.clear()
    world.at = world.at.replace(hour=3)
    carry_out(project, world, ordered(project))
    assert outcomes(project) == ["failed", "succeeded"]
