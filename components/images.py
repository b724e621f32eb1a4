"""Gallery images, by id."""

import pulumi

from patchwave.config.settings.machines import Image


def image_id(group_id: pulumi.Input[str], image: Image) -> pulumi.Output[str]:
    """The id of a gallery image version in the subscription of the given resource group."""
    path = f"/providers/Microsoft.Compute/galleries/{image.gallery}/images/{image.name}"
    version = "" if image.version == "latest" else f"/versions/{image.version}"
    return pulumi.Output.from_input(group_id).apply(
        lambda group: f"{group.split('/resourceGroups/')[0]}/resourceGroups/{image.resource_group}{path}{version}"
    )
