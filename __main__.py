"""One stack: its settings, the components that hold them, and the wave of its release."""

from pathlib import Path

import pulumi

from components import (
    Access,
    Alerts,
    Backup,
    ImageMaintenance,
    Machines,
    Maintenance,
    Site,
    Slots,
    Snapshots,
    Wave,
)
from patchwave.base.documents import parse
from patchwave.config.settings import Settings
from patchwave.config.standard import stack_name
from patchwave.releases import release as releases
from patchwave.releases import waivers

config = pulumi.Config("patchwave")
stack = stack_name(pulumi.get_stack())
project = Path(__file__).resolve().parent
kept = waivers.named(project, config.get_object("waivers") or [])
settings = parse(config.require_object("settings"), Settings, f"Pulumi.{stack}.yaml: patchwave:settings")
release_id = config.get("release")
release = releases.load(project, release_id) if release_id else None

site = Site(stack, settings=settings)
slots = Slots(stack, settings=settings, site=site)
machines = Machines(f"{stack}-vm", stack=stack, settings=settings, site=site)
snapshots = Snapshots(f"{stack}-snapshots", stack=stack, settings=settings, site=site, machines=machines.ids)
maintenance = Maintenance(
    f"{stack}-maintenance",
    stack=stack,
    settings=settings,
    site=site,
    release=release,
    excludes=waivers.package_excludes(
        kept,
        stack=stack,
        fleets=[name for name, fleet in settings.fleets.items() if fleet.method == "update_manager"],
        release=release,
    ),
)
alerts = Alerts(f"{stack}-alerts", stack=stack, settings=settings, site=site)
before_a_wave: list[pulumi.Resource] = [slots, machines, snapshots]

if upgrade := settings.slots.image_upgrade:
    ImageMaintenance(
        f"{stack}-images", stack=stack, settings=settings, site=site, upgrade=upgrade, scale_sets=slots.scale_sets
    )
if backup := settings.backup:
    Backup(f"{stack}-backup", stack=stack, settings=settings, site=site, decisions=backup, machines=machines.ids)
if runner := settings.runner:
    access = Access(
        f"{stack}-runner",
        settings=settings,
        site=site,
        principal=runner.principal_id,
        ingestion_rule=alerts.ingestion_rule_id,
        scale_sets=slots.scale_sets,
        machines=machines.ids,
        collections=snapshots.collection_ids,
    )
    before_a_wave.append(access)
if release:
    Wave(
        f"{stack}-wave",
        project=project,
        stack=stack,
        settings=settings,
        release=release,
        waivers=kept,
        public_url=slots.url,
        ingestion_url=alerts.ingestion_url,
        ingestion_rule=alerts.ingestion_rule,
        after=before_a_wave,
    )

pulumi.export("url", slots.url)
pulumi.export("live", settings.slots.live)
pulumi.export("release", release_id)
if slots.weighted_name:
    pulumi.export("weighted_name", slots.weighted_name)
