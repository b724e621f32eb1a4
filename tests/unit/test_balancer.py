"""The driver `balancer` on the runner: the state of exactly the host's addresses, in a list that loses no member."""

import copy
import threading
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwave.azure.client import Arm, Conflict
from patchwave.base.errors import Failed, Refused
from patchwave.services import balancer
from patchwave.services.balancer import Target, changed, states
from sandbox.azure.resources.ids import SUBSCRIPTION
from tests.unit.azure_emulator import BALANCER, BLUE, MACHINE, declare, served
from tests.unit.playbook_code import load

GROUP = "/subscriptions/s/resourceGroups/g/providers"
SET = f"{GROUP}/Microsoft.Compute/virtualMachineScaleSets/web/virtualMachines"
VM = f"{GROUP}/Microsoft.Compute/virtualMachines/vm-1"
ARC = f"{GROUP}/Microsoft.HybridCompute/machines/site-1"
NIC = f"{GROUP}/Microsoft.Network/networkInterfaces/nic-1"
POOL = f"{GROUP}/Microsoft.Network/loadBalancers/lb/backendAddressPools"


def by_interface(interface: str, state: str | None = None) -> dict[str, Any]:
    properties = {"networkInterfaceIPConfiguration": {"id": f"{interface}/ipConfigurations/primary"}}
    return {"name": f"n{abs(hash(interface))}", "properties": properties | ({"adminState": state} if state else {})}


def by_address(address: str, state: str | None = None) -> dict[str, Any]:
    properties = {"ipAddress": address, "virtualNetwork": {"id": "/v"}}
    return {"name": address, "properties": properties | ({"adminState": state} if state else {})}


def pool(*addresses: dict[str, Any], **properties: Any) -> dict[str, Any]:
    served = {"loadBalancingRules": [{"id": "/r"}]} | properties
    return {"name": "p", "properties": {"loadBalancerBackendAddresses": list(addresses), **served}}


class Cloud:
    """A resource manager with these resources; each write changes the etag, and one with an old etag is refused."""

    def __init__(self, **pools: dict[str, Any]) -> None:
        self.resources: dict[str, Any] = {f"{POOL}/{name}": one for name, one in pools.items()}
        self.written: list[tuple[str, Any]] = []
        self.before_write: Any = lambda path: None
        self._numbers = count()
        self._busy = threading.Lock()
        for one in self.resources.values():
            one["etag"] = f"W/{next(self._numbers)}"

    def call(
        self, method: str, path: str, *, api: str, body: Any = None, if_match: str | None = None
    ) -> dict[str, Any]:
        if method == "GET":
            return copy.deepcopy(self.resources[path])
        self.before_write(path)
        assert self._busy.acquire(blocking=False), "two writes to one balancer at once"
        try:
            if if_match != self.resources[path]["etag"]:
                raise Conflict("PreconditionFailed")
            self.written.append((path, body))
            changed = copy.deepcopy(body)
            changed["properties"]["loadBalancingRules"] = self.resources[path]["properties"]["loadBalancingRules"]
            self.resources[path] = {**changed, "etag": f"W/{next(self._numbers)}"}
        finally:
            self._busy.release()
        return copy.deepcopy(self.resources[path])

    def states(self, name: str) -> dict[str, str | None]:
        members = self.resources[f"{POOL}/{name}"]["properties"]["loadBalancerBackendAddresses"]
        return {one["name"]: one["properties"].get("adminState") for one in members}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(balancer, "PAUSE", 0)


