"""Gates: whether the next batch may start, judged by what the service's own gates measure before, during and after."""

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

import httpx

from patchwave.base.errors import PatchwaveError
from patchwave.base.model import Model
from patchwave.config.settings.services import CommandGate, Gate, HttpGate, LogAnalyticsGate, PrometheusGate
from patchwave.config.standard import Rollback

Row = TypeVar("Row")
LEAST = 10
PAUSE = 0.1
PATIENCE = 60.0


class Sample(Model):
    """What a gate has measured over a stretch of time.

    An `http` gate counts its requests and the median time of good answers; any other measures
    once, `problem` is why it does not pass.
    """

    requests: int
    failed: int
    median_ms: float | None = None
    problem: str | None = None

    @property
    def error_percent(self) -> float:
        """The share of answers that failed; without an answer all of them."""
        return 100 * self.failed / self.requests if self.requests else 100.0


class Reading(Model):
    """One gate's samples around a batch."""

    gate: str
    counted: bool
    before: Sample
    during: Sample
    after: Sample


class Judgement(Model):
    """Whether the next batch may start; without positive evidence it may not."""

    passed: bool
    reason: str


def enough(rollback: Rollback) -> int:
    """How many answers resolve the error rate that the standard allows: with fewer, one failure decides alone."""
    return max(LEAST, ceil(100 / max(1, rollback.error_rate_increase_percent)))


def judge(readings: Sequence[Reading], rollback: Rollback) -> Judgement:
    """The first gate that does not pass, or what all of them measured."""
    passed = []
    for reading in readings:
        verdict = _counted(reading, rollback) if reading.counted else _measured(reading)
        if not verdict.passed:
            return Judgement(passed=False, reason=f"{reading.gate}: {verdict.reason}")
        passed.append(verdict.reason)
    return Judgement(passed=True, reason="; ".join(passed) or "the service names no gate, its hosts are healthy")


def _measured(reading: Reading) -> Judgement:
    for when, sample in (("before", reading.before), ("after", reading.after)):
        if sample.problem is not None:
            return Judgement(passed=False, reason=f"{when} the batch: {sample.problem}")
    return Judgement(passed=True, reason=f"{reading.gate} is well")


def _counted(reading: Reading, rollback: Rollback) -> Judgement:
    before, during, after = reading.before, reading.during, reading.after
    least = enough(rollback)
    for when, sample in (("before", before), ("after", after)):
        if sample.requests < least:
            return Judgement(
                passed=False, reason=f"{sample.requests} answers {when} the batch, {least} are needed: no evidence"
            )
    allowed = rollback.error_rate_increase_percent
    for when, sample in (("during", during), ("after", after)):
        increase = sample.error_percent - before.error_percent
        if sample.requests and increase > allowed:
            return Judgement(
                passed=False, reason=f"error rate rose by {increase:.1f} % {when} the batch, {allowed} % are allowed"
            )
    if before.median_ms is None or after.median_ms is None:
        return Judgement(passed=False, reason="no good answer to compare latencies by: no evidence")
    percent = rollback.latency_increase_percent
    if rollback.is_slower(before.median_ms, after.median_ms, percent):
        reason = f"median latency rose from {before.median_ms:.0f} to {after.median_ms:.0f} ms, {percent} % are allowed"
        return Judgement(passed=False, reason=reason)
    return Judgement(
        passed=True,
        reason=f"{after.requests} answers, median {after.median_ms:.0f} ms, {during.failed} failed meanwhile",
    )


class Meter(Protocol):
    """One gate that is measured: `counted` ones go on by themselves while they are entered."""

    name: str
    counted: bool

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def sample(self, at_least: int) -> Sample:
        """What was measured since the last call, waiting for that many answers as long as that makes sense."""
        ...


class HttpMeter:
    """Sends requests as a user does, about ten times a second, in a thread of its own."""

    counted = True

    def __init__(self, gate: HttpGate, url: str, pause: float = PAUSE) -> None:
        self.name = f"http {url}"
        self._gate, self._url, self._pause = gate, url, pause
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._times: list[float] = []
        self._failed = 0
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def sample(self, at_least: int) -> Sample:
        """Answers since the last call; waits up to a minute for enough of them."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with self._lock:
                if len(self._times) + self._failed >= at_least:
                    break
            time.sleep(self._pause)
        with self._lock:
            times, failed = self._times, self._failed
            self._times, self._failed = [], 0
        median = statistics.median(times) * 1000 if times else None
        return Sample(requests=len(times) + failed, failed=failed, median_ms=median)

    def _ask(self) -> None:
        gate = self._gate
        headers = {"Host": gate.host} if gate.host else {}
        with httpx.Client(
            timeout=gate.timeout.total_seconds(),
            verify=gate.verify_tls,
            headers=headers,
            follow_redirects=gate.redirects > 0,
            max_redirects=gate.redirects,
            trust_env=False,
        ) as client:
            while not self._over.is_set():
                began = time.monotonic()
                try:
                    good = client.get(self._url).status_code in gate.status
                except (httpx.HTTPError, httpx.InvalidURL):
                    good = False
                with self._lock:
                    if good:
                        self._times.append(time.monotonic() - began)
                    else:
                        self._failed += 1
                self._over.wait(self._pause)


class OnceMeter:
    """A gate that is measured once before and once after a batch."""

    counted = False

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def sample(self, at_least: int) -> Sample:
        """One measurement; none where `at_least` is 0, while a batch is away."""
        if at_least == 0:
            return Sample(requests=0, failed=0)
        problem = self.problem()
        return Sample(requests=1, failed=int(problem is not None), problem=problem)

    def problem(self) -> str | None:
        """Why the gate is not well, None where it is."""
        raise NotImplementedError


class CommandMeter(OnceMeter):
    """Runs a program in the project's folder; it is ended with its children after its timeout."""

    def __init__(self, gate: CommandGate, project: Path) -> None:
        super().__init__(f"command {gate.command[0]}")
        self._gate, self._project = gate, project

    def problem(self) -> str | None:
        """Its exit code and last line, where it did not end with 0."""
        limit = self._gate.timeout.total_seconds()
        try:
            child = subprocess.Popen(
                self._gate.command,
                cwd=self._project,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return f"it cannot be run: {error.strerror}"
        try:
            output, _ = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, 9)
            child.communicate()
            return f"it did not end within {limit:g} s"
        if child.returncode == 0:
            return None
        lines = output.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
        return f"exit {child.returncode}: {last[:200]}"


