"""Commands by which people agree: approvals and the emergency lane."""

import os
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from patchwave.authorization import approvals, signatures
from patchwave.authorization import emergency as emergencies
from patchwave.authorization.emergency import Facts
from patchwave.base import clock
from patchwave.base.errors import UsageError
from patchwave.base.model import first_problem
from patchwave.cli.shared import (
    As,
    Json,
    Key,
    ReleaseOption,
    Stack,
    emit,
    inputs_of,
    instant_of,
    out,
    project,
    release_id_of,
    signers,
)
from patchwave.config.standard import ApprovalKind, load_standard
from patchwave.evidence import signing
from patchwave.releases import release

app = typer.Typer()
emergency_app = typer.Typer(no_args_is_help=True, help="The emergency lane: open it, record its steps, close it.")
app.add_typer(emergency_app, name="emergency")

EmergencyOption = Annotated[str | None, typer.Option("--id", help="an emergency; the only open one otherwise")]


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
        raise UsageError("--emergency --break-glass: break-glass counts in the emergency lane too, give only that")
    kind: ApprovalKind = "emergency" if emergency else "break-glass" if break_glass else "normal"
    inputs = inputs_of(stack, release.load(root, release_id_of(stack, release_id)))
    approval = signatures.draft(inputs, kind, role, signing.identity(root, person), note)
    path = approvals.give(root, approval, signing.own_key(root, key), signers())
    if as_json:
        emit({"file": str(path.relative_to(root)), **approval.model_dump(mode="json")})
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
    chosen = release.load(project(), release_id_of(stack, release_id))
    inputs = inputs_of(stack, chosen, instant_of(at) if at else None)
    shown = signatures.approval_state(inputs)
    if as_json:
        emit(shown)
        return
    out.print(f"{stack}  release {shown['release']}  digest {shown['digest'][:12]}  at {clock.spell(inputs.at)}")
    for wanted in shown["lists"]:
        out.print(f"{wanted['kind']} approval is {'complete' if wanted['complete'] else 'NOT complete'}")
        for one in wanted["roles"]:
            lacks = f"missing ({one['missing']})" if one["missing"] else "missing"
            out.print(f"  {one['role']:<20} {one['person'] or lacks}")
    if not shown["lists"]:
        out.print("no approval is needed")
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
            disclosed=instant_of(disclosed, "--disclosed"),
        )
    except ValidationError as error:
        raise UsageError(f"emergency open: {first_problem(error)}") from None
    criteria = load_standard(project()).emergency.criteria
    name = emergencies.open_(project(), facts, criteria, _signer(person, key), clock.now())
    if as_json:
        emit({"id": name})
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
    """Records a step as done, signed; one with a proof is refused until that is there."""
    root, now = project(), clock.now()
    rules = load_standard(root).emergency
    known = {one.id: one for one in rules.steps}
    if step not in known:
        raise UsageError(f"step {step!r}: the standard's plan has {', '.join(known)}")
    folder, found = emergencies.find(root, named, signers(), now)
    proved = signatures.prove_step(root, found, known[step], release_id, now, os.environ)
    emergencies.step(folder, found, step, {"note": note, **proved}, _signer(person, key), now)
    out.print(f"{found.id}  {step} is done")


@emergency_app.command(name="show")
def show_emergency(named: EmergencyOption = None, as_json: Json = False) -> None:
    """The plan with its hours: what is done and by whom, what is due, what is overdue."""
    root, now = project(), clock.now()
    _, found = emergencies.find(root, named, signers(), now)
    rows = emergencies.rows(found, load_standard(root).emergency, now)
    late = [row.step for row in rows if row.state == "overdue"]
    if as_json:
        plan = [row.model_dump(mode="json") for row in rows]
        emit({**found.model_dump(mode="json", exclude={"done"}), "at": clock.iso(now), "overdue": late, "steps": plan})
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
        out.print(f"overdue: {', '.join(late)}")


@emergency_app.command(name="close")
def close_emergency(
    note: Annotated[str, typer.Option("--note", help="how it ended, for the record")],
    named: EmergencyOption = None,
    person: As = None,
    key: Key = None,
) -> None:
    """Ends the emergency: its lane permits nothing from here on."""
    root, now = project(), clock.now()
    folder, found = emergencies.find(root, named, signers(), now)
    emergencies.close(folder, found, note, _signer(person, key), now)
    rows = emergencies.rows(found, load_standard(root).emergency, now)
    missing = ", ".join(row.step for row in rows if row.done is None)
    out.print(f"{found.id}  is closed" + (f"; never recorded: {missing}" if missing else ""))


def _signer(person: str | None, key: Path | None) -> emergencies.Signer:
    root = project()
    return emergencies.signer(signing.identity(root, person), signing.own_key(root, key), signers())
