"""The official Azure SDK clients, unmodified, over real sockets: every kind, every verb, and Azure's refusals."""

import time
from collections.abc import Iterator, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.resourcegraph.models import QueryRequest, QueryRequestOptions

from sandbox.azure.resources.kinds import KINDS
from sandbox.azure.server.conditions import Conditions
from sandbox.azure.server.endpoints import Endpoints
from tests.clients import ARC, RG, Clients, Trial, code, done, endpoints, refusals, table
from tests.unit.azure_bodies import WORKSPACE
from tests.unit.azure_emulator import MACHINE, RecordedHosts

UPDATE = "Inst openssl [1] (2 Debian-Security:12/stable-security [amd64])\n"


class Standing(NamedTuple):
    """Everything made, through the clients alone."""

    to: Clients
    endpoints: Endpoints
    hosts: RecordedHosts
    trial: Trial


@pytest.fixture(scope="module")
def standing() -> Iterator[Standing]:
    with endpoints() as (sandbox, made, hosts), Clients(sandbox.endpoint) as to:
        yield Standing(to, made, hosts, Trial(to))


def test_every_kind_is_tried(standing: Standing) -> None:
    tried = {f"Microsoft.{row.name}" for row in standing.trial.rows}
    assert {kind.type for kind in KINDS} - tried == {"Microsoft.Compute/galleries/images/versions"}


def test_every_kind_is_created_read_updated_and_listed(standing: Standing) -> None:
    assert standing.trial.failures == []


def test_refusals_carry_azures_codes(standing: Standing) -> None:
    wanted = refusals(standing.to)
    assert {what: code(call) for what, (_, call) in wanted.items()} == {
        what: said for what, (said, _) in wanted.items()
    }
    assert len({said for said, _ in wanted.values()}) >= 10


def test_resource_graph_answers_its_client(standing: Standing) -> None:
    asked = QueryRequest(
        subscriptions=[MACHINE.split("/")[2]],
        query="resources | where type =~ 'microsoft.compute/virtualmachines' | project id, name | order by id asc",
        options=QueryRequestOptions(result_format="objectArray"),
    )
    answer = standing.to.graph.resources(asked)
    assert [row["name"] for row in answer.data] == ["dev-vm-0"]
    assert (answer.total_records, answer.result_truncated) == (1, "false")


def test_rows_uploaded_by_the_ingestion_client_reach_their_table(standing: Standing) -> None:
    endpoint = standing.to.monitor.data_collection_endpoints.get(RG, "dce").logs_ingestion.endpoint
    rule = standing.to.monitor.data_collection_rules.get(RG, "dcr").immutable_id
    now = datetime.now(UTC).replace(microsecond=0)
    times = [(now - timedelta(minutes=n)).isoformat().replace("+00:00", "Z") for n in range(50)]
    rows: list[MutableMapping[str, Any]] = [{"TimeGenerated": at, "Host": f"host-{n}"} for n, at in enumerate(times)]
    standing.to.ingestion(endpoint).upload(rule, "Custom-Wave", rows)
    kept = standing.endpoints.store.logged(WORKSPACE, "Wave_CL")
    assert sorted(row["TimeGenerated"] for row in kept) == sorted(times)


def test_built_in_roles_are_found_by_name(standing: Standing) -> None:
    scope = f"/subscriptions/{MACHINE.split('/')[2]}"
    (found,) = standing.to.access.role_definitions.list(scope, filter="roleName eq 'Monitoring Metrics Publisher'")
    assert found.name == "3913510d-42f4-4e42-8a64-420c390055eb"


