"""The lab's test suites, run against the public addresses the way a client does, and attached as evidence."""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from patchwave.config.settings import load_stack
from patchwave.config.settings.machines import GalleryImage
from patchwave.evidence.chain import IDENTITY
from sandbox.config import write_atomically
from sandbox.sample import checks
from sandbox.sample.checks import Check
from sandbox.stack import Stack, answer_of

CLIENTS, REQUESTS = 8, 50
SLOWEST = 1.0
TIMEOUT = 10.0
SAMPLES: dict[str, Callable[[str, set[str]], Iterator[Check]]] = {"web": checks.functional}
"""What a service of the lab tests of itself, by the image of its hosts."""


def functional(stack: Stack, fleet: str, url: str, live: set[str]) -> Iterator[Check]:
    """The service's own tests where it is one of the lab's; of any service, that its address answers."""
    hosts = dict(load_stack(stack.sandbox.project, stack.name).settings.slots())[fleet]
    suite = SAMPLES.get(hosts.image.name) if isinstance(hosts.image, GalleryImage) else None
    if suite:
        yield from suite(url, live)
    else:
        status = httpx.get(url, timeout=TIMEOUT, verify=False).status_code  # noqa: S501  # the lab's own address
        yield Check(f"{fleet} answers", status == httpx.codes.OK, str(status))


def load(stack: Stack, fleet: str, url: str, live: set[str]) -> Iterator[Check]:
    """Several clients at once: no error, and hardly an answer that is slow."""

    def client(_: int) -> list[float | None]:
        return [_timed(url) for _ in range(REQUESTS)]

    with ThreadPoolExecutor(CLIENTS) as pool:
        times = [one for some in pool.map(client, range(CLIENTS)) for one in some]
    good = [one for one in times if one is not None]
    slow = statistics.quantiles(good, n=20)[-1] if len(good) > 1 else None
    yield Check(f"no request to {fleet} fails", len(good) == len(times), f"{len(good)} of {len(times)} answered")
    found = "nothing answered" if slow is None else f"95 % within {slow * 1000:.0f} ms, {SLOWEST * 1000:.0f} allowed"
    yield Check(f"95 % to {fleet} are fast", slow is not None and slow <= SLOWEST, found)


SUITES: dict[str, Callable[[Stack, str, str, set[str]], Iterator[Check]]] = {
    "functional-tests": functional,
    "integration-tests": functional,
    "load-test": load,
}


def attach(stack: Stack, criterion: str, moved: int) -> str:
    """Runs a suite for real and attaches its result, a bad one too; how it went, in a few words."""
    outputs = next(r["outputs"] for r in stack.resources() if r["type"] == "pulumi:pulumi:Stack")
    hosts = _object(stack, moved, "inventory")["hosts"]
    found = [
        check
        for fleet, url in outputs["urls"].items()
        for check in SUITES[criterion](
            stack, fleet, url, {h["name"] for h in hosts if h["live"] and h["fleet"] == fleet}
        )
    ]
    bad = [check for check in found if not check.passed]
    shown = stack.sandbox.log / f"{stack.name}-{criterion}.json"
    write_atomically(shown, json.dumps([check._asdict() for check in found], indent=1) + "\n")
    result = "fail" if bad else "pass"
    options = ["--criterion", criterion, "--result", result, "--file", str(shown)]
    options += ["--by", IDENTITY, "--key", str(stack.sandbox.runner_key)]
    _object(stack, moved, "evidence", "attach", *options)
    return f"{criterion} {f'FAILED: {bad[0].name}: {bad[0].found}' if bad else f'passed, {len(found)} checks'}"


def missing(stack: Stack, moved: int) -> list[str]:
    """The suites whose result the standard requires, and that is not attached yet for the last run."""
    found = _object(stack, moved, "evidence", "criteria")["criteria"]
    return [one["name"] for one in found if one["name"] in SUITES and one["state"] in ("missing", "stale")]


def _object(stack: Stack, moved: int, *words: str) -> dict[str, Any]:
    done = stack.patchwave(*words, "--stack", stack.name, "--json", moved=moved)
    return answer_of(done.stdout, done.stderr, done.returncode)


def _timed(url: str) -> float | None:
    began = time.monotonic()
    try:
        good = httpx.get(url, timeout=TIMEOUT, verify=False).is_success  # noqa: S501  # the lab's own address
    except httpx.TransportError:
        good = False
    return time.monotonic() - began if good else None
