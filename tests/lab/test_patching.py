"""An assessment on demand, asked with the official client, of a real host."""

from sandbox.azure.arm.patching import available
from tests.conftest import Patched

ASSESS = """
import os
from azure.identity import DefaultAzureCredential
from azure.mgmt.compute import ComputeManagementClient
endpoint = {"base_url": os.environ["ARM_ENDPOINT"], "credential_scopes": ["https://management.azure.com/.default"]}
with DefaultAzureCredential() as who, ComputeManagementClient(who, os.environ["ARM_SUBSCRIPTION_ID"], **endpoint) as to:
    found = to.virtual_machines.begin_assess_patches("patchwave-dev", "dev-machines-0").result()
    print(found.critical_and_security_patch_count, found.other_patch_count)
    print(*sorted(f"{patch.name}={patch.version}" for patch in found.available_patches))
"""


def test_an_assessment_counts_what_the_hosts_own_apt_would_upgrade(patched: Patched) -> None:
    counted, *listed = patched.lab.run("python", "-c", ASSESS).splitlines()
    pending = available(patched.lab.ssh("dev-machines-0", "apt-get -s dist-upgrade"))
    security = [patch for patch in pending if patch.classification == "Security"]
    assert counted == f"{len(security)} {len(pending) - len(security)}"
    assert " ".join(listed).split() == sorted(f"{patch.name}={patch.version}" for patch in pending)
