"""What a runner needs to carry out waves, looked at on the spot: each finding on one line with its fix."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import typer
from pydantic import BaseModel, TypeAdapter, ValidationError

from patchwave.azure.client import DEFAULT_ENDPOINT, Arm
from patchwave.azure.disks import group_of
from patchwave.azure.inventory import Host, Inventory, discover
from patchwave.azure.repairs import scale_sets
from patchwave.base.errors import Failed, PatchwaveError, UsageError
from patchwave.base.model import Model
from patchwave.base.text import one_line
from patchwave.cli.shared import AnyStack, Json, emit, out, project
from patchwave.config.settings import Settings, load_stack
from patchwave.config.settings.slots import SlotHosts
from patchwave.config.standard import StackName, load_standard
from patchwave.evidence import signing
from patchwave.evidence.chain import IDENTITY, NAMESPACE

app = typer.Typer()

KEY = "PATCHWAVE_SIGNING_KEY"
TOOLS = {
    "pulumi": "install it: https://www.pulumi.com/docs/install/",
    "ansible": "install this project with its requirements",
    "ssh": "install the openssh client",
    "ssh-keygen": "install the openssh client",
    "git": "install git",
}
CLOCK_SKEW = timedelta(seconds=10)
AT_ONCE, CONNECT, PATIENCE = 32, 10, 40
PERMISSIONS = "2022-04-01"
COMPUTE = "Microsoft.Compute"
ROLLBACK = {
    "restore_point": f"{COMPUTE}/restorePointCollections/restorePoints/write",
    "disk_snapshot": f"{COMPUTE}/snapshots/write",
}
MACHINE = tuple(f"{COMPUTE}/virtualMachines/{act}" for act in ("write", "deallocate/action", "start/action"))
REPAIRS = f"{COMPUTE}/virtualMachineScaleSets/setOrchestrationServiceState/action"
POOLS = "Microsoft.Network/loadBalancers/backendAddressPools/write"


class Check(Model):
    """One thing that was looked at; `detail` names the fix unless it is ok."""

    name: str
    state: Literal["ok", "missing", "unknown"]
    detail: str


class Permission(BaseModel):
    """What one role gives at a scope, with the wildcards of Azure's roles."""

    actions: tuple[str, ...] = ()
    notActions: tuple[str, ...] = ()  # noqa: N815 - Azure's name


class Need(NamedTuple):
    """Actions that a wave takes at a scope; `exact` where no narrower scope could have been given them."""

    scope: str
    actions: tuple[str, ...]
    why: str
    exact: bool


class Runner(Protocol):
    """The world as this machine sees it; each call raises a PatchwaveError that names the fix."""

    def found(self, tool: str) -> str | None:
        """Where a tool is."""
        ...

    def sign_in(self) -> str:
        """Gets a token of Azure; where it is for."""
        ...

    def skew(self) -> timedelta:
        """How far this clock is ahead of Azure's."""
        ...

    def inventory(self, stack: StackName, settings: Settings) -> Inventory:
        """The stack's hosts."""
        ...

    def permissions(self, scope: str) -> Sequence[Permission]:
        """What the identity may do at a scope."""
        ...

    def reach(self, host: Host) -> None:
        """Runs `true` on a host."""
        ...

    def signs(self) -> str:
        """Signs as the runner and verifies it by the list of signers; which key it was."""
        ...


def examine(root: Path, stack: StackName | None, runner: Runner) -> Iterator[Check]:
    """What does not depend on a stack, and with one what its waves need: rights, inventory, ssh to each host."""
    yield from (_tool(name, runner.found(name)) for name in TOOLS)
    stacks, checks = _files(root, stack)
    yield from checks
    yield _tried("signing key", runner.signs)
    sign_in = _tried("Azure sign-in", runner.sign_in)
    yield sign_in
    skews = (settings.preflight.clock_skew for settings in stacks.values())
    yield clock_check(runner.skew, min(skews, default=CLOCK_SKEW))
    if stack not in stacks or stack is None:
        return
    if sign_in.state != "ok":
        for name in ("inventory", "rights", "ssh"):
            yield Check(name=name, state="unknown", detail="not looked at: sign in to Azure first")
        return
    try:
        inventory = runner.inventory(stack, stacks[stack])
    except PatchwaveError as error:
        yield Check(name="inventory", state="missing", detail=str(error))
        return
    yield from inventory_checks(inventory)
    yield from right_checks(needs(stacks[stack], inventory.hosts), runner.permissions)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        reached = pool.map(lambda host: _tried(f"ssh {host.name}", partial(_reached, runner, host)), inventory.hosts)
        yield from ssh_checks(list(reached))


def _tool(name: str, path: str | None) -> Check:
    return Check(name=name, state="ok" if path else "missing", detail=path or f"not found: {TOOLS[name]}")


