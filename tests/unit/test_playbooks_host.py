"""What a step does on a host besides apt: it is bounded, alone, remembered, and believes only positive evidence."""

import contextlib
import fcntl
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.playbook_code import load

from ansible.module_utils import patchwave_config as config  # isort: skip
from ansible.module_utils import patchwave_apt as apt  # isort: skip
from ansible.module_utils import patchwave_host as host  # isort: skip
from ansible.module_utils import patchwave_versions as versions  # isort: skip

preflight = load("modules", "patchwave_preflight")
verify = load("modules", "patchwave_verify")


# -- commands, locks, the journal -------------------------------------------------------------------------------------


def test_a_step_that_hangs_is_ended_with_all_its_children(tmp_path):
    pids = tmp_path / "pids"
    script = f"trap '' TERM; (trap '' TERM; sleep 60) & echo $! > {pids}; sleep 60"
    with pytest.raises(host.StepError, match=r"did not end within 0\.5 s"):
        host.run(["sh", "-c", script], timeout=0.5)
    child = int(pids.read_text())
    until = time.monotonic() + 5
    while host.alive(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not host.alive(child)


def test_a_daemon_that_keeps_the_output_open_does_not_keep_the_step():
    began = time.monotonic()
    done = host.run(["sh", "-c", "sleep 3 & echo done"], timeout=30)
    assert done.out == "done\n"
    assert time.monotonic() - began < 2.5


def test_a_script_that_asks_a_terminal_gets_none():
    done = host.run(["sh", "-c", "read answer < /dev/tty"], timeout=10)
    assert done.code != 0


def test_a_second_step_on_the_host_waits_and_names_the_first(tmp_path):
    path = tmp_path / "lock"
    held = pytest.raises(host.StepError, match=r"held by transaction of run-1 \(pid \d+\)")
    with host.host_lock("transaction of run-1", timeout=1, path=path), held:
        host.host_lock("scan", timeout=0.1, path=path).__enter__()
    with host.host_lock("scan", timeout=0, path=path):
        pass


def test_a_command_that_outlives_its_step_keeps_the_lock(tmp_path):
    path = tmp_path / "lock"
    with host.host_lock("transaction of run-1", timeout=1, path=path) as lock:
        orphan = os.posix_spawn(
            "/bin/sh", ["sh", "-c", "sleep 0.7"], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, lock, 9)]
        )
    with pytest.raises(host.StepError):
        host.host_lock("scan", timeout=0.1, path=path).__enter__()
    os.waitpid(orphan, 0)
    with host.host_lock("scan", timeout=0, path=path):
        pass


def test_the_holder_of_dpkgs_lock_is_named(tmp_path):
    path = tmp_path / "lock-frontend"
    path.touch()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with path.open("w") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            os.write(writing, b".")
            time.sleep(30)
        os._exit(0)
    try:
        os.read(reading, 1)
        holder = apt.lock_holder(str(path))
        assert holder
        assert holder[0] == child
        with pytest.raises(host.StepError, match=f"held by pid {child}"):
            apt.wait_for_locks(0.1, [str(path)])
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert apt.wait_for_locks(0.1, [str(path)]) < 0.1


def test_the_journal_gives_back_what_was_written_and_refuses_damage(tmp_path):
    journal = host.Journal("20261123T090000Z-1a2b", tmp_path).open()
    assert journal.read("protect") is None
    journal.write("protect", "done", result={"bytes": 1})
    assert journal.result("protect") == {"bytes": 1}
    journal.write("transaction", "begun", before={})
    assert journal.result("transaction") is None
    assert journal.folder.stat().st_mode & 0o077 == 0
    record = journal.folder / "protect.json"
    record.write_text(record.read_text()[:20])
    with pytest.raises(host.StepError, match="damaged"):
        journal.read("protect")


@pytest.mark.parametrize("bad", ["", "../../etc", "a/b", "a b", ".hidden", "x\n", "ab"])
def test_a_run_id_never_leaves_its_folder(bad, tmp_path):
    with pytest.raises(host.StepError, match="is not one"):
        host.Journal(bad, tmp_path)


