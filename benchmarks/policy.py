"""The policy pack: what it adds to a preview, and the same rules by conftest on the plan's JSON."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime import proto
from pulumi.runtime.proto import analyzer_pb2_grpc

from patchwave.base.errors import Failed
from policy.estate import SCALE_SET
from policy.pack import RULES
from tests.laboratory import PROJECT, Laboratory, laboratory
from tests.unit.changes import changed
from tests.unit.engine import declare_stack
from tests.unit.service_rules_cases import BASES, CASES

RESOURCES, RUNS = 1000, 7
REGO = Path(__file__).with_name("scale_sets.rego")
CONFTEST = "github.com/open-policy-agent/conftest@v0.66.0"
HOME = Path.home() / ".cache" / "patchwave" / "benchmarks"

MANY = """
import json
from pathlib import Path

import pulumi


class Plain(pulumi.CustomResource):
    def __init__(self, kind, name, props):
        super().__init__(kind, name, props)


kind, props = json.loads(Path(__file__).with_name("scale_set.json").read_text())
for number in range(COUNT):
    Plain(kind, f"set-{number}", props | {"vmScaleSetName": f"set-{number}"})
"""

EMPTY = """
from pulumi_policy import PolicyPack, ResourceValidationPolicy

PolicyPack(
    name="empty",
    policies=[ResourceValidationPolicy("nothing", "Refuses nothing.", validate=lambda args, report: None)],
)
"""

LIBRARY = f"""
import sys
from datetime import UTC, datetime
from pathlib import Path

from pulumi_policy import EnforcementLevel, PolicyPack, ResourceValidationPolicy

sys.path.insert(0, {str(PROJECT)!r})
from policy.declared import Declared
from policy.estate import SCALE_SET
from policy.pack import RULES
from policy.rule import Context


def served(rule):
    def validate(args, report):
        if args.resource_type in rule.types:
            context = Context(Path({str(PROJECT)!r}), "prod", datetime.now(UTC), True)
            for complaint in rule.check(Declared(args.resource_type, args.name, args.props), context):
                report(complaint, None)

    return ResourceValidationPolicy(rule.name, rule.description, validate, EnforcementLevel.MANDATORY)


