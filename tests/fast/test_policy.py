"""Each rule refuses what it is for and admits its neighbour; all are silent over the program itself."""

import copy
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from policy.rules import RULES, STACK_RULES, Moment, Rule

from patchwave.admission import permission
from patchwave.decisions.settings import STACKS
from patchwave.records import evidence
from patchwave.releases import release as releases
from policy import rules
from policy.declared import Declared
from tests.fast.builders import release
from tests.fast.engine import declare_stack

OPEN = Moment(datetime(2026, 11, 23, 9, 30, tzinfo=UTC), preview=False)
CLOSED = Moment(datetime(2026, 11, 22, 9, 30, tzinfo=UTC), preview=False)
SEALED = release()
BY_NAME: dict[str, Rule] = {rule.name: rule for rule in RULES}


def complaints(rule: str, declared: Declared, moment: Moment = OPEN) -> list[str]:
    return list(rules.complaints(BY_NAME[rule], declared, moment))


def declared(stack: str, kind: str) -> Declared:
    found = next(d for d in declare_stack(stack) if d.type.endswith(f":{kind}"))
    return Declared(found.type, found.name, copy.deepcopy(found.props))


def wave(stack: str = "dev", **environment: str) -> Declared:
    variables = {"PATCHWAVE_STACK": stack, "PATCHWAVE_RELEASE": SEALED.id, "PATCHWAVE_DIGEST": SEALED.digest}
    return Declared(
        rules.COMMAND,
        f"{stack}-wave-preflight",
        {"create": f"exec patchwave wave preflight --stack {stack}", "environment": variables | environment},
    )


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's decisions with one sealed release that nothing has carried out."""
    (tmp_path / "policy").mkdir()
    for name in ("policy/standard.yaml", *(f"Pulumi.{stack}.yaml" for stack in STACKS)):
        shutil.copy(rules.PROJECT / name, tmp_path / name)
    releases.save(tmp_path, SEALED)
    monkeypatch.setattr(rules, "PROJECT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("stack", STACKS)
def test_the_program_itself_is_refused_by_no_rule(stack: str) -> None:
    resources = [Declared(d.type, d.name, d.props) for d in declare_stack(stack)]
    found = [c for rule in RULES for d in resources for c in rules.complaints(rule, d, OPEN)]
    assert found + [c for rule in STACK_RULES for c in rule.check(resources)] == []


def test_an_update_outside_the_window_is_refused_and_names_the_next_opening(sealed: Path) -> None:
    (complaint,) = complaints("waves-run-with-permission", wave(), CLOSED)
    assert "Mon 2026-11-23 09:00 UTC" in complaint
    assert complaints("waves-run-with-permission", wave(), OPEN) == []


def test_a_wave_that_is_neither_promoted_nor_approved_is_refused_inside_its_window(sealed: Path) -> None:
    window = OPEN._replace(now=datetime(2026, 12, 13, 2, 0, tzinfo=UTC))
    (complaint,) = complaints("waves-run-with-permission", wave("prod"), window)
    assert "has no evidence from staging" in complaint
    assert "normal approval is missing from Security Lead" in complaint


def test_a_preview_without_permission_only_warns(sealed: Path) -> None:
    preview = CLOSED._replace(preview=True)
    assert BY_NAME["waves-wait-for-permission"].level == "advisory"
    assert complaints("waves-run-with-permission", wave(), preview) == []
    (warning,) = complaints("waves-wait-for-permission", wave(), preview)
    assert "2026-11-23 09:00" in warning


def test_a_wave_that_has_succeeded_is_no_reason_to_refuse(sealed: Path) -> None:
    with evidence.Chain.open(permission.folder(sealed, "dev", SEALED.id)) as chain:
        started = {"digest": SEALED.digest, "waivers": []}
        for kind, data in (("wave-started", started), ("wave-ended", {"outcome": "succeeded"})):
            chain.append(kind, "run-1", data, at=OPEN.now)
    assert complaints("waves-run-with-permission", wave(), CLOSED) == []
    assert complaints("waves-run-with-permission", wave(PATCHWAVE_DIGEST="e" * 64), CLOSED) != []


def test_a_wave_of_another_digest_than_the_sealed_one_is_refused(sealed: Path) -> None:
    (complaint,) = complaints("waves-run-with-permission", wave(PATCHWAVE_DIGEST="e" * 64), OPEN)
    assert f"digest eeeeeeeeeeee is declared, release {SEALED.id} has {SEALED.digest[:12]}" in complaint


def test_a_hand_made_wave_without_its_release_is_refused() -> None:
    assert complaints("waves-run-with-permission", wave(PATCHWAVE_STACK="qa")) != []


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({}, False),
        ({"duration": "02:01"}, True),
        ({"startDateTime": "2026-12-01 08:59"}, True),
        ({"startDateTime": "2026-12-01 15:00"}, False),
        ({"startDateTime": "2026-12-01 15:01"}, True),
        ({"startDateTime": None}, True),
        ({"tags": {}}, True),
    ],
)
def test_maintenance_windows_are_held_against_the_standard(change: dict[str, Any], refused: bool) -> None:
    configuration = declared("dev", "MaintenanceConfiguration")
    changed = configuration._replace(props={**configuration.props, **change})
    assert bool(complaints("windows-stay-within-the-standard", changed)) == refused


