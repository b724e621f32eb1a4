"""The images that a project's hosts are made from: those that its settings and its estate name, each by a recipe."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from patchwave.base.errors import UsageError
from patchwave.config.settings import load_stack
from patchwave.config.settings.machines import GalleryImage, Image
from patchwave.config.standard import load_standard
from sandbox.config import Sandbox
from sandbox.environment import SUBSCRIPTION
from sandbox.estate import load_estate
from sandbox.lab import base, rhel
from sandbox.lab.base import Progress
from sandbox.sample import package

RECIPES = Path(__file__).parent / "sample"
GALLERY = GalleryImage(kind="gallery", resource_group="shared-images", gallery="lab", name="web", version=package.FIRST)
"""Where images stand that only the estate names."""


class Prepared(NamedTuple):
    """An image version as the emulator knows it: by id or by `publisher:offer:sku`, its layers top first.

    `files` are put on each host that is made from it.
    """

    key: str
    layers: tuple[str, ...]
    os: str
    files: dict[str, str]


def prepare(sandbox: Sandbox, progress: Progress) -> tuple[Prepared, ...]:
    """All images of the project's stacks; those that are not built yet are."""
    made: dict[str, Prepared] = {}
    for image in named(sandbox):
        key, recipe = key_of(image), recipe_of(image)
        if key not in made:
            layers, system, files = _build(sandbox, recipe, progress)
            made[key] = Prepared(key, tuple(str(layer) for layer in layers), system, files)
    return tuple(made.values())


def named(sandbox: Sandbox) -> Iterator[Image]:
    """The images that hosts are made from, in any stack whose settings are there."""
    for stack in load_standard(sandbox.project).stacks:
        if (sandbox.project / f"Pulumi.{stack}.yaml").exists():
            settings = load_stack(sandbox.project, stack).settings
            yield from (hosts.image for _, hosts in settings.created())
            for name in load_estate(sandbox.project, stack).images(settings):
                yield GALLERY.model_copy(update={"name": name})


def key_of(image: Image) -> str:
    """How the emulator finds an image."""
    if not isinstance(image, GalleryImage):
        return f"{image.publisher}:{image.offer}:{image.sku}"
    version = package.FIRST if image.version == "latest" else image.version
    return (
        f"/subscriptions/{image.subscription or SUBSCRIPTION}/resourceGroups/{image.resource_group}/providers"
        f"/Microsoft.Compute/galleries/{image.gallery}/images/{image.name}/versions/{version}"
    )


def recipe_of(image: Image) -> str:
    """The recipe goes by the image's own name; an image of the Marketplace is a plain system."""
    if isinstance(image, GalleryImage):
        return image.name
    return "rhel" if any(word in image.offer.lower() for word in ("rhel", "rocky", "alma")) else "plain"


def _build(sandbox: Sandbox, recipe: str, progress: Progress) -> tuple[tuple[Path, ...], str, dict[str, str]]:
    if recipe == "rhel":
        layers = rhel.layers(sandbox, progress)
        if not (sandbox.repo / "rhel").exists():
            rhel.publish(sandbox)
        return layers, rhel.OS, rhel.host_files(sandbox)
    bottom = base.base(sandbox, progress)
    if recipe == "plain":
        return (bottom.rootfs,), bottom.suite, {}
    if recipe == "web":
        return base.image(sandbox, progress), bottom.suite, {}
    script = RECIPES / recipe / "recipe"
    if not script.is_file():
        known = sorted({"web", "rhel", *(found.parent.name for found in RECIPES.glob("*/recipe"))})
        raise UsageError(f"image {recipe!r}: the sandbox has recipes for {', '.join(known)}, name one of them")
    content = hashlib.sha256(str(bottom.rootfs).encode())
    for file in sorted(script.parent.iterdir()):
        content.update(file.name.encode() + file.read_bytes())
    name = f"{recipe}-{content.hexdigest()[:12]}"
    return (
        base.layered(sandbox, name, bottom.rootfs, script.read_text(), [str(script.parent)], progress),
        bottom.suite,
        {},
    )
