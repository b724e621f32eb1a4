"""How a host is reached: the ssh configuration decides, by name; Azure gives an address where that one has none."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from patchwave.azure.inventory import HOSTS
from patchwave.base.errors import UsageError
from tests.unit import builders
from tests.unit.playbook_code import PLAYBOOKS, load

inventory = load("inventory", "patchwave")
HOST = builders.host("prod-blue-0").model_copy(update={"address": "10.40.0.4"})


def reached(tmp_path: Path, text: str) -> dict[str, str]:
    """What ssh makes of the arguments that Ansible gives it for the host."""
    config, planned = tmp_path / "ssh config", tmp_path / "hosts.json"
    config.write_text(text)
    planned.write_bytes(HOSTS.dump_json((HOST,)))
    environment = {**os.environ, "ANSIBLE_CONFIG": str(PLAYBOOKS / "ansible.cfg")}
    environment |= {"PATCHWAVE_SSH_CONFIG": str(config), "PATCHWAVE_INVENTORY_FILE": str(planned)}
    argv = [sys.executable, "-m", "ansible.cli.inventory", "-i", str(PLAYBOOKS / "inventory" / "patchwave.yml")]
    argv += ["--host", HOST.name]
    done = subprocess.run(argv, cwd=PLAYBOOKS, env=environment, capture_output=True, text=True, check=True)
    known = {
        key: value.get("__ansible_unsafe", value) if isinstance(value, dict) else value
        for key, value in json.loads(done.stdout).items()
    }
    assert "ansible_user" not in known
    assert (known["pw_service"], known["pw_method"], known["pw_address"]) == (HOST.service, "apt", "10.40.0.4")
    argv = ["ssh", "-G", *shlex.split(known["ansible_ssh_common_args"]), known["ansible_host"]]
    lines = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    return {name: value for name, _, value in (line.partition(" ") for line in reversed(lines))}


BY_NAME = """
Host prod-blue-0
  HostName 10.99.0.1
  User patchwave
  Port 2222
  IdentityFile /keys/prod
  ProxyJump bastion.example.org
  StrictHostKeyChecking no
"""


def test_a_configuration_by_name_decides_address_user_port_key_and_proxy_but_accepts_no_unknown_key(tmp_path):
    found = reached(tmp_path, BY_NAME)
    names = ("hostname", "user", "port", "identityfile", "proxyjump", "stricthostkeychecking")
    assert [found[name] for name in names] == [
        "10.99.0.1",
        "patchwave",
        "2222",
        "/keys/prod",
        "bastion.example.org",
        "true",
    ]


def test_without_an_address_in_the_configuration_azures_is_used(tmp_path):
    found = reached(tmp_path, "Host prod-*\n  User patchwave\n  ProxyCommand connect %h %p\n")
    assert (found["hostname"], found["user"], found["proxycommand"]) == ("10.40.0.4", "patchwave", "connect %h %p")


def addresses(tmp_path: Path, text: str) -> dict[str, str]:
    config = tmp_path / "config"
    config.write_text(text)
    found: dict[str, str] = inventory.addresses([HOST], config)
    return found


AZURE = {HOST.name: HOST.address}
CONFIGURATIONS = [
    ("", AZURE),
    ("Host other\n  HostName 10.9.9.9\n", AZURE),
    ("Host prod-*\n  HostName %h.example.org\n", {}),
    ("Host *\n  HostName %h\n", AZURE),
    ("Include {folder}/more-*\n", {}),
    ('Include "{folder}/none" {folder}/more-1 # both\n', {}),
    ("Host other\n  Include {folder}/more-1\n", AZURE),
    ("Match host prod-blue-0\n  hostname=10.9.9.9\n", {}),
]


@pytest.mark.parametrize(("text", "expected"), CONFIGURATIONS)
def test_a_host_name_counts_wherever_the_configuration_sets_it(tmp_path, text, expected):
    (tmp_path / "more-1").write_text("Host prod-blue-0\n  HostName 10.9.9.9\n")
    assert addresses(tmp_path, text.replace("{folder}", str(tmp_path))) == expected


def test_configurations_that_include_each_other_end(tmp_path):
    (tmp_path / "config").write_text(f"Include {tmp_path}/config\n")
    assert inventory.addresses([HOST], tmp_path / "config") == AZURE


def test_a_configuration_that_is_missing_or_wrong_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"PATCHWAVE_SSH_CONFIG=.*no such file"):
        inventory.addresses([HOST], tmp_path / "none")
    with pytest.raises(UsageError, match=r"ssh -G prod-blue-0: .*fix the ssh configuration") as failed:
        addresses(tmp_path, "Host prod-blue-0\n  HostName x\n  Surprise yes\n")
    assert "\n" not in str(failed.value)


def test_a_hosts_name_is_never_an_option(tmp_path):
    marker = tmp_path / "marker"
    hostile = HOST.model_construct(**HOST.model_dump() | {"name": f"-oProxyCommand=touch {marker}"})
    config = tmp_path / "config"
    config.write_text("Host x\n  HostName y\n")
    with pytest.raises(UsageError):
        inventory.addresses([hostile], config)
    assert not marker.exists()


def test_a_kept_connection_is_shared_only_with_the_same_machine(tmp_path):
    other = HOST.model_copy(update={"address": "10.40.0.5"})
    names = {inventory.connection(*one) for one in ((HOST, None), (other, None), (HOST, tmp_path))}
    assert len(names) == 3
    assert inventory.connection(HOST, None) in names
