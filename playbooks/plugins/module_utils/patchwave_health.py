"""Whether the service of a host is well: what each kind of check does, and how often it must succeed in a row."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import secrets
import signal
import socket
import ssl
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils import patchwave_data as data
from ansible.module_utils import patchwave_units as units
from ansible.module_utils.patchwave_host import StepError, elapsed, run, seconds
from ansible.module_utils.patchwave_sockets import listening

REQUEST_TIMEOUT = 5.0
QUERY_TIMEOUT = 15.0
LARGEST = 1 << 16


@dataclass(frozen=True)
class Answer:
    """What one HTTP request gave; `status` is 0 where nothing answered, and `error` is the reason."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    ms: float = 0.0
    error: str = ""

    @property
    def shown(self) -> str:
        """The status, or why there is none."""
        return self.error or f"HTTP {self.status}"

    def json(self) -> Any:
        """The body as JSON, or None for one that is not, or that is nested beyond reason."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class _Tls(http.client.HTTPSConnection):
    """A connection whose certificate is checked for the requested name, not for the address."""

    def __init__(self, server: str, port: int, timeout: float, context: ssl.SSLContext, name: str) -> None:
        super().__init__(server, port, timeout=timeout, context=context)
        self._tls, self._name = context, name

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


@contextlib.contextmanager
def within(limit: float) -> Iterator[None]:
    """Ends what takes longer, however slowly it goes on, by a TimeoutError; for the main thread."""

    def ring(*_: Any) -> None:
        raise TimeoutError(f"no complete answer in {limit:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def request(
    url: str,
    *,
    method: str = "GET",
    host: str | None = None,
    verify_tls: bool = True,
    timeout: float = REQUEST_TIMEOUT,
) -> Answer:
    """One request without proxy, redirect or exception, bounded in time and size."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StepError(f"{url!r} is no http address: fix the settings")
    name = re.sub(r":\d+$", "", host) if host else parts.hostname
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        if not verify_tls:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = _Tls(parts.hostname, parts.port or 443, timeout, context, name)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout)
    headers = {"User-Agent": "patchwave", "Connection": "close", **({"Host": host} if host else {})}
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    started = time.monotonic()
    try:
        with within(timeout):
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            body = answer.read(LARGEST)
            found = {key.lower(): value for key, value in answer.getheaders()}
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Answer(ms=_ms(started), error=f"{url}: {str(error) or type(error).__name__}")
    finally:
        connection.close()
    return Answer(answer.status, found, body, _ms(started))


def _ms(started: float) -> float:
    return round(elapsed(started) * 1000, 1)


@dataclass(frozen=True)
class Verdict:
    """What one check found: an empty `problem` is well; `ms` is the time of an HTTP answer."""

    problem: str = ""
    ms: float | None = None


def judge(check: Mapping[str, Any], answer: Answer, *, drained: bool) -> str:
    """Why an answer is not what an http check wants, or an empty string."""
    if answer.error:
        return answer.error
    if drained and check["drained_status"] is not None and answer.status == check["drained_status"]:
        return ""
    if answer.status not in check["status"]:
        return f"{check['url']}: HTTP {answer.status}"
    if check["header"]:
        name, _, value = check["header"].partition(": ")
        if (found := answer.headers.get(name.lower())) != value:
            return f"{check['url']}: header {name} is {found!r}"
    if check["json_value"]:
        path, equals = check["json_value"]["path"], check["json_value"]["equals"]
        found = value_at(answer.json(), path)
        # In Python True equals 1.
        if type(found) is not type(equals) or found != equals:
            return f"{check['url']}: {path} is {str(found)[:60]!r}"
    return ""


def value_at(document: Any, path: str) -> Any:
    """The value of a JSON document by the names on the way to it; None where the way ends early."""
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _http(check: Mapping[str, Any], names: Sequence[str], *, drained: bool) -> Verdict:
    answer = request(check["url"], host=check["host"], verify_tls=check["verify_tls"])
    return Verdict(judge(check, answer, drained=drained), answer.ms)


def _tcp(check: Mapping[str, Any], names: Sequence[str], *, drained: bool) -> Verdict:
    port = check["port"]
    problem = f"nothing listens on port {port}"
    for address in listening(port):
        try:
            socket.create_connection((address, port), timeout=REQUEST_TIMEOUT).close()
            return Verdict()
        except OSError as error:
            problem = f"port {port} of {address}: {error}"
    return Verdict(problem)


