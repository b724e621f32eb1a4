"""The lab's own signed package repository: all versions stay, a reader sees the old index or the new one."""

import fcntl
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from patchwave.base.errors import Failed, UsageError
from sandbox.config import REPOSITORY_PORT, Sandbox, write_atomically
from sandbox.lab import processes
from sandbox.sample import package
from sandbox.sample.package import Fault

SUITE = "stable"
ORIGIN = "FieldOps"
LABEL = "FieldOps-Security"
_PROCESS = "repository"


def url(sandbox: Sandbox) -> str:
    """Where hosts find the repository."""
    return f"http://{sandbox.gateway}:{REPOSITORY_PORT}"


def public_key(sandbox: Sandbox) -> str:
    """The armoured key that the index is signed with; made at the first call."""
    armoured = sandbox.keys / "repository.pub.asc"
    if not armoured.exists():
        sandbox.keys.mkdir(mode=0o700, exist_ok=True)
        with _keyring() as home:
            _gpg(
                home,
                "--passphrase",
                "",
                "--quick-generate-key",
                "FieldOps <desk@fieldops.invalid>",
                "ed25519",
                "sign",
            )
            write_atomically(sandbox.keys / "repository.asc", _gpg(home, "--export-secret-keys", "--armor"), 0o600)
            write_atomically(armoured, _gpg(home, "--export", "--armor"))
    return armoured.read_text()


def publish(sandbox: Sandbox, version: str, *, fault: Fault = "none") -> Path:
    """Builds fieldops-desk VERSION, adds it and signs the index; a published version never changes."""
    sandbox.repo.mkdir(exist_ok=True)
    with (sandbox.repo / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = sandbox.repo / "versions.json"
        known = json.loads(record.read_text()) if record.exists() else []
        pool = sandbox.repo / "pool"
        published = pool / f"{package.NAME}_{version}_all.deb"
        if version in [one["version"] for one in known]:
            before = next(one["fault"] for one in known if one["version"] == version)
            if before != fault:
                raise UsageError(f"{package.NAME} {version} is published already (fault {before}): choose another")
        else:
            at = package.EPOCH if version == package.FIRST else datetime.now(UTC).replace(microsecond=0)
            known.append({"version": version, "at": at.isoformat(), "fault": fault})
        history = [
            package.entry(one["version"], datetime.fromisoformat(one["at"]), number)
            for number, one in enumerate(known, start=1)
        ]
        if not published.exists():
            package.build(pool, history, fault=fault)
        write_atomically(record, json.dumps(known, indent=1) + "\n")
        _index(sandbox)
        return published


def publish_next(sandbox: Sandbox, *, fault: Fault, version: str | None = None) -> Path:
    """Publishes a version that is newer than every other."""
    if not (sandbox.repo / "versions.json").exists():
        raise UsageError(f"sandbox {sandbox.name} has no repository: run `make up` first")
    count = len(json.loads((sandbox.repo / "versions.json").read_text()))
    return publish(sandbox, version or f"1.0.{count}", fault=fault)


def serve(sandbox: Sandbox) -> None:
    """The repository answers on the gateway when this returns."""
    if not processes.alive(sandbox, _PROCESS):
        arguments = ["--bind", sandbox.gateway, "--directory", str(sandbox.repo), str(REPOSITORY_PORT)]
        processes.spawn(sandbox, _PROCESS, [sys.executable, "-m", "http.server", *arguments])
    wait_for_port(sandbox, _PROCESS, sandbox.gateway, REPOSITORY_PORT)


def wait_for_port(sandbox: Sandbox, name: str, address: str, port: int, *, patience: float = 15.0) -> None:
    """Returns when the named process accepts connections there."""
    deadline = time.monotonic() + patience
    while True:
        try:
            socket.create_connection((address, port), timeout=1).close()
            return
        except OSError as error:
            if not processes.alive(sandbox, name) or time.monotonic() > deadline:
                log = sandbox.log / f"{name}.log"
                raise Failed(
                    f"{name} does not answer on {address}:{port} ({error.strerror or error}): see {log}"
                ) from None
            time.sleep(0.05)


def _index(sandbox: Sandbox) -> None:
    """A new folder with the signed index, put in place by one rename of the suite's link."""
    dists = sandbox.repo / "dists"
    fresh = dists / f".{SUITE}-{time.time_ns()}"
    binary = fresh / "main" / "binary-all"
    binary.mkdir(parents=True)
    packages = _run("apt-ftparchive", "packages", "pool", cwd=sandbox.repo)
    (binary / "Packages").write_text(packages)
    native = _run("dpkg", "--print-architecture").strip()
    shutil.copytree(binary, fresh / "main" / f"binary-{native}")
    fields = {
        "Origin": ORIGIN,
        "Label": LABEL,
        "Suite": SUITE,
        "Codename": SUITE,
        "Architectures": f"all {native}",
        "Components": "main",
    }
    options = [f"-oAPT::FTPArchive::Release::{key}={value}" for key, value in fields.items()]
    (fresh / "Release").write_text(_run("apt-ftparchive", *options, "release", ".", cwd=fresh))
    public_key(sandbox)
    with _keyring() as home:
        _gpg(home, "--import", str(sandbox.keys / "repository.asc"))
        (fresh / "InRelease").write_text(_gpg(home, "--clearsign", "--output", "-", str(fresh / "Release")))
    link = dists / f".link-{time.time_ns()}"
    link.symlink_to(fresh.name)
    link.replace(dists / SUITE)
    for old in dists.glob(f".{SUITE}-*"):
        if old != fresh:
            shutil.rmtree(old)


def sign(sandbox: Sandbox, path: Path) -> None:
    """Puts the key's armoured signature beside a file, as `NAME.asc`."""
    public_key(sandbox)
    with _keyring() as home:
        _gpg(home, "--import", str(sandbox.keys / "repository.asc"))
        _gpg(home, "--detach-sign", "--armor", "--output", f"{path}.asc", str(path))


@contextmanager
def _keyring() -> Iterator[Path]:
    """A key ring that is gone afterwards, its agent too; in /tmp because the agent's socket needs a short path."""
    with tempfile.TemporaryDirectory(prefix="pw-gpg-", ignore_cleanup_errors=True) as folder:
        try:
            yield Path(folder)
        finally:
            subprocess.run(["gpgconf", "--homedir", folder, "--kill", "all"], capture_output=True, check=False)


def _gpg(home: Path, *arguments: str) -> str:
    fixed = ("gpg", "--homedir", str(home), "--batch", "--yes", "--quiet", "--pinentry-mode", "loopback")
    return _run(*fixed, *arguments)


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"`{' '.join(command[:4])} …` failed: {' '.join(done.stderr.split())}")
    return done.stdout
