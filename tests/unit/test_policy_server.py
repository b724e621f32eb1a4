"""The pack as the engine meets it: a process that names its port, asked over gRPC."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.empty_pb2 import Empty
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime import proto
from pulumi.runtime.proto import analyzer_pb2_grpc
from pulumi_policy.deserialize import SPECIAL_SECRET_SIG, SPECIAL_SIG_KEY
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE

from patchwave.base.errors import UsageError
from policy import pack, server, wave
from policy.declared import Declared
from policy.rule import Context, rule
from tests.unit.engine import PROJECT
from tests.unit.policy_cases import BASES, CLOSED, SEALED, WHOLE_WAVE, declared_by_the_program, world

Said = list[tuple[str, str, str]]
"""Rule, level and message of each complaint."""
LEVELS = {proto.MANDATORY: "mandatory", proto.ADVISORY: "advisory", proto.DISABLED: "disabled"}


class Pack:
    """A pack that serves one run."""

    def __init__(self, port: str) -> None:
        self.stub: Any = analyzer_pb2_grpc.AnalyzerStub(grpc.insecure_channel(f"127.0.0.1:{port}"))

    def begin(self, stack: str, *, preview: bool = False, config: Mapping[str, Any] | None = None) -> None:
        """What the engine does before a run: it fills in from the description what the configuration leaves out."""
        self.stub.ConfigureStack(proto.AnalyzerStackConfigureRequest(stack=stack, dry_run=preview))
        asked = {
            policy.name: proto.PolicyConfig(
                enforcementLevel=policy.enforcementLevel,
                properties=struct(
                    {
                        name: schema["default"]
                        for name, schema in json_format.MessageToDict(policy.configSchema).get("properties", {}).items()
                        if "default" in schema
                    }
                ),
            )
            for policy in self.policies().values()
        }
        levels = {word: level for level, word in LEVELS.items()}
        for name, wanted in (config or {}).items():
            one = asked.setdefault(name, proto.PolicyConfig())
            if isinstance(wanted, str):
                one.enforcementLevel = levels[wanted]
            else:
                one.properties.update(wanted)
        self.stub.Configure(proto.ConfigureAnalyzerRequest(policyConfig=asked))

    def policies(self) -> dict[str, Any]:
        return {policy.name: policy for policy in self.stub.GetAnalyzerInfo(Empty()).policies}

    def said(self, type_: str, props: Mapping[str, Any], name: str = "one") -> Said:
        return read(self.stub.Analyze(proto.AnalyzeRequest(type=type_, name=name, properties=struct(props))))

    def together(self, *resources: proto.AnalyzerResource) -> Said:
        return read(self.stub.AnalyzeStack(proto.AnalyzeStackRequest(resources=resources)))


def struct(props: Mapping[str, Any]) -> Struct:
    return json_format.ParseDict(props, Struct())


def read(response: proto.AnalyzeResponse) -> Said:
    return [(one.policyName, LEVELS[one.enforcementLevel], one.message) for one in response.diagnostics]


def named(said: Said) -> dict[str, str]:
    return {name: level for name, level, _ in said}


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., Pack]]:
    """Starts the pack of a project at an hour; all processes end with the tests."""
    begun: list[subprocess.Popen[str]] = []

    def start(project: Path, **variables: str) -> Pack:
        environment = {name: value for name, value in os.environ.items() if name != "ARM_ENDPOINT"} | variables
        command = [sys.executable, str(project / "policy")]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        begun.append(process)
        assert process.stdout is not None
        return Pack(process.stdout.readline().strip())

    yield start
    for process in begun:
        process.terminate()
        process.communicate(timeout=30)


def moved(at: datetime) -> dict[str, str]:
    """The variables of a rehearsal at an instant."""
    shift = round((at - datetime.now(UTC)).total_seconds())
    return {"PATCHWAVE_CLOCK_SHIFT": str(shift), "ARM_ENDPOINT": "https://127.0.0.1:1"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the pack, and a sealed release in each stack."""
    made = tmp_path_factory.mktemp("pack")
    shutil.copytree(PROJECT / "policy", made / "policy", ignore=shutil.ignore_patterns("__pycache__"))
    return world(made)


@pytest.fixture(scope="module")
def out_of_hours(serve: Callable[..., Pack], project: Path) -> Pack:
    """The pack on a Sunday."""
    return serve(project, **moved(CLOSED))


VAULT = {"properties": {"securitySettings": {"softDeleteSettings": {"softDeleteState": "Disabled"}}}}
VAULT_TYPE = "azure-native:recoveryservices:Vault"
WORKSPACE = "azure-native:operationalinsights:Workspace"
COMMAND: Mapping[str, Any] = WHOLE_WAVE["preflight"]["props"]
KEPT = "records-are-kept"


