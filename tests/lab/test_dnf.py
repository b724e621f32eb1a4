"""A host of the RHEL family, patched and taken back for real; dnf's and rpm's own tools are the judges."""

import json
import os
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from patchwave.azure.inventory import Host
from patchwave.config.settings.services import Preflight, Service
from patchwave.methods import ansible
from patchwave.methods.ansible import HostResult
from patchwave.releases import release as releases
from patchwave.releases.advisories import NOTHING
from patchwave.releases.release import ChangelogEntry, Release, Sealed
from patchwave.schedule.scans import offer
from sandbox.config import Sandbox
from sandbox.lab import cgroups, network, processes, repository, rhel
from sandbox.lab.hosts import Hosts, HostSpec, make_key
from tests.laboratory import PROJECT, wait_until
from tests.unit.builders import AUTHOR, NOW, STANDARD, host

BEFORE = ["kernel-core-5.14.0-427.el9", "kiosk-1.0-1.el9", "libkiosk-1.0-1.el9", "rocky-release-9.4-1.0.el9"]
AFTER = [
    *("kernel-core-5.14.0-427.13.el9", "kernel-core-5.14.0-427.el9", "kiosk-1.1-1.el9", "libkiosk-1.1-1.el9"),
    "rocky-release-9.4-1.0.el9",
]
SERVICE = {
    "units": ["kiosk.service"],
    "config_paths": ["/etc/kiosk.conf"],
    "traffic": {"driver": "none"},
    "health": {"checks": [{"driver": "http", "url": "http://127.0.0.1/"}, {"driver": "systemd"}], "interval": "PT0.5S"},
    "max_unavailable": 1,
}


class Kiosk(NamedTuple):
    """The host as the wave and as its administrators reach it."""

    hosts: Hosts
    host: Host

    def ssh(self, script: str) -> str:
        return self.hosts.run(self.host.name, script, 60)

    def installed(self) -> list[str]:
        return sorted(self.ssh("rpm -qa --qf '%{NAME}-%{VERSION}-%{RELEASE}\\n'").split())

    def play(self, playbook: str, **variables: Any) -> HostResult:
        service = Service.model_validate_json(json.dumps(SERVICE)).model_dump(mode="json")
        limits = {"disk_free_mb": 100, "clock_skew": "PT1M", "reboot_deadline": "PT2M"}
        given = {
            "pw_services": {"kiosk": service},
            "pw_preflight": Preflight.model_validate_json(json.dumps(limits)).model_dump(mode="json"),
            "pw_unattended_upgrades": False,
            "pw_holds": {self.host.name: {"packages": {}, "waivers": []}},
            "pw_refresh": True,
        }
        return ansible.run(PROJECT, playbook, [self.host], variables=given | variables)[self.host.name]

    def steps(self, playbook: str, **variables: Any) -> dict[str, dict[str, Any]]:
        """What each step of a playbook that must succeed reported."""
        result = self.play(playbook, **variables)
        assert result.problem is None, result.problem
        return result.steps


@pytest.fixture(scope="module")
def kiosk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kiosk]:
    box = Sandbox.open(tmp_path_factory.mktemp("dnf"), f"d{os.getpid()}")
    box.keys.mkdir(mode=0o700)
    make_key(box.admin_key, "administrator")
    hosts = Hosts(box)
    name, before = "kiosk-0", os.environ.get("PATCHWAVE_SSH_CONFIG")
    try:
        layers = rhel.layers(box)
        network.up(box)
        rhel.publish(box)
        repository.serve(box)
        hosts.create(HostSpec(name, name, hosts.allocate(), layers, rhel.host_files(box)))
        os.environ["PATCHWAVE_SSH_CONFIG"] = str(box.ssh_config)
        address = json.loads((hosts.folder(name) / "host.json").read_text())["address"]
        fields = {"address": address, "method": "dnf", "service": "kiosk"}
        made = Kiosk(hosts, host(name, source="arc").model_copy(update=fields))
        made.ssh("systemctl enable --now kiosk.service")
        yield made
    finally:
        os.environ.pop("PATCHWAVE_SSH_CONFIG", None)
        if before is not None:
            os.environ["PATCHWAVE_SSH_CONFIG"] = before
        for one in hosts.names():
            hosts.delete(one)
        for one in processes.recorded(box):
            processes.stop(box, one)
        for group in cgroups.every(box):
            cgroups.end(group)
        network.down(box)


@pytest.fixture(scope="module")
def sealed(kiosk: Kiosk) -> Release:
    """The release of what the host is offered, sealed as `patchwave seal` does it."""
    scan = kiosk.steps("scan")["scan"]
    updates = releases.security_updates({"kiosk-0": [offer(row) for row in scan["pending"]]}, STANDARD)
    wanted = [{"name": one.name, "arch": one.arch, "from": one.from_, "to": one.to} for one in updates.values()]
    read = kiosk.steps("changelogs", pw_packages=wanted)["changelog"]["packages"]
    entries = {
        ("dnf", name): [ChangelogEntry.model_validate_json(json.dumps(entry)) for entry in row["entries"]]
        for name, row in read.items()
    }
    at = Sealed(stack="dev", at=NOW, hosts=("kiosk-0",))
    made, left_out = releases.seal("2026-11-22.1", AUTHOR, at, updates.values(), entries, STANDARD, NOTHING)
    assert made is not None
    assert left_out == ()
    return made


