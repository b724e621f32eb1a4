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

from patchwave.errors import Failed
from patchwave.evidence import FILE, Chain, Record, inspect, read
from patchwave.release import Advisory, Package, Release, Sealed, digest
from patchwave.report import Scale, Work, length, page, render, view

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
                id=key, source=source, version=after, cves=ids, cvss=None, severity="high", published=published
            )
        )
        for name in names:
            plain = {"name": name, "arch": "amd64", "from": before, "to": after, "sha256": "0" * 64, "size": 1}
            extra = {"source": source, "advisories": (key,), "reversibility": "downgrade"}
            packages.append(Package.model_validate(plain | extra))
    draft = Release(
        id="2026-11-22.1",
        sealed=Sealed(stack="dev", at=NINE - timedelta(days=1), hosts=tuple(HOSTS)),
        packages=tuple(packages),
        advisories=tuple(advisories),
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

    def batch(self, number: int, failing: frozenset[str] = frozenset()) -> None:
        hosts = BATCHES[number]
        where: dict[str, Any] = {"ring": "canary" if number == 1 else "rest", "batch": number}
        self.say("phase", phase="patch", event="started", hosts=hosts, **where)
        for takes, step in ((2.4, "drain"), (9.5, "transaction"), (3.1, "reboot"), (2.2, "verify"), (1.7, "undrain")):
            for place, host in enumerate(hosts):
                if step == "undrain" and host in failing:
                    continue
                ok = not (step == "verify" and host in failing)
                result = {"rebooted": True} if step == "reboot" else {}
                if not ok:
                    result = {"reason": "503 from http://127.0.0.1/healthz: Unhealthy"}  # type: ignore[dict-item]
                after = takes if place == 0 else 0.3
                self.say("host", after, host=host, phase="patch", step=step, ok=ok, summary=result)
        self.say("phase", phase="patch", event="ended", hosts=hosts, **where)
        passed = not failing
        reason = "60 answers, median 4 ms, 0 failed meanwhile" if passed else f"{len(failing)} of {len(hosts)} unhealthy"
        samples = {"before": {"asked": 60, "failed": 0, "median_ms": 3.9}, "after": {"asked": 60, "failed": 0, "median_ms": 4.2}}
        self.say("gate", 1.5, gate="batch", passed=passed, reason=reason, samples=samples, **where)


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
        window={"opens": "2026-11-23T09:00:00Z", "closes": "2026-11-23T11:00:00Z"},
        planned=planned,
        soak={"required_seconds": 86400, "waited_seconds": 540, "shortened": True},
    )
    teller.say("phase", phase="preflight", event="started", hosts=HOSTS)
    for host in HOSTS:
        teller.say("host", 0.5, host=host, phase="preflight", step="preflight", ok=True, summary={})
        for name in ("clock", "disk", "inodes", "dpkg_sane", "lock_free", "versions_available", "backup"):
            teller.say("check", 0.01, host=host, name=name, ok=True, detail="")
    teller.say("phase", phase="preflight", event="ended", hosts=HOSTS)
    teller.phase("protect", HOSTS, 6)
    failing = {"restored": frozenset({"dev-blue-0"}), "stuck": frozenset({"dev-blue-0"})}.get(story, frozenset())
    done: dict[str, str] = {}
    for number, hosts in BATCHES.items():
        bad = failing if number == 2 else frozenset()
        teller.batch(number, bad)
        done |= {host: "patched" for host in hosts}
        if bad:
            teller.say("phase", phase="restore", event="started", ring="rest", batch=number, hosts=hosts)
            for host in hosts:
                stuck = story == "stuck" and host in bad
                teller.say("restore", 4, host=host, method="downgrade", ok=not stuck)
                done[host] = "failed-unrestored" if stuck else "failed-restored"
            teller.say("phase", phase="restore", event="ended", ring="rest", batch=number, hosts=hosts)
            break
        if story == "running" and number == 2:
            teller.say("phase", phase="patch", event="started", ring="rest", batch=3, hosts=BATCHES[3])
            for host in BATCHES[3]:
                teller.say("host", 2, host=host, phase="patch", step="drain", ok=True, summary={})
            teller.chain.close()
            return folder
    if not failing:
        teller.phase("prove", HOSTS, 5)
    before = {name: old for names, old, _, _ in SOURCES.values() for name in names}
    after = {name: new for names, _, new, _ in SOURCES.values() for name in names}
    for host in HOSTS:
        state = done.get(host, "not-attempted")
        changed = state == "patched"
        reason = {"failed-restored": "batch 2 failed its gate", "not-attempted": "the wave stopped at batch 2"}.get(state, "")
        if state == "failed-unrestored":
            reason = "the service did not answer after the downgrade: see ssh and journalctl"
        mine = before if host != "site-arc-0" else {k: v for k, v in before.items() if "nginx" not in k}
        now = {name: after[name] if changed or state == "failed-unrestored" else mine[name] for name in mine}
        teller.say("state", host=host, state=state, before=mine, after=now, reason=reason)
    outcome = "succeeded" if not failing else "rolled-back" if story == "restored" else "failed"
    teller.say("wave-ended", outcome=outcome, counts={})
    teller.chain.close()
    return folder
