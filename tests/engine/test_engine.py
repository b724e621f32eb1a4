"""The real engine on the sandbox: three stacks preview, nothing drifts, and nothing runs out of its window."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
import yaml

from patchwave.config.order import Named, Order
from tests.conftest import Patched
from tests.laboratory import Laboratory, shift


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


UP = ("pulumi", "up", "--yes", "--skip-preview", "--stack", "dev")
PACK = ("--policy-pack", "policy")


@pytest.fixture
def unproved(patched: Patched) -> Iterator[Named]:
    """A sealed release that has not run, and that the stack's file does not name."""
    lab = patched.lab
    file = lab.project / "Pulumi.dev.yaml"
    before = file.read_bytes()
    lab.sandbox("fault", "none")
    sealed = lab.shown("seal", "--stack", "dev")
    file.write_bytes(before)
    yield Named(id=sealed["release"], digest=sealed["digest"])
    file.write_bytes(before)


def test_what_the_command_line_orders_is_refused_three_ways_out_of_its_window(
    patched: Patched, unproved: Named
) -> None:
    lab, opens = patched.lab, patched.lab.opening()
    closed = shift(opens - timedelta(hours=1))
    given = ("-c", f"patchwave:release={unproved.id}")
    by_hook = lab.run(*UP, *given, code=255, PATCHWAVE_CLOCK_SHIFT=closed)
    assert f'before hook "dev-wave-guard" failed: dev: patching is refused at {opens:%a %Y-%m-%d}' in by_hook
    by_policy = lab.run(*UP, *given, *PACK, code=255, PATCHWAVE_CLOCK_SHIFT=closed)
    assert "waves-are-permitted: calendar, " in by_policy
    previewed = lab.run("pulumi", "preview", "--stack", "dev", *given, *PACK, PATCHWAVE_CLOCK_SHIFT=closed)
    assert f"run again at {opens:%a %Y-%m-%d %H:%M} UTC" in previewed
    assert lab.records(release=unproved.id) == []
    order = Order.read(json.dumps(lab.records(release=patched.release)[0]["data"]["order"]))
    text = order.model_copy(update={"release": unproved}).model_dump_json()
    assert "refused" in lab.run(
        "patchwave", "wave", "preflight", "--stack", "dev", code=3, stdin=text, PATCHWAVE_CLOCK_SHIFT=closed
    )
    assert "host" not in {record["kind"] for record in lab.records(release=unproved.id)}
    assert lab.shown("evidence", "show", "--stack", "dev", "--release", unproved.id)["outcome"] == "refused"


def test_what_another_file_orders_is_judged_permitted_and_carried_out_as_one_and_the_same(
    patched: Patched, unproved: Named
) -> None:
    lab, begins = patched.lab, shift(patched.lab.opening() + timedelta(minutes=1))
    config = yaml.safe_load((lab.project / "Pulumi.dev.yaml").read_text(encoding="utf-8"))["config"]
    config["patchwave:release"] = unproved.id
    settings, other = config["patchwave:settings"], lab.project / "other.yaml"
    settings["rollout"]["batch_timeout"] = "PT9M"
    for starts, code in (("13:00", 255), ("09:00", 0)):
        settings["calendar"]["windows"][0]["starts"] = starts
        other.write_text(yaml.safe_dump({"config": config}), encoding="utf-8")
        printed = lab.run(*UP, *PACK, "--config-file", str(other), code=code, PATCHWAVE_CLOCK_SHIFT=begins)
        assert ("waves-are-permitted: calendar, " in printed) == bool(code)
    first, *_ = records = lab.records(release=unproved.id)
    order = first["data"]["order"]
    assert order["release"] == unproved.model_dump()
    assert order["settings"]["rollout"]["batch_timeout"] == "PT9M"
    assert records[-1]["data"]["outcome"] == "succeeded"
    assert lab.release() == patched.release


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
