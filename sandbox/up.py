"""`make up`: whatever is missing is made, what is pending is sealed, and the real engine carries it out."""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from patchwave.authorization.inputs import from_files
from patchwave.authorization.messages import require_promotion
from patchwave.authorization.promotion import folder
from patchwave.base import clock
from patchwave.base.errors import Failed, PatchwaveError, Refused, UsageError
from patchwave.config.settings import load_stack
from patchwave.config.standard import ApprovalKind, StackName, load_standard
from patchwave.evidence import chain as evidence
from patchwave.releases import release
from sandbox import acceptance, console, daemon, doctor, environment, estate, images
from sandbox.config import Sandbox
from sandbox.lab import base, mirror, network, repository
from sandbox.lab.engine import Engine, engine, find
from sandbox.lab.hosts import Hosts
from sandbox.sample import package
from sandbox.sample.package import Fault
from sandbox.stack import Stack, answer_of

_LEAD = timedelta(seconds=5)
_EARLIER = timedelta(hours=1)
_OPENINGS = 8
_REFUSED = re.compile(r"^refused by policy|\bpatching is refused at\b|^wave \S+ refused:")


def up(sandbox: Sandbox, name: StackName, *, at: datetime | None = None, fault: Fault | None = None) -> None:
    """The stack's fleet is declared and what is pending on it is patched; a second call finds nothing to do."""
    load_stack(sandbox.project, name)
    made = set_up(sandbox)
    stack = Stack(sandbox, made.path, name)
    stack.recover()
    if fault:
        with console.step("fault") as report:
            published = repository.publish_next(sandbox, fault=fault)
            report(f"published {published.stem.replace('_', ' ').removesuffix(' all')} with fault {fault}")
    source = load_standard(sandbox.project).stacks[name].promoted_from
    cut_off = _cut_off(stack) if stack.declared else None
    moment = at or (_later(stack, cut_off) if cut_off else _opening(stack, source))
    if source and not cut_off:
        _promote(stack, source, moment)
        _require_approvals(stack, moment, at)
    _declare(sandbox, stack)
    if cut_off:
        console.line("release", f"{load_stack(sandbox.project, name).release}  goes on where it was cut off")
    elif not source:
        _seal(stack)
    why = "as given" if at else "where it was cut off" if cut_off else f"when {name}'s window opens"
    console.line("clock", f"rehearsed at {moment:%a %Y-%m-%d %H:%M} UTC, {why}")
    _carry_out(stack, moment)


def fleet(sandbox: Sandbox, name: StackName) -> None:
    """The stack's hosts run and nothing on them is patched."""
    load_stack(sandbox.project, name)
    _declare(sandbox, Stack(sandbox, set_up(sandbox).path, name))


def preview(sandbox: Sandbox, name: StackName) -> None:
    """`pulumi preview` of the stack with the policy pack; nothing is declared and no host is made."""
    load_stack(sandbox.project, name)
    made = set_up(sandbox)
    stack = Stack(sandbox, made.path, name)
    stack.prepare()
    if not stack.preview():
        raise _stopped(stack.problem(), f"preview of {name} failed")


def set_up(sandbox: Sandbox) -> Engine:
    """Engine, base, network, services and plugins stand; what stands already is only looked at."""
    doctor.examine(sandbox)
    for place in (sandbox.log, sandbox.run, sandbox.hosts, sandbox.home, sandbox.state):
        place.mkdir(exist_ok=True)
    with console.step("engine") as report:
        made = engine(lambda text: console.working("engine", text))
        report.quick = made.cached
        report(f"pulumi {made.version}, {made.origin}")
    with console.step("base") as report:
        if not base.is_cached(sandbox):
            doctor.reachable(mirror.mirror())
        progress = lambda text: console.working("base", text)  # noqa: E731
        bottom = base.base(sandbox, progress)
        prepared = images.prepare(sandbox, progress)
        report.quick = bottom.cached
        report(f"{bottom.suite}, {bottom.packages} packages")
    with console.step("azure") as report:
        standing = daemon.ready(sandbox)
        environment.make_keys(sandbox)
        network.up(sandbox)
        repository.publish(sandbox, package.FIRST)
        repository.serve(sandbox)
        mirror.serve(sandbox)
        daemon.serve(sandbox)
        daemon.provide(sandbox, prepared)
        origins = _plugins(sandbox, made)
        environment.write(sandbox, made.path)
        report.quick = standing
        report(f"emulator at {sandbox.endpoint}, command plugin: {origins['command']}")
    return made


def _plugins(sandbox: Sandbox, made: Engine) -> dict[str, str]:
    from sandbox.azure.plugins.install import install_plugins

    return install_plugins(sandbox, made.path, official=not made.built)


