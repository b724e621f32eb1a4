"""May this stack be disrupted now, and may this release be here: the answers that policy, hook and wave share."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from patchwave import evidence
from patchwave.calendar import Verdict
from patchwave.errors import Refused
from patchwave.model import Model
from patchwave.release import Release
from patchwave.settings import Settings
from patchwave.standard import StackName, Standard


def folder(project: Path, stack: str, release: str) -> Path:
    """Where the waves of a release on a stack leave their evidence."""
    return project / "evidence" / "patching" / stack / release


def window(settings: Settings, at: datetime, needs: timedelta) -> Verdict:
    """Whether work that takes so long may start at that instant."""
    return settings.calendar.may_start(at, needs)


def refusal(stack: str, settings: Settings, verdict: Verdict) -> str:
    """One line for a window that is closed, with the next opening."""
    coming = settings.calendar.next(verdict.at, 1)
    mend = f"run again at {coming[0].opens:%a %Y-%m-%d %H:%M} UTC, when the next window opens"
    return (
        f"{stack}: patching is refused at {verdict.at:%a %Y-%m-%d %H:%M} UTC, {verdict.reason}: "
        f"{mend if coming else f'no window opens from here on, widen the calendar in Pulumi.{stack}.yaml'}"
    )


def is_done(project: Path, stack: str, release: str, digest: str) -> bool:
    """Whether a wave of exactly this release has already succeeded on the stack, so that an `up` will run nothing."""
    place = folder(project, stack, release)
    if not (place / evidence.FILE).exists():
        return False
    records = evidence.read(place)
    done = evidence.summary(records)
    started = [r.data for r in records if r.kind == "wave-started" and r.run == done["run"]]
    return done["outcome"] == "succeeded" and bool(started) and started[-1]["digest"] == digest


class Soak(Model):
    """How long a release has been good on the stack before, as the wave's evidence will show it."""

    stack: str
    run: str
    required_seconds: int
    elapsed_seconds: int
    real_seconds: int
    shortened: bool


def promotion(
    project: Path,
    stack: StackName,
    release: Release,
    standard: Standard,
    at: datetime,
    real: datetime,
    signers: Path | None,
) -> Soak | None:
    """The soak that admits a release to a stack, None where none is asked; Refused says what is missing."""
    rules = standard.stacks[stack]
    source = rules.promoted_from
    if source is None:
        return None
    place = folder(project, source, release.id)
    if not (place / evidence.FILE).exists():
        raise Refused(f"{stack}: release {release.id} has no evidence from {source}: patch {source} with it first")
    records, verdict = evidence.inspect(place, signers)
    if not verdict.verified:
        raise Refused(f"{stack}: the evidence from {source} does not verify ({verdict.problem}): patch {source} again")
    shown = evidence.summary(records, verdict)
    if shown["outcome"] != "succeeded":
        ended_as = shown["outcome"] or "unfinished"
        raise Refused(f"{stack}: release {release.id} ended {ended_as} on {source}: make it succeed there first")
    mine = [record for record in records if record.run == shown["run"]]
    started: Mapping[str, Any] = next(r.data for r in mine if r.kind == "wave-started")
    ended = next(r for r in reversed(mine) if r.kind == "wave-ended")
    if started["digest"] != release.digest:
        proved, this = started["digest"][:12], release.digest[:12]
        raise Refused(f"{stack}: {source} proved digest {proved}, this release has {this}: promote what was proved")
    finished = datetime.fromisoformat(ended.at)
    if at - finished < rules.soak:
        soaked, ready = _hours(at - finished), finished + rules.soak
        raise Refused(
            f"{stack}: release {release.id} has soaked {soaked} of {_hours(rules.soak)} on {source}: "
            f"run again from {ready:%a %Y-%m-%d %H:%M} UTC"
        )
    really = real - datetime.fromisoformat(ended.data["real_time"])
    return Soak(
        stack=source,
        run=shown["run"],
        required_seconds=int(rules.soak.total_seconds()),
        elapsed_seconds=int((at - finished).total_seconds()),
        real_seconds=int(really.total_seconds()),
        shortened=really < rules.soak,
    )


def _hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:.1f} h"