def test_patches_are_assessed_and_installed_by_the_machines_own_client(standing: Standing) -> None:
    machines, pending = standing.to.compute.virtual_machines, [UPDATE]

    def system(name: str, script: str) -> str:
        if "install openssl=2" in script:
            pending.clear()
        return "".join(pending) if "dist-upgrade" in script else ""

    standing.hosts.system = system
    assessed = done(machines.begin_assess_patches(RG, "dev-vm-0"))
    assert (assessed.critical_and_security_patch_count, assessed.other_patch_count) == (1, 0)
    assert [patch.name for patch in assessed.available_patches] == ["openssl"]
    linux = {"classificationsToInclude": ["Security"]}
    wanted = {"rebootSetting": "IfRequired", "maximumDuration": "PT1H", "linuxParameters": linux}
    installed = done(machines.begin_install_patches(RG, "dev-vm-0", wanted))
    assert (installed.status, installed.installed_patch_count, installed.reboot_status) == ("Succeeded", 1, "NotNeeded")
    assert done(machines.begin_assess_patches(RG, "dev-vm-0")).critical_and_security_patch_count == 0
    standing.hosts.system = None
    with pytest.raises(HttpResponseError, match="there is no system to ask"):
        done(machines.begin_assess_patches(RG, "dev-vm-0"))


def test_an_arc_machine_is_assessed_and_patched_by_its_own_client(standing: Standing) -> None:
    arc, name = standing.to.hybrid.machines, ARC.rsplit("/", 1)[1]
    standing.hosts.system = lambda host, script: UPDATE if "dist-upgrade" in script else ""
    assessed = done(arc.begin_assess_patches("sites", name))
    assert (assessed.status, assessed.available_patch_count_by_classification.security) == ("Succeeded", 1)
    wanted = {"rebootSetting": "Never", "maximumDuration": "PT1H", "linuxParameters": {}}
    assert done(arc.begin_install_patches("sites", name, wanted)).not_selected_patch_count == 1
    standing.hosts.system = None


def test_updates_applied_to_a_machine_are_found_again(standing: Standing) -> None:
    updates = standing.to.maintenance.apply_updates
    made = updates.create_or_update(RG, "Microsoft.Compute", "virtualMachines", "dev-vm-0")
    assert made.status == "NoUpdatesPending"
    assert updates.get(RG, "Microsoft.Compute", "virtualMachines", "dev-vm-0", made.name).id == made.id
    assert made.id in [one.id for one in updates.list()]


def test_a_poller_waits_for_what_takes_long_and_reports_how_it_fails(standing: Standing) -> None:
    machines = standing.to.compute.virtual_machines
    standing.hosts.gate.clear()
    poller = standing.to.compute.virtual_machine_scale_sets.begin_update(RG, "dev-blue", {"sku": {"capacity": 3}})
    assert not poller.done()
    assert poller.status() == "InProgress"
    standing.hosts.gate.set()
    assert poller.result().sku.capacity == 3
    assert "dev-blue-2" in standing.hosts.names()
    standing.hosts.broken.add("dev-blue-3")
    with pytest.raises(HttpResponseError, match="dev-blue-3 has no sshd"):
        done(standing.to.compute.virtual_machine_scale_sets.begin_update(RG, "dev-blue", {"sku": {"capacity": 4}}))
    standing.hosts.broken.clear()
    done(machines.begin_deallocate(RG, "dev-vm-0"))
    assert machines.instance_view(RG, "dev-vm-0").statuses[1].code == "PowerState/deallocated"


def test_everything_is_deleted_in_reverse(standing: Standing, capsys: pytest.CaptureFixture[str]) -> None:
    standing.trial.end()
    with capsys.disabled():
        print(f"\n{table(standing.trial.outcomes)}")
    assert standing.trial.failures == []
    assert standing.hosts.names() == []
    left = [row.key for row in standing.endpoints.store.all()]
    assert [key for key in left if "/resourcegroups/dev" in key] == []


def test_a_throttled_client_waits_as_it_is_told_and_gets_everything() -> None:
    with endpoints(Conditions(share=0.02, failing=0.1, seed=3)) as (sandbox, _, _), Clients(sandbox.endpoint) as to:
        began = time.monotonic()
        answers = [[one.name for one in to.resource.resource_groups.list()] for _ in range(8)]
        assert answers == [["shared-images"]] * 8
        assert time.monotonic() - began >= 3, "five at once, and one a second"
