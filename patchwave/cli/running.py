"""Commands of a wave, and of this machine."""

import os
from typing import Annotated, Literal

import typer

from patchwave.base.errors import Failed, UsageError
from patchwave.cli.doctor import examine
from patchwave.cli.shared import Json, Stack, emit, out, project, stack_name
from patchwave.wave.run import STOP, Wave

app = typer.Typer()


@app.command(hidden=True)
def wave(
    phase: Annotated[Literal["preflight", "protect", "patch", "prove"], typer.Argument()],
    stack: Stack,
    ring: Annotated[str | None, typer.Option()] = None,
) -> None:
    """One phase of a wave, as the program's Command resources run it."""
    work = Wave(project(), stack_name(stack))
    if phase == "patch":
        if ring is None:
            raise UsageError("wave patch needs --ring")
        work.patch(ring)
    else:
        getattr(work, phase)()


@app.command()
def stop(stack: Stack, reason: Annotated[str, typer.Option(help="why, for the evidence")] = "no reason given") -> None:
    """Stops the line: the running wave ends before its next batch."""
    place = project() / "evidence" / "patching" / stack_name(stack)
    place.mkdir(parents=True, exist_ok=True)
    (place / STOP).write_text(f"{os.environ.get('USER', 'somebody')} ({reason})\n", encoding="utf-8")
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
