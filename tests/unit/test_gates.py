"""Gates pass only with positive evidence; each driver is asked for real, and each can say no."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from patchwave.base.errors import Failed
from patchwave.config.settings.services import CommandGate, HttpGate, LogAnalyticsGate, PrometheusGate
from patchwave.config.standard import Rollback
from patchwave.services.gates import (
    CommandMeter,
    HttpMeter,
    LogAnalyticsMeter,
    PrometheusMeter,
    Reading,
    Sample,
    Watch,
    enough,
    judge,
    meters,
)

ROLLBACK = Rollback(error_rate_increase_percent=5, latency_increase_percent=30, latency_floor_ms=100)
GOOD = Sample(requests=60, failed=0, median_ms=20.0)


def reading(before: Sample = GOOD, during: Sample = GOOD, after: Sample = GOOD) -> Reading:
    return Reading(gate="http", counted=True, before=before, during=during, after=after)


@pytest.mark.parametrize(
    ("readings", "reason"),
    [
        ([], "the service names no gate, its hosts are healthy"),
        ([reading()], "60 answers, median 20 ms, 0 failed meanwhile"),
        (
            [reading(during=Sample(requests=100, failed=5, median_ms=20.0))],
            "60 answers, median 20 ms, 5 failed meanwhile",
        ),
        ([reading(during=Sample(requests=0, failed=0))], "60 answers, median 20 ms, 0 failed meanwhile"),
        (
            [reading(after=Sample(requests=60, failed=0, median_ms=110.0))],
            "60 answers, median 110 ms, 0 failed meanwhile",
        ),
    ],
)
def test_a_gate_passes_with(readings: list[Reading], reason: str) -> None:
    judged = judge(readings, ROLLBACK)
    assert (judged.passed, judged.reason) == (True, reason)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (reading(before=Sample(requests=19, failed=0, median_ms=20.0)), "19 answers before the batch, 20 are needed"),
        (reading(after=Sample(requests=0, failed=0)), "0 answers after the batch, 20 are needed"),
        (reading(during=Sample(requests=100, failed=6, median_ms=20.0)), "error rate rose by 6.0 % during the batch"),
        (reading(after=Sample(requests=60, failed=60)), "error rate rose by 100.0 % after the batch"),
        (reading(after=Sample(requests=60, failed=0, median_ms=1000.0)), "median latency rose from 20 to 1000 ms"),
        (
            reading(before=Sample(requests=60, failed=60), after=Sample(requests=60, failed=60)),
            "no good answer to compare",
        ),
    ],
)
def test_a_gate_does_not_pass_with(found: Reading, reason: str) -> None:
    judged = judge([reading(), found], ROLLBACK)
    assert not judged.passed
    assert judged.reason.startswith(f"http: {reason}")


@pytest.mark.parametrize(("percent", "least"), [(0, 100), (1, 100), (5, 20), (10, 10), (50, 10)])
def test_there_are_enough_answers_to_resolve_the_allowed_error_rate(percent: int, least: int) -> None:
    assert enough(ROLLBACK.model_copy(update={"error_rate_increase_percent": percent})) == least


@contextmanager
def server(answers: dict[str, tuple[int, str]]) -> Iterator[str]:
    """A server on loopback that answers by path; `Host` and `Location` are what the status' text says."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path.partition("?")[0], (404, ""))
            if status == 200 and body.startswith("host="):
                status = 200 if self.headers["Host"] == body[5:] else 421
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", body)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *arguments: Any) -> None: ...

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{web.server_address[1]}"
    finally:
        web.shutdown()
        web.server_close()


