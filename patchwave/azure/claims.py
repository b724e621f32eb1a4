"""Which fleet claims which machine, and the one query that finds all of them."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from patchwave.base.errors import UsageError
from patchwave.config.settings import Settings, Slot
from patchwave.config.settings.fleets import ScaleSetHosts
from patchwave.config.settings.slots import SlotHosts

QUERY = (Path(__file__).parent / "queries" / "inventory.kql").read_text(encoding="utf-8")
STACK_TAG = "patchwave-stack"
SCALE_SET = "microsoft.compute/virtualmachinescalesets"
INSTANCE = f"{SCALE_SET}/virtualmachines"
MACHINE = "microsoft.compute/virtualmachines"
ARC = "microsoft.hybridcompute/machines"
_PLAIN = re.compile(r"[A-Za-z0-9 _.:@+=-]+")


class ScaleSet(NamedTuple):
    """A scale set of a fleet: which slot it is, and how many instances the settings want, if any number."""

    fleet: str
    slot: Slot | None = None
    instances: int | None = None


class _Tagged(NamedTuple):
    """What a fleet claims by tags, everything in lower case; without groups it is any group."""

    fleet: str
    source: str
    tags: Mapping[str, str]
    groups: frozenset[str]
    subscriptions: frozenset[str]

    def claims(self, source: str | None, key: str, tags: Mapping[str, str]) -> bool:
        return (
            self.source == source
            and all(tags.get(name) == value for name, value in self.tags.items())
            and subscription_of(key) in self.subscriptions
            and (not self.groups or group_of(key) in self.groups)
        )


class Claims:
    """What the fleets of one stack claim; `subscription` is the stack's own.

    Created hosts are claimed by the ids that the program gives them, scale sets by theirs, everything else by tags. All
    keys are ids in lower case. UsageError when two fleets claim the same thing.
    """

    def __init__(self, stack: str, settings: Settings, subscription: str) -> None:
        self.stack, self.settings = stack, settings
        self.sets: dict[str, ScaleSet] = {}
        self.machines: dict[str, str] = {}
        home = f"/subscriptions/{subscription}/resourcegroups/{settings.group(stack)}/providers/microsoft.compute"
        for name, hosts in settings.created():
            own = f"{settings.prefix(stack)}-{name}"
            if isinstance(hosts, SlotHosts):
                wanted = None if hosts.autoscaled else hosts.instances
                for slot in get_args(Slot):
                    self.sets[f"{home}/virtualmachinescalesets/{own}-{slot}".lower()] = ScaleSet(name, slot, wanted)
            else:
                numbers = range(hosts.instances)
                self.machines |= {f"{home}/virtualmachines/{own}-{number}".lower(): name for number in numbers}
        self._tagged: list[_Tagged] = []
        for name, existing in settings.existing():
            if isinstance(existing, ScaleSetHosts):
                for one in existing.ids:
                    if other := self.sets.get(one.lower()):
                        raise _both(other.fleet, name, one)
                    self.sets[one.lower()] = ScaleSet(name)
            else:
                groups = frozenset(one.lower() for one in existing.resource_groups)
                scope = frozenset(one.lower() for one in existing.subscriptions or (subscription,))
                self._tagged.append(_Tagged(name, existing.source, plain_tags(existing.tags), groups, scope))
        self.balancers = {name: balancers_of(settings, name) for name in settings.services}
        self.subscriptions = tuple(sorted(self._scope(subscription.lower())))

    def _scope(self, own: str) -> set[str]:
        ids = (*self.sets, *self.machines, *(one for named in self.balancers.values() for one in named))
        found = {subscription_of(one) for one in ids}.union(*(one.subscriptions for one in self._tagged))
        return found or {own}

    @property
    def query(self) -> str:
        """One text for all fleets; it may find machines that nobody claims, never fewer than are claimed."""
        virtual = [f"id in~ ({_listed(self.machines)})"]
        virtual.append(f"tolower(tostring(properties.virtualMachineScaleSet.id)) in ({_listed(self.sets)})")
        stack = _tags({STACK_TAG: self.stack})
        by_source = {"vm": [*virtual, stack], "arc": [stack]}
        for one in self._tagged:
            wanted = [_tags(one.tags), f"subscriptionId in~ ({_listed(one.subscriptions)})"]
            if one.groups:
                wanted.append(f"resourceGroup in~ ({_listed(one.groups)})")
            by_source[one.source].append(" and ".join(wanted))
        filled = {
            "virtual": " or ".join(f"({one})" for one in by_source["vm"]),
            "arc": " or ".join(f"({one})" for one in by_source["arc"]),
            "sets": _listed(self.sets),
            "balancers": _listed(one for named in self.balancers.values() for one in named),
        }
        return re.sub(r"\{(\w+)\}", lambda place: filled[place[1]], QUERY)

    def fleet(self, kind: str, identity: str, scale_set: str, tags: Mapping[str, str]) -> str | None:
        """The fleet of a machine; `kind` is its type, `tags` have names and values in lower case."""
        key = identity.lower()
        parent = key.rpartition("/virtualmachines/")[0] if kind == INSTANCE else scale_set.lower()
        found = [self.sets[parent].fleet] if parent in self.sets else []
        if kind == MACHINE and key in self.machines:
            found.append(self.machines[key])
        source = {MACHINE: "vm", ARC: "arc"}.get(kind)
        found += [one.fleet for one in self._tagged if one.claims(source, key, tags)]
        if len(found) > 1:
            raise _both(found[0], found[1], identity)
        return found[0] if found else None


def balancers_of(settings: Settings, service: str) -> frozenset[str]:
    """The ids of the balancers whose pools a service names, in lower case."""
    traffic = settings.services[service].traffic
    pools = traffic.pools if traffic.driver == "balancer" else ()
    return frozenset(one.lower().partition("/backendaddresspools/")[0] for one in pools)


def subscription_of(identity: str) -> str:
    """The subscription in an id, in lower case; empty when there is none."""
    parts = identity.lower().split("/")
    return parts[2] if len(parts) > 2 and parts[1] == "subscriptions" else ""


def group_of(identity: str) -> str:
    """The resource group in an id, in lower case; empty when there is none."""
    parts = identity.lower().split("/")
    return parts[4] if len(parts) > 4 and parts[3] == "resourcegroups" else ""


def plain_tags(tags: Any) -> dict[str, str]:
    """Tags with names and values in lower case, as both are compared; what is no text has none."""
    if not isinstance(tags, Mapping):
        return {}
    return {name.lower(): value.lower() for name, value in tags.items() if isinstance(value, str)}


def escaped(text: object, longest: int = 300) -> str:
    """Somebody else's text on one line and in ASCII, cut off where it is long."""
    return json.dumps(str(text)[:longest])[1:-1]


def _both(first: str, second: str, identity: str) -> UsageError:
    return UsageError(f"fleets {first} and {second} both claim {escaped(identity)}: leave it to one of them")


def _tags(tags: Mapping[str, str]) -> str:
    """A condition that all machines with these tags meet: KQL cannot compare the names of tags in any case."""
    words = (max(_PLAIN.findall(text), key=len, default="") for pair in tags.items() for text in pair)
    return " and ".join(f"tostring(tags) contains {_quoted(word)}" for word in words if word) or "true"


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(_quoted(text) for text in sorted(texts)) or "''"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
