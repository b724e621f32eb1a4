"""Versions as each method's own tools order them, for what is compared on the runner."""

import re
from functools import cache
from itertools import zip_longest

from debian.debian_support import NativeVersion

from patchwave.config.settings.fleets import Method

_PART = re.compile(r"[0-9]+|[A-Za-z]+|~|\^")


@cache
def reaches(method: Method, version: str, wanted: str) -> bool:
    """Whether a version is the wanted one or newer."""
    if method == "dnf":
        return rpm_order(version, wanted) >= 0
    return bool(NativeVersion(version) >= NativeVersion(wanted))


def rpm_order(left: str, right: str) -> int:
    """Negative, zero or positive as rpm orders `[epoch:]version-release` (rpm-version(7))."""
    return next(
        (order for one, other in zip(_fields(left), _fields(right), strict=True) if (order := _order(one, other))), 0
    )


def _fields(version: str) -> tuple[str, str, str]:
    epoch, _, rest = version.rpartition(":")
    upstream, _, release = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return epoch or "0", upstream, release


def _order(left: str, right: str) -> int:
    """Part by part: digits by value, before them letters, before the end a tilde, after it a caret."""
    for one, other in zip_longest(_PART.findall(left), _PART.findall(right), fillvalue=""):
        if one == other:
            continue
        ranks = _rank(one, other), _rank(other, one)
        if ranks[0] != ranks[1]:
            return 1 if ranks[0] > ranks[1] else -1
        if one.isdigit() and int(one) == int(other):
            continue
        return 1 if (int(one) > int(other) if one.isdigit() else one > other) else -1
    return 0


def _rank(part: str, other: str) -> int:
    """What a part is worth where another of its kind does not decide."""
    if part == "~":
        return 0
    if part == "":
        return 1
    if part == "^":
        return 2
    return 4 if part.isdigit() else 3
