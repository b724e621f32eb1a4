"""The system that all hosts share: a Debian root made once, and the layers of software on top of it."""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
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

Tell = Callable[[str], None]


class Base(NamedTuple):
    """A finished base: where it lies, what it is, and whether it was there already."""

    rootfs: Path
    suite: str
    packages: int
    cached: bool


def key(origin: Mirror) -> str:
    """Changes when anything that the base is made from changes."""
    recipe = [origin._asdict(), PACKAGES, (_RECIPE / "customize").read_text()]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]


def is_cached(sandbox: Sandbox) -> bool:
    """Whether nothing has to be built."""
    return (sandbox.cache / f"base-{key(mirror())}").exists()


def base(sandbox: Sandbox, tell: Tell = lambda line: None) -> Base:
    """The base in the cache; built when it is not there, and never seen half-built."""
    origin = mirror()
    home = sandbox.cache / f"base-{key(origin)}"
    cached = home.exists()
    if not cached:
        sandbox.cache.mkdir(parents=True, exist_ok=True)
        _sweep(sandbox.cache, "base-")
        draft = Path(tempfile.mkdtemp(prefix="base-", suffix=f".{os.getpid()}.draft", dir=sandbox.cache))
        draft.chmod(0o755)
        _bootstrap(origin, draft / "rootfs", draft / "log", tell)
        _keep(draft, home)
    count = (home / "rootfs/var/lib/dpkg/status").read_text().count("\nStatus: install ok installed")
    return Base(home / "rootfs", f"{origin.origin} {_release(home / 'rootfs')}", count, cached)


def image(sandbox: Sandbox, tell: Tell = lambda line: None) -> tuple[Path, ...]:
    """The lower directories of the image fieldops-web, top first; the layer is built when it is not there."""
    bottom = base(sandbox, tell).rootfs
    with tempfile.TemporaryDirectory(prefix="patchwave-image-") as scratch:
        deb = package.build(Path(scratch), [package.entry(package.FIRST, package.EPOCH, 1)])
        content = hashlib.sha256(deb.read_bytes() + str(bottom).encode()).hexdigest()[:12]
        home = sandbox.cache / f"image-{IMAGE}-{content}"
        if not home.exists():
            _sweep(sandbox.cache, "image-")
            draft = Path(tempfile.mkdtemp(prefix="image-", suffix=f".{os.getpid()}.draft", dir=sandbox.cache))
            draft.chmod(0o755)
            _install(bottom, draft, deb, tell)
            _keep(draft, home)
    lower = (home / "upper", bottom)
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


def _bootstrap(origin: Mirror, rootfs: Path, log: Path, tell: Tell) -> None:
    archive = f"deb {origin.main} {origin.suite} {' '.join(origin.components)}"
    command = [
        "mmdebstrap", "--mode=root", "--variant=apt", f"--architectures={origin.architecture}",
        f"--include={','.join(PACKAGES)}", f"--customize-hook={_RECIPE / 'customize'}",
        "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
        origin.suite, str(rootfs), archive,
    ]  # fmt: skip
    _logged(command, log, f"building {origin.origin} {origin.suite} from {origin.main}", tell)


def _install(bottom: Path, draft: Path, deb: Path, tell: Tell) -> None:
    """The layer that installing the package leaves; its mount is in a namespace that ends with the command."""
    for name in ("upper", "work", "merged"):
        (draft / name).mkdir()
    options = f"lowerdir={bottom},upperdir={draft / 'upper'},workdir={draft / 'work'},index=off"
    script = (
        'set -eu; mount -t overlay -o "$1" overlay "$2"; mount -t proc proc "$2/proc"; '
        'printf "#!/bin/sh\\nexit 101\\n" >"$2/usr/sbin/policy-rc.d"; chmod 755 "$2/usr/sbin/policy-rc.d"; '
        'cp "$3" "$2/tmp/package.deb"; chroot "$2" dpkg -i /tmp/package.deb; '
        'rm -f "$2/tmp/package.deb" "$2/usr/sbin/policy-rc.d"'
    )
    arguments = [options, str(draft / "merged"), str(deb)]
    command = ["sh", "-c", script, "install", *arguments]
    _logged(command, draft / "log", f"building the image {IMAGE}", tell)


def _logged(command: list[str], log: Path, what: str, tell: Tell) -> None:
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
        alive=lambda spent: tell(f"{what}, {console.duration(spent)}"),
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
