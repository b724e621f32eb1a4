"""Answers the engine's questions with the rules.

`pulumi_policy` serves packs too, and reads each resource again for each of its policies: with some 150 of them most of
a preview would be that. Here a resource is read once, for the rules of its type alone.
https://github.com/pulumi/pulumi/blob/master/proto/pulumi/analyzer.proto
"""

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from threading import Event

import grpc
from google.protobuf import json_format
from google.protobuf.empty_pb2 import Empty

from patchwave.base import clock
from patchwave.base.errors import PatchwaveError
from patchwave.base.protocol import without_the_sdk
from patchwave.config.standard import Mode
from policy import pack
from policy.declared import Declared
from policy.pack import RULES
from policy.rule import CannotRun, Context, Rule, complaints
from policy.wire import LateProps, UnknownValueError, props_of

with without_the_sdk():
    from pulumi.runtime import proto
    from pulumi.runtime.proto import analyzer_pb2_grpc

NAME = "patchwave"
VERSION = "0.1.0"
MODES: dict[Mode, proto.EnforcementLevel.ValueType] = {
    "mandatory": proto.MANDATORY,
    "advisory": proto.ADVISORY,
    "disabled": proto.DISABLED,
}
SEVERITIES = {
    "low": proto.POLICY_SEVERITY_LOW,
    "medium": proto.POLICY_SEVERITY_MEDIUM,
    "high": proto.POLICY_SEVERITY_HIGH,
    "critical": proto.POLICY_SEVERITY_CRITICAL,
}
LARGEST_MESSAGE = 400 * 1024 * 1024
"""Bytes; what the engine itself allows."""


class Analyzer(analyzer_pb2_grpc.AnalyzerServicer):
    """The pack as the engine sees it, for one run of one stack."""

    def __init__(self, project: Path) -> None:
        self._project = project
        self._stack = os.environ.get("PULUMI_STACK", "")
        self._preview = os.environ.get("PULUMI_DRY_RUN") == "true"
        self._asked: pack.Asked = {}
        self._enforced: dict[str, pack.Enforced | CannotRun] = {}
        self._by_type: dict[str, list[Rule]] = {}
        self._waiting: dict[str, list[str]] = {}
        for rule in RULES:
            for type_ in rule.types:
                self._by_type.setdefault(type_, []).append(rule)

    def GetPluginInfo(self, request: Empty, context: grpc.ServicerContext) -> proto.PluginInfo:  # noqa: N802
        """The version of the pack."""
        return proto.PluginInfo(version=VERSION)

    def GetAnalyzerInfo(self, request: Empty, context: grpc.ServicerContext) -> proto.AnalyzerInfo:  # noqa: N802
        """What rules there are, each with its severity, parameters and the mode that this stack has it in.

        The engine fills in with these what the run's configuration leaves out, so that `Configure` has the last word.
        """
        policies = [_described(rule, self._standing(rule)) for rule in RULES]
        return proto.AnalyzerInfo(name=NAME, version=VERSION, supportsConfig=True, policies=policies)

    def Configure(self, request: proto.ConfigureAnalyzerRequest, context: grpc.ServicerContext) -> Empty:  # noqa: N802
        """Takes modes and parameters from the run's `--policy-pack-config`."""
        modes = {level: mode for mode, level in MODES.items()}
        self._asked = {
            name: (modes.get(config.enforcementLevel, "mandatory"), json_format.MessageToDict(config.properties))
            for name, config in request.policyConfig.items()
        }
        self._enforced.clear()
        return Empty()

    def ConfigureStack(  # noqa: N802
        self, request: proto.AnalyzerStackConfigureRequest, context: grpc.ServicerContext
    ) -> proto.AnalyzerStackConfigureResponse:
        """Learns the stack, and whether it is only previewed."""
        self._stack, self._preview = request.stack, request.dry_run
        self._enforced.clear()
        return proto.AnalyzerStackConfigureResponse()

    def Analyze(self, request: proto.AnalyzeRequest, context: grpc.ServicerContext) -> proto.AnalyzeResponse:  # noqa: N802
        """What the rules have against one resource."""
        rules = self._by_type.get(request.type)
        if not rules:
            return proto.AnalyzeResponse()
        shown = Declared(request.type, request.name, props_of(request.properties), request.urn)
        return proto.AnalyzeResponse(diagnostics=list(self._judge(rules, shown, shown.name)))

    def AnalyzeStack(  # noqa: N802
        self, request: proto.AnalyzeStackRequest, context: grpc.ServicerContext
    ) -> proto.AnalyzeResponse:
        """What the rules have against all resources together, and which rules wait for an update."""
        shown = [
            Declared(one.type, one.name, LateProps(one.properties), one.urn, frozenset(_dependencies(one)))
            for one in request.resources
        ]
        found = self._judge([rule for rule in RULES if not rule.types], shown, "the stack")
        return proto.AnalyzeResponse(diagnostics=[*found, *self._waits()])

    def Remediate(self, request: proto.AnalyzeRequest, context: grpc.ServicerContext) -> proto.RemediateResponse:  # noqa: N802
        """No rule changes what was declared."""
        return proto.RemediateResponse()

    def _standing(self, rule: Rule) -> Mode:
        """The mode by the standard; a standard that cannot be read is said by each rule when it is asked."""
        try:
            return pack.standing(rule, self._context(datetime.min))
        except CannotRun:
            return rule.mode

    def _context(self, now: datetime) -> Context:
        return Context(self._project, self._stack, now, self._preview)

    def _judge(
        self, rules: Sequence[Rule], shown: Declared | Sequence[Declared], name: str
    ) -> Iterator[proto.AnalyzeDiagnostic]:
        try:
            context = self._context(clock.now())
        except PatchwaveError as error:
            yield _diagnostic(rules[0], "mandatory", str(CannotRun(str(error))))
            return
        for rule in rules:
            try:
                how = self._how(rule, context)
                if how.mode == "disabled":
                    continue
                mode = rule.enforced(how.mode, preview=self._preview)
                for complaint in complaints(rule, shown, context, how.parameters):
                    yield _diagnostic(rule, mode, complaint)
            except UnknownValueError as unknown:
                where = f"{name}.{'.'.join(unknown.props)}"
                if self._preview:
                    self._waiting.setdefault(rule.name, []).append(where)
                else:
                    yield _diagnostic(rule, "mandatory", str(CannotRun(f"{where} is not known")))
            except CannotRun as reason:
                yield _diagnostic(rule, "mandatory", str(reason))

    def _how(self, rule: Rule, context: Context) -> pack.Enforced:
        if rule.name not in self._enforced:
            try:
                self._enforced[rule.name] = pack.enforced(rule, context, self._asked)
            except CannotRun as reason:
                self._enforced[rule.name] = reason
        found = self._enforced[rule.name]
        if isinstance(found, CannotRun):
            raise found
        return found

    def _waits(self) -> Iterator[proto.AnalyzeDiagnostic]:
        """One line for all rules that met values which only an update knows: they are asked again then."""
        if not self._waiting:
            return
        first = "; ".join(
            f"{name}: {wheres[0]}" + (f" and {len(wheres) - 1} more" if len(wheres) > 1 else "")
            for name, wheres in itertools.islice(self._waiting.items(), 3)
        )
        more = f"; and {len(self._waiting) - 3} rules more" if len(self._waiting) > 3 else ""
        yield proto.AnalyzeDiagnostic(
            policyName="rules-wait-for-the-update",
            policyPackName=NAME,
            policyPackVersion=VERSION,
            description="Rules that need a value which a preview does not know are asked by the update.",
            message=f"these wait for a value, the update asks them: {first}{more}",
            enforcementLevel=proto.ADVISORY,
            severity=proto.POLICY_SEVERITY_LOW,
        )
        self._waiting.clear()


