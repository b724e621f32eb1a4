"""The playbooks as Ansible reads them: typed options, one line a host and step, and no secret in what is kept."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest
import yaml
from ansible.errors import AnsibleParserError

from patchwave.base.errors import Failed
from patchwave.methods.ansible import run
from tests.unit import builders
from tests.unit.playbook_code import PLAYBOOKS, PLUGINS, load

PLAYS = sorted(path for path in PLAYBOOKS.glob("*.yml"))
MODULES = sorted((PLUGINS / "modules").glob("patchwave_*.py"))
CANARY = "canary-9f2c1e"


def host(name: str, **more: object) -> dict[str, object]:
    return builders.host("web-0").model_dump(mode="json") | {"name": name, "address": "127.0.0.1"} | more


def ansible(
    tmp_path: Path, *arguments: str, hosts: object = None, variables: object = None
) -> subprocess.CompletedProcess[str]:
    inventory, extra = tmp_path / "hosts.json", tmp_path / "vars.json"
    inventory.write_text(json.dumps([host("web-0")] if hosts is None else hosts))
    extra.write_text(json.dumps(variables or {}))
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(PLAYBOOKS / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "ansible"),
        "PATCHWAVE_INVENTORY_FILE": str(inventory),
        "PATCHWAVE_RESULTS": str(tmp_path / "results.jsonl"),
    }
    environment["PATCHWAVE_SSH_CONFIG"] = os.devnull
    argv = [sys.executable, "-m", "ansible", "playbook", "-i", str(PLAYBOOKS / "inventory" / "patchwave.yml")]
    argv += ["-e", f"@{extra}", *arguments]
    return subprocess.run(
        argv, cwd=PLAYBOOKS, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def play(tmp_path: Path, tasks: list[dict[str, object]]) -> Path:
    path = tmp_path / "play.yml"
    path.write_text(yaml.safe_dump([{"name": "Try", "hosts": "all", "gather_facts": False, "tasks": tasks}]))
    return path


def lines(tmp_path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]


def test_every_playbook_passes_ansibles_own_check(tmp_path):
    done = ansible(tmp_path, "--syntax-check", *map(str, PLAYS))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", PLAYS, ids=lambda path: path.stem)
def test_a_playbook_is_short_and_says_whom_it_touches(path):
    (only,) = yaml.safe_load(path.read_text())
    assert len(path.read_text().splitlines()) <= 50
    assert re.search(r"\bhosts?\b|\bbatch\b|\bfleet\b", only["name"])
    assert only["gather_facts"] is False
    assert not {"serial", "max_fail_percentage", "any_errors_fatal", "ignore_errors"} & set(only)


def declared(module: ModuleType) -> dict[str, dict[str, object]]:
    """The options of a module; those of a service are compared with the settings by another test."""
    with mock.patch.object(module, "AnsibleModule") as made, mock.patch.object(module, "serve"):
        module.main()
    return {
        name: {key: value for key, value in option.items() if key not in ("options", "required_if")}
        for name, option in made.call_args.kwargs["argument_spec"].items()
    }


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_modules_documentation_names_its_options(path):
    module = load("modules", path.stem)
    documented = yaml.safe_load(module.DOCUMENTATION)
    options = {
        name: {key: value for key, value in option.items() if key != "description"}
        for name, option in documented["options"].items()
    }
    assert options == declared(module)
    assert documented["module"] == path.stem


@pytest.mark.parametrize("path", PLAYS, ids=lambda path: path.stem)
def test_a_playbook_gives_a_module_what_it_needs_and_nothing_it_does_not_know(path):
    (only,) = yaml.safe_load(path.read_text())
    for task in only["tasks"]:
        modules = [key for key in task if key.startswith("patchwave_")]
        if not modules:
            assert task["vars"]["patchwave_step"]
        for name in modules:
            options = declared(load("modules", name))
            assert {key for key, option in options.items() if option.get("required")} <= set(task[name]) <= set(options)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_nothing_on_a_host_goes_through_a_shell(path):
    for file in (path, *(PLUGINS / "module_utils").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.keyword):
                assert node.arg != "shell", file
            if isinstance(node, ast.Attribute):
                assert (getattr(node.value, "id", ""), node.attr) != ("os", "system"), file


LOCAL = {"ansible_connection": "local", "ansible_become": "no", "ansible_python_interpreter": sys.executable}


def test_what_a_host_reported_is_on_disk_line_by_line(tmp_path):
    tasks = [
        {"name": "No step", "ansible.builtin.command": "true"},
        {
            "name": "A secret step",
            "ansible.builtin.command": f"echo {CANARY}",
            "no_log": True,
            "vars": {"patchwave_step": "drain"},
        },
        {"name": "Left out", "ansible.builtin.command": "true", "when": False, "vars": {"patchwave_step": "reboot"}},
        {
            "name": "One fails",
            "ansible.builtin.command": {"argv": ["sh", "-c", "echo because >&2; exit 3"]},
            "vars": {"patchwave_step": "transaction"},
            "when": "inventory_hostname == 'web-1'",
        },
        {"name": "Ends", "ansible.builtin.command": "true", "vars": {"patchwave_step": "verify"}},
    ]
    hosts = [host("web-0"), host("web-1")]
    pairs = [option for key, value in LOCAL.items() for option in ("-e", f"{key}={value}")]
    done = ansible(tmp_path, str(play(tmp_path, tasks)), *pairs, hosts=hosts)
    written = [(line["host"], line["step"], line["status"]) for line in lines(tmp_path)]
    assert sorted(written) == [
        ("web-0", "drain", "ok"),
        ("web-0", "reboot", "skipped"),
        ("web-0", "transaction", "skipped"),
        ("web-0", "verify", "ok"),
        ("web-1", "drain", "ok"),
        ("web-1", "reboot", "skipped"),
        ("web-1", "transaction", "failed"),
    ]
    assert all(set(line) == {"host", "task", "step", "status", "result"} for line in lines(tmp_path))
    (failed,) = [line for line in lines(tmp_path) if line["status"] == "failed"]
    assert "because" in str(failed["result"])
    assert CANARY not in (tmp_path / "results.jsonl").read_text() + done.stdout + done.stderr
    assert "invocation" not in (tmp_path / "results.jsonl").read_text()
    assert re.search(r"^  web-1  transaction  FAILED", done.stdout, re.MULTILINE)


def test_a_host_that_cannot_be_reached_is_reported_and_never_left_out(tmp_path):
    tasks = [{"name": "Ask", "ansible.builtin.command": "true", "vars": {"patchwave_step": "scan"}}]
    done = ansible(tmp_path, str(play(tmp_path, tasks)), "-e", "ansible_port=1", "-e", "ansible_ssh_retries=0")
    (line,) = lines(tmp_path)
    assert (line["host"], line["step"], line["status"]) == ("web-0", "scan", "unreachable")
    assert re.search(r"^  web-0  scan +UNREACHABLE", done.stdout, re.MULTILINE)
    assert len(done.stdout.strip().splitlines()[0]) < 500


@pytest.mark.parametrize(
    ("hosts", "complaint"),
    [
        ([], "no host"),
        ([host("-oProxyCommand=id")], "0.name"),
        ([host("web-0", address="-oProxyCommand=id")], "0.address"),
        ([host("web-0", ring="a b")], "0.ring"),
        ([host("web-0", service="{{ x }}")], "0.service"),
        ([host("web-0", id="/h/{{ lookup('pipe', 'id') }}")], "0.id"),
        ([host("web-0", surprise=True)], "surprise"),
        ([{"name": "web-0"}], "validation error"),
        ("not a list", "validation error"),
    ],
)
def test_an_inventory_is_exactly_hosts_or_an_error(tmp_path, monkeypatch, hosts, complaint):
    path = tmp_path / "hosts.json"
    path.write_text(json.dumps(hosts))
    monkeypatch.setenv("PATCHWAVE_INVENTORY_FILE", str(path))
    with pytest.raises((AnsibleParserError, ValueError), match=complaint):
        load("inventory", "patchwave").planned()


def test_a_wrong_inventory_stops_everything(tmp_path):
    done = ansible(tmp_path, str(PLAYBOOKS / "scan.yml"), hosts=[])
    assert done.returncode != 0
    assert "a wave over nothing is an error" in done.stderr
    assert not (tmp_path / "results.jsonl").exists() or not lines(tmp_path)


HIDDEN = ["{{ lookup('pipe', 'touch PWN') }}", "{% for x in y %}", {"deep": ["ok", {"{{ x }}": 1}]}]


@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_template_is_found_wherever_it_hides(hidden):
    assert load("inventory", "patchwave").template_in({"advisories": ["plain", hidden]}, "pw_release")
    assert not load("inventory", "patchwave").template_in({"advisories": ["plain", 1, None]}, "pw_release")


def test_a_template_in_a_variable_is_never_run(tmp_path):
    variables = {"pw_release": {"advisories": HIDDEN[:1]}}
    done = ansible(tmp_path, str(PLAYBOOKS / "scan.yml"), variables=variables)
    assert done.returncode != 0
    assert "pw_release.advisories.0 holds a template" in done.stderr
    assert not (PLAYBOOKS / "PWN").exists()


def test_the_step_of_a_task_is_what_it_says_or_its_own_modules_name():
    results = load("callback", "patchwave_results")
    assert results.step_of("patchwave_scan", {}) == "scan"
    assert results.step_of("ansible.legacy.patchwave_scan", {}) == "scan"
    assert results.step_of("ansible.builtin.reboot", {"patchwave_step": "reboot"}) == "reboot"
    assert results.step_of("ansible.builtin.command", {}) is None


def test_what_ansible_censors_is_not_recorded():
    results = load("callback", "patchwave_results")
    assert results.recorded({"_ansible_no_log": True, "stdout": CANARY}) == {"censored": True}
    recorded = results.recorded({"invocation": {"module_args": CANARY}, "_ansible_x": CANARY, "changed": True})
    assert recorded == {"changed": True}


HOSTILE = "\x1b]0;owned\x07\x1b[31mred\x1b[0m\r\u202egnp.exe\x9b2J\x00"


def test_what_a_host_writes_reaches_neither_a_terminal_nor_a_record_as_an_escape():
    recorded = load("callback", "patchwave_results").recorded({"msg": HOSTILE, "rows": [{HOSTILE: (1, HOSTILE)}]})
    assert recorded == {"msg": "redgnp.exe2J", "rows": [{"redgnp.exe2J": [1, "redgnp.exe2J"]}]}
    assert load("callback", "patchwave").one_line(f"a\n{HOSTILE}\tb") == "a redgnp.exe2J b"


@pytest.mark.parametrize(("duration", "whole"), [("PT5M", 300), ("PT0.5S", 1), ("PT1H", 3600)])
def test_a_reboot_is_waited_for_as_long_as_the_settings_say(duration, whole):
    assert load("filter", "patchwave").patchwave_seconds(duration) == whole


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [({"os": "Windows Server 2022"}, "playbooks are for Linux"), ({"method": "update_manager"}, "update_manager")],
)
def test_a_host_that_no_playbook_may_touch_is_an_error_and_not_a_skip(tmp_path, changed, complaint):
    hosts = [builders.host("web-0"), builders.host("web-1").model_copy(update=changed)]
    with pytest.raises(Failed, match=f"web-1.*{complaint}"):
        run(tmp_path, "scan", hosts, variables={})


@pytest.mark.parametrize(("uid", "line"), [("0", "ran\n"), ("1000", "sudo -H -n sh\nran\n")])
def test_root_stays_root_and_anybody_else_becomes_root_by_sudo(tmp_path, uid, line):
    for name, text in {"id": f"echo {uid}", "sudo": 'echo "sudo $1 $2 $(basename "$3")"; shift 2; exec "$@"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    plugin = load("become", "patchwave").BecomeModule()
    shell = mock.Mock(ECHO="echo", COMMAND_SEP=";", executable="/bin/sh")
    command = plugin.build_become_command("echo 'ran'", shell)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", command], env={"PATH": path}, capture_output=True, text=True, check=True)
    assert done.stdout.replace(f"{plugin.success}\n", "") == line
    assert plugin.success in done.stdout
