"""What exists before any program of ours runs: the lab's form of somebody's own fleets, from a file of the project.

`sandbox/estate.yaml` of a project has it for each stack: a network, balancers, scale sets, virtual machines, Arc
machines, Windows machines. It is made through the emulator's own API, so that nothing of it could not be on Azure.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from patchwave.base.documents import load_yaml
from patchwave.base.model import Model
from patchwave.config.settings import Settings
from patchwave.config.settings.fleets import ExistingHosts, Fleet
from patchwave.config.settings.machines import GalleryImage
from patchwave.config.settings.network import PortRule, Probe
from patchwave.config.settings.types import AddressSpace, GroupName, Name
from patchwave.config.standard import StackName
from sandbox import daemon, environment
from sandbox.azure.resources.ids import SUBSCRIPTION
from sandbox.config import Sandbox

PATH = Path("sandbox") / "estate.yaml"
NETWORK, COMPUTE = "2024-05-01", "2024-11-01"
_MARKETPLACE = {"publisher": "MicrosoftWindowsServer", "offer": "WindowsServer", "sku": "2022", "version": "latest"}
Json = dict[str, Any]


class Balancer(Model):
    """A load balancer with one public address and one pool, which is called `hosts`."""

    name: Name
    ports: tuple[PortRule, ...]
    probe: Probe


class ScaleSet(Model):
    """A scale set of so many instances; those of a Flexible one are virtual machines.

    `replaced` are the numbers of instances of a Uniform one that are gone: numbers are never given twice.
    """

    name: Name
    mode: Literal["Uniform", "Flexible"]
    instances: int
    replaced: tuple[int, ...] = ()
    image: Name
    balancer: Name | None = None
    tags: dict[str, str] = Field(default_factory=dict)


class Machine(Model):
    """A machine; `replica_of` names an earlier one, whose address its host is given as LAB_PRIMARY.

    One without image runs Windows and has no host in the lab.
    """

    name: Name
    source: Literal["vm", "arc"]
    group: GroupName
    image: Name | None = None
    replica_of: Name | None = None
    balancer: Name | None = None
    tags: dict[str, str] = Field(default_factory=dict)


class Estate(Model):
    """What exists for one stack: network, balancers and scale sets stand in `group`."""

    group: GroupName = "estate"
    address_space: AddressSpace = "10.90.0.0/16"
    balancers: tuple[Balancer, ...] = ()
    scale_sets: tuple[ScaleSet, ...] = ()
    machines: tuple[Machine, ...] = ()

    def images(self, settings: Settings) -> Iterator[str]:
        """The names of the images that its hosts, and those that join by default, are made from."""
        yield from (one.image for one in self.scale_sets)
        yield from (one.image for one in self.machines if one.image)
        yield from (one.image for one in joining(settings, "any", self) if one.image)


class Estates(Model):
    """The file: what exists, by stack."""

    stacks: dict[StackName, Estate]


def load_estate(project: Path, stack: StackName) -> Estate:
    """What exists for a stack by the project's file; nothing without a file or a word of the stack in it."""
    path = project / PATH
    return load_yaml(path, Estates).stacks.get(stack, Estate()) if path.exists() else Estate()


def joining(settings: Settings, prefix: str, known: Estate) -> Iterator[Machine]:
    """The Arc machines that the estate leaves out: one for each fleet without any, and those that a schedule names."""
    for name, fleet in settings.fleets.items():
        if isinstance(fleet.hosts, ExistingHosts) and fleet.kind == "arc" and fleet.carried_out:
            tags = fleet.hosts.tags
            if not any(one.source == "arc" and tags.items() <= one.tags.items() for one in known.machines):
                group = next(iter(fleet.hosts.resource_groups), "sites")
                image = _image(settings, fleet)
                yield Machine(name=f"{prefix}-{name}-0", source="arc", group=group, image=image, tags=dict(tags))
    for one in settings.maintenance.assigned if settings.maintenance else ():
        if one.source == "arc":
            image = next(_images(settings), "web")
            yield Machine(name=one.name, source="arc", group=one.resource_group, image=image)


