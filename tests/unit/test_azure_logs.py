"""The official clients of Azure Monitor's logs against the emulator: what goes in, what queries find."""

import gzip
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential
from azure.monitor.ingestion import LogsIngestionClient, LogsUploadError
from azure.monitor.query import (
    LogsBatchQuery,
    LogsQueryClient,
    LogsQueryError,
    LogsQueryPartialResult,
    LogsQueryResult,
    LogsQueryStatus,
)

from components.alerts import table_columns
from patchwave.azure.client import Arm
from patchwave.base.errors import Failed
from patchwave.wave.exports import TABLES, HostRow, stream, table
from sandbox.azure.queries import logs
from sandbox.azure.resources.ids import SUBSCRIPTION
from tests.kusto import printed_client
from tests.unit.azure_emulator import GROUP, LOCATION, ROOT, Emulator, located, served
from tests.unit.engine import declare_stack

PROJECT = Path(__file__).resolve().parents[2]
NOW = datetime.now(UTC).replace(microsecond=0)
INSIGHTS = f"{GROUP}/providers/Microsoft.Insights"
COLUMNS = {
    "TimeGenerated": "datetime", "Host": "string", "Count": "int", "Size": "long", "Share": "real", "Good": "boolean",
    "More": "dynamic", "Until": "datetime",
}  # fmt: skip


def workspace(name: str) -> str:
    return f"{GROUP}/providers/Microsoft.OperationalInsights/workspaces/{name}"


def declare(azure: Emulator, name: str, transform: str = "source") -> tuple[str, str]:
    """A workspace with a table and a rule that fills it: the workspace's id and the rule's immutable id."""
    made = azure.put(workspace(name), located({"sku": {"name": "PerGB2018"}}))
    columns = [{"name": c, "type": {"datetime": "dateTime"}.get(kind, kind)} for c, kind in COLUMNS.items()]
    azure.put(f"{workspace(name)}/tables/Wave_CL", {"properties": {"schema": {"name": "Wave_CL", "columns": columns}}})
    azure.put(f"{INSIGHTS}/dataCollectionEndpoints/dce", located())
    rule = located({
        "dataCollectionEndpointId": f"{INSIGHTS}/dataCollectionEndpoints/dce",
        "streamDeclarations": {
            "Custom-Wave": {"columns": [{"name": c, "type": kind} for c, kind in COLUMNS.items()]}},
        "destinations": {"logAnalytics": [{"name": "logs", "workspaceResourceId": workspace(name)}]},
        "dataFlows": [{"streams": ["Custom-Wave"], "destinations": ["logs"], "outputStream": "Custom-Wave_CL",
                       "transformKql": transform}],
    })  # fmt: skip
    stored = azure.put(f"{INSIGHTS}/dataCollectionRules/{name}", rule)
    return made["properties"]["customerId"], stored["properties"]["immutableId"]


@pytest.fixture(scope="module")
def azure() -> Iterator[Emulator]:
    with served() as made, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AZURE_", "ARM_"))]:
            patch.delenv(name)
        for name, value in made.environment.items():
            patch.setenv(name, value)
        made.put(GROUP, {"location": LOCATION})
        yield made


@pytest.fixture(scope="module")
def queries(azure: Emulator) -> Iterator[LogsQueryClient]:
    with DefaultAzureCredential() as held, LogsQueryClient(held, endpoint=azure.sandbox.endpoint) as client:
        yield client


@pytest.fixture(scope="module")
def uploads(azure: Emulator) -> Iterator[LogsIngestionClient]:
    with ManagedIdentityCredential() as held, LogsIngestionClient(azure.sandbox.endpoint, held) as client:
        yield client


