"""What the machine must have before anything is made; what can be installed is."""

import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from patchwave.base.errors import Failed
from sandbox import console
from sandbox.config import Sandbox
from sandbox.lab import children
from sandbox.lab.engine import find
from sandbox.lab.mirror import Mirror, mirror
from sandbox.lab.processes import last_lines

_DISK_GB = 6
_TOOLS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "haproxy": "haproxy",
    "nft": "nftables",
    "nginx": "nginx",
    "apt-ftparchive": "apt-utils",
    "ssh-keygen": "openssh-client",
    "gpg": "gnupg",
    "ip": "iproute2",
    "unshare": "util-linux",
    "curl": "curl",
}
_TEST_TOOLS = {"node": "nodejs", "npm": "npm"}
_SERVICES = {"nginx": "nginx.service", "haproxy": "haproxy.service"}
_SYSTEM_PATHS = "/usr/local/sbin:/usr/sbin:/sbin"


def become_root(arguments: Sequence[str], python: str) -> None:
    """Goes on as root: by sudo when that needs no password, else with one line that names the fix."""
    if os.geteuid() == 0:
        return
    sudo = shutil.which("sudo")
    if sudo is None or subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode:
        raise Failed("hosts, bridges and mounts need root: run `sudo make up`, or let sudo go without a password")
    settings = [f"{name}={os.environ[name]}" for name in ("PATH", "TERM", "LANG") if name in os.environ]
    os.execv(sudo, [sudo, "-n", "-H", "env", *settings, python, "-m", "sandbox", *arguments])  # noqa: S606


def hand_back(sandbox: Sandbox) -> None:
    """After sudo: what the person is to read, edit or commit belongs to the person again."""
    owner, group = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    if owner is None or group is None or sandbox.project.stat().st_uid != int(owner):
        return
    places = [sandbox.project / name for name in ("releases", "approvals", "evidence")]
    places += [sandbox.folder, sandbox.keys, sandbox.env, sandbox.ssh_config, sandbox.log, sandbox.state, sandbox.home]
    places += sandbox.project.glob("Pulumi.*.yaml")
    for place in places:
        deep = place in (sandbox.keys, sandbox.state, sandbox.home) or place.parent == sandbox.project
        inside = place.rglob("*") if deep and place != sandbox.folder else ()
        for path in (place, *inside):
            if path.exists():
                os.chown(path, int(owner), int(group))


def examine(sandbox: Sandbox) -> None:
    """Raises Failed for the first thing that is missing and cannot be installed."""
    tools()
    _disk(sandbox)
    _overlay(sandbox)


def findings(sandbox: Sandbox) -> list[tuple[str, str | None]]:
    """Each thing that the sandbox needs of this machine with why it is not there, None where it is; nothing changes."""
    os.environ["PATH"] = os.environ.get("PATH", "") + ":" + _SYSTEM_PATHS
    packages = missing_tools()
    engine = None if find() or shutil.which("go") else "no pulumi and no Go to build it with: install Go 1.25"
    return [
        (
            "tools",
            f"missing: `apt-get install {' '.join(packages)}`, which `make up` does by itself" if packages else None,
        ),
        ("engine", engine),
        ("disk", _problem(lambda: _disk(sandbox))),
        ("overlayfs", _problem(lambda: _overlay(sandbox))),
        ("packages", _problem(lambda: reachable(mirror()))),
    ]


def _problem(look: Callable[[], None]) -> str | None:
    try:
        look()
    except Failed as error:
        return str(error)
    return None


def tools() -> None:
    """Every tool of the sandbox is on PATH, installed where it was missing."""
    os.environ["PATH"] = os.environ.get("PATH", "") + ":" + _SYSTEM_PATHS
    _install(missing_tools())


def test_tools() -> None:
    """What the tests need beyond the sandbox's own tools as well."""
    tools()
    _install(_missing(_TEST_TOOLS))


def install(tools: Mapping[str, str]) -> None:
    """These tools are on PATH, each from the package that it is named with."""
    _install(_missing(tools))


def missing_tools() -> list[str]:
    """The packages of the sandbox's tools that are not on PATH."""
    return _missing(_TOOLS)


def _missing(tools: Mapping[str, str]) -> list[str]:
    return sorted({package for tool, package in tools.items() if shutil.which(tool) is None})


def reachable(archive: Mirror) -> None:
    """The base is about to be made: its archive must answer."""
    release = f"{archive.main.rstrip('/')}/dists/{archive.suite}/InRelease"
    try:
        with urllib.request.urlopen(urllib.request.Request(release, method="HEAD"), timeout=15):  # noqa: S310
            return
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise Failed(f"{release} does not answer ({reason}): fix the network or the machine's apt sources") from None


def _install(packages: list[str]) -> None:
    if not packages:
        return
    if shutil.which("apt-get") is None:
        raise Failed(f"{', '.join(packages)} missing and this is no Debian or Ubuntu: install them by hand")
    with console.step("tools") as report, tempfile.NamedTemporaryFile(prefix="patchwave-apt-", delete=False) as log:
        names = ", ".join(packages)
        console.working("tools", f"installing {names}")
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        with _no_services(packages):
            for command in (["apt-get", "-q", "update"], ["apt-get", "-qy", "install", *packages]):
                code = children.run_quietly(command, Path(log.name), env=environment)
                if code:
                    end = last_lines(Path(log.name), 2)
                    raise Failed(f"`{' '.join(command)}` failed: {end} (all of it: {log.name})")
        report(f"installed {names}")
        Path(log.name).unlink()


class _no_services:  # noqa: N801
    """While packages are installed none of their services starts: the sandbox runs its own, on its own addresses."""

    _refusal = Path("/usr/sbin/policy-rc.d")

    def __init__(self, packages: list[str]) -> None:
        self._units = [_SERVICES[package] for package in packages if package in _SERVICES]
        self._ours = not self._refusal.exists()

    def __enter__(self) -> None:
        if self._ours:
            self._refusal.write_text("#!/bin/sh\nexit 101\n")
            self._refusal.chmod(0o755)

    def __exit__(self, *_: object) -> None:
        if self._ours:
            self._refusal.unlink(missing_ok=True)
        for unit in self._units:
            subprocess.run(["systemctl", "--quiet", "disable", unit], capture_output=True, check=False)


def _disk(sandbox: Sandbox) -> None:
    sandbox.cache.mkdir(parents=True, exist_ok=True)
    for place in (sandbox.folder, sandbox.cache):
        free = shutil.disk_usage(place).free / 1e9
        if free < _DISK_GB:
            raise Failed(f"{place} has {free:.1f} GB free: the sandbox needs {_DISK_GB} GB, free some there")


def _overlay(sandbox: Sandbox) -> None:
    with tempfile.TemporaryDirectory(prefix="overlay-", dir=sandbox.folder) as scratch:
        for name in ("lower", "upper", "work", "merged"):
            (Path(scratch) / name).mkdir()
        script = 'cd "$1" && mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged'
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "try", scratch]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            if shutil.which("modprobe"):
                subprocess.run(["modprobe", "overlay"], capture_output=True, check=False)
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                why = " ".join(done.stderr.split())
                raise Failed(
                    f"overlayfs does not work in {sandbox.folder} ({why}): put the clone on ext4, xfs or btrfs"
                )
