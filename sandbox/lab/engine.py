"""The real Pulumi engine: the machine's own, else the official download, else built from its Go modules."""

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from patchwave.base.errors import Failed, PatchwaveError
from sandbox import console
from sandbox.config import cache_folder
from sandbox.lab import children
from sandbox.lab.processes import last_lines

_MODULES = Path(__file__).parent / "modules"
_CLI = "github.com/pulumi/pulumi/pkg/v3"
_SDK = "github.com/pulumi/pulumi/sdk/v3"
_STAMP = f"{_SDK}/go/common/version.Version"
_LANGUAGE_HOST = "pulumi-language-python"
_HELPERS = (
    "python/cmd/pulumi-language-python-exec",
    "python/dist/pulumi-analyzer-policy-python",
    "python/dist/pulumi-resource-pulumi-python",
)
_INSTALLER_HOST = "get.pulumi.com"
_INSTALLER_LIMIT = 300
_OLDEST = (3, 200)
_OLDEST_GO = (1, 25)

Progress = Callable[[str], None]


class Engine(NamedTuple):
    """A Pulumi command line with its Python language host beside it; `origin` says how it was obtained."""

    path: Path
    version: str
    origin: str
    cached: bool

    @property
    def built(self) -> bool:
        """Whether it came from Go modules, which is so where the official download is out of reach."""
        return self.origin == _BUILT


_FOUND = "found on PATH"
_INSTALLED = "from the official installer"
_BUILT = "built from Go modules"


def pinned(folder: str, module: str) -> str:
    """The version of a module in one of the go.mod files, which are the one place where it is pinned."""
    text = (_MODULES / folder / "go.mod").read_text()
    found = re.search(rf"^\s*(?:require )?{re.escape(module)} v(\S+)", text, re.MULTILINE)
    if not found:
        raise Failed(f"{_MODULES / folder / 'go.mod'} does not require {module}: restore it from git")
    return found[1]


def find() -> Path | None:
    """The engine when there is one already; nothing is made."""
    found = on_path(os.environ) or _cached(cache_folder() / f"engine-{pinned('cli', _CLI)}", "")
    return found.path if found else None


def engine(progress: Progress = lambda line: None) -> Engine:
    """An engine that runs; whatever has to be made is made once, into the cache."""
    version = pinned("cli", _CLI)
    home = cache_folder() / f"engine-{version}"
    found = on_path(os.environ)
    if found and not found.path.is_relative_to(cache_folder()):
        return found
    if cached := _cached(home, version):
        return cached
    home.parent.mkdir(parents=True, exist_ok=True)
    _sweep(home.parent)
    draft = Path(tempfile.mkdtemp(prefix="engine-", suffix=f".{os.getpid()}.draft", dir=home.parent))
    try:
        draft.chmod(0o755)
        (draft / "bin").mkdir()
        origin = _INSTALLED if _install(draft, version, progress) else _BUILT
        if origin == _BUILT:
            _build(draft, version, progress)
        (draft / "engine.json").write_text(json.dumps({"version": version, "origin": origin}) + "\n")
        shutil.rmtree(home, ignore_errors=True)
        draft.rename(home)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Engine(home / "bin" / "pulumi", version, origin, cached=False)


