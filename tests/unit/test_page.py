"""The wave's page: what it says is what the records say, and nothing in them can act on the reader."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwave.base.errors import Failed
from patchwave.evidence.chain import FILE, Chain, inspect, read
from patchwave.releases.release import Advisory, Package, Release, Sealed, digest
from patchwave.wave.page import Scale, Work, length, page, render, view

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
RUN = "20261123T090000Z-1a2b"
BATCHES = {1: ["dev-green-0"], 2: ["dev-blue-0", "dev-green-1", "site-arc-0"], 3: ["dev-blue-1", "dev-vm-0"]}
HOSTS = sorted(host for hosts in BATCHES.values() for host in hosts)
Story = Literal["clean", "restored", "running", "stuck"]

SOURCES: dict[str, tuple[list[str], str, str, int]] = {
    "openssl": (["openssl", "libssl3"], "3.0.17-1~deb12u2", "3.0.17-1~deb12u3", 3),
    "nginx": (["nginx-light", "nginx-common"], "1.22.1-9+deb12u1", "1.22.1-9+deb12u3", 2),
    "python3.11": (["python3.11", "libpython3.11-stdlib"], "3.11.2-6+deb12u5", "3.11.2-6+deb12u6", 9),
    "perl": (["perl-base"], "5.36.0-7+deb12u2", "5.36.0-7+deb12u3", 1),
    "postgresql-15": (["postgresql-15"], "15.13-0+deb12u1", "15.14-0+deb12u1", 2),
    "fieldops-desk": (["fieldops-desk"], "1.0.0", "1.0.1", 1),
}


def sealed() -> Release:
    """A release of a few Debian packages and the lab's own."""
    packages, advisories, number = [], [], 99000
    for source, (names, before, after, cves) in SOURCES.items():
        key = f"{source}/{after}"
        ids = tuple(f"CVE-2026-{number + n}" for n in range(cves))
        number += cves
        published = NINE - timedelta(days=2)
        advisories.append(
            Advisory(
                id=key,
                source=source,
                version=after,
                cves=ids,
                cvss=None,
                severity="high",
                published=published,
            )
        )
        for name in names:
            plain = {
                "name": name,
                "arch": "amd64",
                "from": before,
                "to": after,
                "sha256": "0" * 64,
                "size": 1,
            }
            extra = {"source": source, "advisories": (key,), "reversibility": "downgrade"}
            packages.append(Package.model_validate(plain | extra))
    draft = Release(
        id="2026-11-22.1",
        author="engineer@dcmms.com",
        sealed=Sealed(stack="dev", at=NINE - timedelta(days=1), hosts=tuple(HOSTS)),
        packages=tuple(packages),
        advisories=tuple(advisories),
        left_out=(),
        digest="0" * 64,
    )
    return draft.model_copy(update={"digest": digest(draft.plain())})


class Teller:
    """Writes the records of a wave as its driver does, on a clock of its own."""

    def __init__(self, folder: Path) -> None:
        self.chain = Chain.open(folder)
        self.now = NINE + timedelta(seconds=4)

    def say(self, kind: str, wait: float = 0.1, /, **data: Any) -> None:
        self.now += timedelta(seconds=wait)
        self.chain.append(kind, RUN, data, at=self.now)

    def phase(self, phase: str, hosts: Iterable[str], takes: float, **more: Any) -> None:
        hosts = list(hosts)
        self.say("phase", phase=phase, event="started", hosts=hosts, **more)
        for host in hosts:
            self.say("host", takes / len(hosts), host=host, phase=phase, step=phase, ok=True, summary={})
        self.say("phase", phase=phase, event="ended", hosts=hosts, **more)

    def batch(self, number: int, story: Story, failing: frozenset[str] = frozenset()) -> None:
        hosts = BATCHES[number]
        where: dict[str, Any] = {"ring": "canary" if number == 1 else "rest", "batch": number}
        self.say("phase", phase="patch", event="started", hosts=hosts, **where)
        for takes, step in (
            (2.4, "drain"),
            (9.5, "transaction"),
            (3.1, "reboot"),
            (2.2, "verify"),
            (1.7, "undrain"),
        ):
            for place, host in enumerate(hosts):
                if step == "undrain" and host in failing:
                    continue
                ok = not (step == "verify" and host in failing)
                result = {"rebooted": True} if step == "reboot" else {}
                if not ok:
                    result = {"reason": "503 from http://127.0.0.1/healthz: Unhealthy"}  # type: ignore[dict-item]
                after = takes if place == 0 else 0.3
                self.say("host", after, host=host, phase="patch", step=step, ok=ok, summary=result)
        passed = not failing
        reason = (
            "60 answers, median 4 ms, 0 failed meanwhile" if passed else f"{len(failing)} of {len(hosts)} unhealthy"
        )
        good = {"requests": 60, "failed": 0, "median_ms": 3.9}
        readings = [
            {"gate": "http", "counted": True, "before": good, "during": good, "after": good | {"median_ms": 4.2}}
        ]
        self.say("gate", 1.5, gate="batch", passed=passed, reason=reason, readings=readings, failed={}, **where)
        if failing:
            self.take_back(hosts, frozenset() if story == "restored" else failing)
        self.say("phase", phase="patch", event="ended", hosts=hosts, **where)

    def take_back(self, hosts: list[str], stuck: frozenset[str]) -> None:
        self.say("phase", phase="restore", event="started", hosts=hosts)
        for step, takes in (("restore", 7), ("verify", 2), ("undrain", 1.5)):
            for place, host in enumerate(hosts):
                ok = not (host in stuck and step == "verify")
                if ok and host in stuck and step == "undrain":
                    continue
                result = {} if ok else {"msg": "no answer from http://127.0.0.1/healthz within 60 s"}
                self.say(
                    "host",
                    takes if place == 0 else 0.2,
                    host=host,
                    phase="restore",
                    step=step,
                    ok=ok,
                    summary=result,
                )
        for host in hosts:
            ok = host not in stuck
            state = "failed-restored" if ok else "failed-unrestored"
            self.say(
                "restore",
                host=host,
                method="downgrade",
                ok=ok,
                state=state,
                reason="taken back with its batch",
            )
        self.say("phase", phase="restore", event="ended", hosts=hosts)