class PrometheusMeter(OnceMeter):
    """Queries Prometheus for one number."""

    def __init__(self, gate: PrometheusGate) -> None:
        super().__init__(f"prometheus {gate.query}")
        self._gate = gate

    def problem(self) -> str | None:
        """The number where it is above the limit, or why there is none."""
        gate = self._gate
        try:
            answer = httpx.get(
                f"{gate.url.rstrip('/')}/api/v1/query",
                params={"query": gate.query},
                timeout=gate.timeout.total_seconds(),
                trust_env=False,
            )
            answer.raise_for_status()
            data = answer.json()["data"]
            value = float(data["result"][1] if data["resultType"] == "scalar" else _only(data["result"])["value"][1])
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"{gate.url} does not answer: {' '.join(str(error).split())[:200]}"
        except (ValueError, KeyError, TypeError, IndexError):
            return "the query gives no single number"
        return _above(value, gate.at_most)


class LogAnalyticsMeter(OnceMeter):
    """Queries a Log Analytics workspace for one number."""

    def __init__(self, gate: LogAnalyticsGate, query: "LogQuery") -> None:
        super().__init__(f"log_analytics {gate.workspace_id}")
        self._gate, self._query = gate, query

    def problem(self) -> str | None:
        """The number where it is above the limit, or why there is none."""
        try:
            rows = self._query(self._gate.workspace_id, self._gate.query, self._gate.timeout.total_seconds())
            (value,) = _only(rows)
            return _above(float(value), self._gate.at_most)  # type: ignore[arg-type]  # text that is no number ends below
        except PatchwaveError as error:
            return str(error)
        except (ValueError, TypeError):
            return "the query gives no single number"


class LogQuery(Protocol):
    """Runs a KQL query on a workspace: id, query, seconds; the first table's rows."""

    def __call__(self, workspace: str, query: str, timeout: float) -> Sequence[Sequence[object]]: ...


def _only(rows: Sequence[Row]) -> Row:
    (one,) = rows
    return one


def _above(value: float, at_most: float) -> str | None:
    return None if value <= at_most else f"{value:g}, at most {at_most:g} is allowed"


def meters(
    gates: Sequence[Gate], *, project: Path, public: Sequence[str], query: LogQuery
) -> list[HttpMeter | CommandMeter | PrometheusMeter | LogAnalyticsMeter]:
    """One meter for each gate; an http gate without a url requests each of the service's public addresses."""
    made: list[HttpMeter | CommandMeter | PrometheusMeter | LogAnalyticsMeter] = []
    for gate in gates:
        match gate:
            case HttpGate(url=None):
                made += [HttpMeter(gate, url.rstrip("/") + gate.path) for url in public]
            case HttpGate(url=str() as url):
                made.append(HttpMeter(gate, url.rstrip("/") + gate.path if gate.path != "/" else url))
            case CommandGate():
                made.append(CommandMeter(gate, project))
            case PrometheusGate():
                made.append(PrometheusMeter(gate))
            case LogAnalyticsGate():
                made.append(LogAnalyticsMeter(gate, query))
    return made


class Watch:
    """All gates of a service while a batch is away."""

    def __init__(self, meters: Sequence[Meter], least: int) -> None:
        self._meters, self._least = meters, least
        self._stack = ExitStack()
        self._before: Mapping[str, Sample] = {}

    def __enter__(self) -> Self:
        for meter in self._meters:
            self._stack.enter_context(meter)
        self._before = {meter.name: meter.sample(self._least) for meter in self._meters}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def readings(self) -> list[Reading]:
        """What the gates have measured, once the batch is back."""
        during = {meter.name: meter.sample(0) for meter in self._meters}
        return [
            Reading(
                gate=meter.name,
                counted=meter.counted,
                before=self._before[meter.name],
                during=during[meter.name],
                after=meter.sample(self._least),
            )
            for meter in self._meters
        ]
