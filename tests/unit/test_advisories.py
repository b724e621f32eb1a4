"""The advisory store: what the field's files become, what an import refuses, and what a fix counts as."""

import json
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwave.base.errors import Refused, UsageError
from patchwave.releases import advisories, feeds
from patchwave.releases import release as releases
from patchwave.releases.advisories import FILE, NOTHING, Knowledge, assess
from patchwave.releases.feeds import Wanted, concerning, import_files
from tests.unit.builders import NOW, STANDARD, pending, release

WANTED = Wanted(frozenset({"madeup"}), frozenset({"CVE-2099-0009"}))
CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
MEDIUM = "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:N/I:N/A:H"


def vulnerability(cve: str = "CVE-2099-0001", *vectors: tuple[str, str], **changed: Any) -> dict[str, Any]:
    """A CVE as Debian's export has it."""
    record = {
        "schema_version": "1.7.3",
        "id": f"DEBIAN-{cve}",
        "modified": "2099-01-03T10:00:00Z",
        "published": "2099-01-01T10:00:00Z",
        "upstream": [cve],
        "details": "Made up.",
        "severity": [{"type": kind, "score": vector} for kind, vector in vectors or (("CVSS_V3", CRITICAL),)],
        "affected": [affected()],
        "references": [{"type": "ADVISORY", "url": "https://example.org/"}],
    }
    return record | changed


def affected(name: str = "madeup", ecosystem: str = "Debian:12", fixed: str = "1.2-3+deb12u1") -> dict[str, Any]:
    return {
        "package": {"ecosystem": ecosystem, "name": name, "purl": f"pkg:deb/debian/{name}?arch=source"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}],
        "versions": ["1.0-1", "1.2-3"],
        "ecosystem_specific": {"urgency": "not yet assigned"},
    }


def notice(**changed: Any) -> dict[str, Any]:
    """A security notice as Debian's and Ubuntu's exports have it."""
    record = {
        "id": "DSA-9999-1",
        "modified": "2099-01-03T10:00:00Z",
        "published": "2099-01-02T08:30:00Z",
        "summary": "madeup - security update",
        "upstream": ["CVE-2099-0001", "DEBIAN-CVE-2099-0002"],
        "affected": [affected(), affected(ecosystem="Debian:13", fixed="1.4-1+deb13u1"), affected(name="other")],
    }
    return record | changed


def catalog(*cves: str, released: str = "2099-02-01T00:00:00.0000Z", **changed: Any) -> dict[str, Any]:
    """CISA's catalogue."""
    entries = [
        {
            "cveID": cve,
            "vendorProject": "Made",
            "product": "Up",
            "vulnerabilityName": "Made Up",
            "dateAdded": "2099-01-20",
            "shortDescription": "Made up.",
            "requiredAction": "Apply updates.",
            "dueDate": "2099-02-10",
            "knownRansomwareCampaignUse": "Unknown",
            "notes": "",
            "cwes": ["CWE-787"],
        }
        for cve in cves
    ]
    head = {"title": "CISA", "catalogVersion": "2099.02.01", "dateReleased": released, "count": len(entries)}
    return {**head, "vulnerabilities": entries} | changed


