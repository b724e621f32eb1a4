"""The sandbox's pure pieces: what it takes from the machine, what it writes, whom it takes for its own."""

import subprocess
import time
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwave.base.errors import Failed, UsageError
from sandbox import console
from sandbox.config import POOL, Sandbox, choose_subnet, write_atomically
from sandbox.lab import engine, mirror, network, processes
from sandbox.lab.hosts import known_hosts, ssh_config
from sandbox.sample import package
from sandbox.stack import reason

RECORD = {"name": "dev-blue-0", "address": "10.213.5.10", "host_key": "ssh-ed25519 AAAA"}
DIGESTS = st.text("0123456789abcdef", min_size=8, max_size=8)
NETWORKS = st.builds(
    lambda second, third, prefix: IPv4Network(f"10.{second}.{third}.0/{prefix}", strict=False),
    st.integers(210, 222),
    st.integers(0, 255),
    st.integers(14, 30),
)


@pytest.fixture
def box(tmp_path: Path) -> Sandbox:
    return Sandbox("lab", tmp_path, tmp_path / ".sandbox", IPv4Network("10.213.5.0/24"))


@given(st.lists(NETWORKS, max_size=6), DIGESTS)
def test_a_chosen_subnet_overlaps_nothing_that_is_routed(taken: list[IPv4Network], digest: str) -> None:
    try:
        chosen = choose_subnet(taken, digest)
    except Failed:
        free = [s for block in POOL for s in block.subnets(new_prefix=24) if not any(map(s.overlaps, taken))]
        assert not free
    else:
        assert not any(chosen.overlaps(network) for network in taken)
        assert any(chosen.subnet_of(block) for block in POOL)


def test_the_default_route_takes_no_subnet() -> None:
    assert choose_subnet([IPv4Network("0.0.0.0/0")], "00000007") == IPv4Network("10.213.7.0/24")


def test_a_machine_without_room_is_told_so() -> None:
    with pytest.raises(Failed, match="free one"):
        choose_subnet([IPv4Network("10.0.0.0/8")], "00000000")


def test_two_names_share_no_address(box: Sandbox) -> None:
    other = Sandbox("other", box.project, box.project / ".sandbox-other", box.subnet)
    assert len({box.bridge, other.bridge}) == len({box.loopback, other.loopback}) == 2
    assert len(box.bridge) <= 15
    assert box.public_address(0) not in (box.loopback, box.public_address(1))


@pytest.mark.parametrize("name", ["", "Lab", "a/b", "../x", "-x", "x" * 32, "a b"])
def test_a_name_that_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="lower-case"):
        Sandbox.open(tmp_path, name)


def test_ssh_finds_a_host_by_name_and_address_and_only_with_its_known_key(box: Sandbox) -> None:
    text = ssh_config(box, [RECORD])
    assert "Host dev-blue-0 10.213.5.10\n" in text
    assert "StrictHostKeyChecking yes" in text
    assert f'UserKnownHostsFile "{box.known_hosts}"' in text
    assert known_hosts([RECORD]) == "dev-blue-0,10.213.5.10 ssh-ed25519 AAAA\n"


def test_the_rule_names_the_subnet_and_replaces_itself(box: Sandbox) -> None:
    text = network.ruleset(box)
    assert "ip saddr 10.213.5.0/24" in text
    assert text.index("delete table") < text.index("masquerade")


@pytest.mark.parametrize(
    ("stat", "expected"),
    [
        (f"12 (sh) S {' '.join(['0'] * 18)} 4711 0 0", 4711),
        (f"12 (a) b) (c) R {' '.join(['0'] * 18)} 4711 0", 4711),
        (f"12 (sh) Z {' '.join(['0'] * 18)} 4711 0 0", None),
    ],
)
def test_a_start_time_is_read_whatever_the_program_is_called(stat: str, expected: int | None) -> None:
    assert processes.parse_started(stat) == expected


def test_a_process_is_itself_and_no_other() -> None:
    mine = processes.myself()
    assert mine.alive
    assert not mine._replace(started=mine.started - 1).alive
    assert not mine._replace(boot_id="another boot").alive


