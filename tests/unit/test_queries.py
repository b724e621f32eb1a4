"""Every query answers its question: run on rows that it should find and on rows that it should not."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from patchwave.azure.claims import Claims
from patchwave.wave.exports import TABLES, HostRow, RunRow, columns, table
from patchwave.wave.states import COMPLIANT, State
from sandbox.azure.language import kql
from sandbox.azure.resources.ids import SUBSCRIPTION
from tests.kusto import QUERIES, RESOURCE_GRAPH, database, databases
from tests.unit.azure_emulator import emulator
from tests.unit.builders import settings
from tests.unit.engine import PROJECT, Declared, declare_stack

START = datetime(2026, 11, 23, 9, tzinfo=UTC)
STATES: tuple[State, ...] = get_args(State)
LOST = {"failed-unrestored", "unknown"}
CHANGED = {"patched", "failed-restored", *LOST}


def host(name: str, state: State, day: int = 0, **more: Any) -> HostRow:
    """How a run, one a day, left a host."""
    at = START + timedelta(days=day)
    row = {
        "TimeGenerated": at, "Stack": "dev", "Release": f"2026-11-{day:02}.1", "Run": f"{at:%Y%m%dT%H%M%SZ}-abcdef",
        "Host": name, "Fleet": "web", "Ring": "rest", "State": state, "Reason": "", "Packages": 3,
    }  # fmt: skip
    return HostRow.model_validate(row | more)


def run(event: str, day: int = 0, **more: Any) -> RunRow:
    """A run, one a day, that began, or ended an hour later."""
    begun = START + timedelta(days=day)
    row = {
        "TimeGenerated": begun + timedelta(hours=event == "ended"), "Stack": "dev", "Release": f"2026-11-{day:02}.1",
        "Run": f"{begun:%Y%m%dT%H%M%SZ}-abcdef", "Event": event, "Outcome": "", "Reason": "", "Hosts": 4,
        "Compliant": 0,
    }  # fmt: skip
    return RunRow.model_validate(row | more)


def ask(name: str, *rows: HostRow | RunRow) -> list[dict[str, Any]]:
    """What a query of the workbook finds in these rows."""
    kinds = {type_: title for title, type_ in TABLES.items()}
    tables = {
        table(title): kql.Table(
            columns(title), [list(row.model_dump(mode="json").values()) for row in rows if kinds[type(row)] == title]
        )
        for title in TABLES
    }
    text = (PROJECT / "components" / "queries" / f"{name}.kql").read_text(encoding="utf-8")
    found = kql.run(tables, text, most=10_000, seconds=30)
    return [{name: value for (name, _), value in zip(found.columns, row, strict=True)} for row in found.rows]


def names(found: Sequence[Mapping[str, Any]]) -> list[str]:
    return [row["Host"] for row in found]


# All of them


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_a_query_says_what_it_answers_and_runs_on_the_declared_tables(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("// ")
    assert text.splitlines()[0][-1] in "?."
    tables = databases()[database(path)]
    if "{" in text:
        text = Claims("dev", settings(), SUBSCRIPTION).query
    kql.resolve(text, tables)
    found = kql.run({name: kql.Table(kinds, []) for name, kinds in tables.items()}, text, most=10, seconds=30)
    assert len(found.columns) > 1


def test_the_page_lists_every_query_with_its_question() -> None:
    page = (PROJECT / "docs" / "queries.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)`(?: \(alert\))? \| (.+) \|$", page, re.MULTILINE))
    mine = {
        path.stem: path.read_text(encoding="utf-8")
        for path in QUERIES
        if "components" in path.relative_to(PROJECT).parts
    }
    assert listed == {name: text.splitlines()[0].removeprefix("// ") for name, text in mine.items()}


def test_the_door_has_the_columns_that_azure_documents() -> None:
    with emulator() as azure:
        for name, kinds in RESOURCE_GRAPH.items():
            query = {"query": f"{name} | take 1", "options": {"resultFormat": "table"}}
            answer = azure.ask("POST", "/providers/Microsoft.ResourceGraph/resources", query).json()
            types = {column["name"]: column["type"] for column in answer["data"]["columns"]}
            assert types == {column: "object" if kind == "dynamic" else kind for column, kind in kinds.items()}


@pytest.fixture(scope="module")
def declared() -> list[Declared]:
    return declare_stack("dev")


def test_the_workbook_shows_every_query_under_its_question(declared: list[Declared]) -> None:
    (workbook,) = [d for d in declared if d.type.endswith("Workbook")]
    shown = {
        item["content"]["query"]: item["content"]["title"]
        for item in json.loads(workbook.props["serializedData"])["items"]
    }
    mine = [
        path.read_text(encoding="utf-8").strip() for path in QUERIES if "components" in path.relative_to(PROJECT).parts
    ]
    assert shown == {text: text.splitlines()[0].removeprefix("// ") for text in mine}


def test_the_alerts_ask_for_hosts_that_need_somebody(declared: list[Declared]) -> None:
    wanted = {
        Path(d.name).stem.removeprefix("dev-alerts-"): d.props["criteria"]["allOf"][0]["query"]
        for d in declared
        if d.type.endswith("ScheduledQueryRule")
    }
    for name, text in wanted.items():
        path = PROJECT / "components" / "queries" / f"{name.replace('-', '_')}.kql"
        assert path.read_text(encoding="utf-8").strip() == text
    assert {"noncompliant-hosts", "unrestored-hosts"} <= set(wanted)


# Hosts


@pytest.mark.parametrize("state", STATES)
def test_an_alert_fires_for_the_states_that_call_for_it_and_for_no_other(state: State) -> None:
    rows = [host("mine", state), host("other", "patched")]
    assert names(ask("noncompliant_hosts", *rows)) == ([] if state in COMPLIANT else ["mine"])
    assert names(ask("unrestored_hosts", *rows)) == (["mine"] if state in LOST else [])


@pytest.mark.parametrize("query", ["noncompliant_hosts", "unrestored_hosts"])
def test_an_alert_is_over_when_a_later_wave_mends_the_host(query: str) -> None:
    broken, fixed = host("mine", "failed-unrestored", day=1, Reason="no answer"), host("mine", "patched", day=2)
    (fired,) = ask(query, broken)
    assert (fired["Stack"], fired["Host"], fired["Release"], fired["Reason"]) == (
        "dev", "mine", "2026-11-01.1", "no answer",
    )  # fmt: skip
    assert ask(query, broken, fixed) == ask(query, fixed, broken) == []


def test_hosts_of_the_same_name_in_two_stacks_are_two_hosts() -> None:
    rows = [host("vm-0", "unknown"), host("vm-0", "patched", day=1, Stack="prod")]
    assert [(row["Stack"], row["State"]) for row in ask("patch_status", *rows)] == [
        ("dev", "unknown"), ("prod", "patched"),
    ]  # fmt: skip


FEW = profile(max_examples=profile().max_examples // 5)  # each asks three queries of a history of twenty rows
HISTORIES = st.lists(
    st.builds(
        host,
        name=st.sampled_from(["a", "b", "c"]),
        state=st.sampled_from(STATES),
        day=st.integers(0, 60),
        Stack=st.sampled_from(["dev", "prod"]),
        Fleet=st.sampled_from(["web", "db"]),
    ),
    unique_by=lambda row: (row.Stack, row.Run, row.Host),
    max_size=20,
)


def newest(rows: Sequence[HostRow]) -> list[HostRow]:
    """Each host's last row."""
    last = {(row.Stack, row.Host): row for row in sorted(rows, key=lambda row: row.TimeGenerated)}
    return [last[key] for key in sorted(last)]


