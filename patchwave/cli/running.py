"""Commands of a wave."""

import getpass
import json
import sys
from typing import Annotated

import typer

from patchwave.cli.shared import Stack, out, project
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
    """Stops the running wave before its next batch."""
    place = project() / "evidence" / "patching" / stack
    place.mkdir(parents=True, exist_ok=True)
    draft = place / f".{STOP}"
    draft.write_text(json.dumps({"by": getpass.getuser(), "reason": reason}), encoding="utf-8")
    draft.replace(place / STOP)
    out.print(f"{stack}: the wave stops before its next batch")
