"""What may reach apt on a host, and what a transaction may do there."""

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwave.methods.versions import reaches, rpm_order
from tests.unit.playbook_code import load

from ansible.module_utils import patchwave_apt as apt  # isort: skip
from ansible.module_utils import patchwave_versions as versions  # isort: skip
from ansible.module_utils import patchwave_dnf as dnf  # isort: skip
from ansible.module_utils import patchwave_packages as packages  # isort: skip
from ansible.module_utils.patchwave_host import Journal, StepError  # isort: skip

transaction = load("modules", "patchwave_transaction")
protect = load("modules", "patchwave_protect")

VERSIONS = st.from_regex(r"([0-9]{1,2}:)?[0-9][0-9a-z.+~]{0,6}(-[0-9a-z.+~]{1,5})?", fullmatch=True)
DIGEST = "a" * 64


def row(name="openssl", arch="amd64", old="1.0", to="2.0", **more):
    return {"name": name, "arch": arch, "from": old, "to": to, "sha256": DIGEST, "size": 1, **more}


def have(name, version, *, arch="amd64", held=False, status="installed"):
    return versions.Installed(name, arch, version, held, status, name, version)


@pytest.mark.skipif(not shutil.which("dpkg"), reason="dpkg is the judge and is not on this machine")
@given(VERSIONS, VERSIONS)
def test_versions_are_ordered_as_dpkg_orders_them(left, right):
    order = versions.compare(left, right)
    shown = "lt" if order < 0 else "gt" if order > 0 else "eq"
    assert subprocess.run(["dpkg", "--compare-versions", left, shown, right], check=False).returncode == 0


@given(VERSIONS, VERSIONS, VERSIONS)
def test_versions_have_one_order(a, b, c):
    assert (versions.compare(a, b) < 0) == (versions.compare(b, a) > 0)
    assert versions.compare(a, a) == 0
    if versions.compare(a, b) <= 0 and versions.compare(b, c) <= 0:
        assert versions.compare(a, c) <= 0


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0~rc1", "1.0"),
        ("1.0-1", "1.0-1+deb12u1"),
        ("3.0.9-1", "3.0.10-1"),
        ("9.9", "1:0.1"),
        ("1.0-1+deb12u2~bpo1", "1.0-1+deb12u2"),
        ("1.0a", "1.0+"),
        ("1.0", "1.0-1"),
    ],
)
def test_what_people_get_wrong_about_versions(older, newer):
    assert versions.compare(older, newer) < 0 < versions.compare(newer, older)


@pytest.mark.parametrize(
    "bad",
    [
        row(name="a;touch /pwn"),
        row(name="-oDpkg::Pre-Invoke::=id"),
        row(name="openssl\n"),
        row(name="Openssl"),
        row(name="\u03bfpenssl"),
        row(name="a"),
        row(name=None),
        row(name=["openssl"]),
        row(to="1.0 -y"),
        row(to="$(id)"),
        row(to="{{ lookup('pipe', 'id') }}"),
        row(to="v1"),
        row(to=""),
        row(to="1.0\n"),
        row(arch="amd64;id"),
        row(sha256="A" * 64),
        row(sha256=""),
        row(name="a" * 300),
    ],
)
def test_a_package_that_is_not_exactly_one_is_refused(bad):
    with pytest.raises(StepError, match="not a valid one"):
        versions.release_items({"packages": [row(), bad]})


@given(st.text(max_size=12))
def test_nothing_that_a_shell_or_apt_could_read_otherwise_is_a_name_or_a_version(text):
    for pattern in (versions.NAME, versions.VERSION, versions.ARCHITECTURE, versions.UNIT, versions.DATABASE):
        if pattern.fullmatch(text):
            assert not set(text) & set(" \t\n;&|<>$`'\"\\(){}*?[]#!/=,%^")
            assert not text.startswith(("-", "+", ".", "~"))
            assert text.isascii()


def test_a_release_that_lists_a_package_twice_is_refused():
    with pytest.raises(StepError, match="listed twice"):
        versions.release_items({"packages": [row(), row(to="3.0")]})


NAMES = st.sampled_from(["aa", "bb", "cc", "dd"])


@given(st.lists(st.tuples(NAMES, VERSIONS, VERSIONS, st.booleans()), unique_by=lambda r: r[0]))
def test_each_package_of_a_release_is_upgraded_or_held_or_current_or_absent(rows):
    items = versions.release_items({"packages": [row(name=name, to=to) for name, to, _, _ in rows]})
    installed = {name: have(name, version, held=held) for name, _, version, held in rows if name != "dd"}
    plan = versions.make_plan(items, installed, "amd64")
    found = [*plan.upgrades, *plan.held, *plan.current]
    assert sorted(found) == sorted(installed)
    assert not plan.candidates
    for key, (version, item) in plan.upgrades.items():
        assert versions.compare(version, item.to) < 0
        assert not installed[key].held
    for key in plan.current:
        assert all(versions.compare(installed[key].version, item.to) >= 0 for item in items if item.name == key)


