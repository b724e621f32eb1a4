"""`pulumi preview` of the program against a flat one that declares the same resources without components."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fast.engine import declare_stack
from tests.laboratory import laboratory

RUNS = 9

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


def main() -> None:
    """Prints both medians and their ratio."""
    resources = [(d.type, d.name, d.props) for d in declare_stack("dev") if d.type.startswith("azure-native:")]
    with tempfile.TemporaryDirectory(prefix="patchwave-bench-") as scratch, laboratory(Path(scratch)) as lab:
        lab.sandbox("preview", "--stack", "dev")
        flat = Path(scratch, "flat")
        flat.mkdir()
        (flat / "Pulumi.yaml").write_text("name: flat\nruntime: python\n", encoding="utf-8")
        (flat / "__main__.py").write_text(FLAT, encoding="utf-8")
        (flat / "resources.json").write_text(json.dumps(resources), encoding="utf-8")
        environment = lab.environment()
        ask = {"env": environment, "check": True, "stdout": subprocess.DEVNULL}
        subprocess.run(["pulumi", "stack", "init", "flat"], cwd=flat, **ask)  # type: ignore[call-overload]
        taken: dict[Path, list[float]] = {lab.project: [], flat: []}
        stacks = {lab.project: "dev", flat: "flat"}
        for run in range(RUNS + 1):
            for place, stack in stacks.items():
                began = time.monotonic()
                subprocess.run(["pulumi", "preview", "--stack", stack], cwd=place, **ask)  # type: ignore[call-overload]
                if run:
                    taken[place].append(time.monotonic() - began)
        ours, theirs = (statistics.median(taken[place]) for place in (lab.project, flat))
        print(f"{len(resources)} resources, medians of {RUNS}: components {ours:.2f} s, flat {theirs:.2f} s")
        print(f"components / flat  {ours / theirs:.2f}   (at most 1.15 is wanted)")


if __name__ == "__main__":
    sys.exit(main())
