"""Puts the sandbox's plugins where the engine looks for them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from patchwave.base.errors import Failed
from sandbox.config import Sandbox

OFFICIAL = "the official plugin"
STAND_IN = "the sandbox's emulator"
_OFFICIAL_PATIENCE = 10
_MODULES = {"azure-native": "sandbox.azure.plugins.plugin", "command": "sandbox.azure.plugins.command_plugin"}


def install_plugins(sandbox: Sandbox, pulumi: Path, *, official: bool = True) -> dict[str, str]:
    """Both plugins are in PULUMI_HOME afterwards; reports of each where it comes from.

    The command plugin is the official one where it can be had; `official=False` does not try.
    """
    sandbox.home.mkdir(parents=True, exist_ok=True)
    _install(sandbox, pulumi, "azure-native")
    mark = sandbox.home / ".command-plugin"
    folder = sandbox.home / "plugins" / f"resource-command-v{_version('command')}"
    if not (mark.exists() and mark.read_text() == OFFICIAL and folder.exists()):
        origin = OFFICIAL if official and not mark.exists() and _fetch(sandbox, pulumi) else STAND_IN
        if origin == STAND_IN:
            _install(sandbox, pulumi, "command")
        mark.write_text(origin)
    return {"azure-native": STAND_IN, "command": mark.read_text()}


def launcher(python: Path, project: Path, module: str) -> str:
    """The plugin's executable: this environment's Python, whatever is on PATH."""
    return f'#!/bin/sh\nPYTHONPATH="{project}" exec "{python}" -m {module} "$@"\n'


def _version(name: str) -> str:
    return metadata.version(f"pulumi-{name}")


def _install(sandbox: Sandbox, pulumi: Path, name: str) -> None:
    program = f"pulumi-resource-{name}"
    script = launcher(Path(sys.executable), Path(__file__).parents[3], _MODULES[name])
    there = sandbox.home / "plugins" / f"resource-{name}-v{_version(name)}" / program
    if there.exists() and there.read_text() == script:
        return
    shutil.rmtree(there.parent, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="patchwave-plugin-") as folder:
        (Path(folder) / program).write_text(script)
        (Path(folder) / program).chmod(0o755)
        _run(sandbox, pulumi, "plugin", "install", "resource", name, _version(name), "-f", folder, "--reinstall")


def _fetch(sandbox: Sandbox, pulumi: Path) -> bool:
    try:
        _run(
            sandbox,
            pulumi,
            "plugin",
            "install",
            "resource",
            "command",
            _version("command"),
            patience=_OFFICIAL_PATIENCE,
        )
    except Failed:
        return False
    return True


def _run(sandbox: Sandbox, pulumi: Path, *arguments: str, patience: float = 60) -> None:
    environment = {**os.environ, "PULUMI_HOME": str(sandbox.home), "PULUMI_SKIP_UPDATE_CHECK": "1"}
    command = f"`pulumi {' '.join(arguments)}`"
    try:
        done = subprocess.run(
            [str(pulumi), *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=patience, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Failed(f"{command} did not end within {patience:.0f} s") from None
    if done.returncode:
        raise Failed(f"{command} failed: {' '.join((done.stderr or done.stdout).split())}")