def test_a_package_of_another_architecture_is_another_package():
    items = versions.release_items({"packages": [row(arch="i386"), row(name="tzdata", arch="all")]})
    plan = versions.make_plan(items, {"openssl": have("openssl", "1.0"), "tzdata": have("tzdata", "1.0")}, "amd64")
    assert list(plan.upgrades) == ["tzdata"]


def test_a_package_may_be_new_only_when_the_release_says_so():
    items = versions.release_items({"packages": [row(name="linux-image-6.1.0-42-amd64", old=""), row(name="absent")]})
    plan = versions.make_plan(items, {}, "amd64")
    assert list(plan.candidates) == ["linux-image-6.1.0-42-amd64"]
    assert not plan.upgrades


SIMULATION = """
Reading package lists...
Inst libssl3 [3.0.20-1~deb12u2] (3.0.22-1~deb12u2 Debian-Security:12/oldstable-security [amd64]) [openssl:amd64 ]
Inst libc6:i386 [2.36-9] (2.36-9+deb12u14 Debian-Security:12/oldstable-security [i386])
Inst tzdata [2026b-0] (2026f-0 Debian-Security:12/oldstable-security [all])
Conf libssl3 (3.0.22-1~deb12u2 Debian-Security:12/oldstable-security [amd64])
Remv fieldops-desk [1.0.0]
"""


def test_what_apt_says_is_read_as_it_says_it():
    actions = versions.parse_simulation(SIMULATION, "amd64")
    assert [(action.what, action.key, action.version) for action in actions] == [
        ("Inst", "libssl3", "3.0.22-1~deb12u2"),
        ("Inst", "libc6:i386", "2.36-9+deb12u14"),
        ("Inst", "tzdata", "2026f-0"),
        ("Conf", "libssl3", "3.0.22-1~deb12u2"),
        ("Remv", "fieldops-desk", ""),
    ]


EXPECTED = {"libssl3": "3.0.22-1~deb12u2", "libc6:i386": "2.36-9+deb12u14", "tzdata": "2026f-0"}


def test_a_transaction_that_removes_a_package_is_refused():
    actions = versions.parse_simulation(SIMULATION, "amd64")
    assert versions.judge(actions, EXPECTED, {}) == ["removes fieldops-desk"]
    assert versions.judge(actions, EXPECTED, {}, remove=["fieldops-desk"]) == []


@pytest.mark.parametrize(
    ("expected", "allowed", "complaint"),
    [
        ({"libssl3": "3.0.22-1~deb12u2"}, {}, "changes tzdata to 2026f-0, which the release does not list"),
        (EXPECTED | {"tzdata": "2026g-0"}, {}, "sets tzdata to 2026f-0 instead of 2026g-0"),
        (EXPECTED | {"openssl": "3.0.22"}, {}, "leaves openssl as it is instead of 3.0.22"),
        ({}, EXPECTED | {"tzdata": "2026a-0"}, "sets tzdata to 2026f-0 instead of 2026a-0"),
    ],
)
def test_a_transaction_changes_exactly_what_is_listed(expected, allowed, complaint):
    actions = [a for a in versions.parse_simulation(SIMULATION, "amd64") if a.what != "Remv"]
    assert complaint in versions.judge(actions, expected, allowed)


@given(st.dictionaries(NAMES, VERSIONS), st.dictionaries(NAMES, VERSIONS))
def test_only_the_exact_transaction_passes(expected, done):
    actions = [versions.Action("Inst", key, version) for key, version in done.items()]
    assert (versions.judge(actions, expected, {}) == []) == (done == expected)


def test_what_dpkg_says_afterwards_is_judged_too():
    before, a = {"aa": have("aa", "1"), "bb": have("bb", "1")}, have("aa", "2")
    assert transaction.unlisted(before, {"aa": a, "bb": have("bb", "1")}, {"aa": "2"}) == ""
    assert "bb went from 1 to 2" in transaction.unlisted(before, {"aa": a, "bb": have("bb", "2")}, {"aa": "2"})
    assert "bb went from 1 to absent" in transaction.unlisted(before, {"aa": a}, {"aa": "2"})
    half = {"aa": have("aa", "2", status="half-configured"), "bb": have("bb", "1")}
    assert "aa is 2 half-configured" in transaction.unlisted(before, half, {"aa": "2"})


