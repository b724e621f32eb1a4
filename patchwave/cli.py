"""The command line: each command prints one object with `--json`, and ends with 0, 1, 2 or 3."""

import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from patchwave.admission import approvals, criteria, permission
from patchwave.admission import emergency as emergencies
from patchwave.admission.emergency import Facts
from patchwave.admission.replay import replay
from patchwave.decisions.settings import STACKS, load_stack
from patchwave.decisions.stackfile import set_release, set_waivers
from patchwave.decisions.standard import ApprovalKind, Severity, StackName, load_standard
from patchwave.doctor import examine
from patchwave.fleet.inventory import discover
from patchwave.foundation import clock
from patchwave.foundation.errors import Failed, Misuse, PatchwaveError, Refused
from patchwave.foundation.model import first_problem
from patchwave.planning import findings, plan, sealing
from patchwave.planning.sla import State
from patchwave.records import evidence, signing
from patchwave.releases import advisories, feeds, release, waivers
from patchwave.waves import report
from patchwave.waves.wave import STOP, Wave

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
evidence_app = typer.Typer(no_args_is_help=True, help="Verify or show the record of a wave.")
app.add_typer(evidence_app, name="evidence")
advisories_app = typer.Typer(
    no_args_is_help=True, help="What is known of vulnerabilities: scores, exploitation, notices."
)
app.add_typer(advisories_app, name="advisories")
emergency_app = typer.Typer(no_args_is_help=True, help="The emergency lane: open it, record its steps, close it.")
app.add_typer(emergency_app, name="emergency")

