"""`pulumi preview`: against a flat program of the same resources, and as the fleet in the inventory grows."""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from sandbox.azure.resources.store import Store
from tests.fleet import clear, seed
from tests.laboratory import Laboratory, descendants, laboratory
from tests.unit.engine import declare_stack

RUNS = 9
FEW, MANY = 100, 10_000
LANGUAGE_HOST = ("pulumi-language-python-exec", "pulumi-language-python")

FLAT = '''"""The same resources, one after the other."""

import importlib
import json
from pathlib import Path

import pulumi


class Plain(pulumi.CustomResource):
    def __init__(self, kind, name, props):
        super().__init__(kind, name, props)


resources = json.loads(Path(__file__).with_name("resources.json").read_text())
for module in {kind.split(":")[1] for kind, _, _ in resources}:
    importlib.import_module(f"pulumi_azure_native.{module}")._inputs

for kind, name, props in resources:
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


def medians(*turns: Callable[[], float]) -> list[float]:
    """The median seconds of each, taken in turn, so that a busy minute falls on all; the first round does not count."""
    rounds = [[turn() for turn in turns] for _ in range(RUNS + 1)][1:]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


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
    both = (Preview(lab, lab.project, "dev"), Preview(lab, flat, "flat"))
    ours, theirs = medians(*(lambda one=one: one.run()[0] for one in both))
    print(f"{len(resources)} resources, medians of {RUNS}: components {ours:.2f} s, flat {theirs:.2f} s")
    print(f"components / flat  {ours / theirs:.2f}   (at most 1.15 is wanted)")


def as_the_fleet_grows(lab: Laboratory) -> None:
    """Prints the medians with few and with many hosts in the inventory, and what the language host took."""
    lab.sandbox("preview", "--stack", "prod")
    preview = Preview(lab, lab.project, "prod")
    peaks: Counter[str] = Counter()

    def with_hosts(count: int) -> float:
        store = Store(lab.folder / "store.sqlite")
        clear(store)
        seed(store, count)
        store.close()
        took, memory = preview.run()
        peaks.update({name: max(0, peak - peaks[name]) for name, peak in memory.items()})
        return took

    few, many = medians(lambda: with_hosts(FEW), lambda: with_hosts(MANY))
    found = len(lab.shown("inventory", "--stack", "prod")["hosts"])
    print(f"prod, medians of {RUNS}: {FEW} hosts {few:.2f} s, {found} hosts {many:.2f} s")
    print(f"{found} / {FEW} hosts  {many / few:.2f}   (at most 1.2 is wanted)")
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
