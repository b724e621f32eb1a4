"""What a run has done is read back from its evidence, wherever it was cut off."""

import subprocess
from pathlib import Path
from typing import Any

from patchwave.evidence import chain as evidence
from patchwave.evidence.chain import Chain
from patchwave.schedule.rollout import Batch
from patchwave.wave.journal import Journal, close_rehearsals, open_run
from tests.unit.builders import NOW, host

BLUE, GREEN = host("dev-blue-0", ring="canary"), host("dev-green-0")


def begun(folder: Path, *records: tuple[str, dict[str, Any]], run: str = "r1", digest: str = "d") -> Chain:
    chain = Chain.open(folder)
    planned = [h.model_dump(mode="json") | {"batch": n} for n, h in enumerate((BLUE, GREEN), start=1)]
    chain.append("wave-started", run, {"digest": digest, "planned": planned}, at=NOW)
    for kind, data in records:
        chain.append(kind, run, data, at=NOW)
    return chain


def journal(chain: Chain, run: str = "r1") -> Journal:
    return Journal(lambda: chain.records, run)


def preflight(name: str, **summary: Any) -> tuple[str, dict[str, Any]]:
    return "host", {"host": name, "phase": "preflight", "step": "preflight", "ok": True, "summary": summary}


def test_a_run_is_gone_on_with_until_it_has_ended(tmp_path: Path) -> None:
    chain = begun(tmp_path)
    assert open_run(chain.records, "d") == "r1"
    assert open_run(chain.records, "another digest") is None
    chain.append("wave-ended", "r1", {"outcome": "failed"}, at=NOW)
    assert open_run(chain.records, "d") is None


def test_the_planned_hosts_come_back_whole(tmp_path: Path) -> None:
    assert journal(begun(tmp_path)).planned == (BLUE, GREEN)


def test_a_phase_counts_only_when_it_has_ended(tmp_path: Path) -> None:
    chain = begun(tmp_path, ("phase", {"phase": "preflight", "event": "started"}))
    assert not journal(chain).did("preflight")
    chain.append("phase", "r1", {"phase": "preflight", "event": "ended"}, at=NOW)
    assert journal(chain).did("preflight")
    assert not journal(chain).did("protect")


def test_a_batch_that_was_begun_is_touched_but_not_done(tmp_path: Path) -> None:
    fields = {"phase": "patch", "ring": "canary", "batch": 1, "hosts": ["dev-blue-0"]}
    chain = begun(tmp_path, ("phase", {**fields, "event": "started"}))
    batch = Batch(number=1, ring="canary", hosts=(BLUE,))
    assert (journal(chain).touched(BLUE), journal(chain).touched(GREEN), journal(chain).did_batch(batch)) == (
        True,
        False,
        False,
    )
    chain.append("phase", "r1", {**fields, "event": "ended"}, at=NOW)
    assert journal(chain).did_batch(batch)


def test_only_fit_hosts_with_something_to_bring_are_patched(tmp_path: Path) -> None:
    good = preflight("dev-blue-0", before={"openssl": "1"}, todo={"openssl": "2"}, held=[], problem=None)
    for other in (
        preflight("dev-green-0", before={}, todo={"openssl": "2"}, held=["openssl"], problem=None),
        preflight("dev-green-0", before={}, todo={"openssl": "2"}, held=[], problem="disk: full"),
        preflight("dev-green-0", before={"openssl": "2"}, todo={}, held=[], problem=None),
    ):
        place = tmp_path / str(abs(hash(str(other))))
        assert journal(begun(place, good, other)).todo() == [BLUE]


def test_another_runs_records_are_not_mine(tmp_path: Path) -> None:
    begun(tmp_path, ("phase", {"phase": "preflight", "event": "ended"})).close()
    chain = begun(tmp_path, run="r2")
    assert not journal(chain, "r2").did("preflight")
    assert journal(chain, "r1").did("preflight")


def test_an_open_rehearsal_is_closed_with_its_hosts_and_a_real_run_is_not(tmp_path: Path) -> None:
    key = tmp_path / "runner"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    for release, rehearsal in (("2026-11-22.1", {"shift_seconds": 60}), ("2026-11-22.2", None)):
        with Chain.open(tmp_path / "evidence" / "patching" / "dev" / release) as chain:
            chain.append("wave-started", "r1", {"digest": "d", "planned": [], "rehearsal": rehearsal}, at=NOW)
    close_rehearsals(tmp_path, "the sandbox was taken down", NOW, key)
    places = sorted((tmp_path / "evidence" / "patching" / "dev").iterdir())
    assert [evidence.read(place)[-1].kind for place in places] == ["wave-ended", "wave-started"]
    assert evidence.verify(places[0], None).verified
