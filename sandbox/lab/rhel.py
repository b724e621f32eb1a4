"""RHEL-like hosts: their system, and the lab's signed rpm repository with its advisories."""

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from patchwave.base.errors import Failed
from sandbox import doctor
from sandbox.config import Sandbox
from sandbox.lab import base, repository
from sandbox.lab.base import Progress
from sandbox.lab.mirror import mirror

OS = "Rocky Linux 9.4 (Blue Onyx)"
TOOLS = {"rpmbuild": "rpm", "createrepo_c": "createrepo-c"}
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "procps", "iproute2", "ca-certificates", "curl",
    "python3", "rpm", "dnf", "python3-dnf", "dnf-plugins-core",
)  # fmt: skip
RECIPE = "customize-rhel"
REPOSITORY = "lab-baseos"
KEY_FILE = "/etc/pki/rpm-gpg/RPM-GPG-KEY-lab"

_DIST = ".el9"
_UNIT = """[Unit]
Description=The kiosk's page
[Service]
ExecStart=/usr/bin/python3 /usr/libexec/kiosk
[Install]
WantedBy=multi-user.target
"""
_PAGE = """import http.server
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/" else 404)
        self.end_headers()
        self.wfile.write(b"kiosk {version}")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", 80), Page).serve_forever()
"""
# A scriptlet that can be held up, so that a test can kill the transaction in its middle.
_HELD_UP = "while [ -e /run/hold-scriptlets ]; do sleep 0.1; done"


class Build(NamedTuple):
    """One version of one binary package: its files by path, what its post-install script does, what it brings."""

    name: str
    version: str
    release: str
    files: dict[str, str]
    epoch: int = 0
    headers: tuple[str, ...] = ()
    post: str = ""
    change: str = "first build"

    @property
    def evr(self) -> str:
        return f"{f'{self.epoch}:' if self.epoch else ''}{self.version}-{self.release}{_DIST}"


class Notice(NamedTuple):
    """An advisory of the repository and the builds that bring it."""

    id: str
    kind: str
    severity: str
    issued: str
    cves: tuple[str, ...]
    builds: tuple[Build, ...]


def _kiosk(version: str, change: str) -> tuple[Build, Build]:
    """The page and its library, which goes with exactly the same version."""
    library = Build("libkiosk", version, "1", {"/usr/share/kiosk/version": version}, epoch=1, change=change)
    files = {"/usr/libexec/kiosk": _PAGE.replace("{version}", version), "/etc/kiosk.conf": f"made-by={version}\n"}
    files |= {"/usr/lib/systemd/system/kiosk.service": _UNIT}
    return library, Build(
        "kiosk", version, "1", files, headers=(f"Requires: libkiosk = {library.evr}",), post=_HELD_UP, change=change
    )


def _kernel(release: str, change: str) -> Build:
    return Build(
        "kernel-core", "5.14.0", release, {f"/lib/modules/5.14.0-{release}{_DIST}.noarch/vmlinuz": release},
        headers=("Provides: kernel-core-uname-r", "Provides: installonlypkg(kernel)"), change=change,
    )  # fmt: skip


SYSTEM = Build(
    "rocky-release", "9.4", "1.0", {"/usr/share/rocky-release/version": "9.4"},
    headers=("Provides: system-release = 9.4", "Provides: /bin/sh", "Provides: config(kiosk)"),
)  # fmt: skip
FIRST = (SYSTEM, *_kiosk("1.0", "first build"), _kernel("427", "first build"))
FIXED = _kiosk("1.1", "a page could be read by others (CVE-2026-90010)")
NEWEST = _kiosk("1.2", "a new colour")
KERNEL = _kernel("427.13", "a race in the scheduler (CVE-2026-90020)")
NOTICES = (
    Notice("RLSA-2026:0001", "security", "Critical", "2026-11-01", ("CVE-2026-90010",), FIXED),
    Notice("RLBA-2026:0002", "bugfix", "None", "2026-11-02", (), NEWEST),
    Notice("RLSA-2026:0003", "security", "Important", "2026-11-03", ("CVE-2026-90020",), (KERNEL,)),
)


def layers(sandbox: Sandbox, progress: Progress = lambda line: None) -> tuple[Path, ...]:
    """The lower directories of a RHEL-like host that has the first builds, top first; made when they are not there."""
    doctor.install(TOOLS)
    origin = mirror()
    bottom = base.made(sandbox, "rhel", origin, PACKAGES, RECIPE, progress)
    with tempfile.TemporaryDirectory(prefix="patchwave-rpm-") as scratch:
        files = [build(one, Path(scratch)) for one in FIRST]
        script = 'cp "$@" "$root/tmp/"; chroot "$root" sh -c "rpm --install /tmp/*.rpm; rm /tmp/*.rpm"; '
        script += 'chroot "$root" systemctl --quiet enable kiosk.service'
        content = hashlib.sha256(json.dumps([str(bottom), FIRST, script]).encode()).hexdigest()[:12]
        return base.layered(sandbox, f"rhel-{content}", bottom, script, [str(file) for file in files], progress)


