"""The policy pack: what it adds to a preview, and the same checks by conftest on the plan's JSON."""

import itertools
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from patchwave.base.errors import Failed
from policy import judge
from policy.declared import STACK, Declared
from policy.hosts import SCALE_SET
from policy.pack import TOPICS
from tests.laboratory import PROJECT, Laboratory, laboratory
from tests.unit.builders import FIXTURE
from tests.unit.changes import changed
from tests.unit.engine import declare_stack
from tests.unit.service_rules_cases import BASES, CASES

RESOURCES, RUNS = 100, 7
REGO = Path(__file__).with_name("scale_sets.rego")
CONFTEST = "github.com/open-policy-agent/conftest@v0.66.0"
HOME = Path.home() / ".cache" / "patchwave" / "benchmarks"

PROGRAM = """
import json
from pathlib import Path

import pulumi
import pulumi_azure_native


class Plain(pulumi.CustomResource):
    def __init__(self, kind, name, props):
        super().__init__(kind, name, props)


for number, (kind, props) in enumerate(json.loads(Path(__file__).with_name("resources.json").read_text())):
    Plain(kind, f"resource-{number}", props)
"""


def declared() -> list[tuple[str, dict[str, Any]]]:
    """What the program declares for prod in Azure, in order."""
    return [(one.type, one.props) for one in declare_stack("prod") if one.type.startswith("azure-native:")]


def conftest() -> Path:
    """The peer, built once."""
    binary = HOME / "bin" / "conftest"
    if not binary.exists():
        go = shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin")
        if go is None:
            raise Failed("there is no go to build conftest with: put Go 1.25 or newer on PATH")
        subprocess.run([go, "install", CONFTEST], env={**os.environ, "GOBIN": str(binary.parent)}, check=True)
    return binary


def by_conftest(plan: Path) -> set[str]:
    """The checks by which conftest refuses a plan."""
    command = [str(conftest()), "test", str(plan), "--policy", str(REGO), "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise Failed(f"conftest: {' '.join(done.stderr.split())}")
    return {failure["msg"].split(":")[0] for one in json.loads(done.stdout) for failure in one.get("failures", [])}


def by_pack(props: Mapping[str, Any]) -> set[str]:
    """The checks by which the pack refuses a scale set of prod."""
    shown = Declared(SCALE_SET, "set", props, f"urn:pulumi:prod::patchwave::{STACK}${SCALE_SET}::set")
    return {
        complaint.split(":")[0]
        for topic in TOPICS
        for complaint in judge.complaints(topic, judge.of_type(topic, SCALE_SET), shown, FIXTURE, False, {})
    }


def same_answers(scratch: Path) -> int:
    """How many examples both refuse by the same checks; Failed names the first that they do not."""
    admitted = next(props for type_, props in declared() if type_ == SCALE_SET)
    kind = SCALE_SET.removeprefix("azure-native:")
    base = BASES[kind] | {"tags": {"patchwave-stack": "prod"}}
    names = {one.name for one in judge.CHECKS.values() if SCALE_SET in one.types}
    examples = [changed(base, case.refused) for case in CASES if case.rule in names and not case.base]
    plan, counted = scratch / "example.json", 0
    for props in [admitted, *examples]:
        step = {"op": "create", "newState": {"type": SCALE_SET, "inputs": props}}
        plan.write_text(json.dumps({"steps": [step]}), encoding="utf-8")
        here, there = by_pack(props), by_conftest(plan)
        if here != there:
            raise Failed(f"{json.dumps(props)}: the pack refuses by {sorted(here)}, conftest by {sorted(there)}")
        counted += bool(here)
    return counted


def previews(lab: Laboratory, scratch: Path) -> Iterator[str]:
    """Seconds of a preview without and with the pack, in turn."""
    program = scratch / "many"
    program.mkdir()
    (program / "Pulumi.yaml").write_text("name: many\nruntime: python\n", encoding="utf-8")
    (program / "__main__.py").write_text(PROGRAM, encoding="utf-8")
    resources = list(itertools.islice(itertools.cycle(declared()), RESOURCES))
    (program / "resources.json").write_text(json.dumps(resources), encoding="utf-8")
    lab.sandbox("preview", "--stack", "prod")
    environment = lab.environment()
    made = ["pulumi", "stack", "init", "prod"]
    subprocess.run(made, cwd=program, env=environment, check=True, stdout=subprocess.DEVNULL)

    def preview(*arguments: str) -> float:
        began = time.perf_counter()
        command = ["pulumi", "preview", "--stack", "prod", *arguments]
        done = subprocess.run(command, cwd=program, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"{' '.join(command)}: {done.stdout[-2000:]} {done.stderr[-2000:]}")
        return time.perf_counter() - began

    packs = {"without": [], "with": ["--policy-pack", str(PROJECT / "policy")]}
    times: dict[str, list[float]] = {name: [] for name in packs}
    for _, (name, arguments) in itertools.product(range(RUNS), packs.items()):
        times[name].append(preview(*arguments))
    middle = {name: statistics.median(found) for name, found in times.items()}
    yield f"preview of {RESOURCES} resources, medians of {RUNS}:"
    yield f"  without a pack {middle['without']:.2f} s, with ours {middle['with']:.2f} s"
    yield f"with / without  {middle['with'] / middle['without']:.3f}   (at most 1.05 is wanted)"


def main() -> None:
    """Prints the comparisons."""
    with tempfile.TemporaryDirectory(prefix="patchwave-bench-") as folder:
        scratch = Path(folder)
        checks = [one for one in judge.CHECKS.values() if SCALE_SET in one.types]
        print(f"{len(checks)} checks of a scale set; {same_answers(scratch)} refused examples")
        print("  are refused by the same checks in conftest")
        with laboratory(scratch) as lab:
            for line in previews(lab, scratch):
                print(line, flush=True)


if __name__ == "__main__":
    main()