ROWS: list[dict[str, Any]] = [
    {"TimeGenerated": (NOW - timedelta(hours=age)).isoformat(), "Host": host, "Count": count, "Size": 2**40,
     "Share": 0.5, "Good": True, "More": {"cves": ["CVE-2026-1", "CVE-2026-2"]}, "Until": "2026-12-01T02:00:00+02:00"}
    for host, age, count in (("old", 30, 1), ("middle", 5, 2), ("new", 0, 3))
]  # fmt: skip


@pytest.fixture(scope="module")
def filled(azure: Emulator, uploads: LogsIngestionClient) -> str:
    """The workspace id of a workspace with three rows: 30 hours, 5 hours and no time old."""
    customer, rule = declare(azure, "filled")
    uploads.upload(rule, "Custom-Wave", ROWS)
    return customer


def hosts(found: Any) -> list[str]:
    assert isinstance(found, LogsQueryResult)
    return [row["Host"] for row in found.tables[0].rows]


# What goes in comes out


def test_every_type_comes_back_as_azure_writes_it(queries: LogsQueryClient, filled: str) -> None:
    found = queries.query_workspace(filled, "Wave_CL | where Host == 'new'", timespan=None)
    assert isinstance(found, LogsQueryResult)
    table = found.tables[0]
    kinds = dict(zip(table.columns, table.columns_types, strict=True))
    assert table.name == "PrimaryResult"
    assert kinds == {
        **{name: "bool" if kind == "boolean" else kind for name, kind in COLUMNS.items()},
        "TenantId": "string", "Type": "string",
    }  # fmt: skip
    row = table.rows[0]
    assert {name: row[name] for name in table.columns} == {
        "TimeGenerated": NOW, "Host": "new", "Count": 3, "Size": 2**40, "Share": 0.5, "Good": True,
        "More": '{"cves":["CVE-2026-1","CVE-2026-2"]}', "Until": datetime(2026, 12, 1, tzinfo=UTC),
        "TenantId": filled, "Type": "Wave_CL",
    }  # fmt: skip


