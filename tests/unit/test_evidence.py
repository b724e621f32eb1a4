"""The evidence chain: whatever is done to the file afterwards is found and named."""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwave import cli
from patchwave.base.errors import Failed, UsageError
from patchwave.evidence.chain import FILE, GENESIS, SIGNATURE, Chain, read, sign, summary, verify
from tests.unit.builders import copy_desk

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
RUN = "20261123T090000Z-1a2b"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
payloads = st.dictionaries(st.text(), json_values, max_size=3)


def write(folder: Path, *data: dict[str, Any], kind: str = "host", run: str = RUN) -> Path:
    with Chain.open(folder) as chain:
        for number, one in enumerate(data):
            chain.append(kind, run, one, at=NINE + timedelta(seconds=number))
    return folder


def wave(folder: Path, *, run: str = RUN, ended: bool = True, states: dict[str, str] | None = None) -> Path:
    with Chain.open(folder) as chain:
        planned = [{"name": name} for name in ("dev-blue-0", "dev-blue-1")]
        started = {"stack": "dev", "release": "2026-11-22.1", "rehearsal": None, "planned": planned}
        chain.append("wave-started", run, started, at=NINE)
        for host, state in (states or {}).items():
            data = {"host": host, "state": state, "before": {"openssl": "1"}, "after": {"openssl": "2"}}
            chain.append("state", run, data, at=NINE + timedelta(minutes=1))
        if ended:
            chain.append("wave-ended", run, {"outcome": "succeeded"}, at=NINE + timedelta(minutes=2))
    return folder


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two SSH keys; `allowed` lists only the runner's."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("runner", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name], check=True)
    (folder / "allowed").write_text(f"runner {(folder / 'runner.pub').read_text()}")
    return folder


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The lines of a chain of nine records, some of whose content looks like the chain's own syntax."""
    tricky = [{"hash": "0" * 64, "text": ',"hash":"'}, {"line": "a\nb\r\u2028c"}, {"ünïcode": "😀\x00"}, {}]
    folder = write(tmp_path_factory.mktemp("chain"), *tricky, *({"host": f"h{n}"} for n in range(5)))
    return (folder / FILE).read_bytes().splitlines(keepends=True)


def problem(folder: Path, lines: list[bytes]) -> str:
    (folder / FILE).write_bytes(b"".join(lines))
    verdict = verify(folder, None)
    assert not verdict.verified
    assert verdict.problem is not None
    assert "\n" not in verdict.problem
    return verdict.problem


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@given(st.lists(payloads, min_size=1, max_size=4))
def test_what_was_appended_is_read_back(tmp_path_factory: pytest.TempPathFactory, data: list[dict[str, Any]]) -> None:
    folder = write(tmp_path_factory.mktemp("any"), *data)
    records = read(folder)
    assert [record.data for record in records] == data
    assert [record.seq for record in records] == list(range(1, len(data) + 1))
    assert records[0].prev == GENESIS
    assert verify(folder, None).signed == "in-progress"


@given(where=st.data(), flip=st.integers(1, 255))
def test_any_changed_byte_is_found_and_named(
    scratch: Path, intact: list[bytes], where: st.DataObject, flip: int
) -> None:
    line = where.draw(st.integers(0, len(intact) - 1))
    column = where.draw(st.integers(0, len(intact[line]) - 1))
    changed = bytearray(intact[line])
    changed[column] ^= flip
    found = problem(scratch, [*intact[:line], bytes(changed), *intact[line + 1 :]])
    named = [int(number) for number in re.findall(r"(?:record|line) (-?\d+)", found)]
    assert line + 1 in named, found


@given(st.data())
def test_a_dropped_record_is_found_at_its_place(scratch: Path, intact: list[bytes], draw: st.DataObject) -> None:
    gone = draw.draw(st.integers(0, len(intact) - 2))
    found = problem(scratch, [*intact[:gone], *intact[gone + 1 :]])
    follows = f"does not follow record {gone}" if gone else "does not begin the chain"
    assert found == f"record {gone + 2} (line {gone + 1}): {follows}"


@given(st.data())
def test_reordered_records_are_found_at_the_first_that_moved(
    scratch: Path, intact: list[bytes], draw: st.DataObject
) -> None:
    order = draw.draw(st.permutations(range(len(intact))).filter(lambda order: order != sorted(order)))
    moved = next(place for place, was in enumerate(order) if place != was)
    assert problem(scratch, [intact[was] for was in order]).startswith(
        f"record {order[moved] + 1} (line {moved + 1}): "
    )


@given(st.data())
def test_an_inserted_record_is_found(scratch: Path, intact: list[bytes], draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(intact)))
    copied = draw.draw(st.sampled_from(intact).filter(lambda line: at == len(intact) or line != intact[at]))
    assert f"line {at + 1}" in problem(scratch, [*intact[:at], copied, *intact[at:]])


@given(cut=st.integers(1, 60))
def test_a_torn_tail_is_found_and_nothing_is_appended_to_it(scratch: Path, intact: list[bytes], cut: int) -> None:
    assert problem(scratch, [*intact[:-1], intact[-1][:-cut]]) == f"line {len(intact)} is torn"
    with pytest.raises(Failed, match=rf"line {len(intact)} is torn.*sed -i"):
        Chain.open(scratch)


