"""The engine's provider plugin: what a preview shows, what an update does, and that a refresh finds no change."""

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.azure.bodies.differences import differences, projected, refreshed, same
from sandbox.azure.bodies.wire import UNKNOWN
from sandbox.azure.plugins import rpc
from sandbox.azure.plugins.client import Refusal
from sandbox.azure.plugins.command_plugin import Command, glob, matching
from sandbox.azure.plugins.plugin import AzureNative, _arguments
from sandbox.azure.plugins.rpc import Failure, plain, struct
from sandbox.azure.resources.kinds import BY_TOKEN, KINDS, Kind
from tests.unit.azure_bodies import BODIES, CONFIGURATION, DISK
from tests.unit.azure_emulator import (
    BLUE,
    GROUP,
    LOCATION,
    MACHINE,
    NIC,
    VNET,
    Emulator,
    declare,
    emulator,
    scale_set,
    shape_cache,
    wire,
)

Json = Any
VMSS = "azure-native:compute:VirtualMachineScaleSet"


class NearClient:
    """The SDK's place taken by the endpoints in memory."""

    subscription = GROUP.split("/")[2]

    def __init__(self, azure: Emulator) -> None:
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

    def __init__(self, azure: Emulator) -> None:
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

    def diff(
        self, token: str, olds: Mapping[str, Json], news: Mapping[str, Json], known: Mapping[str, Json] | None = None
    ) -> Json:
        request = SimpleNamespace(
            urn=self.urn(token), old_inputs=struct(olds), news=struct(news), olds=struct(known or {})
        )
        return self.provider.diff(request)

    def create(self, token: str, inputs: Mapping[str, Json], *, preview: bool = False) -> Json:
        return self.provider.create(SimpleNamespace(urn=self.urn(token), properties=struct(inputs), preview=preview))

    def read(
        self, token: str, identity: str, inputs: Mapping[str, Json], state: Mapping[str, Json] | None = None
    ) -> Json:
        request = SimpleNamespace(
            urn=self.urn(token), id=identity, inputs=struct(inputs), properties=struct(state or {})
        )
        return self.provider.read(request)

    def delete(self, token: str, identity: str) -> None:
        self.provider.delete(SimpleNamespace(urn=self.urn(token), id=identity))


@pytest.fixture
def azure() -> Iterator[Emulator]:
    with emulator() as made:
        yield made


@pytest.fixture
def plugin(azure: Emulator) -> Plugin:
    return Plugin(azure)


def declared(name: str) -> tuple[str, str, dict[str, Json]]:
    """A wire body as a Pulumi program declares it: token, id and inputs."""
    identity, type_, made = BODIES[name]
    kinds = (kind for kind in KINDS if kind.type == type_ and (len(_arguments(kind, identity)) == len(arguments(kind))))
    kind = next(kinds)
    inputs = wire().fold(made(), kind.shape) | _arguments(kind, identity)
    return f"azure-native:{kind.token}", identity, inputs


def arguments(kind: Kind) -> list[str]:
    return [name for name in kind.arguments if name != "subscriptionId"]


NETWORK, BALANCER_INPUTS, SCALE_SET, MACHINE_INPUTS = map(declared, ("vnet", "lb", "vmss", "vm"))
NOTHING = rpc.provider_pb2.DiffResponse.DIFF_NONE


def test_up_refresh_and_preview_agree_for_every_kind_and_a_destroy_leaves_nothing(
    azure: Emulator, plugin: Plugin
) -> None:
    azure.put(GROUP, {"location": LOCATION})
    before = {row.key for row in azure.endpoints.store.all()}
    made = []
    for name in BODIES:
        token, identity, inputs = declared(name)
        created = plugin.create(token, inputs)
        assert created.id.lower() == identity.lower()
        made.append((token, created.id, inputs, plain(created.properties)))
    for token, identity, inputs, state in made:
        read = plugin.read(token, identity, inputs, state)
        assert plain(read.inputs) == inputs, token
        assert plugin.diff(token, plain(read.inputs), inputs, state).changes == NOTHING
    assert {token for token, *_ in made} | ELSEWHERE == set(BY_TOKEN)
    for token, identity, *_ in reversed(made):
        plugin.delete(token, identity)
        assert plugin.read(token, identity, {}).id == ""
    assert {row.key for row in azure.endpoints.store.all()} == before | {DISK.lower()}, "a machine's disk is detached"


