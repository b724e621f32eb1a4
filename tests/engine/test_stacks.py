"""The real engine on the emulator, without hosts: each stack is made, refreshed, previewed and destroyed."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from patchwave.config.settings import load_stack, stack_path
from patchwave.config.standard import StackName
from sandbox import environment
from sandbox.azure.arm.machines import enrol
from sandbox.azure.plugins.install import install_plugins
from sandbox.azure.server.endpoints import Endpoints
from sandbox.config import Sandbox
from sandbox.estate import Estate, joining
from sandbox.lab import engine
from sandbox.stack import Stack
from tests.clients import serving
from tests.laboratory import copied
from tests.unit.builders import STANDARD

MINUTES = 60.0


class Standing(NamedTuple):
    """A project of the test's own, and the endpoints that its stacks are made behind."""

    sandbox: Sandbox
    endpoints: Endpoints
    engine: Path


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    project = tmp_path_factory.mktemp("stacks") / "project"
    copied(project)
    (project / ".venv").symlink_to(sys.prefix)
    sandbox = Sandbox.open(project, "stacks")
    for folder in (sandbox.log, sandbox.run):
        folder.mkdir()
    found = engine.engine().path
    environment.make_keys(sandbox)
    install_plugins(sandbox, found, official=False)
    with serving(sandbox) as (endpoints, _):
        yield Standing(sandbox, endpoints, found)


def pulumi(stack: Stack, *arguments: str) -> None:
    command = [str(stack.engine), *arguments, "--stack", stack.name, "--config-file", str(stack._settings)]
    done = subprocess.run(
        command, cwd=stack.sandbox.project, env=stack.environment, capture_output=True, text=True, timeout=5 * MINUTES,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def lets_go_of_deleted_backups(project: Path, name: StackName) -> bool:
    """What a stack needs before it is taken down for good: its vault keeps nothing that is deleted, and may."""
    file, standard = stack_path(project, name), project / "policy" / "standard.yaml"
    text, rules = file.read_text(encoding="utf-8"), standard.read_text(encoding="utf-8")
    file.write_text(re.sub(r"soft_delete_days: \d+", "soft_delete_days: null", text), encoding="utf-8")
    lifted = "\n  prod:\n    deleted-backups-can-be-had-back: {mode: disabled}\n    records-are-kept"
    standard.write_text(rules.replace("\n  prod:\n    records-are-kept", lifted), encoding="utf-8")
    return file.read_text(encoding="utf-8") != text


@pytest.mark.parametrize("name", STANDARD.stacks)
def test_a_stack_is_made_does_not_drift_and_leaves_nothing(standing: Standing, name: StackName) -> None:
    for one in joining(load_stack(standing.sandbox.project, name).settings, name, Estate()):
        enrol(standing.endpoints.manager, {"name": one.name, "resourceGroup": one.group})
    before = {row.key for row in standing.endpoints.store.all()}
    stack = Stack(standing.sandbox, standing.engine, name)
    stack.prepare()
    assert stack.up(wave=False), stack.problem()
    assert len(standing.endpoints.store.all()) > len(before) + 20
    pulumi(stack, "refresh", "--yes", "--skip-preview", "--expect-no-changes")
    pulumi(stack, "preview", "--expect-no-changes")
    if lets_go_of_deleted_backups(standing.sandbox.project, name):
        assert stack.up(wave=False), stack.problem()
    assert stack.destroy(), stack.problem()
    assert {row.key for row in standing.endpoints.store.all()} == before