def publish(sandbox: Sandbox, builds: Sequence[Build] = (*FIXED, *NEWEST, KERNEL), old: bool = True) -> None:
    """The signed repository holds these builds, the first ones too unless `old` is false, and their advisories."""
    doctor.install(TOOLS)
    folder = sandbox.repo / "rhel"
    draft = sandbox.repo / ".rhel.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for one in (*(FIRST if old else ()), *builds):
        build(one, draft)
    (draft / "updateinfo.xml").write_text(updateinfo(builds), encoding="utf-8")
    _run("createrepo_c", "--quiet", ".", cwd=draft)
    _run("modifyrepo_c", "--mdtype=updateinfo", "updateinfo.xml", "repodata", cwd=draft)
    repository.sign(sandbox, draft / "repodata" / "repomd.xml")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def host_files(sandbox: Sandbox) -> dict[str, str]:
    """What makes a host of these layers use the lab's repository."""
    lines = [f"[{REPOSITORY}]", "name=The lab's packages", f"baseurl={repository.url(sandbox)}/rhel", "enabled=1"]
    lines += ["gpgcheck=0", "repo_gpgcheck=1", f"gpgkey=file://{KEY_FILE}", "metadata_expire=1h"]
    return {f"/etc/yum.repos.d/{REPOSITORY}.repo": "\n".join(lines) + "\n", KEY_FILE: repository.public_key(sandbox)}


def build(one: Build, folder: Path) -> Path:
    """The package file; its files' times and its build time are fixed, so that the same build has the same digest."""
    with tempfile.TemporaryDirectory(prefix="patchwave-rpm-") as scratch:
        top = Path(scratch)
        for path, text in one.files.items():
            target = top / "tree" / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        (top / "it.spec").write_text("\n".join(spec(one, top / "tree")) + "\n", encoding="utf-8")
        defines = {"_topdir": f"{top}/top", "_rpmdir": f"{top}/out", "dist": _DIST, "_build_name_fmt": "%{NVRA}.rpm"}
        defines |= {"use_source_date_epoch_as_buildtime": "1", "_buildhost": "lab.invalid"}
        options = [word for name, value in defines.items() for word in ("--define", f"{name} {value}")]
        _run("rpmbuild", "--quiet", *options, "-bb", "it.spec", cwd=top)
        (made,) = (top / "out").glob("*.rpm")
        return Path(shutil.copy(made, folder / made.name))


def spec(one: Build, tree: Path) -> Iterator[str]:
    """The lines of the spec file."""
    yield from (f"Name: {one.name}", f"Version: {one.version}", f"Release: {one.release}{_DIST}")
    yield from (f"Epoch: {one.epoch}",) if one.epoch else ()
    yield from ("Summary: A package of the lab", "License: Apache-2.0", "BuildArch: noarch", "AutoReqProv: no")
    yield from (*one.headers, "%description", "For rehearsals.", "%install", f"cp -a {tree}/. %{{buildroot}}/")
    yield from ("%post", one.post) if one.post else ()
    yield "%files"
    for path in one.files:
        yield f"%config(noreplace) {path}" if path.startswith("/etc/") else path
    yield from ("%changelog", f"* Sun Nov 01 2026 The lab <lab@lab.invalid> - {one.evr.removesuffix(_DIST)}")
    yield f"- {one.change}"


def updateinfo(builds: Sequence[Build]) -> str:
    """The advisories whose builds are among these, as dnf reads them."""
    rows = [_update(notice) for notice in NOTICES if all(one in builds for one in notice.builds)]
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<updates>\n{"".join(rows)}</updates>\n'


def _update(notice: Notice) -> str:
    cves = "".join(
        f'<reference href="https://lab.invalid/{cve}" id="{cve}" title="{cve}" type="cve"/>' for cve in notice.cves
    )
    packages = "".join(
        f'<package name="{one.name}" epoch="{one.epoch}" version="{one.version}" release="{one.release}{_DIST}" '
        f'arch="noarch" src="{one.name}.src.rpm"><filename>{one.name}.rpm</filename></package>'
        for one in notice.builds
    )
    title = escape(f"{notice.builds[-1].name} {notice.kind} update")
    return (
        f'<update from="lab@lab.invalid" status="final" type="{notice.kind}" version="1"><id>{notice.id}</id>'
        f"<title>{title}</title><severity>{notice.severity}</severity>"
        f'<issued date="{notice.issued} 00:00:00"/><updated date="{notice.issued} 00:00:00"/>'
        f"<references>{cves}</references><description>{title}</description>"
        f'<pkglist><collection short="lab"><name>lab</name>{packages}</collection></pkglist></update>\n'
    )


def _run(*command: str, cwd: Path) -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": "1793491200"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"`{' '.join(command[:3])} …` failed: {' '.join(done.stderr.split())[-400:]}")
