"""Holds that waivers put on packages: a marker on the host separates them from those that others have set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible.module_utils.patchwave_host import ROOT, StepError, write_durably
from ansible.module_utils.patchwave_methods import Packages
from ansible.module_utils.patchwave_versions import Installed, exact

MARKER = ROOT / "holds.json"


def read(marker: Path = MARKER) -> dict[str, str]:
    """The packages that a wave has put on hold, by the waiver of each."""
    try:
        ours = json.loads(marker.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise StepError(f"{marker} is damaged: look at what is on hold, then remove it") from None
    return dict(ours)


def changes(
    ours: Mapping[str, str],
    wanted: Mapping[str, str],
    waivers: Sequence[str],
    release: Sequence[str],
    installed: Mapping[str, Installed],
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """The marker to be, what is put on hold and what is lifted.

    A hold of ours stays while its waiver counts here and no release lifts it; one that others set is never ours.
    """
    stays = {key: by for key, by in ours.items() if by in waivers and _name(key) not in release}
    due = {key: wanted[_name(key)] for key in installed if _name(key) in wanted}
    hold = {key: by for key, by in due.items() if not installed[key].held}
    marker = {**stays, **{key: by for key, by in due.items() if key in ours}, **hold}
    lift = sorted(key for key in ours if key not in marker and key in installed and installed[key].held)
    return {key: by for key, by in marker.items() if key in installed}, hold, lift


def apply(
    wanted: Mapping[str, str],
    waivers: Sequence[str],
    release: Sequence[str],
    installed: Mapping[str, Installed],
    packages: Packages,
    marker: Path = MARKER,
) -> tuple[dict[str, str], list[str]]:
    """Puts packages on hold and lifts our own older holds; returns both."""
    for name in wanted:
        exact(packages.SPELLING.name, name, "package name")
    ours = read(marker)
    after, hold, lift = changes(ours, wanted, waivers, release, installed)
    # The marker is wider than the holds at any instant, so that a hold of ours is never taken for somebody else's.
    if hold:
        _write(marker, {**ours, **hold})
        packages.hold([installed[key] for key in sorted(hold)])
    if lift:
        packages.unhold([installed[key] for key in lift])
    if after != ours:
        _write(marker, after)
    return hold, lift


def _name(key: str) -> str:
    return key.partition(":")[0]


def _write(marker: Path, ours: Mapping[str, str]) -> None:
    marker.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_durably(marker, json.dumps(ours, indent=1, sort_keys=True))
