"""Where this machine gets its packages from, and the caching proxy through which the hosts get theirs."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from patchwave.errors import Failed
from sandbox import processes
from sandbox.config import APT_CACHE_PORT, Sandbox
from sandbox.repository import wait_for_port

_PROCESS = "apt-cache"
_COMPONENTS = {"Debian": ("main",), "Ubuntu": ("main", "universe")}


class Mirror(NamedTuple):
    """The release that the machine runs, as its own apt configuration names it."""

    origin: str
    suite: str
    components: tuple[str, ...]
    main: str
    security: str
    architecture: str

    @property
    def sources(self) -> str:
        """The hosts' apt sources; always plain HTTP, because the caching proxy speaks TLS in their place."""
        keyring = f"/usr/share/keyrings/{self.origin.lower()}-archive-keyring.gpg"
        return "\n".join(
            f"Types: deb\nURIs: {_plain(uri)}\nSuites: {suite}\nComponents: {' '.join(self.components)}\n"
            f"Signed-By: {keyring}\n"
            for uri, suite in ((self.main, self.suite), (self.security, f"{self.suite}-security"))
        )


def mirror() -> Mirror:
    """The machine's own mirror."""
    layout = "$(ORIGIN)\t$(CODENAME)\t$(COMPONENT)\t$(REPO_URI)\t$(IDENTIFIER)"
    try:
        return choose(_ask("apt-get", "indextargets", "--format", layout), _ask("dpkg", "--print-architecture").strip())
    except FileNotFoundError:
        raise Failed("apt-get is not here: the lab needs a Debian or Ubuntu machine") from None


def choose(targets: str, architecture: str) -> Mirror:
    """The mirror in the lines of `apt-get indextargets`: its main archive and its security archive."""
    rows = [line.split("\t") for line in targets.splitlines()]
    rows = [row for row in rows if len(row) == 5 and row[0] in _COMPONENTS and row[4] == "Packages"]
    base = next((row for row in rows if "-" not in row[1]), None)
    if base is None:
        raise Failed("apt knows no Debian or Ubuntu release here: run `apt-get update`, the lab is built from it")
    origin, suite, _, main, _ = base
    security = next((row[3] for row in rows if row[1] == f"{suite}-security"), "")
    if not security:
        security = main.rstrip("/") + ("-security/" if origin == "Debian" else "/")
    here = {row[2] for row in rows if row[1] == suite}
    components = tuple(one for one in _COMPONENTS[origin] if one in here)
    return Mirror(origin, suite, components, main, security, architecture)


def proxy_settings(sandbox: Sandbox) -> str:
    """What the hosts' apt is told: everything through the cache, the lab's repository directly."""
    return (
        f'Acquire::http::Proxy "http://{sandbox.gateway}:{APT_CACHE_PORT}";\n'
        f'Acquire::http::Proxy::{sandbox.gateway} "DIRECT";\n'
    )


def serve(sandbox: Sandbox) -> None:
    """The caching proxy answers on the gateway when this returns."""
    if not processes.alive(sandbox, _PROCESS):
        settings = sandbox.folder / "apt-cache"
        settings.mkdir(exist_ok=True)
        packages, lock = _packages(sandbox)
        try:
            (settings / "acng.conf").write_text(_configuration(sandbox, mirror(), packages))
            program = shutil.which("apt-cacher-ng", path="/usr/sbin:" + os.environ.get("PATH", "")) or "apt-cacher-ng"
            processes.spawn(sandbox, _PROCESS, [program, "-c", str(settings), "ForeGround=1"], keep_open=[lock])
        finally:
            os.close(lock)
    wait_for_port(sandbox, _PROCESS, sandbox.gateway, APT_CACHE_PORT)
    _refresh(sandbox, mirror())


def _refresh(sandbox: Sandbox, origin: Mirror) -> None:
    """The cache looks at its lists once, for one client; an archive that does not answer now is not missed yet."""
    proxy = urllib.request.ProxyHandler({"http": f"http://{sandbox.gateway}:{APT_CACHE_PORT}"})
    opener = urllib.request.build_opener(proxy)
    for place in (
        f"{origin.main.rstrip('/')}/dists/{origin.suite}",
        f"{origin.security.rstrip('/')}/dists/{origin.suite}-security",
    ):
        with contextlib.suppress(OSError), opener.open(f"{_plain(place)}/InRelease", timeout=30) as answer:
            answer.read()


def _configuration(sandbox: Sandbox, origin: Mirror, packages: Path) -> str:
    lines = [
        f"CacheDir: {packages}",
        f"LogDir: {sandbox.log}",
        f"BindAddress: {sandbox.gateway}",
        f"Port: {APT_CACHE_PORT}",
        "SupportDir: /usr/lib/apt-cacher-ng",
        f"PidFile: {sandbox.folder}/apt-cache/pid",
        f"SocketPath: {sandbox.folder}/apt-cache/socket",
        "ReportPage:",
        "VerboseLog: 0",
        "ExThreshold: 400",
        "NetworkTimeout: 20",
        # several hosts that refresh one stale list at once can hang apt-cacher-ng: `up` refreshes it alone, before them
        "FreshIndexMaxAge: 3600",
    ]
    upstream = _ask("apt-config", "shell", "PROXY", "Acquire::http::Proxy").strip()
    if upstream:
        lines.append(f"Proxy: {upstream.partition('=')[2].strip(chr(39))}")
    for number, uri in enumerate({origin.main, origin.security}):
        if urlsplit(uri).scheme == "https":
            lines.append(f"Remap-lab{number}: {_plain(uri)} ; {uri}")
    return "\n".join(lines) + "\n"


def _packages(sandbox: Sandbox) -> tuple[Path, int]:
    """The folder of cached packages and its open lock: the shared one, or a copy while another has that."""
    shared = sandbox.cache / "apt-cache"
    shared.mkdir(parents=True, exist_ok=True)
    lock = os.open(sandbox.cache / "apt-cache.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return shared, lock
    except BlockingIOError:
        own = sandbox.folder / "apt-cache" / "packages"
        if not own.exists():
            shutil.copytree(shared, own, symlinks=True, ignore_dangling_symlinks=True)
        return own, lock


def _plain(uri: str) -> str:
    return "http://" + uri.partition("://")[2]


def _ask(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"`{' '.join(command[:3])}` failed: {' '.join(done.stderr.split())}")
    return done.stdout
