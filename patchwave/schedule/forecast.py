"""Which fixes a stack cannot have in time, from the project's own files: standard, calendars, evidence."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

from patchwave.authorization import emergency as emergencies
from patchwave.authorization import promotion
from patchwave.base import clock
from patchwave.base.clock import hours, spell
from patchwave.calendar.windows import Calendar, Opening
from patchwave.config.settings import Settings, load_stack
from patchwave.config.standard import Criteria, StackName, Standard
from patchwave.evidence import signing
from patchwave.releases import advisories, waivers
from patchwave.releases.release import Advisory, Release
from patchwave.releases.waivers import Waiver
from patchwave.schedule import durations
from patchwave.schedule.batches import RESERVE, count_of, groups, rings
from patchwave.schedule.durations import Durations
from patchwave.schedule.sla import current
from patchwave.schedule.solver import Fix, HostGroup, HostNeeds, Limit, Miss, Openings, Question, StackWave


class Before(NamedTuple):
    """The waves that must come before a stack's own, and when the last one that has been succeeded."""

    waves: tuple[StackWave, ...]
    proved: datetime | None


class Forecast(NamedTuple):
    """All that the due times of a release on a stack depend on, but for its hosts.

    `advisories` are the release's as they count now; `emergency`: an open emergency is bound to it. `waivers`
    are all that there are, past ones too, and `kept` those that the stack relies on.
    """

    stack: StackName
    settings: Settings
    standard: Standard
    release: Release
    advisories: Mapping[str, Advisory]
    before: Before
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

    def declared(self, now: datetime) -> list[HostNeeds]:
        """The hosts that the stack declares, as if each lacked every fix that no waiver excuses."""
        fleets = self.settings.fleets
        excused = waivers.excused(self.kept, self.release, stack=self.stack, fleets=fleets, now=now)
        fixes = self.fixes(waiver for waiver in self.waivers if waiver.reaches_all(self.stack, fleets))
        return _declared(self.stack, self.settings, (fix for key, fix in fixes.items() if key not in excused))

    def question(self, hosts: Sequence[HostNeeds], now: datetime, live: Mapping[str, int] | None = None) -> Question:
        """What the solver is given for these hosts; `live` counts those that users reach, where there are others."""
        criteria = self.standard.emergency.criteria
        return Question(
            waves=(*self.before.waves, _wave(self.stack, self.settings, self.standard, hosts, self.taken, live)),
            now=now,
            proved=self.before.proved,
            emergency=self.emergency,
            remedies=self.standard.remedies,
            urgent=frozenset(key for key, one in self.advisories.items() if _urgent(one, criteria)),
        )

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


def forecast(
    project: Path,
    stack: StackName,
    settings: Settings,
    release: Release,
    relied: Iterable[str],
    standard: Standard,
    now: datetime,
    environ: Mapping[str, str] = os.environ,
) -> Forecast:
    """The forecast of a release on a stack of these settings that relies on waivers of these ids."""
    knowledge, signers = advisories.load(project), signing.allowed_signers(project, environ)
    bound = emergencies.of_release(project, release.digest, signers, now)
    return Forecast(
        stack=stack,
        settings=settings,
        standard=standard,
        release=release,
        advisories={advisory.id: current(advisory, knowledge, standard) for advisory in release.advisories},
        before=_before(project, stack, release, standard, environ),
        taken=durations.of_stack(project, stack),
        emergency=bound is not None and bound.closed is None and bound.problem is None,
        waivers=waivers.load(project, standard),
        kept=waivers.named(project, relied),
    )


def _urgent(advisory: Advisory, criteria: Criteria) -> bool:
    """Whether a fix meets the criteria as far as that is known from data."""
    known = advisory.exploited or not criteria.exploit_available
    return known and advisory.cvss is not None and advisory.cvss >= criteria.cvss_from


def _declared(stack: str, settings: Settings, fixes: Iterable[Fix]) -> list[HostNeeds]:
    """The hosts that a stack declares, as if each lacked these fixes; one stands for all that exist already."""
    lacks, known = frozenset(fixes), settings.declared_hosts(stack)
    hosts = []
    for name, fleet in settings.fleets.items():
        if fleet.carried_out:
            mine = {host: live for host, (owner, live) in known.items() if owner == name} or {name: False}
            hosts += [HostNeeds(host, name, fleet.service, "", live, lacks) for host, live in mine.items()]
    return in_rings(hosts, settings)


def in_rings(hosts: Sequence[HostNeeds], settings: Settings) -> list[HostNeeds]:
    """These hosts in the rings that they are in when they are all that a wave patches."""
    ring = rings(hosts, settings)
    return [host._replace(ring=ring[host.name]) for host in hosts]


