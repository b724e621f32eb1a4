"""Waivers: what one covers, when it counts, what is refused, and that everything that follows from it ends with it."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from patchwave.authorization import promotion
from patchwave.authorization.inputs import from_files
from patchwave.base.errors import Refused
from patchwave.config import stackfile
from patchwave.config.order import Addresses, Named, Order
from patchwave.config.settings import Settings, StackFile, load_stack
from patchwave.config.standard import Severity
from patchwave.evidence.chain import Chain
from patchwave.releases import release as releases
from patchwave.releases import waivers
from patchwave.releases.release import Advisory, Release
from patchwave.releases.waivers import Waiver
from tests.unit.builders import NOW, STANDARD, copy_desk, host, pending, release, settings

END = NOW + timedelta(days=20)
FLEETS = ("web", "machines", "sites")


def document(**changed: Any) -> dict[str, Any]:
    """A waiver file's data that the standard allows."""
    fields = {
        "id": "W-1",
        "scope": {"packages": ["openssl"], "stacks": ["dev"]},
        "severity": "high",
        "owner": "team@dcmms.com",
        "reason": "The vendor's agent breaks with the new library",
        "granted": NOW.isoformat(),
        "expires": END.isoformat(),
        "approved_by": [{"role": "Security Lead", "person": "security-lead@dcmms.com"}],
    }
    return fields | changed


def write(project: Path, **changed: Any) -> Path:
    data = document(**changed)
    path = project / "waivers" / f"{data['id']}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def waiver(**changed: Any) -> Waiver:
    return Waiver.model_validate_json(json.dumps(document(**changed)))


def scope(**fields: Any) -> dict[str, Any]:
    return {"stacks": ["dev"], **fields}


def sealed(*names: str, severity: Severity = "high", cves: tuple[str, ...] = ("CVE-2026-1000",)) -> Release:
    """A release whose advisories each have these CVEs and that severity."""
    made = release(*(pending(name) for name in names or ("openssl",)))
    advisories = tuple(one.model_copy(update={"severity": severity, "cves": cves}) for one in made.advisories)
    return made.model_copy(update={"advisories": advisories})


def advisory(**changed: Any) -> Advisory:
    (one,) = sealed().advisories
    return one.model_copy(update=changed)


def objections(project: Path, *ids: str, at: datetime = NOW, of: Release | None = None) -> list[str]:
    known = {one.id: one.waiver for one in waivers.read(project, STANDARD)}
    digests = {name: one.reference.digest for name, one in known.items() if one}
    ordered = [Named(id=name, digest=digests.get(name, "0" * 64)) for name in ids]
    found = waivers.relied(project, ordered, STANDARD, of or sealed())
    shown = list(waivers.objections(found, "dev", at))
    assert not any("\n" in one for one in shown)
    return shown


