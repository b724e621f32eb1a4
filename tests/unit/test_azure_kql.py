"""KQL over tables in memory keeps values as they are, names as they are written, and queries within their bounds."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.azure.language import kql

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": TEXTS,
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "real": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
    "datetime": st.datetimes(min_value=datetime(1900, 1, 1)).map(lambda at: f"{at.isoformat()}Z"),
    "guid": st.uuids().map(str),
    "dynamic": JSON,
}
COLUMNS = {f"A{kind}": kind for kind in VALUES}
ROWS = st.lists(st.tuples(*VALUES.values()).map(list), max_size=6)


def run(tables: dict[str, kql.Table], query: str, *, most: int = 100, seconds: float = 20) -> list[list[Any]]:
    return kql.run(tables, query, most=most, seconds=seconds).rows


@given(ROWS)
def test_what_goes_in_comes_out(rows: list[list[Any]]) -> None:
    found = kql.run({"T": kql.Table(COLUMNS, rows)}, "T", most=100, seconds=20)
    assert dict(found.columns) == COLUMNS
    assert sorted(map(json.dumps, found.rows)) == sorted(map(json.dumps, rows))


def test_a_missing_string_is_empty_and_any_other_missing_value_is_null() -> None:
    table = kql.Table(COLUMNS, [[None] * len(COLUMNS)])
    assert run({"T": table}, "T") == [["", *[None] * (len(COLUMNS) - 1)]]
    assert run({"T": table}, "T | where isempty(Astring) and isnull(Aint) | count") == [[1]]


def test_what_a_type_cannot_hold_is_null() -> None:
    columns = {"Int": "int", "At": "datetime", "Good": "bool", "Id": "guid"}
    assert run({"T": kql.Table(columns, [[2**31, "noon", "maybe", "x"]])}, "T") == [[None] * 4]


@pytest.mark.parametrize(
    ("expression", "written"),
    [
        ("1h", "01:00:00"),
        ("-1d - 2h - 3m - 4s", "-1.02:03:04"),
        ("datetime(2026-01-01 00:00:01.5) - datetime(2026-01-01)", "00:00:01.5000000"),
        ("real(nan)", "NaN"),
        ("real(-inf)", "-Infinity"),
        ("datetime(2026-01-01)", "2026-01-01T00:00:00Z"),
        ("dynamic({'a': [1, null]})", {"a": [1, None]}),
        ("pack_array(1, 'x')", [1, "x"]),
        ("5 / 2", 2),
    ],
)
def test_values_are_written_as_azure_writes_them(expression: str, written: Any) -> None:
    assert run({}, f"print {expression}") == [[written]]
    json.dumps(written, allow_nan=False)


def test_offsets_count() -> None:
    table = kql.Table({"At": "datetime"}, [["2026-01-01T02:00:00+02:00"]])
    assert run({"T": table}, "T") == [["2026-01-01T00:00:00Z"]]


KNOWN = {"Hosts_CL": {"Host": "string", "More": "dynamic"}, "Runs_CL": {"Run": "string", "Host": "string"}}
GOOD = (
    "Hosts_CL | where Host == 'a' | extend Age = 1 | where Age > 0 | order by Age asc, Host desc | top 3 by Age",
    "Hosts_CL | summarize count(), Last = arg_max(Host, *) by More = tostring(More.a) | where count_ > 1",
    "Hosts_CL | join kind=inner (Runs_CL | project Host, Other = Run) on Host | where Host1 == Other",
    "let T = Hosts_CL | distinct Host; let n = 1; T | where Host in ((Runs_CL | project Host)) | extend m = n",
    "union withsource=Where Hosts_CL, Runs_CL | where Where has 'Runs' | project Run",
    "Hosts_CL | mv-expand one = More to typeof(string) | project one | project-rename two = one | project two",
    "Hosts_CL | parse Host with * '-' number:string | project number",
    "datatable(a:int)[1] | project a",
    "range x from 1 to 3 step 1 | where x > 1",
    "Hosts_CL | count | project Count",
    "Hosts_CL | getschema | project ColumnName",
)


@pytest.mark.parametrize("query", GOOD)
def test_names_that_are_there_are_found(query: str) -> None:
    kql.resolve(query, KNOWN)
    run({name: kql.Table(columns, []) for name, columns in KNOWN.items()}, query)


@pytest.mark.parametrize(
    "query",
    [
        "hosts_cl",
        "Hosts_CL | where host == 'a'",
        "Hosts_CL | project Host | where isnotempty(More)",
        "Hosts_CL | summarize n = count() by Host | where N > 1",
        "Hosts_CL | extend a = 1, b = a",
        "Hosts_CL | join kind=inner (Runs_CL | project run) on Host",
        "Hosts_CL | where Host in ((Runs_cl | project Host))",
        "let T = Hosts_CL | project Host; T | order by Run asc",
        "union Hosts_CL, Other_CL",
        "print a = 1 | distinct A",
    ],
)
def test_names_that_are_not_there_are_refused(query: str) -> None:
    with pytest.raises(kql.Unresolved, match="Failed to resolve"):
        kql.resolve(query, KNOWN)


def test_a_query_reaches_no_file_and_nothing_of_the_process(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n", encoding="utf-8")
    for name in (f"['{secret}']", "KNOWN"):
        with pytest.raises(kql.Unresolved):
            kql.resolve(f"{name} | count", KNOWN)
        with pytest.raises(kql.Problem):
            run({}, f"{name} | count")


@pytest.mark.parametrize(
    ("query", "line", "column"),
    [(".show tables", 1, 0), ("// all\n  .show tables", 2, 2), (".set T <| print a = 1", 1, 0)],
)
def test_control_commands_are_no_queries(query: str, line: int, column: int) -> None:
    with pytest.raises(kql.Syntax) as problem:
        run({}, query)
    assert (problem.value.line, problem.value.column, problem.value.token) == (line, column, ".")


def test_rows_and_time_are_bounded() -> None:
    assert len(run({}, "range x from 1 to 50 step 1", most=7)) == 7
    many = "range x from 1 to 3000000 step 1 | extend key = x % 10"
    with pytest.raises(kql.TooLong):
        run({}, f"{many} | join kind=inner ({many}) on key | count", seconds=0.2)


def test_a_query_ends_also_when_its_time_is_up_before_the_engine_begins() -> None:
    many = "range x from 1 to 60000 step 1 | extend key = x % 10"
    with pytest.raises(kql.TooLong):
        run({}, f"{many} | join kind=inner ({many}) on key | count", seconds=0)


def test_a_query_is_judged_without_being_carried_out() -> None:
    wanted = "range x from 1 to 1000000000000 step 1 | summarize n = count(), most = tostring(max(x))"
    assert kql.check(wanted, {}) == [("n", "long"), ("most", "string")]


def test_ten_thousand_rows_are_all_there() -> None:
    rows = [[f"host-{number}", {"number": number}] for number in range(10_000)]
    query = "Hosts_CL | summarize dcount(Host), sum(toint(More.number)), Now = max(now())"
    ((hosts, numbers, now),) = run({"Hosts_CL": kql.Table(KNOWN["Hosts_CL"], rows)}, query)
    assert (hosts, numbers) == (10_000, sum(range(10_000)))
    assert math.isclose(datetime.fromisoformat(now).timestamp(), datetime.now(UTC).timestamp(), abs_tol=60)