def test_the_mend_that_a_torn_tail_suggests_works(tmp_path: Path) -> None:
    path = write(tmp_path, {"n": 1}, {"n": 2}) / FILE
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(Failed) as refused:
        Chain.open(tmp_path)
    fix = re.search(r"`sed -i '\$d' (\S+)`", str(refused.value))
    assert fix
    subprocess.run(["sed", "-i", "$d", fix.group(1)], check=True)
    write(tmp_path, {"n": 3})
    assert [record.data["n"] for record in read(tmp_path)] == [1, 3]


def test_a_broken_chain_is_not_continued_and_not_signed(tmp_path: Path, keys: Path) -> None:
    path = write(tmp_path, {"n": 1}, {"n": 2}) / FILE
    path.write_bytes(path.read_bytes().replace(b'"n":1', b'"n":7'))
    with pytest.raises(Failed, match="record 1: hash does not match its content"):
        Chain.open(tmp_path)
    with pytest.raises(Failed, match="record 1: hash does not match its content"):
        sign(tmp_path, keys / "runner")
    assert not (tmp_path / SIGNATURE).exists()


def test_writers_in_several_threads_and_handles_make_one_chain(tmp_path: Path) -> None:
    def write_some(shared: Chain | None) -> None:
        chain = shared or Chain.open(tmp_path)
        for number in range(10):
            chain.append("host", RUN, {"n": number}, at=NINE)

    first = Chain.open(tmp_path)
    writers = [threading.Thread(target=write_some, args=(own,)) for own in (first, first, None, None)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(read(tmp_path)) == 40
    assert verify(tmp_path, None).signed == "in-progress"
    assert first.append("host", RUN, {}, at=NINE).seq == 41
    assert len(first.records) == 41


def test_a_file_cut_below_a_writer_is_noticed(tmp_path: Path) -> None:
    chain = Chain.open(write(tmp_path, {"n": 1}))
    (tmp_path / FILE).write_bytes(b"")
    with pytest.raises(Failed, match="something cut it"):
        chain.append("host", RUN, {}, at=NINE)


def test_a_time_without_a_zone_is_no_evidence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zone"):
        Chain.open(tmp_path).append("host", RUN, {}, at=datetime(2026, 11, 23, 9))
    assert (tmp_path / FILE).read_bytes() == b""


def test_undecodable_output_of_a_host_is_recorded_without_harm(tmp_path: Path) -> None:
    write(tmp_path, {"stderr": b"caf\xe9".decode("utf-8", "surrogateescape")})
    assert read(tmp_path)[0].data == {"stderr": "caf?"}


@pytest.mark.parametrize(("back", "named"), [(timedelta(seconds=1), False), (timedelta(seconds=2), True)])
def test_a_clock_that_runs_backwards_within_a_run_is_named(tmp_path: Path, back: timedelta, named: bool) -> None:
    folder = write(tmp_path, {}, {}, {})
    with Chain.open(folder) as chain:
        chain.append("host", RUN, {}, at=NINE + timedelta(seconds=2) - back)
    message = verify(folder, None).problem or ""
    assert (message == "record 4: dated 2 s before what it follows, the clock ran backwards") == named


def test_another_run_may_be_dated_earlier(tmp_path: Path) -> None:
    write(tmp_path, {}, run="rehearsed-tomorrow")
    with Chain.open(tmp_path) as chain:
        chain.append("host", "rehearsed-today", {}, at=NINE - timedelta(days=1))
    assert "clock" not in str(verify(tmp_path, None).problem)


def test_a_signed_wave_is_verified(tmp_path: Path, keys: Path) -> None:
    sign(wave(tmp_path), keys / "runner")
    verdict = verify(tmp_path, keys / "allowed")
    assert (verdict.verified, verdict.problem, verdict.signed) == (True, None, "signed")
    assert verdict.signer is not None
    assert verdict.signer.startswith("runner SHA256:")
    assert verify(tmp_path, None).verified


def unsigned(folder: Path, keys: Path) -> None:
    (folder / SIGNATURE).unlink()


def by_a_stranger(folder: Path, keys: Path) -> None:
    sign(folder, keys / "stranger")


def next_run_begun(folder: Path, keys: Path) -> None:
    wave(folder, run="20261124T090000Z-2b3c", ended=False)


def next_run_ended(folder: Path, keys: Path) -> None:
    wave(folder, run="20261124T090000Z-2b3c")


def tail_dropped(folder: Path, keys: Path) -> None:
    path = folder / FILE
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def rewritten(folder: Path, keys: Path) -> None:
    (folder / FILE).unlink()
    wave(folder, states={"dev-blue-0": "patched"})


def signature_spoilt(folder: Path, keys: Path) -> None:
    (folder / SIGNATURE).write_text("not a signature")


@pytest.mark.parametrize(
    ("accident", "signed", "words"),
    [
        (unsigned, "missing", "evidence.sig is missing although run .* has ended"),
        (by_a_stranger, "foreign", "signed by SHA256:.* which allowed does not list for `runner`"),
        (next_run_begun, "in-progress", "ends at record 2, run 20261124T090000Z-2b3c has not ended"),
        (next_run_ended, "missing", "ends at record 2, run 20261124T090000Z-2b3c has ended"),
        (tail_dropped, "wrong", "evidence.sig does not fit record 1: records were lost or rewritten"),
        (rewritten, "wrong", "evidence.sig does not fit record 3: records were lost or rewritten"),
        (signature_spoilt, "wrong", "evidence.sig does not fit record 2"),
    ],
)
def test_each_fault_of_a_signature_is_told_apart(
    tmp_path: Path, keys: Path, accident: Callable[[Path, Path], None], signed: str, words: str
) -> None:
    sign(wave(tmp_path), keys / "runner")
    accident(tmp_path, keys)
    verdict = verify(tmp_path, keys / "allowed")
    assert not verdict.verified
    assert verdict.signed == signed
    assert verdict.problem is not None
    assert re.search(words, verdict.problem), verdict.problem


def test_a_run_in_progress_is_unsigned_and_not_verified(tmp_path: Path, keys: Path) -> None:
    verdict = verify(wave(tmp_path, ended=False), keys / "allowed")
    assert (verdict.verified, verdict.signed) == (False, "in-progress")
    assert verdict.problem == f"unsigned: run {RUN} has not ended"


def test_a_key_that_cannot_sign_fails_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="cannot sign") as failed:
        sign(wave(tmp_path), tmp_path / "nowhere")
    assert "\n" not in str(failed.value)


