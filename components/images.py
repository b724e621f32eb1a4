"""Images as Azure names them."""

from __future__ import annotations

import pulumi
import pulumi_azure_native as azure

from patchwave.config.settings.machines import GalleryImage, Image


def reference(subscription: pulumi.Input[str], image: Image) -> azure.compute.ImageReferenceArgsDict:
    """A gallery's image by its id, in the given subscription (as /subscriptions/…) unless it names another one."""
    if not isinstance(image, GalleryImage):
        return {"publisher": image.publisher, "offer": image.offer, "sku": image.sku, "version": image.version}
    own = f"/subscriptions/{image.subscription}" if image.subscription else subscription
    path = f"/providers/Microsoft.Compute/galleries/{image.gallery}/images/{image.name}"
    version = "" if image.version == "latest" else f"/versions/{image.version}"
    return {"id": pulumi.Output.concat(own, f"/resourceGroups/{image.resource_group}{path}{version}")}


def plan(image: Image) -> azure.compute.PlanArgsDict | None:
    """The plan of an image of the Marketplace that has one: its own name under another spelling."""
    if isinstance(image, GalleryImage) or not image.plan:
        return None
    return {"publisher": image.publisher, "product": image.offer, "name": image.sku}
