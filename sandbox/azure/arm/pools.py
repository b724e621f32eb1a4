"""The backend pools of load balancers: who is in them by a network interface, and each member's administrative state.

https://learn.microsoft.com/azure/load-balancer/admin-state-overview
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sandbox.azure.arm.complete import interfaces
from sandbox.azure.arm.rules import dig
from sandbox.azure.bodies.wire import Wire
from sandbox.azure.resources.errors import AzureError, bad_request
from sandbox.azure.resources.kinds import BACKEND_POOL, shape_of
from sandbox.azure.resources.store import Row, Store

Json = Any
TYPE = "microsoft.network/loadbalancers/backendaddresspools"
NETWORK_INTERFACE, INSTANCE = (
    "Microsoft.Network/networkInterfaces",
    "Microsoft.Compute/virtualMachineScaleSets/virtualMachines",
)
STATES = ("None", "Up", "Down")


class Member(NamedTuple):
    """A machine in a pool: its host, its address, and the id of the IP configuration by which it is there."""

    host: str
    address: str
    configuration: str

    @property
    def name(self) -> str:
        """What Azure calls the member, which is made from the names of group, interface and configuration."""
        parts = self.configuration.split("/")
        return "_".join([parts[4], *parts[8::2]])


def members(store: Store) -> dict[str, list[Member]]:
    """The members of each pool, by the pool's key; instances that do not run yet or are leaving are in none."""
    found: dict[str, list[Member]] = {}
    scale_sets = {row.key: row for row in store.of_type("Microsoft.Compute/virtualMachineScaleSets")}
    for row in store.of_type(INSTANCE):
        if not row.deleting and row.parent in scale_sets and row.hidden.get("joined"):
            for nic in interfaces(row, scale_sets[row.parent]):
                _join(found, row.hidden["host"], nic["id"], nic["properties"])
    for row in store.of_type(NETWORK_INTERFACE):
        if not row.deleting:
            _join(found, row.name, row.id, row.properties)
    return found


def _join(found: dict[str, list[Member]], host: str, identity: str, nic: Mapping[str, Json]) -> None:
    for config in dig(nic, "ipConfigurations", []):
        for pool in dig(config, "properties.loadBalancerBackendAddressPools", []):
            address = config["properties"]["privateIPAddress"]
            member = Member(host, address, f"{identity}/ipConfigurations/{config['name']}")
            found.setdefault(str(pool["id"]).lower(), []).append(member)


def state(balancer: Row, pool: str, member: Member) -> str:
    """The administrative state of a member; `pool` is the pool's key."""
    states = balancer.hidden.get("administrative", {})
    return str(states.get(pool, {}).get(member.configuration.lower(), "None"))


def shown(balancer: Row, pool: Mapping[str, Json], store: Store) -> dict[str, Json]:
    """A pool as Azure shows it, members included."""
    key = str(pool["id"]).lower()
    there = members(store).get(key, [])
    properties = {
        **pool.get("properties", {}),
        "provisioningState": "Succeeded",
        "loadBalancerBackendAddresses": [
            {
                "name": member.name,
                "properties": {
                    "adminState": state(balancer, key, member),
                    "networkInterfaceIPConfiguration": {"id": member.configuration},
                },
            }
            for member in there
        ],
        "backendIPConfigurations": [{"id": member.configuration} for member in there],
        "loadBalancingRules": [{"id": rule["id"]} for rule in _rules(balancer, key)],
    }
    mark = hashlib.sha256(json.dumps([pool["id"], properties], sort_keys=True).encode()).hexdigest()[:32]
    return {**pool, "type": "Microsoft.Network/loadBalancers/backendAddressPools", "etag": f'W/"{mark}"',
            "properties": properties}  # fmt: skip


def _rules(balancer: Row, pool: str) -> Iterator[Mapping[str, Json]]:
    for rule in balancer.properties.get("loadBalancingRules", []):
        if str(dig(rule, "properties.backendAddressPool.id", "")).lower() == pool:
            yield rule


def write(
    balancer: Row, pool: Mapping[str, Json], body: Mapping[str, Json], etag: str, store: Store, wire: Wire
) -> None:
    """Takes the states of a whole list of members into the balancer's row; members come and go by their interfaces.

    Refused are another list than the pool's own, another version than the caller has read, a state that is none,
    and a state for a pool that no rule with a probe points at.
    """
    before, key = shown(balancer, pool, store), str(pool["id"]).lower()
    if etag not in ("", "*", before["etag"]):
        raise AzureError(
            412, "PreconditionFailed", f"Precondition failed. The etag '{etag}' is not that of {pool['id']}."
        )
    for problem in wire.problems(body, shape_of(BACKEND_POOL)):
        raise bad_request(problem.code, problem.reason)
    there = {member.name: member for member in members(store).get(key, [])}
    wanted = {
        str(one.get("name")): one.get("properties", {})
        for one in dig(body, "properties.loadBalancerBackendAddresses", [])
    }
    if wanted.keys() != there.keys():
        odd = ", ".join(sorted(wanted.keys() ^ there.keys()))
        raise bad_request(
            "BackendAddressesOfNicBasedPoolCannotBeChanged",
            f"Backend pool {pool['id']} gets its members from network interfaces: {odd} cannot be added or left out.",
        )
    states: dict[str, str] = {}
    for name, properties in wanted.items():
        member, chosen = there[name], properties.get("adminState", "None")
        named = dig(properties, "networkInterfaceIPConfiguration.id", member.configuration)
        if named.lower() != member.configuration.lower():
            raise bad_request(
                "InvalidResourceReference", f"Backend address {name} is {member.configuration}, not {named}."
            )
        if chosen not in STATES:
            raise bad_request(
                "InvalidAdminState", f"adminState '{chosen}' of {name} is not one of {', '.join(STATES)}."
            )
        if chosen != "None":
            states[member.configuration.lower()] = chosen
    if states and not any(dig(rule, "properties.probe.id") for rule in _rules(balancer, key)):
        raise bad_request(
            "AdminStateNeedsProbe",
            f"adminState of {pool['id']} cannot be set: no load balancing rule with a probe uses it.",
        )
    balancer.hidden.setdefault("administrative", {})[key] = states
    store.put(balancer)
