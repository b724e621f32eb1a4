"""A second organisation's wave on real hosts: its own stacks, services and fleets, this repository's code."""

import json
import re
import shlex
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.laboratory import MINUTES, PROJECT, Laboratory, laboratory, wait_until

GRID = PROJECT / "tests" / "fixtures" / "grid"
EDGE = [f"grid-qa-edge-{slot}-{number}" for slot in ("blue", "green") for number in (0, 1)]
LIVE = {"grid-qa-edge-green-0", "grid-qa-edge-green-1", "pages-qa-4", "pages-qa-7"}
DEBIAN = ["db-0", "db-1", *EDGE, "pages-qa-4", "pages-qa-7"]
HOSTS = sorted([*DEBIAN, "kiosk-0"])
WINDOWS = {"panel-0", "reports-0"}
GATE = "- {driver: http, status: [200]}"
STATES = """
from patchwave.azure.client import Arm
group = "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Network/loadBalancers/{}/backendAddressPools/{}"
with Arm() as arm:
    for place in (("rg-pages", "pages", "hosts"), ("rg-grid-qa", "grid-qa-edge-balancer", "blue"),
                  ("rg-grid-qa", "grid-qa-edge-balancer", "green")):
        pool = arm.call("GET", group.format(arm.subscription, *place), api="2024-05-01")
        for one in pool["properties"]["loadBalancerBackendAddresses"]:
            print(one["properties"].get("adminState"))
"""


class Rehearsed(NamedTuple):
    """The laboratory after its wave, what its clients heard by site, and which live hosts were away together."""

    lab: Laboratory
    printed: str
    heard: dict[str, list[str]]
    away: set[frozenset[str]]

    def records(self, kind: str) -> list[dict[str, Any]]:
        return [one["data"] for one in self.lab.records("qa") if one["kind"] == kind]

    def places(self, host: str) -> list[int]:
        """Where in the evidence a host left service, was changed, and came back."""
        steps = [
            one["seq"]
            for one in self.lab.records("qa")
            if one["kind"] == "host" and one["data"]["host"] == host and one["data"]["step"] in ("drain", "undrain")
        ]
        assert len(steps) == 2
        return steps


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsed]:
    with laboratory(tmp_path_factory.mktemp("grid"), GRID) as lab:
        lab.sandbox("fleet", "--stack", "qa", limit=20 * MINUTES)
        balancer = lab.folder / "haproxy"
        edge = json.loads(lab.run("pulumi", "stack", "output", "urls", "--json", "--stack", "qa"))["edge"]
        pages = re.search(r"frontend \S*pages\S*\n(?:  .*\n)*?  bind (\S+)", (balancer / "haproxy.cfg").read_text())
        assert pages
        with lab.edited(GATE, f'{GATE}\n          - {{driver: http, url: "http://{pages[1]}/"}}', "Pulumi.qa.yaml"):
            with (
                lab.requests(edge) as of_edge,
                lab.requests(f"http://{pages[1]}/") as of_pages,
                watched(balancer) as away,
            ):
                printed = lab.sandbox("up", "--stack", "qa", limit=30 * MINUTES)
            yield Rehearsed(lab, printed, {"edge": of_edge, "pages": of_pages}, away)


@contextmanager
def watched(balancer: Path) -> Iterator[set[frozenset[str]]]:
    """Each set of live hosts that HAProxy sends nothing new to at one time."""
    ended, seen = threading.Event(), set[frozenset[str]]()

    def look() -> None:
        while not ended.wait(0.1):
            with suppress(OSError):
                rows = [line.split() for line in servers(balancer).splitlines()[2:]]
                idle = (row[3] for row in rows if len(row) > 6 and (row[5] == "0" or int(row[6])))
                seen.add(frozenset(LIVE.intersection(idle)))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


def servers(balancer: Path) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(f"{balancer}/stats.sock")
        connection.sendall(b"show servers state\n")
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer.decode()


def sql(grid: Rehearsed, host: str, query: str) -> str:
    return grid.lab.ssh(host, f"cd /; runuser -u postgres -- psql -qXAt shop -c {shlex.quote(query)}")


def sealed(grid: Rehearsed, method: str) -> dict[str, str]:
    release = json.loads((grid.lab.project / "releases" / f"{grid.lab.release('qa')}.json").read_bytes())
    return {one["name"]: one["to"] for one in release["packages"] if one["method"] == method}


def test_every_host_ends_patched_and_the_evidence_is_whole(grid: Rehearsed) -> None:
    shown = grid.lab.shown("evidence", "show", "--stack", "qa")
    assert shown["outcome"] == "succeeded", grid.printed
    assert {one["name"]: one["state"] for one in shown["hosts"]} == dict.fromkeys(HOSTS, "patched")
    assert grid.lab.shown("evidence", "verify", "--stack", "qa")["verified"]
    replayed = grid.lab.shown("evidence", "replay", "--stack", "qa")
    assert (replayed["consistent"], replayed["allowed"]) == (True, True)


