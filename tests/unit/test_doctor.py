"""The doctor: what a runner lacks is named with its fix, and what cannot be known is not called missing."""

import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from patchwave.azure.inventory import Host, Inventory, Unplanned
from patchwave.base.errors import Failed, UsageError
from patchwave.cli.doctor import KEY, Check, Permission, ThisRunner, clock_check, examine, may, needs, right_checks
from patchwave.config.settings import Settings
from patchwave.evidence.chain import IDENTITY
from tests.unit.builders import copy_desk, host, make_keys, settings
from tests.unit.engine import FIXTURE

SUBSCRIPTION = "/subscriptions/00000000-0000-4000-8000-000000000001"
COMPUTE = f"{SUBSCRIPTION}/resourceGroups/patchwave-staging/providers/Microsoft.Compute"
MACHINE = f"{COMPUTE}/virtualMachines/staging-machines-0"
SCALE_SET = f"{COMPUTE}/virtualMachineScaleSets/staging-web-blue"


def hosts() -> tuple[Host, ...]:
    placed = {"staging-web-blue-0": f"{SCALE_SET}/virtualMachines/0", "staging-machines-0": MACHINE}
    found = (host("staging-web-blue-0", live=True), host("staging-machines-0", source="vm"))
    return tuple(one.model_copy(update={"id": placed[one.name]}) for one in found)


class Fake:
    """A runner to which nothing is wrong but what a test says."""

    def __init__(self, *, without: Sequence[str] = (), silent: Sequence[str] = (), signed_in: bool = True) -> None:
        self.without, self.silent, self.signed_in = without, silent, signed_in
        self.ahead = timedelta(seconds=1)
        self.listed = Inventory(hosts=hosts())

    def found(self, tool: str) -> str | None:
        return None if tool in self.without else f"/usr/bin/{tool}"

    def sign_in(self) -> str:
        if not self.signed_in:
            raise Failed("no sign-in to Azure (EnvironmentCredential: none): run `az login`")
        return "subscription s"

    def skew(self) -> timedelta:
        return self.ahead

    def inventory(self, stack: str, decided: Settings) -> Inventory:
        return self.listed

    def permissions(self, scope: str) -> Sequence[Permission]:
        return (Permission(actions=("*",)),)

    def reach(self, one: Host) -> None:
        if one.name in self.silent:
            raise Failed("Permission denied (publickey): `ssh X true` must work")

    def signs(self) -> str:
        return "a key"


def not_ok(runner: Fake, stack: str | None = "staging", root: Path = FIXTURE) -> list[Check]:
    return [check for check in examine(root, stack, runner) if check.state != "ok"]


def test_a_runner_that_has_everything_lacks_nothing() -> None:
    assert not_ok(Fake()) == not_ok(Fake(), None) == []


def test_what_is_missing_is_named_and_the_rest_is_looked_at_all_the_same() -> None:
    found = not_ok(Fake(without=["pulumi"], silent=["staging-machines-0"]))
    assert [(check.name, check.state) for check in found] == [
        ("pulumi", "missing"),
        ("ssh staging-machines-0", "missing"),
    ]
    assert "install it" in found[0].detail
    assert "publickey" in found[1].detail


def test_without_a_sign_in_the_rest_of_azure_is_unknown() -> None:
    found = not_ok(Fake(signed_in=False))
    assert (found[0].name, found[0].state) == ("Azure sign-in", "missing")
    assert {check.state for check in found[1:]} == {"unknown"}


def test_a_subscription_that_cannot_be_read_and_a_host_that_is_off_are_named() -> None:
    runner = Fake()
    off = Unplanned(
        id=MACHINE, name="m-0", fleet="machines", source="vm", os="Linux", reason="is deallocated: start it"
    )
    runner.listed = runner.listed.model_copy(update={"partial": ("sub-2: no access",), "problems": (off,)})
    assert [check.detail for check in not_ok(runner)] == ["sub-2: no access", "m-0 is deallocated: start it"]