@pytest.mark.parametrize(
    "extensions",
    [
        None,
        [],
        [{"type": "CustomScript"}],
        [{"type": "ApplicationHealthLinux", "publisher": "Somebody", "settings": {}}],
    ],
)
def test_a_scale_set_that_nobody_watches_is_refused(extensions: Any) -> None:
    scale_set = declared("dev", "VirtualMachineScaleSet")
    assert complaints("scale-sets-watch-application-health", scale_set) == []
    scale_set.props["virtualMachineProfile"]["extensionProfile"] = {"extensions": extensions}
    assert complaints("scale-sets-watch-application-health", scale_set) != []


@pytest.mark.parametrize(
    ("key", "admitted", "refused"),
    [
        ("maxBatchInstancePercent", 50, 51),
        ("maxUnhealthyInstancePercent", 50, None),
        ("maxUnhealthyUpgradedInstancePercent", 20, 21),
        ("rollbackFailedInstancesOnPolicyBreach", True, False),
    ],
)
def test_rolling_limits(key: str, admitted: Any, refused: Any) -> None:
    scale_set = declared("dev", "VirtualMachineScaleSet")
    policy = scale_set.props["upgradePolicy"]["rollingUpgradePolicy"]
    policy[key] = admitted
    assert complaints("scale-sets-roll-within-the-standard", scale_set) == []
    policy[key] = refused
    (complaint,) = complaints("scale-sets-roll-within-the-standard", scale_set)
    assert key in complaint


def test_a_machine_without_its_restore_points_is_refused() -> None:
    resources = [Declared(d.type, d.name, d.props) for d in declare_stack("dev")]
    bare = [d for d in resources if d.type != rules.COLLECTION]
    (complaint,) = STACK_RULES[0].check(bare)
    assert "dev-vm-0" in complaint


def test_a_machine_that_does_not_say_who_it_is_is_refused() -> None:
    resources = [Declared(d.type, d.name, d.props) for d in declare_stack("dev")]
    machine = next(d for d in resources if d.type == rules.MACHINE)
    bare = machine._replace(props={**machine.props, "tags": {}})
    (complaint,) = STACK_RULES[0].check([bare if d is machine else d for d in resources])
    assert "patchwave-host" in complaint


@pytest.mark.parametrize(
    ("stack", "patching", "refused"),
    [
        ("dev", {"patchMode": "ImageDefault"}, False),
        ("prod", {"patchMode": "ImageDefault"}, True),
        ("prod", {"patchMode": "AutomaticByPlatform"}, True),
        ("prod", None, True),
    ],
)
def test_prod_never_patches_itself(stack: str, patching: Any, refused: bool) -> None:
    machine = declared(stack, "VirtualMachine")
    assert complaints("prod-never-patches-itself", machine) == []
    machine.props["osProfile"]["linuxConfiguration"]["patchSettings"] = patching
    assert bool(complaints("prod-never-patches-itself", machine)) == refused


@pytest.mark.parametrize("automatic", [True, None])
def test_prod_scale_sets_do_not_upgrade_themselves(automatic: Any) -> None:
    scale_set = declared("prod", "VirtualMachineScaleSet")
    scale_set.props["upgradePolicy"]["automaticOSUpgradePolicy"] = {"enableAutomaticOSUpgrade": automatic}
    assert complaints("prod-never-patches-itself", scale_set) != []


def test_a_rule_that_cannot_run_denies(sealed: Path) -> None:
    releases.path_of(sealed, SEALED.id).unlink()
    (complaint,) = complaints("waves-run-with-permission", wave(), OPEN)
    assert "cannot run: " in complaint
    assert f"{SEALED.id}.json is missing" in complaint
