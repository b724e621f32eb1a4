"""`pulumi preview`: against a flat program of the same resources, and as the fleet in the inventory grows."""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from sandbox.azure.store import Store
from tests.fast.engine import declare_stack
from tests.fleet import seed
from tests.laboratory import Laboratory, descendants, laboratory

RUNS = 9
FEW, MANY = 100, 10_000
LANGUAGE_HOST = ("pulumi-language-python-exec", "pulumi-language-python")

FLAT = '''"""The same resources, one after the other."""

import json
from pathlib import Path

import pulumi


class Plain(pulumi.CustomResource):
    def __init__(self, kind, name, props):
        super().__init__(kind, name, props)


import pulumi_azure_native.compute, pulumi_azure_native.network, pulumi_azure_native.monitor  # noqa: E401, F401

for kind, name, props in json.loads(Path(__file__).with_name("resources.json").read_text()):
    Plain(kind, name, props)
'''


class Preview:
    """`pulumi preview` of a stack, again and again."""

    def __init__(self, lab: Laboratory, place: Path, stack: str) -> None:
        self._environment, self._place, self._stack = lab.environment(), place, stack

    def run(self) -> tuple[float, dict[str, int]]:
        """Seconds, and the most memory in bytes that each process of the language host had."""
        command = ["pulumi", "preview", "--stack", self._stack]
        began = time.monotonic()
        child = subprocess.Popen(command, cwd=self._place, env=self._environment, stdout=subprocess.DEVNULL)
        peaks: dict[str, int] = {}
        ended = threading.Event()
        watcher = threading.Thread(target=_watch, args=(child.pid, peaks, ended))
        watcher.start()
        code = child.wait()
        took = time.monotonic() - began
        ended.set()
        watcher.join()
        if code:
            raise SystemExit(f"pulumi preview --stack {self._stack} ended with {code}")
        return took, peaks


def _watch(pid: int, peaks: dict[str, int], ended: threading.Event) -> None:
    while not ended.wait(0.02):
        for name, peak in _memory(pid):
            peaks[name] = max(peak, peaks.get(name, 0))


def _memory(pid: int) -> Iterator[tuple[str, int]]:
    """The high-water marks of the language host below a process; the kernel keeps them in kB."""
    for one in descendants(pid):
        try:
            words = Path(f"/proc/{one}/cmdline").read_bytes().decode().split("\0")
            status = Path(f"/proc/{one}/status").read_text()
        except OSError:
            continue
        name = next((host for host in LANGUAGE_HOST for word in words[:3] if Path(word).name == host), None)
        mark = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
        if name and mark:
            yield name, int(mark.split()[1]) * 1024


def medians(*previews: Preview) -> list[float]:
    """The median seconds of each, run in turn; the first run of each does not count."""
    taken: list[list[float]] = [[] for _ in previews]
    for run in range(RUNS + 1):
        for preview, times in zip(previews, taken, strict=True):
            took, _ = preview.run()
            if run:
                times.append(took)
    return [statistics.median(times) for times in taken]


def against_a_flat_program(lab: Laboratory, scratch: Path) -> None:
    """Prints both medians and their ratio."""
    resources = [(d.type, d.name, d.props) for d in declare_stack("dev") if d.type.startswith("azure-native:")]
    lab.sandbox("preview", "--stack", "dev")
    flat = scratch / "flat"
    flat.mkdir()
    (flat / "Pulumi.yaml").write_text("name: flat\nruntime: python\n", encoding="utf-8")
    (flat / "__main__.py").write_text(FLAT, encoding="utf-8")
    (flat / "resources.json").write_text(json.dumps(resources), encoding="utf-8")
    made = ["pulumi", "stack", "init", "flat"]
    subprocess.run(made, cwd=flat, env=lab.environment(), check=True, stdout=subprocess.DEVNULL)
    ours, theirs = medians(Preview(lab, lab.project, "dev"), Preview(lab, flat, "flat"))
    print(f"{len(resources)} resources, medians of {RUNS}: components {ours:.2f} s, flat {theirs:.2f} s")
    print(f"components / flat  {ours / theirs:.2f}   (at most 1.15 is wanted)")


def as_the_fleet_grows(lab: Laboratory) -> None:
    """Prints the medians with few and with many hosts in the inventory, and what the language host took."""
    lab.sandbox("preview", "--stack", "prod")
    preview, taken = Preview(lab, lab.project, "prod"), {}
    for count in (FEW, MANY):
        store = Store(lab.folder / "store.sqlite")
        seed(store, count)
        store.close()
        found = len(lab.shown("inventory", "--stack", "prod")["hosts"])
        assert found == count
        (taken[count],) = medians(preview)
    _, peaks = preview.run()
    print(f"prod, medians of {RUNS}: {FEW} hosts {taken[FEW]:.2f} s, {MANY} hosts {taken[MANY]:.2f} s")
    print(f"{MANY} / {FEW} hosts  {taken[MANY] / taken[FEW]:.2f}   (at most 1.2 is wanted)")
    print(f"language host  {sum(peaks.values()) / 1e6:.0f} MB   (at most 150 is wanted)")
    for name, peak in sorted(peaks.items()):
        print(f"  {name}  {peak / 1e6:.0f} MB")


def main() -> None:
    """Prints both comparisons."""
    with tempfile.TemporaryDirectory(prefix="patchwave-bench-") as scratch, laboratory(Path(scratch)) as lab:
        against_a_flat_program(lab, Path(scratch))
        as_the_fleet_grows(lab)


if __name__ == "__main__":
    sys.exit(main())