def test_a_waiver_that_the_standard_allows_may_be_relied_on(tmp_path: Path) -> None:
    write(tmp_path)
    assert objections(tmp_path, "W-1") == []
    (one,) = waivers.require(tmp_path, "dev", ["W-1"], sealed(), STANDARD, NOW)
    assert one == waiver()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"expires": None}, "expires"),
        ({"expires": (NOW + timedelta(days=31)).isoformat()}, "it lasts 31 days, 30 days are allowed for high"),
        ({"expires": (NOW - timedelta(days=1)).isoformat()}, "before it is granted"),
        ({"expires": "2026-12-13"}, "expires: '2026-12-13' is none: write an instant such as"),
        ({"expires": "2026-12-13T09:00:00"}, "has no zone"),
        ({"severity": "critical", "expires": (NOW + timedelta(days=7)).isoformat()}, "CISO and CTO must approve"),
        ({"scope": scope(packages=["*"])}, "scope.packages.0"),
        ({"scope": scope(packages=["li*"])}, "scope.packages.0"),
        ({"scope": scope(packages=["-oDpkg::Pre-Invoke::=id"])}, "scope.packages.0"),
        ({"scope": scope(packages=[])}, "scope.packages"),
        ({"scope": scope()}, "neither advisories nor packages"),
        ({"scope": {"packages": ["openssl"], "stacks": []}}, "scope.stacks"),
        ({"scope": scope(packages=["openssl"], hosts=["*"])}, "scope.hosts.0"),
        ({"scope": scope(advisories=["CVE-2026-1"])}, "scope.advisories.0"),
        ({"reason": "because"}, "reason"),
        ({"owner": "security-lead@dcmms.com"}, "owns it and approves it"),
        ({"approved_by": []}, "approved_by"),
        ({"approved_by": [{"role": r, "person": "a@b.c"} for r in ("Security Lead", "CTO")]}, "approves it twice"),
        ({"approved_by": [{"role": "Security Lead", "person": "a@b.c"}]}, "a@b.c is not Security Lead"),
        ({"id": "W-2"}, "name the file W-2.yaml"),
        ({"forever": True}, "forever"),
    ],
)
def test_a_waiver_that_is_malformed_or_too_wide_is_refused_and_named(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    data = {key: value for key, value in document(**changed).items() if value is not None}
    (tmp_path / "waivers").mkdir()
    (tmp_path / "waivers" / "W-1.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    (shown,) = objections(tmp_path, "W-1")
    assert message in shown, shown
    assert "W-1" in shown
    with pytest.raises(Refused, match=r"waivers/W-1\.yaml"):
        waivers.load(tmp_path, STANDARD)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (END, "which expired 2026-12-13T09:00:00Z"),
        (NOW - timedelta(seconds=1), "which begins 2026-11-23T09:00:00Z"),
        (END - timedelta(seconds=1), None),
    ],
)
def test_a_waiver_counts_from_its_grant_until_its_expiry(tmp_path: Path, at: datetime, message: str | None) -> None:
    write(tmp_path)
    shown = objections(tmp_path, "W-1", at=at)
    assert [message in one for one in shown] == ([True] if message else [])
    assert all("patchwave waivers --stack dev --pin" in one for one in shown)


@pytest.mark.parametrize("name", ["W-9", "../../etc/passwd"])
def test_a_waiver_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match=f"waiver {name}: "):
        waivers.references(tmp_path, [name])
    (shown,) = objections(tmp_path, name)
    assert "there is no such file" in shown


def test_a_waiver_for_another_stack_is_no_help(tmp_path: Path) -> None:
    write(tmp_path, scope={"packages": ["openssl"], "stacks": ["prod"]})
    (shown,) = objections(tmp_path, "W-1")
    assert "which is for prod" in shown


def test_a_fix_more_severe_than_the_waiver_ends_it(tmp_path: Path) -> None:
    write(tmp_path)
    (shown,) = objections(tmp_path, "W-1", of=sealed(severity="critical"))
    assert "it is for high fixes" in shown
    assert "is critical" in shown
    assert waivers.waived([waiver()], sealed(severity="critical")) == {}
    assert objections(tmp_path, "W-1", of=sealed(severity="medium")) == []


