"""The engine's door: what a preview says, what an update does, and that a refresh finds nothing that is not there."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.azure import rpc
from sandbox.azure.client import Refusal
from sandbox.azure.command_plugin import Command, glob, matching
from sandbox.azure.differences import differences, projected, same
from sandbox.azure.kinds import BY_TOKEN
from sandbox.azure.plugin import AzureNative
from sandbox.azure.rpc import Failure, plain, struct
from sandbox.azure.wire import UNKNOWN

from .azure_stand_in import (
    BALANCER,
    BLUE,
    GROUP,
    LOCATION,
    MACHINE,
    NIC,
    VNET,
    StandIn,
    balancer,
    declare,
    interface,
    machine,
    scale_set,
    shape_cache,
    stand_in,
    vnet,
    wire,
)

Json = Any
VMSS = "azure-native:compute:VirtualMachineScaleSet"


class NearClient:
    """The SDK's place taken by the doors in memory."""

    subscription = GROUP.split("/")[2]

    def __init__(self, azure: StandIn) -> None:
        self._azure = azure

    def get(self, identity: str, api: str) -> Json | None:
        answer = self._azure.ask("GET", identity)
        return None if answer.status_code == 404 else answer.json()

    def put(self, identity: str, api: str, body: Json) -> Json:
        answer = self._azure.ask("PUT", identity, body)
        if answer.is_error:
            error = answer.json()["error"]
            raise Refusal(f"{error['code']}: {error['message']}", answer.status_code)
        if self._azure.ended(answer) != "Succeeded":
            raise Refusal("InternalExecutionError: it did not boot")
        return self._azure.ask("GET", identity).json()

    def delete(self, identity: str, api: str) -> None:
        answer = self._azure.ask("DELETE", identity)
        if answer.is_error:
            error = answer.json()["error"]
            raise Refusal(f"{error['code']}: {error['message']}", answer.status_code)
        assert self._azure.ended(answer) == "Succeeded"


class Plugin:
    """The provider as the engine talks to it."""

    def __init__(self, azure: StandIn) -> None:
        self.provider = AzureNative("", shape_cache())
        self.provider._made = NearClient(azure)  # type: ignore[assignment]

    @staticmethod
    def urn(token: str, name: str = "it") -> str:
        return f"urn:pulumi:dev::fleet::{token}::{name}"

    def check(
        self, token: str, news: Mapping[str, Json], olds: Mapping[str, Json] | None = None
    ) -> tuple[Json, list[str]]:
        request = SimpleNamespace(urn=self.urn(token), news=struct(news), olds=struct(olds or {}), randomSeed=b"seed")
        answer = self.provider.check(request)
        return plain(answer.inputs), [f"{one.property}: {one.reason}" for one in answer.failures]

    def diff(self, token: str, olds: Mapping[str, Json], news: Mapping[str, Json]) -> Json:
        return self.provider.diff(SimpleNamespace(urn=self.urn(token), old_inputs=struct(olds), news=struct(news)))

    def create(self, token: str, inputs: Mapping[str, Json], *, preview: bool = False) -> Json:
        return self.provider.create(SimpleNamespace(urn=self.urn(token), properties=struct(inputs), preview=preview))

    def read(self, token: str, identity: str, inputs: Mapping[str, Json]) -> Json:
        return self.provider.read(SimpleNamespace(urn=self.urn(token), id=identity, inputs=struct(inputs)))


@pytest.fixture
def azure() -> Iterator[StandIn]:
    with stand_in() as made:
        yield made


@pytest.fixture
def plugin(azure: StandIn) -> Plugin:
    return Plugin(azure)


def folded(token: str, body: Mapping[str, Json], **arguments: str) -> dict[str, Json]:
    """A wire body as a Pulumi program declares it."""
    return wire().fold(body, BY_TOKEN[token].shape) | {"resourceGroupName": "dev"} | arguments


def declared(token: str, identity: str, body: Mapping[str, Json], argument: str) -> tuple[str, str, dict[str, Json]]:
    token = f"azure-native:{token}"
    return token, identity, folded(token, body, **{argument: identity.rsplit("/", 1)[1]})


