"""What the sample service's own tests find at its public address, requested as a client does."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx

ORDERS = 200
REQUESTS = 60
TIMEOUT = 10.0


class Check(NamedTuple):
    """One thing that must be so, and what was found."""

    name: str
    passed: bool
    found: str


def functional(url: str, live: set[str]) -> Iterator[Check]:
    """The page, its data on every live host, the health check, and a path that must not exist."""
    answers = [_answer(url) for _ in range(REQUESTS)]
    orders = {answer.get("orders") for answer in answers}
    hosts = {str(answer.get("host")) for answer in answers}
    yield Check("every host has all work orders", orders == {ORDERS}, f"{sorted(map(str, orders))}, {ORDERS} are right")
    yield Check("every live host answers", hosts == live, ", ".join(sorted(hosts)))
    health = httpx.get(f"{url}/healthz", timeout=TIMEOUT)
    state = health.json() if health.is_success else {}
    yield Check("the database is reached", state.get("database") == "ok", f"{health.status_code} {state}")
    wrong = httpx.get(f"{url}/nothing-here", timeout=TIMEOUT)
    yield Check("a wrong path is not found", wrong.status_code == httpx.codes.NOT_FOUND, str(wrong.status_code))


def _answer(url: str) -> dict[str, Any]:
    answer = httpx.get(url, timeout=TIMEOUT)
    found: dict[str, Any] = answer.json() if answer.is_success else {}
    return found
