"""The real engine on the sandbox: three stacks preview, nothing drifts, and nothing runs out of its window."""

import re
from datetime import UTC, datetime

import pytest

from tests.conftest import Patched
from tests.laboratory import Laboratory


def test_prod_previews_without_a_release_and_with_the_pack(lab: Laboratory) -> None:
    printed = lab.sandbox("preview", "--stack", "prod")
    assert re.search(r"\+ \d+ to create", printed)
    assert "patchwave@v0.1.0" in printed
    assert not list((lab.folder / "hosts").glob("prod-*"))


def test_staging_previews(lab: Laboratory) -> None:
    assert re.search(r"\+ \d+ to create", lab.sandbox("preview", "--stack", "staging"))


def test_a_refresh_finds_no_difference(patched: Patched) -> None:
    lab = patched.lab
    assert "unchanged" in lab.run("pulumi", "refresh", "--yes", "--stack", "dev")
    lab.run("pulumi", "preview", "--stack", "dev", "--expect-no-changes")


def test_a_second_up_runs_nothing(patched: Patched) -> None:
    lab = patched.lab
    known = lab.records()
    printed = lab.sandbox("up")
    assert "nothing to do: no host is touched" in printed
    assert lab.records() == known
    assert "creating" not in printed


@pytest.fixture
def unproved(patched: Patched) -> str:
    """A sealed release that has not run."""
    patched.lab.sandbox("fault", "none")
    patched.lab.run("patchwave", "seal", "--stack", "dev")
    return patched.lab.release()


def test_out_of_its_window_a_wave_is_refused_three_ways(patched: Patched, unproved: str) -> None:
    lab, closed = patched.lab, shift_to("2026-11-29T12:00:00+00:00")
    up = ["pulumi", "up", "--yes", "--skip-preview", "--stack", "dev"]
    by_hook = lab.run(*up, code=255, PATCHWAVE_CLOCK_SHIFT=closed)
    assert 'before hook "dev-wave-guard" failed: dev: patching is refused at Sun 2026-11-29' in by_hook
    by_policy = lab.run(*up, "--policy-pack", "policy", code=255, PATCHWAVE_CLOCK_SHIFT=closed)
    assert "waves-are-permitted: calendar, " in by_policy
    previewed = lab.run("pulumi", "preview", "--stack", "dev", "--policy-pack", "policy", PATCHWAVE_CLOCK_SHIFT=closed)
    assert "run again at Mon 2026-11-30 09:00 UTC" in previewed
    assert lab.records(release=unproved) == []
    by_wave = lab.run("patchwave", "wave", "preflight", "--stack", "dev", code=3, PATCHWAVE_CLOCK_SHIFT=closed)
    assert "refused" in by_wave
    kinds = {record["kind"] for record in lab.records(release=unproved)}
    assert "host" not in kinds
    assert lab.shown("evidence", "show", "--stack", "dev")["outcome"] == "refused"


def test_the_clock_is_not_moved_against_azure(patched: Patched) -> None:
    said = patched.lab.run(
        "patchwave",
        "windows",
        "--stack",
        "dev",
        code=3,
        PATCHWAVE_CLOCK_SHIFT="60",
        ARM_ENDPOINT="https://management.azure.com",
    )
    assert "is not the sandbox" in said


def shift_to(instant: str) -> str:
    return str(round((datetime.fromisoformat(instant) - datetime.now(UTC)).total_seconds()))
