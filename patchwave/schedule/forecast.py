"""Which fixes a stack cannot have in time, asked with the project's own files: standard, calendars, evidence."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

from patchwave.authorization import emergency as emergencies
from patchwave.authorization import permission
from patchwave.base import clock
from patchwave.base.clock import hours, spell
from patchwave.calendar.windows import Calendar, Opening
from patchwave.config.settings import Settings, StackFile, load_stack
from patchwave.config.standard import Criteria, StackName, Standard
from patchwave.evidence import signing
from patchwave.releases import advisories, waivers
from patchwave.releases.release import Advisory, Release
from patchwave.releases.waivers import Waiver
from patchwave.schedule import durations
from patchwave.schedule.durations import Durations
from patchwave.schedule.rollout import RESERVE
from patchwave.schedule.sla import current
from patchwave.schedule.solver import Fix, Leg, Miss, Openings, Question, Ring, Seat


class Chain(NamedTuple):
    """The waves that must come before a stack's own, and when the last one that has been succeeded."""

    legs: tuple[Leg, ...]
    proved: datetime | None


class View(NamedTuple):
    """All that the due times of a release on a stack depend on, but for its hosts.

    `advisories` are the release's as they count now; `emergency` says that an open emergency is bound to it. `waivers`
    are all that there are, past ones too, and `kept` those that the stack's file names.
    """

    stack: StackName
    settings: Settings
    standard: Standard
    release: Release
    advisories: Mapping[str, Advisory]
    chain: Chain
    taken: Durations
    emergency: bool
    waivers: tuple[Waiver, ...]
    kept: tuple[Waiver, ...]

    def fixes(self, reaching: Iterable[Waiver]) -> dict[str, Fix]:
        """Each advisory of the release with the instant at which it is due where these waivers reach."""
        found: dict[str, Fix] = {}
        reaching = tuple(reaching)
        for package in self.release.packages:
            for key in package.advisories:
                advisory = self.advisories[key]
                due = self.standard.due(advisory.published, advisory.severity)
                fix = Fix(key, waivers.postponed(reaching, package.name, advisory, due))
                found[key] = min(found.get(key, fix), fix)
        return found

    def declared(self, now: datetime) -> dict[str, list[Seat]]:
        """The hosts that the stack declares, by ring, as if each lacked every fix that no waiver excuses."""
        fleets = self.settings.fleets
        excused = waivers.excused(self.kept, self.release, stack=self.stack, fleets=fleets, now=now)
        fixes = self.fixes(waiver for waiver in self.waivers if waiver.reaches_all(self.stack, fleets))
        return _declared(self.stack, self.settings, (fix for key, fix in fixes.items() if key not in excused))

    def line(self, miss: Miss) -> str:
        """A miss on one line: what, on how many hosts, due when, possible when, and the remedy."""
        advisory, due = self.advisories[miss.fix.advisory], miss.fix.due
        cves = ", ".join(advisory.cves[:3]) + (f" and {len(advisory.cves) - 3} more" if len(advisory.cves) > 3 else "")
        if miss.earliest is None:
            end = "no opening has room for the wave"
        else:
            end = f"next admissible end {spell(miss.earliest)}, +{hours(miss.earliest - due)}"
        fix = " and ".join(map(str, miss.remedy)) if miss.remedy else "nothing that the standard allows would do"
        on = f"{advisory.id}{f' ({cves})' if cves else ''} on {miss.hosts} host{'s' if miss.hosts > 1 else ''}"
        return f"{on} cannot be met: due {spell(due)}, {end}: {fix}"


def view(
    project: Path,
    stack: StackName,
    file: StackFile,
    release: Release,
    standard: Standard,
    now: datetime,
    environ: Mapping[str, str] = os.environ,
) -> View:
    """The project's files as they say it now."""
    knowledge, signers = advisories.load(project), signing.allowed_signers(project, environ)
    bound = emergencies.of_release(project, release.digest, signers, now)
    return View(
        stack=stack,
        settings=file.settings,
        standard=standard,
        release=release,
        advisories={advisory.id: current(advisory, knowledge, standard) for advisory in release.advisories},
        chain=_chain(project, stack, release, standard, environ),
        taken=durations.of_stack(project, stack),
        emergency=bound is not None and bound.closed is None and bound.problem is None,
        waivers=waivers.load(project, standard),
        kept=waivers.named(project, file.waivers),
    )


