"""Commands of a wave, and of this machine."""

import getpass
import json
import sys
from typing import Annotated

import typer

from patchwave.base.errors import Failed
from patchwave.cli.doctor import examine
from patchwave.cli.shared import Json, Stack, emit, out, project
from patchwave.wave import session
from patchwave.wave.effects.real import STOP

app = typer.Typer()


@app.command(hidden=True)
def wave(
    phase: Annotated[session.Phase, typer.Argument()],
    stack: Stack,
    ring: Annotated[str | None, typer.Option(help="with patch: the ring")] = None,
) -> None:
    """One phase of a wave, as the program's Command resources run it; the order comes on standard input."""
    session.carry_out(project(), stack, phase, ring, sys.stdin.buffer.read())


@app.command()
def stop(stack: Stack, reason: Annotated[str, typer.Option(help="why, for the evidence")] = "no reason given") -> None:
    """Stops the line: the running wave ends before its next batch."""
    place = project() / "evidence" / "patching" / stack
    place.mkdir(parents=True, exist_ok=True)
    draft = place / f".{STOP}"
    draft.write_text(json.dumps({"by": getpass.getuser(), "reason": reason}), encoding="utf-8")
    draft.replace(place / STOP)
    out.print(f"{stack}: the line stops before the next batch")


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this machine has and lacks, each with its fix."""
    findings = examine(project())
    if as_json:
        emit({"ok": all(f.ok for f in findings), "checks": [f.model_dump() for f in findings]})
    else:
        for finding in findings:
            out.print(f"{'ok  ' if finding.ok else 'MISS'}  {finding.name:<18} {finding.detail}")
    if missing := [f for f in findings if not f.ok]:
        raise Failed(f"{len(missing)} of {len(findings)} are missing, first {missing[0].name}: {missing[0].detail}")
