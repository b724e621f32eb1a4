"""Approvals: a signature counts for one person, role, stack and digest, for a while, and nothing else does."""

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwave.authorization import approvals
from patchwave.authorization.approvals import Approval, Found, Request
from patchwave.base.errors import Failed, Refused, UsageError
from patchwave.evidence import signing
from tests.unit.builders import NOW, STANDARD, make_keys

DIGEST = "d" * 64
RELEASE = "2026-11-22.1"
PEOPLE = ("ciso@dcmms.com", "cto@dcmms.com", "security-lead@dcmms.com", "author@dcmms.com")
CRITICAL = ("CISO", "CTO")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys"), *PEOPLE)


def approval(person: str = "cto@dcmms.com", role: str = "CTO", **changed: Any) -> Approval:
    fields = {
        "kind": "normal",
        "stack": "prod",
        "release": RELEASE,
        "digest": DIGEST,
        "role": role,
        "person": person,
        "at": NOW - timedelta(hours=1),
        "expires": NOW + timedelta(hours=71),
        "note": "",
        "rehearsal": False,
    }
    return Approval.model_validate(fields | changed)


def request(**changed: Any) -> Request:
    fields = {
        "stack": "prod",
        "digest": DIGEST,
        "author": "author@dcmms.com",
        "at": NOW,
        "until": NOW + timedelta(hours=1),
        "roles": STANDARD.roles,
        "valid": STANDARD.approvals.valid,
        "rehearsal": False,
    }
    return Request.model_validate(fields | changed)


def give(project: Path, keys: Path, given: Approval, key: str | None = None) -> Path:
    return approvals.give(project, given, keys / (key or given.person), keys / "signers")


def read(project: Path, keys: Path, at: datetime = NOW) -> tuple[Found, ...]:
    return approvals.read(project, RELEASE, "prod", keys / "signers", at)


def only(project: Path, keys: Path, wanted: Request | None = None) -> str | None:
    (found,) = read(project, keys)
    return approvals.objection(found, wanted or request())


def test_what_was_signed_counts(tmp_path: Path, keys: Path) -> None:
    path = give(tmp_path, keys, approval())
    assert path == tmp_path / "approvals" / RELEASE / "prod.cto.cto-dcmms-com.json"
    assert only(tmp_path, keys) is None
    give(tmp_path, keys, approval("ciso@dcmms.com", "CISO"))
    counted = approvals.count(CRITICAL, read(tmp_path, keys), request(), "normal")
    assert counted.counted == {"CISO": "ciso@dcmms.com", "CTO": "cto@dcmms.com"}
    assert counted.missing == {}


def test_a_signature_can_be_checked_without_patchwave(tmp_path: Path, keys: Path) -> None:
    path = give(tmp_path, keys, approval())
    command = ["ssh-keygen", "-Y", "verify", "-f", keys / "signers", "-I", "cto@dcmms.com", "-n", "patchwave-approval"]
    with path.open("rb") as content:
        done = subprocess.run([*command, "-s", f"{path}.sig"], stdin=content, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_key_that_is_not_that_persons_cannot_sign(tmp_path: Path, keys: Path) -> None:
    with pytest.raises(Refused, match=r"signers does not list for cto@dcmms\.com"):
        give(tmp_path, keys, approval(), key="ciso@dcmms.com")
    assert not list(tmp_path.rglob("*.json"))
    with pytest.raises(Failed, match="cannot sign"):
        give(tmp_path, keys, approval(), key="signers")


Change = Callable[[Path, Path], None]


def resigned(path: Path, keys: Path, *, by: str, namespace: str = approvals.NAMESPACE) -> None:
    signature = signing.sign(path.read_bytes(), keys / by, namespace)
    path.with_name(f"{path.name}.sig").write_text(signature, encoding="ascii")


def edited(path: Path, keys: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"normal"', b'"emergency"'))


def spaced(path: Path, keys: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1), encoding="utf-8")
    resigned(path, keys, by="cto@dcmms.com")


def forged(path: Path, keys: Path) -> None:
    resigned(path, keys, by="stranger")


def by_a_colleague(path: Path, keys: Path) -> None:
    resigned(path, keys, by="ciso@dcmms.com")


def for_evidence(path: Path, keys: Path) -> None:
    resigned(path, keys, by="cto@dcmms.com", namespace="patchwave-evidence")


def unsigned(path: Path, keys: Path) -> None:
    path.with_name(f"{path.name}.sig").unlink()


def garbled(path: Path, keys: Path) -> None:
    path.with_name(f"{path.name}.sig").write_bytes(b"\xff\x00 no signature")


def renamed(path: Path, keys: Path) -> None:
    for suffix in ("", ".sig"):
        name = f"prod.ciso.ciso-dcmms-com.json{suffix}"
        path.with_name(f"{path.name}{suffix}").rename(path.with_name(name))


def no_json(path: Path, keys: Path) -> None:
    path.write_text("approved!", encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edited, "edited after signing"),
        (spaced, "not in canonical form"),
        (forged, "does not list for cto@dcmms.com"),
        (by_a_colleague, "does not list for cto@dcmms.com"),
        (for_evidence, "signed for another purpose"),
        (unsigned, "prod.cto.cto-dcmms-com.json.sig is missing"),
        (garbled, "does not fit"),
        (renamed, "named for somebody else"),
        (no_json, "it is no approval"),
    ],
)
def test_a_file_that_somebody_touched_does_not_count(tmp_path: Path, keys: Path, change: Change, message: str) -> None:
    change(give(tmp_path, keys, approval()), keys)
    problem = only(tmp_path, keys)
    assert problem is not None
    assert message in problem
    assert "\n" not in problem


