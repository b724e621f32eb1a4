"""What machines are made from, and the ones that stand alone."""

from typing import Annotated

from pydantic import Field

from patchwave.base.model import Model
from patchwave.config.settings.types import Name


class Image(Model):
    """The gallery image from which instances are made."""

    resource_group: Name
    gallery: Name
    name: Name
    version: Annotated[str, Field(pattern=r"^(latest|\d+\.\d+\.\d+)$")]


class Machines(Model):
    """Virtual machines that stand alone."""

    instances: Annotated[int, Field(ge=0, le=100)]
    size: str
    image: Image
