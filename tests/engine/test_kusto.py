"""Microsoft's own language service has nothing to say against any query, and would say it if it had."""

from pathlib import Path

import pytest

from tests.kusto import PROJECT, QUERIES, Complaint, Query, asked, check, databases

TABLE = "PatchHosts_CL"


@pytest.fixture(scope="module")
def complaints() -> list[Complaint]:
    """What there is to say against all queries together: the service takes a second to start."""
    return check(databases(), [asked(path) for path in QUERIES])


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_the_language_service_has_no_complaint(complaints: list[Complaint], path: Path) -> None:
    assert [one for one in complaints if one.file == str(path)] == []


WRONG = {
    f"{TABLE} | where Nope == 'x'": ("KS142", 23),
    f"{TABLE} | where host == 'x'": ("KS142", 23),
    f"{TABLE} | extend x = nope(Host)": ("KS211", 28),
    f"{TABLE} | where Packages + Host > 1": ("KS106", 32),
    f"{TABLE} | where State in ('patched'": ("KS005", 42),
    "Missing_CL | count": ("KS204", 1),
    "resources | count": ("KS204", 1),  # a table of the other service
}


@pytest.fixture(scope="module")
def found() -> list[Complaint]:
    queries = [Query(text, "log-analytics", f"// wrong on the second line\n{text}\n") for text in WRONG]
    return check(databases(), queries)


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_query_is_found_and_placed(found: list[Complaint], text: str) -> None:
    code, column = WRONG[text]
    first = next(one for one in found if one.file == text)
    assert (first.code, first.line, first.column) == (code, 2, column)


def test_a_column_that_is_declared_under_another_name_is_missed() -> None:
    tables = databases()["log-analytics"]
    renamed = {name.replace("State", "Status"): kind for name, kind in tables[TABLE].items()}
    queries = [asked(path) for path in QUERIES]
    found = check({**databases(), "log-analytics": {**tables, TABLE: renamed}}, queries)
    reads_state = {query.file for query in queries if query.database == "log-analytics" and "State" in query.text}
    assert len(reads_state) > 3
    assert {one.file for one in found if one.code == "KS142" and "'State'" in one.message} == reads_state


def test_a_column_that_changes_its_type_is_missed() -> None:
    tables = databases()["log-analytics"]
    retyped = {**tables[TABLE], "TimeGenerated": "string"}
    path = PROJECT / "components" / "queries" / "success_rate.kql"
    assert check({"log-analytics": {**tables, TABLE: retyped}}, [asked(path)])[0].code.startswith("KS")