def ask(seen: View, seats: Mapping[str, Sequence[Seat]], now: datetime) -> Question:
    """The solver's question for these hosts, by ring."""
    return Question(
        legs=(*seen.chain.legs, _leg(seen.stack, seen.settings, seen.standard, seats, seen.taken)),
        now=now,
        proved=seen.chain.proved,
        emergency=seen.emergency,
        remedies=seen.standard.remedies,
        urgent=frozenset(key for key, one in seen.advisories.items() if _urgent(one, seen.standard.emergency.criteria)),
    )


def _urgent(advisory: Advisory, criteria: Criteria) -> bool:
    """Whether a fix meets what can be known of the criteria without asking anybody."""
    known = advisory.exploited or not criteria.exploit_available
    return known and advisory.cvss is not None and advisory.cvss >= criteria.cvss_from


def _declared(stack: str, settings: Settings, fixes: Iterable[Fix]) -> dict[str, list[Seat]]:
    """The hosts that a stack declares, by ring, as if each lacked these fixes; one Arc machine stands for all."""
    lacks, live = frozenset(fixes), settings.slots.live
    rings: dict[str, list[Seat]] = {}
    for name, is_live in (settings.declared_hosts(stack) | {"arc": False}).items():
        rings.setdefault(settings.rollout.ring_of(name, live).name, []).append(Seat(name, is_live, lacks))
    return rings


def _leg(
    stack: StackName, settings: Settings, standard: Standard, seats: Mapping[str, Sequence[Seat]], taken: Durations
) -> Leg:
    """A stack's wave as the solver sees it."""
    rollout, rules = settings.rollout, standard.stacks[stack]
    percent = standard.rolling.max_batch_percent
    rings = []
    for ring in rollout.rings:
        mine = sorted(seats.get(ring.name, ()))
        rings.append(
            Ring(
                name=ring.name,
                batch=ring.batch,
                batch_at_most=max(ring.batch, len(mine) * percent // 100),
                takes=_takes([seat.name for seat in mine], taken, rollout.host_takes),
                seats=mine,
            )
        )
    calendar, envelope = settings.calendar, rules.extra_window
    admits = calendar.model_copy(update={"windows": (envelope.whole,), "extra": ()})
    return Leg(
        stack=stack,
        rings=tuple(rings),
        away=rollout.live_out_of_service,
        away_at_most=max(rollout.live_out_of_service, settings.slots.instances * percent // 100),
        room=rollout.host_takes,
        reserve=RESERVE,
        before=RESERVE if taken.before is None else taken.before,
        after=taken.after or timedelta(0),
        soak=max(calendar.soak, rules.soak),
        soak_at_least=rules.soak,
        emergency_soak=rules.emergency_soak,
        routine=calendar.openings,
        emergency=partial(calendar.openings, lane="emergency"),
        admits=_noticed(admits, rules.notice),
        admits_at_most=envelope.longest,
    )


def _takes(hosts: Sequence[str], taken: Durations, declared: timedelta) -> timedelta:
    """How long a batch of these hosts takes: as long as the slowest, as declared where one was never measured."""
    known = [taken.hosts[host] + (taken.gate or timedelta(0)) for host in hosts if host in taken.hosts]
    return max([*known, declared] if len(known) < len(hosts) or not known else known)


def _noticed(calendar: Calendar, notice: timedelta) -> Openings:
    def openings(now: datetime) -> Iterator[Opening]:
        told = now + notice
        for opening in calendar.openings(told):
            yield Opening(max(told, opening.opens), opening.closes)

    return openings


def _chain(project: Path, stack: StackName, release: Release, standard: Standard, environ: Mapping[str, str]) -> Chain:
    """What a release must still go through before a stack may have it, on all hosts that are declared there."""
    legs: list[Leg] = []
    source = standard.stacks[stack].promoted_from
    while source is not None:
        proof = permission.prove(project, source, release.id, signing.allowed_signers(project, environ))
        believed = proof.problem is None and (clock.is_sandbox(environ) or not proof.rehearsal)
        if believed and (proof.outcome, proof.digest) == ("succeeded", release.digest):
            return Chain(tuple(legs), proof.ended)
        settings = load_stack(project, source).settings
        seats = _declared(source, settings, ())
        legs.insert(0, _leg(source, settings, standard, seats, durations.of_stack(project, source)))
        source = standard.stacks[source].promoted_from
    return Chain(tuple(legs), None)
