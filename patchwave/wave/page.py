"""The page of a wave: its evidence drawn for people, self-contained and without a script."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from patchwave.base.errors import Failed
from patchwave.evidence.chain import FILE as EVIDENCE
from patchwave.evidence.chain import Record, Verdict, canonical, inspect, summary
from patchwave.releases.release import Advisory, Release
from patchwave.releases.waivers import Waiver, line

FILE = "wave.html"
PHASES = {
    "preflight": "checked fit to be patched",
    "protect": "packages cached, configuration and data saved",
    "drain": "taken out of the load balancer",
    "transaction": "packages changed",
    "reboot": "restarted, new boot proved",
    "verify": "health of the new process",
    "undrain": "back in the load balancer",
    "restore": "taken back",
    "prove": "scanned again and compared",
}
# The end states, and the two words for a host that has none yet because its wave still runs.
STATES = {
    "patched": "good",
    "already-current": "good",
    "failed-restored": "back",
    "failed-unrestored": "bad",
    "unknown": "bad",
    "deferred": "wait",
    "held": "wait",
    "not-attempted": "wait",
    "under way": "wait",
    "waiting": "wait",
}
PHASE_OF = {"return": "restore"}  # the playbook that undrains after a snapshot came back
TONES = {
    "succeeded": "good",
    "rolled-back": "back",
    "failed": "bad",
    "stopped": "wait",
    "refused": "wait",
    None: "wait",
}
LOG_LIMIT = 5_000


def render(
    folder: Path, *, signers: Path | None = None, release: Release | None = None, run: str | None = None
) -> Path:
    """Writes `wave.html` beside the evidence; a `release` with the wave's own digest adds its advisories."""
    records, verdict = inspect(folder, signers)
    target = folder / FILE
    fresh = folder / f".{FILE}.{os.getpid()}"
    fresh.write_text(_drawn(folder, records, verdict, release, run), encoding="utf-8")
    fresh.replace(target)
    return target


def _drawn(folder: Path, records: Sequence[Record], verdict: Verdict, release: Release | None, run: str | None) -> str:
    try:
        return page(records, verdict, release=release, run=run)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if verdict.signed != "wrong":
            raise
        # Only a record that was tampered with lacks what its kind always has.
        raise Failed(f"{folder / EVIDENCE}: {verdict.problem}: too damaged to draw ({error!r})") from None


