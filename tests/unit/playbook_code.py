"""Imports the code that Ansible sends to hosts, under the names by which it imports itself there."""

import importlib.util
from pathlib import Path
from types import ModuleType

import ansible.module_utils

PROJECT = Path(__file__).parents[2]
PLAYBOOKS = PROJECT / "playbooks"
PLUGINS = PLAYBOOKS / "plugins"

if str(PLUGINS / "module_utils") not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(str(PLUGINS / "module_utils"))


def load(kind: str, name: str) -> ModuleType:
    """A plugin's file as a module."""
    spec = importlib.util.spec_from_file_location(f"playbooks_{kind}_{name}", PLUGINS / kind / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