@pytest.mark.parametrize("host", DEBIAN)
def test_apt_on_a_host_agrees(grid: Rehearsed, host: str) -> None:
    wanted = sealed(grid, "apt")
    listed = grid.lab.ssh(host, "dpkg-query -W -f '${Package} ${Version}\\n'; echo; apt list --upgradable 2>/dev/null")
    installed, _, pending = listed.partition("\n\n")
    versions = dict(line.split() for line in installed.splitlines())
    assert {name: versions[name] for name in wanted if name in versions} == wanted
    assert not wanted.keys() & {line.split("/")[0] for line in pending.splitlines()}


def test_dnf_on_the_plants_host_agrees(grid: Rehearsed) -> None:
    lab = grid.lab
    for name, version in sealed(grid, "dnf").items():
        assert f"{name}-{version.split(':')[-1]}" in lab.ssh("kiosk-0", f"rpm -q --qf '%{{NVR}}\\n' {name}").split()
    assert lab.ssh("kiosk-0", "dnf -q updateinfo list --security --updates; curl -s http://127.0.0.1/") == "kiosk 1.1"


def test_the_replica_goes_before_its_primary_and_follows_it_afterwards(grid: Rehearsed) -> None:
    assert grid.places("db-1")[1] < grid.places("db-0")[0]
    sql(grid, "db-0", "insert into articles values (101, now()::text)")
    assert sql(grid, "db-0", "select state from pg_stat_replication") == "streaming\n"
    there = "select max(id) from articles where pg_is_in_recovery()"
    wait_until(lambda: sql(grid, "db-1", there) == "101\n", 10, "the row on the replica")


def test_a_live_instance_goes_first_and_never_two_at_once(grid: Rehearsed) -> None:
    started = [one["hosts"] for one in grid.records("phase") if one["phase"] == "patch" and one["event"] == "started"]
    assert {host for some in started for host in some} == set(HOSTS)
    assert all(len(LIVE.intersection(some)) <= 1 for some in started)
    assert [host for some in started for host in some if "pages" in host] == ["pages-qa-4", "pages-qa-7"]
    planned = grid.records("wave-started")[0]["planned"]
    assert {one["name"] for one in planned if one["live"]} == LIVE
    assert {one["name"] for one in planned if one["ring"] == "pilot"} == {
        *("db-1", "kiosk-0", "grid-qa-edge-green-0", "pages-qa-4"),
    }
    away = [grid.places(host) for host in LIVE]
    assert not [1 for one in away for other in away if one[0] < other[0] < one[1]]
    assert grid.away == {frozenset(), *(frozenset({host}) for host in LIVE)}


@pytest.mark.parametrize("site", ["edge", "pages"])
def test_a_client_of_a_static_site_sees_no_failed_request(grid: Rehearsed, site: str) -> None:
    heard = grid.heard[site]
    assert (len(heard) > 1000, [one for one in heard if one != "HTTP-200"]) == (True, [])


def test_no_address_is_left_down(grid: Rehearsed) -> None:
    assert grid.lab.run("python", "-c", STATES).split() == ["None"] * 6


def test_windows_is_left_alone_and_nowhere_else(grid: Rehearsed) -> None:
    started = grid.records("wave-started")[0]
    assert {(one["name"], one["reason"]) for one in started["left_alone"]} == {
        (name, "runs Windows, which no wave patches") for name in WINDOWS
    }
    others = [one for one in grid.lab.records("qa") if one["kind"] != "wave-started"]
    assert not [name for name in WINDOWS if name in json.dumps([started["planned"], started["unusable"], others])]


def test_the_page_shows_every_fleet_with_its_service(grid: Rehearsed) -> None:
    page = (grid.lab.evidence("qa") / "wave.html").read_text(encoding="utf-8")
    shown = re.findall(r"<li><b>(\w+)</b> (\w+) <small>(\w+)</small> (\d) of (\d) current", page)
    assert sorted(shown) == [
        ("database", "primary", "apt", "1", "1"),
        ("database", "replicas", "apt", "1", "1"),
        ("plant", "plant", "dnf", "1", "1"),
        ("site", "edge", "apt", "4", "4"),
        ("site", "pages", "apt", "2", "2"),
    ]
    assert all(host in page for host in HOSTS)


def test_the_other_commands_work_there(grid: Rehearsed) -> None:
    lab = grid.lab
    inventory = lab.shown("inventory", "--stack", "qa")
    assert (inventory["complete"], [one["name"] for one in inventory["hosts"]]) == (True, HOSTS)
    plan = lab.shown("plan", "--stack", "qa")
    assert {one["name"]: one["packages"] for one in plan["hosts"]} == {name: [] for name in HOSTS}
    items = [one for one in lab.shown("sla", "--stack", "qa")["items"] if one["package"] in sealed(grid, "apt")]
    assert ({one["host"] for one in items}, {one["state"] for one in items}) == (set(DEBIAN), {"fixed"})
    assert lab.shown("doctor", "--stack", "qa")["ok"]


def test_another_up_finds_nothing_to_do(grid: Rehearsed) -> None:
    before = len(grid.lab.records("qa"))
    assert "nothing to do: no host is touched" in grid.lab.sandbox("up", "--stack", "qa")
    assert len(grid.lab.records("qa")) == before