def test_a_key_that_may_sign_evidence_only_does_not_approve(tmp_path: Path, keys: Path) -> None:
    limited = tmp_path / "signers"
    limited.write_text((keys / "signers").read_text().replace("cto@dcmms.com ", 'cto@dcmms.com namespaces="x" '))
    give(tmp_path, keys, approval())
    (found,) = approvals.read(tmp_path, RELEASE, "prod", limited, NOW)
    assert "does not list for cto@dcmms.com" in str(found.problem)


def test_a_key_counts_only_while_it_is_valid(tmp_path: Path, keys: Path) -> None:
    until = f"{NOW:%Y%m%d}"
    expiring = tmp_path / "signers"
    expiring.write_text(
        (keys / "signers").read_text().replace("cto@dcmms.com ", f'cto@dcmms.com valid-before="{until}" ')
    )
    give(tmp_path, keys, approval())
    for at, good in ((NOW - timedelta(days=1), True), (NOW + timedelta(days=1), False)):
        (found,) = approvals.read(tmp_path, RELEASE, "prod", expiring, at)
        assert (found.problem is None) == good


def test_without_a_list_of_signers_nothing_counts(tmp_path: Path, keys: Path) -> None:
    give(tmp_path, keys, approval())
    (found,) = approvals.read(tmp_path, RELEASE, "prod", None, NOW)
    assert "no list of allowed signers" in str(found.problem)


def test_a_list_of_signers_that_is_named_must_be_there(tmp_path: Path) -> None:
    assert signing.allowed_signers(tmp_path, {}) is None
    with pytest.raises(UsageError, match="there is no such file"):
        signing.allowed_signers(tmp_path, {signing.SIGNERS: str(tmp_path / "gone")})


@pytest.mark.parametrize(
    ("given", "wanted", "message"),
    [
        ({"digest": "e" * 64}, {}, "it is for digest eeeeeeeeeeee, the release has dddddddddddd"),
        ({"stack": "staging"}, {}, "it is for staging"),
        ({}, {"at": NOW + timedelta(hours=71)}, "it expired"),
        ({}, {"until": NOW + timedelta(hours=72)}, "it expires Thu 2026-11-26 08:00 UTC, the work may take until"),
        ({"expires": NOW + timedelta(hours=72)}, {}, "it claims 73.0 h, the standard allows 72.0 h"),
        ({"at": NOW + timedelta(seconds=1)}, {}, "the clocks disagree"),
        ({}, {"author": "CTO@dcmms.com"}, "its author does not approve it"),
        ({"role": "CISO"}, {}, "cto@dcmms.com is not CISO by the standard"),
        ({"role": "Emperor"}, {}, "cto@dcmms.com is not Emperor by the standard"),
        ({"rehearsal": True}, {}, "it was given in a rehearsal"),
        ({"rehearsal": True}, {"rehearsal": True}, None),
        ({}, {"rehearsal": True}, None),
    ],
)
def test_a_good_signature_counts_for_what_it_says_only(
    given: Mapping[str, Any], wanted: Mapping[str, Any], message: str | None
) -> None:
    found = Found(file="f", sha256="0" * 64, approval=approval(**given), problem=None)
    problem = approvals.objection(found, request(**wanted))
    assert (problem is None) if message is None else (message in str(problem))


