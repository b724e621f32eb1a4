"""The engine's plugin protocol without the rest of Pulumi's SDK, whose import is most of a plugin's start."""

import importlib.util
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = ("pulumi", "pulumi.runtime")


@contextmanager
def without_the_sdk() -> Iterator[None]:
    """Lets the protocol's modules inside of these packages be imported without the packages' own code.

    Whoever wants all of a package later gets it. ImportError when one is not installed.
    """
    stubs = [name for name in PACKAGES if name not in sys.modules]
    for name in stubs:
        module = types.ModuleType(name)
        module.__path__ = [str(_folder(name))]
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in stubs:
            del sys.modules[name]


def _folder(name: str) -> Path:
    package, *inner = name.split(".")
    spec = importlib.util.find_spec(package) if package not in sys.modules else None
    folders = list(spec.submodule_search_locations or ()) if spec else list(sys.modules[package].__path__)
    if not folders:
        raise ImportError(f"{package} is not installed in this environment")
    return Path(folders[0], *inner)