def kept(root, sha256):
    """A host's journal in which protect has kept one package with that digest."""
    journal = Journal("20261123T090000Z-1a2b3c", root).open()
    files = {"new": [{"key": "openssl", "version": "2.0", "sha256": sha256}], "old": [{"key": "openssl"}]}
    journal.write("protect", "done", digest="d", result={**files, "before": {"openssl": "1.0"}})
    return journal


def test_a_package_that_was_kept_with_another_digest_than_the_releases_is_not_installed(tmp_path):
    items = versions.release_items({"packages": [row()]})
    plan = versions.make_plan(items, {"openssl": have("openssl", "1.0")}, "amd64")
    assert transaction.protected(kept(tmp_path / "good", DIGEST), plan, "d")["before"] == {"openssl": "1.0"}
    with pytest.raises(StepError, match=r"openssl 2\.0 is not kept with the release's sha256"):
        transaction.protected(kept(tmp_path / "bad", "b" * 64), plan, "d")


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb is not on this machine")
def test_a_package_file_with_one_changed_byte_is_thrown_away(tmp_path):
    control = tmp_path / "tree" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(
        "Package: openssl\nVersion: 2.0\nArchitecture: amd64\nMaintainer: a <a@b.invalid>\nDescription: x\n"
    )
    deb = tmp_path / "openssl_2.0_amd64.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tmp_path / "tree", deb], check=True)
    kept = [{"key": "openssl", "name": "openssl", "version": "2.0", "arch": "amd64", "file": deb.name}]
    promise = {"openssl": packages.sha256_of(deb)}
    protect.promised(apt, kept, tmp_path, promise, "the release")
    whole = bytearray(deb.read_bytes())
    whole[-1] ^= 1
    deb.write_bytes(whole)
    with pytest.raises(StepError, match="it is not the sealed package"):
        protect.promised(apt, kept, tmp_path, promise, "the release")
    assert not deb.exists()


CHANGELOG = """openssl (3.0.22-1~deb12u2) bookworm-security; urgency=high

  * Fix CVE-2026-11111 and CVE-2026-11112: a certificate could say
    more than it should. CVE-2026-11111 again.

 -- Sebastian <s@debian.invalid>  Wed, 21 Oct 2026 11:54:24 +0200

openssl (3.0.22-1~deb12u1) bookworm-security; urgency=medium

  * Import of 3.0.22 (CVE-2026-10000).

 -- Sebastian <s@debian.invalid>  Wed, 23 Sep 2026 03:52:17 +0000

openssl (3.0.20-1~deb12u2) bookworm; urgency=medium

  * Old news: CVE-2025-1111.

 -- Sebastian <s@debian.invalid>  Mon, 01 Jun 2026 00:00:00 +0000
"""


def test_a_changelog_tells_what_is_newer_and_no_more():
    source, entries = versions.parse_changelog(CHANGELOG, "3.0.20-1~deb12u2", "3.0.22-1~deb12u2")
    assert source == "openssl"
    assert entries == [
        {
            "version": "3.0.22-1~deb12u2",
            "date": "2026-10-21T09:54:24Z",
            "urgency": "high",
            "cves": ["CVE-2026-11111", "CVE-2026-11112"],
        },
        {
            "version": "3.0.22-1~deb12u1",
            "date": "2026-09-23T03:52:17Z",
            "urgency": "medium",
            "cves": ["CVE-2026-10000"],
        },
    ]
    assert [e["version"] for e in versions.parse_changelog(CHANGELOG, "0", "3.0.22-1~deb12u1")[1]] == [
        "3.0.22-1~deb12u1",
        "3.0.20-1~deb12u2",
    ]


@given(st.text(max_size=400))
def test_no_changelog_breaks_the_reader(text):
    for entry in versions.parse_changelog(CHANGELOG[:200] + text, "0", "9999")[1]:
        assert set(entry) == {"version", "date", "urgency", "cves"}


def test_a_failed_script_is_named_and_not_only_its_exit_code():
    shown = (
        "dpkg: error processing package fieldops-desk (--configure):\n"
        " installed fieldops-desk package post-installation script subprocess returned error exit status 1\n"
        "Errors were encountered while processing:\n fieldops-desk\n"
        "E: Sub-process /usr/bin/dpkg returned an error code (1)\n"
    )
    assert apt.complaint(shown).startswith("fieldops-desk: installed fieldops-desk package post-installation script")
    assert apt.complaint("", "E: Unable to lock\n") == "E: Unable to lock"


