"""Commands that look and plan, and touch nothing."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Annotated, get_args

import typer

from patchwave.azure.inventory import discover
from patchwave.base import clock
from patchwave.base.errors import UsageError
from patchwave.calendar import update_manager
from patchwave.calendar.windows import time_zone, zone_names
from patchwave.cli.shared import (
    Json,
    Stack,
    emit,
    instant_of,
    out,
    print_table,
    print_unanswered,
    project,
)
from patchwave.config.settings import load_stack
from patchwave.config.standard import Severity, load_standard
from patchwave.schedule import findings, plan
from patchwave.schedule.sla import State

app = typer.Typer()


@app.command()
def windows(
    stack: Stack,
    at: Annotated[str | None, typer.Option(help="an instant such as 2026-11-23T09:30:00Z")] = None,
    count: Annotated[int, typer.Option(min=1, max=200, help="how many of the next openings")] = 3,
    zone: Annotated[str, typer.Option(help="whose clock to show, such as Europe/Berlin")] = "Etc/UTC",
    as_json: Json = False,
) -> None:
    """Whether the stack may be disrupted, why, until when, the next openings, and where Update Manager differs."""
    if zone not in zone_names():
        raise UsageError(f"--zone {zone!r} is no IANA zone: write one such as Europe/Berlin")
    settings, here = load_stack(project(), stack).settings, time_zone(zone)
    calendar = load_standard(project()).calendar(stack, settings.calendar)
    instant = instant_of(at) if at else clock.now()
    verdict = calendar.at(instant)
    coming = calendar.next(instant, count)
    kept = settings.maintenance
    notes = list(update_manager.notes(calendar, settings.rollout.ring_names, kept.starts_on)) if kept else []
    if as_json:
        closes = verdict.closes and clock.iso(verdict.closes)
        emit(
            {
                "stack": stack,
                "at": clock.iso(instant),
                "open": verdict.open,
                "reason": verdict.reason,
                "closes": closes,
                "next": [{"opens": clock.iso(o.opens), "closes": clock.iso(o.closes)} for o in coming],
                "notes": notes,
            }
        )
        return
    state = "open" if verdict.open else "closed"
    out.print(f"{stack} at {instant.astimezone(here):%a %Y-%m-%d %H:%M %Z}: {state}, {verdict.reason}")
    for opening in coming:
        opens, closes = opening.opens.astimezone(here), opening.closes.astimezone(here)
        out.print(f"  next  {opens:%a %Y-%m-%d %H:%M} - {closes:%a %H:%M} {_clock_names(opens, closes)}")
    for note in notes:
        out.print(f"note: {note}")


def _clock_names(opens: datetime, closes: datetime) -> str:
    """The zone's name, both where the clock changes in between."""
    return f"{opens:%Z}" if opens.tzname() == closes.tzname() else f"({opens:%Z} to {closes:%Z})"


@app.command()
def inventory(stack: Stack, as_json: Json = False) -> None:
    """The stack's machines, from Azure: those that a wave patches, those that are left alone, and what lacks."""
    found = discover(stack, load_stack(project(), stack).settings)
    if as_json:
        plain = found.model_dump(mode="json", exclude={"power"})
        hosts = [host | {"power": found.power[host["name"]]} for host in plain["hosts"]]
        emit({"stack": stack, "at": clock.iso(clock.now()), "complete": found.complete, **plain, "hosts": hosts})
        return
    print_table(
        ["name", "address", "source", "fleet", "ring", "slot", "live", "power"],
        [
            [h.name, h.address, h.source, h.fleet, h.ring, h.slot or "", "live" if h.live else "", found.power[h.name]]
            for h in found.hosts
        ],
    )
    for kind, lines in (
        ("unknown", found.gaps),
        ("problem", [f"{one.name} {one.reason}" for one in found.problems]),
        ("left alone", [f"{one.name} {one.reason}" for one in found.left_alone]),
        ("note", found.notes),
    ):
        for line in lines:
            out.print(f"{kind}: {line}", markup=False)


@app.command(name="plan")
def show_plan(stack: Stack, as_json: Json = False) -> None:
    """Hosts, packages, batches, start times and reboots of the stack's next wave, and what misses its SLA."""
    made = plan.make(project(), stack, clock.now())
    if as_json:
        emit(made)
        return
    fits = "fits its window" if made["fits"] else "DOES NOT FIT its window"
    out.print(f"{stack}  release {made['release']}  {made['starts']} - {made['ends']}  {fits}")
    print_table(
        ["host", "fleet", "service", "ring", "batch", "starts", "packages", "reboot"],
        [
            [
                *(h[key] for key in ("name", "fleet", "service", "ring")),
                str(h["batch"] or "-"),
                h["starts"] or "-",
                "?" if h["problem"] else str(len(h["packages"])),
                "yes" if h["reboot"] else "no",
            ]
            for h in made["hosts"]
        ],
    )
    for one in made["unanswered"]:
        out.print(f"no answer  {one['name']}: {one['reason']}")
    for objection in made["objections"]:
        out.print(f"the wave would be refused: {objection}")
    for one in made["notices"]:
        by = clock.spell(datetime.fromisoformat(one["by"]))
        late = ", which is OVERDUE" if one["late"] else ""
        out.print(f"notify {', '.join(one['audience'])} {one['when']} it, by {by}{late}")
    for note in made["notes"]:
        out.print(f"note: {note}")
    for miss in made["missed"]:
        out.print(miss["summary"])


@app.command()
def sla(stack: Stack, as_json: Json = False) -> None:
    """Each fix on each host: since when it is published, when it is due, and whether it is there."""
    at = clock.now()
    found, scans = findings.of_stack(project(), stack, at)
    if as_json:
        items = [item.plain() for item in found]
        missing = {"partial": scans.partial, "unanswered": scans.rows, "notes": list(scans.lacks)}
        emit({"stack": stack, "at": clock.iso(at), "items": items, **missing})
        return
    print_unanswered(scans)
    counts = Counter((item.severity, item.state) for item in found)
    print_table(
        ["severity", *get_args(State)],
        [[level, *(str(counts[level, state]) for state in get_args(State))] for level in get_args(Severity)],
    )
    for item in sorted((item for item in found if item.overdue), key=lambda item: item.overdue or timedelta(0))[-10:]:
        late = clock.hours(item.overdue or timedelta(0))
        out.print(f"{item.host}  {item.package}  {item.advisory}  {item.severity}  {item.state}, {late} overdue")
