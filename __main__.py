"""One stack of Patchwave: reads its configuration once and declares it."""

from pathlib import Path

import pulumi

from components import Stack
from patchwave.base.documents import parse
from patchwave.base.errors import PatchwaveError
from patchwave.config.settings import Settings, stack_path
from patchwave.config.standard import read_standard
from patchwave.releases import release as releases
from patchwave.releases import waivers

project = Path(__file__).resolve().parent
config = pulumi.Config("patchwave")
name = pulumi.get_stack()
try:
    where = stack_path(project, name).name
    standard, digest = read_standard(project)
    release_id = config.get("release")
    stack = Stack(
        name,
        project=project,
        settings=parse(config.require_object("settings"), Settings, f"{where}: patchwave:settings"),
        release=releases.load(project, release_id) if release_id else None,
        waivers=waivers.named(project, config.get_object("waivers") or []),
        standard=standard,
        standard_digest=digest,
    )
except PatchwaveError as error:
    raise pulumi.RunError(f"patchwave: {error}") from None

pulumi.export("urls", stack.urls)
pulumi.export("weighted_names", stack.weighted_names)
pulumi.export("live", stack.live)
pulumi.export("release", release_id)