def write(folder: Path, *documents: dict[str, Any]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.json" for number, _ in enumerate(documents)]
    for path, document in zip(paths, documents, strict=True):
        path.write_text(json.dumps(document), encoding="utf-8")
    return paths


def known(project: Path, *documents: dict[str, Any], wanted: Wanted = WANTED) -> Knowledge:
    import_files(project, write(project / "exports", *documents), wanted)
    return advisories.knowledge(advisories.read(project))


def test_a_notice_dates_the_fix_and_the_records_that_it_names_score_it(tmp_path: Path) -> None:
    found = known(tmp_path, notice(), vulnerability(), vulnerability("CVE-2099-0002", ("CVSS_V3", MEDIUM)))
    assert found.scores == {"CVE-2099-0001": 9.8, "CVE-2099-0002": 5.5}
    published = datetime(2099, 1, 2, 8, 30, tzinfo=UTC)
    assert found.published == {("madeup", "1.2-3+deb12u1"): published, ("madeup", "1.4-1+deb13u1"): published}
    assert found.cves["madeup", "1.2-3+deb12u1"] == ("CVE-2099-0001", "CVE-2099-0002")


def test_a_folder_a_zip_and_single_files_come_to_the_same_store(tmp_path: Path) -> None:
    documents = [notice(), vulnerability(), catalog("CVE-2099-0001")]
    files = write(tmp_path / "exports", *documents)
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in files[:2]:
            packed.write(path, f"osv/{path.name}")
    ways: list[list[Path]] = [files, files[::-1], [tmp_path / "exports"], [archive, files[2]]]
    stores = []
    for number, way in enumerate(ways):
        project = tmp_path / str(number)
        project.mkdir()
        import_files(project, way, WANTED)
        stores.append((project / FILE).read_bytes())
    assert len(set(stores)) == 1


def test_only_what_concerns_a_release_is_kept(tmp_path: Path) -> None:
    other = vulnerability("CVE-2099-0003", affected=[affected(name="other")])
    named = vulnerability("CVE-2099-0009", affected=[affected(name="other")])
    foreign = vulnerability("CVE-2099-0004", affected=[affected(ecosystem="PyPI")])
    imported = import_files(tmp_path, write(tmp_path / "exports", other, named, foreign, vulnerability()), WANTED)
    assert (imported.records, imported.kept) == (4, 2)
    assert [row.cve for row in imported.store.vulnerabilities] == ["CVE-2099-0001", "CVE-2099-0009"]
    assert "openssl" in concerning([release()]).sources


@pytest.mark.parametrize(
    ("vectors", "score"),
    [
        ([("CVSS_V3", MEDIUM), ("CVSS_V3", CRITICAL)], 9.8),
        ([("CVSS_V2", "AV:N/AC:L/Au:N/C:C/I:C/A:C"), ("CVSS_V3", MEDIUM)], 5.5),
        ([("CVSS_V3", CRITICAL), ("CVSS_V4", "CVSS:4.0/AV:L/AC:L/AT:N/PR:L/UI:N/VC:N/VI:N/VA:H/SC:N/SI:N/SA:N")], 6.8),
        ([("CVSS_V2", "AV:N/AC:L/Au:N/C:C/I:C/A:C")], 10.0),
        ([("Ubuntu", "medium")], None),
    ],
)
def test_the_newest_cvss_version_counts_and_of_that_the_highest_score(
    tmp_path: Path, vectors: list[tuple[str, str]], score: float | None
) -> None:
    assert known(tmp_path, vulnerability("CVE-2099-0001", *vectors)).scores.get("CVE-2099-0001") == score


def test_scores_that_stand_beside_the_package_count_too(tmp_path: Path) -> None:
    beside = affected() | {"severity": [{"type": "CVSS_V3", "score": CRITICAL}]}
    assert known(tmp_path, vulnerability(severity=None, affected=[beside])).scores == {"CVE-2099-0001": 9.8}


def test_a_record_modified_later_replaces_and_a_withdrawn_one_takes_back(tmp_path: Path) -> None:
    later = {"modified": "2099-03-01T00:00:00Z"}
    assert known(tmp_path, vulnerability()).scores["CVE-2099-0001"] == 9.8
    lower = vulnerability("CVE-2099-0001", ("CVSS_V3", MEDIUM), **later)
    assert known(tmp_path, lower).scores["CVE-2099-0001"] == 5.5
    assert known(tmp_path, vulnerability()).scores["CVE-2099-0001"] == 5.5
    assert known(tmp_path, vulnerability(**later, withdrawn="2099-03-01T00:00:00Z")).scores == {}


def test_a_newer_catalogue_replaces_and_an_older_one_is_refused(tmp_path: Path) -> None:
    assert known(tmp_path, catalog("CVE-2099-0001")).exploited == {"CVE-2099-0001"}
    newer = catalog("CVE-2099-0002", released="2099-02-02T00:00:00.0000Z")
    assert known(tmp_path, newer).exploited == {"CVE-2099-0002"}
    with pytest.raises(UsageError, match=r"the store has catalogue 2099\.02\.01, which is newer"):
        known(tmp_path, catalog("CVE-2099-0001"))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (vulnerability(colour="red"), r"0\.json: colour: there is no such key here"),
        (vulnerability(modified="yesterday"), r"0\.json: modified: "),
        (vulnerability(modified="2099-01-01T00:00:00"), r"modified: .* has no zone"),
        (vulnerability(id="../../etc/passwd"), r"0\.json: id: "),
        (vulnerability("CVE-2099-0001", ("CVSS_V3", CRITICAL[:-1] + "X")), r"0\.json: severity\.0\.score: 'CVSS:3\.1"),
        (vulnerability("CVE-2099-0001", ("CVSS_V3", "9.8")), r"severity\.0\.score: '9\.8'"),
        (
            vulnerability(severity=None, affected=[affected() | {"severity": [{"type": "CVSS_V4", "score": "x"}]}]),
            r"affected\.0\.severity\.0\.score",
        ),
        (vulnerability(affected=[{"package": {"name": "madeup"}}]), r"affected\.0\.package\.ecosystem: "),
        (notice(affected=[affected(fixed="1.0; rm -rf /")]), r"affected\.0\.ranges\.0\.events\.1\.fixed: version"),
        (catalog("CVE-2099-0001", count=2), r"count says 2, there are 1"),
        (catalog("CVE-1"), r"vulnerabilities\.0\.cveID: "),
        (catalog("CVE-2099-0001", colour="red"), r"colour: there is no such key here"),
    ],
)
def test_what_does_not_parse_is_named_by_file_and_field_and_leaves_the_store_alone(
    tmp_path: Path, document: dict[str, Any], message: str
) -> None:
    known(tmp_path, vulnerability())
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(UsageError, match=message):
        known(tmp_path, document)
    assert (tmp_path / FILE).read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"[" * 100_000, b'{"catalogVersion": ', b"\xff\xfe", b"PK\x03\x04"]
)
def test_what_is_no_document_at_all_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    for name in ("bad.json", "bad.zip"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UsageError) as caught:
            import_files(tmp_path, [path], WANTED)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_a_record_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "LARGEST", 1000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("DSA-1.json", " " * 100_000)
    with pytest.raises(UsageError, match=r"bomb\.zip: DSA-1\.json: 100000 bytes"):
        import_files(tmp_path, [tmp_path / "bomb.zip"], WANTED)