Stack = Annotated[str, typer.Option("--stack", "-s", help="dev, staging or prod")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object")]
As = Annotated[str | None, typer.Option("--as", help="who you are in allowed_signers; git's user.email otherwise")]
Key = Annotated[Path | None, typer.Option("--key", help="your SSH key; git's user.signingkey otherwise")]
EmergencyOption = Annotated[str | None, typer.Option("--id", help="an emergency; the only open one otherwise")]
ReleaseOption = Annotated[str | None, typer.Option("--release", help="a release id; the stack's own otherwise")]
# typer brings its own click: the common base of a wrong option, a wrong value and a missing command
CLICK_EXCEPTION: type[typer.BadParameter] = typer.BadParameter.__mro__[2]
out = Console(highlight=False, soft_wrap=True)


def project() -> Path:
    """The project folder: the nearest one upwards that holds Pulumi.yaml."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "Pulumi.yaml").exists():
            return folder
    raise Misuse(f"{here}: no Pulumi.yaml here or above: change into the project's folder")


def _stack(name: str) -> StackName:
    if name not in STACKS:
        raise Misuse(f"stack {name!r}: choose dev, staging or prod")
    return name


def _emit(data: Mapping[str, Any]) -> None:
    sys.stdout.write(
        json.dumps(data, ensure_ascii=False, default=lambda v: clock.iso(v) if isinstance(v, datetime) else str(v))
        + "\n"
    )


def _release_id(stack: StackName, named: str | None) -> str:
    found = named or load_stack(project(), stack).release
    if found is None:
        raise Misuse(f"Pulumi.{stack}.yaml names no patchwave:release: name one with --release")
    return found


def _signers() -> Path | None:
    return signing.allowed_signers(project())


@app.command()
def windows(
    stack: Stack,
    at: Annotated[str | None, typer.Option(help="an instant such as 2026-11-23T09:30:00Z")] = None,
    as_json: Json = False,
) -> None:
    """Whether the stack may be disrupted, why, until when, and the next three openings."""
    calendar = load_stack(project(), _stack(stack)).settings.calendar
    instant = _instant(at) if at else clock.now()
    verdict = calendar.at(instant)
    coming = calendar.next(instant, 3)
    if as_json:
        closes = verdict.closes and clock.iso(verdict.closes)
        _emit(
            {
                "stack": stack,
                "at": clock.iso(instant),
                "open": verdict.open,
                "reason": verdict.reason,
                "closes": closes,
                "next": [{"opens": clock.iso(o.opens), "closes": clock.iso(o.closes)} for o in coming],
            }
        )
        return
    out.print(f"{stack} at {instant:%a %Y-%m-%d %H:%M} UTC: {'open' if verdict.open else 'closed'}, {verdict.reason}")
    for opening in coming:
        out.print(f"  next  {opening.opens:%a %Y-%m-%d %H:%M} - {opening.closes:%a %H:%M} UTC")


def _instant(text: str, option: str = "--at") -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise Misuse(f"{option} {text!r}: write an ISO 8601 instant such as 2026-11-23T09:30:00Z") from None
    if instant.tzinfo is None:
        raise Misuse(f"{option} {text!r} has no zone: end it with Z or an offset")
    if not 2000 <= instant.year <= 2999:
        raise Misuse(f"{option} {text!r}: write a year from 2000 to 2999")
    return instant.astimezone(UTC)


@app.command()
def inventory(stack: Stack, as_json: Json = False) -> None:
    """The stack's hosts, from Azure."""
    found = discover(_stack(stack), load_stack(project(), stack).settings)
    if as_json:
        _emit(
            {
                "stack": stack,
                "at": clock.iso(clock.now()),
                "complete": found.complete,
                "hosts": [h.model_dump(mode="json") | {"power": found.power.get(h.name)} for h in found.hosts],
                "notes": list(found.notes),
            }
        )
        return
    _table(
        ["name", "address", "source", "fleet", "ring", "slot", "live", "power"],
        [
            [
                h.name,
                h.address,
                h.source,
                h.fleet,
                h.ring,
                h.slot or "",
                "live" if h.live else "",
                found.power.get(h.name, ""),
            ]
            for h in found.hosts
        ],
    )
    for note in found.notes:
        out.print(f"note: {note}")


@app.command()
def seal(stack: Stack, as_json: Json = False) -> None:
    """Seals the security updates that the stack's hosts are really offered, and names the release in the stack file."""
    root = project()
    if load_standard(root).stacks[_stack(stack)].promoted_from is not None:
        raise Refused(f"{stack}: releases are sealed in dev and promoted: run `patchwave promote`")
    counting = _resolved(root, _stack(stack))
    sealed, new, left_out = sealing.seal(root, _stack(stack), clock.now(), sealing.author(root), counting)
    _pin(root, _stack(stack), counting, sealed)
    if sealed is not None:
        set_release(root, _stack(stack), sealed.id)
    if as_json:
        left = [one.model_dump(mode="json") for one in left_out]
        _emit({"stack": stack, "new": new, "left_out": left, **_sealed_fields(sealed)})
        return
    for one in left_out:
        waits = f", until {one.until:%Y-%m-%d %H:%M} UTC" if one.until else ", until there is a newer version"
        out.print(f"left out  {one.name} {one.to}: {one.reason}{waits}")
    if sealed is None:
        out.print("nothing is left to seal" if left_out else "nothing is pending: no release to seal")
        return
    note = "sealed from what is pending" if new else "nothing new to seal"
    out.print(
        f"{sealed.id}  {len(sealed.packages)} packages, {len(sealed.cves)} CVEs, digest {sealed.digest[:12]}  ({note})"
    )


def _sealed_fields(sealed: release.Release | None) -> dict[str, Any]:
    if sealed is None:
        return {"release": None}
    counts = {"packages": len(sealed.packages), "cves": len(sealed.cves)}
    return {"release": sealed.id, "digest": sealed.digest, "author": sealed.author, **counts}


def _resolved(root: Path, stack: StackName) -> tuple[waivers.Waiver, ...]:
    """The waivers that count on a stack now."""
    found = waivers.load(root, load_standard(root))
    return waivers.resolve(found, stack, load_stack(root, stack).settings, clock.now())


def _pin(root: Path, stack: StackName, chosen: Sequence[waivers.Waiver], sealed: release.Release | None = None) -> None:
    """Names waivers in a stack file, if its release may rely on them."""
    named = load_stack(root, stack).release
    relying = sealed or (release.load(root, named) if named else None)
    ids = [waiver.id for waiver in chosen]
    waivers.require(root, stack, ids, relying, load_standard(root), clock.now())
    set_waivers(root, stack, ids)


@app.command(name="waivers")
def show_waivers(
    stack: Annotated[str | None, typer.Option("--stack", "-s", help="dev, staging or prod; all without it")] = None,
    pin: Annotated[bool, typer.Option("--pin", help="name those that count now in the stack file")] = False,
    trivy: Annotated[bool, typer.Option("--trivy", help="print the stack's .trivyignore.yaml")] = False,
    as_json: Json = False,
) -> None:
    """The waivers, whether each counts now, and until when."""
    root, now = project(), clock.now()
    if stack is None and (pin or trivy):
        raise Misuse(f"--{'pin' if pin else 'trivy'} needs --stack: dev, staging or prod")
    if stack is not None and pin:
        _pin(root, _stack(stack), _resolved(root, _stack(stack)))
    if stack is not None and trivy:
        file = load_stack(root, _stack(stack))
        named = release.load(root, file.release) if file.release else None
        counting = waivers.load(root, load_standard(root))
        fleets = list(file.settings.fleets)
        ignores = waivers.trivy_ignores(counting, named, stack=_stack(stack), fleets=fleets, now=now)
        sys.stdout.write(yaml.safe_dump(ignores, sort_keys=False, allow_unicode=True, width=1000))
        return
    found = [one for one in waivers.read(root, load_standard(root)) if stack is None or one.concerns(_stack(stack))]
    if as_json:
        pinned = None if stack is None else list(load_stack(root, stack).waivers)
        rows = [waivers.shown(one, now) for one in found]
        _emit({"stack": stack, "at": clock.iso(now), "pinned": pinned, "waivers": rows})
    else:
        _table(
            ["waiver", "state", "severity", "expires", "waives", "owner"],
            [_waiver_row(one, now) for one in found],
        )
    waivers.refuse_bad(found)


def _waiver_row(found: waivers.Found, now: datetime) -> list[str]:
    one = found.waiver
    if one is None or found.problem:
        return [found.id, "refused", "", "", found.problem or "", ""]
    until = f"{one.expires:%Y-%m-%d %H:%M} UTC"
    return [one.id, one.state(now), one.severity, until, waivers.described(one.scope), one.owner]


@app.command()
def promote(source: str, target: str, as_json: Json = False) -> None:
    """Names the release that SOURCE has proved in TARGET's stack file, if the gates allow it."""
    root = project()
    standard = load_standard(root)
    if standard.stacks[_stack(target)].promoted_from != _stack(source):
        raise Refused(
            f"{target} takes releases from {standard.stacks[_stack(target)].promoted_from}, not from {source}"
        )
    chosen = release.load(root, _release_id(_stack(source), None))
    soak = permission.promotion(_inputs(_stack(target), chosen))
    assert soak is not None
    _pin(root, _stack(target), _resolved(root, _stack(target)), chosen)
    set_release(root, _stack(target), chosen.id)
    if as_json:
        _emit({"stack": target, "release": chosen.id, "digest": chosen.digest, "soak": soak.model_dump()})
        return
    short = f", shortened to {soak.real_seconds} s in this rehearsal" if soak.shortened else ""
    soaked = f"soaked {soak.elapsed_seconds / 3600:.1f} h{short}"
    out.print(f"{chosen.id}  digest {chosen.digest[:12]}  {source} -> {target}, {soaked}")


@app.command(name="plan")
def show_plan(stack: Stack, as_json: Json = False) -> None:
    """Hosts, packages, batches, start times and reboots of the stack's next wave, and what misses its SLA."""
    made = plan.make(project(), _stack(stack), clock.now())
    if as_json:
        _emit(made)
        return
    fits = "fits its window" if made["fits"] else "DOES NOT FIT its window"
    out.print(f"{stack}  release {made['release']}  {made['starts']} - {made['ends']}  {fits}")
    _table(
        ["host", "ring", "batch", "starts", "packages", "reboot"],
        [
            [
                h["name"],
                h["ring"],
                str(h["batch"] or "-"),
                h["starts"] or "-",
                str(len(h["packages"])),
                "yes" if h["reboot"] else "no",
            ]
            for h in made["hosts"]
        ],
    )
    for note in made["notes"]:
        out.print(f"note: {note}")
    for miss in made["missed"]:
        out.print(miss["says"])


@app.command()
def sla(stack: Stack, as_json: Json = False) -> None:
    """Each fix on each host: since when it is published, when it is due, and whether it is there."""
    at = clock.now()
    found = findings.of_stack(project(), _stack(stack), at)
    if as_json:
        _emit({"stack": stack, "at": clock.iso(at), "items": [item.plain() for item in found]})
        return
    counts = Counter((item.severity, item.state) for item in found)
    _table(
        ["severity", *get_args(State)],
        [[level, *(str(counts[level, state]) for state in get_args(State))] for level in get_args(Severity)],
    )
    for item in sorted((item for item in found if item.overdue), key=lambda item: item.overdue or timedelta(0))[-10:]:
        late = clock.hours(item.overdue or timedelta(0))
        out.print(f"{item.host}  {item.package}  {item.advisory}  {item.severity}  {item.state}, {late} overdue")


@advisories_app.command(name="import")
def import_advisories(files: Annotated[list[Path], typer.Argument()], as_json: Json = False) -> None:
    """Brings OSV records and CISA's catalogue of exploited vulnerabilities into the store: files, folders or zips."""
    root = project()
    wanted = feeds.concerning(release.every(root))
    done = feeds.import_files(root, files, wanted)
    exploited = done.store.exploited
    if as_json:
        _emit(
            {
                "records": done.records,
                "kept": done.kept,
                "scores": len(done.store.vulnerabilities),
                "notices": len(done.store.notices),
                "exploited": len(exploited.since) if exploited else 0,
                "digest": done.store.digest,
            }
        )
        return
    out.print(f"{done.records} records read, {done.kept} concern the {len(wanted.sources)} source packages of releases")
    out.print(
        f"{advisories.FILE}  {len(done.store.vulnerabilities)} scores, {len(done.store.notices)} notices, "
        f"{len(exploited.since) if exploited else 0} known to be exploited, digest {done.store.digest[:12]}"
    )


def _inputs(stack: StackName, chosen: release.Release, at: datetime | None = None) -> permission.Inputs:
    """What a decision about work that takes no time would be made from, now or at another instant."""
    calendar = load_stack(project(), stack).settings.calendar
    return permission.gather(project(), stack, chosen, calendar, needs=timedelta(0), at=at or clock.now())


@app.command()
def approve(
    stack: Stack,
    role: Annotated[str, typer.Option("--role", help="the role for which you sign, such as CTO")],
    emergency: Annotated[bool, typer.Option("--emergency", help="for the emergency lane")] = False,
    break_glass: Annotated[bool, typer.Option("--break-glass", help="also inside a freeze that is lifted")] = False,
    note: Annotated[str, typer.Option("--note", help="why, for the record")] = "",
    person: As = None,
    key: Key = None,
    release_id: ReleaseOption = None,
    as_json: Json = False,
) -> None:
    """Signs that a release may go to the stack: a file and its signature, to be committed."""
    root = project()
    if emergency and break_glass:
        raise Misuse("--emergency --break-glass: break-glass counts in the emergency lane too, give only that")
    kind: ApprovalKind = "emergency" if emergency else "break-glass" if break_glass else "normal"
    inputs = _inputs(_stack(stack), release.load(root, _release_id(_stack(stack), release_id)))
    approval = permission.draft(inputs, kind, role, signing.identity(root, person), note)
    path = approvals.give(root, approval, signing.own_key(root, key), _signers())
    if as_json:
        _emit({"file": str(path.relative_to(root)), **approval.model_dump(mode="json")})
        return
    until = clock.spell(approval.expires)
    out.print(f"{path.relative_to(root)}  {approval.person} as {role}, {kind}, until {until}: commit it with its .sig")


@app.command(name="approvals")
def show_approvals(
    stack: Stack,
    release_id: ReleaseOption = None,
    at: Annotated[str | None, typer.Option(help="an instant such as 2026-12-13T02:00:00Z; now otherwise")] = None,
    as_json: Json = False,
) -> None:
    """Which approvals a release has on the stack, which are missing or refused and why, and when each expires."""
    chosen = release.load(project(), _release_id(_stack(stack), release_id))
    inputs = _inputs(_stack(stack), chosen, _instant(at) if at else None)
    shown = permission.approval_state(inputs)
    if as_json:
        _emit(shown)
        return
    out.print(f"{stack}  release {shown['release']}  digest {shown['digest'][:12]}  at {clock.spell(inputs.at)}")
    for wanted in shown["lists"]:
        out.print(f"{wanted['kind']} approval is {'complete' if wanted['complete'] else 'NOT complete'}")
        for one in wanted["roles"]:
            lacks = f"missing ({one['missing']})" if one["missing"] else "missing"
            out.print(f"  {one['role']:<20} {one['person'] or lacks}")
    if not shown["lists"]:
        out.print("no approval is asked")
    for file in shown["files"]:
        verdict = f"refused, {file['refused']}" if file["refused"] else "good"
        kind = f"{file['kind']}, until {file['expires']}: " if file["kind"] else ""
        out.print(f"{file['file']}  {kind}{verdict}")


@emergency_app.command(name="open")
def open_emergency(
    advisory: Annotated[str, typer.Option(help="the CVE, or the advisory as the release names it")],
    cvss: Annotated[float, typer.Option(help="its CVSS score")],
    disclosed: Annotated[str, typer.Option(help="when it became public: the plan's hours count from there")],
    exploit: Annotated[str, typer.Option(help="where an exploit was seen")] = "",
    affects: Annotated[str, typer.Option(help="what of production is vulnerable")] = "",
    person: As = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Opens the emergency lane for a vulnerability that meets the standard's criteria."""
    try:
        facts = Facts(
            advisory=advisory,
            cvss=cvss,
            exploit=exploit,
            affects=affects,
            disclosed=_instant(disclosed, "--disclosed"),
        )
    except ValidationError as error:
        raise Misuse(f"emergency open: {first_problem(error)}") from None
    criteria = load_standard(project()).emergency.criteria
    name = emergencies.open_(project(), facts, criteria, _signer(person, key), clock.now())
    if as_json:
        _emit({"id": name})
        return
    out.print(f"{name}  is open: `patchwave emergency show` has the plan and its hours")


@emergency_app.command(name="step")
def record_step(
    step: Annotated[str, typer.Argument(help="a step of the standard's plan")],
    named: EmergencyOption = None,
    note: Annotated[str, typer.Option("--note", help="what was done")] = "",
    release_id: Annotated[str | None, typer.Option("--release", help="the release that brings the fix")] = None,
    person: As = None,
    key: Key = None,
) -> None:
    """Records a step as done, signed; one that says how it is proved is refused until it is."""
    root, now = project(), clock.now()
    rules = load_standard(root).emergency
    known = {one.id: one for one in rules.steps}
    if step not in known:
        raise Misuse(f"step {step!r}: the standard's plan has {', '.join(known)}")
    folder, found = emergencies.find(root, named, _signers(), now)
    proved = permission.prove_step(root, found, known[step], release_id, now, os.environ)
    emergencies.step(folder, found, step, {"note": note, **proved}, _signer(person, key), now)
    out.print(f"{found.id}  {step} is done")


@emergency_app.command(name="show")
def show_emergency(named: EmergencyOption = None, as_json: Json = False) -> None:
    """The plan with its hours: what is done and by whom, what is due, what is overdue."""
    root, now = project(), clock.now()
    _, found = emergencies.find(root, named, _signers(), now)
    rows = emergencies.rows(found, load_standard(root).emergency, now)
    late = [row.step for row in rows if row.state == "overdue"]
    if as_json:
        plan = [row.model_dump(mode="json") for row in rows]
        _emit({**found.model_dump(mode="json", exclude={"done"}), "at": clock.iso(now), "overdue": late, "steps": plan})
        return
    state = f"closed {clock.spell(found.closed)}" if found.closed else f"open since {clock.spell(found.opened)}"
    facts = found.facts
    out.print(f"{found.id}  {state}, by {found.opened_by}")
    out.print(f"{facts.advisory}  CVSS {facts.cvss}, disclosed {clock.spell(facts.disclosed)}, affects {facts.affects}")
    out.print(f"exploit  {facts.exploit}")
    out.print(f"release  {found.release or 'none yet'}")
    for phase, steps in groupby(rows, key=lambda row: row.phase):
        for number, row in enumerate(steps):
            if number == 0:
                out.print(f"{phase}, by {clock.spell(row.due)}")
            word = row.state.upper() if row.state == "overdue" else row.state
            did = f"{clock.spell(row.done)}, {row.who}" if row.done else row.does
            out.print(f"  {word:<8} {row.step:<24} {did}")
    if found.problem:
        out.print(f"NOT verified: {found.problem}")
    if late:
        out.print(f"{len(late)} steps are overdue, the first: {late[0]}")


@emergency_app.command(name="close")
def close_emergency(
    note: Annotated[str, typer.Option("--note", help="how it ended, for the record")],
    named: EmergencyOption = None,
    person: As = None,
    key: Key = None,
) -> None:
    """Ends the emergency: its lane permits nothing from here on."""
    folder, found = emergencies.find(project(), named, _signers(), now := clock.now())
    emergencies.close(folder, found, note, _signer(person, key), now)
    out.print(f"{found.id}  is closed")


def _signer(person: str | None, key: Path | None) -> emergencies.Signer:
    root = project()
    return emergencies.signer(signing.identity(root, person), signing.own_key(root, key), _signers())


@app.command()
def stop(stack: Stack, reason: Annotated[str, typer.Option(help="why, for the evidence")] = "no reason given") -> None:
    """Stops the line: the running wave ends before its next batch."""
    place = project() / "evidence" / "patching" / _stack(stack)
    place.mkdir(parents=True, exist_ok=True)
    (place / STOP).write_text(f"{os.environ.get('USER', 'somebody')} ({reason})\n", encoding="utf-8")
    out.print(f"{stack}: the line stops before the next batch")


@app.command(hidden=True)
def wave(
    phase: Annotated[Literal["preflight", "protect", "patch", "prove"], typer.Argument()],
    stack: Stack,
    ring: Annotated[str | None, typer.Option()] = None,
) -> None:
    """One phase of a wave, as the program's Command resources run it."""
    work = Wave(project(), _stack(stack))
    if phase == "patch":
        if ring is None:
            raise Misuse("wave patch needs --ring")
        work.patch(ring)
    else:
        getattr(work, phase)()


@evidence_app.command()
def verify(stack: Stack, release_id: ReleaseOption = None, as_json: Json = False) -> None:
    """Whether the record is whole and signed; names the first record that is not."""
    place = permission.folder(project(), _stack(stack), _release_id(_stack(stack), release_id))
    verdict = evidence.verify(place, _signers())
    if as_json:
        _emit({"stack": stack, **verdict._asdict()})
    elif verdict.verified:
        out.print(f"{place.relative_to(project())}  verified, {verdict.records} records, signed by {verdict.signer}")
    if not verdict.verified:
        raise Failed(f"{place / evidence.FILE}: {verdict.problem}: do not rely on it, compare with the exported copy")


@evidence_app.command()
def show(
    stack: Stack,
    release_id: ReleaseOption = None,
    run: Annotated[str | None, typer.Option(help="a run id; the last otherwise")] = None,
    as_json: Json = False,
) -> None:
    """What a wave came to, host by host."""
    place = permission.folder(project(), _stack(stack), _release_id(_stack(stack), release_id))
    records, verdict = evidence.inspect(place, _signers())
    shown = evidence.summary(records, verdict, run=run)
    if as_json:
        _emit(shown)
        return
    out.print(
        f"{shown['stack']}  release {shown['release']}  run {shown['run']}  {shown['outcome'] or 'running'}"
        f"{'  (rehearsal)' if shown['rehearsal'] else ''}"
    )
    _table(
        ["host", "state", "changed", "reason"],
        [
            [
                h["name"],
                h["state"],
                str(sum(h["before"].get(k) != v for k, v in h["after"].items())),
                h.get("reason") or "",
            ]
            for h in shown["hosts"]
        ],
    )
    chain = shown["chain"]
    verified = "verified" if chain["verified"] else f"NOT verified: {verdict.problem}"
    out.print(f"chain {chain['records']} records, head {chain['head'][:16]}, {verified}")


@evidence_app.command(name="replay")
def replay_run(
    stack: Stack,
    release_id: ReleaseOption = None,
    run: Annotated[str | None, typer.Option(help="a run id; the last otherwise")] = None,
    as_json: Json = False,
) -> None:
    """Whether a run was allowed, at that time, by that standard: decides again from the record and from git's files."""
    root = project()
    chosen = _release_id(_stack(stack), release_id)
    found = replay(root, _stack(stack), chosen, run)
    problems = [*found.problems, *(problem for one in found.decisions for problem in one.problems)]
    if as_json:
        _emit({"stack": stack, "release": chosen, "consistent": not problems, **found.model_dump(mode="json")})
    else:
        for one in found.decisions:
            word = f"allowed in the {one.lane} lane" if one.allowed else f"refused: {'; '.join(one.refusals)}"
            out.print(f"{clock.spell(one.at)}  before {one.before}: {word}")
        for problem in problems:
            out.print(f"differs: {problem}")
        out.print(f"{stack}  release {chosen}  run {found.run}  was {'allowed' if found.allowed else 'not allowed'}")
    if problems:
        raise Failed(f"{stack}: run {found.run}: {len(problems)} differences, the first: {problems[0]}")


@evidence_app.command()
def attach(
    stack: Stack,
    criterion: Annotated[str, typer.Option(help="a criterion of the standard with `proof: record`")],
    result: Annotated[Literal["pass", "fail"], typer.Option(help="how it went")],
    by: Annotated[str, typer.Option(help="who vouches for it, as policy/allowed_signers names them")],
    file: Annotated[Path | None, typer.Option(help="what shows it, kept with the evidence")] = None,
    key: Annotated[
        Path | None, typer.Option(help="the SSH key of who vouches; git's user.signingkey otherwise")
    ] = None,
    release_id: ReleaseOption = None,
    as_json: Json = False,
) -> None:
    """Adds a signed result, such as that of a test suite, to the release's evidence on a stack."""
    root = project()
    known = [one.name for one in load_standard(root).stacks[_stack(stack)].criteria if one.proof == "record"]
    if criterion not in known:
        raise Misuse(f"--criterion {criterion!r}: the standard asks of {stack} for {', '.join(known) or 'none'}")
    chosen = release.load(root, _release_id(_stack(stack), release_id))
    place = permission.folder(root, stack, chosen.id)
    shown = evidence.summary(evidence.read(place))
    if shown["outcome"] is None:
        raise Refused(f"{stack}: run {shown['run']} of {chosen.id} has not ended: attach results when it has")
    claim = criteria.claim(
        criterion, result, by, stack=_stack(stack), release=chosen, run=shown["run"], file=file, at=clock.now()
    )
    record = criteria.attach(place, claim, signing.own_key(root, key), file, _signers())
    if as_json:
        _emit({"stack": stack, "release": chosen.id, "run": shown["run"], "record": record.seq, "result": result})
        return
    out.print(f"{criterion}: {result}, for run {shown['run']} of {chosen.id} on {stack}, signed by {by}")


@evidence_app.command(name="criteria")
def show_criteria(stack: Stack, release_id: ReleaseOption = None, as_json: Json = False) -> None:
    """What the standard asks of a wave on the stack before its release goes on, and what of it is met."""
    root = project()
    chosen = release.load(root, _release_id(_stack(stack), release_id))
    standard = load_standard(root)
    run = evidence.summary(evidence.read(permission.folder(root, stack, chosen.id)))["run"]
    found = permission.findings(root, _stack(stack), chosen, standard, _signers(), clock.now())
    if as_json:
        rows = [one.model_dump() for one in found]
        _emit({"stack": stack, "release": chosen.id, "run": run, "criteria": rows})
        return
    _table(["criterion", "state", "detail"], [[one.name, one.state, one.detail] for one in found])


@evidence_app.command(name="page")
def page(stack: Stack, release_id: ReleaseOption = None) -> None:
    """Draws the page of a wave again, from its evidence."""
    chosen = _release_id(_stack(stack), release_id)
    place = permission.folder(project(), _stack(stack), chosen)
    known = release.load(project(), chosen) if release.path_of(project(), chosen).exists() else None
    out.print(str(report.render(place, signers=_signers(), release=known)))


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this machine has and lacks, each with its mend."""
    findings = examine(project())
    if as_json:
        _emit({"ok": all(f.ok for f in findings), "checks": [f.model_dump() for f in findings]})
    else:
        for finding in findings:
            out.print(f"{'ok  ' if finding.ok else 'MISS'}  {finding.name:<18} {finding.detail}")
    if missing := [f for f in findings if not f.ok]:
        raise Failed(f"{len(missing)} of {len(findings)} are missing, first {missing[0].name}: {missing[0].detail}")


def _table(head: list[str], rows: list[list[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in head:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def main() -> None:
    """Runs the command line; an error is one line on stderr."""
    os.umask(0o022)
    try:
        code = app(standalone_mode=False)
    except PatchwaveError as error:
        code = _complain(str(error), error.code)
    except CLICK_EXCEPTION as error:
        code = _complain(error.format_message(), Misuse.code)
    except (KeyboardInterrupt, typer.Abort):
        code = _complain("interrupted: run the same command again, it goes on where it stopped", 130)
    sys.exit(code or 0)


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"patchwave: {' '.join(text.split())}\n")
    return code


if __name__ == "__main__":
    main()