def tell(folder: Path, story: Story = "clean") -> Path:
    """A wave over six hosts: canary, then two batches."""
    teller = Teller(folder)
    batch_of = {host: number for number, hosts in BATCHES.items() for host in hosts}
    planned = [
        {
            "name": host,
            "ring": "canary" if batch_of[host] == 1 else "rest",
            "batch": batch_of[host],
            "source": "arc" if "arc" in host else "vm" if "vm" in host else "vmss",
            "slot": "blue" if "blue" in host else "green" if "green" in host else None,
            "live": "blue" in host,
        }
        for host in HOSTS
    ]
    teller.say(
        "wave-started",
        stack="dev",
        release="2026-11-22.1",
        digest=sealed().digest,
        rehearsal={"shift_seconds": 95400, "real_time": "2026-11-22T06:30:04Z"},
        planned=planned,
    )
    soak = {
        "stack": "dev",
        "run": RUN,
        "required_seconds": 86400,
        "elapsed_seconds": 90000,
        "real_seconds": 540,
        "shortened": True,
    }
    window = {"open": True, "reason": "inside business-hours", "closes": "2026-11-23T11:00:00Z"}
    decision = {"allowed": True, "calendar": window, "soak": soak, "approved": {"CTO": "cto@dcmms.com"}}
    teller.say("decision", before="wave", inputs={}, decision=decision)
    teller.say("phase", phase="preflight", event="started")
    teller.say("check", 2.5, host=HOSTS[0], name="repositories", ok=True, detail="")
    for host in HOSTS:
        teller.say("host", 0.01, host=host, phase="preflight", step="preflight", ok=True, summary={})
        for name in ("clock", "disk", "inodes", "dpkg_sane", "lock_free", "versions_available", "backup"):
            teller.say("check", 0.01, host=host, name=name, ok=True, detail="")
    teller.say("phase", phase="preflight", event="ended")
    teller.phase("protect", HOSTS, 6)
    failing = {"restored": frozenset({"dev-blue-0"}), "stuck": frozenset({"dev-blue-0"})}.get(story, frozenset())
    done: dict[str, str] = {}
    for number, hosts in BATCHES.items():
        bad = failing if number == 2 else frozenset()
        teller.batch(number, story, bad)
        done |= dict.fromkeys(hosts, "patched")
        if bad:
            for host in hosts:
                stuck = story == "stuck" and host in bad
                done[host] = "failed-unrestored" if stuck else "failed-restored"
            break
        if story == "running" and number == 2:
            teller.say("phase", phase="patch", event="started", ring="rest", batch=3, hosts=BATCHES[3])
            for host in BATCHES[3]:
                teller.say("host", 2, host=host, phase="patch", step="drain", ok=True, summary={})
            teller.chain.close()
            return folder
    if not failing:
        teller.say("phase", phase="prove", event="started")
        teller.say("phase", 4, phase="prove", event="ended")
    before = {name: old for names, old, _, _ in SOURCES.values() for name in names}
    after = {name: new for names, _, new, _ in SOURCES.values() for name in names}
    for host in HOSTS:
        state = done.get(host, "not-attempted")
        changed = state == "patched"
        reason = {
            "failed-restored": "batch 2 failed its gate",
            "not-attempted": "the wave stopped at batch 2",
        }.get(state, "")
        if state == "failed-unrestored":
            reason = "the service did not answer after the downgrade: see ssh and journalctl"
        mine = before if host != "site-arc-0" else {k: v for k, v in before.items() if "nginx" not in k}
        now = {name: after[name] if changed or state == "failed-unrestored" else mine[name] for name in mine}
        teller.say("state", host=host, state=state, before=mine, after=now, reason=reason)
    outcome = "succeeded" if not failing else "rolled-back" if story == "restored" else "failed"
    why = "batch 2 was taken back: 1 failed of 0 allowed, dev-blue-0: verify: 503 from its health endpoint"
    teller.say("wave-ended", outcome=outcome, counts={}, reason=why if failing else "")
    teller.chain.close()
    return folder