def test_each_rule_is_described_with_its_severity_mode_and_parameters(out_of_hours: Pack) -> None:
    out_of_hours.begin("dev")
    policies = out_of_hours.policies()
    assert list(policies) == [rule.name for rule in pack.RULES]
    for own in pack.RULES:
        described = policies[own.name]
        assert described.description == own.description
        assert LEVELS[described.enforcementLevel] == own.mode
        assert proto.PolicySeverity.Name(described.severity) == f"POLICY_SEVERITY_{own.severity.upper()}"
        schema = json_format.MessageToDict(described.configSchema).get("properties", {})
        assert list(schema) == list(own.parameters.model_fields)
    days = json_format.MessageToDict(policies[KEPT].configSchema)["properties"]["at_least_days"]
    assert (days["minimum"], days["maximum"], days["type"]) == (30, 730, "integer")


def test_a_stack_has_a_rule_as_the_standard_says(out_of_hours: Pack) -> None:
    for stack, level in (("dev", "mandatory"), ("staging", None), ("any", "mandatory")):
        out_of_hours.begin(stack)
        assert named(out_of_hours.said(VAULT_TYPE, VAULT)).get("deleted-backups-can-be-had-back") == level
    for stack, refused in (("dev", False), ("prod", True)):
        out_of_hours.begin(stack)
        assert (KEPT in named(out_of_hours.said(WORKSPACE, {"retentionInDays": 364}))) == refused


def test_the_run_may_have_a_rule_otherwise(out_of_hours: Pack) -> None:
    out_of_hours.begin("staging", config={"deleted-backups-can-be-had-back": "mandatory", KEPT: {"at_least_days": 100}})
    assert named(out_of_hours.said(VAULT_TYPE, VAULT)) == {"deleted-backups-can-be-had-back": "mandatory"}
    ((_, _, message),) = out_of_hours.said(WORKSPACE, {"retentionInDays": 99})
    assert message.endswith("retentionInDays is 99: keep at least 100")
    out_of_hours.begin("staging", config={KEPT: "advisory"})
    assert named(out_of_hours.said(WORKSPACE, {"retentionInDays": 1}))[KEPT] == "advisory"
    out_of_hours.begin("staging", config={KEPT: "disabled"})
    assert KEPT not in named(out_of_hours.said(WORKSPACE, {"retentionInDays": 1}))


@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({KEPT: {"days": 100}}, "the run's policy configuration: records-are-kept: days: Extra inputs"),
        ({KEPT: {"at_least_days": 7}}, "at_least_days: Input should be greater than or equal to 30"),
        ({KEPT: {"at_least_days": "long"}}, "at_least_days: Input should be a valid integer"),
        ({"records-are-burnt": "mandatory"}, "the run's policy configuration: there is no rule records-are-burnt"),
    ],
)
def test_a_run_that_asks_for_what_is_not_there_is_refused(
    out_of_hours: Pack, config: Mapping[str, Any], says: str, preview: bool
) -> None:
    out_of_hours.begin("prod", preview=preview, config={**config})
    said = out_of_hours.said(WORKSPACE, {"retentionInDays": 700})
    assert (KEPT, "mandatory") in [(name, level) for name, level, _ in said]
    assert any("the rule cannot run, so it refuses" in message and says in message for *_, message in said)
    assert all("\n" not in message.partition("\n")[2] for *_, message in said)


def test_an_update_is_refused_out_of_hours_and_its_preview_only_warns(out_of_hours: Pack) -> None:
    rule_name = "waves-start-in-an-open-window"
    for preview, level in ((False, "mandatory"), (True, "advisory")):
        out_of_hours.begin("dev", preview=preview)
        said = [one for one in out_of_hours.said(wave.COMMAND, COMMAND) if one[0] == rule_name]
        assert [(name, found) for name, found, _ in said] == [(rule_name, level)]
        assert "run again at Mon 2026-11-23 09:00 UTC" in said[0][2]


def test_a_pulumi_secret_in_an_environment_is_admitted_and_a_literal_is_not(out_of_hours: Pack) -> None:
    out_of_hours.begin("any")
    secret = {SPECIAL_SIG_KEY: SPECIAL_SECRET_SIG, "value": "correct-horse"}
    for value, refused in ((secret, False), ("correct-horse", True)):
        said = out_of_hours.said(wave.COMMAND, {"create": "./migrate", "environment": {"DB_PASSWORD": value}})
        assert named(said) == ({"environments-hold-only-marked-secrets": "mandatory"} if refused else {})
    said = out_of_hours.said(wave.COMMAND, {"create": "cat", "stdin": {**secret, "value": "password=correct-horse"}})
    assert said == []


