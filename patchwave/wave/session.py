"""One process of a wave: reads the order, holds the stack's lock, finishes what others left, and goes on."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from patchwave.authorization import promotion
from patchwave.base.errors import Refused, UsageError
from patchwave.base.model import first_problem
from patchwave.config.order import Order
from patchwave.config.standard import StackName, Standard, read_standard
from patchwave.evidence.chain import FILE, Chain
from patchwave.releases import release as releases
from patchwave.releases import waivers
from patchwave.releases.release import Release
from patchwave.releases.waivers import Waiver
from patchwave.wave.effects import Effects
from patchwave.wave.effects.real import RealEffects
from patchwave.wave.journal import Journal, open_run
from patchwave.wave.run import Run, last_words, phase_place, raise_for

PUBLISHED = ".published"
Phase = Literal["preflight", "protect", "patch", "prove"]
Build = Callable[[Path, Order, Release, Standard, Path, Mapping[str, str]], Effects]


def carry_out(
    project: Path,
    stack: StackName,
    phase: Phase,
    ring: str | None,
    text: str | bytes,
    environ: Mapping[str, str] = os.environ,
    build: Build = RealEffects,
) -> None:
    """Carries a phase of an order out, and whatever of the phases before it is not done.

    Raises UsageError for an order that is none or that the project's files do not fit, Refused or Failed for a run
    that ends other than well.
    """
    order = read(text, stack)
    if phase == "patch" and ring not in order.settings.rollout.ring_names:
        raise UsageError(f"ring {ring!r}: the order has {', '.join(order.settings.rollout.ring_names)}")
    release, standard, relied = documents(project, order)
    folder = promotion.folder(project, stack, release.id)
    with lock(folder.parent, stack):
        _finish_others(project, order, folder, environ, build)
        effects = build(project, order, release, standard, folder, environ)
        with Chain.open(folder) as chain:
            if phase == "prove" and (ended := _unpublished(chain, order)):
                effects.publish()
                _mark_published(folder, ended)
                raise_for(ended, order)
                return
            run = Run(order, release, standard, chain, effects, relied=relied)
            journal = run.carry_out(phase_place(phase, ring, order.settings.rollout.ring_names))
            if journal.ended is not None:
                _mark_published(folder, journal)
                print(last_words(journal, order), flush=True)
                raise_for(journal, order)


def read(text: str | bytes, stack: StackName) -> Order:
    """The order on a command's standard input."""
    try:
        order = Order.read(text)
    except ValidationError as error:
        raise UsageError(
            f"standard input is no order ({first_problem(error)}): start waves by `pulumi up`, which writes one"
        ) from None
    if order.stack != stack:
        raise UsageError(f"the order is for {order.stack}, not for {stack}: start waves by `pulumi up`")
    return order


def documents(project: Path, order: Order) -> tuple[Release, Standard, tuple[Waiver, ...]]:
    """What the order names, as the project has it; UsageError for a document that is another one now."""
    standard, digest = read_standard(project)
    if digest != order.standard:
        raise UsageError("policy/standard.yaml has changed since this order was made: run `pulumi up` again")
    release = releases.load(project, order.release.id)
    if release.digest != order.release.digest:
        raise UsageError(f"release {release.id} has changed since this order was made: run `pulumi up` again")
    found = waivers.relied(project, order.waivers, standard, release)
    if bad := next((one for one in found if one.problem), None):
        raise UsageError(f"waiver {bad.id}: {bad.problem}: run `patchwave waivers --pin`, then `pulumi up` again")
    return release, standard, tuple(one.waiver for one in found if one.waiver)


def _finish_others(project: Path, order: Order, folder: Path, environ: Mapping[str, str], build: Build) -> None:
    """Ends every open run of the stack that is not of this order's work; a batch that was cut off is taken back."""
    for place in sorted(folder.parent.glob(f"*/{FILE}")):
        if place.parent != folder and _last_kind(place) == "wave-ended":
            continue
        with Chain.open(place.parent) as chain:
            run = open_run(chain.records)
            if run is None:
                continue
            left = Journal(chain.records, run).order
            if left.work == order.work and place.parent == folder:
                continue
            release, standard = releases.load(project, left.release.id), read_standard(project)[0]
            effects = build(project, left, release, standard, place.parent, environ)
            reason = "another order came before it was done: it ends with what it has done"
            print(f"wave      {run} was left open and is ended first", flush=True)
            Run(left, release, standard, chain, effects).abandon(f"release {order.release.id}", reason)
            _mark_published(place.parent, Journal(chain.records, run))


def _last_kind(path: Path) -> str | None:
    """The kind of a chain's last record, without reading all of it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 1_000_000))
        lines = file.read().rstrip(b"\n").rsplit(b"\n", 1)
    try:
        return str(json.loads(lines[-1])["kind"])
    except (ValueError, KeyError, TypeError):
        return None


def _unpublished(chain: Chain, order: Order) -> Journal | None:
    """The last run, if it is of this work, has ended, and was killed before its outcome was shown to anybody."""
    if not chain.records or chain.records[-1].kind != "wave-ended":
        return None
    journal = Journal(chain.records, chain.records[-1].run)
    mark = chain.folder / PUBLISHED
    if journal.order.work != order.work or (mark.exists() and mark.read_text(encoding="utf-8") == journal.run):
        return None
    return journal


def _mark_published(folder: Path, journal: Journal) -> None:
    """Remembers the last run whose evidence was signed and whose outcome was shown."""
    (folder / PUBLISHED).write_text(journal.run, encoding="utf-8")


@contextmanager
def lock(place: Path, stack: str) -> Iterator[None]:
    """A lock that dies with its holder, so that two runners never carry the same stack."""
    place.mkdir(parents=True, exist_ok=True)
    handle = os.open(place / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 100, 0).decode() or "another process"
            raise Refused(
                f"{stack}: a wave is running ({holder}): wait for it, or `patchwave stop --stack {stack}`"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(handle)
