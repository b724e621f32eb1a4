"""The services of a host: which must stop, in which order, and whether they are well."""

from __future__ import annotations

import json
import re
import secrets
import statistics
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.patchwave_host import StepError, alive, process_start, processes, run, write_durably
from ansible.module_utils.patchwave_methods import Packages
from ansible.module_utils.patchwave_versions import UNIT, exact

UNIT_TIMEOUT = 120.0
DRAINING = "draining"
# Modules of these are read into a process without being mapped, so only the packages' names tell.
INTERPRETED = ("python3", "ruby", "node-", "php")
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Unit:
    """A service unit as systemd sees it, with the units that are parts of it."""

    name: str
    active: str
    parts: tuple[str, ...]
    fragment: str
    executable: str

    @property
    def running(self) -> bool:
        return self.active in ("active", "reloading", "activating")


def units(names: Iterable[str]) -> list[Unit]:
    """The named units that exist on this host, in the same order."""
    found = []
    for name in names:
        shown = _show(
            exact(UNIT, name, "service"), "LoadState", "ActiveState", "ConsistsOf", "FragmentPath", "ExecStart"
        )
        if shown.get("LoadState") in ("loaded", "masked"):
            executable = re.search(r"path=(\S+)", shown.get("ExecStart", ""))
            parts = tuple(part for part in shown.get("ConsistsOf", "").split() if UNIT.fullmatch(part))
            found.append(
                Unit(
                    name,
                    shown["ActiveState"],
                    parts,
                    shown.get("FragmentPath", ""),
                    executable[1] if executable else "",
                )
            )
    return found


def _show(unit: str, *properties: str) -> dict[str, str]:
    done = run(["systemctl", "show", f"--property={','.join(properties)}", "--", unit], timeout=30).checked(
        f"systemctl show {unit}"
    )
    return dict(line.split("=", 1) for line in done.out.splitlines() if "=" in line)


def unit_of(pid: int) -> str:
    """The systemd unit that a process belongs to, or an empty string."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        for part in reversed(line.rpartition(":")[2].split("/")):
            if part.endswith((".service", ".scope")):
                return part
    return ""


def mapped_files(pid: int) -> tuple[set[str], set[str]]:
    """The files that a process has mapped, and those of them that have been replaced on disk since."""
    present, deleted = set(), set()
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return set(), set()
    for line in lines:
        path = [*line.split(None, 5), ""][5] if line.count(" ") > 4 else ""
        if path.startswith(("/usr/", "/lib", "/opt/", "/bin/", "/sbin/")):
            if path.endswith(" (deleted)"):
                deleted.add(path[: -len(" (deleted)")])
            else:
                present.add(path)
    return present | deleted, deleted


def concerned(found: Sequence[Unit], changing: Iterable[str], packages: Packages) -> dict[str, str]:
    """The units that a change of these packages touches, with reasons; who stands before one depends on it."""
    keys = set(changing)
    files = {_plain(file): key for key in keys for file in packages.files_of(key)}
    reasons: dict[str, str] = {}
    for unit in found:
        if unit.running and (reason := _touches(unit, keys, files, packages)):
            reasons[unit.name] = reason
    last = max((index for index, unit in enumerate(found) if unit.name in reasons), default=-1)
    for unit in found[: last + 1]:
        if unit.running:
            reasons.setdefault(unit.name, f"depends on {found[last].name}")
    return {unit.name: reasons[unit.name] for unit in found if unit.name in reasons}


def _touches(unit: Unit, keys: set[str], files: Mapping[str, str], packages: Packages) -> str:
    owners = _owners([path for path in (unit.fragment, unit.executable) if path], packages)
    needs = packages.dependencies(owners)
    modules = [name for name in needs if name.startswith(INTERPRETED) or name.endswith("-perl")]
    for owner in [*owners, *modules]:
        if owner in keys:
            return f"needs {owner}"
    members = {unit.name, *unit.parts}
    for pid in processes():
        if unit_of(pid) in members:
            for path in mapped_files(pid)[0]:
                if key := files.get(_plain(path)):
                    return f"uses {Path(path).name} of {key}"
    return ""


def _plain(path: str) -> str:
    """A path as both sides of the merged /usr write it."""
    return re.sub(r"^/usr(?=/(?:lib|bin|sbin))", "", path)


def _owners(paths: Sequence[str], packages: Packages) -> list[str]:
    found = []
    for path in paths:
        spellings = dict.fromkeys((path, _plain(path), f"/usr{_plain(path)}"))
        found += next((owners for one in spellings if (owners := packages.owners([one]))), [])
    return found


def owners(unit: str, packages: Packages) -> list[str]:
    """The packages that own a unit's own file."""
    fragment = _show(exact(UNIT, unit, "service"), "FragmentPath").get("FragmentPath", "")
    return _owners([fragment], packages) if fragment else []