def _image(settings: Settings, fleet: Fleet) -> str:
    if fleet.method == "dnf":
        return "rhel"
    same = [name for name, other in settings.fleets.items() if other.service == fleet.service]
    return next(_images(settings, same), "web")


def _images(settings: Settings, fleets: Sequence[str] | None = None) -> Iterator[str]:
    """The gallery images of fleets that the program creates."""
    for name, hosts in settings.created():
        if isinstance(hosts.image, GalleryImage) and (fleets is None or name in fleets):
            yield hosts.image.name


def seed(sandbox: Sandbox, stack: StackName, settings: Settings) -> None:
    """All of it exists, its hosts running, when this returns; what is there already stays as it is."""
    found = load_estate(sandbox.project, stack)
    maker = _Maker(sandbox, settings, found)
    if found != Estate():
        maker.place()
    machines = [*found.machines, *joining(settings, settings.prefix(stack), found)]
    originals = [one for one in machines if not one.replica_of]
    for some in (originals, [one for one in machines if one.replica_of]):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(maker.machine, some))


class _Maker:
    """Writes resources by the official SDK's client, as the sandbox's own identity."""

    def __init__(self, sandbox: Sandbox, settings: Settings, estate: Estate) -> None:
        from sandbox.azure.plugins.client import Client

        self._sandbox, self._settings, self._estate = sandbox, settings, estate
        os.environ.update(environment.emulator(sandbox))
        self._client = Client(SUBSCRIPTION, threading.Event())

    def _id(self, kind: str, name: str, group: str | None = None) -> str:
        group = group or self._estate.group
        return f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group}/providers/{kind}/{name}"

    def _put(self, identity: str, api: str, properties: Json, **more: Any) -> Json:
        """The resource as it is, or as it has been made now."""
        there = self._client.get(identity, api)
        if there is None:
            body = {"location": self._settings.location, "properties": properties, **more}
            self._client.put(identity, api, body)
            there = self._client.get(identity, api)
        return there or {}

    def _group(self, name: str) -> None:
        self._client.put(
            f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{name}", "2024-03-01", {"location": self._settings.location}
        )

    def place(self) -> None:
        """The group, its network, its balancers and its scale sets."""
        estate = self._estate
        self._group(estate.group)
        subnets = [{"name": "hosts", "properties": {"addressPrefix": estate.address_space}}]
        space = {"addressSpace": {"addressPrefixes": [estate.address_space]}, "subnets": subnets}
        self._put(self._id("Microsoft.Network/virtualNetworks", "estate"), NETWORK, space)
        for balancer in estate.balancers:
            self._balancer(balancer)
        for scale_set in estate.scale_sets:
            (self._uniform if scale_set.mode == "Uniform" else self._flexible)(scale_set)

    def _balancer(self, one: Balancer) -> None:
        address = self._id("Microsoft.Network/publicIPAddresses", f"{one.name}-address")
        self._put(address, NETWORK, {"publicIPAllocationMethod": "Static"}, sku={"name": "Standard"})
        identity = self._id("Microsoft.Network/loadBalancers", one.name)
        probe: Json = {"protocol": one.probe.protocol.capitalize(), "port": one.probe.port,
                       "intervalInSeconds": int(one.probe.interval.total_seconds()),
                       "probeThreshold": one.probe.threshold, "numberOfProbes": 1}  # fmt: skip
        if one.probe.path:
            probe["requestPath"] = one.probe.path
        rules = [{"name": f"public-{rule.port}", "properties": {
            "protocol": "Tcp", "frontendPort": rule.port, "backendPort": rule.to,
            "frontendIPConfiguration": {"id": f"{identity}/frontendIPConfigurations/public"},
            "backendAddressPool": {"id": f"{identity}/backendAddressPools/hosts"},
            "probe": {"id": f"{identity}/probes/health"}}} for rule in one.ports]  # fmt: skip
        self._put(identity, NETWORK, {
            "frontendIPConfigurations": [{"name": "public", "properties": {"publicIPAddress": {"id": address}}}],
            "backendAddressPools": [{"name": "hosts"}], "probes": [{"name": "health", "properties": probe}],
            "loadBalancingRules": rules,
        }, sku={"name": "Standard"})  # fmt: skip

    def _configuration(self, balancer: str | None) -> Json:
        subnet = self._id("Microsoft.Network/virtualNetworks", "estate") + "/subnets/hosts"
        properties: Json = {"subnet": {"id": subnet}}
        if balancer:
            pool = self._id("Microsoft.Network/loadBalancers", balancer) + "/backendAddressPools/hosts"
            properties["loadBalancerBackendAddressPools"] = [{"id": pool}]
        return {"name": "primary", "properties": properties}

    def _uniform(self, one: ScaleSet) -> None:
        nic = {"name": "nic", "properties": {"primary": True, "ipConfigurations": [self._configuration(one.balancer)]}}
        identity = self._id("Microsoft.Compute/virtualMachineScaleSets", one.name)
        fresh = self._client.get(identity, COMPUTE) is None
        self._put(identity, COMPUTE, {
            "orchestrationMode": "Uniform", "upgradePolicy": {"mode": "Manual"}, "overprovision": False,
            "virtualMachineProfile": {
                "osProfile": {"computerNamePrefix": f"{one.name}-", **self._system()},
                "storageProfile": _storage(one.image), "networkProfile": {"networkInterfaceConfigurations": [nic]},
            },
        }, sku={"name": "Standard_B2s", "capacity": one.instances + len(one.replaced)}, tags=one.tags)  # fmt: skip
        for number in one.replaced if fresh else ():
            self._client.delete(f"{identity}/virtualMachines/{number}", COMPUTE)

    def _flexible(self, one: ScaleSet) -> None:
        owner = self._id("Microsoft.Compute/virtualMachineScaleSets", one.name)
        self._put(owner, COMPUTE, {"orchestrationMode": "Flexible", "platformFaultDomainCount": 1}, tags=one.tags)
        names = [f"{one.name}-{number:06x}" for number in range(one.instances)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: self._virtual(
                Machine(name=name, source="vm", group=self._estate.group, image=one.image, balancer=one.balancer,
                        tags=one.tags), owner), names))  # fmt: skip

    def machine(self, one: Machine) -> None:
        """A machine of its own."""
        if one.source == "vm":
            self._group(one.group)
            self._virtual(one)
        else:
            tags = one.tags | self._primary(one)
            image = one.image and _key(one.image)
            daemon.enrol(self._sandbox, one.name, tags, one.group, image=image, location=self._settings.location)

    def _virtual(self, one: Machine, owner: str | None = None) -> None:
        nic = self._id("Microsoft.Network/networkInterfaces", f"{one.name}-nic", one.group)
        self._put(nic, NETWORK, {"ipConfigurations": [self._configuration(one.balancer)]})
        system: Json = {"windowsConfiguration": {}, "adminUsername": "lab"} if one.image is None else self._system()
        properties: Json = {
            "hardwareProfile": {"vmSize": "Standard_B2s"},
            "osProfile": {"computerName": one.name, **system},
            "storageProfile": _storage(one.image),
            "networkProfile": {"networkInterfaces": [{"id": nic, "properties": {"primary": True}}]},
        }
        if owner:
            properties["virtualMachineScaleSet"] = {"id": owner}
        identity = self._id("Microsoft.Compute/virtualMachines", one.name, one.group)
        self._put(identity, COMPUTE, properties, tags=one.tags | self._primary(one))

    def _primary(self, one: Machine) -> dict[str, str]:
        if one.replica_of is None:
            return {}
        return {"lab-primary": daemon.address(self._sandbox, one.replica_of)}

    def _system(self) -> Json:
        key = self._sandbox.admin_key.with_suffix(".pub").read_text().strip()
        path = "/home/lab/.ssh/authorized_keys"
        keys = {"publicKeys": [{"path": path, "keyData": key}]}
        return {
            "adminUsername": "lab",
            "linuxConfiguration": {"disablePasswordAuthentication": True, "ssh": keys},
        }


def _key(image: str) -> str:
    from sandbox.images import GALLERY, key_of

    return key_of(GALLERY.model_copy(update={"name": image}))


def _storage(image: str | None) -> Json:
    reference = _MARKETPLACE if image is None else {"id": _key(image)}
    return {"imageReference": reference, "osDisk": {"createOption": "FromImage"}}