def test_evidence_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no evidence in"):
        read(tmp_path)
    with pytest.raises(UsageError, match="the evidence is empty"):
        summary([])


def test_the_summary_is_the_last_run_with_one_state_a_host(tmp_path: Path, keys: Path) -> None:
    wave(tmp_path, states={"dev-blue-0": "patched", "dev-blue-1": "already-current"})
    sign(tmp_path, keys / "runner")
    shown = summary(read(tmp_path), verify(tmp_path, keys / "allowed"))
    assert [(host["name"], host["state"]) for host in shown["hosts"]] == [
        ("dev-blue-0", "patched"),
        ("dev-blue-1", "already-current"),
    ]
    assert (shown["stack"], shown["release"], shown["run"]) == ("dev", "2026-11-22.1", RUN)
    assert (shown["started"], shown["ended"]) == ("2026-11-23T09:00:00.000Z", "2026-11-23T09:02:00.000Z")
    assert shown["outcome"] == "succeeded"
    assert shown["chain"]["verified"] is True
    assert shown["chain"]["records"] == 4


@pytest.mark.parametrize(("ended", "state"), [(True, "unknown"), (False, "not-attempted")])
def test_a_host_nobody_vouched_for_is_never_compliant(tmp_path: Path, ended: bool, state: str) -> None:
    shown = summary(read(wave(tmp_path, ended=ended, states={"dev-blue-0": "patched"})))
    assert [host["state"] for host in shown["hosts"]] == ["patched", state]
    assert shown["chain"]["verified"] is False


def test_a_run_that_another_overtook_has_failed(tmp_path: Path) -> None:
    wave(tmp_path, ended=False)
    wave(tmp_path, run="20261124T090000Z-2b3c")
    first = summary(read(tmp_path), run=RUN)
    assert (first["outcome"], first["ended"]) == ("failed", None)
    assert {host["state"] for host in first["hosts"]} == {"unknown"}
    with pytest.raises(UsageError, match="no run nosuch"):
        summary(read(tmp_path), run="nosuch")


def test_the_chain_can_be_copied_away_and_still_verifies(tmp_path: Path, keys: Path) -> None:
    sign(wave(tmp_path / "here"), keys / "runner")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert verify(tmp_path / "there", keys / "allowed").verified


@pytest.fixture
def project(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose dev stack has one signed wave, as the command line finds it."""
    copy_desk(tmp_path)
    place = tmp_path / "evidence" / "patching" / "dev" / "2026-11-22.1"
    sign(wave(place, states={"dev-blue-0": "patched", "dev-blue-1": "held"}), keys / "runner")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATCHWAVE_ALLOWED_SIGNERS", str(keys / "allowed"))
    return place


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["patchwave", *arguments, "--stack", "dev", "--release", "2026-11-22.1"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_line_shows_the_fixed_fields(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "evidence", "show", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    fields = ("stack", "release", "run", "rehearsal", "started", "ended", "outcome", "hosts", "chain")
    assert shown.keys() >= set(fields)
    assert shown["hosts"][0].keys() >= {"name", "state", "before", "after"}
    assert shown["chain"].keys() >= {"records", "head", "verified"}
    assert shown["chain"]["verified"] is True


def test_the_command_line_names_the_record_of_one_changed_byte(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "evidence", "verify") == 0
    content = (project / FILE).read_bytes()
    (project / FILE).write_bytes(content.replace(b"held", b"hele", 1))
    assert command(monkeypatch, "evidence", "verify") == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "record 3: hash does not match its content" in message
