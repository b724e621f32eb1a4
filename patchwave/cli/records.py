"""Commands about what a wave has recorded."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from patchwave.authorization import criteria, promotion
from patchwave.authorization.replay import replay
from patchwave.base import clock
from patchwave.base.errors import Failed, Refused, UsageError
from patchwave.cli.shared import (
    Json,
    ReleaseOption,
    Stack,
    emit,
    out,
    print_table,
    project,
    release_id_of,
    signers,
)
from patchwave.config.standard import load_standard
from patchwave.evidence import chain as evidence
from patchwave.evidence import signing
from patchwave.releases import release
from patchwave.wave import page as report

app = typer.Typer(no_args_is_help=True, help="Verify or show the record of a wave.")


@app.command()
def verify(stack: Stack, release_id: ReleaseOption = None, as_json: Json = False) -> None:
    """Whether the record is whole and signed; names the first record that is not."""
    place = promotion.folder(project(), stack, release_id_of(stack, release_id))
    records, verdict = evidence.inspect(place, signers())
    if strange := promotion.misplaced(stack, records):
        verdict = verdict._replace(verified=False, problem=f"it is the evidence of {strange}, not of {stack}")
    if as_json:
        emit({"stack": stack, **verdict._asdict()})
    elif verdict.verified:
        out.print(f"{place.relative_to(project())}  verified, {verdict.records} records, signed by {verdict.signer}")
    if not verdict.verified:
        raise Failed(f"{place / evidence.FILE}: {verdict.problem}: do not rely on it, compare with the exported copy")


@app.command()
def show(
    stack: Stack,
    release_id: ReleaseOption = None,
    run: Annotated[str | None, typer.Option(help="a run id; the last otherwise")] = None,
    as_json: Json = False,
) -> None:
    """What a wave came to, host by host."""
    place = promotion.folder(project(), stack, release_id_of(stack, release_id))
    records, verdict = evidence.inspect(place, signers())
    shown = evidence.summary(records, verdict, run=run)
    if as_json:
        emit(shown)
        return
    out.print(
        f"{shown['stack']}  release {shown['release']}  run {shown['run']}  {shown['outcome'] or 'running'}"
        f"{'  (rehearsal)' if shown['rehearsal'] else ''}"
    )
    print_table(
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


@app.command(name="replay")
def replay_run(
    stack: Stack,
    release_id: ReleaseOption = None,
    run: Annotated[str | None, typer.Option(help="a run id; the last otherwise")] = None,
    as_json: Json = False,
) -> None:
    """Whether a run was allowed, at that time, by that standard: decides again from the record and from git's files."""
    root = project()
    chosen = release_id_of(stack, release_id)
    found = replay(root, stack, chosen, run)
    problems = [*found.problems, *(problem for one in found.decisions for problem in one.problems)]
    if as_json:
        emit({"stack": stack, "release": chosen, "consistent": not problems, **found.model_dump(mode="json")})
    else:
        for one in found.decisions:
            word = f"allowed in the {one.lane} lane" if one.allowed else f"refused: {'; '.join(one.refusals)}"
            out.print(f"{clock.spell(one.at)}  before {one.before}: {word}")
        for problem in problems:
            out.print(f"differs: {problem}")
        out.print(f"{stack}  release {chosen}  run {found.run}  was {'allowed' if found.allowed else 'not allowed'}")
    if problems:
        raise Failed(f"{stack}: run {found.run}: {len(problems)} differences, the first: {problems[0]}")


@app.command()
def attach(
    stack: Stack,
    criterion: Annotated[str, typer.Option(help="a criterion of the standard with `proof: record`")],
    result: Annotated[Literal["pass", "fail"], typer.Option(help="how it went")],
    by: Annotated[str, typer.Option(help="who signs it, as policy/allowed_signers names them")],
    file: Annotated[Path | None, typer.Option(help="what shows it, kept with the evidence")] = None,
    key: Annotated[Path | None, typer.Option(help="the SSH key of who signs; git's user.signingkey otherwise")] = None,
    release_id: ReleaseOption = None,
    as_json: Json = False,
) -> None:
    """Adds a signed result, such as that of a test suite, to the release's evidence on a stack."""
    root = project()
    known = [one.name for one in load_standard(root).stacks[stack].criteria if one.proof == "record"]
    if criterion not in known:
        raise UsageError(f"--criterion {criterion!r}: the criteria of {stack} are {', '.join(known) or 'none'}")
    chosen = release.load(root, release_id_of(stack, release_id))
    place = promotion.folder(root, stack, chosen.id)
    shown = evidence.summary(evidence.read(place))
    if shown["outcome"] is None:
        raise Refused(f"{stack}: run {shown['run']} of {chosen.id} has not ended: attach results when it has")
    claim = criteria.claim(
        criterion, result, by, stack=stack, release=chosen, run=shown["run"], file=file, at=clock.now()
    )
    record = criteria.attach(place, claim, signing.own_key(root, key), file, signers())
    if as_json:
        emit({"stack": stack, "release": chosen.id, "run": shown["run"], "record": record.seq, "result": result})
        return
    out.print(f"{criterion}: {result}, for run {shown['run']} of {chosen.id} on {stack}, signed by {by}")


@app.command(name="criteria")
def show_criteria(stack: Stack, release_id: ReleaseOption = None, as_json: Json = False) -> None:
    """The criteria that a wave on the stack must meet before its release goes on, and which are met."""
    root = project()
    chosen = release.load(root, release_id_of(stack, release_id))
    standard = load_standard(root)
    run = evidence.summary(evidence.read(promotion.folder(root, stack, chosen.id)))["run"]
    found = promotion.findings(root, stack, chosen, standard, signers(), clock.now())
    if as_json:
        rows = [one.model_dump() for one in found]
        emit({"stack": stack, "release": chosen.id, "run": run, "criteria": rows})
        return
    print_table(["criterion", "state", "detail"], [[one.name, one.state, one.detail] for one in found])


@app.command(name="page")
def page(stack: Stack, release_id: ReleaseOption = None) -> None:
    """Draws the page of a wave again, from its evidence."""
    chosen = release_id_of(stack, release_id)
    place = promotion.folder(project(), stack, chosen)
    known = release.load(project(), chosen) if release.path_of(project(), chosen).exists() else None
    out.print(str(report.render(place, signers=signers(), release=known)))
