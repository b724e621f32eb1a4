"""Packages' names, versions and changelogs as values: nothing that is not exactly one of them gets past here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timezone
from email.utils import parsedate_to_datetime
from functools import cmp_to_key
from typing import Any

from ansible.module_utils.patchwave_host import StepError

# Debian policy 5.6.1 and 5.6.12; ASCII only, so that no look-alike and no newline passes.
NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+", re.ASCII)
VERSION = re.compile(r"(?:[0-9]+:)?[0-9][A-Za-z0-9.+~-]*", re.ASCII)
ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]+", re.ASCII)
SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.@-]*", re.ASCII)
DATABASE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,7}", re.ASCII)


def exact(pattern: re.Pattern[str], value: Any, what: str) -> str:
    """The value, when it is a string that the whole pattern matches; else a StepError."""
    if not isinstance(value, str) or len(value) > 255 or not pattern.fullmatch(value):
        raise StepError(f"{what} {str(value)[:60]!r} is not a valid one: the release or the settings are wrong")
    return str(value)


def compare(left: str, right: str) -> int:
    """Negative, zero or positive as dpkg orders two versions."""
    (left_epoch, left_rest), (right_epoch, right_rest) = _epoch(left), _epoch(right)
    if left_epoch != right_epoch:
        return left_epoch - right_epoch
    left_upstream, _, left_revision = _revision(left_rest)
    right_upstream, _, right_revision = _revision(right_rest)
    return _compare_part(left_upstream, right_upstream) or _compare_part(left_revision, right_revision)


def newer(versions: Iterable[str]) -> list[str]:
    """Versions from old to new."""
    return sorted(versions, key=cmp_to_key(compare))


def _epoch(version: str) -> tuple[int, str]:
    head, colon, rest = version.partition(":")
    return (int(head), rest) if colon else (0, version)


def _revision(version: str) -> tuple[str, str, str]:
    upstream, dash, revision = version.rpartition("-")
    return (upstream, dash, revision) if dash else (version, "", "")


def _weight(character: str) -> int:
    if character == "~":
        return -1
    if character.isdigit() or not character:
        return 0
    return ord(character) if character.isalpha() else ord(character) + 256


def _compare_part(left: str, right: str) -> int:
    i = j = 0
    while i < len(left) or j < len(right):
        while (i < len(left) and not left[i].isdigit()) or (j < len(right) and not right[j].isdigit()):
            difference = _weight(left[i : i + 1]) - _weight(right[j : j + 1])
            if difference:
                return difference
            i, j = i + 1, j + 1
        left_number, right_number = re.match(r"[0-9]*", left[i:]), re.match(r"[0-9]*", right[j:])
        assert left_number
        assert right_number
        difference = int(left_number[0] or 0) - int(right_number[0] or 0)
        if difference:
            return difference
        i, j = i + left_number.end(), j + right_number.end()
    return 0


@dataclass(frozen=True)
class Spelling:
    """How a method spells a package, and the architecture that fits every host."""

    method: str
    name: re.Pattern[str]
    version: re.Pattern[str]
    arch: re.Pattern[str]
    any_arch: str

    def key(self, name: str, arch: str, native: str) -> str:
        """The name by which a package is known on a host of that architecture."""
        return name if arch in (native, self.any_arch) else f"{name}:{arch}"


DEB = Spelling("apt", NAME, VERSION, ARCHITECTURE, "all")


@dataclass(frozen=True)
class Item:
    """One package of a release."""

    name: str
    arch: str
    to: str
    sha256: str
    size: int
    new: bool  # by the release it was not installed before: it may come along as a dependency
    reversibility: str

    spelling: Spelling = DEB

    def key(self, native: str) -> str:
        """The name by which the package is known on a host of that architecture."""
        return self.spelling.key(self.name, self.arch, native)


def release_items(release: Mapping[str, Any], spelling: Spelling = DEB) -> list[Item]:
    """The packages of a release that are of one method, each field checked; one that is listed twice is refused."""
    items: dict[tuple[str, str], Item] = {}
    packages = release.get("packages")
    if not isinstance(packages, list):
        raise StepError("the release has no list of packages: seal it again")
    for row in packages:
        if row.get("method", "apt") != spelling.method:
            continue
        item = Item(
            name=exact(spelling.name, row.get("name"), "package name"),
            arch=exact(spelling.arch, row.get("arch"), "architecture"),
            to=exact(spelling.version, row.get("to"), "version"),
            sha256=exact(SHA256, row.get("sha256"), "sha256"),
            size=int(row.get("size") or 0),
            new=not row.get("from"),
            reversibility=str(row.get("reversibility") or "downgrade"),
            spelling=spelling,
        )
        if (item.name, item.arch) in items:
            raise StepError(f"{item.name}:{item.arch} is listed twice in the release: seal it again")
        items[item.name, item.arch] = item
    return list(items.values())


@dataclass(frozen=True)
class Installed:
    """A package as the host's package database knows it."""

    name: str
    arch: str
    version: str
    held: bool
    status: str
    source: str
    source_version: str