def _files(root: Path, stack: StackName | None) -> tuple[dict[StackName, Settings], list[Check]]:
    """The settings that parse, and whether each file does."""
    try:
        standard = load_standard(root)
    except PatchwaveError as error:
        return {}, [Check(name="policy/standard.yaml", state="missing", detail=str(error))]
    checks = [Check(name="policy/standard.yaml", state="ok", detail="parses")]
    stacks: dict[StackName, Settings] = {}
    for name in [stack] if stack else standard.stacks:
        try:
            stacks[name] = load_stack(root, name).settings
            checks.append(Check(name=f"Pulumi.{name}.yaml", state="ok", detail="parses"))
        except PatchwaveError as error:
            checks.append(Check(name=f"Pulumi.{name}.yaml", state="missing", detail=str(error)))
    return stacks, checks


def _tried(name: str, work: Callable[[], str]) -> Check:
    try:
        return Check(name=name, state="ok", detail=work())
    except PatchwaveError as error:
        return Check(name=name, state="missing", detail=str(error))


def _reached(runner: Runner, host: Host) -> str:
    runner.reach(host)
    return "answers"


def clock_check(skew: Callable[[], timedelta], allowed: timedelta) -> Check:
    """Whether this clock and Azure's agree; the Date header counts whole seconds."""
    try:
        seconds = skew().total_seconds()
    except PatchwaveError as error:
        return Check(name="clock", state="unknown", detail=str(error))
    drift = f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} Azure's"
    if abs(seconds) <= allowed.total_seconds() + 1:
        return Check(name="clock", state="ok", detail=drift)
    fix = f"{drift}, {allowed.total_seconds():.0f} s are allowed: let it follow a time server"
    return Check(name="clock", state="missing", detail=fix)


def inventory_checks(inventory: Inventory) -> Iterator[Check]:
    """Whether Resource Graph shows every host that the fleets declare, in subscriptions that can be read."""
    for line in inventory.lacks:
        yield Check(name="inventory", state="missing", detail=line)
    if not inventory.lacks:
        yield Check(name="inventory", state="ok", detail=f"Resource Graph lists all {len(inventory.hosts)} hosts")


def needs(settings: Settings, hosts: Sequence[Host]) -> list[Need]:
    """What waves of these fleets and services do in Azure beyond reading: repairs, rollbacks, balancers."""
    found: dict[Need, None] = {}
    for name, fleet in settings.fleets.items():
        ids = [host.id for host in hosts if host.fleet == name]
        if isinstance(fleet.hosts, SlotHosts) and fleet.hosts.repairs:
            for one in scale_sets(ids):
                found[Need(one, (REPAIRS,), f"fleet {name} suspends automatic repairs", True)] = None
        if fleet.rollback != "downgrade":
            why = f"fleet {name} goes back by {fleet.rollback}"
            for one in ids:
                found[Need(one, MACHINE, why, True)] = None
            for group in sorted({group_of(one) for one in ids}):
                found[Need(group, (f"{COMPUTE}/disks/write", ROLLBACK[fleet.rollback]), why, False)] = None
        traffic = settings.services[fleet.service].traffic
        if traffic.driver == "balancer":
            why, pools = f"service {fleet.service} drains by its balancer", traffic.pools
            for pool in pools:
                found[Need(pool.lower().split("/backendaddresspools/")[0], (POOLS,), why, True)] = None
            for group in () if pools else sorted({group_of(one) for one in ids}):
                found[Need(group, (POOLS,), why, False)] = None
    return list(found)


def right_checks(wanted: Iterable[Need], permissions: Callable[[str], Sequence[Permission]]) -> Iterator[Check]:
    """Whether the identity has each right; unknown where only a narrower scope may have given it."""
    known: dict[str, Sequence[Permission] | str] = {}
    for need in wanted:
        if need.scope not in known:
            try:
                known[need.scope] = permissions(need.scope)
            except PatchwaveError as error:
                known[need.scope] = str(error)
        given = known[need.scope]
        state: Literal["ok", "missing", "unknown"] = "ok"
        detail = f"may on {need.scope}"
        if isinstance(given, str):
            state, detail = "unknown", f"Azure does not show whether it may: {given}"
        elif lacking := [action for action in need.actions if not may(action, given)]:
            state, where = ("missing", "there") if need.exact else ("unknown", "there, unless it has one below")
            detail = f"lacks {', '.join(lacking)} on {need.scope}: give the runner a role with it {where}"
        yield Check(name="rights", state=state, detail=f"{need.why}: {detail}")


