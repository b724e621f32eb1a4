"""The administrative state of a host's addresses in its load balancer's pools.

`Down` lets no new connection in, `None` leaves the choice to the probe; `Up` would hide a host that does not answer
and is never written. Azure has no call for one address: a pool is read, changed and written as a whole.
https://learn.microsoft.com/azure/load-balancer/admin-state-overview
"""

import copy
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from patchwave.azure.client import Conflict
from patchwave.base.errors import Failed, PatchwaveError, Refused

NETWORK = "2024-05-01"
INSTANCES = "2024-11-01"
ATTEMPTS = 20
PAUSE = 3.0

NO_POOL = "users reach the host, and none of its addresses is in a pool: name the service's pools"

State = Literal["Down", "None"]
Pool = dict[str, Any]


class Client(Protocol):
    """What is needed of the resource manager's client."""

    def call(
        self, method: str, path: str, *, api: str, body: Any = None, if_match: str | None = None
    ) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Target:
    """A host as pools know it: its id in Azure, its address, and the ids of its interfaces."""

    id: str
    address: str
    interfaces: tuple[str, ...] = ()


def states(pool: Mapping[str, Any], target: Target) -> set[str]:
    """The administrative states of the host's addresses in the pool."""
    return {str(_properties(one).get("adminState") or "None") for one in _addresses(pool) if _belongs(one, target)}


def changed(pool: Mapping[str, Any], target: Target, state: State) -> Pool | None:
    """The whole pool to write, with the state at the host's addresses alone; None when it is so already."""
    if states(pool, target) <= {state}:
        return None
    kept = ("drainPeriodInSeconds", "location", "syncMode", "tunnelInterfaces", "virtualNetwork")
    properties = {key: pool["properties"][key] for key in kept if key in pool["properties"]}
    addresses = copy.deepcopy(_addresses(pool))
    for one in addresses:
        if _belongs(one, target):
            one["properties"] = {**_properties(one), "adminState": state}
    return {"name": pool.get("name"), "properties": {**properties, "loadBalancerBackendAddresses": addresses}}


def _addresses(pool: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(pool.get("properties", {}).get("loadBalancerBackendAddresses") or [])


def _properties(address: Mapping[str, Any]) -> dict[str, Any]:
    return dict(address.get("properties") or {})


def _belongs(address: Mapping[str, Any], target: Target) -> bool:
    properties = _properties(address)
    configuration = str((properties.get("networkInterfaceIPConfiguration") or {}).get("id") or "").lower()
    owners = (target.id, *target.interfaces)
    if configuration:
        return any(configuration.startswith(f"{owner.lower()}/") for owner in owners)
    return bool(properties.get("ipAddress")) and properties["ipAddress"] == target.address


def interfaces(client: Client, host_id: str) -> list[dict[str, Any]]:
    """The network interfaces of a host; a machine outside of Azure has none there."""
    kind = host_id.lower()
    if "/providers/microsoft.hybridcompute/" in kind:
        return []
    if "/virtualmachinescalesets/" in kind:
        return list(client.call("GET", f"{host_id}/networkInterfaces", api=INSTANCES)["value"])
    machine = client.call("GET", host_id, api=INSTANCES)
    references = machine["properties"]["networkProfile"]["networkInterfaces"]
    return [client.call("GET", str(one["id"]), api=NETWORK) for one in references]


def pools_of(found: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The load balancer pools that these interfaces are in."""
    ids = {
        str(pool["id"])
        for interface in found
        for configuration in interface["properties"].get("ipConfigurations") or []
        for pool in configuration["properties"].get("loadBalancerBackendAddressPools") or []
    }
    return tuple(sorted(ids))


def take_out(client: Client, host: Mapping[str, Any], pools: Sequence[str], locks: Path, *, ours: bool) -> list[str]:
    """Sets `Down` at the host's addresses and returns their pools: those named, or those that its interfaces are in.

    A pool that no rule points at serves nobody, and Azure takes no state in it: an idle slot is left as it is. With
    `ours`, an earlier step of the run may have done so. Else an address that is `Down` already is somebody else's:
    Refused, and nothing is changed. What was changed before a failure is changed back.
    """
    target, joined = _find(client, host, pools, serving=True)
    if not ours and (taken := [pool for pool, found in joined.items() if "Down" in found]):
        raise Refused(f"{target.id} is Down in {taken[0]} by someone else: the host is theirs until they put it back")
    done: list[str] = []
    try:
        for pool in joined:
            done.append(pool)
            write(client, pool, target, "Down", locks)
    except PatchwaveError:
        if not ours:
            for pool in done:
                with suppress(PatchwaveError):
                    write(client, pool, target, "None", locks)
        raise
    return done


def put_back(client: Client, host: Mapping[str, Any], pools: Sequence[str], locks: Path) -> list[str]:
    """Sets `None` at the host's addresses, so that the probe decides, and returns their pools."""
    target, joined = _find(client, host, pools)
    for pool in joined:
        write(client, pool, target, "None", locks)
    return list(joined)


def unreachable(client: Client, host: Mapping[str, Any], pools: Sequence[str]) -> str:
    """Why the driver cannot take a host out of service that users reach, or an empty string."""
    _, joined = _find(client, host, pools, serving=True)
    return "" if joined else NO_POOL


def _find(
    client: Client, host: Mapping[str, Any], pools: Sequence[str], *, serving: bool = False
) -> tuple[Target, dict[str, set[str]]]:
    """The host as pools know it, and the states of its addresses by pool; `serving` are those that a rule points at."""
    found = interfaces(client, host["pw_id"])
    target = Target(host["pw_id"], host["pw_address"], tuple(str(one["id"]) for one in found))
    read = {pool: client.call("GET", pool, api=NETWORK) for pool in pools or pools_of(found)}
    served = {pool: one for pool, one in read.items() if not serving or one["properties"].get("loadBalancingRules")}
    return target, {pool: before for pool, one in served.items() if (before := states(one, target))}


def write(
    client: Client,
    pool_id: str,
    target: Target,
    state: State,
    locks: Path,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Sets the state of the host's addresses in one pool.

    One writer a load balancer on this runner; one elsewhere is found by the pool's etag, and the change made anew.
    Failed when Azure does not do it, or when the pool does not show it afterwards.
    """
    with _alone(locks, pool_id):
        for attempt in range(1, ATTEMPTS + 1):
            pool = client.call("GET", pool_id, api=NETWORK)
            body = changed(pool, target, state)
            if body is None:
                return
            if attempt == ATTEMPTS:
                break
            try:
                client.call("PUT", pool_id, api=NETWORK, body=body, if_match=pool.get("etag"))
            except Conflict:
                sleep(PAUSE)
    raise Failed(f"{pool_id}: adminState {state} does not stay written: who else writes this pool?")


@contextmanager
def _alone(locks: Path, pool_id: str) -> Iterator[None]:
    """Azure refuses a write to a load balancer while another one runs."""
    balancer = pool_id.lower().rpartition("/backendaddresspools/")[0]
    path = locks / f"balancer-{hashlib.sha256(balancer.encode()).hexdigest()[:16]}.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