DECLARED = [
    declared("network:VirtualNetwork", VNET, vnet(), "virtualNetworkName"),
    declared("network:LoadBalancer", BALANCER, balancer(), "loadBalancerName"),
    declared("network:NetworkInterface", NIC, interface(), "networkInterfaceName"),
    declared("compute:VirtualMachineScaleSet", BLUE, scale_set(), "vmScaleSetName"),
    declared("compute:VirtualMachine", MACHINE, machine(), "vmName"),
]


@pytest.mark.parametrize(("token", "identity", "inputs"), DECLARED, ids=[row[0] for row in DECLARED])
def test_what_was_made_is_found_unchanged(
    azure: StandIn, plugin: Plugin, token: str, identity: str, inputs: Json
) -> None:
    declare(azure)
    made = plugin.create(token, inputs)  # what is there already is exactly this: it is taken on
    assert made.id == identity
    outputs = plain(made.properties)
    assert outputs["name"] == identity.rsplit("/", 1)[1]
    assert outputs["provisioningState"] == "Succeeded"
    read = plugin.read(token, identity, inputs)
    assert plain(read.inputs) == inputs
    assert plugin.diff(token, plain(read.inputs), inputs).changes == rpc.provider_pb2.DiffResponse.DIFF_NONE


def test_another_resource_of_that_name_is_not_taken_on(azure: StandIn, plugin: Plugin) -> None:
    declare(azure, machines=False)
    token, identity, inputs = DECLARED[0]
    with pytest.raises(Failure, match=f"cannot create already existing resource '{identity}'"):
        plugin.create(token, inputs | {"addressSpace": {"addressPrefixes": ["10.9.0.0/16"]}})


def test_drift_is_seen_and_azures_additions_are_not(azure: StandIn, plugin: Plugin) -> None:
    declare(azure)
    _, identity, inputs = DECLARED[3]
    azure.put(BLUE, scale_set(3))
    read = plugin.read(VMSS, identity, inputs)
    difference = plugin.diff(VMSS, plain(read.inputs), inputs)
    assert list(difference.detailedDiff) == ["sku.capacity"]
    assert azure.ended(azure.ask("DELETE", MACHINE)) == "Succeeded"
    assert plugin.read("azure-native:compute:VirtualMachine", MACHINE, DECLARED[4][2]).id == ""


def test_an_import_gets_its_inputs_from_azure(azure: StandIn, plugin: Plugin) -> None:
    declare(azure, machines=False)
    inputs = plain(plugin.read(DECLARED[0][0], VNET, {}).inputs)
    assert inputs["virtualNetworkName"] == "net"
    assert inputs["resourceGroupName"] == "dev"
    assert inputs["subnets"][0]["addressPrefix"] == "10.0.1.0/24"


def test_a_replacement_deletes_first_unless_the_name_moves(plugin: Plugin) -> None:
    _, _, olds = DECLARED[3]
    moved = plugin.diff(VMSS, olds, olds | {"vmScaleSetName": "other"})
    assert (list(moved.replaces), moved.deleteBeforeReplace) == (["vmScaleSetName"], False)
    placed = plugin.diff(VMSS, olds, olds | {"location": "northeurope"})
    assert (list(placed.replaces), placed.deleteBeforeReplace) == (["location"], True)
    again = plugin.diff(VMSS, olds, olds | {"location": "West Europe"})
    assert again.changes == rpc.provider_pb2.DiffResponse.DIFF_NONE


def test_a_change_below_a_pinned_property_replaces(plugin: Plugin) -> None:
    token, _, olds = DECLARED[4]
    news = json.loads(json.dumps(olds))
    news["osProfile"]["computerName"] = "other"
    news["tags"] = {"a": "b"}
    difference = plugin.diff(token, olds, news)
    assert list(difference.replaces) == ["osProfile.computerName"]
    kinds = rpc.provider_pb2.PropertyDiff.Kind
    assert kinds.Name(difference.detailedDiff["osProfile.computerName"].kind) == "UPDATE_REPLACE"
    assert "tags.a" in difference.detailedDiff