def _systemd(check: Mapping[str, Any], names: Sequence[str], *, drained: bool) -> Verdict:
    found = units.units(names)
    return Verdict(units.down(found) if found else f"none of the service's units is on this host: {', '.join(names)}")


def _sql(check: Mapping[str, Any], names: Sequence[str], *, drained: bool) -> Verdict:
    rows = data.query(check["query"], database=check["database"], port=check["port"], timeout=QUERY_TIMEOUT)
    where = f"database {check['database']}"
    if len(rows) != 1:
        return Verdict(f"{where}: the query gives {len(rows)} rows, not one")
    wanted, first = check["equals"], rows[0][0]
    return Verdict(f"{where}: the query gives {first[:60]!r}" if wanted is not None and first != wanted else "")


def _command(check: Mapping[str, Any], names: Sequence[str], *, drained: bool) -> Verdict:
    run(check["command"], timeout=seconds(check["timeout"])).checked(check["command"][0])
    return Verdict()


_DRIVERS = {"http": _http, "tcp": _tcp, "systemd": _systemd, "sql": _sql, "command": _command}


def check_once(check: Mapping[str, Any], names: Sequence[str], *, drained: bool) -> Verdict:
    """One check of a service with these units."""
    try:
        return _DRIVERS[check["driver"]](check, names, drained=drained)
    except StepError as error:
        return Verdict(str(error))
    except OSError as error:
        return Verdict(f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class Health:
    """What sampling gave: `good` samples in a row at its end, errors after the first good one, and warm-up before."""

    good: int
    errors: int
    warm_up: int
    median_ms: float | None
    problem: str


def sample(
    health: Mapping[str, Any],
    names: Sequence[str],
    *,
    drained: bool,
    samples: int | None = None,
    deadline: float | None = None,
) -> Health:
    """Runs all checks until all succeeded so many times in a row, or the deadline passes."""
    samples, interval = samples or health["samples"], seconds(health["interval"])
    until = time.monotonic() + (seconds(health["deadline"]) if deadline is None else deadline)
    row: list[float | None] = []
    errors = warm_up = 0
    seen_good = False
    while True:
        problem, latency = _all(health["checks"], names, drained=drained)
        if problem:
            row = []
            errors, warm_up = (errors + 1, warm_up) if seen_good else (errors, warm_up + 1)
        else:
            seen_good = True
            row.append(latency)
        if len(row) >= samples or time.monotonic() + interval > until:
            problem = problem or ("" if len(row) >= samples else f"only {len(row)} of {samples} samples in a row")
            return Health(len(row), errors, warm_up, _median(row), problem)
        time.sleep(interval)


def _all(checks: Sequence[Mapping[str, Any]], names: Sequence[str], *, drained: bool) -> tuple[str, float | None]:
    """The first problem, and the time of the first http check."""
    latency: float | None = None
    for check in checks:
        verdict = check_once(check, names, drained=drained)
        if verdict.problem:
            return f"{check['driver']}: {verdict.problem}", None
        latency = verdict.ms if latency is None else latency
    return "", latency


def _median(row: Sequence[float | None]) -> float | None:
    known = [one for one in row if one is not None]
    return round(statistics.median(known), 1) if known else None


def proves_nothing(health: Mapping[str, Any]) -> str:
    """Why a check would succeed for any path, or an empty string.

    Checks of a JSON value or a header are tried on a path that no service has; a plain page may answer any path.
    """
    for check in health["checks"]:
        if check["driver"] == "http" and (check["json_value"] or check["header"]):
            parts = urlsplit(check["url"])
            path = f"{parts.path.rstrip('/')}/{secrets.token_hex(6)}"
            answer = request(parts._replace(path=path).geturl(), host=check["host"], verify_tls=check["verify_tls"])
            if not judge(check, answer, drained=False):
                return f"a path that does not exist answers like {check['url']}: the check proves nothing"
    return ""


def baseline(health: Mapping[str, Any], samples: int) -> float | None:
    """The median of good answers to the first http check in milliseconds, or None without any."""
    check = next((one for one in health["checks"] if one["driver"] == "http"), None)
    verdicts = [check_once(check, (), drained=False) for _ in range(samples)] if check else []
    return _median([verdict.ms for verdict in verdicts if not verdict.problem])
