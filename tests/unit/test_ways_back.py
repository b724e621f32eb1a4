"""A machine's snapshots and a scale set's repairs, by the real client at the emulator; hosts only remember."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from patchwave.azure import disk_snapshots, repairs, restore_points
from patchwave.azure.client import COMPUTE, Arm
from patchwave.base.errors import Failed
from sandbox.azure.resources.ids import SUBSCRIPTION
from tests.unit.azure_emulator import BLUE, LOCATION, MACHINE, Emulator, compute, declare, scale_set, served

WAYS = {"restore point": restore_points, "disk snapshot": disk_snapshots}
RUN = "20261124T090000Z-abc123"


@pytest.fixture(scope="module")
def standing() -> Iterator[Emulator]:
    with served() as azure:
        declare(azure)
        path = compute(f"restorePointCollections/{restore_points.collection_name('dev-vm-0')}")
        azure.put(path, {"location": LOCATION, "properties": {"source": {"id": MACHINE}}})
        yield azure


@pytest.fixture
def arm(standing: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Arm]:
    trusted = {"SSL_CERT_FILE": str(standing.sandbox.ca_bundle), "ARM_SUBSCRIPTION_ID": SUBSCRIPTION}
    for name, value in (standing.environment | trusted).items():
        monkeypatch.setenv(name, value)
    with Arm(os.environ) as client:
        yield client


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
def test_a_machine_gets_the_disk_back_that_it_had_and_keeps_the_other(standing: Emulator, arm: Arm, way: Any) -> None:
    def disk() -> str:
        return str(arm.call("GET", MACHINE, api=COMPUTE)["properties"]["storageProfile"]["osDisk"]["managedDisk"]["id"])

    patched, run = disk(), f"{RUN}-{way.__name__.rsplit('.', 1)[1]}"
    taken = way.take(arm, MACHINE, run)
    assert way.take(arm, MACHINE, run) == taken, "a run that was killed meanwhile goes on with the same"
    standing.hosts.calls.clear()
    way.swap_back(arm, MACHINE, run)
    assert disk() != patched
    assert ("restore", "dev-vm-0") in standing.hosts.calls
    assert standing.hosts.running("dev-vm-0")
    assert arm.call("GET", patched, api="2024-03-02")["properties"]["diskState"] == "Unattached"
    now = datetime.now(UTC)
    assert way.expire(arm, MACHINE, timedelta(days=1), now) == 0
    assert way.expire(arm, MACHINE, timedelta(days=1), now + timedelta(days=2)) == 1
    with pytest.raises(Failed, match="NotFound"):
        arm.call("GET", taken, api="2024-03-02" if way is disk_snapshots else COMPUTE)


def test_repairs_are_held_off_and_go_on(standing: Emulator, arm: Arm) -> None:
    body = scale_set()
    body["properties"]["automaticRepairsPolicy"] = {"enabled": True, "gracePeriod": "PT30M"}
    standing.put(BLUE, body)

    def state() -> str:
        (service,) = arm.call("GET", f"{BLUE}/instanceView", api=COMPUTE)["orchestrationServices"]
        return str(service["serviceState"])

    (found,) = repairs.scale_sets([f"{BLUE}/virtualMachines/0", f"{BLUE}/virtualMachines/1"])
    states = [state()]
    for act in ("Suspend", "Suspend", "Resume"):
        repairs.switch(arm, found, act)
        states.append(state())
    assert states == ["Running", "Suspended", "Suspended", "Running"]


def test_repairs_that_there_are_not_are_refused(standing: Emulator, arm: Arm) -> None:
    standing.put(BLUE, scale_set())
    with pytest.raises(Failed, match="not enabled"):
        repairs.switch(arm, BLUE, "Suspend")