def _wave(
    stack: StackName,
    settings: Settings,
    standard: Standard,
    hosts: Sequence[HostNeeds],
    taken: Durations,
    live: Mapping[str, int] | None = None,
) -> StackWave:
    """A stack's wave as the solver sees it."""
    rollout, rules = settings.rollout, standard.stacks[stack]
    answering = Counter(host.service for host in hosts if host.live) if live is None else live
    limits, grouped = _groups(hosts, settings, standard.rolling.max_batch_percent, taken, answering)
    calendar, envelope = standard.calendar(stack, settings.calendar), rules.extra_window
    admits = calendar.model_copy(update={"windows": (envelope.whole,), "extra": ()})
    return StackWave(
        stack=stack,
        limits=limits,
        groups=grouped,
        room=rollout.batch_timeout,
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


def _groups(
    hosts: Sequence[HostNeeds], settings: Settings, percent: int, taken: Durations, live: Mapping[str, int]
) -> tuple[tuple[Limit, ...], tuple[HostGroup, ...]]:
    """The hosts in their groups, and the counts in the stack's file that decide how many go together.

    Each count may rise to that share of the hosts that it concerns, `max_unavailable` never so far that nobody answers.
    """
    found = list(groups(hosts, settings))
    largest: dict[str, int] = {}
    fields: list[frozenset[str]] = []
    for group in found:
        fleets = {host.fleet for host in group.hosts}
        fields.append(frozenset(_batch_field(fleet, group.ring, settings) for fleet in fleets))
        for field in fields[-1]:
            largest[field] = max(largest.get(field, 0), len(group.hosts))
    limits: dict[str, Limit] = {}
    for name, service in settings.services.items():
        answering = live.get(name, 0)
        field, now = f"services.{name}.max_unavailable", count_of(service.max_unavailable, answering)
        limits[field] = Limit(field, now, max(now, min(answering * percent // 100, answering - 1)))
    for fleet in settings.fleets:
        for ring in settings.rings(fleet):
            field = _batch_field(fleet, ring.name, settings)
            limits[field] = Limit(field, ring.batch, max(ring.batch, largest.get(field, 0) * percent // 100))
    number = {field: place for place, field in enumerate(limits)}
    grouped = (
        HostGroup(
            batch=tuple(sorted(number[field] for field in batch)),
            away=number[f"services.{group.service}.max_unavailable"],
            takes=_takes([host.name for host in group.hosts], taken, settings.rollout.batch_timeout),
            hosts=group.hosts,
        )
        for group, batch in zip(found, fields, strict=True)
    )
    return tuple(limits.values()), tuple(grouped)


def _batch_field(fleet: str, ring: str, settings: Settings) -> str:
    """Where a fleet's batch size in a ring stands in the stack's file."""
    own = settings.fleets[fleet].rings is not None
    return f"fleets.{fleet}.rings[{ring}].batch" if own else f"rollout.rings[{ring}].batch"


def _takes(hosts: Sequence[str], taken: Durations, declared: timedelta) -> timedelta:
    """How long a batch of these hosts takes: as long as the slowest, as declared where one was never measured."""
    known = [taken.hosts[host] + (taken.gate or timedelta(0)) for host in hosts if host in taken.hosts]
    return max([*known, declared] if len(known) < len(hosts) or not known else known)


def _noticed(calendar: Calendar, notice: timedelta) -> Openings:
    def openings(now: datetime) -> Iterator[Opening]:
        earliest = now + notice
        for opening in calendar.openings(earliest):
            yield Opening(max(earliest, opening.opens), opening.closes)

    return openings


def _before(
    project: Path, stack: StackName, release: Release, standard: Standard, environ: Mapping[str, str]
) -> Before:
    """What a release must still go through before a stack may have it, on all hosts that are declared there."""
    waves: list[StackWave] = []
    source = standard.stacks[stack].promoted_from
    while source is not None:
        proof = promotion.prove(project, source, release.id, signing.allowed_signers(project, environ))
        counts = proof.problem is None and (clock.is_sandbox(environ) or not proof.rehearsal)
        if counts and (proof.outcome, proof.digest) == ("succeeded", release.digest):
            return Before(tuple(waves), proof.ended)
        settings = load_stack(project, source).settings
        hosts = _declared(source, settings, ())
        waves.insert(0, _wave(source, settings, standard, hosts, durations.of_stack(project, source)))
        source = standard.stacks[source].promoted_from
    return Before(tuple(waves), None)