def _dependencies(one: proto.AnalyzerResource) -> Iterator[str]:
    yield from one.dependencies
    for through in one.propertyDependencies.values():
        yield from through.urns


def _described(rule: Rule, mode: Mode) -> proto.PolicyInfo:
    schema = rule.parameters.model_json_schema()
    parameters = schema.get("properties", {})
    for parameter in parameters.values():
        del parameter["default"]  # the engine would ask for it, over what the standard says
    described = proto.PolicyInfo(
        name=rule.name,
        description=rule.description,
        enforcementLevel=MODES[mode],
        severity=SEVERITIES[rule.severity],
        policy_type=proto.POLICY_TYPE_RESOURCE if rule.types else proto.POLICY_TYPE_STACK,
        url=rule.source,
    )
    if parameters:
        described.configSchema.properties.update(parameters)
    return described


def _diagnostic(rule: Rule, mode: Mode, complaint: str) -> proto.AnalyzeDiagnostic:
    return proto.AnalyzeDiagnostic(
        policyName=rule.name,
        policyPackName=NAME,
        policyPackVersion=VERSION,
        description=rule.description,
        message=f"{rule.description}\n{complaint}",
        enforcementLevel=MODES[mode],
        severity=SEVERITIES[rule.severity],
    )


def serve(project: Path) -> None:
    """Serves until the engine ends this process; the first line of its output is the port."""
    options = [("grpc.max_receive_message_length", LARGEST_MESSAGE)]
    server = grpc.server(ThreadPoolExecutor(max_workers=4), options=options)
    analyzer_pb2_grpc.add_AnalyzerServicer_to_server(Analyzer(project), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    try:
        Event().wait()
    except KeyboardInterrupt:
        server.stop(0)