def _opening(stack: Stack, source: StackName | None) -> datetime:
    """When the stack's window opens next; with a release to promote, the first opening after its soak."""
    project = stack.sandbox.project
    now = datetime.now(UTC)
    settings = load_stack(project, stack.name).settings
    calendar = load_standard(project).calendar(stack.name, settings.calendar)
    openings = [one.opens + _LEAD for one in calendar.next(now, _OPENINGS)]
    if not openings:
        raise Refused(f"{stack.name}: no window opens from here on: look at the calendar in Pulumi.{stack.name}.yaml")
    if source is None:
        return openings[0]
    named = load_stack(project, source).release
    if named is None:
        raise Refused(
            f"{stack.name} takes its releases from {source}, which has none: run `make up STACK={source}` first"
        )
    chosen = release.load(project, named)
    for opening in openings:
        inputs = from_files(project, stack.name, chosen, at=opening, environ=stack.environment)
        try:
            require_promotion(inputs)
            return opening
        except Refused as error:
            refusal = error
    raise refusal


def _promote(stack: Stack, source: StackName, opening: datetime) -> None:
    with console.step("release") as report:
        done = stack.patchwave("promote", source, stack.name, "--json", moved=_moved(opening))
        answer = answer_of(done.stdout, done.stderr, done.returncode)
        soak = answer.get("soak") or {}
        soaked = f", soak of {console.span(soak['required_seconds'])} shortened to {console.span(soak['real_seconds'])}"
        report(
            f"{answer['release']}  digest {answer['digest'][:12]}, promoted from {source}"
            + (soaked if soak.get("shortened") else "")
        )
        report.quick = True


def _require_approvals(stack: Stack, moment: datetime, at: datetime | None) -> None:
    """Stops before any host is made when people have not approved; the sandbox never signs by itself."""
    answer = _approvals(stack, moment)
    if answer["complete"]:
        return
    lacking = next(one for one in reversed(answer["lists"]) if not one["complete"])
    missing = [role["role"] for role in lacking["roles"] if role["person"] is None]
    command = f".venv/bin/python -m sandbox approve --name {stack.sandbox.name} --stack {stack.name}"
    command += "" if lacking["kind"] == "normal" else f" --kind {lacking['kind']}"
    command += f" --at {clock.iso(at)}" if at else ""
    raise Refused(
        f"{stack.name}: {lacking['kind']} approval of release {answer['release']} is missing from "
        f"{', '.join(missing)}: `{command}` signs as the rehearsal's people, then run this again"
    )


def approve(sandbox: Sandbox, name: StackName, *, role: str | None, kind: ApprovalKind, at: datetime | None) -> None:
    """Signs what is missing for the stack's release as the rehearsal's people, an hour before it is rehearsed."""
    stack = Stack(sandbox, find() or Path("pulumi"), name)
    moment = at or _opening(stack, load_standard(sandbox.project).stacks[name].promoted_from)
    lists = [one for one in _approvals(stack, moment)["lists"] if one["kind"] == kind]
    missing = [one["role"] for needed in lists for one in needed["roles"] if one["person"] is None]
    for wanted in missing if role is None else [role]:
        person = _holder(sandbox, wanted)
        done = stack.patchwave(
            "approve",
            *("--stack", name, "--role", wanted, "--as", person, "--key", str(environment.person_key(sandbox, person))),
            *([] if kind == "normal" else [f"--{kind}"]),
            *("--note", "signed by the sandbox for a rehearsal", "--json"),
            moved=_moved(moment - _EARLIER),
        )
        answer = answer_of(done.stdout, done.stderr, done.returncode)
        console.line("approval", f"{answer['file']}  {person} as {wanted}, until {answer['expires']}")
    if not missing and role is None:
        console.line("approval", f"{name} lacks no {kind} approval")


def _holder(sandbox: Sandbox, role: str) -> str:
    roles = load_standard(sandbox.project).roles
    if role not in roles:
        raise UsageError(f"role {role!r}: the standard has {', '.join(roles)}")
    return roles[role][0]


def _approvals(stack: Stack, moment: datetime) -> dict[str, Any]:
    done = stack.patchwave("approvals", "--stack", stack.name, "--json", moved=_moved(moment))
    return answer_of(done.stdout, done.stderr, done.returncode)


def _declare(sandbox: Sandbox, stack: Stack) -> None:
    """The fleet is there: the first time by an `up` without a release, which boots the hosts."""
    with console.step("hosts") as report:
        hosts = Hosts(sandbox)
        stack.prepare()
        known = stack.declared
        console.working("hosts", "booting the hosts that exist already")
        estate.seed(sandbox, stack.name, load_stack(sandbox.project, stack.name).settings)
        if not known:
            console.working("hosts", f"declaring {stack.name} and booting its hosts")
            if not stack.up(wave=False):
                raise Failed(f"{stack.name} was not declared: {stack.problem()} (all: {stack.log})")
        report.quick = known
        report(" ".join(hosts.names()))


