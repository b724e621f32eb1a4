"""The caching proxy for packages, real nginx before a mirror that can be slow, silent or gone."""

import http.server
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from sandbox.config import APT_CACHE_PORT
from sandbox.lab import mirror
from tests.laboratory import wait_until

ADDRESS = "127.212.7.1"
PACKAGE = "/debian/pool/main/o/openssl/openssl_3.0_amd64.deb"
LISTS = "/debian/dists/bookworm/InRelease"


class Archive(http.server.ThreadingHTTPServer):
    """A mirror of our own: counts who asks; `slow` holds answers back, `silent` never ends them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []
        self.slow = 0.0
        self.silent = threading.Event()
        self.over = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Archive

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        time.sleep(self.server.slow)
        self.send_response(200)
        self.send_header("Content-Length", "9")
        self.end_headers()
        if self.server.silent.is_set():
            self.server.over.wait(60)
            return
        self.wfile.write(b"a package")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def archive() -> Iterator[Archive]:
    made = Archive()
    yield made
    made.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "packages").mkdir()
    return tmp_path


class Cache:
    """The proxy as the sandbox configures it."""

    def __init__(self, home: Path, archive: str, upstream: str = "") -> None:
        origin = mirror.Mirror("Debian", "bookworm", ("main",), f"{archive}/debian", f"{archive}/security", "amd64")
        text = mirror.configuration(origin, ADDRESS, home, home / "packages", home, upstream)
        (home / "nginx.conf").write_text(text)
        program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
        assert program, "nginx is missing: `make test` installs it"
        self.process = subprocess.Popen([program, "-c", str(home / "nginx.conf")], stderr=subprocess.DEVNULL)
        self.client = httpx.Client(proxy=f"http://{ADDRESS}:{APT_CACHE_PORT}", timeout=40)
        wait_until(_listens, 10, "nginx")

    def close(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait()


def _listens() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((ADDRESS, APT_CACHE_PORT)) == 0


@pytest.fixture
def cache(home: Path, archive: Archive) -> Iterator[Cache]:
    made = Cache(home, archive.url)
    yield made
    made.close()


def test_many_hosts_fetch_a_package_once(cache: Cache, archive: Archive) -> None:
    archive.slow = 0.3
    with ThreadPoolExecutor(8) as hosts:
        answers = list(hosts.map(lambda _: cache.client.get(archive.url + PACKAGE), range(8)))
    assert {(one.status_code, one.text) for one in answers} == {(200, "a package")}
    assert archive.requests == [PACKAGE]


def test_lists_of_one_hour_are_the_same_for_every_host(cache: Cache, archive: Archive) -> None:
    for _ in range(3):
        assert cache.client.get(archive.url + LISTS).text == "a package"
    assert archive.requests == [LISTS]


def test_what_was_fetched_outlives_the_mirror(cache: Cache, archive: Archive) -> None:
    for path in (PACKAGE, LISTS):
        cache.client.get(archive.url + path)
    archive.close()
    assert [cache.client.get(archive.url + path).status_code for path in (PACKAGE, LISTS)] == [200, 200]


def test_a_mirror_that_falls_silent_is_given_up(cache: Cache, archive: Archive) -> None:
    archive.silent.set()
    with ThreadPoolExecutor(2) as hosts:
        ends = [hosts.submit(cache.client.get, archive.url + LISTS) for _ in range(2)]
        assert all(isinstance(end.exception(), httpx.RemoteProtocolError) for end in ends)
    archive.silent.clear()
    assert cache.client.get(archive.url + LISTS).text == "a package"


def test_the_machines_own_proxy_is_asked_with_whole_addresses(home: Path, archive: Archive) -> None:
    made = Cache(home, "http://mirror.invalid", upstream=archive.url)
    try:
        assert made.client.get("http://mirror.invalid" + PACKAGE).text == "a package"
    finally:
        made.close()
    assert archive.requests == [f"http://mirror.invalid{PACKAGE}"]