def test_a_store_that_was_edited_by_hand_is_refused(tmp_path: Path) -> None:
    known(tmp_path, vulnerability())
    path = tmp_path / FILE
    path.write_text(path.read_text(encoding="utf-8").replace("9.8", "1.8"), encoding="utf-8")
    with pytest.raises(Refused, match="edited by hand"):
        advisories.read(tmp_path)


def test_a_project_without_a_store_knows_nothing(tmp_path: Path) -> None:
    assert advisories.load(tmp_path) == NOTHING


def ask(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`patchwave advisories import` in a project that has one release."""
    (project / "Pulumi.yaml").touch()
    if not (project / "releases").exists():
        releases.save(project, release(pending("madeup")))
    command = [sys.executable, "-m", "patchwave.cli", "advisories", "import", *words]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def test_the_command_says_what_it_kept_and_a_second_time_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "exports", vulnerability(), notice(), catalog("CVE-2099-0001"), vulnerability("CVE-2099-0007"))
    first, second = (json.loads(ask(tmp_path, "exports", "--json").stdout) for _ in range(2))
    assert (first["records"], first["kept"], first["notices"], first["exploited"]) == (3, 3, 2, 1)
    assert first == second
    assert first["digest"] == json.loads((tmp_path / FILE).read_bytes())["digest"]


def test_the_command_refuses_in_one_line_and_with_2(tmp_path: Path) -> None:
    write(tmp_path / "exports", notice(published=7))
    refused = ask(tmp_path, "exports/0.json")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("patchwave: exports/0.json: published: ")
    assert refused.stderr.count("\n") == 1
    assert ask(tmp_path, "missing.json").returncode == 2


DAY = timedelta(days=1)
KNOWN = Knowledge(
    scores={"CVE-2099-0001": 9.8, "CVE-2099-0002": 5.5, "CVE-2099-0003": 3.1, "CVE-2099-0004": 7.0},
    exploited=frozenset({"CVE-2099-0003"}),
    published={("madeup", "2"): NOW - DAY},
    cves={},
)


@pytest.mark.parametrize(
    ("cves", "cvss", "severity", "exploited"),
    [
        (["CVE-2099-0001"], 9.8, "critical", False),
        (["CVE-2099-0004"], 7.0, "high", False),
        (["CVE-2099-0002"], 5.5, "medium", False),
        (["CVE-2099-0002", "CVE-2099-0001"], 9.8, "critical", False),
        (["CVE-2099-0002", "CVE-2099-9999"], 5.5, "high", False),  # one without a score counts as high
        (["CVE-2099-9999"], None, "high", False),
        ([], None, "high", False),
        (["CVE-2099-0003"], 3.1, "critical", True),  # known to be exploited
    ],
)
def test_the_worst_cve_decides(cves: list[str], cvss: float | None, severity: str, exploited: bool) -> None:
    found = assess("madeup", "1", cves, NOW, KNOWN, STANDARD)
    assert (found.cvss, found.severity, found.exploited, found.published) == (cvss, severity, exploited, NOW)


def test_the_notice_of_exactly_this_version_tells_when_the_fix_came_out() -> None:
    assert assess("madeup", "2", ["CVE-2099-0001"], NOW, KNOWN, STANDARD).published == NOW - DAY


CVES = st.sampled_from([*sorted(KNOWN.scores), "CVE-2099-9999"])


@given(st.lists(CVES, min_size=1), CVES)
def test_another_cve_never_makes_a_fix_less_urgent(cves: list[str], another: str) -> None:
    before, after = (assess("madeup", "1", named, NOW, KNOWN, STANDARD) for named in (cves, [*cves, another]))
    assert STANDARD.due(NOW, after.severity) <= STANDARD.due(NOW, before.severity)