def test_one_person_with_two_roles_counts_once(tmp_path: Path, keys: Path) -> None:
    roles = {**STANDARD.roles, "CISO": ("cto@dcmms.com",)}
    give(tmp_path, keys, approval())
    give(tmp_path, keys, approval(role="CISO"))
    counted = approvals.count(CRITICAL, read(tmp_path, keys), request(roles=roles), "normal")
    assert len(counted.counted) == 1
    assert list(counted.missing.values()) == ["cto@dcmms.com counts for another role"]


@pytest.mark.parametrize(
    ("given", "wanted", "counts"),
    [
        ("normal", "normal", True),
        ("emergency", "normal", True),
        ("break-glass", "emergency", True),
        ("normal", "emergency", False),
        ("emergency", "break-glass", False),
    ],
)
def test_a_stronger_approval_counts_for_a_weaker_one(given: Any, wanted: Any, counts: bool) -> None:
    signed = approval(kind=given, expires=NOW + timedelta(hours=20))
    found = Found(file="prod.cto.x.json", sha256="0" * 64, approval=signed, problem=None)
    counted = approvals.count(["CTO"], [found], request(), wanted)
    assert (counted.missing == {}) == counts
    if not counts:
        assert f"it is {given}, {wanted} is needed" in counted.missing["CTO"]


def brute_force(needed: list[str], offers: Mapping[str, set[str]]) -> int:
    """The most roles that distinct people can fill, by trying everything."""

    def best(roles: list[str], used: frozenset[str]) -> int:
        if not roles:
            return 0
        role, rest = roles[0], roles[1:]
        filled = [1 + best(rest, used | {person}) for person in offers.get(role, set()) - used]
        return max([best(rest, used), *filled])

    return best(needed, frozenset())


ROLES = st.lists(st.sampled_from("ABCDE"), unique=True)
OFFERS = st.dictionaries(st.sampled_from("ABCDE"), st.sets(st.sampled_from("pqrst")))


@given(needed=ROLES, offers=OFFERS)
def test_as_many_roles_are_filled_as_distinct_people_can_fill(needed: list[str], offers: dict[str, set[str]]) -> None:
    made = approvals.assign(needed, offers)
    assert len(set(made.values())) == len(made) == brute_force(needed, offers)
    assert all(role in needed and person in offers[role] for role, person in made.items())


@given(needed=ROLES, offers=OFFERS, role=st.sampled_from("ABCDE"), person=st.sampled_from("pqrst"))
def test_another_approval_never_leaves_more_roles_empty(
    needed: list[str], offers: dict[str, set[str]], role: str, person: str
) -> None:
    more = {**offers, role: offers.get(role, set()) | {person}}
    assert len(approvals.assign(needed, more)) >= len(approvals.assign(needed, offers))


def test_signing_again_replaces_the_file_and_its_signature(tmp_path: Path, keys: Path) -> None:
    give(tmp_path, keys, approval(note="first"))
    give(tmp_path, keys, approval(note="second"))
    (found,) = read(tmp_path, keys)
    assert (found.problem, found.approval and found.approval.note) == (None, "second")
    assert len(list((tmp_path / "approvals" / RELEASE).iterdir())) == 2


def test_a_copy_for_another_release_is_for_another_digest(tmp_path: Path, keys: Path) -> None:
    give(tmp_path, keys, approval())
    shutil.copytree(tmp_path / "approvals" / RELEASE, tmp_path / "approvals" / "2026-11-23.1")
    (found,) = approvals.read(tmp_path, "2026-11-23.1", "prod", keys / "signers", NOW)
    assert "it is for digest" in str(approvals.objection(found, request(digest="e" * 64)))
