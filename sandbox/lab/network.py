"""The lab's own network: a bridge, a masquerade rule and forwarding, put up and taken away as one."""

import fcntl
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from patchwave.base.errors import Failed
from sandbox.config import Sandbox, cache_folder, routed_networks, write_atomically
from sandbox.lab.processes import boot_id

_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


def up(sandbox: Sandbox) -> None:
    """Bridge, gateway address, forwarding and masquerade; what stands already is kept."""
    others = [network for network in routed_networks(apart_from=sandbox.bridge) if network.prefixlen > 0]
    clash = [str(network) for network in others if network.overlaps(sandbox.subnet)]
    if clash:
        raise Failed(f"subnet {sandbox.subnet} is taken by {clash[0]}: run down, delete {sandbox.folder}, run up again")
    if not exists(sandbox):
        _run("ip", "link", "add", sandbox.bridge, "type", "bridge", "forward_delay", "0")
    _run("ip", "address", "replace", f"{sandbox.gateway}/{sandbox.subnet.prefixlen}", "dev", sandbox.bridge)
    _run("ip", "link", "set", sandbox.bridge, "up")
    _hold_forwarding(sandbox)
    _run("nft", "-f", "-", text=ruleset(sandbox))


def ruleset(sandbox: Sandbox) -> str:
    """The one nftables table: what leaves for other networks carries the machine's address."""
    table = f"ip patchwave_{sandbox.bridge.replace('-', '_')}"
    return f"""table {table} {{}}
delete table {table}
table {table} {{
  chain leave {{
    type nat hook postrouting priority srcnat;
    ip saddr {sandbox.subnet} oifname != "{sandbox.bridge}" masquerade
  }}
}}
"""


def exists(sandbox: Sandbox) -> bool:
    """Whether the bridge is there."""
    return Path(f"/sys/class/net/{sandbox.bridge}").exists()


def down(sandbox: Sandbox) -> None:
    """Removes table and bridge; forwarding gets back the value it had before the first sandbox came up."""
    table = f"patchwave_{sandbox.bridge.replace('-', '_')}"
    subprocess.run(["nft", "delete", "table", "ip", table], capture_output=True, check=False)
    if exists(sandbox):
        for port in Path(f"/sys/class/net/{sandbox.bridge}/brif").iterdir():
            subprocess.run(["ip", "link", "delete", port.name], capture_output=True, check=False)
        _run("ip", "link", "delete", sandbox.bridge)
    _release_forwarding(sandbox)


@contextmanager
def _forwarding() -> Iterator[tuple[Path, dict[str, str]]]:
    """The shared record of who needs forwarding and what it was before, under a lock."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "forwarding.json"
    with (folder / "forwarding.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            held = dict(json.loads(record.read_text()))
        except (FileNotFoundError, ValueError):
            held = {}
        yield record, held if held.get("boot") == boot_id() else {}


def _hold_forwarding(sandbox: Sandbox) -> None:
    with _forwarding() as (record, held):
        before = held.get("before", _FORWARD.read_text().strip())
        kept = _living(held) | {sandbox.bridge: "", "before": before, "boot": boot_id()}
        write_atomically(record, json.dumps(kept))
        _FORWARD.write_text("1")


def _release_forwarding(sandbox: Sandbox) -> None:
    with _forwarding() as (record, held):
        before = held.get("before")
        left = {bridge: "" for bridge in _living(held) if bridge != sandbox.bridge}
        if left and before is not None:
            write_atomically(record, json.dumps(left | {"before": before, "boot": boot_id()}))
            return
        if before is not None and sandbox.bridge in held:
            _FORWARD.write_text(before)
        record.unlink(missing_ok=True)


def _living(held: dict[str, str]) -> dict[str, str]:
    return {name: "" for name in held if Path(f"/sys/class/net/{name}").exists()}


def _run(*command: str, text: str | None = None) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"`{' '.join(command)}` failed: {' '.join(done.stderr.split())}")