ELSEWHERE = {
    f"azure-native:{name}"
    for name in (
        "resources:ResourceGroup", "compute:Gallery", "compute:GalleryImage", "compute:GalleryImageVersion",
        "hybridcompute:Machine",
    )
}  # fmt: skip
"""What stands before any program runs."""


def test_what_is_there_already_is_taken_on_when_it_is_what_was_declared(azure: Emulator, plugin: Plugin) -> None:
    declare(azure, machines=False)
    token, identity, inputs = NETWORK
    made = plugin.create(token, inputs)
    assert made.id == identity
    assert plain(made.properties)["provisioningState"] == "Succeeded"


def test_another_resource_of_that_name_is_not_taken_on(azure: Emulator, plugin: Plugin) -> None:
    declare(azure, machines=False)
    token, identity, inputs = NETWORK
    with pytest.raises(Failure, match=f"cannot create already existing resource '{identity}'"):
        plugin.create(token, inputs | {"addressSpace": {"addressPrefixes": ["10.9.0.0/16"]}})


def test_drift_is_seen_and_azures_additions_are_not(azure: Emulator, plugin: Plugin) -> None:
    declare(azure)
    _, identity, inputs = SCALE_SET
    state = plain(plugin.read(VMSS, identity, {}).properties)
    azure.put(BLUE, scale_set(3))
    read = plugin.read(VMSS, identity, inputs, state)
    difference = plugin.diff(VMSS, plain(read.inputs), inputs)
    assert list(difference.detailedDiff) == ["sku.capacity"]
    assert azure.ended(azure.ask("DELETE", MACHINE)) == "Succeeded"
    assert plugin.read("azure-native:compute:VirtualMachine", MACHINE, MACHINE_INPUTS[2]).id == ""


def test_an_import_gets_its_inputs_from_azure(azure: Emulator, plugin: Plugin) -> None:
    declare(azure, machines=False)
    inputs = plain(plugin.read(NETWORK[0], VNET, {}).inputs)
    assert inputs["virtualNetworkName"] == "net"
    assert inputs["resourceGroupName"] == "dev"
    assert inputs["subnets"][0]["addressPrefix"] == "10.0.1.0/24"


def test_a_replacement_deletes_first_unless_the_name_moves(plugin: Plugin) -> None:
    _, _, olds = SCALE_SET
    moved = plugin.diff(VMSS, olds, olds | {"vmScaleSetName": "other"})
    assert (list(moved.replaces), moved.deleteBeforeReplace) == (["vmScaleSetName"], False)
    placed = plugin.diff(VMSS, olds, olds | {"location": "northeurope"})
    assert (list(placed.replaces), placed.deleteBeforeReplace) == (["location"], True)
    again = plugin.diff(VMSS, olds, olds | {"location": "West Europe"})
    assert again.changes == rpc.provider_pb2.DiffResponse.DIFF_NONE


