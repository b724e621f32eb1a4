"""Where one sandbox keeps everything, and the addresses it owns."""

import hashlib
import ipaddress
import json
import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Self

from patchwave.base.errors import Failed, UsageError

DEFAULT_NAME = "lab"
POOL = tuple(IPv4Network(f"10.{second}.0.0/16") for second in range(213, 221))
HTTPS_PORT = 8443
IDENTITY_PORT = 8080
APT_CACHE_PORT = 3142
REPOSITORY_PORT = 8088

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


@dataclass(frozen=True)
class Sandbox:
    """One emulator of Azure: a folder, a bridge, a subnet and a loopback address of its own."""

    name: str
    project: Path
    folder: Path
    subnet: IPv4Network

    @classmethod
    def open(cls, project: Path, name: str = DEFAULT_NAME) -> Self:
        """The sandbox of that name in the project; its subnet is chosen once and kept in sandbox.json."""
        if not _NAME.fullmatch(name):
            raise UsageError(f"sandbox name {name!r}: use lower-case letters, digits and dashes, at most 31")
        project = project.resolve()
        folder = project / (".sandbox" if name == DEFAULT_NAME else f".sandbox-{name}")
        record = folder / "sandbox.json"
        folder.mkdir(mode=0o755, exist_ok=True)
        try:
            subnet = IPv4Network(json.loads(record.read_text())["subnet"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            subnet = choose_subnet(routed_networks(), _digest(project, name))
            write_atomically(record, json.dumps({"name": name, "subnet": str(subnet)}, indent=1) + "\n")
        return cls(name=name, project=project, folder=folder, subnet=subnet)

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that no other project or name shares."""
        return _digest(self.project, self.name)

    @property
    def bridge(self) -> str:
        return f"pw-{self.digest}"

    @property
    def gateway(self) -> str:
        return str(next(self.subnet.hosts()))

    @property
    def loopback(self) -> str:
        first, second = bytes.fromhex(self.digest)[:2]
        return f"127.{1 + first % 254}.{second}.1"

    def public_address(self, index: int) -> str:
        """The loopback address that plays the public address with this number."""
        network = IPv4Address(self.loopback) - 1
        return str(network + 10 + index)

    @property
    def endpoint(self) -> str:
        return f"https://{self.loopback}:{HTTPS_PORT}"

    @property
    def identity(self) -> str:
        return f"http://{self.loopback}:{IDENTITY_PORT}"

    @property
    def cache(self) -> Path:
        """What every sandbox of this user shares and `down` keeps: engine, base, packages."""
        return cache_folder()

    @property
    def hosts(self) -> Path:
        return self.folder / "hosts"

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def repo(self) -> Path:
        return self.folder / "repo"

    @property
    def haproxy(self) -> Path:
        return self.folder / "haproxy"

    @property
    def home(self) -> Path:
        """PULUMI_HOME."""
        return self.folder / "home"

    @property
    def state(self) -> Path:
        """The file backend's folder."""
        return self.folder / "state"

    @property
    def env(self) -> Path:
        return self.folder / "env"

    @property
    def store(self) -> Path:
        return self.folder / "store.sqlite"

    @property
    def ssh_config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def allowed_signers(self) -> Path:
        return self.folder / "allowed_signers"

    @property
    def admin_key(self) -> Path:
        """The ssh key with which root logs in on the hosts."""
        return self.keys / "admin"

    @property
    def runner_key(self) -> Path:
        """The ssh key that signs evidence."""
        return self.keys / "runner"

    @property
    def people(self) -> Path:
        """The ssh keys with which the holders of roles sign in rehearsals."""
        return self.keys / "people"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def ca_bundle(self) -> Path:
        return self.folder / "ca-bundle.pem"

    @property
    def tls_certificate(self) -> Path:
        return self.folder / "tls.pem"

    @property
    def tls_key(self) -> Path:
        return self.folder / "tls.key"


def cache_folder() -> Path:
    """The cache outside the clone; XDG's rules."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "patchwave"


def choose_subnet(taken: Iterable[IPv4Network], digest: str) -> IPv4Network:
    """A /24 of the pool that overlaps nothing taken; the digest decides where the search begins."""
    occupied = [network for network in taken if network.prefixlen > 0]
    candidates = [subnet for block in POOL for subnet in block.subnets(new_prefix=24)]
    start = int(digest, 16) % 256
    for candidate in candidates[start:] + candidates[:start]:
        if not any(candidate.overlaps(network) for network in occupied):
            return candidate
    raise Failed(f"every /24 from {POOL[0]} to {POOL[-1]} is routed here: free one, the lab needs it for its hosts")


def routed_networks(*, apart_from: str = "") -> list[IPv4Network]:
    """Every IPv4 network in the machine's routing tables and on its interfaces, one bridge left out."""
    found = []
    for command in (["ip", "-j", "-4", "route", "show", "table", "all"], ["ip", "-j", "-4", "address"]):
        for entry in json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout or "[]"):
            if apart_from and apart_from in (entry.get("dev"), entry.get("ifname")):
                continue
            texts = [entry["dst"]] if "dst" in entry else []
            texts += [f"{one['local']}/{one['prefixlen']}" for one in entry.get("addr_info", [])]
            for text in texts:
                if text != "default":
                    found.append(ipaddress.IPv4Network(text, strict=False))
    return found


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replaces a file so that a reader or a crash sees the old text or the new one, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _digest(project: Path, name: str) -> str:
    return hashlib.sha256(f"{project}\0{name}".encode()).hexdigest()[:8]