def stop(found: Sequence[Unit], names: Iterable[str]) -> list[str]:
    """Stops the named units in the given order, each one down before the next; returns those that were running."""
    stopped, wanted = [], set(names)
    for unit in found:
        if unit.name in wanted and _show(unit.name, "ActiveState")["ActiveState"] not in ("inactive", "failed"):
            run(["systemctl", "stop", "--", unit.name, *unit.parts], timeout=UNIT_TIMEOUT).checked(
                f"systemctl stop {unit.name}"
            )
            stopped.append(unit.name)
    return stopped


def start(names: Iterable[str]) -> list[str]:
    """Starts units in the given order, each one up before the next; one that does not come up is a StepError."""
    started: list[str] = []
    for name in names:
        run(["systemctl", "reset-failed", "--", name], timeout=30)
        done = run(["systemctl", "start", "--", name], timeout=UNIT_TIMEOUT)
        if done.code or _show(name, "ActiveState")["ActiveState"] not in ("active", "reloading"):
            log = run(["journalctl", "--unit", name, "--lines=5", "--no-pager", "--output=cat"], timeout=20).out
            said = " / ".join([line.strip() for line in log.splitlines() if line.strip()][-4:])[:300]
            raise StepError(f"{name} does not start: {said or 'see journalctl'}", started=started)
        started.append(name)
    return started


@dataclass(frozen=True)
class Answer:
    """What one request gave."""

    status: int
    body: Mapping[str, Any]
    ms: float
    error: str = ""

    @property
    def healthy(self) -> bool:
        """Only a 200 that itself says Healthy is."""
        return self.status == 200 and self.body.get("ApplicationHealthState") == "Healthy"

    @property
    def draining(self) -> bool:
        """Whether draining is the one thing that keeps it from being healthy."""
        return self.status == 503 and self.body.get("reason") == DRAINING

    @property
    def said(self) -> str:
        """Itself on one line."""
        return self.error or f"HTTP {self.status} {self.body.get('reason') or self.body.get('error') or ''}".strip()


def ask(url: str, timeout: float = 5.0) -> Answer:
    """One GET, with no proxy and no exception."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise StepError(f"{url!r} is no http address: fix the settings")
    started = time.monotonic()
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "patchwave"})  # noqa: S310 - the scheme is checked above
        with _OPENER.open(request, timeout=timeout) as answer:
            status, raw = answer.status, answer.read(65536)
    except urllib.error.HTTPError as error:
        status, raw = error.code, error.read(65536)
    except OSError as error:
        return Answer(0, {}, _ms(started), f"{url}: {getattr(error, 'reason', None) or error}")
    except Exception as error:  # http.client raises its own kinds on a torn answer
        return Answer(0, {}, _ms(started), f"{url}: {type(error).__name__}")
    try:
        body = json.loads(raw)
    except ValueError:
        body = {}
    return Answer(status, body if isinstance(body, dict) else {}, _ms(started))


def _ms(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 1)


def root_of(url: str) -> str:
    """The service's own page on the server that answers for its health."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/"