def test_a_preview_knows_the_inputs_and_leaves_the_rest_open(plugin: Plugin) -> None:
    inputs = DECLARED[3][2] | {"virtualMachineProfile": UNKNOWN}
    outputs = plain(plugin.create(VMSS, inputs, preview=True).properties)
    assert outputs["sku"]["capacity"] == 2
    assert outputs["virtualMachineProfile"] == UNKNOWN
    assert outputs["sku"]["tier"] == outputs["uniqueId"] == outputs["name"] == UNKNOWN
    assert "vmScaleSetName" not in outputs
    assert plugin.diff(VMSS, DECLARED[3][2], inputs).changes == rpc.provider_pb2.DiffResponse.DIFF_SOME


def test_a_preview_of_an_update_keeps_the_name_only(plugin: Plugin) -> None:
    olds = struct({"name": "lb", "location": LOCATION, "etag": "1"})
    news = struct(DECLARED[1][2])
    request = SimpleNamespace(urn=plugin.urn(DECLARED[1][0]), olds=olds, news=news, preview=True)
    outputs = plain(plugin.provider.update(request).properties)
    assert (outputs["name"], outputs["location"], outputs["etag"]) == ("lb", LOCATION, UNKNOWN)
    assert [pool["id"] for pool in outputs["backendAddressPools"]] == [UNKNOWN, UNKNOWN]


def test_a_check_names_unknown_properties_missing_arguments_and_unknown_types(azure: StandIn, plugin: Plugin) -> None:
    azure.put(GROUP, {"location": LOCATION})
    _, failures = plugin.check(VMSS, DECLARED[3][2] | {"upgradePolcy": {}})
    assert failures == ["upgradePolcy: unknown property 'upgradePolcy': did you mean 'upgradePolicy'?"]
    _, failures = plugin.check(VMSS, {"location": LOCATION, "vmScaleSetName": "x"})
    assert failures == ["resourceGroupName: missing required property 'resourceGroupName'"]
    _, failures = plugin.check(VMSS, {"location": UNKNOWN, "resourceGroupName": UNKNOWN, "tags": UNKNOWN})
    assert failures == []
    for token in ("azure-native:compute:Spaceship", "azure-native:compute/v20240301:VirtualMachine"):
        with pytest.raises(Failure, match=f"{token}: the sandbox does not know this type of resource"):
            plugin.check(token, {})


def test_a_name_once_given_stays_and_a_location_comes_from_the_group(azure: StandIn, plugin: Plugin) -> None:
    azure.put(GROUP, {"location": "swedencentral"})
    first, _ = plugin.check(VMSS, {"resourceGroupName": "dev"})
    assert first["location"] == "swedencentral"
    assert first["vmScaleSetName"].startswith("it")
    again, _ = plugin.check(VMSS, {"resourceGroupName": "dev"}, first)
    assert again == first


def test_azures_refusal_is_one_line_and_a_half_made_machine_is_kept(azure: StandIn, plugin: Plugin) -> None:
    declare(azure, machines=False)
    token, identity, inputs = DECLARED[4]
    wrong = inputs | {"networkProfile": {"networkInterfaces": [{"id": NIC + "x"}]}}
    with pytest.raises(Failure, match=r"^ResourceNotFound: The Resource [^\n]*$") as refused:
        plugin.create(token, wrong)
    assert refused.value.partial is None
    azure.hosts.broken.add("dev-vm-0")
    with pytest.raises(Failure) as failed:
        plugin.create(token, inputs)
    partial = failed.value.partial
    assert partial is not None
    assert (partial.id, plain(partial.inputs)) == (identity, inputs)


def test_a_function_reads_a_resource_and_others_are_refused(azure: StandIn, plugin: Plugin) -> None:
    declare(azure, machines=False)
    arguments = struct({"resourceGroupName": "dev", "virtualNetworkName": "net"})
    found = plugin.provider.invoke(SimpleNamespace(tok="azure-native:network:getVirtualNetwork", args=arguments))
    assert plain(getattr(found, "return"))["id"] == VNET
    with pytest.raises(Failure, match="azure-native:network:listEverything: the sandbox does not know this function"):
        plugin.provider.invoke(SimpleNamespace(tok="azure-native:network:listEverything", args=arguments))


def test_the_plugin_says_the_version_of_the_program_s_package(plugin: Plugin) -> None:
    from importlib import metadata

    assert plugin.provider.get_plugin_info(None).version == metadata.version("pulumi-azure-native")


# What changed

TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("abc/", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text("abc", min_size=1, max_size=2), TREES, max_size=3)


def settled(value: Json) -> Json:
    """Nothing and null are the same for Azure."""
    if isinstance(value, Mapping):
        return {name: settled(inner) for name, inner in value.items() if inner is not None}
    return [settled(inner) for inner in value] if isinstance(value, list) else value


@given(OBJECTS, OBJECTS)
def test_there_is_a_difference_exactly_when_the_values_differ(olds: Json, news: Json) -> None:
    assert bool(dict(differences(olds, news))) == (settled(olds) != settled(news) or _bools_meet_numbers(olds, news))


def _bools_meet_numbers(olds: Json, news: Json) -> bool:
    return json.dumps(settled(olds), sort_keys=True) != json.dumps(settled(news), sort_keys=True)


@given(OBJECTS, OBJECTS)
def test_what_azure_adds_is_never_drift(olds: Json, more: Json) -> None:
    fresh = {**{f"x{name}": value for name, value in more.items()}, **settled(olds)}
    assert dict(differences(settled(olds), projected(settled(olds), fresh))) == {}


@given(st.text("aAbB/", max_size=6))
def test_ids_are_compared_without_regard_to_case(text: str) -> None:
    identity = f"/subscriptions/S/{text.strip('/')}x"
    assert same(identity, identity.swapcase().replace("/SUBSCRIPTIONS", "/subscriptions"))
    assert same(text, text.swapcase()) == (text == text.swapcase())


# The command plugin

COMMAND = "urn:pulumi:dev::fleet::command:local:Command::wave"


def run(inputs: Mapping[str, Json]) -> dict[str, Json]:
    made = Command("").create(SimpleNamespace(urn=COMMAND, properties=struct(inputs), preview=False))
    assert made.id.startswith("wave")
    found: dict[str, Json] = plain(made.properties)
    return found


def test_a_command_runs_with_its_inputs_and_keeps_both_streams_less_one_line_feed(tmp_path: Path) -> None:
    outputs = run({
        "create": "pwd; cat; echo $A; echo; echo warned >&2", "dir": str(tmp_path),
        "stdin": "in\n", "environment": {"A": "b c"},
    })  # fmt: skip
    assert outputs["stdout"] == f"{tmp_path}\nin\nb c\n"
    assert outputs["stderr"] == "warned"


def test_an_interpreter_takes_the_command_as_its_last_argument() -> None:
    assert run({"create": "print(6 * 7)", "interpreter": ["python3", "-c"]})["stdout"] == "42"


def test_an_update_runs_update_else_create_and_sees_the_previous_streams() -> None:
    olds = struct({"stdout": "before", "stderr": ""})
    show = "echo $PULUMI_COMMAND_STDOUT ${PULUMI_COMMAND_STDERR-unset}"
    for news in ({"create": "false", "update": show}, {"create": show}):
        request = SimpleNamespace(urn=COMMAND, olds=olds, news=struct(news), preview=False)
        assert plain(Command("").update(request).properties)["stdout"] == "before unset"
    request = SimpleNamespace(
        urn=COMMAND, olds=olds, news=struct({"create": show, "addPreviousOutputInEnv": False}), preview=False
    )
    assert plain(Command("").update(request).properties)["stdout"] == "unset"


def test_a_failure_says_the_status_the_command_and_both_streams() -> None:
    with pytest.raises(Failure) as failed:
        run({"create": 'echo "out"\necho bad >&2; exit 3'})
    head, *streams = str(failed.value).splitlines()
    assert head == 'exit status 3: running "echo \\"out\\"\\necho bad >&2; exit 3":'
    assert sorted(streams) == ["bad", "out"]


def test_a_preview_runs_nothing(tmp_path: Path) -> None:
    inputs = struct({"create": f"touch {tmp_path}/ran"})
    Command("").create(SimpleNamespace(urn=COMMAND, properties=inputs, preview=True))
    Command("").update(SimpleNamespace(urn=COMMAND, olds=inputs, news=inputs, preview=True))
    assert list(tmp_path.iterdir()) == []


