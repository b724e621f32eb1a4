"""The playbooks as Ansible reads them: typed doors, one line a host and step, and no secret in what is kept."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleParserError

from tests.unit.playbook_code import PLAYBOOKS, PLUGINS, load

PLAYS = sorted(path for path in PLAYBOOKS.glob("*.yml"))
ROLES = sorted(path for path in (PLAYBOOKS / "roles").iterdir() if path.is_dir())
MODULES = sorted((PLUGINS / "modules").glob("patchwave_*.py"))
CANARY = "canary-9f2c1e"


def host(name: str, **more: object) -> dict[str, object]:
    plain = {"id": f"/h/{name}", "name": name, "address": "127.0.0.1", "source": "vmss", "fleet": "web", "ring": "rest"}
    return {**plain, "slot": "blue", "os": "Linux", "live": False, **more}


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
    environment.pop("PATCHWAVE_SSH_CONFIG", None)
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
    assert len(path.read_text().splitlines()) <= 20
    assert re.search(r"\bhosts?\b|\bbatch\b|\bfleet\b", only["name"])
    assert only["gather_facts"] is False
    assert not {"serial", "max_fail_percentage", "any_errors_fatal", "ignore_errors"} & set(only)


def passed_to(role: str) -> dict[str, set[str]]:
    """For each playbook with that role: the role's variables that it passes."""
    found = {}
    for path in PLAYS:
        (only,) = yaml.safe_load(path.read_text())
        for entry in only["roles"]:
            if entry["role"] == role:
                given = {*only.get("vars", {}), *entry.get("vars", {})}
                found[path.stem] = {name for name in given if name.startswith(f"{role}_")}
    return found


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_a_roles_door_its_defaults_its_tasks_and_its_callers_agree(role):
    options = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    tasks = (role / "tasks" / "main.yml").read_text()
    used = {name for shown in re.findall(r"{{(.*?)}}", tasks) for name in re.findall(rf"\b{role.name}_[a-z_]+", shown)}
    defaults = role / "defaults" / "main.yml"
    given = yaml.safe_load(defaults.read_text()) if defaults.exists() else {}
    assert used == set(options)
    assert {name for name, option in options.items() if not option.get("required")} == set(given)
    callers = passed_to(role.name)
    assert callers
    for names in callers.values():
        assert {name for name, option in options.items() if option.get("required")} <= names <= set(options)


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_every_task_of_a_role_names_its_step(role):
    for task in yaml.safe_load((role / "tasks" / "main.yml").read_text()):
        assert task["vars"]["patchwave_step"]


def spec_of(path: Path) -> dict[str, dict[str, object]]:
    tree = ast.parse(path.read_text())
    call = next(n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "AnsibleModule")
    spec = next(keyword.value for keyword in call.keywords if keyword.arg == "argument_spec")
    return dict(ast.literal_eval(spec))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_modules_documentation_is_its_door(path):
    documented = yaml.safe_load(load("modules", path.stem).DOCUMENTATION)
    options = {
        name: {key: value for key, value in option.items() if key != "description"}
        for name, option in documented["options"].items()
    }
    assert options == spec_of(path)
    assert documented["module"] == path.stem


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_nothing_on_a_host_goes_through_a_shell(path):
    for file in (path, *(PLUGINS / "module_utils").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.keyword):
                assert node.arg != "shell", file
            if isinstance(node, ast.Attribute):
                assert (getattr(node.value, "id", ""), node.attr) != ("os", "system"), file


LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


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
    told = [(line["host"], line["step"], line["status"]) for line in lines(tmp_path)]
    assert sorted(told) == [
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


def test_what_ansible_censors_is_not_told():
    results = load("callback", "patchwave_results")
    assert results.told({"_ansible_no_log": True, "stdout": CANARY}) == {"censored": True}
    told = results.told({"invocation": {"module_args": CANARY}, "_ansible_x": CANARY, "changed": True})
    assert told == {"changed": True}
