"""Real hosts on this machine: systemd-nspawn over overlayfs, reached over ssh by name or address."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from patchwave.base.errors import Failed
from sandbox.config import Sandbox, write_atomically
from sandbox.lab import cgroups, processes, repository
from sandbox.lab.mirror import mirror, proxy_settings

_SUPERVISE = Path(__file__).parent / "image" / "supervise"
_BOOT_PATIENCE = 90.0


class HostError(Failed):
    """A host did not do what it should; the message carries the end of its console."""


@dataclass(frozen=True)
class HostSpec:
    """What a host is made from; `lower` holds the overlay's lower directories, top first."""

    name: str
    hostname: str
    address: str
    lower: tuple[Path, ...]
    files: Mapping[str, str] = field(default_factory=dict)


class Hosts:
    """The hosts of one sandbox; every method may be repeated and called from several threads."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._locks: dict[str, threading.RLock] = {}
        self._guard = threading.Lock()

    def create(self, spec: HostSpec) -> None:
        """The host runs and its sshd answers when this returns."""
        with self._own(spec.name):
            known = self._record(spec.name)
            if known is None:
                self._lay(spec)
            elif known["address"] != spec.address or known["lower"] != [str(path) for path in spec.lower]:
                raise HostError(f"{spec.name} exists with another address or image: delete it first")
            self.start(spec.name)

    def start(self, name: str) -> None:
        """Boots the host unless it runs, and waits for its sshd."""
        with self._own(name):
            record = self._known(name)
            if self.running(name):
                self._thaw(name)
            else:
                self._end(name, grace=0.0)
                folder = self.folder(name)
                arguments = [
                    ":".join(_escaped(path) for path in record["lower"]),
                    record["machine"],
                    record["hostname"],
                ]
                supervisor = ["/bin/sh", str(_SUPERVISE), str(folder), *arguments, self.sandbox.bridge]
                isolated = ["unshare", "--mount", "--propagation", "private", *supervisor]
                processes.spawn(self.sandbox, _process(name), isolated)
            self._wait(name, record["address"])

    def stop(self, name: str) -> None:
        """Shuts the host down in order, by force after twenty seconds."""
        with self._own(name):
            self._known(name)
            self._end(name, grace=20.0)

    def restart(self, name: str) -> None:
        """A clean shutdown and a new boot."""
        with self._own(name):
            self.stop(name)
            self.start(name)

    def delete(self, name: str) -> None:
        """Nothing of the host is left: no process, file, address or ssh entry."""
        with self._own(name):
            self._end(name, grace=0.0)
            record = self._record(name)
            (self.folder(name) / "host.json").unlink(missing_ok=True)
            remove(self.folder(name))
            if record:
                self.release_address(record["address"])
            self._write_ssh_files()

    def run(self, name: str, script: str, seconds: float) -> str:
        """What a shell on the host prints of the script; HostError when it fails or takes longer."""
        self._known(name)
        command = ["ssh", "-F", str(self.sandbox.ssh_config), "-o", "BatchMode=yes", name, script]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            raise HostError(f"{name} is not done after {seconds:.0f} s: {script}") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise HostError(f"{name}: {lines[-1]}")
        return done.stdout

    def names(self) -> list[str]:
        """Every host, running or not."""
        return sorted(path.parent.name for path in self.sandbox.hosts.glob("*/host.json"))

    def running(self, name: str) -> bool:
        """Whether the host is on, or booting."""
        return processes.alive(self.sandbox, _process(name))

    def folder(self, name: str) -> Path:
        """Where the host keeps its layer, console and record."""
        return self.sandbox.hosts / name

    def snapshot(self, name: str, target: Path) -> None:
        """A copy of the host's own layer as a power cut would leave it; the host is frozen meanwhile."""
        with self._own(name):
            self._known(name)
            draft = target.with_name(f".{target.name}.draft")
            remove(draft)
            draft.parent.mkdir(parents=True, exist_ok=True)
            with self._still(name):
                _copy(self.folder(name) / "upper", draft)
            remove(target)
            draft.rename(target)

    def restore(self, name: str, source: Path) -> None:
        """The host's own layer becomes the copy; the host must be stopped."""
        with self._own(name):
            self._known(name)
            if self.running(name):
                raise HostError(f"{name} runs: stop it before its disk is replaced")
            folder = self.folder(name)
            draft, old = folder / ".upper.draft", folder / ".upper.old"
            remove(draft)
            remove(old)
            _copy(source, draft)
            (folder / "upper").rename(old)
            draft.rename(folder / "upper")
            remove(folder / "work")
            (folder / "work").mkdir()
            remove(old)

    def allocate(self) -> str:
        """The next address of the subnet that is free; taken until it is released or its host deleted."""
        with self._shared() as ledger:
            taken = {self.sandbox.gateway, *ledger, *(self._known(name)["address"] for name in self.names())}
            for address in self.sandbox.subnet.hosts():
                if str(address) not in taken and address >= IPv4Address(self.sandbox.gateway) + 9:
                    ledger.append(str(address))
                    return str(address)
        raise HostError(f"subnet {self.sandbox.subnet} has no free address: delete hosts")

    def release_address(self, address: str) -> None:
        """Gives an address back."""
        with self._shared() as ledger:
            if address in ledger:
                ledger.remove(address)

    def _lay(self, spec: HostSpec) -> None:
        folder = self.folder(spec.name)
        remove(folder)
        for name in ("upper", "work", "merged", "boot"):
            (folder / name).mkdir(parents=True)
        host_key = self._host_key()
        for path, text, mode in self._files(spec, host_key):
            _place(folder / "upper", spec.lower, path, text, mode)
        record = {
            "name": spec.name,
            "hostname": spec.hostname,
            "address": spec.address,
            "lower": [str(path) for path in spec.lower],
            "machine": self._machine(spec.name),
            "host_key": " ".join(host_key[1].split()[:2]),
        }
        write_atomically(folder / "host.json", json.dumps(record, indent=1) + "\n")
        self._write_ssh_files()

    def _files(self, spec: HostSpec, host_key: tuple[str, str]) -> Iterator[tuple[str, str, int]]:
        box = self.sandbox
        machine_id = hashlib.sha256(f"{box.digest}/{spec.name}".encode()).hexdigest()[:32]
        yield "/etc/machine-id", machine_id + "\n", 0o444
        yield "/etc/hostname", spec.hostname + "\n", 0o644
        yield "/etc/hosts", f"127.0.0.1 localhost\n{spec.address} {spec.hostname} {spec.name}\n", 0o644
        yield "/etc/resolv.conf", "", 0o644
        network = f"[Match]\nName=host0\n\n[Network]\nAddress={spec.address}/{box.subnet.prefixlen}\n"
        network += f"Gateway={box.gateway}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        yield "/etc/systemd/network/10-lab.network", network, 0o644
        yield "/etc/ssh/ssh_host_ed25519_key", host_key[0], 0o600
        yield "/etc/ssh/ssh_host_ed25519_key.pub", host_key[1], 0o644
        yield "/root/.ssh/authorized_keys", box.admin_key.with_suffix(".pub").read_text(), 0o600
        yield "/etc/apt/sources.list.d/system.sources", mirror().sources, 0o644
        yield "/etc/apt/apt.conf.d/20proxy", proxy_settings(box), 0o644
        yield "/etc/apt/keyrings/fieldops.asc", repository.public_key(box), 0o644
        lab = f"Types: deb\nURIs: {repository.url(box)}\nSuites: {repository.SUITE}\nComponents: main\n"
        yield (
            "/etc/apt/sources.list.d/fieldops.sources",
            lab + "Signed-By: /etc/apt/keyrings/fieldops.asc\n",
            0o644,
        )
        for path, text in spec.files.items():
            yield path, text, 0o644

    def _host_key(self) -> tuple[str, str]:
        with tempfile.TemporaryDirectory(prefix="patchwave-key-") as scratch:
            path = Path(scratch) / "key"
            make_key(path, "")
            return path.read_text(), path.with_suffix(".pub").read_text()

    def _wait(self, name: str, address: str) -> None:
        deadline = time.monotonic() + _BOOT_PATIENCE
        while not _greets(address):
            console = self.folder(name) / "console.log"
            if not self.running(name):
                raise HostError(f"{name} ended while it booted: {processes.last_lines(console)}")
            if time.monotonic() > deadline:
                end = processes.last_lines(console)
                raise HostError(f"{name} ({address}) has no sshd after {_BOOT_PATIENCE:.0f} s: {end}")
            time.sleep(0.05)

    @contextlib.contextmanager
    def _still(self, name: str) -> Iterator[None]:
        """The host's processes are frozen by their control group, which none of them can notice."""
        group = cgroups.freezer(self.sandbox, name)
        if group is None:
            yield
            return
        try:
            (group / "cgroup.freeze").write_text("1")
            deadline = time.monotonic() + 10
            while "frozen 1" not in (group / "cgroup.events").read_text():
                if time.monotonic() > deadline:
                    raise HostError(f"{name} does not stand still within 10 s: look for a process in state D")
                time.sleep(0.005)
            yield
        finally:
            self._thaw(name)

    def _thaw(self, name: str) -> None:
        group = cgroups.freezer(self.sandbox, name)
        if group is not None:
            (group / "cgroup.freeze").write_text("0")

    def _machine(self, name: str) -> str:
        return f"{name}.{self.sandbox.digest}"

    def _record(self, name: str) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads((self.folder(name) / "host.json").read_text())
            return record
        except (FileNotFoundError, ValueError):
            return None

    def _known(self, name: str) -> dict[str, Any]:
        record = self._record(name)
        if record is None:
            raise HostError(
                f"no host {name} in {self.sandbox.hosts}: its name is one of {', '.join(self.names()) or '-'}"
            )
        return record

    def _own(self, name: str) -> threading.RLock:
        with self._guard:
            return self._locks.setdefault(name, threading.RLock())

    @contextlib.contextmanager
    def _shared(self) -> Iterator[list[str]]:
        """The ledger of addresses, held against other threads and processes and written back at the end."""
        self.sandbox.hosts.mkdir(exist_ok=True)
        ledger = self.sandbox.hosts / "addresses.json"
        with (self.sandbox.hosts / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            addresses = json.loads(ledger.read_text()) if ledger.exists() else []
            before = list(addresses)
            yield addresses
            if addresses != before:
                write_atomically(ledger, json.dumps(addresses))

    def _write_ssh_files(self) -> None:
        with self._shared():
            records = [record for name in self.names() if (record := self._record(name))]
            write_atomically(self.sandbox.ssh_config, ssh_config(self.sandbox, records))
            write_atomically(self.sandbox.known_hosts, known_hosts(records))

    def _end(self, name: str, grace: float) -> None:
        """No process of the host is left; its control groups are what finds those whose supervisor was killed."""
        self._thaw(name)
        processes.stop(self.sandbox, _process(name), grace=grace)
        for group in cgroups.named(self.sandbox, name):
            cgroups.end(group)


def ssh_config(sandbox: Sandbox, records: list[dict[str, Any]]) -> str:
    """The text of ssh_config: every host by name and by address, and no host whose key is not known."""
    return "".join(
        f"Host {one['name']} {one['address']}\n"
        f"  HostName {one['address']}\n"
        f"  HostKeyAlias {one['name']}\n"
        f"  User root\n"
        f'  IdentityFile "{sandbox.admin_key}"\n'
        f"  IdentitiesOnly yes\n"
        f'  UserKnownHostsFile "{sandbox.known_hosts}"\n'
        f"  StrictHostKeyChecking yes\n"
        f"  ControlMaster no\n"
        f"  ControlPath none\n"
        f"  ConnectTimeout 10\n"
        f"  LogLevel ERROR\n\n"
        for one in records
    )


def known_hosts(records: list[dict[str, Any]]) -> str:
    """One line a host, under its name and its address."""
    return "".join(f"{one['name']},{one['address']} {one['host_key']}\n" for one in records)


def make_key(path: Path, comment: str) -> None:
    """An ed25519 key pair without passphrase, unless it is there."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def remove(folder: Path) -> None:
    """Deletes a tree; a program of its own does it, because many threads delete at once."""
    subprocess.run(["rm", "-rf", "--", str(folder)], capture_output=True, check=False)


def _process(name: str) -> str:
    return f"host-{name}"


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _place(upper: Path, lower: tuple[Path, ...], path: str, text: str, mode: int) -> None:
    """Writes one file into the layer; folders on the way keep the mode that they have below."""
    target = upper / path.lstrip("/")
    for parent in reversed(target.relative_to(upper).parents[:-1]):
        if not (upper / parent).exists():
            (upper / parent).mkdir(mode=0o700 if parent.name == ".ssh" else 0o755)
            below = next((layer / parent for layer in lower if (layer / parent).is_dir()), None)
            if below:
                shutil.copystat(below, upper / parent)
                os.chown(upper / parent, below.stat().st_uid, below.stat().st_gid)
    target.write_text(text, encoding="utf-8")
    target.chmod(mode)


def _copy(source: Path, target: Path) -> None:
    command = ["cp", "--archive", "--reflink=auto", "--", str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostError(f"cannot copy {source}: {' '.join(done.stderr.split())}")


def _greets(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=1) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