def test_old_runs_go_and_this_one_stays(tmp_path):
    for number in range(6):
        host.Journal(f"run-{number}", tmp_path).open()
        os.utime(tmp_path / f"run-{number}", (number, number))
    host.Journal("run-0", tmp_path).prune(3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-0", "run-4", "run-5"]


# -- configuration ----------------------------------------------------------------------------------------------------

TREE = st.dictionaries(st.sampled_from(["/e/a", "/e/b", "/e/c"]), st.sampled_from(["1", "2", "3"]))


@given(TREE, TREE, TREE, TREE)
def test_going_back_loses_nobodys_edit_and_undoes_only_the_run(archived, start, after, now):
    restore, remove, left = config.changes(archived, start, after, now)
    for path in {*archived, *start, *after, *now}:
        run_changed = start.get(path) != after.get(path)
        edited_since = now.get(path) != after.get(path)
        if path in restore or path in remove:
            assert run_changed
            assert not edited_since
            assert archived.get(path) == start.get(path)
        if path in left:
            assert run_changed
            assert edited_since or archived.get(path) != start.get(path)
    assert not set(restore) & set(remove)


def test_configuration_comes_back_to_the_byte_and_the_mode(tmp_path):
    root = tmp_path / "etc" / "service"
    (root / "conf.d").mkdir(parents=True)
    secret, link = root / "conf.d" / "secret", root / "current"
    secret.write_text("old\n")
    secret.chmod(0o640)
    link.symlink_to("conf.d/secret")
    roots = config.paths([str(root), "/etc/there-is-no-such-service"])
    assert roots == [str(root)]
    before = config.manifest(roots)
    archive = tmp_path / "config.tar"
    config.archive(roots, archive, timeout=30)
    secret.write_text("new\n")
    secret.chmod(0o666)
    link.unlink()
    link.symlink_to("/etc/passwd")
    (root / "added").write_text("x")
    after = config.manifest(roots)
    restore, remove, left = config.changes(before, before, after, after)
    assert not left
    config.restore(archive, restore, tmp_path, timeout=30)
    assert config.remove(remove) == [str(root / "added")]
    assert config.manifest(roots) == before


@pytest.mark.parametrize("bad", ["etc/nginx", "/etc/../root", "/", "/etc", "/etc/a\nb"])
def test_a_configuration_path_is_a_path_below_a_top_folder(bad):
    with pytest.raises(host.StepError):
        config.paths([bad])


# -- proof ----------------------------------------------------------------------------------------------------------


def prover(tmp_path, **result):
    journal = host.Journal("run-1", tmp_path).open()
    journal.write("transaction", "done", result=result)
    return verify.Prover(journal, "transaction", apt)


def test_a_transaction_that_did_not_end_well_cannot_be_proved(tmp_path):
    journal = host.Journal("run-1", tmp_path).open()
    journal.write("transaction", "failed")
    with pytest.raises(host.StepError, match="did not end well"):
        verify.Prover(journal, "transaction", apt)


def test_a_reboot_that_was_due_must_have_happened(tmp_path):
    stale = prover(tmp_path, reboot={"needed": True, "boot": host.boot()})
    assert not stale.boot()
    assert prover(tmp_path, reboot={"needed": True, "boot": "another 1"}).boot()


# -- preflight --------------------------------------------------------------------------------------------------------


def test_one_broken_check_hides_no_other():
    checks = preflight.Checks()

    def broken():
        raise host.StepError("it broke")

    checks.run("first", "fix it", broken)
    checks.run("second", "fix it", lambda: (True, "fine"))
    assert checks.done == [
        {"name": "first", "ok": False, "detail": "it broke", "fix": "fix it"},
        {"name": "second", "ok": True, "detail": "fine", "fix": ""},
    ]


SKEWS = [(0, True), (9.9, True), (-9.9, True), (-11, False), (86400, False), (-86400, False)]


@pytest.mark.parametrize(("skew", "ok"), SKEWS)
def test_a_wrong_clock_is_seen_in_both_directions(skew, ok):
    assert preflight.clock(1000.0, 1000.0 + skew, 10.0)[0] is ok


def test_a_held_package_is_named():
    row = {"name": "openssl", "arch": "amd64", "from": "1", "to": "2", "sha256": "0" * 64}
    (item,) = versions.release_items({"packages": [row]})
    ok, detail = preflight.held(versions.Plan(held={"openssl": ("1", item)}))
    assert not ok
    assert "openssl 1" in detail


def test_a_package_file_that_is_not_the_sealed_one_is_refused(tmp_path):
    file = tmp_path / "openssl_2_amd64.deb"
    with pytest.raises(host.StepError, match="run protect"):
        apt.verified(file, "openssl", "2", "amd64", "0" * 64)
    file.write_bytes(b"not it")
    with pytest.raises(host.StepError, match="not the sealed package"):
        apt.verified(file, "openssl", "2", "amd64", "0" * 64)


def test_text_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "record.json"
    host.write_durably(path, "one")
    with contextlib.suppress(UnicodeEncodeError):
        host.write_durably(path, "two\udcff" * 1000)
    assert path.read_text() == "one"
    host.write_durably(path, "three")
    assert path.read_text() == "three"
    assert Path(path).stat().st_mode & 0o777 == 0o600
