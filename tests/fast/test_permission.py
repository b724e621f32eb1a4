"""Promotion and the rehearsal clock: each reason to refuse, and the admitted neighbour."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from patchwave import clock, evidence, permission
from patchwave.errors import Misuse, Refused
from tests.fast.builders import NOW, STANDARD, release

SOAK = STANDARD.stacks["staging"].soak


@pytest.fixture
def key(tmp_path: Path) -> Path:

    path = tmp_path / "runner"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    public = path.with_suffix(".pub").read_text(encoding="utf-8")
    (tmp_path / "signers").write_text(f"{evidence.IDENTITY} {public}", encoding="utf-8")
    return path


def prove(project: Path, key: Path | None, *, digest: str, outcome: str = "succeeded") -> None:
    place = permission.folder(project, "dev", "2026-11-22.1")
    with evidence.Chain.open(place) as chain:
        chain.append("wave-started", "run-1", {"stack": "dev", "release": "2026-11-22.1", "digest": digest}, at=NOW)
        ended: dict[str, Any] = {"outcome": outcome, "real_time": NOW.isoformat()}
        chain.append("wave-ended", "run-1", ended, at=NOW)
    if key:
        evidence.sign(place, key)


def ask(project: Path, at: datetime, real: datetime = NOW) -> permission.Soak | None:
    return permission.promotion(project, "staging", release(), STANDARD, at, real, project / "signers")


def test_a_proved_release_is_admitted_after_its_soak(tmp_path: Path, key: Path) -> None:
    prove(tmp_path, key, digest=release().digest)
    soak = ask(tmp_path, NOW + SOAK)
    assert soak is not None
    assert (soak.stack, soak.shortened) == ("dev", True)
    real = ask(tmp_path, NOW + SOAK, NOW + SOAK)
    assert real is not None
    assert not real.shortened


def test_dev_asks_for_no_promotion(tmp_path: Path) -> None:
    assert permission.promotion(tmp_path, "dev", release(), STANDARD, NOW, NOW, None) is None


@pytest.mark.parametrize(
    ("digest", "outcome", "signed", "after", "says"),
    [
        (None, "succeeded", True, SOAK - timedelta(seconds=1), "has soaked 24.0 h of 24.0 h"),
        ("0" * 64, "succeeded", True, SOAK, "promote what was proved"),
        (None, "rolled-back", True, SOAK, "ended rolled-back on dev"),
        (None, "succeeded", False, SOAK, "does not verify"),
    ],
)
def test_a_promotion_is_refused_with_its_reason(
    tmp_path: Path, key: Path, digest: str | None, outcome: str, signed: bool, after: timedelta, says: str
) -> None:
    prove(tmp_path, key if signed else None, digest=digest or release().digest, outcome=outcome)
    with pytest.raises(Refused) as caught:
        ask(tmp_path, NOW + after)
    assert says in str(caught.value)


def test_a_release_without_evidence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no evidence from dev"):
        ask(tmp_path, NOW + SOAK)


def test_the_clock_moves_only_against_the_sandbox() -> None:
    sandbox = {"ARM_ENDPOINT": "https://127.3.4.1:8443", clock.SHIFT: "3600"}
    assert timedelta(minutes=59) < clock.now(sandbox) - datetime.now(UTC) < timedelta(minutes=61)
    for endpoint in ("https://management.azure.com", "https://127.0.0.1.example.com", ""):
        with pytest.raises(Refused, match="not the sandbox"):
            clock.now({"ARM_ENDPOINT": endpoint, clock.SHIFT: "3600"})
    with pytest.raises(Misuse, match="whole number"):
        clock.now({**sandbox, clock.SHIFT: "an hour"})
    assert clock.shift({"ARM_ENDPOINT": "https://management.azure.com"}) is None
