"""The pack judges a program that is not ours, in a stack that the standard does not know, by the real engine."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.laboratory import Laboratory

PROGRAM = '''"""A scale set, its schedule and where records go."""

import json

import pulumi
import pulumi_azure_native as azure

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
    tags=given["tags"],
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
    tags=given["tags"],
)
azure.operationalinsights.Workspace(
    "records",
    resource_group_name=group.name,
    location="westeurope",
    sku={"name": "PerGB2018"},
    retention_in_days=given["days"],
    tags=given["tags"],
)
'''
HEALTH = {
    "name": "health",
    "publisher": "Microsoft.ManagedServices",
    "type": "ApplicationHealthLinux",
    "type_handler_version": "2.0",
    "settings": {"protocol": "http", "port": 80, "requestPath": "/", "intervalInSeconds": 5, "numberOfProbes": 1},
}
TAGS = {
    "patchwave-stack": "dev",
    "patchwave-fleet": "web",
    "patchwave-service": "site",
    "patchwave-method": "image",
    "patchwave-rollback": "downgrade",
    "patchwave-slot": "blue",
}
RIGHT = {
    "key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIADAweR0VGOXXfqzebiY37cSh1vUDb02dJbLet0ERd3T someone",
    "mode": "Rolling",
    "version": "0.20260101.1",
    "extensions": [HEALTH],
    "recurrence": "1Week Monday",
    "days": 60,
    "tags": TAGS,
}
WRONG = RIGHT | {
    "mode": "Automatic",
    "version": "latest",
    "extensions": [],
    "recurrence": "1Week Saturday",
    "days": 7,
    "tags": {"patchwave-stack": "dev"},
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


def reported(printed: str) -> dict[str, set[str]]:
    """The names of the checks that the engine reports, by level; where a check could not run its policy's."""
    found: dict[str, set[str]] = {}
    for level, policy, message in re.findall(r"- \[(\w+)\] +(\S+) .*\n.*\n +(.*)", printed):
        found.setdefault(level, set()).add(message.partition(":")[0] if ": " in message else policy)
    return found


def test_what_is_wrong_is_refused_by_the_checks_that_it_breaks(others: Others) -> None:
    printed = others.preview(WRONG, code=REFUSED)
    assert reported(printed)["mandatory"] == {
        "scale-sets-upgrade-in-batches",
        "scale-sets-watch-application-health",
        "hosts-can-be-found",
        "images-are-pinned",
        "schedules-keep-within-the-standard",
        "workspaces-keep-a-month-to-two-years",
        "records-are-kept",
    }
    assert "outside Monday, Tuesday, Wednesday, Thursday, Friday 09:00" in printed


def test_what_is_right_passes(others: Others) -> None:
    assert "mandatory" not in reported(others.preview(RIGHT))


def test_what_is_no_concern_of_a_stack_is_held_to_azures_own_rules_alone(others: Others) -> None:
    printed = others.preview(WRONG | {"tags": {}}, code=REFUSED)
    assert reported(printed)["mandatory"] == {"workspaces-keep-a-month-to-two-years"}


def test_a_run_has_a_policy_otherwise_by_its_configuration(others: Others) -> None:
    config = others.place / "policies.json"
    config.write_text(json.dumps({"machines": "advisory", "monitoring": {"at_least_days": 90}}))
    latest = RIGHT | {"version": "latest"}
    found = others.preview(latest, "--policy-pack-config", str(config), code=REFUSED)
    assert reported(found) == {"advisory": {"images-are-pinned"}, "mandatory": {"records-are-kept"}}
    assert "retentionInDays is 60: keep at least 90" in found
    kept = others.preview(latest | {"days": 90}, "--policy-pack-config", str(config))
    assert reported(kept) == {"advisory": {"images-are-pinned"}}


def test_settings_of_the_command_line_are_judged_and_not_the_files(others: Others, lab: Laboratory) -> None:
    """Neither of them has been written to the file that the stack has: what is declared counts."""
    file = lab.project / "Pulumi.dev.yaml"
    before = file.read_text(encoding="utf-8")
    stack = yaml.safe_load(before)["config"]["patchwave:settings"]
    stack["calendar"]["windows"][0]["starts"] = "03:00"
    other = lab.project / "other.yaml"
    other.write_text(yaml.safe_dump({"config": yaml.safe_load(before)["config"] | {"patchwave:settings": stack}}))
    preview = ("pulumi", "preview", "--stack", "dev", "--policy-pack", "policy")
    try:
        by_file = lab.run(*preview, "--config-file", str(other), code=REFUSED)
        by_option = lab.run(*preview, "-c", f"patchwave:settings={json.dumps(stack)}", code=REFUSED)
    finally:
        file.write_text(before, encoding="utf-8")
    for printed in (by_file, by_option):
        within = {"settings-keep-within-the-standard", "schedules-keep-within-the-standard"}
        assert reported(printed)["mandatory"] == within
        assert "calendar.windows: runs 03:00-05:00: keep it within 09:00-17:00" in printed
    assert "mandatory" not in reported(lab.run(*preview))
