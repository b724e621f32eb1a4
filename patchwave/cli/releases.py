"""Commands about what may be brought: releases, waivers, advisories."""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from patchwave.authorization.messages import require_promotion
from patchwave.base import clock
from patchwave.base.errors import Refused, UsageError
from patchwave.cli.shared import (
    AnyStack,
    Json,
    Stack,
    emit,
    inputs_of,
    out,
    print_table,
    print_unanswered,
    project,
    release_id_of,
)
from patchwave.config.settings import load_stack
from patchwave.config.stackfile import set_release, set_waivers
from patchwave.config.standard import StackName, load_standard
from patchwave.releases import advisories, feeds, release, waivers
from patchwave.schedule import sealing

app = typer.Typer()
advisories_app = typer.Typer(
    no_args_is_help=True, help="What is known of vulnerabilities: scores, exploitation, notices."
)
app.add_typer(advisories_app, name="advisories")


@app.command()
def seal(stack: Stack, as_json: Json = False) -> None:
    """Seals the security updates that the stack's hosts are really offered, and names the release in the stack file."""
    root = project()
    if source := load_standard(root).stack(stack).promoted_from:
        raise Refused(f"{stack}: it takes its releases from {source}: run `patchwave promote {source} {stack}`")
    counting = _resolved(root, stack)
    sealed, new, left_out, scans = sealing.seal(root, stack, clock.now(), sealing.author(root), counting)
    _pin(root, stack, counting, sealed)
    if sealed is not None:
        set_release(root, stack, sealed.id)
    if as_json:
        left = [one.model_dump(mode="json") for one in left_out]
        emit({"stack": stack, "new": new, "left_out": left, "unanswered": scans.rows, **_sealed_fields(sealed)})
        return
    print_unanswered(scans)
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
    stack: AnyStack = None,
    pin: Annotated[bool, typer.Option("--pin", help="name those that count now in the stack file")] = False,
    trivy: Annotated[bool, typer.Option("--trivy", help="print the stack's .trivyignore.yaml")] = False,
    as_json: Json = False,
) -> None:
    """The waivers, whether each counts now, and until when."""
    root, now = project(), clock.now()
    if stack is None and (pin or trivy):
        raise UsageError(f"--{'pin' if pin else 'trivy'} needs --stack: name one of the standard's")
    if stack is not None and pin:
        _pin(root, stack, _resolved(root, stack))
    if stack is not None and trivy:
        file = load_stack(root, stack)
        named = release.load(root, file.release) if file.release else None
        counting = waivers.load(root, load_standard(root))
        fleets = list(file.settings.fleets)
        ignores = waivers.trivy_ignores(counting, named, stack=stack, fleets=fleets, now=now)
        sys.stdout.write(yaml.safe_dump(ignores, sort_keys=False, allow_unicode=True, width=1000))
        return
    found = [one for one in waivers.read(root, load_standard(root)) if stack is None or one.concerns(stack)]
    if as_json:
        pinned = None if stack is None else list(load_stack(root, stack).waivers)
        rows = [waivers.shown(one, now) for one in found]
        emit({"stack": stack, "at": clock.iso(now), "pinned": pinned, "waivers": rows})
    else:
        print_table(
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
    before = standard.stack(target).promoted_from
    standard.stack(source)
    if before != source:
        own = f"{target} takes releases from {before}: `patchwave promote {before} {target}`"
        raise Refused(own if before else f"{target} takes releases from no stack: `patchwave seal --stack {target}`")
    chosen = release.load(root, release_id_of(source, None))
    soak = require_promotion(inputs_of(target, chosen))
    assert soak is not None
    _pin(root, target, _resolved(root, target), chosen)
    set_release(root, target, chosen.id)
    if as_json:
        emit({"stack": target, "release": chosen.id, "digest": chosen.digest, "soak": soak.model_dump()})
        return
    short = f", shortened to {soak.real_seconds} s in this rehearsal" if soak.shortened else ""
    soaked = f"soaked {soak.elapsed_seconds / 3600:.1f} h{short}"
    out.print(f"{chosen.id}  digest {chosen.digest[:12]}  {source} -> {target}, {soaked}")


@advisories_app.command(name="import")
def import_advisories(files: Annotated[list[Path], typer.Argument()], as_json: Json = False) -> None:
    """Brings OSV records and CISA's catalogue of exploited vulnerabilities into the store: files, folders or zips."""
    root = project()
    wanted = feeds.concerning(release.every(root))
    done = feeds.import_files(root, files, wanted)
    exploited = done.store.exploited
    if as_json:
        emit(
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