def control(url: str) -> Answer:
    """The answer for a path that no service has: a check that calls this healthy would call anything healthy."""
    return ask(f"{url.rstrip('/')}-{secrets.token_hex(6)}")


def baseline(url: str, samples: int) -> float | None:
    """The median of some good answers of the service's own page in milliseconds, or None without any."""
    answers = [ask(root_of(url)) for _ in range(samples)]
    good = [answer.ms for answer in answers if answer.status == 200]
    return round(statistics.median(good), 1) if good else None


@dataclass(frozen=True)
class Health:
    """What sampling gave: `good` answers in a row at its end, every error before them."""

    good: int
    errors: int
    warm_up: int
    median_ms: float | None
    last: Mapping[str, Any]
    problem: str


def sample(
    url: str,
    *,
    samples: int,
    interval: float,
    deadline: float,
    drained: bool,
    fits: Callable[[Mapping[str, Any]], str] | None = None,
) -> Health:
    """Asks until so many good answers came in a row, or the deadline passes; nothing but good answers counts.

    A drained service is well when draining is its only complaint and its own page works. `fits` may refuse an answer.
    """
    until = time.monotonic() + deadline
    row: list[float] = []
    errors = warm_up = 0
    problem = "no answer yet"
    last: Mapping[str, Any] = {}
    seen_good = False
    while True:
        health, page = ask(url), ask(root_of(url))
        reason = ""
        if not (health.healthy or (drained and health.draining)):
            reason = f"health: {health.said}"
        elif page.status != 200:
            reason = f"page: {page.said}"
        elif fits is not None:
            reason = fits(health.body)
        last = dict(health.body)
        if reason:
            row, problem = [], reason
            errors, warm_up = (errors + 1, warm_up) if seen_good else (errors, warm_up + 1)
        else:
            seen_good = True
            row.append(page.ms)
            if len(row) >= samples:
                return Health(len(row), errors, warm_up, round(statistics.median(row), 1), last, "")
        if time.monotonic() + interval > until:
            return Health(len(row), errors, warm_up, round(statistics.median(row), 1) if row else None, last, problem)
        time.sleep(interval)


def old_code(pid: int) -> str:
    """Why a process still runs replaced code, or an empty string."""
    deleted = sorted(mapped_files(pid)[1])
    return f"pid {pid} still uses the replaced {Path(deleted[0]).name}" if deleted else ""


def serving_process(body: Mapping[str, Any]) -> tuple[int | None, str, float | None]:
    """The process that answered: its id, its unit, and when it started by the kernel's word rather than its own."""
    pid = body.get("pid")
    if isinstance(pid, int) and pid > 1 and alive(pid):
        return pid, unit_of(pid), process_start(pid)
    started = body.get("started")
    return None, "", float(started) if isinstance(started, (int, float)) else None


class Flag:
    """The file that takes the service out of the load balancer's choice; it says which run put it there."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        if not self.path.is_absolute() or ".." in self.path.parts:
            raise StepError(f"drain flag {path!r} is not an absolute path: fix the settings")

    def owner(self) -> str | None:
        """Who drained the host: a run's id, `someone else`, or None when it is in service."""
        try:
            text = self.path.read_text(errors="replace")
        except FileNotFoundError:
            return None
        found = re.fullmatch(r"patchwave ([0-9A-Za-z.-]+)\n?", text)
        return found[1] if found else "someone else"

    def raise_(self, run_id: str) -> None:
        """Drains, durably."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(self.path, f"patchwave {run_id}\n", mode=0o644)

    def lower(self) -> None:
        """Puts back into service, and has looked that it is so."""
        self.path.unlink(missing_ok=True)
        if self.path.exists():
            raise StepError(f"{self.path} is still there after its removal: look who writes it")
