"""What machines are made from, and the ones that stand alone."""

from typing import Annotated, Literal

from pydantic import Field

from patchwave.base.model import Model
from patchwave.config.settings.types import GroupName, Guid

ImageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
Version = Annotated[str, Field(pattern=r"^(latest|\d+\.\d+\.\d+)$")]
Size = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]


class GalleryImage(Model):
    """An image of a compute gallery, in the stack's subscription where none is named."""

    kind: Literal["gallery"]
    subscription: Guid | None = None
    resource_group: GroupName
    gallery: ImageName
    name: ImageName
    version: Version


class MarketplaceImage(Model):
    """An image of the Marketplace; one with a plan needs its terms accepted before.

    https://learn.microsoft.com/azure/virtual-machines/marketplace-images
    """

    kind: Literal["marketplace"]
    publisher: ImageName
    offer: ImageName
    sku: ImageName
    version: Annotated[str, Field(pattern=r"^(latest|\d+(\.\d+){2,3})$")]
    plan: bool = False


Image = Annotated[GalleryImage | MarketplaceImage, Field(discriminator="kind")]


class MachineHosts(Model):
    """Virtual machines that the program creates and that stand alone."""

    source: Literal["machines"]
    instances: Annotated[int, Field(ge=1, le=100)]
    size: Size
    image: Image