def instance(number: int, *pools: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A scale set's instance as a host, and its interfaces as Azure lists them."""
    configuration = {"properties": {"loadBalancerBackendAddressPools": [{"id": f"{POOL}/{one}"} for one in pools]}}
    nic = {"id": f"{SET}/{number}/networkInterfaces/nic", "properties": {"ipConfigurations": [configuration]}}
    host = {"pw_id": f"{SET}/{number}", "pw_address": f"10.0.0.{number}"}
    return host, {f"{SET}/{number}/networkInterfaces": {"value": [nic]}}


STATES = st.sampled_from([None, "None", "Up", "Down"])
MEMBERS = st.lists(st.tuples(st.integers(1, 12), st.booleans(), STATES), max_size=8, unique_by=lambda one: one[:2])


@given(MEMBERS, st.sampled_from(["Down", "None"]))
def test_only_the_hosts_own_addresses_change_and_no_member_is_lost(members, state):
    target = Target(f"{SET}/1", "10.0.0.1")
    before = pool(
        *(
            by_interface(f"{SET}/{number}/networkInterfaces/nic", had) if nic else by_address(f"10.0.0.{number}", had)
            for number, nic, had in members
        ),
        drainPeriodInSeconds=30,
        provisioningState="Succeeded",
    )
    kept = copy.deepcopy(before)
    after = changed(before, target, state)
    assert before == kept
    if after is None:
        assert states(before, target) <= {state}
        return
    assert after["properties"]["drainPeriodInSeconds"] == 30
    assert not {"provisioningState", "loadBalancingRules"} & set(after["properties"])
    old, new = (one["properties"]["loadBalancerBackendAddresses"] for one in (before, after))
    assert len(old) == len(new)
    for (number, _, _), was, now in zip(members, old, new, strict=True):
        if number == 1:
            assert now == {**was, "properties": {**was["properties"], "adminState": state}}
        else:
            assert now == was


@pytest.mark.parametrize(
    ("address", "belongs"),
    [
        (by_interface(f"{SET.upper()}/1/networkInterfaces/nic"), True),
        (by_interface(f"{SET}/10/networkInterfaces/nic"), False),
        (by_interface(NIC), True),
        (by_interface(f"{NIC}0"), False),
        (by_address("10.0.0.1"), True),
        (by_address("10.0.0.11"), False),
        ({"name": "empty", "properties": {"ipAddress": ""}}, False),
        ({"name": "bare"}, False),
    ],
)
def test_an_address_is_the_hosts_by_its_interface_or_by_itself(address, belongs):
    assert bool(states(pool(address), Target(f"{SET}/1", "10.0.0.1", (NIC,)))) is belongs


def test_a_host_leaves_the_pools_that_its_interfaces_are_in_and_comes_back_to_the_probes_choice(tmp_path):
    cloud = Cloud(
        blue=pool(*(by_interface(f"{SET}/{number}/networkInterfaces/nic") for number in (1, 2))),
        other=pool(by_address("10.0.0.1")),
    )
    host, listed = instance(1, "blue")
    cloud.resources |= listed
    assert balancer.take_out(cloud, host, (), tmp_path, ours=False) == [f"{POOL}/blue"]
    assert sorted(cloud.states("blue").values(), key=str) == ["Down", None]
    assert balancer.take_out(cloud, host, (), tmp_path, ours=True) == [f"{POOL}/blue"]
    assert balancer.put_back(cloud, host, (), tmp_path) == [f"{POOL}/blue"]
    assert sorted(cloud.states("blue").values(), key=str) == ["None", None]
    assert len(cloud.written) == 2
    assert cloud.states("other") == {"10.0.0.1": None}


def test_a_machines_pools_are_found_by_its_interfaces_and_an_arc_machines_are_named(tmp_path):
    configuration = {"properties": {"loadBalancerBackendAddressPools": [{"id": f"{POOL}/vm"}]}}
    cloud = Cloud(vm=pool(by_interface(NIC)), arc=pool(by_address("10.9.0.1"), by_address("10.9.0.2")))
    cloud.resources[VM] = {"properties": {"networkProfile": {"networkInterfaces": [{"id": NIC}]}}}
    cloud.resources[NIC] = {"id": NIC, "properties": {"ipConfigurations": [configuration]}}
    vm, arc = {"pw_id": VM, "pw_address": "10.0.0.9"}, {"pw_id": ARC, "pw_address": "10.9.0.1"}
    assert balancer.take_out(cloud, vm, (), tmp_path, ours=False) == [f"{POOL}/vm"]
    assert balancer.take_out(cloud, arc, (), tmp_path, ours=False) == []
    assert balancer.take_out(cloud, arc, [f"{POOL}/arc"], tmp_path, ours=False) == [f"{POOL}/arc"]
    assert cloud.states("arc") == {"10.9.0.1": "Down", "10.9.0.2": None}


def test_a_pool_that_no_rule_points_at_is_left_as_it_is(tmp_path):
    cloud, host = (
        Cloud(idle=pool(by_address("10.9.0.1"), loadBalancingRules=[])),
        {"pw_id": ARC, "pw_address": "10.9.0.1"},
    )
    assert balancer.take_out(cloud, host, [f"{POOL}/idle"], tmp_path, ours=False) == []
    assert balancer.unreachable(cloud, host, [f"{POOL}/idle"]) == balancer.NO_POOL
    assert balancer.put_back(cloud, host, [f"{POOL}/idle"], tmp_path) == [f"{POOL}/idle"]
    assert not cloud.written


def test_a_host_that_somebody_else_took_out_is_theirs(tmp_path):
    cloud = Cloud(a=pool(by_address("10.9.0.1")), b=pool(by_address("10.9.0.1", "Down")))
    host = {"pw_id": ARC, "pw_address": "10.9.0.1"}
    with pytest.raises(Refused, match="by someone else"):
        balancer.take_out(cloud, host, [f"{POOL}/a", f"{POOL}/b"], tmp_path, ours=False)
    assert not cloud.written


def test_a_pool_that_somebody_writes_meanwhile_is_read_again(tmp_path):
    cloud = Cloud(a=pool(by_address("10.9.0.1"), by_address("10.9.0.2")))
    path = f"{POOL}/a"

    def joins(_: str) -> None:
        cloud.before_write = lambda path: None
        cloud.call("PUT", path, api="", body=pool(by_address("10.9.0.1"), by_address("10.9.0.3")),
                   if_match=cloud.resources[path]["etag"])  # fmt: skip

    cloud.before_write = joins
    balancer.take_out(cloud, {"pw_id": ARC, "pw_address": "10.9.0.1"}, [path], tmp_path, ours=False)
    assert cloud.states("a") == {"10.9.0.1": "Down", "10.9.0.3": None}


def test_a_drain_that_fails_half_way_is_taken_back(tmp_path):
    cloud = Cloud(a=pool(by_address("10.9.0.1")), b=pool(by_address("10.9.0.1")))

    def refuses(path: str) -> None:
        if path.endswith("/b"):
            raise Failed("ScopeLocked")

    cloud.before_write = refuses
    with pytest.raises(Failed, match="ScopeLocked"):
        balancer.take_out(
            cloud, {"pw_id": ARC, "pw_address": "10.9.0.1"}, [f"{POOL}/a", f"{POOL}/b"], tmp_path, ours=False
        )
    assert cloud.states("a") == {"10.9.0.1": "None"}
    assert cloud.states("b") == {"10.9.0.1": None}


def test_a_state_that_never_stays_is_an_error_and_not_a_loop(tmp_path):
    class Forgetful(Cloud):
        def call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
            return {} if method == "PUT" else super().call(method, path, **more)

    cloud = Forgetful(a=pool(by_address("10.9.0.1")))
    with pytest.raises(Failed, match="adminState Down does not stay written"):
        balancer.write(cloud, f"{POOL}/a", Target(ARC, "10.9.0.1"), "Down", tmp_path)


def test_hosts_that_drain_at_once_write_one_after_the_other_and_lose_nothing(tmp_path: Path):
    cloud = Cloud(a=pool(*(by_address(f"10.9.0.{number}") for number in range(1, 9))))
    hosts = [{"pw_id": f"{ARC}{number}", "pw_address": f"10.9.0.{number}"} for number in range(1, 7)]
    problems: list[BaseException] = []

    def leave(host: dict[str, Any]) -> None:
        try:
            balancer.take_out(cloud, host, [f"{POOL}/a"], tmp_path, ours=False)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=leave, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert list(cloud.states("a").values()) == ["Down"] * 6 + [None] * 2
    assert len(cloud.written) == 6


# -- the steps of the playbook ----------------------------------------------------------------------------------------


class Steps:
    """An action plugin with a module that answers what the test says, and a resource manager."""

    def __init__(self, monkeypatch: Any, cloud: Cloud, step: str, answers: dict[str, Any], **arguments: Any) -> None:
        module = load("action", f"patchwave_{step}")
        monkeypatch.setattr(module, "Arm", lambda: nullcontext(cloud))
        self.plugin = object.__new__(module.ActionModule)
        self.plugin._task = SimpleNamespace(
            async_val=0, args={"service": {"traffic": {"driver": "balancer", "pools": [f"{POOL}/a"]}}, **arguments}
        )
        self.stages: list[str] = []

        def execute(task_vars: dict[str, Any], module_args: dict[str, Any] | None = None) -> dict[str, Any]:
            stage = module_args["stage"] if module_args else "all"
            self.stages.append(stage)
            return dict(answers[stage])

        self.plugin._execute_module = execute
        monkeypatch.setattr(module.ActionBase, "run", lambda *_: {})
        self.result = self.plugin.run(None, {"pw_id": ARC, "pw_address": "10.9.0.1", "pw_live": True})


BEGUN = {"needed": True, "owner": None, "settled": False}
BEGUN_BEFORE = {"needed": True, "owner": "run-1", "settled": True}
WELL = {"changed": True, "problem": ""}
DRAINS = [
    # what the module answers, the state before, the purpose: the stages, the state after, whether it failed
    ({"begin": {"needed": False}}, None, "patch", ["begin"], None, False),
    ({"begin": BEGUN, "finish": WELL}, None, "patch", ["begin", "finish"], "Down", False),
    ({"begin": BEGUN_BEFORE}, "Down", "patch", ["begin"], "Down", False),
    ({"begin": BEGUN, "cancel": {}}, "Down", "patch", ["begin", "cancel"], "Down", True),
    ({"begin": BEGUN, "finish": WELL}, "Down", "restore", ["begin", "finish"], "Down", False),
    (
        {"begin": BEGUN, "finish": {"failed": True, "msg": "x", "returned": True}},
        None, "patch", ["begin", "finish"], "None", True,
    ),
    ({"begin": BEGUN, "finish": {"failed": True, "msg": "x"}}, None, "patch", ["begin", "finish"], "Down", True),
    ({"begin": {"failed": True, "msg": "x"}}, None, "patch", ["begin"], None, True),
]  # fmt: skip


@pytest.mark.parametrize(("answers", "before", "purpose", "stages", "after", "failed"), DRAINS)
def test_a_drain_changes_pools_between_its_stages(monkeypatch, answers, before, purpose, stages, after, failed):
    cloud = Cloud(a=pool(by_address("10.9.0.1", before)))
    steps = Steps(monkeypatch, cloud, "drain", answers, purpose=purpose, live=True)
    assert steps.stages == stages
    assert cloud.states("a") == {"10.9.0.1": after}
    assert bool(steps.result.get("failed")) is failed


def test_a_host_that_users_reach_and_no_pool_has_is_not_drained(monkeypatch):
    steps = Steps(monkeypatch, Cloud(a=pool()), "drain", {"begin": BEGUN, "cancel": {}}, purpose="patch", live=True)
    assert "none of its addresses is in a pool" in steps.result["msg"]
    assert steps.stages == ["begin", "cancel"]


@pytest.mark.parametrize(("addresses", "well"), [([by_address("10.9.0.1")], True), ([], False)])
def test_a_host_that_users_reach_and_no_pool_has_is_unfit(monkeypatch, addresses, well):
    preflight = {"checks": [{"name": "clock", "ok": True}], "summary": "fit"}
    steps = Steps(monkeypatch, Cloud(a=pool(*addresses)), "preflight", {"all": preflight})
    assert [check["ok"] for check in steps.result["checks"]] == [True, well]
    assert (steps.result["summary"] == "fit") is well


RETURNS = [
    ({"begin": {"drained": False}, "finish": WELL}, "Down", "Down", False),
    ({"begin": {"drained": True}, "finish": WELL}, "Down", "None", False),
    ({"begin": {"drained": True}, "finish": {"failed": True, "drained_again": True}}, "Down", "Down", True),
]


@pytest.mark.parametrize(("answers", "before", "after", "failed"), RETURNS)
def test_a_return_changes_pools_only_of_hosts_that_a_run_took_out(monkeypatch, answers, before, after, failed):
    cloud = Cloud(a=pool(by_address("10.9.0.1", before)))
    steps = Steps(monkeypatch, cloud, "undrain", answers)
    assert steps.stages == ["begin", "finish"]
    assert cloud.states("a") == {"10.9.0.1": after}
    assert bool(steps.result.get("failed")) is failed


def test_a_write_names_the_version_that_it_changes_and_a_newer_one_is_a_conflict():
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(412, json={"error": {"code": "PreconditionFailed", "message": "changed"}})

    arm = Arm({"ARM_SUBSCRIPTION_ID": "s"})
    arm._http = httpx.Client(transport=httpx.MockTransport(answer))
    arm._credential = mock.Mock(get_token=lambda scope: mock.Mock(token="t"))  # noqa: S106 - not one
    with arm, pytest.raises(Conflict, match="PreconditionFailed: changed"):
        arm.call("PUT", "/pool", api="1", body={}, if_match='W/"1"')
    assert [request.headers["If-Match"] for request in seen] == ['W/"1"']


def test_the_emulators_pools_are_read_and_written_by_the_real_client(tmp_path, monkeypatch):
    with served() as azure:
        declare(azure)
        for name, value in (azure.environment | {"SSL_CERT_FILE": str(azure.sandbox.ca_bundle)}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("ARM_SUBSCRIPTION_ID", SUBSCRIPTION)
        pool_id = f"{BALANCER}/backendAddressPools/blue"
        host = {"pw_id": f"{BLUE}/virtualMachines/0", "pw_address": "10.0.0.1"}
        with Arm() as arm:

            def found() -> list[str]:
                members = arm.call("GET", pool_id, api=balancer.NETWORK)["properties"]["loadBalancerBackendAddresses"]
                return [one["properties"]["adminState"] for one in members]

            (left,) = balancer.take_out(arm, host, (), tmp_path, ours=False)
            assert left.lower() == pool_id.lower()
            assert found() == ["Down", "None"]
            with pytest.raises(Refused):
                balancer.take_out(arm, host, (), tmp_path, ours=False)
            with pytest.raises(Conflict):
                arm.call("PUT", pool_id, api=balancer.NETWORK, body={"properties": {}}, if_match='W/"old"')
            balancer.put_back(arm, host, (), tmp_path)
            assert found() == ["None", "None"]
            vm = {"pw_id": MACHINE, "pw_address": "10.0.0.9"}
            assert balancer.take_out(arm, vm, (), tmp_path, ours=False) == []