def on_path(environment: Mapping[str, str]) -> Engine | None:
    """The machine's own engine when it is recent and has the Python language host beside it."""
    search = environment.get("PATH", "")
    place = shutil.which("pulumi", path=search)
    if place is None:
        return None
    path = Path(place).resolve()
    if not (path.with_name(_LANGUAGE_HOST).exists() or shutil.which(_LANGUAGE_HOST, path=search)):
        return None
    try:
        done = subprocess.run([place, "version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = done.stdout.strip().removeprefix("v")
    return Engine(path, version, _FOUND, cached=True) if recent(version, _OLDEST) else None


def recent(version: str, oldest: tuple[int, int]) -> bool:
    """Whether MAJOR.MINOR of a version is not below the oldest that will do."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= oldest


def _cached(home: Path, version: str) -> Engine | None:
    try:
        record = json.loads((home / "engine.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    tools = [home / "bin" / name for name in ("pulumi", _LANGUAGE_HOST)]
    return Engine(tools[0], version, record["origin"], cached=True) if all(t.exists() for t in tools) else None


def _install(draft: Path, version: str, progress: Progress) -> bool:
    """Tries the official installer for a bounded time; False when its site is out of reach."""
    try:
        socket.create_connection((_INSTALLER_HOST, 443), timeout=5).close()
    except OSError:
        return False
    script = draft / "install.sh"
    download = ["curl", "-fsSL", "--connect-timeout", "5", "--max-time", "60", "-o", str(script)]
    root = draft / "official"
    install = ["sh", str(script), "--version", version, "--install-root", str(root), "--no-edit-path"]
    try:
        _run([*download, f"https://{_INSTALLER_HOST}"], draft, "the official installer", progress)
        _run(install, draft, f"pulumi {version} with the official installer", progress, limit=_INSTALLER_LIMIT)
    except (PatchwaveError, OSError) as error:
        progress(f"the official installer did not work ({error})")
        shutil.rmtree(root, ignore_errors=True)
        return False
    for tool in (root / "bin").iterdir():
        tool.rename(draft / "bin" / tool.name)
    return (draft / "bin" / "pulumi").exists()


def _build(draft: Path, version: str, progress: Progress) -> None:
    go = _go()
    host = pinned("python-host", _SDK)
    parts = (
        ("cli", f"{_CLI}/cmd/pulumi", "pulumi", version),
        ("python-host", f"{_SDK}/python/cmd/{_LANGUAGE_HOST}", _LANGUAGE_HOST, host),
    )
    for folder, package, name, stamp in parts:
        flags = f"-s -w -X {_STAMP}={stamp}"
        command = [go, "build", "-C", str(_MODULES / folder), "-mod=readonly", "-o", str(draft / "bin" / name)]
        _run([*command, "-ldflags", flags, package], draft, f"building {name} {stamp} from Go modules", progress)
    where = [go, "list", "-C", str(_MODULES / "cli"), "-mod=readonly", "-m", "-f", "{{.Dir}}", _SDK]
    source = Path(subprocess.run(where, check=True, capture_output=True, text=True, env=_environment()).stdout.strip())
    for helper in _HELPERS:
        target = draft / "bin" / Path(helper).name
        shutil.copyfile(source / helper, target)
        target.chmod(0o755)


def _go() -> str:
    usual = os.environ.get("PATH", "") + ":/usr/local/go/bin"
    go = shutil.which("go", path=usual)
    if go is None:
        raise Failed("no Pulumi engine: put pulumi 3.200 or newer on PATH, or Go 1.25 or newer, which builds one")
    shown = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"go(\d+\.\d+)", shown)
    if not found or not recent(found[1], (1, 21)):  # from 1.21 on it fetches the toolchain that go.mod names
        raise Failed(f"{go} is too old to build the engine: put Go {'.'.join(map(str, _OLDEST_GO))} or newer on PATH")
    return go


def _environment() -> dict[str, str]:
    return os.environ | {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""}


def _run(command: list[str], draft: Path, what: str, progress: Progress, limit: float | None = None) -> None:
    log = draft / "log"
    alive = lambda spent: progress(f"{what}, {console.duration(spent)}")  # noqa: E731
    code = children.run_quietly(command, log, env=_environment(), alive=alive, limit=limit)
    if code is None:
        raise Failed(f"{what}: not done after {limit:.0f} s")
    if code:
        kept = draft.with_name("engine-failure.log")
        shutil.copy(log, kept)
        raise Failed(f"{what} failed: {last_lines(kept, 2)} (all of it: {kept})")


def _sweep(cache: Path) -> None:
    """Removes what killed builds left, never what a living one is making."""
    for draft in cache.glob("engine-*.draft"):
        if not Path(f"/proc/{draft.name.split('.')[-2]}").exists():
            shutil.rmtree(draft, ignore_errors=True)