def _cut_off(stack: Stack) -> datetime | None:
    """When the last wave of the stack's release wrote its last record, if it has not ended: it goes on first."""
    named = load_stack(stack.sandbox.project, stack.name).release
    place = folder(stack.sandbox.project, stack.name, named or "-")
    if named is None or not (place / evidence.FILE).exists():
        return None
    records = evidence.read(place)
    if not records or evidence.summary(records)["outcome"] is not None:
        return None
    return datetime.fromisoformat(records[-1].at)


def _later(stack: Stack, before: datetime) -> datetime:
    """Right after an instant if the window is still open then, else when it opens next."""
    project = stack.sandbox.project
    calendar = load_standard(project).calendar(stack.name, load_stack(project, stack.name).settings.calendar)
    after = before + _LEAD
    return after if calendar.at(after).open else calendar.next(after)[0].opens + _LEAD


def _seal(stack: Stack) -> None:
    with console.step("release") as report:
        console.working("release", "looking on the hosts for what is pending")
        done = stack.patchwave("seal", "--stack", stack.name, "--json")
        answer = answer_of(done.stdout, done.stderr, done.returncode)
        left = ", ".join(f"{one['name']} {one['to']} left out: {one['reason']}" for one in answer["left_out"])
        if answer["release"] is None:
            report(left or "nothing is pending")
        else:
            how = "sealed from what is pending" if answer["new"] else "sealed already"
            digest = f"digest {answer['digest'][:8]}…"
            report(f"{answer['release']}  {answer['packages']} packages, {answer['cves']} CVEs, {digest}  ({how})")


def _carry_out(stack: Stack, opening: datetime) -> None:
    """The real `pulumi up`, and its evidence afterwards."""
    project = stack.sandbox.project
    from policy.judge import CHECKS  # the pack takes a while to load, and no other command needs it

    console.line("policy", f"{len(CHECKS)} checks")
    before = _latest(stack)
    done = stack.up(moved=_moved(opening))
    after = _latest(stack)
    if after and after != before:
        console.line("wave", next(_summary(stack.log), "") or _outcome(after))
        verdict = stack.patchwave("evidence", "verify", "--stack", stack.name, "--json")
        answer = answer_of(verdict.stdout, verdict.stderr, 0) if verdict.stdout else {"verified": False, "records": 0}
        place = folder(project, stack.name, str(load_stack(project, stack.name).release))
        word = "verified" if answer["verified"] else "NOT verified" if after["outcome"] else "unfinished"
        console.line("evidence", f"{place.relative_to(project)}/  {word}, {answer['records']} records, wave.html")
    elif done:
        console.line("wave", "nothing to do: no host is touched")
    if not done:
        raise _stopped(stack.problem().removeprefix(f"{stack.name}: "), stack.name)
    if after and after["outcome"] == "succeeded":
        _prove(stack, datetime.fromisoformat(after["ended"]) + _LEAD)
    for follower, rules in load_standard(project).stacks.items():
        if rules.promoted_from == stack.name:
            console.line("next", f"make up STACK={follower}     (promotes this release)")


def _stopped(why: str, what: str) -> PatchwaveError:
    """Why a run of the engine did not succeed: it was refused, or it failed."""
    return (Refused if _REFUSED.search(why) else Failed)(f"{what}: {why}")


def _prove(stack: Stack, moment: datetime) -> None:
    """The lab's suites are run and their results attached, where the standard has such criteria."""
    moved = _moved(moment)  # one clock for all of them: each result is dated after the one before
    for criterion in acceptance.missing(stack, moved):
        with console.step("proof") as report:
            console.working("proof", criterion)
            report(acceptance.attach(stack, criterion, moved))


def _latest(stack: Stack) -> dict[str, Any] | None:
    """What the evidence of the stack's release shows now."""
    if load_stack(stack.sandbox.project, stack.name).release is None:
        return None
    shown = stack.patchwave("evidence", "show", "--stack", stack.name, "--json")
    return answer_of(shown.stdout, shown.stderr, 0) or None


def _summary(log: Path) -> Iterator[str]:
    """The wave's own summary in the engine's output."""
    yield from re.findall(r"\bwave {6}(\S.*)", log.read_text("utf-8", "replace"))[-1:]


def _outcome(shown: dict[str, Any]) -> str:
    states = Counter(host["state"] for host in shown["hosts"])
    return " · ".join(
        [shown["outcome"] or "unfinished", *(f"{state} {count}" for state, count in sorted(states.items()))]
    )


def _moved(opening: datetime) -> int:
    return round((opening - datetime.now(UTC)).total_seconds())