RPM_VERSIONS = st.from_regex(r"[0-9a-z]{1,3}([.~^_][0-9a-z]{1,3}){0,3}", fullmatch=True)


@pytest.mark.skipif(not shutil.which("rpm"), reason="rpm is the judge and is not on this machine")
@given(RPM_VERSIONS, RPM_VERSIONS)
def test_rpm_versions_are_ordered_as_rpm_orders_them(left, right):
    shown = subprocess.run(
        ["rpm", "--eval", f'%{{lua: print(rpm.vercmp("{left}", "{right}"))}}'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert rpm_order(f"{left}-1", f"{right}-1") == int(shown.stdout)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0~rc1-1.el9", "1.0-1.el9"),
        ("1.0-1.el9", "1.0^20260101-1.el9"),
        ("1.0^20260101-1.el9", "1.0.1-1.el9"),
        ("9.9-1.el9", "1:0.1-1.el9"),
        ("5.14.0-427.el9", "5.14.0-427.13.el9"),
        ("1.0a-1", "1.0.1-1"),
        ("1.9-2", "1.10-1"),
    ],
)
def test_what_people_get_wrong_about_rpm_versions(older, newer):
    assert reaches("dnf", newer, older)
    assert not reaches("dnf", older, newer)


def rpm_row(**changed):
    return {**row("kernel-core", "x86_64", to="5.14.0-427.13.el9"), "method": "dnf", **changed}


def test_each_method_takes_its_own_packages_of_a_release():
    release = {"packages": [row(), rpm_row(), rpm_row(name="openssl", to="1:3.0.7-27.el9")]}
    assert [(one.name, one.to) for one in versions.release_items(release)] == [("openssl", "2.0")]
    rpms = versions.release_items(release, dnf.RPM)
    assert [(one.name, one.to) for one in rpms] == [("kernel-core", "5.14.0-427.13.el9"), ("openssl", "1:3.0.7-27.el9")]


@pytest.mark.parametrize(
    "bad", [{"name": "-oid"}, {"name": "a b"}, {"to": "1.0"}, {"to": "1.0-1;id"}, {"to": "/etc-1"}, {"arch": "../x"}]
)
def test_an_rpm_that_is_not_exactly_one_is_refused(bad):
    with pytest.raises(StepError, match="not a valid one"):
        versions.release_items({"packages": [rpm_row(**bad)]}, dnf.RPM)


ENTRIES = [
    (1793534400, "A <a@b.invalid> - 1.1-2", "- fix CVE-2026-1111 and\n  CVE-2026-1112"),
    (1793448000, "A <a@b.invalid> [1.1-1.el9]", "- nothing"),
    (1793448000, "A <a@b.invalid>", "- CVE-2026-2222"),
    (1793361600, "A <a@b.invalid> - 1.0-1", "- CVE-2025-1"),
    (1793361600, "A <a@b.invalid> - 9.9-1", "- a branch of long ago: CVE-2025-2222"),
]


def test_an_rpm_changelog_is_read_up_to_the_installed_version_and_no_further():
    entries = dnf.parse_changelog(ENTRIES, "1:1.0-1.el9", "1:1.1-2.el9", rpm_order)
    assert [(entry["version"], entry["cves"]) for entry in entries] == [
        ("1:1.1-2", ["CVE-2026-1111", "CVE-2026-1112"]),
        ("1:1.1-1.el9", []),
        ("1:1.1-2.el9", ["CVE-2026-2222"]),
    ]
    assert entries[0]["date"] == "2026-11-01T12:00:00Z"


@pytest.mark.parametrize("locked", [True, False])
def test_a_hold_of_ours_is_a_version_lock_or_an_exclude_and_leaves_no_trace(tmp_path, monkeypatch, locked):
    plugin, listed, main = (tmp_path / name for name in ("versionlock.conf", "versionlock.list", "dnf.conf"))
    monkeypatch.setattr(dnf, "VERSIONLOCK", plugin)
    monkeypatch.setattr(dnf, "CONFIGURATION", main)
    if locked:
        plugin.write_text(f"[main]\nenabled = 1\nlocklist = {listed}\n")
    listed.write_text("nginx-1:1.20-1.el9.*\n")
    main.write_text("[main]\ngpgcheck=1\nexcludepkgs=nginx\nbest=True\n")
    before = listed.read_text(), main.read_text()
    held = have("openssl", "1:3.0.7-25.el9", arch="x86_64")
    dnf.hold([held])
    after = (listed if locked else main).read_text()
    assert ("openssl-1:3.0.7-25.el9.*\n" if locked else "excludepkgs=nginx openssl\n") in after
    dnf.unhold([held])
    assert (listed.read_text(), main.read_text()) == before