def may(action: str, permissions: Iterable[Permission]) -> bool:
    """Whether a role gives an action: one that is named by `actions` and not by `notActions` of the same role.

    https://learn.microsoft.com/azure/role-based-access-control/role-definitions
    """

    def named(masks: Iterable[str]) -> bool:
        return any(fnmatchcase(action.lower(), mask.lower()) for mask in masks)

    return any(named(one.actions) and not named(one.notActions) for one in permissions)


def ssh_checks(reached: Sequence[Check]) -> Iterator[Check]:
    """One line for all hosts that answer, and one for each that does not."""
    silent = [check for check in reached if check.state != "ok"]
    if len(silent) < len(reached):
        yield Check(name="ssh", state="ok", detail=f"{len(reached) - len(silent)} of {len(reached)} hosts answer")
    yield from silent


class ThisRunner:
    """The real one: the environment's identity, ssh configuration and signing key."""

    def __init__(self, root: Path, environ: Mapping[str, str] = os.environ) -> None:
        self.root, self.environ = root, environ

    def found(self, tool: str) -> str | None:
        """On PATH; Ansible is run as a module of this Python."""
        return (sys.executable if find_spec(tool) else None) if tool == "ansible" else shutil.which(tool)

    def sign_in(self) -> str:
        """As every call signs in."""
        with Arm(self.environ) as arm:
            arm.sign_in()
            return f"subscription {arm.subscription} at {arm.endpoint}"

    def skew(self) -> timedelta:
        """By the Date header of an answer, which needs no sign-in."""
        import httpx

        endpoint = self.environ.get("ARM_ENDPOINT", DEFAULT_ENDPOINT)
        try:
            answer = httpx.head(endpoint, timeout=CONNECT)
            return datetime.now(UTC) - parsedate_to_datetime(answer.headers["Date"])
        except (httpx.HTTPError, KeyError, ValueError) as error:
            raise Failed(f"{endpoint} does not give its time ({error}): is it reachable from here?") from None

    def inventory(self, stack: StackName, settings: Settings) -> Inventory:
        """The one query that all commands use."""
        return discover(stack, settings, self.environ)

    def permissions(self, scope: str) -> Sequence[Permission]:
        """https://learn.microsoft.com/rest/api/authorization/permissions."""
        with Arm(self.environ) as arm:
            rows: list[Any] = list(arm.pages(f"{scope}/providers/Microsoft.Authorization/permissions", api=PERMISSIONS))
        try:
            return TypeAdapter(tuple[Permission, ...]).validate_python(rows)
        except ValidationError:
            raise Failed(f"{scope}: its permissions are in no form that is known") from None

    def reach(self, host: Host) -> None:
        """By the ssh configuration, at Azure's address where that gives none; never with a password prompt."""
        config = self.environ.get("PATCHWAVE_SSH_CONFIG")
        ssh = ["ssh", *(["-F", config] if config else [])]
        known = _run([*ssh, "-G", "--", host.name], host.name).splitlines()
        address = ["-o", f"HostName={host.address}"] if f"hostname {host.name}" in known else []
        options = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT}", *address]
        _run([*ssh, *options, "--", host.name, "true"], host.name)

    def signs(self) -> str:
        """With the key and for the identity of evidence."""
        key, signers = self.environ.get(KEY), signing.allowed_signers(self.root, self.environ)
        if key is None or not Path(key).is_file():
            raise UsageError(f"{KEY} names no file: evidence would stay unsigned, name the runner's key")
        message = b"patchwave doctor"
        signature = signing.sign(message, Path(key), NAMESPACE)
        if problem := signing.objection(message, signature, NAMESPACE, identity=IDENTITY, signers=signers):
            raise Failed(f"{key}: its signatures would not verify, {problem}")
        return f"{key}, listed for {IDENTITY}"


def _run(command: Sequence[str], host: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except FileNotFoundError:
        raise UsageError("ssh is not on PATH: install the openssh client") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"no answer in {PATIENCE} s: look at the network and the ssh configuration for {host}") from None
    if done.returncode:
        why = one_line(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}")
        raise Failed(f"{why}: `ssh {host} true` must work without a password, see the ssh configuration")
    return done.stdout


@app.command()
def doctor(stack: AnyStack = None, as_json: Json = False) -> None:
    """Whether this runner can carry out waves: tools, files, key, sign-in, clock; with a stack rights and hosts."""
    checks = list(examine(project(), stack, ThisRunner(project())))
    missing = [check for check in checks if check.state == "missing"]
    if as_json:
        emit({"ok": not missing, "stack": stack, "checks": [check.model_dump() for check in checks]})
    else:
        marks = {"ok": "ok  ", "missing": "MISS", "unknown": "?   "}
        for check in checks:
            out.print(f"{marks[check.state]}  {check.name:<20} {check.detail}", markup=False)
    if missing:
        raise Failed(f"{len(missing)} of {len(checks)} checks failed, first {missing[0].name}: {missing[0].detail}")
