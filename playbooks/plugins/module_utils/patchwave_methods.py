"""How the packages of a host are read and changed: one interface, one file a method.

A package's key is its name, with `:ARCHITECTURE` where that is not the host's own. Versions are spelled and ordered as
the method's own tools do it. What cannot be done is a StepError of one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from ansible.module_utils import patchwave_apt, patchwave_dnf
from ansible.module_utils.patchwave_versions import Installed, Item, Plan, Spelling

METHODS = ("apt", "dnf")


class Packages(Protocol):
    """What every method can do. A package file is named by (name, version, architecture)."""

    SPELLING: Spelling
    REBOOT_PACKAGES: tuple[str, ...]  # patterns of packages whose change needs a reboot

    # inspect

    def native_architecture(self) -> str:
        """The host's own architecture."""

    def installed_packages(self, native: str) -> dict[str, Installed]:
        """Every installed package by key; of several installed versions the newest."""

    def compare(self, left: str, right: str) -> int:
        """Negative, zero or positive as two versions are ordered."""

    def interrupted(self) -> str:
        """Why the package database is not at rest, in one line, or an empty string."""

    def repairable(self) -> bool:
        """Whether `repair` can bring it to rest."""

    def maintainer_scripts(self) -> dict[int, str]:
        """Packages' own scripts that are running now, by process id."""

    def waiting_kernel(self, running: str) -> str:
        """The newest installed kernel, when it is newer than the running one."""

    def reboot_notices(self) -> list[str]:
        """What the distribution's own tool or flag gives as reasons for a reboot."""

    def placed_at(self, name: str) -> float:
        """When a package's files were put in place, as Unix time; 0 when it is not installed."""

    def automatic(self) -> set[str]:
        """Names of packages that are installed as dependencies only."""

    def unattended(self) -> str:
        """What patches this host outside of a wave, or an empty string."""

    def repositories(self) -> list[str]:
        """The package sources in use."""

    def files_of(self, key: str) -> list[str]:
        """The paths of a package's files."""

    def owners(self, paths: Sequence[str]) -> list[str]:
        """The names of the packages that own these paths."""

    def dependencies(self, names: Sequence[str]) -> list[str]:
        """The names of the packages that these depend on."""

    # refresh

    def refresh(self, timeout: float) -> None:
        """Brings the lists of all package sources up to date."""

    def wait_for_locks(self, timeout: float) -> float:
        """The seconds until the package manager was free."""

    def wait_for_orphans(self, timeout: float) -> list[str]:
        """Returns when no package's script runs any more, with those waited for."""

    def repair(self, timeout: float, *, tolerant: bool = False) -> str:
        """Finishes what an earlier transaction left undone and returns what that was."""

    def hold(self, packages: Sequence[Installed]) -> None:
        """Puts packages on hold."""

    def unhold(self, packages: Sequence[Installed]) -> None:
        """Lifts the hold of packages."""

    # plan

    def plan_for(self, release: Mapping[str, Any]) -> tuple[Plan, dict[str, Installed], str]:
        """What a release means here, with what is installed and the architecture."""

    def known_versions(self, wanted: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], tuple[str, int]]:
        """The sha256 and size of each that the package sources know."""

    def simulate_plan(self, plan: Plan, native: str) -> tuple[list[str], dict[str, Item]]:
        """The complaints about the plan's transaction, and the new dependencies that it brings along."""

    # protect

    def file_name(self, name: str, version: str, arch: str) -> str:
        """The name under which a package file is kept."""

    def cached(self, name: str, version: str, arch: str, root: Path) -> Path | None:
        """A package file that is on the host already."""

    def download(self, wanted: Sequence[tuple[str, str, str]], folder: Path, *, timeout: float) -> str:
        """Fetches package files into a folder; why that failed, or an empty string."""

    def verified(self, path: Path, name: str, version: str, arch: str, sha256: str) -> None:
        """Refuses a package file that is not the promised one."""

    # apply, verify and undo

    def foresee(self, files: Sequence[Path], expected: Mapping[str, str], *, broken: bool) -> str:
        """Why these files would not come as exactly one transaction, or an empty string."""

    def apply(
        self, files: Sequence[Path], *, problem: str, broken: bool, timeout: float, log: Path, keep: Sequence[int]
    ) -> None:
        """Brings exactly these files in one transaction."""

    def transaction(self, folder: Path) -> int | None:
        """The number under which the package manager knows the run's transaction, where it numbers them."""

    def unfinished(self, folder: Path) -> bool:
        """Whether a run's transaction was cut off and the package database does not show what it lacks."""

    def undo(
        self,
        files: Sequence[Path],
        changed: Mapping[str, str],
        remove: Sequence[str],
        number: int | None,
        *,
        timeout: float,
        log: Path,
        keep: Sequence[int],
    ) -> None:
        """Takes a run's transaction back by the old files; the caller judges what is installed then."""  # fmt: skip

    def mark_automatic(self, names: Iterable[str]) -> None:
        """Gives packages their automatic mark back."""

    # scan

    def pending(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Installed packages with an update, and what the security updates among them would bring along."""

    def changelogs(
        self, wanted: Mapping[str, tuple[str, str, str]], folder: Path, timeout: float
    ) -> dict[str, dict[str, Any]]:
        """By name, for each (architecture, from, to): the source and its entries, newest first."""


def of(method: str) -> Packages:
    """The interface of a method."""
    return cast(Packages, {"apt": patchwave_apt, "dnf": patchwave_dnf}[method])