@pytest.mark.parametrize(
    ("gate", "path", "good"),
    [
        ({}, "/", True),
        ({}, "/moved", False),
        ({"redirects": 1}, "/moved", True),
        ({"redirects": 2}, "/loop", False),
        ({"status": [200, 401]}, "/locked", True),
        ({}, "/locked", False),
        ({"host": "shop.example"}, "/shop", True),
        ({}, "/shop", False),
        ({}, "/none", False),
    ],
)
def test_an_http_gate_asks_as_it_is_set(gate: dict[str, Any], path: str, good: bool) -> None:
    answers = {
        "/": (200, "ok"),
        "/moved": (302, "/"),
        "/loop": (302, "/loop"),
        "/locked": (401, ""),
        "/shop": (200, "host=shop.example"),
    }
    wanted = HttpGate.model_validate_json(json.dumps({"driver": "http", "path": path, **gate}))
    with server(answers) as url:
        (meter,) = meters([wanted], project=Path(), public=[f"{url}/"], query=None)  # type: ignore[arg-type]
        assert isinstance(meter, HttpMeter)
        meter._pause = 0.001
        with Watch([meter], least=10) as watch:
            (found,) = watch.readings()
    assert found.before.requests >= 10
    assert (found.before.failed == 0) == good
    assert (found.after.failed == found.after.requests) == (not good)


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (("true",), None),
        (("sh", "-c", "echo all is lost >&2; exit 3"), "exit 3: all is lost"),
        (("false",), "exit 1: no output"),
        (("/no/such/program",), "it cannot be run: No such file or directory"),
        (("sh", "-c", "sleep 60 & sleep 60"), "it did not end within 0.2 s"),
    ],
)
def test_a_command_gate_is_well_when_its_program_ends_with_0(
    command: tuple[str, ...], problem: str | None, tmp_path: Path
) -> None:
    gate = CommandGate.model_validate_json(json.dumps({"driver": "command", "command": command, "timeout": "PT0.2S"}))
    if problem is None or "within" not in problem:
        gate = gate.model_copy(update={"timeout": gate.timeout * 50})
    began = time.monotonic()
    assert CommandMeter(gate, tmp_path).problem() == problem
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"resultType": "scalar", "result": [0, "1.5"]}, None),
        ({"resultType": "vector", "result": [{"metric": {}, "value": [0, "2"]}]}, None),
        ({"resultType": "vector", "result": [{"metric": {}, "value": [0, "2.5"]}]}, "2.5, at most 2 is allowed"),
        ({"resultType": "vector", "result": []}, "the query gives no single number"),
        ({"resultType": "vector", "result": [{"value": [0, "1"]}] * 2}, "the query gives no single number"),
        ({"resultType": "scalar", "result": [0, "NaN"]}, "nan, at most 2 is allowed"),
        ("strange", "the query gives no single number"),
    ],
)
def test_a_prometheus_gate_compares_one_number(data: Any, problem: str | None) -> None:
    with server({"/api/v1/query": (200, json.dumps({"data": data}))}) as url:
        gate = PrometheusGate(driver="prometheus", url=url, query="up", at_most=2)
        assert PrometheusMeter(gate).problem() == problem


def test_a_prometheus_that_does_not_answer_is_not_well() -> None:
    with server({}) as url:
        gate = PrometheusGate(driver="prometheus", url=url, query="up", at_most=2)
        problem = PrometheusMeter(gate).problem()
    assert problem
    assert problem.startswith(f"{url} does not answer")


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([[1]], None),
        ([[9.5]], "9.5, at most 2 is allowed"),
        ([], "the query gives no single number"),
        ([[1, 2]], "the query gives no single number"),
        ([["many"]], "the query gives no single number"),
        (Failed("workspace w: 403"), "workspace w: 403"),
    ],
)
def test_a_log_analytics_gate_compares_one_number(rows: Any, problem: str | None) -> None:
    def query(workspace: str, text: str, timeout: float) -> Any:
        if isinstance(rows, Failed):
            raise rows
        return rows

    gate = LogAnalyticsGate(driver="log_analytics", workspace_id="0" * 8 + "-0000" * 3 + "-" + "0" * 12, query="T",
                            at_most=2)  # fmt: skip
    assert LogAnalyticsMeter(gate, query).problem() == problem
