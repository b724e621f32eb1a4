"""What Azure Compute refuses of galleries' images."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sandbox.azure.arm.rules.change import Change, refuses, unchangeable
from sandbox.azure.resources.errors import AzureError, bad_request, conflict


@refuses("Microsoft.Compute/galleries/images")
def image(change: Change) -> Iterator[AzureError]:
    for name in ("osType", "osState", "identifier", "hyperVGeneration", "architecture"):
        if any(unchangeable(change, name)):
            yield conflict(
                "PropertyChangeNotAllowed", f"Changing property 'galleryImage.properties.{name}' is not allowed."
            )


@refuses("Microsoft.Compute/galleries/images/versions")
def version(change: Change) -> Iterator[AzureError]:
    if not re.fullmatch(r"\d+\.\d+\.\d+", change.name):
        yield bad_request(
            "InvalidParameter",
            f"Gallery image version name '{change.name}' is invalid: it must have the form MajorVersion.MinorVersion."
            "Patch.",
        )
    if change.old is None:
        yield bad_request(
            "OperationNotAllowed", "The sandbox builds its image versions itself, before any program runs."
        )
