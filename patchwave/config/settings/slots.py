"""The two scale sets, how they take new images, and which of them users reach."""

from datetime import timedelta
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from patchwave.base.model import Model
from patchwave.calendar.windows import Window
from patchwave.config.settings.machines import Image, Size
from patchwave.config.settings.network import Balancer
from patchwave.config.standard import Percent

Slot = Literal["blue", "green"]


class Rolling(Model):
    """How a scale set replaces its instances; the ranges are the service's own.

    https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-configure-rolling-upgrades
    """

    max_batch_percent: Annotated[int, Field(ge=5, le=100)]
    max_unhealthy_percent: Annotated[int, Field(ge=5, le=100)]
    max_unhealthy_upgraded_percent: Percent
    pause: Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(minutes=10))]

    @model_validator(mode="after")
    def _one_batch_cannot_trip_the_abort(self) -> Self:
        if self.max_batch_percent > self.max_unhealthy_percent:
            raise ValueError(
                f"max_batch_percent {self.max_batch_percent} > max_unhealthy_percent {self.max_unhealthy_percent}: "
                "the first batch would abort the rollout"
            )
        return self


class ImageUpgrade(Model):
    """The scale sets take new versions of their image by themselves, inside a window of their own.

    With `defer`, Azure announces the upgrade on each instance and waits for approval.
    https://learn.microsoft.com/azure/virtual-machines/virtual-machine-scale-sets-maintenance-control
    """

    defer: bool
    window: Window


class Repairs(Model):
    """What happens to an instance that stays unhealthy; after a change it has its grace to become healthy first.

    https://learn.microsoft.com/azure/virtual-machine-scale-sets/virtual-machine-scale-sets-automatic-instance-repairs
    """

    grace: Annotated[timedelta, Field(ge=timedelta(minutes=10), le=timedelta(minutes=90))]
    action: Literal["Replace", "Reimage", "Restart"]


class TrafficManager(Model):
    """Each slot's share of new name lookups; weight 0 takes the slot out. A lookup is cached for `ttl`.

    https://learn.microsoft.com/azure/traffic-manager/traffic-manager-routing-methods#weighted-traffic-routing-method
    """

    dns_name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,50}[a-z0-9]$")]
    ttl: Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(days=1))]
    weights: dict[Slot, Annotated[int, Field(ge=0, le=1000)]]

    @model_validator(mode="after")
    def _both_slots_named(self) -> Self:
        if set(self.weights) != set(get_args(Slot)):
            raise ValueError("weights: give blue and green one each, 0 takes a slot out")
        return self


class SlotHosts(Model):
    """Two scale sets behind one load balancer that the program creates; traffic goes to the live one, or by weight.

    With `autoscaled`, `instances` is what a slot is made with, and its capacity is left as it is afterwards.
    """

    source: Literal["slots"]
    live: Slot
    instances: Annotated[int, Field(ge=1, le=100)]
    autoscaled: bool = False
    size: Size
    image: Image
    rolling: Rolling
    balancer: Balancer
    image_upgrade: ImageUpgrade | None = None
    repairs: Repairs | None = None
    traffic_manager: TrafficManager | None = None

    @model_validator(mode="after")
    def _upgrades_follow_the_latest(self) -> Self:
        if self.image_upgrade and self.image.version != "latest":
            raise ValueError(f"image_upgrade: image.version {self.image.version} never changes, write latest")
        return self

    @model_validator(mode="after")
    def _live_has_most_weight(self) -> Self:
        if self.traffic_manager:
            weights = self.traffic_manager.weights
            if weights[self.live] == 0 or weights[self.live] < max(weights.values()):
                raise ValueError(f"traffic_manager.weights {weights}: the live slot is {self.live}, give it the most")
        return self

    def serves(self, slot: str | None) -> bool:
        """Whether users' requests reach a slot: it is the live one, or has weight."""
        weights = self.traffic_manager.weights.items() if self.traffic_manager else ()
        return slot == self.live or any(name == slot and weight > 0 for name, weight in weights)
