"""What exists before any program runs: made by the emulator's own API, found again, and never made twice."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from patchwave.base.errors import UsageError
from sandbox import daemon, estate, images
from sandbox.azure.arm.machines import enrol, provide
from sandbox.azure.resources.ids import SUBSCRIPTION
from sandbox.estate import Estate, load_estate
from sandbox.images import GALLERY, Prepared, key_of
from tests.unit.azure_emulator import Emulator, served
from tests.unit.builders import settings

ROOT = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/estate/providers"
FILE = """
stacks:
  dev:
    balancers:
      - name: shop
        ports: [{port: 80, to: 80}]
        probe: {protocol: http, path: /, port: 80, interval: PT5S, threshold: 1}
    scale_sets:
      - {name: shop, mode: Uniform, instances: 2, image: static, balancer: shop, tags: {app: shop}}
      - {name: flex, mode: Flexible, instances: 2, image: static, balancer: shop}
    machines:
      - {name: db-0, source: vm, group: data, image: database, tags: {role: primary}}
      - {name: kiosk-0, source: arc, group: north, image: static, tags: {patchwave-stack: dev}}
      - {name: till-0, source: arc, group: north, tags: {till: yes}}
      - {name: mail-0, source: vm, group: north}
"""


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with served() as made:
        keys = [key_of(GALLERY.model_copy(update={"name": name})) for name in ("static", "database", "web")]
        provide(made.endpoints.store, [Prepared(key, ("/layer",), "Debian", {})._asdict() for key in keys])
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(daemon, "enrol", lambda box, name, tags, group, **more: enrol(
            made.endpoints.manager, {"name": name, "tags": tags, "resourceGroup": group, **more}))  # fmt: skip
        path = made.sandbox.project / estate.PATH
        path.parent.mkdir()
        path.write_text(FILE.replace("yes", '"yes"'))
        made.sandbox.keys.mkdir()
        made.sandbox.admin_key.with_suffix(".pub").write_text("ssh-ed25519 AAAA lab\n")
        yield made


def names(azure: Emulator, kind: str) -> set[str]:
    return {row.name for row in azure.endpoints.store.of_type(kind)}


def test_what_the_file_names_exists_and_a_second_time_changes_nothing(azure: Emulator) -> None:
    estate.seed(azure.sandbox, "dev", settings())
    machines = names(azure, "Microsoft.Compute/virtualMachines")
    assert machines == {"db-0", "mail-0", "flex-000000", "flex-000001"}
    assert names(azure, "Microsoft.HybridCompute/machines") == {"kiosk-0", "till-0"}
    assert set(azure.hosts.names()) == {"db-0", "kiosk-0", "flex-000000", "flex-000001", "shop-0", "shop-1"}
    before = {row.key: row.body for row in azure.endpoints.store.all()}
    estate.seed(azure.sandbox, "dev", settings())
    assert {row.key: row.body for row in azure.endpoints.store.all()}.keys() == before.keys()


def test_instances_of_both_modes_are_members_of_their_pool(azure: Emulator) -> None:
    estate.seed(azure.sandbox, "dev", settings())
    pool = azure.ask("GET", f"{ROOT}/Microsoft.Network/loadBalancers/shop/backendAddressPools/hosts").json()
    assert len(pool["properties"]["loadBalancerBackendAddresses"]) == 4
    flexible = azure.ask("GET", f"{ROOT}/Microsoft.Compute/virtualMachines/flex-000000").json()
    assert flexible["properties"]["virtualMachineScaleSet"]["id"].endswith("/virtualMachineScaleSets/flex")


def test_machines_that_run_windows_are_there_without_a_host(azure: Emulator) -> None:
    estate.seed(azure.sandbox, "dev", settings())
    found = {
        row.name: row.body["properties"] for row in azure.endpoints.store.all() if row.name in ("till-0", "mail-0")
    }
    assert found["till-0"]["osType"] == "windows"
    assert found["mail-0"]["storageProfile"]["osDisk"]["osType"] == "Windows"
    view = azure.ask("GET", f"{ROOT.replace('estate', 'north')}/Microsoft.Compute/virtualMachines/mail-0/instanceView")
    assert "PowerState/running" in view.text


def test_a_fleet_of_arc_machines_that_nobody_names_gets_one(azure: Emulator) -> None:
    (azure.sandbox.project / estate.PATH).unlink()
    estate.seed(azure.sandbox, "dev", settings())
    assert azure.hosts.names() == ["dev-sites-0"]


def test_an_image_without_a_recipe_is_refused_with_those_that_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images.base, "base", lambda box, tell: images.base.Base(tmp_path, "Debian 12", 1, True))
    box: Any = None
    with pytest.raises(UsageError, match="database, rhel, static, web"):
        images._build(box, "cloud", lambda text: None)


def test_a_project_without_a_file_has_no_estate(tmp_path: Path) -> None:
    assert load_estate(tmp_path, "dev") == Estate()