def test_only_a_trigger_replaces() -> None:
    def changed(olds: Json, news: Json) -> list[str]:
        answer = Command("").diff(SimpleNamespace(old_inputs=struct(olds), news=struct(news)))
        return [*answer.diffs, *(f"!{name}" for name in answer.replaces)]

    assert changed({"create": "a", "triggers": ["1"]}, {"create": "b", "triggers": ["1"]}) == ["create"]
    assert changed({"create": "a", "triggers": ["1"]}, {"create": "a", "triggers": ["2"]}) == ["triggers", "!triggers"]
    assert changed({"create": "a"}, {"create": "a"}) == []


def test_delete_runs_only_when_given(tmp_path: Path) -> None:
    for state in ({"create": "x"}, {"delete": f"echo $PULUMI_COMMAND_STDOUT >{tmp_path}/gone", "stdout": "last"}):
        Command("").delete(SimpleNamespace(urn=COMMAND, properties=struct(state)))
    assert (tmp_path / "gone").read_text() == "last\n"


def test_a_cancel_kills_the_shell_and_not_its_children(tmp_path: Path) -> None:
    provider = Command("")
    script = f"(sleep 0.6; echo survived >{tmp_path}/child) >/dev/null 2>&1 & echo started; sleep 30"
    request = SimpleNamespace(
        urn=COMMAND, properties=struct({"create": f"exec 9>&1; {script}", "logging": "none"}), preview=False
    )
    failures: list[str] = []

    def create() -> None:
        try:
            provider.create(request)
        except Failure as failure:
            failures.append(str(failure))

    thread = threading.Thread(target=create, daemon=True)
    thread.start()
    time.sleep(0.3)
    (shell,) = provider._shells
    provider.cancel(None)
    assert shell.wait(5) == -9
    time.sleep(0.6)
    assert (tmp_path / "child").read_text() == "survived\n"


def test_files_are_found_by_rules_in_their_order(tmp_path: Path) -> None:
    for name in ("assets/logos/logo.svg", "src/index.js", "src/secret.js", "other.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert list(matching(tmp_path, ["assets/**", "src/**.js", "!**secret.*"])) == [
        "assets/logos/logo.svg",
        "src/index.js",
    ]
    outputs = run({"create": "true", "dir": str(tmp_path), "assetPaths": ["*.txt"], "archivePaths": ["src/*"]})
    assert list(outputs["assets"]) == ["other.txt"]
    assert sorted(outputs["archive"]["assets"]) == ["src/index.js", "src/secret.js"]


@pytest.mark.parametrize(
    ("pattern", "hit", "miss"),
    [("*.js", "a.js", "a/b.js"), ("**.js", "a/b.js", "a.jsx"), ("a?c", "abc", "a/c"), ("[!a]x", "bx", "ax"),
     ("{a,b/c}.d", "b/c.d", "a,b/c.d"), (r"\*", "*", "x"), ("a+b", "a+b", "aab")],
)  # fmt: skip
def test_a_glob_means_what_it_means_to_the_official_plugin(pattern: str, hit: str, miss: str) -> None:
    assert glob(pattern).fullmatch(hit)
    assert not glob(pattern).fullmatch(miss)


@pytest.mark.parametrize(
    "inputs", [{"creat": "x"}, {"create": 1}, {"environment": {"A": 1}}, {"interpreter": "sh"}, {"logging": "loud"}]
)
def test_a_wrong_input_of_a_command_is_named(inputs: Json) -> None:
    answer = Command("").check(SimpleNamespace(urn=COMMAND, news=struct(inputs)))
    assert [one.property for one in answer.failures] == list(inputs)


@pytest.mark.parametrize("token", ["command:remote:Command", "command:remote:CopyToRemote"])
def test_what_does_not_run_here_is_refused(token: str) -> None:
    with pytest.raises(Failure, match=f"{token}: the sandbox's command plugin runs"):
        Command("").check(SimpleNamespace(urn=COMMAND.replace("command:local:Command", token), news=struct({})))


def test_run_runs_in_every_evaluation() -> None:
    request = SimpleNamespace(tok="command:local:run", args=struct({"command": "echo $A", "environment": {"A": "x"}}))
    assert plain(getattr(Command("").invoke(request), "return"))["stdout"] == "x"
    with pytest.raises(Failure, match="command: missing required property"):
        Command("").invoke(SimpleNamespace(tok="command:local:run", args=struct({})))