def test_a_file_that_would_not_be_read_is_refused_and_not_skipped(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.rename(path.with_suffix(".yml"))
    with pytest.raises(Refused, match=r"name the file W-1\.yaml"):
        waivers.load(tmp_path, STANDARD)


@pytest.mark.parametrize(
    ("narrowed", "covered"),
    [
        ({"packages": ["openssl"]}, True),
        ({"packages": ["open*"]}, True),
        ({"packages": ["nginx"]}, False),
        ({"advisories": ["CVE-2026-1000"]}, True),
        ({"advisories": ["CVE-2026-1000"], "packages": ["nginx"]}, False),
        ({"advisories": ["CVE-2026-2000"]}, False),
        ({"advisories": ["openssl/3.0.20-1~deb12u2"]}, True),
    ],
)
def test_each_list_of_a_scope_narrows_it(narrowed: dict[str, Any], covered: bool) -> None:
    assert waiver(scope=scope(**narrowed)).covers("openssl", advisory()) == covered


def test_a_fix_of_two_cves_needs_both_waived() -> None:
    both = advisory(cves=("CVE-2026-1000", "CVE-2026-2000"))
    assert not waiver(scope=scope(advisories=["CVE-2026-1000"])).covers("openssl", both)
    assert waiver(scope=scope(advisories=["CVE-2026-1000", "CVE-2026-2000"])).covers("openssl", both)


def test_a_fix_without_cves_is_not_waived_by_one_that_names_cves() -> None:
    assert not waiver(scope=scope(advisories=["CVE-2026-1000"])).covers("openssl", advisory(cves=()))


@pytest.mark.parametrize(
    ("narrowed", "reached"),
    [
        ({}, True),
        ({"fleets": ["web"]}, True),
        ({"fleets": ["sites"]}, False),
        ({"hosts": ["dev-blue-*"]}, True),
        ({"hosts": ["dev-green-*"]}, False),
        ({"fleets": ["web"], "hosts": ["dev-green-0"]}, False),
    ],
)
def test_a_waiver_holds_only_where_its_scope_reaches(narrowed: dict[str, Any], reached: bool) -> None:
    one = waiver(scope=scope(packages=["openssl"], **narrowed))
    wanted = waivers.holds([one], sealed(), stack="dev", host=host("dev-blue-0"), now=NOW)
    assert wanted.packages == ({"openssl": "W-1"} if reached else {})
    assert waivers.holds([one], sealed(), stack="prod", host=host("dev-blue-0"), now=NOW).packages == {}


def test_holds_name_the_waiver_that_ends_first() -> None:
    longer = waiver(id="W-0", expires=(END + timedelta(days=1)).isoformat())
    found = waivers.holds([longer, waiver()], sealed(), stack="dev", host=host("a"), now=NOW)
    assert (found.packages, sorted(found.waivers)) == ({"openssl": "W-1"}, ["W-0", "W-1"])


def test_update_manager_excludes_for_whole_fleets_only() -> None:
    by_mask = waiver(scope=scope(packages=["postgresql-*"], fleets=["machines", "sites"]))
    by_cve = waiver(id="W-2", scope=scope(advisories=["CVE-2026-1000"]))
    single = waiver(id="W-3", scope=scope(packages=["bash"], hosts=["dev-vm-0"]))
    found = waivers.package_excludes([by_mask, by_cve, single], stack="dev", fleets=["machines"], release=sealed())
    assert found == ("openssl", "postgresql-*")
    assert waivers.package_excludes([by_mask], stack="dev", fleets=["web"], release=None) == ()
    assert waivers.package_excludes([by_mask], stack="prod", fleets=["machines"], release=None) == ()


def scheduled(stack_settings: Settings, *names: str) -> Settings:
    fleets = {
        name: fleet.model_copy(update={"method": "update_manager"}) if name in names else fleet
        for name, fleet in stack_settings.fleets.items()
    }
    return stack_settings.model_copy(update={"fleets": fleets})


@pytest.mark.parametrize(
    ("narrowed", "names", "refused"),
    [
        ({"hosts": ["dev-vm-0"]}, ("machines",), True),
        ({"fleets": ["machines"]}, ("machines", "sites"), True),
        ({"fleets": ["machines"]}, ("machines",), False),
        ({"fleets": ["web"], "hosts": ["dev-blue-0"]}, ("machines",), False),
        ({"hosts": ["dev-vm-0"]}, (), False),
        ({}, ("machines",), False),
    ],
)
def test_a_waiver_that_update_manager_could_not_keep_to_is_refused(
    narrowed: dict[str, Any], names: tuple[str, ...], refused: bool
) -> None:
    one = waiver(scope=scope(packages=["openssl"], **narrowed))
    if refused:
        with pytest.raises(Refused, match=r"waiver W-1 .* Update Manager"):
            waivers.resolve([one], "dev", scheduled(settings(), *names), NOW)
    else:
        assert waivers.resolve([one], "dev", scheduled(settings(), *names), NOW) == (one,)


def test_a_stack_file_names_only_what_counts_now_and_there() -> None:
    others = [
        waiver(id="W-0", scope={"packages": ["openssl"], "stacks": ["prod"]}),
        waiver(id="W-2", granted=(NOW - timedelta(days=9)).isoformat(), expires=NOW.isoformat()),
    ]
    assert [one.id for one in waivers.resolve([*others, waiver()], "dev", settings(), NOW)] == ["W-1"]


def test_the_scanner_ignores_exactly_the_waived_findings() -> None:
    by_mask = waiver()
    by_cve = waiver(id="W-2", scope=scope(advisories=["CVE-2026-2000", "nginx/9"]))
    single = waiver(id="W-3", scope=scope(advisories=["CVE-2026-3000"], hosts=["dev-vm-0"]))
    rows = waivers.trivy_ignores([by_mask, by_cve, single], sealed(), stack="dev", fleets=FLEETS, now=NOW)
    assert [(row["id"], row.get("purls")) for row in rows["vulnerabilities"]] == [
        ("CVE-2026-1000", ["pkg:deb/debian/openssl", "pkg:deb/ubuntu/openssl"]),
        ("CVE-2026-2000", None),
    ]
    assert {row["expired_at"] for row in rows["vulnerabilities"]} == {"2026-12-13T09:00:00Z"}
    assert all(row["statement"].startswith(("W-1: ", "W-2: ")) for row in rows["vulnerabilities"])


def due(at: datetime, *some: Waiver) -> datetime:
    return waivers.pauses(some, "dev", NOW)(host("a"), "openssl", advisory(published=NOW), at)[0]


def test_a_waiver_stops_the_clock_while_it_counts_and_revives_nothing_overdue() -> None:
    week = NOW + timedelta(days=7)
    assert due(week) == week
    assert due(week, waiver()) == week + timedelta(days=20)
    late = waiver(granted=(week + timedelta(days=1)).isoformat())
    assert due(week, late) == week
    before = waiver(granted=(NOW - timedelta(days=10)).isoformat())
    assert due(week, before) == week + timedelta(days=20)


@pytest.mark.parametrize(
    ("narrowed", "left"),
    [
        ({"packages": ["openssl"]}, {"nginx/3.0.20-1~deb12u2"}),
        ({"packages": ["openssl", "nginx"]}, set()),
        ({"packages": ["openssl"], "hosts": ["dev-blue-0"]}, {"nginx/3.0.20-1~deb12u2", "openssl/3.0.20-1~deb12u2"}),
    ],
)
def test_a_preview_asks_for_no_fix_that_no_host_need_have(narrowed: dict[str, Any], left: set[str]) -> None:
    known, one = sealed("openssl", "nginx"), waiver(scope=scope(**narrowed))
    excused = waivers.excused([one], known, stack="dev", fleets=FLEETS, now=NOW)
    assert {advisory.id for advisory in known.advisories} - excused == left
    assert waivers.excused([one], known, stack="dev", fleets=FLEETS, now=END) == frozenset()


spans = st.lists(st.tuples(st.integers(-20, 60), st.integers(1, 30)), max_size=4)


@given(spans, st.integers(1, 90))
def test_the_time_until_due_outside_of_waivers_is_what_the_standard_gives(
    taken: list[tuple[int, int]], days: int
) -> None:
    some = [
        waiver(
            id=f"W-{n:03}",
            granted=(NOW + timedelta(days=starts)).isoformat(),
            expires=(NOW + timedelta(days=starts + lasts)).isoformat(),
        )
        for n, (starts, lasts) in enumerate(taken)
    ]
    found = due(NOW + timedelta(days=days), *some)
    running = sum(
        not any(starts <= day < starts + lasts for starts, lasts in taken) for day in range((found - NOW).days)
    )
    assert running == days
    assert due(NOW + timedelta(days=days), *reversed(some)) == found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project with a sealed release that dev carries out, and one waiver."""
    copy_desk(tmp_path)
    made = sealed()
    releases.save(tmp_path, made.model_copy(update={"digest": releases.digest(made.plain())}))
    stackfile.set_release(tmp_path, "dev", made.id)
    write(tmp_path)
    return tmp_path


class Consequences(NamedTuple):
    """All that follows from the waivers of a stack, at an instant."""

    excluded: list[str]
    held: dict[str, str]
    ignored: list[str]
    waits: bool
    reported: list[str]
    work: str


def pin(project: Path, now: datetime) -> None:
    """What `patchwave waivers --stack dev --pin` does, at an instant."""
    chosen = waivers.resolve(waivers.load(project, STANDARD), "dev", settings(), now)
    stackfile.set_waivers(project, "dev", [one.id for one in chosen])


def ordered(file: StackFile, release: releases.Release, kept: Sequence[Waiver]) -> Order:
    return Order(
        stack="dev",
        release=Named(id=release.id, digest=release.digest),
        waivers=tuple(one.reference for one in kept),
        standard="0" * 64,
        settings=file.settings,
        addresses=Addresses(),
    )


def consequences(project: Path, now: datetime) -> Consequences:
    """What a preview declares, what a wave would do then, and what scans, due times and reports say."""
    known = releases.load(project, "2026-11-22.1")
    file = load_stack(project, "dev")
    ids = file.waivers
    pinned = waivers.require(project, "dev", ids, known, STANDARD, now)
    ignores = waivers.trivy_ignores(pinned, known, stack="dev", fleets=FLEETS, now=now)
    (fix,) = known.advisories
    return Consequences(
        excluded=list(waivers.package_excludes(pinned, stack="dev", fleets=FLEETS, release=known)),
        held=waivers.holds(pinned, known, stack="dev", host=host("a"), now=now).packages,
        ignored=[row["id"] for row in ignores["vulnerabilities"]],
        waits=waivers.pauses(pinned, "dev", now)(host("a"), "openssl", fix, NOW)[1],
        reported=[waivers.line(one, now) for one in pinned],
        work=ordered(file, known, pinned).work,
    )


def test_at_its_expiry_everything_that_follows_from_a_waiver_goes_back_in_the_same_preview(
    project: Path,
) -> None:
    def refused(at: datetime) -> list[str]:
        wanted = from_files(project, "dev", releases.load(project, "2026-11-22.1"), at=at, environ={})
        return list(waivers.objections(wanted.waivers, "dev", at))

    last = END - timedelta(seconds=1)
    pin(project, last)
    before = consequences(project, last)
    assert before.excluded == ["openssl"]
    assert before.held == {"openssl": "W-1"}
    assert before.ignored == ["CVE-2026-1000"]
    assert before.waits
    assert len(before.reported) == 1
    assert refused(last) == []
    (shown,) = refused(END)
    assert "W-1, which expired" in shown
    with pytest.raises(Refused, match="W-1, which expired"):
        consequences(project, END)
    pin(project, END)
    assert refused(END) == []
    after = consequences(project, END)
    assert after == Consequences([], {}, [], False, [], after.work)
    assert before.work != after.work, "other waivers run the wave again"


def test_a_waiver_that_is_renewed_runs_no_wave_and_one_that_covers_something_else_does() -> None:
    assert (
        waiver(expires=(END + timedelta(days=1)).isoformat(), reason="Still not fixed").reference == waiver().reference
    )
    others = [waiver(scope=scope(packages=["openssl"], hosts=["a"])), waiver(severity="medium"), waiver(id="W-2")]
    assert len({waiver().reference, *(one.reference for one in others)}) == 4


def test_a_waiver_that_covers_something_else_than_when_it_was_ordered_is_not_relied_on(project: Path) -> None:
    (then,) = waivers.references(project, ["W-1"])
    assert [one.problem for one in waivers.relied(project, [then], STANDARD, None)] == [None]
    write(project, scope=scope(packages=["openssl", "nginx"]))
    assert [one.problem for one in waivers.relied(project, [then], STANDARD, None)] == [
        "it covers something else than when this was ordered"
    ]


def test_a_wave_that_kept_to_other_waivers_is_not_done(tmp_path: Path) -> None:
    with Chain.open(promotion.folder(tmp_path, "dev", "2026-11-22.1")) as chain:
        started = {"stack": "dev", "digest": "d" * 64, "waivers": [waiver().model_dump(mode="json")]}
        for kind, data in (("wave-started", started), ("wave-ended", {"outcome": "succeeded"})):
            chain.append(kind, "run-1", data, at=NOW)
    wanted = tmp_path, "dev", "2026-11-22.1", "d" * 64
    assert promotion.is_done(*wanted, [waiver().reference])
    assert not promotion.is_done(*wanted, [])
    assert not promotion.is_done(*wanted, [waiver(severity="medium").reference])


@given(st.lists(st.integers(0, 40), min_size=1, max_size=3), st.integers(0, 60))
def test_every_consequence_of_a_waiver_lasts_exactly_as_long_as_it(ends: list[int], day: int) -> None:
    some = [waiver(id=f"W-{n:03}", expires=(NOW + timedelta(days=end + 1)).isoformat()) for n, end in enumerate(ends)]
    now = NOW + timedelta(days=day)
    counts = any(day < end + 1 for end in ends)
    (fix,) = sealed().advisories
    _, paused = waivers.pauses(some, "dev", now)(host("a"), "openssl", fix, now)
    assert bool(waivers.holds(some, sealed(), stack="dev", host=host("a"), now=now).packages) == counts
    assert bool(waivers.trivy_ignores(some, sealed(), stack="dev", fleets=FLEETS, now=now)["vulnerabilities"]) == counts
    assert paused == counts
    pinned = waivers.resolve(some, "dev", settings(), now)
    assert bool(waivers.package_excludes(pinned, stack="dev", fleets=FLEETS, release=sealed())) == counts
    assert any("(active," in waivers.line(one, now) for one in some) == counts
