"""The system that all hosts share: a Debian root made once, and the layers of software on top of it."""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from patchwave.base.errors import Failed
from sandbox import console
from sandbox.config import Sandbox, write_atomically
from sandbox.lab import children
from sandbox.lab.mirror import Mirror, mirror
from sandbox.lab.processes import last_lines
from sandbox.sample import package

IMAGE = "fieldops-web"
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "procps", "iproute2", "ca-certificates",
    "curl", "openssl", "python3", "python3-apt", "python3-psycopg2", "postgresql", "nginx-light", "needrestart",
)  # fmt: skip
_RECIPE = Path(__file__).parent / "image"
_DPKG = (
    'printf "#!/bin/sh\\nexit 101\\n" >"$root/usr/sbin/policy-rc.d"; chmod 755 "$root/usr/sbin/policy-rc.d"; '
    'cp "$1" "$root/tmp/package.deb"; chroot "$root" dpkg -i /tmp/package.deb; '
    'rm -f "$root/tmp/package.deb" "$root/usr/sbin/policy-rc.d"'
)

Progress = Callable[[str], None]


class Base(NamedTuple):
    """A finished base: where it lies, what it is, and whether it was there already."""

    rootfs: Path
    suite: str
    packages: int
    cached: bool


def key(origin: Mirror, packages: Sequence[str] = PACKAGES, recipe: str = "customize") -> str:
    """Changes when anything that the base is made from changes."""
    made_from = [origin._asdict(), packages, (_RECIPE / recipe).read_text()]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:12]


def is_cached(sandbox: Sandbox) -> bool:
    """Whether nothing has to be built."""
    return (sandbox.cache / f"base-{key(mirror())}").exists()


def base(sandbox: Sandbox, progress: Progress = lambda line: None) -> Base:
    """The base in the cache; built when it is not there, and never seen half-built."""
    origin = mirror()
    cached = is_cached(sandbox)
    rootfs = made(sandbox, "base", origin, PACKAGES, "customize", progress)
    count = (rootfs / "var/lib/dpkg/status").read_text().count("\nStatus: install ok installed")
    return Base(rootfs, f"{origin.origin} {_release(rootfs)}", count, cached)


def made(sandbox: Sandbox, name: str, origin: Mirror, packages: Sequence[str], recipe: str, progress: Progress) -> Path:
    """The root of these packages that the recipe of that name has customized; built when the cache has none."""
    home = sandbox.cache / f"{name}-{key(origin, packages, recipe)}"
    if not home.exists():
        draft = _draft(sandbox, name)
        _bootstrap(origin, draft / "rootfs", draft / "log", packages, recipe, progress)
        _keep(draft, home)
    return home / "rootfs"


def layered(
    sandbox: Sandbox, name: str, bottom: Path, script: str, arguments: Sequence[str], progress: Progress
) -> tuple[Path, ...]:
    """The lower directories of an image, top first: what the script changes in the bottom's `$root` is the layer.

    The layer is built when the cache has none of that name.
    """
    home = sandbox.cache / f"image-{name}"
    if not home.exists():
        draft = _draft(sandbox, "image")
        _install(bottom, draft, name, script, arguments, progress)
        _keep(draft, home)
    return home / "upper", bottom


def image(sandbox: Sandbox, progress: Progress = lambda line: None) -> tuple[Path, ...]:
    """The lower directories of the image fieldops-web, top first; the layer is built when it is not there."""
    bottom = base(sandbox, progress).rootfs
    with tempfile.TemporaryDirectory(prefix="patchwave-image-") as scratch:
        deb = package.build(Path(scratch), [package.entry(package.FIRST, package.EPOCH, 1)])
        content = hashlib.sha256(deb.read_bytes() + str(bottom).encode()).hexdigest()[:12]
        lower = layered(sandbox, f"{IMAGE}-{content}", bottom, _DPKG, [str(deb)], progress)
    record = {IMAGE: {package.FIRST: [str(path) for path in lower]}}
    write_atomically(sandbox.folder / "images.json", json.dumps(record, indent=1) + "\n")
    return lower


def image_lower(sandbox: Sandbox, name: str, version: str) -> tuple[Path, ...]:
    """The lower directories of an image version that `image` has prepared."""
    try:
        record = json.loads((sandbox.folder / "images.json").read_text())
        return tuple(Path(path) for path in record[name][version])
    except (FileNotFoundError, KeyError):
        raise Failed(f"image {name} {version} is not in this sandbox: run `make up`, it prepares its images") from None


def _draft(sandbox: Sandbox, name: str) -> Path:
    """A folder in the cache that becomes a finished one by a rename."""
    sandbox.cache.mkdir(parents=True, exist_ok=True)
    _sweep(sandbox.cache, f"{name}-")
    draft = Path(tempfile.mkdtemp(prefix=f"{name}-", suffix=f".{os.getpid()}.draft", dir=sandbox.cache))
    draft.chmod(0o755)
    return draft


def _bootstrap(
    origin: Mirror, rootfs: Path, log: Path, packages: Sequence[str], recipe: str, progress: Progress
) -> None:
    archive = f"deb {origin.main} {origin.suite} {' '.join(origin.components)}"
    command = [
        "mmdebstrap", "--mode=root", "--variant=apt", f"--architectures={origin.architecture}",
        f"--include={','.join(packages)}", f"--customize-hook={_RECIPE / recipe}",
        "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
        origin.suite, str(rootfs), archive,
    ]  # fmt: skip
    _logged(command, log, f"building {origin.origin} {origin.suite} from {origin.main}", progress)


def _install(bottom: Path, draft: Path, name: str, script: str, arguments: Sequence[str], progress: Progress) -> None:
    """The layer that the script leaves; its mount is in a namespace that ends with the command."""
    for folder in ("upper", "work", "merged"):
        (draft / folder).mkdir()
    options = f"lowerdir={bottom},upperdir={draft / 'upper'},workdir={draft / 'work'},index=off"
    mounted = 'set -eu; root=$2; mount -t overlay -o "$1" overlay "$root"; mount -t proc proc "$root/proc"; shift 2; '
    command = ["sh", "-c", mounted + script, "install", options, str(draft / "merged"), *arguments]
    _logged(command, draft / "log", f"building the image {name}", progress)


def _logged(command: list[str], log: Path, what: str, progress: Progress) -> None:
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    environment |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    kept = log.parent.with_name("last-failure.log")
    code = children.run_quietly(
        [*children.CONTAINED, *command],
        log,
        env=environment,
        alive=lambda spent: progress(f"{what}, {console.duration(spent)}"),
    )
    if code:
        shutil.copy(log, kept)
        shutil.rmtree(log.parent, ignore_errors=True)
        raise Failed(f"{what} failed: {last_lines(kept, 2)} (all of it: {kept})")


def _keep(draft: Path, home: Path) -> None:
    try:
        draft.rename(home)
    except OSError:
        shutil.rmtree(draft)  # someone else was faster; theirs is as good
        if not home.exists():
            raise


def _sweep(cache: Path, prefix: str) -> None:
    """Removes what killed builds left, never what a living one is making."""
    for draft in cache.glob(f"{prefix}*.draft"):
        owner = int(draft.name.split(".")[-2])
        if not Path(f"/proc/{owner}").exists() or time.time() - draft.stat().st_ctime > 86400:
            shutil.rmtree(draft, ignore_errors=True)


def _release(rootfs: Path) -> str:
    for line in (rootfs / "etc/os-release").read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "VERSION_ID":
            return value.strip('"')
    return "?"
