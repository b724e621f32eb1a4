"""The store survives a kill at any point: after each single transaction, the next start finishes what had begun."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import settings

from sandbox.azure.resources.errors import AzureError
from sandbox.azure.resources.store import Store
from tests.unit.azure_bodies import BODIES
from tests.unit.azure_emulator import BLUE, GROUP, LOCATION, MACHINE, Emulator, RecordedHosts, scale_set

Json = Any
Step = tuple[str, str, Json]


class Killed(BaseException):
    """The process is gone: nobody catches this."""


class MortalStore(Store):
    """A store whose process is killed before the transaction after the next `left` ones."""

    left: ClassVar[int] = 10**9

    @contextmanager
    def change(self) -> Iterator[Store]:
        with self._lock:
            outermost = self._depth == 0
            if outermost and MortalStore.left <= 0:
                raise Killed
            with super().change():
                yield self
            if outermost:
                MortalStore.left -= 1


LONG = (
    "vnet", "ip", "lb", "nic", "vmss", "vm", "points", "point", "snapshot", "disk", "mc", "dynamic", "topic", "event",
    "vault", "policy", "item",
)  # fmt: skip
"""What takes more than one transaction, or is needed for it."""


def scenario(names: Sequence[str] = LONG) -> list[Step]:
    """Everything is made, some of it is changed, and everything is deleted."""
    made: list[Step] = [("PUT", BODIES[name][0], BODIES[name][2]()) for name in names]
    gone: list[Step] = [("DELETE", path, None) for _, path, _ in reversed(made)]
    changed: list[Step] = [("PUT", BLUE, scale_set(3)), ("PUT", BLUE, scale_set(1)), ("POST", f"{MACHINE}/start", None)]
    return [("PUT", GROUP, {"location": LOCATION}), *made, *changed, *gone, ("DELETE", GROUP, None)]


class Life:
    """Carries steps out as a patient client does, over as many processes as it takes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.hosts = folder, RecordedHosts()
        self.deaths = 0
        self.azure = Emulator(folder, self.hosts)

    def step(self, method: str, path: str, body: Json) -> None:
        for again in (False, True):
            try:
                if again and method == "PUT" and self.settled(path) and path != BLUE:
                    return
                assert self.ask(method, path, body) < 300
                assert method == "DELETE" or self.settled(path.removesuffix("/start"))
                return
            except Killed:
                self.restart()
        raise AssertionError("killed twice")

    def ask(self, method: str, path: str, body: Json) -> int:
        """The status of the answer when everything that it began has ended."""
        try:
            status = self.azure.endpoints.manager.handle(method, path, {"api-version": "2024-11-01"}, body).status
        except AzureError as refusal:
            if method == "DELETE" and refusal.status == 404:
                return 204
            raise
        self.rest()
        return status

    def settled(self, path: str) -> bool:
        row = self.azure.endpoints.store.get(path)
        return row is not None and row.body.get("properties", {}).get("provisioningState", "Succeeded") == "Succeeded"

    def rest(self) -> None:
        """Waits for what is under way; an operation that nobody carries out any more was killed."""
        manager = self.azure.endpoints.manager
        for operation in manager.store.unfinished():
            if manager.operations.wait(operation, 20).status == "InProgress":
                raise Killed

    def restart(self) -> None:
        """The old process ends wherever its threads are; the next one takes over."""
        self.deaths += 1
        self.azure.endpoints.manager.close(wait=True)
        self.azure.endpoints.store.close()
        MortalStore.left = FOREVER
        self.azure = Emulator(self.folder, self.hosts)
        self.azure.endpoints.manager.resume()
        self.rest()


def world(life: Life) -> list[Any]:
    """What there is in the end, without what is new at every run."""

    def plain(value: Json) -> Json:
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items() if not VOLATILE.search(name)}
        return [plain(one) for one in value] if isinstance(value, list) else value

    rows = [(row.id, row.deleting, plain(row.body), plain(row.hidden)) for row in life.azure.endpoints.store.all()]
    disks = sorted(path.name for path in life.azure.endpoints.manager.places.disks.glob("*"))
    return [sorted(rows, key=lambda row: row[0]), sorted(life.hosts.on.items()), disks]


FOREVER = 10**9
VOLATILE = re.compile("etag|time|date|created|modified|next", re.IGNORECASE)


def lived(folder: Path, left: int) -> tuple[list[Any], list[Any], int, int]:
    """What was there when everything was made, and in the end; the deaths, and the transactions of the first life."""
    for store in folder.glob("store.sqlite*"):
        store.unlink()
    shutil.rmtree(folder / "disks", ignore_errors=True)
    MortalStore.left = FOREVER
    life = Life(folder)
    MortalStore.left = left
    try:
        made: list[Any] = []
        for method, path, body in scenario():
            if method == "DELETE" and not made:
                made = world(life)
            life.step(method, path, body)
        return made, world(life), life.deaths, left - MortalStore.left
    finally:
        MortalStore.left = FOREVER
        life.azure.close()


@pytest.fixture
def mortal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.azure.server.endpoints.Store", MortalStore)


@pytest.mark.usefixtures("mortal")
def test_a_kill_after_any_transaction_changes_nothing_in_the_end(tmp_path: Path) -> None:
    made, end, deaths, transactions = lived(tmp_path, FOREVER)
    assert (deaths, len(end[0]), end[1:]) == (0, 4, [[], []]), "without a kill nothing is left but the shared image"
    assert transactions > 100
    for left in range(0, transactions, max(1, transactions // settings().max_examples)):
        again = lived(tmp_path, left)
        assert again[:3] == (made, end, 1), f"killed before transaction {left}"


@pytest.mark.usefixtures("mortal")
def test_whatever_else_is_made_is_made_in_one_transaction(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.step("PUT", GROUP, {"location": LOCATION})
    for name, (identity, _, body) in BODIES.items():
        MortalStore.left = FOREVER
        life.step("PUT", identity, body())
        if name not in LONG and name not in ("traffic", "table", "logs"):
            assert FOREVER - MortalStore.left == 1, name
    life.azure.close()
