"""What the commands share: the project, options, printing."""

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from patchwave.authorization.inputs import Inputs, from_files
from patchwave.base import clock
from patchwave.base.errors import UsageError
from patchwave.config.settings import load_stack
from patchwave.config.standard import StackName, load_standard
from patchwave.evidence import signing
from patchwave.releases import release
from patchwave.schedule.scans import Scans

Json = Annotated[bool, typer.Option("--json", help="print one JSON object")]
ReleaseOption = Annotated[str | None, typer.Option("--release", help="a release id; the stack's own otherwise")]
As = Annotated[str | None, typer.Option("--as", help="who you are in allowed_signers; git's user.email otherwise")]
Key = Annotated[Path | None, typer.Option("--key", help="your SSH key; git's user.signingkey otherwise")]
out = Console(highlight=False, soft_wrap=True)


def project() -> Path:
    """The project folder: the nearest one upwards that holds Pulumi.yaml."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "Pulumi.yaml").exists():
            return folder
    raise UsageError(f"{here}: no Pulumi.yaml here or above: change into the project's folder")


def known_stack(name: str | None) -> StackName | None:
    """A stack of the standard, or none; UsageError lists the stacks for any other name."""
    if name is not None:
        load_standard(project()).stack(name)
    return name


Stack = Annotated[
    str, typer.Option("--stack", "-s", help="a stack of the standard, such as prod", callback=known_stack)
]
AnyStack = Annotated[
    str | None, typer.Option("--stack", "-s", help="a stack of the standard; all without it", callback=known_stack)
]


def emit(data: Mapping[str, Any]) -> None:
    sys.stdout.write(
        json.dumps(data, ensure_ascii=False, default=lambda v: clock.iso(v) if isinstance(v, datetime) else str(v))
        + "\n"
    )


def print_table(head: list[str], rows: list[list[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in head:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def print_unanswered(scans: Scans) -> None:
    """The hosts that a result leaves out, each with the reason."""
    for line in (*(f"{row['name']}: {row['reason']}" for row in scans.rows), *scans.lacks):
        out.print(f"no answer  {line}")


def instant_of(text: str, option: str = "--at") -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text!r}: write an ISO 8601 instant such as 2026-11-23T09:30:00Z") from None
    if instant.tzinfo is None:
        raise UsageError(f"{option} {text!r} has no zone: end it with Z or an offset")
    if not 2000 <= instant.year <= 2999:
        raise UsageError(f"{option} {text!r}: write a year from 2000 to 2999")
    return instant.astimezone(UTC)


def release_id_of(stack: StackName, named: str | None) -> str:
    found = named or load_stack(project(), stack).release
    if found is None:
        raise UsageError(f"Pulumi.{stack}.yaml names no patchwave:release: name one with --release")
    return found


def signers() -> Path | None:
    return signing.allowed_signers(project())


def inputs_of(stack: StackName, chosen: release.Release, at: datetime | None = None) -> Inputs:
    """What a decision about work that takes no time would be made from, now or at another instant."""
    return from_files(project(), stack, chosen, at=at or clock.now())