def test_a_release_holds_exactly_what_updateinfo_calls_security(kiosk: Kiosk, sealed: Release) -> None:
    listed = kiosk.ssh("dnf -q updateinfo list --security").splitlines()
    assert {line.split()[-1] for line in listed} == {f"{one.name}-{one.to}.{one.arch}" for one in sealed.packages}
    assert sealed.cves == ("CVE-2026-90010", "CVE-2026-90020")
    assert "kiosk-1.2" in kiosk.ssh("dnf -q repoquery --latest-limit 1 kiosk")


def test_a_host_is_brought_to_the_release_rebooted_and_taken_back_by_its_own_transaction(
    kiosk: Kiosk, sealed: Release
) -> None:
    run = {"pw_run": "20261123T090000Z-aaaaaa", "pw_release": sealed.plain()}
    unfit = [one for one in kiosk.steps("preflight", **run)["preflight"]["checks"] if not one["ok"]]
    assert unfit == []
    kiosk.steps("protect", **run)
    boot = kiosk.ssh("stat -c %Y /proc/1")
    done = kiosk.steps("patch", **run)
    assert kiosk.installed() == AFTER
    assert kiosk.ssh("rpm -V kiosk libkiosk; curl -s http://127.0.0.1/") == "kiosk 1.1"
    assert kiosk.ssh("stat -c %Y /proc/1") != boot
    number = done["transaction"]["transaction"]
    assert f"/{run['pw_run']}/new/" in kiosk.ssh(f"dnf history info {number}")
    assert kiosk.steps("patch", **run)["transaction"]["changed"] is False
    kiosk.ssh("echo level=2 >/etc/other.conf")
    kiosk.steps("restore", **run)
    assert kiosk.installed() == BEFORE
    assert kiosk.ssh("rpm -V kiosk libkiosk; curl -s http://127.0.0.1/") == "kiosk 1.0"
    assert f"history undo {number}" in kiosk.ssh(f"dnf history info {number + 1}")


@pytest.mark.parametrize("again", ["patch", "restore"])
def test_a_transaction_that_is_killed_in_a_scriptlet_is_finished_or_taken_back(
    kiosk: Kiosk, sealed: Release, again: str
) -> None:
    run = {"pw_run": f"20261123T100000Z-{again}", "pw_release": sealed.plain()}
    kiosk.steps("protect", **run)
    kiosk.ssh("touch /run/hold-scriptlets")
    killed: list[HostResult] = []
    patching = threading.Thread(target=lambda: killed.append(kiosk.play("patch", **run)))
    patching.start()
    try:
        wait_until(lambda: "rpm-tmp" in kiosk.ssh("ps ax -o args"), 60, "the scriptlet")
        kiosk.ssh("pkill -9 -x -f /usr/bin/python3; pkill -9 -f '[u]sr/bin/dnf'; true")
    finally:
        kiosk.ssh("rm -f /run/hold-scriptlets")
        patching.join()
    assert not killed[0].ok("transaction")
    assert len(kiosk.installed()) > len(BEFORE)
    kiosk.steps(again, **run)
    assert kiosk.installed() == (AFTER if again == "patch" else BEFORE)
    assert kiosk.ssh("rpm -V kiosk libkiosk; systemctl is-active kiosk.service") == "active\n"
    if again == "patch":
        kiosk.steps("restore", **run)
        assert kiosk.installed() == BEFORE


def test_a_package_with_a_version_lock_is_held_and_everything_else_goes_on(kiosk: Kiosk, sealed: Release) -> None:
    holds = {"kiosk-0": {"packages": {"kernel-core": "W-1"}, "waivers": ["W-1"]}}
    run = {"pw_run": "20261123T110000Z-bbbbbb", "pw_release": sealed.plain(), "pw_holds": holds}
    found = kiosk.steps("preflight", **run)["preflight"]
    assert set(found["applies"]) == {"kiosk", "libkiosk"}
    assert "kernel-core-0:5.14.0-427.el9.*" in kiosk.ssh("dnf -q versionlock list")
    lifted = kiosk.steps("preflight", **(run | {"pw_holds": {"kiosk-0": {"packages": {}, "waivers": []}}}))
    assert set(lifted["preflight"]["applies"]) == {"kernel-core", "kiosk", "libkiosk"}
    assert kiosk.ssh("dnf -q versionlock list").strip() == ""


def test_a_repository_that_moves_on_takes_no_old_version_away(kiosk: Kiosk, sealed: Release) -> None:
    run = {"pw_run": "20261123T120000Z-cccccc", "pw_release": sealed.plain()}
    kiosk.steps("protect", **run)
    rhel.publish(kiosk.hosts.sandbox, rhel.NEWEST, old=False)
    kiosk.ssh("dnf -q clean all")
    kiosk.steps("patch", **run)
    assert kiosk.installed() == AFTER
    kiosk.steps("restore", **run)
    assert kiosk.installed() == BEFORE
