"""The endpoint's conditions: Azure's request limits by default, latency and failures by chance when asked for."""

import time
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwave.base.errors import UsageError
from sandbox.azure.resources.errors import AzureError
from sandbox.azure.server.conditions import VARIABLE, Conditions, Traffic, policy
from tests.unit.azure_emulator import (
    BLUE,
    GROUP,
    LOCATION,
    MACHINE,
    ROOT,
    Emulator,
    compute,
    declare,
    emulator,
    located,
    network,
    vnet,
)

OPERATION = f"{ROOT}/providers/Microsoft.Compute/locations/sandbox/operations/1"
READS = "x-ms-ratelimit-remaining-subscription-reads"
COMPUTE = "x-ms-ratelimit-remaining-resource"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def traffic(clock: Clock, **conditions: float) -> Traffic:
    return Traffic(Conditions(**conditions), lambda key: False, clock)  # type: ignore[arg-type]


def refused(limits: Traffic, method: str, path: str) -> AzureError | None:
    try:
        limits.admit(method, path)
    except AzureError as refusal:
        return refusal
    return None


@given(st.integers(1, 400), st.integers(0, 20))
def test_reads_are_granted_up_to_the_bucket_and_then_at_the_refill_s_rate(burst: int, seconds: int) -> None:
    clock = Clock()
    limits = traffic(clock)
    granted = sum(refused(limits, "GET", GROUP) is None for _ in range(burst))
    assert granted == min(burst, 250)
    clock.now += seconds
    again = sum(refused(limits, "GET", GROUP) is None for _ in range(300))
    assert again == min(250, 250 - granted + 25 * seconds)


def test_a_refused_read_says_azure_s_words_and_when_to_come_back() -> None:
    clock = Clock()
    limits = traffic(clock, share=0.004)
    assert limits.admit("GET", GROUP)[READS] == "0"
    refusal = refused(limits, "GET", GROUP)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (429, "SubscriptionRequestsThrottled")
    assert refusal.headers == {
        READS: "0",
        "x-ms-ratelimit-remaining-subscription-global-reads": "13",
        "Retry-After": "1",
    }
    assert refused(limits, "PUT", GROUP) is None, "writes have a bucket of their own"
    clock.now += float(refusal.headers["Retry-After"])
    assert refused(limits, "GET", GROUP) is None


def test_one_machine_s_limit_is_not_another_s() -> None:
    clock = Clock()
    limits = traffic(clock)
    answers = [refused(limits, "DELETE", MACHINE) for _ in range(13)]
    assert answers[:12] == [None] * 12
    last = answers[12]
    assert last is not None
    assert (last.code, last.headers[COMPUTE]) == ("OperationNotAllowed", "Microsoft.Compute/DeleteVMResource;0")
    assert limits.admit("DELETE", f"{MACHINE}x")[COMPUTE] == (
        "Microsoft.Compute/DeleteVMResource;11,Microsoft.Compute/DeleteVMSubscriptionMaximum;1487"
    )
    clock.now += float(last.headers["Retry-After"])
    assert [refused(limits, "DELETE", MACHINE) is None for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("PUT", MACHINE, "PutVM"),
        ("PUT", f"{MACHINE}-there", "UpdateVM"),
        ("PATCH", MACHINE, "UpdateVM"),
        ("POST", f"{MACHINE}/powerOff", "UpdateVM"),
        ("POST", f"{MACHINE}/deallocate", "DeleteVM"),
        ("POST", f"{MACHINE}/installPatches", "VMGuestPatchOperations"),
        ("GET", MACHINE, "LowCostGet"),
        ("GET", f"{MACHINE}/instanceView", "LowCostGet"),
        ("GET", compute("virtualMachines"), "HighCostGet"),
        ("GET", OPERATION, "GetOperation"),
        ("PUT", BLUE, "CreateVMScaleSet"),
        ("GET", BLUE, "GetVMScaleSet"),
        ("GET", f"{BLUE}/instanceView", "HighCostGetVMScaleSet"),
        ("POST", f"{BLUE}/powerOff", "DeleteVMScaleSet"),
        ("GET", f"{BLUE}/virtualMachines/0", "GetVMScaleSetVM"),
        ("POST", f"{BLUE}/virtualMachines/0/restart", "UpdateVMScaleSetVM"),
        ("GET", network("virtualNetworks/net"), None),
        ("GET", GROUP, None),
    ],
)
def test_each_request_to_compute_counts_for_its_policy(method: str, path: str, name: str | None) -> None:
    found = policy(method, path, lambda key: key.endswith("-there"))
    assert (found[0] if found else None) == name


def test_failures_come_as_often_as_they_are_asked_for_and_the_same_again() -> None:
    def outcomes(seed: int) -> list[int]:
        limits = traffic(Clock(), throttled=0.2, failing=0.1, seed=seed)
        found = []
        for _ in range(2000):
            try:
                limits.disturb()
                found.append(200)
            except AzureError as refusal:
                found.append(refusal.status)
        return found

    assert outcomes(1) == outcomes(1) != outcomes(2)
    counted = Counter(outcomes(1))
    assert 320 <= counted[429] <= 480
    assert 140 <= counted[500] <= 260


@pytest.mark.parametrize(
    "text",
    [
        '{"throttled": 1.0}',
        '{"throttled": 0.5, "failing": 0.5}',
        '{"share": 0}',
        '{"latency": 80}',
        "80",
        "{",
        '{"seed": "1"}',
    ],
)
def test_conditions_that_cannot_be_are_refused_on_one_line(text: str) -> None:
    with pytest.raises(UsageError, match=rf"^{VARIABLE}: [^\n]+$"):
        Conditions.read({VARIABLE: text})


def test_without_the_variable_nothing_is_disturbed() -> None:
    assert Conditions.read({}) == Conditions()
    assert Conditions.read({VARIABLE: '{"latency_ms": 80, "share": 1}'}) == Conditions(latency_ms=80)


@pytest.fixture
def slow() -> Iterator[Emulator]:
    with emulator(Conditions(latency_ms=60, share=0.01)) as made:
        yield made


def test_the_door_keeps_to_its_conditions(slow: Emulator) -> None:
    began = time.monotonic()
    first = slow.ask("PUT", GROUP, {"location": LOCATION})
    assert time.monotonic() - began >= 0.06
    assert first.headers["x-ms-ratelimit-remaining-subscription-writes"] == "1"
    second, third = slow.ask("PUT", network("virtualNetworks/net"), vnet()), slow.ask("PUT", GROUP, located())
    assert second.is_success
    assert (third.status_code, third.json()["error"]["code"]) == (429, "SubscriptionRequestsThrottled")
    assert slow.azure("GET", GROUP).status_code == 401, "strangers are refused before they count"
    assert slow.ask("GET", GROUP).headers[READS] == "1"


def test_restore_points_are_rationed_only_when_it_is_asked_for() -> None:
    def taken(conditions: Conditions) -> list[int]:
        with emulator(conditions) as azure:
            declare(azure)
            for collection in ("a", "b"):
                azure.put(compute(f"restorePointCollections/{collection}"), located({"source": {"id": MACHINE}}))
            points = [f"restorePointCollections/{'ab'[n % 2]}/restorePoints/p{n}" for n in range(4)]
            answers = [azure.ask("PUT", compute(point), {"properties": {}}) for point in points]
            if answers[-1].is_error:
                assert 3590 <= int(answers[-1].headers["Retry-After"]) <= 3600
            return [answer.status_code for answer in answers]

    assert taken(Conditions()) == [201] * 4
    assert taken(Conditions(rationed=True)) == [201] * 3 + [429]