def test_a_query_calculates(queries: LogsQueryClient, filled: str) -> None:
    text = """
        Wave_CL
        | mv-expand cve = More.cves to typeof(string)
        | summarize Hosts = dcount(Host), Newest = arg_max(TimeGenerated, Host), Rest = max(Until) - min(Until) by cve
        | project cve, Hosts, Host, Rest
        | order by cve asc"""
    found = queries.query_workspace(filled, text, timespan=None)
    assert isinstance(found, LogsQueryResult)
    assert [list(row) for row in found.tables[0].rows] == [
        ["CVE-2026-1", 3, "new", "00:00:00"], ["CVE-2026-2", 3, "new", "00:00:00"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("timespan", "expected"),
    [
        (None, ["middle", "new", "old"]),
        (timedelta(hours=6), ["middle", "new"]),
        (timedelta(days=2), ["middle", "new", "old"]),
        ((NOW - timedelta(hours=31), timedelta(hours=2)), ["old"]),
        ((NOW - timedelta(hours=31), NOW - timedelta(hours=4)), ["middle", "old"]),
        ((NOW + timedelta(hours=1), timedelta(hours=1)), []),
    ],
)
def test_the_timespan_limits_what_a_query_sees(
    queries: LogsQueryClient, filled: str, timespan: Any, expected: list[str]
) -> None:
    assert sorted(hosts(queries.query_workspace(filled, "Wave_CL", timespan=timespan))) == expected


@pytest.mark.parametrize("timespan", ["P2D", "P2D/2999-01-01T00:00:00Z", "2000-01-01/2999-01-01", "2000-01-01/P40000D"])
def test_other_spellings_of_a_timespan(azure: Emulator, queries: LogsQueryClient, filled: str, timespan: str) -> None:
    answer = raw(azure, filled, {"query": "Wave_CL | count", "timespan": timespan})
    assert answer["tables"][0]["rows"] == [[0 if timespan == "P2D/2999-01-01T00:00:00Z" else 3]]


def raw(azure: Emulator, customer: str, body: Any, **headers: str) -> Any:
    bearer = {"Authorization": f"Bearer {azure.token('https://api.loganalytics.io')}"}
    return azure.azure("POST", f"/v1/workspaces/{customer}/query", json=body, headers=bearer | headers).json()


def test_a_workspace_answers_by_its_resource_id_too(queries: LogsQueryClient, filled: str) -> None:
    found = queries.query_resource(workspace("filled"), "Wave_CL | where Count > 1", timespan=None)
    assert sorted(hosts(found)) == ["middle", "new"]


def test_tables_of_several_workspaces_are_one(
    azure: Emulator, queries: LogsQueryClient, uploads: LogsIngestionClient, filled: str
) -> None:
    customer, rule = declare(azure, "second")
    uploads.upload(rule, "Custom-Wave", [{"Host": "elsewhere"}])
    for other in (customer, "second", workspace("second")):
        found = queries.query_workspace(filled, "Wave_CL", timespan=None, additional_workspaces=[other])
        assert sorted(hosts(found)) == ["elsewhere", "middle", "new", "old"]
    assert hosts(queries.query_workspace(customer, "Wave_CL", timespan=None)) == ["elsewhere"]


def test_a_batch_answers_each_query_for_itself(queries: LogsQueryClient, filled: str) -> None:
    good, wrong, lost = queries.query_batch([
        LogsBatchQuery(filled, "Wave_CL | order by Count desc", timespan=timedelta(hours=6)),
        LogsBatchQuery(filled, "Wave_CL | where Nope == 1", timespan=None),
        LogsBatchQuery("00000000-0000-0000-0000-000000000000", "Wave_CL", timespan=None),
    ])  # fmt: skip
    assert hosts(good) == ["new", "middle"]
    assert isinstance(wrong, LogsQueryError)
    assert (wrong.code, wrong.status) == ("BadArgumentError", LogsQueryStatus.FAILURE)
    assert "'Nope'" in wrong.message
    assert isinstance(lost, LogsQueryError)
    assert lost.code == "FailedToResolveResource"


def test_statistics_are_there_when_asked_for(queries: LogsQueryClient, filled: str) -> None:
    found = queries.query_workspace(filled, "Wave_CL", timespan=None, include_statistics=True, server_timeout=20)
    assert isinstance(found, LogsQueryResult)
    assert found.statistics
    assert found.statistics["query"]["executionTime"] > 0
    assert queries.query_workspace(filled, "Wave_CL", timespan=None).statistics is None


def test_more_rows_than_an_answer_holds_are_cut(azure: Emulator, filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_ROWS", 500)
    answer = raw(azure, filled, {"query": "range x from 1 to 501 step 1"})
    assert len(answer["tables"][0]["rows"]) == 500
    assert answer["error"]["code"] == "PartialError"
    assert "set limit of 500 records" in answer["error"]["details"][0]["innererror"]["message"]


def test_more_bytes_than_an_answer_holds_are_a_partial_result(
    queries: LogsQueryClient, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MOST_BYTES", 640_000)
    text = "range x from 1 to 800 step 1 | extend Long = strrep('0123456789', 100)"
    found = queries.query_workspace(filled, text, timespan=None)
    assert isinstance(found, LogsQueryPartialResult)
    assert len(found.partial_data[0].rows) == 640_000 // len(json.dumps([100, "x" * 1000]))
    assert found.partial_error
    assert found.partial_error.code == "PartialError"
    assert found.partial_error.details
    assert "set limit of 640000 bytes" in found.partial_error.details[0]["innererror"]["message"]


# What is refused


@pytest.mark.parametrize(
    ("query", "reason", "inner", "words"),
    [
        ("Missing_CL | take 1", "SemanticError", "SEM0100",
         "'take' operator: Failed to resolve table or column expression named 'Missing_CL'"),
        ("wave_cl", "SemanticError", "SEM0100", "Failed to resolve table or column expression named 'wave_cl'"),
        ("['/etc/passwd.csv']", "SemanticError", "SEM0100",
         "Failed to resolve table or column expression named '/etc/passwd.csv'"),
        ("Wave_CL | where Nope == 1", "SemanticError", "SEM0100",
         "'where' operator: Failed to resolve scalar expression named 'Nope'"),
        ("Wave_CL | summarize count() by host", "SemanticError", "SEM0100",
         "'summarize' operator: Failed to resolve scalar expression named 'host'"),
        ("let T = Wave_CL | project Host; T | project Count", "SemanticError", "SEM0100",
         "'project' operator: Failed to resolve scalar expression named 'Count'"),
        ("Wave_CL | join (Other_CL) on Host", "SemanticError", "SEM0100",
         "Failed to resolve table or column expression named 'Other_CL'"),
        ("Wave_CL\n| wherex", "SyntaxError", "SYN0002", "Query could not be parsed at '|' on line [2,0]"),
        (".show tables", "SyntaxError", "SYN0002", "Query could not be parsed at '.' on line [1,0]"),
        ("", "SyntaxError", "SYN0002", "Query could not be parsed at '<EOF>' on line [1,0]"),
    ],
)  # fmt: skip
def test_a_wrong_query_is_refused_in_azures_words(
    queries: LogsQueryClient, filled: str, query: str, reason: str, inner: str, words: str
) -> None:
    with pytest.raises(HttpResponseError) as refusal:
        queries.query_workspace(filled, query, timespan=None)
    assert refusal.value.status_code == 400
    assert refusal.value.response
    error = refusal.value.response.json()["error"]
    assert (error["code"], error["message"]) == ("BadArgumentError", "The request had some invalid properties")
    assert error["innererror"]["code"] == reason
    assert error["innererror"]["innererror"]["code"] == inner
    assert error["innererror"]["innererror"]["message"] == words
    assert re.fullmatch(r"[0-9a-f-]{36}", error["correlationId"])


def test_types_that_do_not_fit_are_a_semantic_error(azure: Emulator, filled: str) -> None:
    error = raw(azure, filled, {"query": "Wave_CL | where Count + Host > 1"})["error"]
    assert (error["code"], error["innererror"]["code"]) == ("BadArgumentError", "SemanticError")


def test_what_only_azure_knows_is_not_called_wrong(queries: LogsQueryClient, filled: str) -> None:
    with pytest.raises(HttpResponseError, match="Azure may know this, the sandbox does not") as refusal:
        queries.query_workspace(filled, "Wave_CL | make-series n = count() on TimeGenerated step 1h", timespan=None)
    assert refusal.value.status_code == 501


def test_a_query_ends_when_its_time_is_up(azure: Emulator, filled: str) -> None:
    many = "range x from 1 to 3000000 step 1 | extend key = x % 10"
    text = f"{many} | join kind=inner ({many}) on key | count"
    assert raw(azure, filled, {"query": text}, Prefer="wait=0.3")["error"]["code"] == "GatewayTimeout"


@pytest.mark.parametrize(
    "body",
    [
        {"query": 1},
        ["query"],
        {"query": "Wave_CL", "workspaces": "all"},
        {"query": "Wave_CL", "workspaces": [1]},
        {"query": "Wave_CL", "timespan": 3600},
        {"query": "Wave_CL", "timespan": "yesterday"},
        {"query": "Wave_CL", "timespan": "PT"},
        {"query": "Wave_CL", "timespan": "3600"},
        {"query": "Wave_CL", "timespan": "2026-01-01/yesterday"},
        {"query": "Wave_CL", "timespan": "P1D/P1D"},
        {"query": "Wave_CL", "timespan": "P9999999D"},
    ],
)
def test_a_malformed_request_is_refused(azure: Emulator, filled: str, body: Any) -> None:
    error = raw(azure, filled, body)["error"]
    assert (error["code"], error["innererror"]["code"]) == ("BadArgumentError", "QueryValidationError")


def test_an_unknown_workspace_is_refused(queries: LogsQueryClient, filled: str) -> None:
    for ask in (
        lambda: queries.query_workspace("filled", "Wave_CL", timespan=None),  # a name is no workspace id
        lambda: queries.query_resource(workspace("missing"), "Wave_CL", timespan=None),
        lambda: queries.query_workspace(filled, "Wave_CL", timespan=None, additional_workspaces=["missing"]),
    ):
        with pytest.raises(HttpResponseError) as refusal:
            ask()
        assert refusal.value.status_code == 400
        assert refusal.value.response
        assert refusal.value.response.json()["error"]["code"] == "FailedToResolveResource"


def test_a_batch_is_refused_as_a_whole_only_when_it_is_malformed(azure: Emulator, filled: str) -> None:
    bearer = {"Authorization": f"Bearer {azure.token('https://api.loganalytics.io')}"}

    def batch(*requests: Any) -> httpx.Response:
        return azure.azure("POST", "/v1/$batch", json={"requests": requests}, headers=bearer)

    one = {"id": "1", "workspace": filled, "path": "/query", "method": "POST", "body": {"query": "Wave_CL | count"}}
    assert batch(one, one).status_code == 400
    assert batch({"body": {}}).status_code == 400
    assert azure.azure("POST", "/v1/$batch", content=b"{", headers=bearer).status_code == 400
    statuses = [part["status"] for part in batch(one, one | {"id": "2", "path": "/fakePath"}).json()["responses"]]
    assert statuses == [200, 404]


@pytest.mark.parametrize(
    ("token", "status", "code"),
    [
        (None, 401, "AuthenticationFailed"),
        ("x.y.z", 403, "InvalidAuthenticationToken"),
        ("https://management.azure.com/", 403, "InvalidAuthenticationTokenAudience"),
        ("https://api.loganalytics.azure.com", 200, None),
    ],
)
def test_who_may_query(azure: Emulator, filled: str, token: str | None, status: int, code: str | None) -> None:
    held = azure.token(token) if token and token.startswith("https") else token
    headers = {"Authorization": f"Bearer {held}"} if held else {}
    answer = azure.azure("POST", f"/v1/workspaces/{filled}/query", json={"query": "Wave_CL"}, headers=headers)
    assert (answer.status_code, answer.json().get("error", {}).get("code")) == (status, code)


@pytest.mark.parametrize(
    ("audience", "words"),
    [("https://monitor.azure.com", "wrong audience"), ("https://vault.azure.net", "AADSTS500011")],
)
def test_a_client_with_another_audience_is_turned_away(azure: Emulator, filled: str, audience: str, words: str) -> None:
    with (
        ManagedIdentityCredential() as held,
        LogsQueryClient(held, endpoint=azure.sandbox.endpoint, audience=audience) as client,
        pytest.raises(HttpResponseError, match=words),
    ):
        client.query_workspace(filled, "Wave_CL", timespan=None)


# How rows get in


def test_rows_beyond_a_call_go_in_several_packed_calls(
    azure: Emulator, queries: LogsQueryClient, uploads: LogsIngestionClient
) -> None:
    customer, rule = declare(azure, "many")
    rows = [{"Host": f"{number:0200}", "Count": number} for number in range(6_000)]
    uploads.upload(rule, "Custom-Wave", rows)
    found = queries.query_workspace(customer, "Wave_CL | summarize dcount(Host), sum(Count)", timespan=None)
    assert isinstance(found, LogsQueryResult)
    assert list(found.tables[0].rows[0]) == [6_000, sum(range(6_000))]


def test_what_a_wave_exports_arrives_however_many_hosts_there_are(azure: Emulator, queries: LogsQueryClient) -> None:
    customer, rule = declare(azure, "fleet")
    rows: list[Any] = [{"Host": f"host-{number:05}", "More": {"reason": "x" * 150}} for number in range(10_000)]
    with Arm(os.environ | {"ARM_SUBSCRIPTION_ID": SUBSCRIPTION}) as arm:
        arm.ingest(azure.sandbox.endpoint, rule, "Custom-Wave", rows)
        with pytest.raises(Failed, match=r"Custom-Other: \(InvalidStream\) The stream Custom-Other was not configured"):
            arm.ingest(azure.sandbox.endpoint, rule, "Custom-Other", rows[:1])
    found = queries.query_workspace(customer, "Wave_CL | summarize dcount(Host)", timespan=None)
    assert isinstance(found, LogsQueryResult)
    assert list(found.tables[0].rows[0]) == [10_000]


def test_a_stream_goes_in_as_it_is_packed_or_not(
    azure: Emulator, queries: LogsQueryClient, uploads: LogsIngestionClient
) -> None:
    customer, rule = declare(azure, "streams")
    uploads.upload(rule, "Custom-Wave", io.BytesIO(json.dumps([{"Host": "plain"}]).encode()))
    uploads.upload(rule, "Custom-Wave", io.BytesIO(gzip.compress(json.dumps([{"Host": "packed"}]).encode())))
    assert sorted(hosts(queries.query_workspace(customer, "Wave_CL", timespan=None))) == ["packed", "plain"]


def test_a_call_that_is_too_large_is_refused_packed_or_not(azure: Emulator, uploads: LogsIngestionClient) -> None:
    _, rule = declare(azure, "large")
    large = json.dumps([{"Host": "x" * 60_000}] * 20).encode()
    for content in (large, gzip.compress(large), gzip.compress(large * 100)):
        with pytest.raises(HttpResponseError) as refusal:
            uploads.upload(rule, "Custom-Wave", io.BytesIO(content))
        assert refusal.value.status_code == 413
        assert "ContentLengthLimitExceeded" in str(refusal.value)
    assert azure.endpoints.store.logged(workspace("large"), "Wave_CL") == []


def test_what_cannot_be_unpacked_is_refused(azure: Emulator, uploads: LogsIngestionClient) -> None:
    _, rule = declare(azure, "broken")
    with pytest.raises(HttpResponseError, match="InvalidPayload"):
        uploads.upload(rule, "Custom-Wave", io.BytesIO(b"\x1f\x8bnot gzip"))
    bearer = {"Authorization": f"Bearer {azure.token('https://monitor.azure.com')}", "Content-Encoding": "br"}
    path = f"/dataCollectionRules/{rule}/streams/Custom-Wave"
    assert azure.azure("POST", path, content=b"[]", headers=bearer).status_code == 415


def test_a_failed_part_is_handed_to_the_client_and_the_rest_goes_on(
    azure: Emulator, queries: LogsQueryClient, uploads: LogsIngestionClient
) -> None:
    customer, rule = declare(azure, "parts")
    failed: list[LogsUploadError] = []
    rows = [{"Host": "x" * 2**20}, {"Host": "small"}]
    uploads.upload(rule, "Custom-Wave", rows, on_error=failed.append)
    assert [one.failed_logs for one in failed] == [[rows[0]]]
    assert hosts(queries.query_workspace(customer, "Wave_CL", timespan=None)) == ["small"]


def test_a_time_that_is_too_old_or_too_far_ahead_becomes_the_time_of_receipt(
    azure: Emulator, queries: LogsQueryClient, uploads: LogsIngestionClient
) -> None:
    customer, rule = declare(azure, "times")
    kept = {"yesterday": timedelta(hours=-47), "tomorrow": timedelta(hours=23)}
    moved = {"long ago": timedelta(hours=-49), "next week": timedelta(hours=25)}
    rows = [{"Host": host, "TimeGenerated": (NOW + away).isoformat()} for host, away in (kept | moved).items()]
    uploads.upload(rule, "Custom-Wave", [*rows, {"Host": "none"}, {"Host": "odd", "TimeGenerated": "noon"}])
    found = queries.query_workspace(customer, "Wave_CL", timespan=None)
    assert isinstance(found, LogsQueryResult)
    times = {row["Host"]: row["TimeGenerated"] for row in found.tables[0].rows}
    assert {host: times[host] for host in kept} == {host: NOW + away for host, away in kept.items()}
    received = [times[host] for host in (*moved, "none", "odd")]
    assert all(NOW <= at <= datetime.now(UTC) for at in received)


def test_a_rules_transformation_is_carried_out(
    azure: Emulator, queries: LogsQueryClient, uploads: LogsIngestionClient
) -> None:
    transform = "source | where Count > 1 | extend Host = strcat(Host, '.example') | project-away Share"
    customer, rule = declare(azure, "shaped", transform)
    uploads.upload(rule, "Custom-Wave", ROWS)
    found = queries.query_workspace(customer, "Wave_CL | order by Count asc", timespan=None)
    assert hosts(found) == ["middle.example", "new.example"]
    assert isinstance(found, LogsQueryResult)
    row = found.tables[0].rows[1]
    assert (row["Share"], row["Good"], row["More"]) == (None, True, '{"cves":["CVE-2026-1","CVE-2026-2"]}')


def test_a_transformation_that_fails_keeps_every_row_out(azure: Emulator, uploads: LogsIngestionClient) -> None:
    _, rule = declare(azure, "failing", "source | extend Size = Size * Size")
    with pytest.raises(HttpResponseError, match="InvalidTransformOutput") as refusal:
        uploads.upload(rule, "Custom-Wave", ROWS)
    assert refusal.value.status_code == 400
    assert azure.endpoints.store.logged(workspace("failing"), "Wave_CL") == []


# What the page of queries shows


def test_the_printed_client_finds_what_a_wave_exports(azure: Emulator, uploads: LogsIngestionClient) -> None:
    declared = {d.type.rsplit(":", 1)[1]: d.props for d in declare_stack("dev")}
    group = f"{ROOT}/resourceGroups/{declared['Workspace']['resourceGroupName']}"
    place = f"{group}/providers/Microsoft.OperationalInsights/workspaces/{declared['Workspace']['workspaceName']}"
    azure.put(group, {"location": LOCATION})
    azure.put(place, located({"sku": {"name": "PerGB2018"}}))
    for name in TABLES:
        schema = {"name": table(name), "columns": table_columns(name)}
        azure.put(f"{place}/tables/{table(name)}", {"properties": {"schema": schema}})
    azure.put(f"{group}/providers/Microsoft.Insights/dataCollectionEndpoints/dce", located())
    rule = declared["DataCollectionRule"]
    stored = azure.put(f"{group}/providers/Microsoft.Insights/dataCollectionRules/dcr", located({
        "dataCollectionEndpointId": f"{group}/providers/Microsoft.Insights/dataCollectionEndpoints/dce",
        "streamDeclarations": rule["streamDeclarations"], "dataFlows": rule["dataFlows"],
        "destinations": {"logAnalytics": [{"name": "workspace", "workspaceResourceId": place}]},
    }))  # fmt: skip
    row = HostRow(
        TimeGenerated=NOW + timedelta(hours=5), Stack="dev", Release="2026-11-23.1", Run="20261123T090000Z-abcdef",
        Host="dev-blue-0", Fleet="web", Ring="canary", State="patched", Reason="", Packages=31,
    )  # fmt: skip
    uploads.upload(stored["properties"]["immutableId"], stream("PatchHosts"), [row.model_dump(mode="json")])
    environment = os.environ | azure.environment | {"ARM_SUBSCRIPTION_ID": SUBSCRIPTION}
    done = subprocess.run(
        [sys.executable, "-c", printed_client()],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[:6] == ["dev", "web", "canary", "dev-blue-0", "patched", "31"]
