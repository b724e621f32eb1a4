"""A whole wave over six hosts against bare parallel ssh and against a plain rolling playbook, in one run."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from patchwave.releases.release import Release
from patchwave.releases.release import load as load_release
from sandbox.config import Sandbox
from sandbox.lab.hosts import Hosts
from tests.laboratory import Laboratory, laboratory

PLAYBOOK = Path(__file__).with_name("plain.yml")


class Fleet:
    """The dev stack's hosts, which go back to unpatched before each run."""

    def __init__(self, lab: Laboratory, copies: Path) -> None:
        self.lab, self.copies = lab, copies
        self.hosts = Hosts(Sandbox.open(lab.project, lab.name))
        self.names = [name for name in self.hosts.names() if name.startswith("dev-") or name == "site-arc-0"]

    def keep(self) -> None:
        for name in self.names:
            self.hosts.snapshot(name, self.copies / name)

    def unpatch(self) -> None:
        def one(name: str) -> None:
            self.hosts.stop(name)
            self.hosts.restore(name, self.copies / name)
            self.hosts.start(name)

        with ThreadPoolExecutor(len(self.names)) as pool:
            list(pool.map(one, self.names))

    def versions(self, release: Release) -> dict[str, str]:
        query = " ".join(package.name for package in release.packages)
        return {
            name: self.lab.ssh(name, f"dpkg-query -W -f '${{Package}}=${{Version}} ' {query}") for name in self.names
        }


def main(runs: int) -> None:
    """Prints the three medians and the two ratios; ends with 1 when a peer reached another end state."""
    with tempfile.TemporaryDirectory(prefix="patchwave-bench-") as scratch, laboratory(Path(scratch)) as lab:
        lab.sandbox("fleet")
        fleet = Fleet(lab, Path(scratch, "copies"))
        lab.run("patchwave", "seal", "--stack", "dev")
        release = load_release(lab.project, lab.release())
        fleet.keep()
        ways: dict[str, Callable[[], None]] = {
            "wave": lambda: wave(lab),
            "parallel ssh": lambda: parallel_ssh(fleet, release),
            "plain playbook": lambda: plain_playbook(fleet),
        }
        taken: dict[str, list[float]] = {way: [] for way in ways}
        ends: dict[str, dict[str, str]] = {}
        for run in range(runs):
            for way, work in ways.items():
                fleet.unpatch()
                began = time.monotonic()
                work()
                taken[way].append(time.monotonic() - began)
                ends[way] = fleet.versions(release)
                print(f"run {run + 1}  {way:<15} {taken[way][-1]:6.1f} s", flush=True)
        if any(end != ends["wave"] for end in ends.values()):
            sys.exit("the ways ended with different versions: no comparison")
        medians = {way: statistics.median(times) for way, times in taken.items()}
        print(f"{len(release.packages)} packages on {len(fleet.names)} hosts, medians of {runs}")
        for way, median in medians.items():
            print(f"  {way:<15} {median:6.1f} s")
        print(f"wave / parallel ssh    {medians['wave'] / medians['parallel ssh']:.2f}   (at most 1.5 is wanted)")
        print(f"plain playbook / wave  {medians['plain playbook'] / medians['wave']:.2f}   (at least 2 is wanted)")


def wave(lab: Laboratory) -> None:
    """All phases, as the program's last command runs them."""
    opening = datetime.fromisoformat(lab.shown("windows", "--stack", "dev")["next"][0]["opens"])
    moved = opening + timedelta(seconds=5) - datetime.now(UTC)
    lab.run(
        "patchwave",
        "wave",
        "prove",
        "--stack",
        "dev",
        PATCHWAVE_CLOCK_SHIFT=str(round(moved.total_seconds())),
        PATCHWAVE_PUBLIC_URL=lab.url(),
    )


def parallel_ssh(fleet: Fleet, release: Release) -> None:
    """The same exact versions, downloaded and installed on all hosts at once, with nothing before and nothing after."""
    wanted = " ".join(f"{package.name}={package.to}" for package in release.packages)
    command = f"apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qy --only-upgrade install {wanted}"
    with ThreadPoolExecutor(len(fleet.names)) as pool:
        list(pool.map(lambda name: fleet.lab.ssh(name, command), fleet.names))


def plain_playbook(fleet: Fleet) -> None:
    """What one would write by hand: host by host, apt, reboot, ask the service; Ansible's own defaults."""
    hosts = fleet.lab.folder / "plain.ini"
    hosts.write_text("\n".join(fleet.names), encoding="utf-8")
    ssh = f"-F {fleet.lab.folder / 'ssh_config'}"
    subprocess.run(
        ["ansible-playbook", "-i", str(hosts), str(PLAYBOOK), "--ssh-common-args", ssh],
        check=True,
        stdout=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
