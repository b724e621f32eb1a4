"""Where this machine gets its packages from, and the caching proxy through which the hosts get theirs."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from patchwave.base.errors import Failed
from sandbox.config import APT_CACHE_PORT, Sandbox
from sandbox.lab import processes
from sandbox.lab.repository import wait_for_port

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
    """The proxies of the hosts' apt: the mirror's own hosts through the cache, anything else directly."""
    proxy = f"http://{sandbox.gateway}:{APT_CACHE_PORT}"
    return "".join(f'Acquire::http::Proxy::{urlsplit(uri).hostname} "{proxy}";\n' for uri in _origins(mirror()))


def serve(sandbox: Sandbox) -> None:
    """The caching proxy answers on the gateway when this returns."""
    if not processes.alive(sandbox, _PROCESS):
        settings = sandbox.folder / "apt-cache"
        settings.mkdir(exist_ok=True)
        packages, lock = _packages(sandbox)
        try:
            upstream = _ask("apt-config", "shell", "PROXY", "Acquire::http::Proxy").strip().partition("=")[2].strip("'")
            text = configuration(mirror(), sandbox.gateway, settings, packages, sandbox.log, upstream)
            (settings / "nginx.conf").write_text(text)
            program = shutil.which("nginx") or "nginx"
            processes.spawn(sandbox, _PROCESS, [program, "-c", str(settings / "nginx.conf")], keep_open=[lock])
        finally:
            os.close(lock)
    wait_for_port(sandbox, _PROCESS, sandbox.gateway, APT_CACHE_PORT)


def configuration(origin: Mirror, address: str, home: Path, packages: Path, log: Path, upstream: str = "") -> str:
    """nginx as a caching proxy before the mirror: one host fetches, the others wait for its copy, none waits for ever.

    Indexes are taken for fresh for an hour, so that hosts which look one after the other see the same ones. With an
    `upstream` proxy the mirror is reached through that.
    """
    servers = "".join(
        _SERVER.format(listen=f"{address}:{APT_CACHE_PORT}", **_way(uri, upstream)) for uri in _origins(origin)
    )
    return _CONFIGURATION.format(home=home, packages=packages, log=log, servers=servers)


_CONFIGURATION = """daemon off;
user root;
worker_processes 1;
pid {home}/pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
  log_format cache '$time_iso8601 $remote_addr $upstream_cache_status $status $body_bytes_sent $request';
  access_log {log}/apt-cache.access.log cache;
  client_body_temp_path {home}/client;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  proxy_cache_path {packages} levels=1:2 keys_zone=packages:8m max_size=4g inactive=90d use_temp_path=off;
  proxy_cache packages;
  proxy_cache_key $host$uri;
  proxy_cache_valid 200 90d;
  proxy_cache_lock on;
  proxy_cache_lock_age 30s;
  proxy_cache_lock_timeout 60s;
  proxy_cache_revalidate on;
  proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504;
  proxy_ignore_headers Cache-Control Expires Set-Cookie Vary X-Accel-Expires;
  proxy_connect_timeout 10s;
  proxy_read_timeout 20s;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_ssl_server_name on;
  proxy_ssl_verify on;
  proxy_ssl_verify_depth 5;
  proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
{servers}}}
"""
_SERVER = """  server {{
    listen {listen};
    server_name {host};
    location / {{
      {way};
      proxy_set_header Host {netloc};
    }}
    location ~ /(InRelease|Release|Release.gpg|Packages[^/]*)$ {{
      {way};
      proxy_set_header Host {netloc};
      proxy_cache_valid 200 1h;
      proxy_read_timeout 12s;
    }}
  }}
"""


def _way(uri: str, upstream: str) -> dict[str, str]:
    """How nginx reaches the archive: by its name, or by a proxy, which wants whole addresses in the request."""
    scheme, netloc = urlsplit(uri)[:2]
    way = f"proxy_pass {scheme}://{netloc}"
    if upstream:
        if scheme != "http":
            raise Failed(f"{uri} is behind the proxy {upstream}: name an http mirror in the machine's apt sources")
        way = f'set $whole "http:"; rewrite ^ "$whole//{netloc}$uri" break; proxy_pass {upstream.rstrip("/")}'
    return {"host": str(urlsplit(uri).hostname), "netloc": netloc, "way": way}


def _origins(origin: Mirror) -> list[str]:
    """The archives, one for each host."""
    return list({urlsplit(uri).hostname: uri for uri in (origin.main, origin.security)}.values())


def _packages(sandbox: Sandbox) -> tuple[Path, int]:
    """The folder of cached packages and its open lock: the shared one, or a copy while another has that."""
    shared = sandbox.cache / "packages"
    shared.mkdir(parents=True, exist_ok=True)
    lock = os.open(sandbox.cache / "packages.lock", os.O_RDWR | os.O_CREAT, 0o644)
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
