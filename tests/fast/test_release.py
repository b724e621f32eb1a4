"""Releases: what is sealed, what its digest covers, and what is refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwave import release as releases
from patchwave.errors import Failed, Misuse, Refused
from tests.fast.builders import STANDARD, package, pending, release


def test_only_security_updates_are_chosen() -> None:
    updates = [
        pending(),
        pending("vim", label="Debian"),
        pending("fieldops-desk", origin="FieldOps", label="FieldOps-Security"),
    ]
    assert sorted(releases.security_updates({"a": updates}, STANDARD)) == ["fieldops-desk", "openssl"]


def test_hosts_that_are_offered_different_versions_stop_the_sealing() -> None:
    with pytest.raises(Failed, match=r"openssl: a is offered 3\.0\.20-1~deb12u2, b 3\.0\.21-1"):
        releases.security_updates({"a": [pending()], "b": [pending(to="3.0.21-1")]}, STANDARD)


def test_a_database_goes_back_by_dump_and_the_rest_by_downgrade() -> None:
    sealed = release(pending("postgresql-15"), pending())
    assert package(sealed, "postgresql-15").reversibility == "dump"
    assert package(sealed, "openssl").reversibility == "downgrade"


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
    with pytest.raises(Misuse, match="is no release"):
        releases.load(tmp_path, "2026-11-22.1")


def test_ids_count_up_within_a_day(tmp_path: Path) -> None:
    first = release()
    releases.save(tmp_path, first)
    assert releases.next_id(tmp_path, first.sealed.at) == "2026-11-23.1"
    assert releases.next_id(tmp_path, first.sealed.at.replace(day=22)) == "2026-11-22.2"