def page(records: Sequence[Record], verdict: Verdict, *, release: Release | None = None, run: str | None = None) -> str:
    """The page of one run as HTML; every value that comes from evidence is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"moment": moment, "day": day, "clock": clock, "length": length}
    return environment.get_template("wave.html.j2").render(
        wave=view(records, verdict, release=release, run=run), phases=PHASES
    )


def moment(at: datetime | str) -> str:
    """`Mon 23 Nov 2026, 09:00 UTC`."""
    return f"{_time(at):%a} {day(at)}, {_time(at):%H:%M} UTC"


def day(at: datetime | str) -> str:
    """`23 Nov 2026`."""
    return f"{_time(at).day} {_time(at):%b %Y}"


def clock(at: datetime | str) -> str:
    """`09:00:07`."""
    return f"{_time(at):%H:%M:%S}"


def length(duration: timedelta | float) -> str:
    """`5.0 s`, `52 s`, `3 min 12 s`, `24 h`, `2 d 03 h`: the two largest units."""
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for (unit, size), (finer, fine) in pairwise(units):
        if whole >= size * (2 if unit == "d" else 1):
            rest = whole % size // fine
            return f"{whole // size} {unit}" + (f" {rest:02} {finer}" if rest else "")
    return f"{whole} s"


def _time(at: datetime | str) -> datetime:
    return datetime.fromisoformat(at) if isinstance(at, str) else at


class Bar(NamedTuple):
    """One stretch of work on a host; `left` and `width` are percent of the drawn time."""

    kind: str
    ok: bool
    label: str
    left: float
    width: float


class Band(NamedTuple):
    """A phase or batch behind the bars of all hosts."""

    label: str
    left: float
    width: float


class Mark(NamedTuple):
    """A gate, at the instant when it was judged."""

    label: str
    passed: bool
    left: float


class Tick(NamedTuple):
    """A time on the axis, or a stretch left out of it."""

    label: str
    left: float
    broken: bool


@dataclass
class HostRow:
    """One planned host from plan to end state."""

    name: str
    state: str
    tone: str
    reason: str
    plan: Mapping[str, Any]
    changed: int
    rebooted: bool
    bars: list[Bar] = field(default_factory=list)


class Fleet(NamedTuple):
    """A fleet of the wave: its service and method, its hosts, and how many of them are current."""

    service: str
    name: str
    method: str
    hosts: int
    current: int


class Change(NamedTuple):
    """What became of one package: each (before, after) with the hosts that saw it."""

    name: str
    moves: list[tuple[str | None, str | None, list[str]]]


@dataclass
class Source:
    """The packages built from one source, with what fixed them."""

    name: str
    advisories: list[Advisory] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


@dataclass(frozen=True)
class Work:
    """An interval of one host's or phase's time."""

    kind: str
    start: datetime
    end: datetime
    ok: bool = True
    what: str = ""


class Scale:
    """Maps times to percent; idle stretches much longer than the work are drawn short."""

    def __init__(self, busy: Iterable[Work], start: datetime, end: datetime) -> None:
        spans = [(start, start), *sorted((max(w.start, start), min(w.end, end)) for w in busy), (end, end)]
        active = [spans[0]]
        for begins, ends in spans[1:]:
            if begins <= active[-1][1]:
                active[-1] = (active[-1][0], max(active[-1][1], ends))
            else:
                active.append((begins, ends))
        work = sum(((ends - begins) for begins, ends in active), timedelta())
        longest = max(timedelta(seconds=30), work / 4)
        self.pieces: list[tuple[datetime, datetime, float, bool]] = []
        for place, (begins, ends) in enumerate(active):
            if place:
                idle = begins - active[place - 1][1]
                drawn = min(idle, longest)
                self.pieces.append((active[place - 1][1], begins, drawn.total_seconds(), idle > 2 * longest))
            self.pieces.append((begins, ends, (ends - begins).total_seconds(), False))
        self.total = sum(piece[2] for piece in self.pieces) or 1.0

    def at(self, when: datetime) -> float:
        """Where an instant is drawn, in percent."""
        drawn = 0.0
        for begins, ends, width, _ in self.pieces:
            if when < ends:
                part = (when - begins) / (ends - begins) if when > begins else 0.0
                return round(100 * (drawn + part * width) / self.total, 3)
            drawn += width
        return 100.0

    def ticks(self) -> list[Tick]:
        """Round times at a readable distance, and one tick for each stretch that was cut short."""
        steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
        step = next((step for step in steps if self.total / step <= 8), steps[-1])
        marks: list[Tick] = []
        for begins, ends, width, cut in self.pieces:
            if cut:
                marks.append(Tick(length(ends - begins), (self.at(begins) + self.at(ends)) / 2, True))
                continue
            at = datetime.fromtimestamp(-(-begins.timestamp() // step) * step, begins.tzinfo)
            while width and at <= ends:
                marks.append(Tick(f"{at:%H:%M:%S}" if step < 60 else f"{at:%H:%M}", self.at(at), False))
                at += timedelta(seconds=step)
        kept: list[Tick] = [mark for mark in marks if mark.broken]
        for mark in marks:
            if not mark.broken and all(abs(mark.left - other.left) >= 7 for other in kept):
                kept.append(mark)
        return sorted(kept, key=lambda tick: tick.left)


def view(
    records: Sequence[Record], verdict: Verdict, *, release: Release | None = None, run: str | None = None
) -> dict[str, Any]:
    """Everything that the page shows, as plain values: pure, and therefore tested without a browser."""
    shown = summary(records, verdict, run=run)
    mine = [record for record in records if record.run == shown["run"]]
    started = next((record.data for record in mine if record.kind == "wave-started"), {})
    decided: Mapping[str, Any] = next((record.data["decision"] for record in mine if record.kind == "decision"), {})
    genuine = release if release is not None and release.digest == started.get("digest") else None
    begins, ends = _time(mine[0].at), _time(mine[-1].at)
    stages = _stages(mine, ends)
    works = {host["name"]: list(_host_works(host["name"], mine, stages)) for host in shown["hosts"]}
    scale = Scale([work for all_of_one in works.values() for work in all_of_one], begins, ends)
    rows = list(_rows(shown["hosts"], started, mine, works, scale))
    if shown["ended"] is None:
        for row in rows:
            if row.state == "not-attempted":
                row.state = "under way" if _touched(works[row.name]) else "waiting"
    rows.sort(key=lambda row: (_number(row.plan.get("batch")), row.name))
    counts = Counter(row.state for row in rows)
    sources = _sources(shown["hosts"], genuine)
    checks = [record.data for record in mine if record.kind == "check"]
    moved = sum(row.changed > 0 and row.tone == "good" for row in rows)
    return {
        **shown,
        "tone": TONES.get(shown["outcome"], "bad"),
        "reason": next((r.data.get("reason") for r in reversed(mine) if r.kind == "wave-ended"), None),
        "headline": _headline(shown["outcome"], counts, len(rows)),
        "digest": started.get("digest", ""),
        "window": decided.get("calendar"),
        "soak": decided.get("soak"),
        "approved": decided.get("approved"),
        "waived": [_waived(row, begins) for row in started.get("waivers", ())],
        "shift": (shown["rehearsal"] or {}).get("shift_seconds"),
        "duration": ends - begins,
        "rows": rows,
        "fleets": _fleets(rows),
        "left_alone": started.get("left_alone", []),
        "moved": moved,
        "counts": [(state, counts[state], STATES[state]) for state in STATES if counts[state]],
        "bands": list(_bands(stages, scale)),
        "marks": [
            Mark(_gate_name(r.data), bool(r.data.get("passed")), scale.at(_time(r.at)))
            for r in mine
            if r.kind == "gate"
        ],
        "ticks": scale.ticks(),
        "kinds": [kind for kind in PHASES if any(bar.kind == kind for row in rows for bar in row.bars)],
        "sources": sources,
        "packages": sum(len(source.changes) for source in sources),
        "advisories": len(genuine.advisories) if genuine else None,
        "cves": len(genuine.cves) if genuine else None,
        "checks": len(checks),
        "complaints": [check for check in checks if not check.get("ok")],
        "events": list(_events(mine)),
        "verdict": verdict,
        "log": [(record, _digestible(record)) for record in mine[-LOG_LIMIT:]],
        "skipped": max(0, len(mine) - LOG_LIMIT),
    }


def _waived(row: Mapping[str, Any], at: datetime) -> str:
    """One waiver that a run kept to, as a line."""
    return line(Waiver.model_validate_json(json.dumps(row)), at)


def _headline(outcome: str | None, counts: Mapping[str, int], planned: int) -> str:
    done = counts.get("patched", 0) + counts.get("already-current", 0)
    if outcome is None:
        return f"Under way: {done} of {planned} hosts done"
    if outcome == "refused":
        return "Refused: no host was touched"
    if outcome == "succeeded" and done == planned:
        return f"All {planned} hosts are current" if planned != 1 else "The host is current"
    if outcome == "succeeded":
        return f"{done} of {planned} hosts are current"
    undone = counts.get("failed-restored", 0)
    lost = counts.get("failed-unrestored", 0) + counts.get("unknown", 0)
    parts = [f"{undone} restored"] * bool(undone)
    parts += [f"{lost} {'needs' if lost == 1 else 'need'} a hand"] * bool(lost)
    parts += [f"{counts['not-attempted']} not attempted"] * bool(counts.get("not-attempted"))
    if outcome == "stopped":
        parts.insert(0, f"{done} of {planned} hosts are current")
    word = {"rolled-back": "Taken back", "stopped": "Stopped"}.get(outcome, "Failed")
    return f"{word}: {', '.join(parts) or f'{done} of {planned} hosts are current'}"


def _gate_name(data: Mapping[str, Any]) -> str:
    batch = f"batch {data['batch']}" if data.get("batch") is not None else ""
    return " ".join(str(part) for part in (data.get("ring"), batch) if part) or str(data.get("gate", "gate"))


class Stage(NamedTuple):
    """A phase or batch; `hosts` is None where the record names none, which means all of them."""

    work: Work
    label: str
    hosts: frozenset[str] | None


def _stages(mine: Sequence[Record], end: datetime) -> list[Stage]:
    """Each phase or batch by its start; one without an end lasts until the last record."""
    open_at: dict[tuple[str, ...], tuple[datetime, Mapping[str, Any]]] = {}
    found: list[Stage] = []

    def close(begun: tuple[datetime, Mapping[str, Any]], until: datetime) -> None:
        since, data = begun
        name = str(data.get("phase"))
        hosts = data.get("hosts")
        label = _gate_name(data) if name == "patch" else name
        found.append(Stage(Work(name, since, until), label, None if hosts is None else frozenset(hosts)))

    for record in mine:
        if record.kind != "phase":
            continue
        key = tuple(str(record.data.get(part)) for part in ("phase", "ring", "batch"))
        if record.data.get("event") == "started":
            if key in open_at:  # it was killed, and a later process began it again
                close(open_at.pop(key), _time(record.at))
            open_at[key] = (_time(record.at), record.data)
        elif key in open_at:
            close(open_at.pop(key), _time(record.at))
    for begun in open_at.values():
        close(begun, end)
    return sorted(found, key=lambda stage: stage.work.start)


def _bands(stages: Sequence[Stage], scale: Scale) -> Iterator[Band]:
    """The stages side by side: one that lies within another cuts it short."""
    for place, (work, label, _) in enumerate(stages):
        end = min([work.end, *(later.work.start for later in stages[place + 1 :])])
        yield Band(label, scale.at(work.start), scale.at(end) - scale.at(work.start))


def _host_works(host: str, mine: Sequence[Record], stages: Sequence[Stage]) -> Iterator[Work]:
    """What was done on one host: its steps where they were recorded, else its share of the phase."""
    for stage, _, hosts in stages:
        reported = [
            record
            for record in mine
            if record.kind == "host"
            and PHASE_OF.get(str(record.data.get("phase")), record.data.get("phase")) == stage.kind
            and stage.start <= _time(record.at) <= stage.end
        ]
        steps = [record for record in reported if record.data.get("host") == host]
        if steps:
            yield from _placed(stage, steps)
        elif (host in hosts) if hosts is not None else not reported:
            ok = all(
                record.data.get("ok") is not False
                for record in mine
                if record.kind == stage.kind and record.data.get("host") == host
            )
            yield Work(stage.kind, stage.start, stage.end, ok)


def _placed(stage: Work, steps: Sequence[Record]) -> Iterator[Work]:
    """The steps of one host in one phase, end to end; those reported in the same instant share the phase evenly."""
    since = stage.start
    together = len({record.at for record in steps}) == 1 and len(steps) > 1
    for record in steps:
        until = since + (stage.end - stage.start) / len(steps) if together else _time(record.at)
        step = str(record.data.get("step") or stage.kind)
        kind = step if step in PHASES and stage.kind not in {"preflight", "protect", "prove"} else stage.kind
        yield Work(kind, since, until, bool(record.data.get("ok", True)), step)
        since = until


def _rows(
    hosts: Sequence[Mapping[str, Any]],
    started: Mapping[str, Any],
    mine: Sequence[Record],
    works: Mapping[str, Sequence[Work]],
    scale: Scale,
) -> Iterator[HostRow]:
    plans = {plan["name"]: plan for plan in started.get("planned", [])}
    for host in hosts:
        name = host["name"]
        before, after = host["before"], host["after"]
        row = HostRow(
            name=name,
            state=host["state"],
            tone=STATES.get(host["state"], "bad"),
            reason=host.get("reason") or "",
            plan=plans.get(name, {}),
            changed=sum(before.get(package) != version for package, version in after.items()),
            rebooted=any(
                record.kind == "host" and record.data.get("host") == name and _rebooted(record.data) for record in mine
            ),
        )
        for work in works[name]:
            kind = work.kind if work.kind in PHASES else "other"
            outcome = "" if work.ok else ", failed"
            label = f"{work.what or work.kind}{outcome}: {clock(work.start)}, {length(work.end - work.start)}"
            left = scale.at(work.start)
            row.bars.append(Bar(kind, work.ok, label, left, max(scale.at(work.end) - left, 0.2)))
        yield row


def _touched(works: Iterable[Work]) -> bool:
    return any(work.kind not in {"preflight", "protect", "prove"} for work in works)


def _number(batch: Any) -> float:
    return batch if isinstance(batch, int) else float("inf")


def _rebooted(data: Mapping[str, Any]) -> bool:
    result = data.get("summary")
    return data.get("step") == "reboot" and isinstance(result, Mapping) and result.get("rebooted") is True


def _sources(hosts: Sequence[Mapping[str, Any]], release: Release | None) -> list[Source]:
    """Package changes over all hosts, grouped by source package where the release has it."""
    moves: dict[str, dict[tuple[str | None, str | None], list[str]]] = {}
    for host in hosts:
        for package in sorted({*host["before"], *host["after"]}):
            pair = (host["before"].get(package), host["after"].get(package))
            moves.setdefault(package, {}).setdefault(pair, []).append(host["name"])
    known = {package.name: package for package in release.packages} if release else {}
    fixes = {advisory.id: advisory for advisory in release.advisories} if release else {}
    found: dict[str, Source] = {}
    for package in sorted(moves):
        sealed = known.get(package)
        source = found.setdefault(sealed.source if sealed else package, Source(sealed.source if sealed else package))
        pairs = sorted(moves[package].items(), key=lambda move: move[0][0] == move[0][1])
        source.changes.append(Change(package, [(*pair, names) for pair, names in pairs]))
        for key in sealed.advisories if sealed else ():
            if key in fixes and fixes[key] not in source.advisories:
                source.advisories.append(fixes[key])
    return [found[name] for name in sorted(found)]


class Event(NamedTuple):
    """An event that a reader should see: a gate, a rollback, or a step that failed."""

    at: str
    tone: str
    title: str
    reason: str
    samples: list[tuple[str, str]]


def _events(mine: Sequence[Record]) -> Iterator[Event]:
    for record in mine:
        data = record.data
        if record.kind == "gate":
            passed = bool(data.get("passed"))
            title = f"Gate after {_gate_name(data)} {'passed' if passed else 'did not pass'}"
            yield Event(record.at, "good" if passed else "bad", title, str(data.get("reason") or ""), _samples(data))
        elif record.kind == "restore":
            ok = bool(data.get("ok"))
            how = "taken back" if ok else "could not be taken back"
            title = f"{data.get('host')} {how} by {data.get('method')}"
            yield Event(record.at, "back" if ok else "bad", title, str(data.get("reason") or ""), [])
        elif record.kind == "host" and data.get("ok") is False:
            result = data.get("summary")
            why = (
                str(result.get("problem") or result.get("reason") or result.get("msg") or "")
                if isinstance(result, Mapping)
                else ""
            )
            yield Event(record.at, "bad", f"{data.get('host')}: {data.get('step')} failed", why, [])


def _samples(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What each gate that counts answers has measured, in words."""
    words = []
    for reading in data.get("readings", ()):
        for when in ("before", "during", "after") if reading["counted"] else ():
            sample = reading[when]
            median = sample["median_ms"]
            speed = f", median {median:.0f} ms" if median is not None else ""
            words.append((when, f"{sample['requests']} requests, {sample['failed']} failed{speed}"))
    return words


def _fleets(rows: Sequence[HostRow]) -> list[Fleet]:
    """Each service and fleet with how many of its hosts are current."""
    found: dict[tuple[str, str, str], list[HostRow]] = {}
    for row in rows:
        key = tuple(str(row.plan.get(part, "")) for part in ("service", "fleet", "method"))
        found.setdefault((key[0], key[1], key[2]), []).append(row)
    return [Fleet(*key, len(mine), sum(row.tone == "good" for row in mine)) for key, mine in sorted(found.items())]


def _digestible(record: Record) -> str:
    """A record's content on one line, cut where it gets long."""
    text = canonical({key: value for key, value in record.data.items() if key != "host"}).decode()
    return text if len(text) <= 240 else f"{text[:240]}…"
