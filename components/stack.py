"""One stack: what its settings declare in Azure, and the wave of its release."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import pulumi

from components import tags
from components.access import Access
from components.alerts import Alerts
from components.backup import Backup
from components.image_maintenance import ImageMaintenance
from components.machines import Machines
from components.maintenance import Maintenance
from components.site import Site
from components.slots import Slots
from components.snapshots import Snapshots
from components.wave import Wave
from patchwave.base.errors import UsageError
from patchwave.calendar.windows import Calendar
from patchwave.config.order import Addresses, Named, Order
from patchwave.config.settings import Administrators, Settings
from patchwave.config.settings.fleets import RollbackMethod, ScaleSetHosts, assign
from patchwave.config.settings.machines import MachineHosts
from patchwave.config.settings.maintenance import Maintenance as Decisions
from patchwave.config.settings.slots import SlotHosts
from patchwave.config.standard import StackName, Standard
from patchwave.releases.release import Release
from patchwave.releases.waivers import Waiver, package_excludes


class Stack(pulumi.ComponentResource):
    """Everything of one stack stands below it; what it was declared from are its inputs, and policy judges these.

    Inputs: `stack`, `settings` (whole, as JSON), `release` and `waivers` (id and digest), `standard` (SHA-256 of
    `policy/standard.yaml`). Attributes: `urls`, `weighted_names` and `live` (slot), each by fleet of slots.
    """

    def __init__(
        self,
        name: StackName,
        *,
        project: Path,
        settings: Settings,
        release: Release | None,
        waivers: Sequence[Waiver],
        standard: Standard,
        standard_digest: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        ordered = release and Named(id=release.id, digest=release.digest)
        waived = tuple(waiver.reference for waiver in waivers)
        inputs = {
            "stack": name,
            "settings": settings.model_dump(mode="json"),
            "release": ordered and ordered.model_dump(),
            "waivers": [one.model_dump() for one in waived],
            "standard": standard_digest,
        }
        super().__init__("patchwave:index:Stack", name, inputs, opts)
        self._stack, self._settings, self._prefix = name, settings, settings.prefix(name)
        self._child = pulumi.ResourceOptions(parent=self)
        self._slots: dict[str, Slots] = {}
        self._machines: dict[str, Machines] = {}
        for fleet, hosts in settings.created():
            if settings.administrators is None:  # which the settings exclude
                raise UsageError(f"administrators is missing: the program creates the hosts of fleet {fleet}")
            if isinstance(hosts, SlotHosts):
                self._slots[fleet] = self._declare_slots(fleet, hosts, settings.administrators)
            else:
                self._machines[fleet] = self._declare_machines(fleet, hosts, settings.administrators)
        before: list[pulumi.Resource] = [*self._slots.values(), *self._machines.values()]
        collections = self._declare_snapshots()
        if settings.maintenance:
            calendar = standard.calendar(name, settings.calendar)
            self._declare_maintenance(settings.maintenance, calendar, release, waivers)
        alerts = None
        if settings.alerts:
            alerts = Alerts(f"{self._prefix}-alerts", decisions=settings.alerts, site=self._site, opts=self._child)
        if settings.backup:
            Backup(
                f"{self._prefix}-backup",
                decisions=settings.backup,
                machines=self._ids(),
                site=self._site,
                opts=self._child,
            )
        if settings.runner:
            before.append(self._declare_access(settings.runner.principal_id, alerts, collections))
        self.urls = {fleet: slots.url for fleet, slots in self._slots.items()}
        self.weighted_names = {
            fleet: slots.weighted_name for fleet, slots in self._slots.items() if slots.weighted_name is not None
        }
        self.live = {fleet: hosts.live for fleet, hosts in settings.slots()}
        if release and ordered:
            Wave(
                f"{self._prefix}-wave",
                project=project,
                order=Order(
                    stack=name,
                    release=ordered,
                    waivers=waived,
                    standard=standard_digest,
                    settings=settings,
                    addresses=Addresses(),
                ),
                release=release,
                public=self.urls,
                ingestion_url=alerts.ingestion_url if alerts else None,
                ingestion_rule=alerts.ingestion_rule if alerts else None,
                after=before,
                opts=self._child,
            )
        self.register_outputs({"urls": self.urls, "live": self.live, "weighted_names": self.weighted_names})

    @cached_property
    def _site(self) -> Site:
        """Made when something is to stand in it: a stack of existing hosts alone needs no group."""
        return Site(
            self._prefix,
            stack=self._stack,
            location=self._settings.location,
            group=self._settings.group(self._stack),
            group_exists=self._settings.naming.resource_group_exists,
            network=self._settings.network,
            opts=self._child,
        )

    def _declare_slots(self, fleet: str, hosts: SlotHosts, administrators: Administrators) -> Slots:
        name = f"{self._prefix}-{fleet}"
        slots = Slots(
            name,
            hosts=hosts,
            administrators=administrators,
            labels=tags.host(self._stack, fleet, self._settings.fleets[fleet]),
            site=self._site,
            opts=self._child,
        )
        if hosts.image_upgrade:
            ImageMaintenance(
                f"{name}-images",
                upgrade=hosts.image_upgrade,
                starts_on=self._settings.starts_on,
                scale_sets=slots.scale_sets,
                site=self._site,
                opts=self._child,
            )
        return slots

    def _declare_machines(self, fleet: str, hosts: MachineHosts, administrators: Administrators) -> Machines:
        name, chosen = f"{self._prefix}-{fleet}", self._settings.fleets[fleet]
        scheduled = chosen.method == "update_manager"
        machines = {f"{name}-{number}": False for number in range(hosts.instances)} if scheduled else {}
        return Machines(
            name,
            hosts=hosts,
            administrators=administrators,
            labels=tags.host(self._stack, fleet, chosen),
            rings=assign(self._settings.rings(fleet), machines),
            site=self._site,
            opts=self._child,
        )

    def _declare_snapshots(self) -> Mapping[str, pulumi.Output[str]]:
        """The restore-point collections, by machine."""
        machines = self._ids("restore_point")
        if not machines or self._settings.snapshots is None:
            return {}
        return Snapshots(
            f"{self._prefix}-snapshots",
            decisions=self._settings.snapshots,
            machines=machines,
            site=self._site,
            opts=self._child,
        ).collection_ids

    def _declare_maintenance(
        self, decisions: Decisions, calendar: Calendar, release: Release | None, waivers: Sequence[Waiver]
    ) -> None:
        settings = self._settings
        fleets = {name: fleet for name, fleet in settings.fleets.items() if fleet.method == "update_manager"}
        Maintenance(
            f"{self._prefix}-maintenance",
            decisions=decisions,
            calendar=calendar,
            rings=settings.rollout.ring_names,
            fleets={name: (fleet, settings.rings(name)) for name, fleet in fleets.items()},
            release=release,
            excludes=package_excludes(waivers, stack=self._stack, fleets=fleets, release=release),
            site=self._site,
            opts=self._child,
        )

    def _declare_access(
        self, principal: str, alerts: Alerts | None, collections: Mapping[str, pulumi.Output[str]]
    ) -> Access:
        return Access(
            f"{self._prefix}-runner",
            principal=principal,
            existing_groups=existing_groups(self._settings),
            schedules=self._settings.maintenance is not None,
            ingestion_rule=alerts.ingestion_rule_id if alerts else None,
            balancers={
                fleet: slots.balancer_id
                for fleet, slots in self._slots.items()
                if self._settings.services[self._settings.fleets[fleet].service].traffic.driver == "balancer"
            },
            repaired={
                f"{fleet}-{slot}": scale_set.id
                for fleet, hosts in self._settings.slots()
                if hosts.repairs
                for slot, scale_set in self._slots[fleet].scale_sets.items()
            },
            restored=self._ids("restore_point", "disk_snapshot"),
            collections=collections,
            disk_snapshots=bool(self._ids("disk_snapshot")),
            site=self._site,
            opts=self._child,
        )

    def _ids(self, *rollback: RollbackMethod) -> dict[str, pulumi.Output[str]]:
        """The machines that the program creates, by name; those of fleets that go back in one of these ways."""
        return {
            machine: machine_id
            for fleet, machines in self._machines.items()
            if not rollback or self._settings.fleets[fleet].rollback in rollback
            for machine, machine_id in machines.ids.items()
        }


def existing_groups(settings: Settings) -> tuple[str, ...]:
    """The groups in which existing hosts stand, as far as the settings name them: names, or ids of other subscriptions.

    Of a fleet without groups, that its runner may read wherever its hosts are, is for who owns the subscription.
    """
    found: dict[str, str] = {}
    for _, hosts in settings.existing():
        if isinstance(hosts, ScaleSetHosts):
            groups = [one.split("/providers/")[0] for one in hosts.ids]
        else:
            subscriptions = [f"/subscriptions/{one}/resourceGroups/" for one in hosts.subscriptions] or [""]
            groups = [f"{subscription}{group}" for subscription in subscriptions for group in hosts.resource_groups]
        found |= {group.lower(): group for group in groups}
    return tuple(found.values())
