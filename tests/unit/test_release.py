"""Releases: what is sealed, what its digest covers, and what is refused."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwave.base.errors import Failed, Refused, UsageError
from patchwave.config.standard import Severity
from patchwave.releases import release as releases
from patchwave.releases.advisories import NOTHING
from patchwave.releases.release import ChangelogEntry, LeftOut, Pending, Release, Sealed
from tests.unit.builders import AUTHOR, NOW, STANDARD, package, pending, release

Made = tuple[Release | None, tuple[LeftOut, ...]]


def test_only_security_updates_are_chosen() -> None:
    updates = [
        pending(),
        pending("vim", label="Debian"),
        pending("fieldops-desk", origin="FieldOps", label="FieldOps-Security"),
    ]
    chosen = releases.security_updates({"a": updates}, STANDARD)
    assert sorted(chosen) == [("apt", "fieldops-desk"), ("apt", "openssl")]


def rpm(name: str = "openssl", to: str = "1:3.0.7-27.el9", **changed: Any) -> Pending:
    fields = {"method": "dnf", "arch": "x86_64", "from": "1:3.0.7-25.el9", "origin": "dnf", "suite": "baseos"}
    return pending(name, to, **{"label": "security", **fields, **changed})


def test_what_dnf_offers_is_a_security_update_only_where_updateinfo_asks_for_it() -> None:
    chosen = releases.security_updates({"a": [rpm(), rpm("vim-minimal", label="")]}, STANDARD)
    assert sorted(chosen) == [("dnf", "openssl")]


def test_a_release_holds_deb_and_rpm_packages_of_one_name_beside_each_other() -> None:
    chosen = releases.security_updates({"a": [pending()], "b": [rpm()]}, STANDARD)
    sealed = release(*chosen.values())
    assert [(one.method, one.to) for one in sealed.packages] == [("apt", pending().to), ("dnf", rpm().to)]
    assert {one.version for one in sealed.advisories} == {pending().to, rpm().to}


def test_hosts_that_are_offered_different_versions_stop_the_sealing() -> None:
    with pytest.raises(Failed, match=r"openssl: a is offered 3\.0\.20-1~deb12u2, b 3\.0\.21-1"):
        releases.security_updates({"a": [pending()], "b": [pending(to="3.0.21-1")]}, STANDARD)


def test_a_database_goes_back_by_dump_and_the_rest_by_downgrade() -> None:
    sealed = release(pending("postgresql-15"), pending())
    assert package(sealed, "postgresql-15").reversibility == "dump"
    assert package(sealed, "openssl").reversibility == "downgrade"


def test_an_update_from_an_index_that_apt_does_not_trust_is_not_sealed() -> None:
    with pytest.raises(Failed, match=r"a: openssl .* apt does not trust"):
        releases.security_updates({"a": [pending(trusted=False)]}, STANDARD)


def test_a_package_that_comes_along_new_counts_as_new_wherever_one_host_lacks_it() -> None:
    old, new = pending("linux-image-6.1.0-42-amd64"), pending("linux-image-6.1.0-42-amd64", **{"from": None})
    for hosts in ({"a": [old], "b": [new]}, {"a": [new], "b": [old]}):
        assert releases.security_updates(hosts, STANDARD)["apt", "linux-image-6.1.0-42-amd64"].from_ is None
    sealed = release(new, pending("linux-image-amd64"))
    assert package(sealed, "linux-image-6.1.0-42-amd64").from_ is None


def test_new_packages_alone_are_no_release() -> None:
    updates = [pending("linux-image-6.1.0-42-amd64", **{"from": None})]
    assert made(updates, {})[0] is None


def entry(days: float, version: str = "3.0.20-1~deb12u2") -> ChangelogEntry:
    date = NOW - timedelta(days=days)
    return ChangelogEntry(version=version, date=date, urgency="high", cves=("CVE-2026-1000",))


def made(updates: list[Pending], ages: dict[str, float], unscored: Severity = "medium") -> Made:
    standard = STANDARD.model_copy(update={"unscored": unscored})
    changelogs = {one.key: [entry(ages[one.name])] if one.name in ages else [] for one in updates}
    sealed = Sealed(stack="dev", at=NOW, hosts=("a",))
    return releases.seal("2026-11-23.1", AUTHOR, sealed, updates, changelogs, standard, NOTHING)


def test_a_fix_that_is_too_young_is_left_out_and_named_with_its_date() -> None:
    sealed, left = made([pending(), pending("nginx")], {"openssl": 2.0, "nginx": 1.99})
    assert sealed is not None
    assert [one.name for one in sealed.packages] == ["openssl"]
    assert sealed.left_out == left
    assert [one.name for one in left] == ["nginx"]
    assert "medium and published 2026-11-21: younger than 2 days" in left[0].reason
    assert left[0].until == NOW - timedelta(days=1.99) + timedelta(days=2)


@pytest.mark.parametrize("severity", ["critical", "high"])
def test_a_severe_fix_is_sealed_on_the_day_it_comes_out(severity: Severity) -> None:
    sealed, left = made([pending()], {"openssl": 0.0}, severity)
    assert (sealed is not None, left) == (True, ())


def test_all_packages_of_a_young_source_wait_together() -> None:
    updates = [pending("libssl3", source="openssl"), pending("openssl", source="openssl"), pending("nginx")]
    sealed, left = made(updates, {"libssl3": 1, "openssl": 1, "nginx": 9})
    assert sealed is not None
    assert [one.name for one in sealed.packages] == ["nginx"]
    assert [one.name for one in left] == ["libssl3", "openssl"]


@given(st.dictionaries(st.sampled_from(("aa", "bb", "cc", "dd")), st.floats(0, 10, allow_nan=False), min_size=1))
def test_every_update_is_either_sealed_or_left_out_never_both_nor_neither(ages: dict[str, float]) -> None:
    sealed, left = made([pending(name) for name in ages], ages)
    kept = [one.name for one in sealed.packages] if sealed else []
    assert sorted([*kept, *(one.name for one in left)]) == sorted(ages)
    assert all(one.until is not None and one.until > NOW for one in left)


def test_a_release_reads_the_same_however_its_updates_come() -> None:
    updates = [pending(name) for name in ("nginx", "openssl", "bash")]
    assert release(*updates).plain() == release(*reversed(updates)).plain()
    assert [one["name"] for one in release(*updates).plain()["packages"]] == ["bash", "nginx", "openssl"]


@given(st.sampled_from(("to", "from", "sha256", "name", "size")), st.integers(0, 1))
def test_any_edit_after_sealing_breaks_the_digest(field: str, which: int) -> None:
    sealed = release(pending(), pending("nginx"))
    data = sealed.plain()
    old = data["packages"][which][field]
    data["packages"][which][field] = old + 1 if isinstance(old, int) else f"{old}1"
    assert releases.digest(data) != sealed.digest


def test_a_release_survives_its_file(tmp_path: Path) -> None:
    sealed = release()
    releases.save(tmp_path, sealed)
    assert releases.load(tmp_path, sealed.id) == sealed
    assert releases.latest(tmp_path) == sealed
    with pytest.raises(FileExistsError):
        releases.save(tmp_path, sealed)


def test_an_edited_file_is_refused(tmp_path: Path) -> None:
    path = releases.save(tmp_path, release())
    path.write_text(path.read_text(encoding="utf-8").replace("deb12u2", "deb12u3"), encoding="utf-8")
    with pytest.raises(Refused, match="edited after sealing"):
        releases.load(tmp_path, "2026-11-22.1")


def test_a_release_by_another_author_has_another_digest() -> None:
    sealed = release()
    assert releases.digest({**sealed.plain(), "author": "somebody@else.invalid"}) != sealed.digest


def test_a_renamed_file_is_refused(tmp_path: Path) -> None:
    path = releases.save(tmp_path, release())
    path.rename(path.with_name("2026-11-22.2.json"))
    with pytest.raises(Refused, match="keeps the name"):
        releases.load(tmp_path, "2026-11-22.2")


@pytest.mark.parametrize("name", ["a;touch /pwned", "-oProxyCommand=x", "../../etc", "{{ lookup('pipe', 'id') }}"])
def test_a_hostile_package_name_is_no_release(tmp_path: Path, name: str) -> None:
    path = releases.save(tmp_path, release())
    data = json.loads(path.read_text(encoding="utf-8"))
    data["packages"][0]["name"] = name
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(UsageError, match="is no release"):
        releases.load(tmp_path, "2026-11-22.1")


def test_ids_count_up_within_a_day(tmp_path: Path) -> None:
    first = release()
    releases.save(tmp_path, first)
    assert releases.next_id(tmp_path, first.sealed.at) == "2026-11-23.1"
    assert releases.next_id(tmp_path, first.sealed.at.replace(day=22)) == "2026-11-22.2"