def test_a_spawned_process_is_recorded_logged_and_ended(box: Sandbox) -> None:
    box.folder.mkdir()
    processes.spawn(box, "sleeper", ["/bin/sh", "-c", "echo here; exec sleep 60"])
    try:
        while processes.tail(box, "sleeper") != "here":
            time.sleep(0.01)
        first = processes.identity(box, "sleeper")
        processes.spawn(box, "sleeper", ["/bin/false"])
        assert processes.alive(box, "sleeper")
        assert processes.identity(box, "sleeper") == first
    finally:
        processes.stop(box, "sleeper", grace=1.0)
    assert processes.recorded(box) == []


def test_a_stranger_with_a_recorded_number_is_left_alone(box: Sandbox) -> None:
    box.run.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        identity = processes.Identity(stranger.pid, 1, processes.boot_id())
        (box.run / "old.json").write_text(str(identity._asdict()).replace("'", '"'))
        processes.stop(box, "old")
        assert stranger.poll() is None
        stranger.kill()


def test_the_machines_own_mirror_is_used() -> None:
    rows = [
        ("Debian", "bookworm-updates", "main", "http://mirror.test/debian/", "Packages"),
        ("Other", "stable", "main", "http://other.test/", "Packages"),
        ("Debian", "bookworm", "main", "https://mirror.test/debian/", "Packages"),
        ("Debian", "bookworm", "contrib", "https://mirror.test/debian/", "Packages"),
    ]
    found = mirror.choose("\n".join("\t".join(row) for row in rows), "amd64")
    assert (found.suite, found.components) == ("bookworm", ("main",))
    assert found.security == "https://mirror.test/debian-security/"
    assert "URIs: http://mirror.test/debian/\nSuites: bookworm\n" in found.sources


def test_a_machine_without_a_known_release_is_told_so() -> None:
    with pytest.raises(Failed, match="apt-get update"):
        mirror.choose("", "amd64")


def test_engine_versions_emulator_go_mod_only() -> None:
    assert engine.pinned("cli", "github.com/pulumi/pulumi/pkg/v3") == "3.210.0"
    assert engine.pinned("python-host", "github.com/pulumi/pulumi/sdk/v3") == "3.74.0"


@pytest.mark.parametrize(("version", "good"), [("3.200.0", True), ("3.199.9", False), ("4.0.0", True), ("", False)])
def test_an_engine_must_be_recent(version: str, good: bool) -> None:
    assert engine.recent(version, (3, 200)) is good


def test_an_engine_without_its_language_host_is_none(tmp_path: Path) -> None:
    (tmp_path / "pulumi").write_text("#!/bin/sh\necho v3.999.0\n")
    (tmp_path / "pulumi").chmod(0o755)
    assert engine.on_path({"PATH": str(tmp_path)}) is None
    (tmp_path / "pulumi-language-python").touch()
    found = engine.on_path({"PATH": str(tmp_path)})
    assert found is not None
    assert found.version == "3.999.0"


def test_the_changelog_names_its_advisory_newest_first() -> None:
    history = [package.entry("1.0.0", package.EPOCH, 1), package.entry("1.0.1", package.EPOCH, 2)]
    text = package.changelog(history)
    assert text.index("CVE-2026-99002") < text.index("CVE-2026-99001")


@pytest.mark.parametrize("version", ["", "a1", "1.0;reboot", "1.0 2", "../1"])
def test_a_version_that_is_no_version_is_refused(tmp_path: Path, version: str) -> None:
    with pytest.raises(UsageError):
        package.build(tmp_path, [package.entry(version, package.EPOCH, 1)])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["error: update failed", "x error: exit status 1", "x patchwave: dev: no way"], "dev: no way"),
        (["- [mandatory] [severity: high]  a-rule  (x)", "What it asks.", "y: do z", "error: preview failed"],
         "refused by policy a-rule: y: do z"),
        (["error: update failed", "vm error: QuotaExceeded: no"], "QuotaExceeded: no"),
        ([], "it wrote nothing"),
    ],
)  # fmt: skip
def test_a_failed_run_is_told_in_one_line(lines: list[str], expected: str) -> None:
    assert reason(lines) == expected


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (192, "3 min 12 s"), (3600, "60 min 00 s")])
def test_a_duration_reads_as_people_say_it(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


def test_only_text_that_is_whole_is_ever_read(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_atomically(path, "one", 0o600)
    write_atomically(path, "two", 0o600)
    assert (path.read_text(), oct(path.stat().st_mode & 0o777)) == ("two", "0o600")
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]
