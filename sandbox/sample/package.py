"""Builds the lab's own Debian package, fieldops-desk, from sandbox/sample/service; equal inputs give equal bytes."""

import gzip
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Literal, NamedTuple

from patchwave.base.errors import Failed, UsageError

NAME = "fieldops-desk"
FIRST = "1.0.0"
EPOCH = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
SOURCE = Path(__file__).parent / "service"

Fault = Literal["none", "crash", "unhealthy", "slow"]

# Where each file of sandbox/sample/service goes, and whether it may be executed.
_FILES = (
    ("server.py", "usr/lib/fieldops-desk/server.py", 0o644),
    ("make-database", "usr/lib/fieldops-desk/make-database", 0o755),
    ("fieldops-desk.service", "usr/lib/systemd/system/fieldops-desk.service", 0o644),
    ("fieldops-desk-db.service", "usr/lib/systemd/system/fieldops-desk-db.service", 0o644),
    ("tmpfiles.conf", "usr/lib/tmpfiles.d/fieldops-desk.conf", 0o644),
    ("nginx.conf", "etc/nginx/sites-available/fieldops-desk", 0o644),
)
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+~]{0,30}")


class Entry(NamedTuple):
    """One version in the package's changelog."""

    version: str
    at: datetime
    advisory: str


def entry(version: str, at: datetime, number: int) -> Entry:
    """The changelog entry of a version; its advisory is invented and recognisable as such."""
    return Entry(version, at, f"CVE-2026-99{number:03}")


def changelog(history: Sequence[Entry]) -> str:
    """Debian's changelog text, newest entry first."""
    return "\n".join(
        f"{NAME} ({one.version}) stable; urgency=high\n\n"
        f"  * Security: a work order's note could be read by another site ({one.advisory}).\n\n"
        f" -- FieldOps Desk <desk@fieldops.invalid>  {format_datetime(one.at)}\n"
        for one in reversed(history)
    )


def build(target: Path, history: Sequence[Entry], *, fault: Fault = "none") -> Path:
    """The package file of the newest entry in the target folder."""
    version = history[-1].version
    if not _VERSION.fullmatch(version):
        raise UsageError(f"version {version!r}: write digits, letters, dots, + and ~, beginning with a digit")
    with tempfile.TemporaryDirectory(prefix="patchwave-deb-") as scratch:
        root = Path(scratch)
        root.chmod(0o755)
        for source, path, mode in _FILES:
            _write(root / path, (SOURCE / source).read_bytes(), mode)
        build_record = json.dumps({"version": version, "fault": fault}) + "\n"
        _write(root / "usr/lib/fieldops-desk/build.json", build_record.encode())
        log = gzip.compress(changelog(history).encode(), mtime=0)
        _write(root / f"usr/share/doc/{NAME}/changelog.gz", log)
        control = (SOURCE / "control").read_text().replace("@VERSION@", version)
        _write(root / "DEBIAN/control", control.encode())
        _write(root / "DEBIAN/conffiles", b"/etc/nginx/sites-available/fieldops-desk\n")
        for script in ("postinst", "prerm", "postrm"):
            _write(root / "DEBIAN" / script, (SOURCE / script).read_bytes(), 0o755)
        target.mkdir(parents=True, exist_ok=True)
        package = target / f"{NAME}_{version}_all.deb"
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(int(history[-1].at.timestamp()))}
        command = ["dpkg-deb", "--build", "--root-owner-group", str(root), str(package)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"cannot build {package.name}: {' '.join(done.stderr.split())}")
    return package


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    path.write_bytes(content)
    path.chmod(mode)
