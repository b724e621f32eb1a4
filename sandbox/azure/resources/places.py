"""What the resource manager needs from the machine below it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from sandbox.azure.resources.errors import conflict
from sandbox.config import Sandbox
from sandbox.lab.hosts import HostSpec


class Hosts(Protocol):
    """The hosts that machines and scale-set instances are."""

    def create(self, spec: HostSpec) -> None: ...

    def start(self, name: str) -> None: ...

    def stop(self, name: str) -> None: ...

    def restart(self, name: str) -> None: ...

    def delete(self, name: str) -> None: ...

    def run(self, name: str, script: str, seconds: float) -> str: ...

    def names(self) -> list[str]: ...

    def running(self, name: str) -> bool: ...

    def snapshot(self, name: str, target: Path) -> None: ...

    def restore(self, name: str, source: Path) -> None: ...


class Places:
    """Addresses and folders of one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    @property
    def endpoint(self) -> str:
        return self.sandbox.endpoint

    @property
    def disks(self) -> Path:
        """Where the contents of disks lie that no running host uses."""
        return self.sandbox.folder / "disks"

    def public_address(self, index: int) -> str:
        return self.sandbox.public_address(index)

    def free_address(self, taken: Collection[str]) -> str:
        """The first address for a host that is not taken."""
        first = IPv4Address(self.sandbox.gateway) + 9
        for address in self.sandbox.subnet.hosts():
            if address >= first and str(address) not in taken:
                return str(address)
        raise conflict("SubnetIsFull", f"Subnet {self.sandbox.subnet} does not have enough capacity for 1 IP address.")


def host_files(name: str, tags: Mapping[str, str]) -> dict[str, str]:
    """What a host knows about itself: name, slot, primary of a replica; a tag that is no plain word is left out."""
    plain = {key: value for key, value in tags.items() if re.fullmatch(r"[a-z0-9.-]*", value)}
    slot, primary = plain.get("patchwave-slot", ""), plain.get("lab-primary", "")
    return {
        "/etc/fieldops/host.env": f"FIELDOPS_HOST={name}\nFIELDOPS_SLOT={slot}\n",
        "/etc/lab/host.env": f"LAB_HOST={name}\nLAB_PRIMARY={primary}\n",
    }
