"""Evidence as a wave leaves it, signed with a real key, for tests of what it admits."""

import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from patchwave.authorization import criteria, promotion
from patchwave.config.standard import StackName
from patchwave.evidence import chain as evidence
from patchwave.evidence.chain import Chain
from patchwave.releases.release import Release
from tests.unit.builders import NOW

RUN = "20261123T090000Z-1a2b3c"


class Key(NamedTuple):
    """A private key, and the list that gives its public half to some identities."""

    private: Path
    signers: Path


def make_key(folder: Path, *identities: str) -> Key:
    """A new key; the list gives it to the runner when nobody is named."""
    private = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(private)], check=True)
    public = private.with_suffix(".pub").read_text(encoding="utf-8")
    signers = folder / "signers"
    signers.write_text("".join(f"{one} {public}" for one in identities or (evidence.IDENTITY,)), encoding="utf-8")
    return Key(private, signers)


def gate(passed: bool = True, before: float = 20.0, after: float = 21.0) -> dict[str, Any]:
    reading = {"gate": "http", "counted": True, "before": {"median_ms": before}, "after": {"median_ms": after}}
    return {"gate": "batch", "batch": 1, "passed": passed, "reason": "60 answers", "readings": [reading]}


def state(host: str = "dev-blue-0", name: str = "patched", **waived: str) -> dict[str, Any]:
    return {"host": host, "state": name, "before": {}, "after": {}, "reason": None, "waived": waived}


def prove(
    project: Path,
    release: Release,
    key: Key | None,
    *,
    stack: StackName = "dev",
    run: str = RUN,
    outcome: str = "succeeded",
    at: datetime = NOW,
    records: tuple[tuple[str, dict[str, Any]], ...] = (("gate", gate()), ("state", state())),
) -> Path:
    """One ended run of a release on a stack."""
    place = promotion.folder(project, stack, release.id)
    with Chain.open(place) as chain:
        started = {"stack": stack, "release": release.id, "digest": release.digest, "waivers": []}
        for kind, data in (("wave-started", started), *records):
            chain.append(kind, run, data, at=at)
        chain.append("wave-ended", run, {"outcome": outcome, "real_time": at.isoformat()}, at=at)
    if key:
        evidence.sign(place, key.private)
    return place


def attach(
    place: Path,
    release: Release,
    key: Key,
    name: str,
    *,
    result: criteria.Result = "pass",
    by: str = evidence.IDENTITY,
    stack: StackName = "dev",
    run: str = RUN,
    at: datetime = NOW,
    file: Path | None = None,
) -> None:
    """A signed result beside that run's evidence."""
    claim = criteria.claim(name, result, by, stack=stack, release=release, run=run, file=file, at=at)
    criteria.attach(place, claim, key.private, file, key.signers)
