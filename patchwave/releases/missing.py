"""What of a release a host has, and what it lacks."""

from collections.abc import Mapping

from patchwave.config.settings.fleets import Method
from patchwave.releases.release import Package, Release


def applicable(release: Release, method: Method, installed: Mapping[str, str]) -> tuple[Package, ...]:
    """The release's packages of the host's method that it has at all, whatever their version."""
    return tuple(one for one in release.packages if one.method == method and one.name in installed)


def versions(release: Release, method: Method, installed: Mapping[str, str]) -> dict[str, str]:
    """The host's versions of the release's packages."""
    return {package.name: installed[package.name] for package in applicable(release, method, installed)}


def outstanding(
    release: Release, method: Method, installed: Mapping[str, str], pending: Mapping[str, str]
) -> dict[str, str]:
    """Packages of the release that the host's package manager still wants to bring to the release's version."""
    wanted = {package.name: package.to for package in applicable(release, method, installed)}
    return {name: to for name, to in pending.items() if wanted.get(name) == to}