PolicyPack(name="library", policies=[served(rule) for rule in RULES if SCALE_SET in rule.types])
"""


def scale_set() -> dict[str, Any]:
    """A scale set that every rule admits, as the program declares it."""
    return next(one.props for one in declare_stack("prod") if one.type == SCALE_SET)


def conftest() -> Path:
    """The peer, built once."""
    binary = HOME / "bin" / "conftest"
    if not binary.exists():
        go = shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin")
        if go is None:
            raise Failed("there is no go to build conftest with: put Go 1.25 or newer on PATH")
        subprocess.run([go, "install", CONFTEST], env={**os.environ, "GOBIN": str(binary.parent)}, check=True)
    return binary


def held(plan: Path) -> list[str]:
    """What conftest has against a plan."""
    command = [str(conftest()), "test", str(plan), "--policy", str(REGO), "--output", "json"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode not in (0, 1):
        raise Failed(f"conftest: {' '.join(said.stderr.split())}")
    return [failure["msg"] for one in json.loads(said.stdout) for failure in one.get("failures", [])]


def plan_of(*inputs: dict[str, Any]) -> dict[str, Any]:
    """A plan as `pulumi preview --json` prints it, as far as the rules read it."""
    return {"steps": [{"op": "create", "newState": {"type": SCALE_SET, "inputs": one}} for one in inputs]}


class Pack:
    """A policy pack as the engine runs it: a process that is asked about one resource after the other."""

    def __init__(self, place: Path) -> None:
        environment = os.environ | {"PULUMI_STACK": "prod", "PULUMI_DRY_RUN": "true"}
        command = [sys.executable, str(place)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        assert self._process.stdout is not None
        address = f"127.0.0.1:{int(self._process.stdout.readline())}"
        self._asks = analyzer_pb2_grpc.AnalyzerStub(grpc.insecure_channel(address))

    def complaints(self, props: dict[str, Any]) -> list[str]:
        """The names of the rules that refuse."""
        message = Struct()
        message.update(props)
        request = proto.AnalyzeRequest(type=SCALE_SET, name="set", urn="urn", properties=message)
        return [one.policyName for one in self._asks.Analyze(request).diagnostics]

    def end(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()


def same_answers(ours: Pack, scratch: Path) -> int:
    """How many examples both refuse by the same rules; Failed names the first that they do not."""
    kind = SCALE_SET.removeprefix("azure-native:")
    names = {rule.name for rule in RULES if SCALE_SET in rule.types}
    base = BASES[kind] | {"tags": {"patchwave-stack": "prod"}}
    examples = [changed(base, case.refused) for case in CASES if case.rule in names and not case.base]
    counted = 0
    for props in [scale_set(), *examples]:
        plan = scratch / "example.json"
        plan.write_text(json.dumps(plan_of(props)), encoding="utf-8")
        here, there = set(ours.complaints(props)), {message.split(":")[0] for message in held(plan)}
        if here != there:
            raise Failed(f"{json.dumps(props)}: ours refuse by {sorted(here)}, conftest by {sorted(there)}")
        counted += bool(here)
    return counted


def a_resource(packs: dict[str, Pack]) -> Iterator[str]:
    """Milliseconds a resource, asked in turn."""
    props = scale_set()
    times: dict[str, list[float]] = {name: [] for name in packs}
    for _ in range(RUNS):
        for name, one in packs.items():
            began = time.perf_counter()
            for _ in range(100):
                one.complaints(props)
            times[name].append((time.perf_counter() - began) * 10)
    middle = {name: statistics.median(found) for name, found in times.items()}
    for name, took in middle.items():
        yield f"  {name:<22} {took:.2f} ms"
    yield f"ours - empty  {middle['ours'] - middle['empty']:.2f} ms a resource   (at most 0.5 is wanted)"
    yield f"pulumi_policy / ours  {middle['by pulumi_policy'] / middle['ours']:.0f}"


def previews(lab: Laboratory, scratch: Path) -> Iterator[str]:
    """Seconds of a preview with each pack, in turn; and conftest on the plan of the same preview."""
    program = scratch / "many"
    program.mkdir()
    (program / "Pulumi.yaml").write_text("name: many\nruntime: python\n", encoding="utf-8")
    (program / "__main__.py").write_text(MANY.replace("COUNT", str(RESOURCES)), encoding="utf-8")
    (program / "scale_set.json").write_text(json.dumps([SCALE_SET, scale_set()]), encoding="utf-8")
    lab.sandbox("preview", "--stack", "prod")
    environment = lab.environment()
    made = ["pulumi", "stack", "init", "prod"]
    subprocess.run(made, cwd=program, env=environment, check=True, stdout=subprocess.DEVNULL)

    def preview(*arguments: str) -> float:
        began = time.perf_counter()
        command = ["pulumi", "preview", "--stack", "prod", *arguments]
        said = subprocess.run(command, cwd=program, env=environment, capture_output=True, text=True, check=False)
        if said.returncode:
            raise Failed(f"{' '.join(command)}: {said.stdout[-2000:]} {said.stderr[-2000:]}")
        return time.perf_counter() - began

    plan = scratch / "plan.json"
    printed = subprocess.run(
        ["pulumi", "preview", "--stack", "prod", "--json"],
        cwd=program,
        env=environment,
        capture_output=True,
        check=True,
    )
    plan.write_bytes(printed.stdout)
    packs = {"empty": scratch / "empty", "ours": PROJECT / "policy"}
    times: dict[str, list[float]] = {"empty": [], "ours": [], "conftest": []}
    for _ in range(RUNS):
        for name, place in packs.items():
            times[name].append(preview("--policy-pack", str(place)))
        began = time.perf_counter()
        assert held(plan) == []
        times["conftest"].append(time.perf_counter() - began)
    middle = {name: statistics.median(found) for name, found in times.items()}
    added = middle["ours"] - middle["empty"]
    yield f"preview of {RESOURCES} scale sets, medians of {RUNS}:"
    yield f"  empty pack {middle['empty']:.2f} s, ours {middle['ours']:.2f} s"
    yield f"ours / empty  {middle['ours'] / middle['empty']:.3f}   (at most 1.05 is wanted)"
    yield f"conftest on the plan's JSON  {middle['conftest']:.2f} s; ours adds {added:.2f} s to the preview"


def pack_at(scratch: Path, name: str, text: str) -> Path:
    """A pack of one file, run by this interpreter."""
    place = scratch / name
    place.mkdir()
    (place / "__main__.py").write_text(text, encoding="utf-8")
    settings = f"runtime:\n  name: python\n  options:\n    virtualenv: {PROJECT / '.venv'}\nversion: 0.0.1\n"
    (place / "PulumiPolicy.yaml").write_text(settings, encoding="utf-8")
    return place


def main() -> None:
    """Prints the comparisons."""
    with tempfile.TemporaryDirectory(prefix="patchwave-bench-") as folder:
        scratch = Path(folder)
        packs = {
            "empty": Pack(pack_at(scratch, "empty", EMPTY)),
            "ours": Pack(PROJECT / "policy"),
            "by pulumi_policy": Pack(pack_at(scratch, "library", LIBRARY)),
        }
        try:
            rules = [rule for rule in RULES if SCALE_SET in rule.types]
            print(f"{len(rules)} rules, a scale set of prod; {same_answers(packs['ours'], scratch)} refused examples")
            print("  are refused by the same rules in conftest")
            for line in a_resource(packs):
                print(line, flush=True)
        finally:
            for one in packs.values():
                one.end()
        with laboratory(scratch) as lab:
            for line in previews(lab, scratch):
                print(line, flush=True)


if __name__ == "__main__":
    main()