class Page(HTMLParser):
    """The page as a browser sees it: its elements, its attributes and its words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._inside.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._inside and self._inside[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def assert_harmless(html: str) -> Page:
    """No script, no handler, no link, no request: nothing that can act."""
    seen = Page(html)
    assert {tag for tag, _ in seen.elements}.isdisjoint(
        {"script", "iframe", "img", "link", "object", "form", "a", "base"}
    )
    for tag, attributes in seen.elements:
        assert not [name for name in attributes if name.startswith("on") or name in {"src", "href", "srcset"}]
        style = attributes.get("style") or ""
        assert re.fullmatch(r"((left|width):-?[\d.]+%;?)*|flex-grow:\d+", style), (tag, style)
    assert "url(" not in html
    assert "@import" not in html
    assert ("meta", "default-src 'none'; style-src 'unsafe-inline'") in [
        (t, a.get("content")) for t, a in seen.elements
    ]
    return seen


def drawn(folder: Path, **more: Any) -> Page:
    return assert_harmless(render(folder, release=sealed(), **more).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("story", "headline", "states"),
    [
        ("clean", "All 6 hosts are current", {"patched": 6}),
        (
            "restored",
            "Taken back: 3 restored, 2 not attempted",
            {"patched": 1, "failed-restored": 3, "not-attempted": 2},
        ),
        (
            "stuck",
            "Failed: 2 restored, 1 needs a hand, 2 not attempted",
            {"patched": 1, "failed-restored": 2, "failed-unrestored": 1, "not-attempted": 2},
        ),
        ("running", "Under way: 0 of 6 hosts done", {"under way": 6}),
    ],
)
def test_the_headline_and_the_states_are_the_outcome(
    tmp_path: Path, story: Story, headline: str, states: dict[str, int]
) -> None:
    records, verdict = inspect(tell(tmp_path, story), None)
    shown = view(records, verdict, release=sealed())
    assert shown["headline"] == headline
    assert {state: count for state, count, _ in shown["counts"]} == states
    assert headline in drawn(tmp_path).text


def test_each_host_has_its_bars_inside_the_drawn_time_and_in_order(tmp_path: Path) -> None:
    records, verdict = inspect(tell(tmp_path), None)
    for row in view(records, verdict)["rows"]:
        kinds = [bar.kind for bar in row.bars]
        steps = ["drain", "transaction", "reboot", "verify", "undrain"]
        assert kinds == ["preflight", "protect", *steps, "prove"], row.name
        for earlier, later in zip(row.bars, row.bars[1:], strict=False):
            assert earlier.left + earlier.width <= later.left + 0.21
        assert all(0 <= bar.left <= 100 and bar.left + bar.width <= 100.3 for bar in row.bars)


def test_a_failed_step_and_the_way_back_are_drawn_and_told(tmp_path: Path) -> None:
    records, verdict = inspect(tell(tmp_path, "restored"), None)
    shown = view(records, verdict)
    (row,) = (row for row in shown["rows"] if row.name == "dev-blue-0")
    assert [bar.kind for bar in row.bars if not bar.ok] == ["verify"]
    assert [bar.kind for bar in row.bars][-3:] == ["restore", "verify", "undrain"]
    text = drawn(tmp_path).text
    assert "Gate after rest batch 2 did not pass" in text
    assert "dev-blue-0 taken back by downgrade" in text
    assert "dev-blue-0: verify failed 503 from http://127.0.0.1/healthz: Unhealthy" in text


def test_packages_stand_under_their_source_with_what_was_fixed(tmp_path: Path) -> None:
    text = drawn(tell(tmp_path)).text
    assert "openssl high, unscored, published 21 Nov 2026 CVE-2026-99000 CVE-2026-99001 CVE-2026-99002" in text
    assert "libssl3 3.0.17-1~deb12u2 → 3.0.17-1~deb12u3 6" in text
    assert "nginx-light 1.22.1-9+deb12u1 → 1.22.1-9+deb12u3 5" in text
    assert "3 more CVE-2026-99011" in text


def test_a_release_with_another_digest_adds_nothing(tmp_path: Path) -> None:
    records, verdict = inspect(tell(tmp_path), None)
    other = sealed().model_copy(update={"digest": "1" * 64})
    assert view(records, verdict, release=other)["cves"] is None
    assert "CVE-" not in page(records, verdict, release=other)


def test_a_rehearsal_and_its_shortened_soak_are_said(tmp_path: Path) -> None:
    text = drawn(tell(tmp_path)).text
    assert "A rehearsal on the sandbox." in text
    assert "moved 26 h 30 min ahead; it really ran on Sun 22 Nov 2026, 06:30 UTC" in text
    assert "The soak on dev was shortened: really 9 min instead of 24 h." in text


def test_damaged_evidence_is_drawn_with_a_warning(tmp_path: Path) -> None:
    path = tell(tmp_path) / FILE
    path.write_bytes(path.read_bytes().replace(b'"rest"', b'"best"', 1))
    assert "This evidence is not verified. record 1: hash does not match its content." in drawn(tmp_path).text


def test_evidence_damaged_beyond_drawing_fails_in_one_line(tmp_path: Path) -> None:
    path = tell(tmp_path) / FILE
    path.write_bytes(path.read_bytes().replace(b'"planned":[{', b'"planned":[7,{', 1))
    with pytest.raises(Failed, match="record 1: hash does not match its content: too damaged to draw"):
        render(tmp_path)


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7331 * 7 }}{% raw %}",
    "</style><script>alert(1)</script>",
    "javascript:alert(1)",
    "\u202egnp.exe\x00\x1b[31m",
)


def replaced(value: Any, by: str) -> Any:
    """The same shape with each text that people or hosts supply replaced."""
    if isinstance(value, Mapping):
        kept = {"phase", "event", "step", "outcome", "real_time", "closes", "digest"}
        return {key: item if key in kept else replaced(item, by) for key, item in value.items()}
    if isinstance(value, list):
        return [replaced(item, by) for item in value]
    return by if isinstance(value, str) else value


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("story", ["restored", "running"])
def test_hostile_words_stay_words(tmp_path: Path, hostile: str, story: Story) -> None:
    records = read(tell(tmp_path / "a", story))
    with Chain.open(tmp_path / "b") as chain:
        for record in records:
            data = replaced(record.data, hostile)
            chain.append(record.kind, record.run, data, at=datetime.fromisoformat(record.at))
    seen = drawn(tmp_path / "b")
    assert " ".join(hostile.replace("\x00", "\ufffd").split())[:20] in seen.text.replace("\x00", "\ufffd")
    assert "51317" not in seen.text


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 5000)), min_size=1, max_size=12))
def test_time_is_drawn_in_order_and_never_outside(spans: list[tuple[int, int]]) -> None:
    works = [Work("patch", NINE + timedelta(seconds=a), NINE + timedelta(seconds=a + b)) for a, b in spans]
    begins, ends = min(w.start for w in works), max(w.end for w in works)
    scale = Scale(works, begins, ends)
    instants = sorted({w.start for w in works} | {w.end for w in works})
    drawn_at = [scale.at(instant) for instant in instants]
    assert drawn_at == sorted(drawn_at)
    assert drawn_at[0] in (0.0, 100.0)
    assert all(0 <= at <= 100 for at in drawn_at)
    assert len(scale.ticks()) <= 16


def test_an_idle_night_is_drawn_short_and_said() -> None:
    night = timedelta(hours=14)
    works = [
        Work("patch", NINE, NINE + timedelta(minutes=1)),
        Work("patch", NINE + night, NINE + night + timedelta(minutes=1)),
    ]
    scale = Scale(works, NINE, NINE + night + timedelta(minutes=1))
    assert scale.at(NINE + timedelta(minutes=1)) > 30
    assert [tick.label for tick in scale.ticks() if tick.broken] == ["13 h 59 min"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (3.14, "3.1 s"),
        (52, "52 s"),
        (60, "1 min"),
        (192, "3 min 12 s"),
        (86400, "24 h"),
        (95400, "26 h 30 min"),
        (183600, "2 d 03 h"),
    ],
)
def test_lengths_read_well(seconds: float, words: str) -> None:
    assert length(seconds) == words


def test_a_wave_of_hundreds_of_hosts_is_still_a_small_page(tmp_path: Path) -> None:
    with Chain.open(tmp_path) as chain:
        planned = [{"name": f"h{n}", "ring": "rest", "batch": n // 20 + 1} for n in range(400)]
        chain.append("wave-started", RUN, {"stack": "dev", "release": "r", "planned": planned}, at=NINE)
        for host in planned:
            chain.append("state", RUN, {"host": host["name"], "state": "patched", "before": {}, "after": {}}, at=NINE)
        chain.append("wave-ended", RUN, {"outcome": "succeeded"}, at=NINE + timedelta(minutes=9))
    assert render(tmp_path).stat().st_size < 500_000
