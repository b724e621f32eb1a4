"""How a host leaves its balancer's choice and comes back: one function pair, and what each driver does for it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.patchwave_health import request
from ansible.module_utils.patchwave_host import ROOT, StepError, count, run, seconds, write_durably
from ansible.module_utils.patchwave_sockets import ESTABLISHED, TIME_WAIT, clients

MARKER = ROOT / "drained"
SOMEONE_ELSE = "someone else"
PAUSE = 0.2
# A connection may begin between two looks at the sockets; so many looks without one mean that none is left.
QUIET = 5


class Marker:
    """The file that names the run that drained the host; with the driver `flag` the file itself drains it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_absolute() or ".." in self.path.parts:
            raise StepError(f"drain flag {str(path)!r} is not an absolute path: fix the settings")

    @classmethod
    def of(cls, traffic: Mapping[str, Any]) -> Marker:
        """The marker of a service with this traffic."""
        return cls(traffic["path"] if traffic["driver"] == "flag" else MARKER)

    def owner(self) -> str | None:
        """Who has drained the host: a run's id, `someone else`, or None when it is in service."""
        try:
            text = self.path.read_text(errors="replace")
        except FileNotFoundError:
            return None
        found = re.fullmatch(r"patchwave ([0-9A-Za-z.-]+)\n?", text)
        return found[1] if found else SOMEONE_ELSE

    def put(self, run_id: str) -> None:
        """Names the run, durably."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(self.path, f"patchwave {run_id}\n", mode=0o644)

    def remove(self) -> None:
        """Takes the file away, and makes sure of it."""
        self.path.unlink(missing_ok=True)
        if self.path.exists():
            raise StepError(f"{self.path} is still there after its removal: look who writes it")


@dataclass(frozen=True)
class Outcome:
    """What a change of traffic came to: `detail` in words, `problem` where it is not as it should be."""

    detail: str
    problem: str = ""


def drain(traffic: Mapping[str, Any], run_id: str, *, live: bool, silent_ok: bool = False) -> Outcome:
    """Takes the host out of service and waits until no client is served there, if users' requests reach it.

    With the driver `balancer` the runner has changed the pools before. `silent_ok` gives up early on a service that
    gives no statistics, because it is down. A StepError where the driver cannot do its part.
    """
    marker = Marker.of(traffic)
    statistics = _Statistics(traffic)
    marker.put(run_id)
    driver = traffic["driver"]
    if driver == "http":
        _call(traffic, traffic["drain_url"])
    elif driver == "command":
        run(traffic["drain"], timeout=seconds(traffic["timeout"])).checked(traffic["drain"][0])
    if not live or driver in ("none", "command"):
        return Outcome("out of service")
    if driver == "balancer":
        return _gone(traffic)
    if statistics.known:
        return statistics.wait(_drained, "out of service", silent_ok=silent_ok)
    time.sleep(seconds(traffic["settle"]))
    return Outcome(f"out of service, waited {seconds(traffic['settle']):g} s for what was in flight")


def put_back(traffic: Mapping[str, Any], *, live: bool, was_drained: bool) -> Callable[[], Outcome]:
    """Puts the host back into service; the returned function waits until the balancer can have seen that.

    A host that was not away is not waited for. A StepError where the driver cannot do its part.
    """
    marker, driver = Marker.of(traffic), traffic["driver"]
    statistics, before = _Statistics(traffic), set()
    if driver == "balancer":
        before = clients(traffic["port"], ESTABLISHED, TIME_WAIT)
    elif driver == "http" and was_drained:
        _call(traffic, traffic["return_url"])
    elif driver == "command" and was_drained:
        run(traffic["put_back"], timeout=seconds(traffic["timeout"])).checked(traffic["put_back"][0])
    marker.remove()

    def wait() -> Outcome:
        if not live or not was_drained or driver in ("none", "command"):
            return Outcome("in service")
        if driver == "balancer":
            return _come(traffic, before)
        if statistics.known:
            return statistics.wait(_seen, "in service")
        time.sleep(seconds(traffic["settle"]))
        return Outcome("in service")

    return wait


def _call(traffic: Mapping[str, Any], url: str) -> None:
    answer = request(url, method=traffic["method"])
    if not 200 <= answer.status < 300:
        raise StepError(f"{traffic['method']} {url}: {answer.shown}, not a status of 2xx")


def _gone(traffic: Mapping[str, Any]) -> Outcome:
    """Waits until no other machine is connected, or for the time after which what is left is cut off."""
    until, quiet = time.monotonic() + seconds(traffic["settle"]), 0
    while True:
        left = len(clients(traffic["port"], ESTABLISHED))
        quiet = 0 if left else quiet + 1
        if quiet >= QUIET:
            return Outcome("out of service, no client is connected")
        if time.monotonic() >= until:
            cut = f"{count(left, 'connection')} left" if left else "connections came and went"
            return Outcome(f"out of service, {cut} after {seconds(traffic['settle']):g} s")
        time.sleep(PAUSE)


def _come(traffic: Mapping[str, Any], before: set[tuple[str, int]]) -> Outcome:
    """Waits until a client has connected anew, or for the time in which a balancer has certainly probed."""
    until = time.monotonic() + seconds(traffic["settle"])
    while time.monotonic() < until:
        if clients(traffic["port"], ESTABLISHED, TIME_WAIT) - before:
            return Outcome("in service, the balancer uses it")
        time.sleep(PAUSE)
    return Outcome("in service, no client has connected yet")


Complaint = Callable[[Mapping[str, int], Mapping[str, int], int], str]
"""Why the numbers of now, against those of before and the least rise, are not enough."""


class _Statistics:
    """What a service counts about its balancer, and how much of that was there before the change."""

    SILENT = 10

    def __init__(self, traffic: Mapping[str, Any]) -> None:
        self._url = traffic.get("statistics_url") if traffic["driver"] == "flag" else None
        self.known = self._url is not None
        if self._url:
            self._settle, self._least = seconds(traffic["settle"]), traffic["refused_probes"]
            self._before = self._read()[0]

    def _read(self) -> tuple[dict[str, int], str]:
        answer = request(str(self._url))
        body = answer.json()
        numbers = {
            key: value
            for key, value in (body.items() if isinstance(body, dict) else ())
            if key in ("refused", "in_flight", "passed") and type(value) is int
        }
        return numbers, "" if numbers else f"no statistics: {answer.shown}"

    def wait(self, enough: Complaint, detail: str, *, silent_ok: bool = False) -> Outcome:
        """Reads until `enough` has no complaint, or as long as the settings allow."""
        until, silent = time.monotonic() + self._settle, 0
        while True:
            now, problem = self._read()
            silent = silent + 1 if problem else 0
            problem = problem or enough(now, self._before, self._least)
            if not problem:
                return Outcome(f"{detail}, seen by the balancer")
            if time.monotonic() >= until or (silent_ok and silent >= self.SILENT):
                return Outcome(f"{detail}, but {problem}", problem)
            time.sleep(PAUSE)


def _rise(now: Mapping[str, int], before: Mapping[str, int], key: str) -> int:
    """By how much a counter has risen; one that was reset meanwhile counts from zero."""
    return now[key] - before[key] if now[key] >= before.get(key, now[key] + 1) else now[key]


def _drained(now: Mapping[str, int], before: Mapping[str, int], least: int) -> str:
    if not {"refused", "in_flight"} <= set(now):
        return "the statistics lack refused or in_flight"
    refused = _rise(now, before, "refused")
    if refused >= least and now["in_flight"] == 0:
        return ""
    return f"{refused} of {least} probes refused, {now['in_flight']} requests in flight"


def _seen(now: Mapping[str, int], before: Mapping[str, int], least: int) -> str:
    return "" if "passed" in now and _rise(now, before, "passed") >= 1 else "no probe has passed yet"
