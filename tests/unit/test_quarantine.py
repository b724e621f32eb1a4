"""Quarantine: what a wave had to take back is not brought again, in exactly that version, on any machine."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwave.authorization import decision, messages
from patchwave.base.errors import Refused
from patchwave.evidence.chain import Chain, Record
from patchwave.releases import quarantine
from patchwave.releases import release as releases
from patchwave.releases.quarantine import Entry, Quarantine
from patchwave.schedule import sealing
from tests.unit.builders import NOW, STANDARD, inputs, pending, release

RUN = "20261123T090000Z-1a2b3c"


def entry(package: str = "openssl", version: str = "3.0.20-1~deb12u2", reason: str = "a: 503") -> Entry:
    fields = {"stack": "dev", "release": "2026-11-22.1", "run": RUN, "at": NOW.isoformat(), "reason": reason}
    return Entry.model_validate_json(json.dumps({"package": package, "version": version, **fields}))


def expected(folder: Path, *records: tuple[str, dict[str, Any]]) -> list[Record]:
    with Chain.open(folder) as chain:
        chain.append("wave-started", RUN, {"stack": "dev", "release": "2026-11-22.1"}, at=NOW)
        for kind, data in records:
            chain.append(kind, RUN, data, at=NOW)
        return list(chain.records)


def preflight(host: str, **todo: str) -> tuple[str, dict[str, Any]]:
    return "host", {"host": host, "step": "preflight", "ok": True, "summary": {"todo": todo}}


def changed(host: str, ok: bool = True) -> tuple[str, dict[str, Any]]:
    return "host", {"host": host, "step": "transaction", "ok": ok, "summary": {}}


def restore(host: str, ok: bool = True, blamed: bool = True) -> tuple[str, dict[str, Any]]:
    return "restore", {"host": host, "method": "downgrade", "ok": ok, "reason": "503", "blamed": blamed}


@pytest.mark.parametrize("ok", [True, False])
def test_what_a_restored_host_had_been_given_is_taken_back(tmp_path: Path, ok: bool) -> None:
    records = expected(
        tmp_path, preflight("a", openssl="2", nginx="5"), preflight("b", bash="7"), changed("a"), restore("a", ok)
    )
    found = quarantine.taken_back(records)
    assert [(one.package, one.version, one.stack) for one in found] == [("nginx", "5", "dev"), ("openssl", "2", "dev")]
    assert {one.reason for one in found} == {"a: 503"}


def test_a_host_that_failed_before_its_packages_changed_accuses_none(tmp_path: Path) -> None:
    assert quarantine.taken_back(expected(tmp_path, preflight("a", openssl="2"), restore("a"))) == ()


def test_a_batch_that_was_only_cut_off_accuses_none(tmp_path: Path) -> None:
    records = expected(tmp_path, preflight("a", openssl="2"), changed("a"), restore("a", blamed=False))
    assert quarantine.taken_back(records) == ()


def test_a_wave_that_restored_nothing_accuses_none(tmp_path: Path) -> None:
    assert quarantine.taken_back(expected(tmp_path, preflight("a", openssl="2"), changed("a"))) == ()
    assert quarantine.taken_back([]) == ()


def test_a_release_with_a_version_on_the_list_is_refused_on_every_stack(tmp_path: Path) -> None:
    quarantine.add(tmp_path, [entry()])
    held = quarantine.load(tmp_path).of(release())
    for stack in STANDARD.stacks:
        query = inputs(stack, quarantined=held)
        (refusal,) = (one for one in decision.decide(query).refusals if one.about == "quarantine")
        assert "openssl 3.0.20-1~deb12u2" in refusal.why
        assert "taken back on dev" in refusal.why
        with pytest.raises(Refused, match="openssl"):
            messages.require_promotion(query)


def test_a_newer_version_is_free_and_a_removed_entry_lifts(tmp_path: Path) -> None:
    quarantine.add(tmp_path, [entry(), entry("nginx", "1")])
    known = quarantine.load(tmp_path)
    assert known.holds("openssl", "3.0.20-1~deb12u3") is None
    path = tmp_path / "releases" / quarantine.FILE
    data = json.loads(path.read_text(encoding="utf-8"))
    data["entries"] = [one for one in data["entries"] if one["package"] != "openssl"]
    path.write_text(json.dumps(data), encoding="utf-8")
    assert quarantine.load(tmp_path).of(release()) == ()


@given(st.lists(st.tuples(st.sampled_from(("aa", "bb", "cc")), st.sampled_from(("1", "2"))), max_size=8))
def test_each_version_is_on_the_list_once_whoever_puts_it_there(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[tuple[str, str]]
) -> None:
    project = tmp_path_factory.mktemp("project")
    added = [one for pair in wanted for one in quarantine.add(project, [entry(*pair)])]
    assert sorted((one.package, one.version) for one in added) == sorted(set(wanted))
    assert sorted(quarantine.load(project).entries, key=str) == sorted(added, key=str)


def test_the_first_reason_stays(tmp_path: Path) -> None:
    quarantine.add(tmp_path, [entry(reason="a: 503")])
    assert quarantine.add(tmp_path, [entry(reason="b: crash")]) == []
    (known,) = quarantine.load(tmp_path).entries
    assert known.reason == "a: 503"


@pytest.mark.parametrize("content", ["", "[]", '{"entries": [{"package": "a;b"}]}', '{"entries": [], "more": 1}'])
def test_a_list_that_does_not_parse_refuses_instead_of_freeing_everything(tmp_path: Path, content: str) -> None:
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases" / quarantine.FILE).write_text(content, encoding="utf-8")
    with pytest.raises(Refused, match=r"quarantine\.json: .* restore it from git"):
        quarantine.load(tmp_path)


def test_the_list_is_no_release(tmp_path: Path) -> None:
    quarantine.add(tmp_path, [entry()])
    assert releases.latest(tmp_path) is None
    releases.save(tmp_path, release())
    assert releases.latest(tmp_path) == release()


def test_sealing_leaves_out_what_is_on_the_list_and_says_so() -> None:
    updates = {one.key: one for one in (pending(), pending("nginx"))}
    kept, left = sealing.without_quarantined(updates, Quarantine(entries=(entry(),)))
    assert list(kept) == [("apt", "nginx")]
    assert [(one.name, one.until) for one in left] == [("openssl", None)]
    assert "taken back on dev on 2026-11-23" in left[0].reason
