"""The TCP sockets of a host, as the kernel lists them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
ESTABLISHED, TIME_WAIT, LISTEN = "01", "06", "0A"
# Where Azure's own probes come from.
# https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
PLATFORM = "168.63.129.16"


@dataclass(frozen=True)
class Connection:
    """One row: both ends and the state in the kernel's own number."""

    local: tuple[str, int]
    remote: tuple[str, int]
    state: str


def connections() -> Iterator[Connection]:
    """Every TCP socket; a table that the kernel does not have is empty."""
    for table in TABLES:
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            fields = line.split()
            yield Connection(_end(fields[1]), _end(fields[2]), fields[3])


def _end(text: str) -> tuple[str, int]:
    """An address and port of the tables, which hold addresses as words in the host's byte order."""
    address, port = text.split(":")
    raw = b"".join(struct.pack("=I", int(address[at : at + 8], 16)) for at in range(0, len(address), 8))
    if len(raw) == 4:
        return socket.inet_ntop(socket.AF_INET, raw), int(port, 16)
    mapped = IPv6Address(raw).ipv4_mapped
    return str(mapped or IPv6Address(raw)), int(port, 16)


def listening(port: int) -> list[str]:
    """The addresses at which something on this host listens on a port; loopback for one that listens everywhere."""
    found = [one.local[0] for one in connections() if one.state == LISTEN and one.local[1] == port]
    return [{"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address) for address in found]  # noqa: S104 - read only


def clients(port: int, *states: str) -> set[tuple[str, int]]:
    """Who is connected to a port from another machine; the platform's probes do not count."""
    return {
        one.remote
        for one in connections()
        if one.state in states
        and one.local[1] == port
        and one.remote[0] != PLATFORM
        and not ip_address(one.remote[0]).is_loopback
    }