@dataclass(frozen=True)
class Plan:
    """What a release means on one host."""

    upgrades: dict[str, tuple[str, Item]] = field(default_factory=dict)  # key -> (installed version, item)
    held: dict[str, tuple[str, Item]] = field(default_factory=dict)
    current: list[str] = field(default_factory=list)
    candidates: dict[str, Item] = field(default_factory=dict)  # not installed; allowed as new dependencies

    @property
    def expected(self) -> dict[str, str]:
        """The versions after the transaction, without new dependencies."""
        return {key: item.to for key, (_, item) in self.upgrades.items()}


def make_plan(
    items: Iterable[Item],
    installed: Mapping[str, Installed],
    native: str,
    order: Callable[[str, str], int] = compare,
) -> Plan:
    """Which of a release's packages apply to a host; an installed version at or past `to` never does."""
    plan = Plan()
    for item in items:
        key = item.key(native)
        have = installed.get(key)
        if have is None:
            if item.new:
                plan.candidates[key] = item
        elif order(have.version, item.to) >= 0:
            plan.current.append(key)
        elif have.held:
            plan.held[key] = (have.version, item)
        else:
            plan.upgrades[key] = (have.version, item)
    return plan


def differs(have: Installed | None, version: str) -> bool:
    """Whether a package is not wholly installed at a version."""
    return have is None or have.version != version or have.status != "installed"


_ACTION = re.compile(r"(Inst|Conf|Remv|Purg) (\S+)(?: \[([^\]]+)\])?(?: \((\S+) (.*)\[([a-z0-9-]+)\]\))?")


@dataclass(frozen=True)
class Action:
    """One line of apt's simulation."""

    what: str
    key: str
    version: str


def parse_simulation(text: str, native: str) -> list[Action]:
    """What apt would do by its simulation, in its order."""
    actions = []
    for line in text.splitlines():
        if found := _ACTION.match(line):
            what, name, _, version, _, arch = found.groups()
            name = name.split(":")[0]
            foreign = found[2].partition(":")[2] or arch or native
            key = name if foreign in (native, "all") else f"{name}:{foreign}"
            actions.append(Action(what, key, version or ""))
    return actions


def judge(
    actions: Iterable[Action], expected: Mapping[str, str], allowed: Mapping[str, str], *, remove: Iterable[str] = ()
) -> list[str]:
    """What is wrong with a transaction that must install `expected`, may add `allowed`, and may remove `remove`."""
    complaints, seen, removals = [], set(), set(remove)
    for action in actions:
        if action.what in ("Remv", "Purg"):
            if action.key not in removals:
                complaints.append(f"removes {action.key}")
        elif action.what == "Inst":
            seen.add(action.key)
            wanted = expected.get(action.key, allowed.get(action.key))
            if wanted is None:
                complaints.append(f"changes {action.key} to {action.version}, which the release does not list")
            elif action.version != wanted:
                complaints.append(f"sets {action.key} to {action.version} instead of {wanted}")
    complaints.extend(f"leaves {key} as it is instead of {expected[key]}" for key in expected if key not in seen)
    return complaints


_HEADING = re.compile(r"(?P<source>[a-z0-9][a-z0-9+.-]+) \((?P<version>[^\s()]+)\) [^;]+;(?P<meta>.*)", re.ASCII)
_TRAILER = re.compile(r" -- .*>  (?P<date>.+)")
_URGENCY = re.compile(r"urgency=([A-Za-z]+)", re.IGNORECASE)


def parse_changelog(text: str, newer_than: str, up_to: str) -> tuple[str, list[dict[str, Any]]]:
    """The source's name and its entries with newer_than < version <= up_to, newest first."""
    source, entries = "", []
    entry: dict[str, Any] | None = None
    body: list[str] = []
    for line in text.splitlines():
        if heading := _HEADING.fullmatch(line.rstrip()):
            source = source or heading["source"]
            urgency = _URGENCY.search(heading["meta"])
            entry = {"version": heading["version"], "date": "", "urgency": urgency[1].lower() if urgency else "unknown"}
            body = []
        elif entry is not None and (trailer := _TRAILER.fullmatch(line.rstrip())):
            entry["date"] = _iso(trailer["date"])
            entry["cves"] = sorted(set(CVE.findall("\n".join(body))))
            if VERSION.fullmatch(entry["version"]) and compare(newer_than, entry["version"]) < 0 <= compare(
                up_to, entry["version"]
            ):
                entries.append(entry)
            entry = None
        else:
            body.append(line)
    return source, entries


def _iso(date: str) -> str:
    try:
        moment = parsedate_to_datetime(date.strip())
    except (TypeError, ValueError):
        return ""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