def test_rules_that_wait_for_a_value_are_named_once_and_refuse_an_update_without_it(out_of_hours: Pack) -> None:
    machine = declared_by_the_program("dev")["VirtualMachine"]
    props = {**machine.props, "tags": {**machine.props["tags"], "patchwave-stack": UNKNOWN_STRING_VALUE}}
    out_of_hours.begin("dev", preview=True)
    assert out_of_hours.said(machine.type, props, "web") == []
    ((name, level, message),) = out_of_hours.together()
    assert (name, level) == ("rules-wait-for-the-update", "advisory")
    assert "what-is-patched-names-its-stack: web.tags.patchwave-stack" in message
    assert "\n" not in message
    assert out_of_hours.together() == []
    out_of_hours.begin("dev")
    said = out_of_hours.said(machine.type, props, "web")
    assert named(said)["what-is-patched-names-its-stack"] == "mandatory"
    assert any("cannot run, so it refuses: web.tags.patchwave-stack is not known" in one for *_, one in said)


def test_rules_over_the_stack_see_what_waits_for_what(out_of_hours: Pack) -> None:
    def resources(*without: str) -> list[proto.AnalyzerResource]:
        return [
            proto.AnalyzerResource(
                type=one["type"],
                name=name,
                urn=f"urn:{name}",
                properties=struct(one["props"]),
                dependencies=[] if name in without else one["depends_on"][:1],
                propertyDependencies={"triggers": proto.AnalyzerPropertyDependencies(urns=one["depends_on"][1:])},
            )
            for name, one in WHOLE_WAVE.items()
        ]

    out_of_hours.begin("dev")
    assert out_of_hours.together(*resources()) == []
    ((name, level, message),) = out_of_hours.together(*resources("prove"))
    assert (name, level) == ("waves-go-ring-by-ring", "mandatory")
    assert message.endswith("prove: does not wait for rest: let it depend on it")
    machine, points = (
        proto.AnalyzerResource(type=one["type"], name=name, properties=struct(one["props"]))
        for name, one in BASES["machines"].items()
    )
    assert out_of_hours.together(machine, points) == []
    assert named(out_of_hours.together(machine)) == {"machines-can-go-back": "mandatory"}


@pytest.mark.parametrize("preview", [False, True])
def test_a_release_that_is_gone_refuses_whatever_the_mode_is(out_of_hours: Pack, preview: bool) -> None:
    gone = {**COMMAND, "environment": {**COMMAND["environment"], "PATCHWAVE_RELEASE": "2026-01-01.1"}}
    out_of_hours.begin("dev", preview=preview, config={"waves-start-in-an-open-window": "advisory"})
    said = out_of_hours.said(wave.COMMAND, gone)
    assert named(said)["waves-start-in-an-open-window"] == "mandatory"
    assert any("the rule cannot run, so it refuses" in m and "2026-01-01.1.json is missing" in m for *_, m in said)
    assert SEALED.id != "2026-01-01.1"


def test_a_clock_that_may_not_be_moved_refuses_on_one_line(serve: Callable[..., Pack], project: Path) -> None:
    pack_ = serve(project, PATCHWAVE_CLOCK_SHIFT="60")
    pack_.begin("dev", preview=True)
    ((_, level, message),) = pack_.said(wave.COMMAND, COMMAND)
    assert level == "mandatory"
    assert "ARM_ENDPOINT is not the sandbox" in message


@pytest.mark.parametrize("mode", ["mandatory", "advisory"])
@pytest.mark.parametrize("preview", [False, True])
@pytest.mark.parametrize(
    "error", [ValueError("two\nlines"), KeyError("key"), RecursionError(), StopIteration(), UsageError("file: fix it")]
)
def test_whatever_a_rule_raises_it_refuses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, preview: bool, mode: Any
) -> None:
    @rule("a:b:C", severity="low", mode=mode, in_preview="advisory")
    def things_are_right(declared: Declared, context: Context) -> Iterator[str]:
        """Things are right."""
        raise error
        yield ""

    monkeypatch.setattr(server, "RULES", (things_are_right,))
    monkeypatch.setattr(pack, "BY_NAME", {**pack.BY_NAME, things_are_right.name: things_are_right})
    analyzer, unused = server.Analyzer(world(tmp_path)), Any
    analyzer.ConfigureStack(proto.AnalyzerStackConfigureRequest(stack="dev", dry_run=preview), unused)
    ((_, level, message),) = read(analyzer.Analyze(proto.AnalyzeRequest(type="a:b:C", name="x"), unused))
    assert level == "mandatory"
    assert message.startswith("Things are right.\nthe rule cannot run, so it refuses: ")
    assert message.count("\n") == 1
