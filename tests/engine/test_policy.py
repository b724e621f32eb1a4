"""The pack judges a program that is not ours, in a stack that the standard does not know, by the real engine."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.laboratory import Laboratory

PROGRAM = '''"""A scale set, its schedule, where records go, and a command."""

import json
import re

import pulumi
import pulumi_azure_native as azure
from pulumi_command import local

given = json.loads(pulumi.Config().require("given"))
group = azure.resources.ResourceGroup("group", resource_group_name="others", location="westeurope")
azure.compute.VirtualMachineScaleSet(
    "web",
    vm_scale_set_name="web",
    resource_group_name=group.name,
    location="westeurope",
    orchestration_mode="Uniform",
    sku={"name": "Standard_B2s", "tier": "Standard", "capacity": 2},
    upgrade_policy={
        "mode": given["mode"],
        "rolling_upgrade_policy": {
            "max_batch_instance_percent": 50,
            "max_unhealthy_instance_percent": 50,
            "max_unhealthy_upgraded_instance_percent": 20,
            "rollback_failed_instances_on_policy_breach": True,
        },
    },
    virtual_machine_profile={
        "os_profile": {
            "computer_name_prefix": "web-",
            "admin_username": "someone",
            "linux_configuration": {
                "disable_password_authentication": True,
                "ssh": {"public_keys": [{"path": "/home/someone/.ssh/authorized_keys", "key_data": given["key"]}]},
            },
        },
        "storage_profile": {
            "image_reference": {
                "publisher": "Debian", "offer": "debian-12", "sku": "12-gen2", "version": given["version"]
            },
            "os_disk": {"create_option": "FromImage"},
        },
        "network_profile": {
            "network_interface_configurations": [
                {
                    "name": "nic",
                    "primary": True,
                    "ip_configurations": [{"name": "primary", "subnet": {"id": pulumi.Output.concat(group.id, "/n")}}],
                }
            ]
        },
        "extension_profile": {"extensions": given["extensions"]},
    },
    tags={
        "patchwave-stack": "dev",
        "patchwave-fleet": "web",
        "patchwave-method": "image",
        "patchwave-way-back": "downgrade",
        "patchwave-slot": "blue",
    },
)
azure.maintenance.MaintenanceConfiguration(
    "nightly",
    resource_name_="nightly",
    resource_group_name=group.name,
    location="westeurope",
    maintenance_scope="InGuestPatch",
    extension_properties={"InGuestPatchMode": "User"},
    start_date_time="2026-12-01 09:00",
    duration="02:00",
    time_zone="UTC",
    recur_every=given["recurrence"],
    install_patches={
        "reboot_setting": "IfRequired",
        "linux_parameters": {"classifications_to_include": ["Critical", "Security"]},
    },
    tags={"patchwave-stack": "dev"},
)
azure.operationalinsights.Workspace(
    "records",
    resource_group_name=group.name,
    location="westeurope",
    sku={"name": "PerGB2018"},
    retention_in_days=given["days"],
)
password = pulumi.Output.secret("correct-horse") if given["secret"] else "correct-horse"
local.Command("migrate", create=given["create"], environment={"DB_PASSWORD": password, "GROUP": group.id})
'''
HEALTH = {
    "name": "health",
    "publisher": "Microsoft.ManagedServices",
    "type": "ApplicationHealthLinux",
    "type_handler_version": "2.0",
    "settings": {"protocol": "http", "port": 80, "requestPath": "/", "intervalInSeconds": 5, "numberOfProbes": 1},
}
RIGHT = {
    "key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIADAweR0VGOXXfqzebiY37cSh1vUDb02dJbLet0ERd3T someone",
    "mode": "Rolling",
    "version": "0.20260101.1",
    "extensions": [HEALTH],
    "recurrence": "1Week Monday",
    "days": 60,
    "secret": True,
    "create": "apt-get install -y curl=7.88.1-10+deb12u8",
}
WRONG = RIGHT | {
    "mode": "Automatic",
    "version": "latest",
    "extensions": [],
    "recurrence": "1Week Saturday",
    "days": 7,
    "secret": False,
    "create": "apt-get install -y --no-install-recommends curl",
}
REFUSED = 255


class Others:
    """Somebody else's project, previewed with our pack."""

    def __init__(self, lab: Laboratory, place: Path) -> None:
        self._lab, self.place = lab, place
        (place / "Pulumi.yaml").write_text("name: others\nruntime: python\n", encoding="utf-8")
        (place / "__main__.py").write_text(PROGRAM, encoding="utf-8")
        lab.run("pulumi", "stack", "init", "playground", "--cwd", str(place))

    def preview(self, given: Mapping[str, Any], *options: str, code: int = 0) -> str:
        here = ("--cwd", str(self.place), "--stack", "playground")
        self._lab.run("pulumi", "config", "set", "given", json.dumps(given), *here)
        policy = str(self._lab.project / "policy")
        return self._lab.run("pulumi", "preview", "--policy-pack", policy, *options, *here, code=code)


@pytest.fixture(scope="module")
def others(lab: Laboratory, tmp_path_factory: pytest.TempPathFactory) -> Others:
    lab.sandbox("preview", "--stack", "dev")
    return Others(lab, tmp_path_factory.mktemp("others"))


def levels(printed: str) -> dict[str, str]:
    """The level of each rule that the engine reports."""
    return {rule: level for level, rule in re.findall(r"- \[(\w+)\] \[severity: \w+\] +(\S+)", printed)}


def test_what_is_wrong_is_refused_by_the_rules_that_it_breaks(others: Others) -> None:
    printed = others.preview(WRONG, code=REFUSED)
    found = levels(printed)
    assert {name for name, level in found.items() if level == "mandatory"} >= {
        "scale-sets-upgrade-in-batches",
        "scale-sets-watch-application-health",
        "images-are-pinned",
        "schedules-keep-within-the-standard",
        "records-are-kept",
        "environments-hold-only-marked-secrets",
        "scripts-pin-what-they-fetch",
    }
    assert "create: apt installs curl without a version: write curl=VERSION" in printed
    assert "outside Monday, Tuesday, Wednesday, Thursday, Friday 09:00" in printed


def test_what_is_right_passes(others: Others) -> None:
    assert "mandatory" not in levels(others.preview(RIGHT)).values()


def test_a_run_has_a_rule_otherwise_by_its_configuration(others: Others) -> None:
    config = others.place / "rules.json"
    config.write_text(json.dumps({"images-are-pinned": "advisory", "records-are-kept": {"at_least_days": 90}}))
    printed = others.preview(RIGHT | {"version": "latest"}, "--policy-pack-config", str(config), code=REFUSED)
    found = levels(printed)
    assert (found["images-are-pinned"], found["records-are-kept"]) == ("advisory", "mandatory")
    assert "retentionInDays is 60: keep at least 90" in printed
    kept = others.preview(RIGHT | {"version": "latest", "days": 90}, "--policy-pack-config", str(config))
    assert levels(kept)["images-are-pinned"] == "advisory"