def shares(rows: Sequence[HostRow], by: Callable[[HostRow], tuple[str, str]], good: set[str]) -> dict[Any, Any]:
    """For each group how many rows there are, how many are good, and that in percent."""
    groups = {by(row): [other for other in rows if by(other) == by(row)] for row in rows}
    kept = {key: sum(row.State in good for row in some) for key, some in groups.items()}
    return {
        key: (len(some), kept[key], pytest.approx(100 * kept[key] / len(some), abs=0.051))
        for key, some in groups.items()
    }


@FEW
@given(HISTORIES)
def test_over_any_history_the_last_wave_of_each_host_counts(rows: list[HostRow]) -> None:
    last = newest(rows)
    status = ask("patch_status", *rows)
    assert [(row["Stack"], row["Host"], row["State"], row["Run"]) for row in status] == [
        (row.Stack, row.Host, row.State, row.Run) for row in last
    ]
    wrong = [(row.Stack, row.Host) for row in last if row.State not in COMPLIANT]
    assert [(row["Stack"], row["Host"]) for row in ask("noncompliant_hosts", *rows)] == wrong
    rates = {
        (row["Stack"], row["Fleet"]): (row["Hosts"], row["Compliant"], row["Percent"])
        for row in ask("compliance_rate", *rows)
    }
    assert rates == shares(last, lambda row: (row.Stack, row.Fleet), set(COMPLIANT))


