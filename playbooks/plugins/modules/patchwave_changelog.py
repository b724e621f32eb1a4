#!/usr/bin/python
"""Reads from the packages themselves what their new versions fix."""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils import patchwave_apt as apt
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.patchwave_host import StepError, count, last_line, run, serve
from ansible.module_utils.patchwave_versions import (
    ARCHITECTURE,
    NAME,
    VERSION,
    Installed,
    exact,
    parse_changelog,
)

DOCUMENTATION = """
module: patchwave_changelog
short_description: Reads from the packages themselves what their new versions fix
description:
  - Downloads each package, checked by apt against its signed lists, and returns the changelog entries newer
    than C(from).
options:
  packages: {description: "Packages as name, arch, from and to.", type: list, elements: dict, required: true}
  timeout: {description: Seconds for all downloads., type: int, default: 600}
author: Patchwave
"""
EXAMPLES = """
- patchwave_changelog:
    packages: [{name: openssl, arch: amd64, from: 3.0.15-1, to: 3.0.16-1}]
"""
RETURN = """
packages: {description: "By name: the source and its entries, newest first.", type: dict, returned: success}
"""

CHANGELOG = re.compile(r"\./usr/share/doc/([^/]+)/changelog(\.Debian)?(\.[a-z0-9]+)?\.gz")


def changelog_of(deb: Path) -> tuple[str, str]:
    """The Debian changelog inside a package, or the name of the package whose documentation it shares."""
    best, shared = "", ""
    with tempfile.TemporaryFile() as unpacked:
        argv = ["dpkg-deb", "--fsys-tarfile", str(deb)]
        run(argv, timeout=120, stdout=unpacked).checked(f"{deb.name} cannot be read")
        unpacked.seek(0)
        with tarfile.open(fileobj=unpacked, mode="r:") as archive:
            for member in archive:
                if member.issym() and Path(member.name).parent == Path("usr/share/doc"):
                    shared = Path(member.linkname).name
                found = CHANGELOG.fullmatch(member.name)
                if found and member.isfile() and (file := archive.extractfile(member)):
                    text = gzip.decompress(file.read()).decode(errors="replace")
                    # A package of Debian's own has changelog.gz; elsewhere that name is the upstream's log.
                    named = found[2] and not (best and found[3])
                    if named or (not best and re.match(r"\S+ \(\S+\) [^;]+;", text)):
                        best = text
    return best, shared


def source_of(deb: Path, version: str) -> tuple[str, str]:
    """The source's name and version of a package file."""
    field = run(["dpkg-deb", "--field", str(deb), "Source"], timeout=30).checked(deb.name).out.strip()
    name, _, own = field.partition(" ")
    return name or deb.name.split("_")[0], own.strip("()") or version


def fetch(arguments: list[str], folder: Path, timeout: float) -> None:
    """The package files of these exact versions."""
    done = apt.download(arguments, folder, timeout=timeout)
    if done.code:
        raise StepError(
            f"packages for the changelogs cannot be had: {last_line(done.err)}: refresh the lists and scan again"
        )


def work(params: dict[str, Any]) -> dict[str, Any]:
    native = apt.native_architecture()
    installed = apt.installed_packages(native)
    wanted = {
        exact(NAME, row.get("name"), "package name"): (
            exact(ARCHITECTURE, row.get("arch") or native, "architecture"),
            exact(VERSION, row.get("from"), "version"),
            exact(VERSION, row.get("to"), "version"),
        )
        for row in params["packages"]
    }
    folder = Path(tempfile.mkdtemp(prefix="patchwave-changelogs-"))
    try:
        found = collect(wanted, installed, folder, params["timeout"]) if wanted else {}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    cves = {cve for row in found.values() for entry in row["entries"] for cve in entry["cves"]}
    return {"packages": found, "summary": f"{count(len(found), 'package')}, {count(len(cves), 'CVE')}"}


def collect(
    wanted: dict[str, tuple[str, str, str]], installed: dict[str, Installed], folder: Path, timeout: float
) -> dict[str, Any]:
    fetch([f"{name}={to}" for name, (_, _, to) in wanted.items()], folder, timeout)
    debs = {path.name.split("_")[0]: path for path in folder.glob("*.deb")}
    if missing := sorted(set(wanted) - set(debs)):
        raise StepError(f"apt brought no file for {', '.join(missing[:5])}: refresh the lists and scan again")
    sources = {name: source_of(debs[name], to) for name, (_, _, to) in wanted.items()}
    read = {name: changelog_of(debs[name]) for name in wanted}
    absent = {
        shared: wanted[name][2] for name, (text, shared) in read.items() if not text and shared and shared not in read
    }
    if absent:
        fetch([f"{name}={version}" for name, version in absent.items()], folder, timeout)
        read |= {
            path.name.split("_")[0]: changelog_of(path)
            for path in folder.glob("*.deb")
            if path.name.split("_")[0] in absent
        }
    texts: dict[str, str] = {}  # by source: binary packages of one source carry the same changelog
    for name, (text, shared) in read.items():
        source = sources[name][0] if name in sources else ""
        texts.setdefault(source, text or read.get(shared, ("", ""))[0])
        texts[source] = texts[source] or text or read.get(shared, ("", ""))[0]
    found = {}
    for name, (_, old, to) in wanted.items():
        source, version = sources[name]
        have = installed.get(name)
        # Binary and source versions differ in binary-only rebuilds and in a few packages.
        since = have.source_version if have and have.version == old else old
        if not texts[source]:
            raise StepError(
                f"{name} {to} carries no changelog: its advisories cannot be read, leave it out or name them by hand"
            )
        found[name] = {"source": source, "entries": parse_changelog(texts[source], since, version)[1]}
    return found


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "dict", "required": True},
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    serve(module, "changelog", work)


if __name__ == "__main__":
    main()