@pytest.mark.parametrize(
    ("seconds", "state"), [(0, "ok"), (10, "ok"), (-11, "ok"), (12, "missing"), (-3600, "missing")]
)
def test_a_clock_that_is_off_by_more_than_is_allowed_is_found(seconds: int, state: str) -> None:
    checked = clock_check(lambda: timedelta(seconds=seconds), timedelta(seconds=10))
    assert checked.state == state
    assert checked.detail.startswith(f"{abs(seconds)} s ")
    assert ("time server" in checked.detail) == (state == "missing")


@pytest.mark.parametrize("broken", ["Pulumi.dev.yaml", "policy/standard.yaml"])
def test_a_file_that_does_not_parse_is_named(tmp_path: Path, broken: str) -> None:
    (copy_desk(tmp_path) / broken).write_text("config: {}\n", encoding="utf-8")
    assert [check.name for check in not_ok(Fake(), None, tmp_path)] == [broken]


@pytest.mark.parametrize(
    ("roles", "allowed"),
    [
        ([("*",)], True),
        ([("Microsoft.Compute/*",)], True),
        ([("microsoft.compute/virtualmachines/START/action",)], True),
        ([("*/read",)], False),
        ([], False),
        ([("Microsoft.Compute/virtualMachines/start",)], False),
    ],
)
def test_roles_give_what_their_wildcards_name(roles: list[tuple[str, ...]], allowed: bool) -> None:
    given = [Permission(actions=actions) for actions in roles]
    assert may("Microsoft.Compute/virtualMachines/start/action", given) == allowed


def test_what_one_role_leaves_out_another_may_give() -> None:
    without = Permission(actions=("*",), notActions=("Microsoft.Compute/*",))
    assert not may("Microsoft.Compute/disks/write", [without])
    assert may("Microsoft.Compute/disks/write", [without, Permission(actions=("Microsoft.Compute/disks/*",))])


def test_a_wave_needs_what_its_fleets_and_services_do() -> None:
    wanted = needs(settings("staging"), hosts())  # repairs on slots, disk snapshots on machines
    assert [(need.scope, need.exact) for need in wanted] == [
        (SCALE_SET, True),
        (MACHINE, True),
        (MACHINE.split("/providers/")[0], False),
    ]
    assert needs(settings("dev"), ()) == []


def test_only_where_no_narrower_scope_may_have_it_a_right_is_called_missing() -> None:
    wanted = needs(settings("staging"), hosts())

    def readers(scope: str) -> Sequence[Permission]:
        if scope == SCALE_SET:
            raise Failed("GET: AuthorizationFailed")
        return (Permission(actions=("*/read",)),)

    assert [check.state for check in right_checks(wanted, readers)] == ["unknown", "missing", "unknown"]


def test_the_signing_key_is_there_and_listed_for_the_runner(tmp_path: Path) -> None:
    keys = make_keys(tmp_path, IDENTITY, "somebody")
    environ = {"PATCHWAVE_ALLOWED_SIGNERS": str(keys / "signers")}
    assert IDENTITY in ThisRunner(tmp_path, {**environ, KEY: str(keys / IDENTITY)}).signs()
    with pytest.raises(Failed, match="which signers does not list for runner"):
        ThisRunner(tmp_path, {**environ, KEY: str(keys / "somebody")}).signs()
    with pytest.raises(UsageError, match="names no file"):
        ThisRunner(tmp_path, environ).signs()


@pytest.mark.parametrize(("config", "asks"), [("Host a\n  HostName 192.0.2.7\n", ""), ("", "HostName=10.0.0.1")])
def test_ssh_goes_where_its_configuration_says_else_to_azures_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, asks: str
) -> None:
    ssh = tmp_path / "ssh"
    real = shutil.which("ssh")
    ssh.write_text(
        f'#!/bin/sh\ncase "$*" in *-G*) exec {real} "$@";; esac\necho "$*" >&2; exit 255\n', encoding="utf-8"
    )
    ssh.chmod(0o755)
    (tmp_path / "config").write_text(config, encoding="utf-8")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    runner = ThisRunner(tmp_path, {"PATCHWAVE_SSH_CONFIG": str(tmp_path / "config")})
    with pytest.raises(Failed, match=r"BatchMode=yes.* -- a true: `ssh a true` must work without a password") as error:
        runner.reach(host("a"))
    assert ("HostName=" in str(error.value)) == bool(asks)
    assert asks in str(error.value)