@FEW
@given(HISTORIES)
def test_over_any_history_each_change_counts_once_in_its_month(rows: list[HostRow]) -> None:
    changed = [row for row in rows if row.State in CHANGED]
    found = ask("success_rate", *rows, *rows[:3])  # a wave that was killed while it ended sends its rows again
    rates = {(row["Stack"], row["Month"][:7]): (row["Changed"], row["Kept"], row["Percent"]) for row in found}
    assert rates == shares(changed, lambda row: (row.Stack, f"{row.TimeGenerated:%Y-%m}"), {"patched"})
    states = ask("wave_states", *rows, *rows[:3])
    assert sum(row["Hosts"] for row in states) == len(rows)
    assert {(row["Stack"], row["Run"], row["State"]): row["Hosts"] for row in states} == {
        key: sum((row.Stack, row.Run, row.State) == key for row in rows)
        for key in {(row.Stack, row.Run, row.State) for row in rows}
    }


# Runs


def test_failed_waves_are_those_that_were_rolled_back_or_failed() -> None:
    rows = [run("started", day) for day in range(5)]
    rows += [
        run("ended", day, Outcome=outcome, Reason=f"why {outcome}", Compliant=2)
        for day, outcome in enumerate(("succeeded", "rolled-back", "failed", "refused"))
    ]
    found = ask("failed_waves", *rows)
    assert [(row["Outcome"], row["Reason"], row["Hosts"], row["Compliant"]) for row in found] == [
        ("failed", "why failed", 4, 2), ("rolled-back", "why rolled-back", 4, 2),
    ]  # fmt: skip
    assert ask("failed_waves", *rows, *rows) == found


def test_a_run_without_an_end_on_record_is_unfinished() -> None:
    gone, ended = run("started", -3), [run("started", -2), run("ended", -2, Outcome="failed")]
    elsewhere = run("ended", -3, Stack="prod", Outcome="succeeded")
    (found,) = ask("unfinished_waves", gone, *ended, elsewhere)
    assert (found["Stack"], found["Run"], found["Hosts"]) == ("dev", gone.Run, 4)
    assert ask("unfinished_waves", gone, *ended, run("ended", -3, Outcome="failed")) == []


def test_an_unfinished_run_tells_its_age() -> None:
    begun = datetime.now(UTC) - timedelta(hours=30, minutes=5)
    (found,) = ask("unfinished_waves", run("started", TimeGenerated=begun))
    assert found["Hours"] in (30, 31)  # hours are counted by the clock's full hours
