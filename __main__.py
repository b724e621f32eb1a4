"""One stack: its settings, the components that hold them, and the wave of its release."""

from pathlib import Path

import pulumi

from components import Alerts, Machines, Maintenance, Site, Slots, Snapshots, Wave
from patchwave import release
from patchwave.documents import parse
from patchwave.settings import Settings

config = pulumi.Config("patchwave")
stack = pulumi.get_stack()
project = Path(__file__).resolve().parent
settings = parse(config.require_object("settings"), Settings, f"Pulumi.{stack}.yaml: patchwave:settings")

site = Site(stack, settings=settings)
slots = Slots(stack, settings=settings, site=site)
machines = Machines(f"{stack}-vm", stack=stack, settings=settings, site=site)
snapshots = Snapshots(f"{stack}-snapshots", stack=stack, settings=settings, site=site, machines=machines.ids)
maintenance = Maintenance(f"{stack}-maintenance", stack=stack, settings=settings, site=site)
alerts = Alerts(f"{stack}-alerts", stack=stack, settings=settings, site=site)

if release_id := config.get("release"):
    Wave(
        f"{stack}-wave",
        stack=stack,
        settings=settings,
        release=release.load(project, release_id),
        public_url=slots.url,
        ingestion_url=alerts.ingestion_url,
        ingestion_rule=alerts.ingestion_rule,
        after=[slots, machines, snapshots],
    )

pulumi.export("url", slots.url)
pulumi.export("live", settings.slots.live)
pulumi.export("release", release_id)