@pytest.mark.parametrize(
    ("name", "where", "value", "replaces"),
    [
        ("ip", "sku.name", "Basic", True),
        ("ip", "idleTimeoutInMinutes", 5, False),
        ("vm", "osProfile.computerName", "other", False),
        ("vm", "storageProfile.imageReference.id", "/other", False),
        ("vm", "location", "northeurope", True),
        ("nic", "location", "northeurope", False),
        ("mc", "maintenanceScope", "Host", False),
        ("dynamic", "maintenanceConfigurationId", "/other", False),
        ("role", "principalId", "other", True),
        ("role", "roleDefinitionId", "/other", False),
        ("alert", "scopes[0]", "/other", False),
        ("topic", "source", "/other", False),
        ("item", "policyId", "/other", False),
    ],
)
def test_a_replacement_is_planned_where_the_official_provider_plans_one(
    plugin: Plugin, name: str, where: str, value: Json, replaces: bool
) -> None:
    token, _, olds = declared(name)
    olds |= {"sku": {"name": "Standard"}, "idleTimeoutInMinutes": 4} if name == "ip" else {}
    news = json.loads(json.dumps(olds))
    *way, last = re.findall(r"\w+", "properties." + where if name == "item" else where)
    target = news
    for part in way:
        target = target[part]
    target[int(last) if last.isdigit() else last] = value
    answer = plugin.diff(token, olds, news)
    (path,) = answer.detailedDiff
    assert list(answer.replaces) == ([path] if replaces else [])
    kinds = rpc.provider_pb2.PropertyDiff.Kind
    assert kinds.Name(answer.detailedDiff[path].kind) == ("UPDATE_REPLACE" if replaces else "UPDATE")


def test_an_input_that_says_what_azure_had_chosen_replaces_nothing(plugin: Plugin) -> None:
    token, _, olds = declared("ip")
    news = olds | {"publicIPAddressVersion": "IPv4"}
    assert list(plugin.diff(token, olds, news, {"publicIPAddressVersion": "IPv4"}).replaces) == []
    assert list(plugin.diff(token, olds, news, {}).replaces) == ["publicIPAddressVersion"]


def test_maintenance_spells_otherwise_and_it_is_no_drift(azure: Emulator, plugin: Plugin) -> None:
    declare(azure, machines=False)
    for name, more in (("mc", {"installPatches": {"rebootSetting": "Always"}}), ("dynamic", {})):
        token, identity, inputs = declared(name)
        inputs |= more
        state = plain(plugin.create(token, inputs).properties)
        read = plugin.read(token, identity, inputs, state)
        assert (plain(read.inputs), plain(read.properties)) == (inputs, state)
    assert state["maintenanceConfigurationId"] == inputs["maintenanceConfigurationId"].lower() != identity
    assert azure.ask("GET", CONFIGURATION).json()["properties"]["installPatches"]["rebootSetting"] == "AlwaysReboot"
    answer = azure.ask("PATCH", CONFIGURATION, {"tags": {"ring": "canary"}})
    assert answer.is_success, answer.text


def test_a_preview_knows_the_inputs_and_leaves_the_rest_open(plugin: Plugin) -> None:
    inputs = SCALE_SET[2] | {"virtualMachineProfile": UNKNOWN}
    outputs = plain(plugin.create(VMSS, inputs, preview=True).properties)
    assert outputs["sku"]["capacity"] == 2
    assert outputs["virtualMachineProfile"] == UNKNOWN
    assert outputs["sku"]["tier"] == outputs["uniqueId"] == outputs["name"] == UNKNOWN
    assert "vmScaleSetName" not in outputs
    assert plugin.diff(VMSS, SCALE_SET[2], inputs).changes == rpc.provider_pb2.DiffResponse.DIFF_SOME


def test_a_preview_of_an_update_keeps_the_name_only(plugin: Plugin) -> None:
    olds = struct({"name": "lb", "location": LOCATION, "etag": "1"})
    news = struct(BALANCER_INPUTS[2])
    request = SimpleNamespace(urn=plugin.urn(BALANCER_INPUTS[0]), olds=olds, news=news, preview=True)
    outputs = plain(plugin.provider.update(request).properties)
    assert (outputs["name"], outputs["location"], outputs["etag"]) == ("lb", LOCATION, UNKNOWN)
    assert [pool["id"] for pool in outputs["backendAddressPools"]] == [UNKNOWN, UNKNOWN]


