"""The lab service's own test suites, asked of its public address the way a client does, and attached as evidence."""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import httpx

from patchwave.evidence.chain import IDENTITY
from sandbox.config import write_atomically
from sandbox.stack import Stack, said_by

ORDERS = 200
ASKED = 60
CLIENTS, REQUESTS = 8, 50
SLOWEST = 1.0
TIMEOUT = 10.0


class Check(NamedTuple):
    """One thing that must be so, and what was found."""

    name: str
    passed: bool
    found: str


def functional(url: str, live: set[str]) -> Iterator[Check]:
    """The page, its data on every live host, the health check, and a path that must not exist."""
    answers = [_ask(url) for _ in range(ASKED)]
    orders = {answer.get("orders") for answer in answers}
    hosts = {str(answer.get("host")) for answer in answers}
    yield Check("every host has all work orders", orders == {ORDERS}, f"{sorted(map(str, orders))}, {ORDERS} are right")
    yield Check("every live host answers", hosts == live, ", ".join(sorted(hosts)))
    health = httpx.get(f"{url}/healthz", timeout=TIMEOUT)
    said = health.json() if health.is_success else {}
    yield Check("the database is reached", said.get("database") == "ok", f"{health.status_code} {said}")
    wrong = httpx.get(f"{url}/nothing-here", timeout=TIMEOUT)
    yield Check("a wrong path is not found", wrong.status_code == httpx.codes.NOT_FOUND, str(wrong.status_code))


def load(url: str, live: set[str]) -> Iterator[Check]:
    """Several clients at once: no error, and hardly an answer that is slow."""

    def client(_: int) -> list[float | None]:
        return [_timed(url) for _ in range(REQUESTS)]

    with ThreadPoolExecutor(CLIENTS) as pool:
        times = [one for some in pool.map(client, range(CLIENTS)) for one in some]
    good = [one for one in times if one is not None]
    slow = statistics.quantiles(good, n=20)[-1] if len(good) > 1 else None
    yield Check("no request fails", len(good) == len(times), f"{len(good)} of {len(times)} answered")
    said = "nothing answered" if slow is None else f"95 % within {slow * 1000:.0f} ms, {SLOWEST * 1000:.0f} are allowed"
    yield Check("95 % are fast", slow is not None and slow <= SLOWEST, said)


SUITES: dict[str, Callable[[str, set[str]], Iterator[Check]]] = {
    "functional-tests": functional,
    "integration-tests": functional,
    "load-test": load,
}


def attach(stack: Stack, criterion: str, moved: int) -> str:
    """Runs a suite for real and attaches its result, a bad one too; how it went, in a few words."""
    outputs = next(r["outputs"] for r in stack.resources() if r["type"] == "pulumi:pulumi:Stack")
    live = {host["name"] for host in _object(stack, moved, "inventory")["hosts"] if host["live"]}
    checks = list(SUITES[criterion](outputs["url"], live))
    bad = [check for check in checks if not check.passed]
    shown = stack.sandbox.log / f"{stack.name}-{criterion}.json"
    write_atomically(shown, json.dumps([check._asdict() for check in checks], indent=1) + "\n")
    result = "fail" if bad else "pass"
    options = ["--criterion", criterion, "--result", result, "--file", str(shown)]
    options += ["--by", IDENTITY, "--key", str(stack.sandbox.runner_key)]
    _object(stack, moved, "evidence", "attach", *options)
    return f"{criterion} {f'FAILED: {bad[0].name}: {bad[0].found}' if bad else f'passed, {len(checks)} checks'}"


def missing(stack: Stack, moved: int) -> list[str]:
    """The suites whose result the standard asks for, and that nobody has attached for the last run."""
    found = _object(stack, moved, "evidence", "criteria")["criteria"]
    return [one["name"] for one in found if one["name"] in SUITES and one["state"] in ("missing", "stale")]


def _object(stack: Stack, moved: int, *words: str) -> dict[str, Any]:
    done = stack.patchwave(*words, "--stack", stack.name, "--json", moved=moved)
    return said_by(done.stdout, done.stderr, done.returncode)


def _ask(url: str) -> dict[str, Any]:
    answer = httpx.get(url, timeout=TIMEOUT)
    found: dict[str, Any] = answer.json() if answer.is_success else {}
    return found


def _timed(url: str) -> float | None:
    began = time.monotonic()
    try:
        good = httpx.get(url, timeout=TIMEOUT).is_success
    except httpx.TransportError:
        good = False
    return time.monotonic() - began if good else None
