"""The order: the one document that a wave is started with."""

from typing import Annotated, Self

from pydantic import Field

from patchwave.base.model import Model
from patchwave.base.names import Sha256, digest
from patchwave.config.settings import Settings
from patchwave.config.settings.types import Name
from patchwave.config.standard import StackName

_IN_AZURE = {"live", "size", "image", "rolling", "balancer", "image_upgrade", "repairs", "traffic_manager"}
"""What of a fleet's hosts is declared and changes nothing that is done on them."""


class Named(Model):
    """A document of the project by its id and digest; one with another digest is not what was ordered."""

    id: Annotated[str, Field(min_length=1)]
    digest: Sha256


class Addresses(Model):
    """What only the declared resources know: each fleet's public address, and where rows for Log Analytics go."""

    public: dict[Name, str] = Field(default_factory=dict)
    ingestion_url: str | None = None
    ingestion_rule: str | None = None


class Order(Model):
    """One release on one stack, with every decision that the wave needs; `standard` is the digest of its file."""

    stack: StackName
    release: Named
    waivers: tuple[Named, ...]
    standard: Sha256
    settings: Settings
    addresses: Addresses

    @property
    def work(self) -> str:
        """Changes with what is done on hosts, and with nothing else: an order of the same work is carried out once."""
        settings = self.settings.model_dump(
            mode="json",
            include={"services", "fleets", "rollout", "preflight"},
            exclude={"fleets": {"__all__": {"hosts": _IN_AZURE}}},
        )
        return digest(
            {
                "release": self.release.model_dump(),
                "waivers": [one.model_dump() for one in self.waivers],
                "settings": settings,
            }
        )

    @classmethod
    def read(cls, text: str | bytes) -> Self:
        """The order that a wave was given."""
        return cls.model_validate_json(text)