def test_a_check_names_unknown_properties_missing_arguments_and_unknown_types(azure: Emulator, plugin: Plugin) -> None:
    azure.put(GROUP, {"location": LOCATION})
    _, failures = plugin.check(VMSS, SCALE_SET[2] | {"upgradePolcy": {}})
    assert failures == ["upgradePolcy: unknown property 'upgradePolcy': did you mean 'upgradePolicy'?"]
    _, failures = plugin.check(VMSS, {"location": LOCATION, "vmScaleSetName": "x"})
    assert failures == ["resourceGroupName: missing required property 'resourceGroupName'"]
    _, failures = plugin.check(VMSS, {"location": UNKNOWN, "resourceGroupName": UNKNOWN, "tags": UNKNOWN})
    assert failures == []
    for token in ("azure-native:compute:Spaceship", "azure-native:compute/v20240301:VirtualMachine"):
        with pytest.raises(Failure, match=f"{token}: the sandbox does not know this type of resource"):
            plugin.check(token, {})


def test_a_name_once_given_stays_and_a_location_comes_from_the_group(azure: Emulator, plugin: Plugin) -> None:
    azure.put(GROUP, {"location": "swedencentral"})
    first, _ = plugin.check(VMSS, {"resourceGroupName": "dev"})
    assert first["location"] == "swedencentral"
    assert first["vmScaleSetName"].startswith("it")
    again, _ = plugin.check(VMSS, {"resourceGroupName": "dev"}, first)
    assert again == first


def test_azures_refusal_is_one_line_and_a_half_made_machine_is_kept(azure: Emulator, plugin: Plugin) -> None:
    declare(azure, machines=False)
    token, identity, inputs = MACHINE_INPUTS
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


def test_a_function_reads_a_resource_and_others_are_refused(azure: Emulator, plugin: Plugin) -> None:
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
def test_what_is_declared_is_found_in_what_azure_has_with_its_additions(olds: Json, more: Json) -> None:
    fresh = {**{f"x{name}": value for name, value in more.items()}, **settled(olds)}
    assert dict(differences(settled(olds), projected(settled(olds), fresh))) == {}


@given(OBJECTS, OBJECTS)
def test_azure_saying_the_same_again_is_never_drift(inputs: Json, shown: Json) -> None:
    assert refreshed(inputs, shown, json.loads(json.dumps(shown))) == inputs


@given(OBJECTS, OBJECTS)
def test_what_was_said_as_declared_and_is_said_otherwise_now_becomes_an_input(olds: Json, news: Json) -> None:
    assert refreshed(settled(olds), settled(olds), settled(news)) == settled(news)


def test_only_what_changed_becomes_an_input() -> None:
    inputs = {"a": {"b": 1}, "list": [{"x": 1}], "secret": "s"}
    before = {"a": {"b": 1, "c": 2}, "list": [{"x": 1, "y": 2}], "default": True}
    after = {"a": {"b": 1, "c": 3}, "list": [{"x": 1, "y": 2}, {"x": 5}], "default": True, "more": 1}
    assert refreshed(inputs, before, after) == {
        "a": {"b": 1, "c": 3}, "list": [{"x": 1}, {"x": 5}], "secret": "s", "more": 1,
    }  # fmt: skip


WHERE = "/subscriptions/S/resourceGroups/Group/providers/Microsoft.Network/"


@given(st.text("aAbB/", min_size=1, max_size=6))
def test_the_case_of_an_id_is_nothing_before_its_type_and_something_after(text: str) -> None:
    assert same(WHERE + text, WHERE.lower() + text)
    assert same(WHERE + text, WHERE + text.swapcase()) == (text == text.swapcase())
    assert not same("/subscriptions/S/x", "/subscriptions/s/x")
    assert same("Dev", "dEV", "resourceGroupName")
    assert not same("Dev", "dEV", "vmName")


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
