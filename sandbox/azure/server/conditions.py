"""The conditions under which the HTTPS endpoint answers: latency, Azure's request limits, and failures by chance."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from patchwave.base.errors import UsageError
from patchwave.base.model import Model, first_problem
from sandbox.azure.resources.errors import AzureError, too_many
from sandbox.azure.resources.ids import PRINCIPAL, SUBSCRIPTION, ResourceId

VARIABLE = "PATCHWAVE_SANDBOX_CONDITIONS"
Chance = Annotated[float, Field(ge=0, lt=1)]


class Conditions(Model):
    """What callers meet. By default nothing but Azure's own limits on the number of requests.

    `latency_ms` is added to each answer. `throttled` and `failing` are the chances that a request is answered 429 or
    500 instead of being carried out, drawn from `seed`. `share` is the part of Azure's request limits that is
    granted. `rationed` keeps the limits that Azure sets by the hour on restore points and snapshots, too.
    """

    latency_ms: Annotated[int, Field(ge=0)] = 0
    throttled: Chance = 0.0
    failing: Chance = 0.0
    seed: int = 0
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    rationed: bool = False

    @model_validator(mode="after")
    def _something_is_answered(self) -> Self:
        if self.throttled + self.failing >= 1:
            raise ValueError(f"throttled {self.throttled} and failing {self.failing} leave nothing to be answered")
        return self

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """The JSON object in the environment's variable, or the default."""
        try:
            return cls.model_validate_json(environ.get(VARIABLE) or "{}")
        except ValidationError as error:
            raise UsageError(f"{VARIABLE}: {first_problem(error)}") from None


@dataclass(frozen=True)
class Limit:
    """A token bucket: how many requests at once, and how many more in each period of so many seconds."""

    size: int
    refill: int
    every: float = 60.0

    def times(self, share: float) -> Limit:
        return Limit(max(1, int(self.size * share)), max(1, int(self.refill * share)), self.every)


# https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling
_MANAGER = {"read": Limit(250, 25, 1.0), "write": Limit(200, 10, 1.0), "delete": Limit(200, 10, 1.0)}
_ALL_PRINCIPALS = 15

# https://learn.microsoft.com/azure/virtual-machines/compute-throttling-limits: of one resource, of the subscription
_SMALL = Limit(12, 4)
_COMPUTE: Mapping[str, tuple[Limit | None, Limit]] = {
    "PutVM": (_SMALL, Limit(1500, 500)),
    "UpdateVM": (_SMALL, Limit(1500, 500)),
    "DeleteVM": (_SMALL, Limit(1500, 500)),
    "LowCostGet": (Limit(36, 12), Limit(24000, 8000)),
    "HighCostGet": (None, Limit(900, 300)),
    "GetOperation": (Limit(45, 15), Limit(15000, 5000)),
    "VMGuestPatchOperations": (Limit(6, 2), Limit(600, 200)),
    "CreateVMScaleSet": (_SMALL, Limit(375, 125)),
    "UpdateVMScaleSet": (_SMALL, Limit(1500, 500)),
    "DeleteVMScaleSet": (_SMALL, Limit(525, 175)),
    "GetVMScaleSet": (Limit(36, 12), Limit(2400, 800)),
    "HighCostGetVMScaleSet": (Limit(30, 10), Limit(1080, 360)),
    "UpdateVMScaleSetVM": (_SMALL, Limit(1500, 500)),
    "DeleteVMScaleSetVM": (_SMALL, Limit(1500, 500)),
    "GetVMScaleSetVM": (Limit(36, 12), Limit(6000, 2000)),
}
_STEMS = {
    "microsoft.compute/virtualmachines": "VM",
    "microsoft.compute/virtualmachinescalesets": "VMScaleSet",
    "microsoft.compute/virtualmachinescalesets/virtualmachines": "VMScaleSetVM",
}


def policy(method: str, path: str, exists: Callable[[str], bool]) -> tuple[str, str] | None:
    """Compute's policy for a request and the key of the resource that it counts for; None where it has none."""
    if "/microsoft.compute/locations/" in path.lower():
        return "GetOperation", path.lower()
    target = ResourceId.parse(path)
    action = ""
    if target is not None and (method == "POST" or path.lower().rstrip("/").endswith("/instanceview")):
        start, _, action = path.rstrip("/").rpartition("/")
        target = ResourceId.parse(start)
    stem = _STEMS.get(target.type.lower()) if target else None
    if target is None or stem is None:
        return None
    return _named(method, stem, action.lower(), target, exists), target.key


def _named(method: str, stem: str, action: str, target: ResourceId, exists: Callable[[str], bool]) -> str:
    if method in ("GET", "HEAD"):
        listed = target.collection or not target.names
        if stem == "VM":
            return "HighCostGet" if listed else "LowCostGet"
        return f"HighCostGet{stem}" if stem == "VMScaleSet" and (listed or action) else f"Get{stem}"
    if method == "DELETE" or action == "deallocate" or (action == "poweroff" and stem != "VM"):
        return f"Delete{stem}"
    if action in ("assesspatches", "installpatches"):
        return "VMGuestPatchOperations"
    if method == "PUT" and stem != "VMScaleSetVM" and not exists(target.key):
        return "PutVM" if stem == "VM" else "CreateVMScaleSet"
    return f"Update{stem}"


class _Bucket:
    def __init__(self, limit: Limit, now: float) -> None:
        self._limit, self._tokens, self._filled = limit, limit.size, now

    def take(self, now: float) -> tuple[int, float]:
        """What is left after this request, and the seconds to wait when it is one too many."""
        periods = int((now - self._filled) / self._limit.every)
        self._filled += periods * self._limit.every
        self._tokens = min(self._limit.size, self._tokens + periods * self._limit.refill)
        if self._tokens == 0:
            return 0, self._filled + self._limit.every - now
        self._tokens -= 1
        return self._tokens, 0.0


class Traffic:
    """Lets requests in under the given conditions; `exists`: whether a resource's key is in the store."""

    def __init__(
        self, conditions: Conditions, exists: Callable[[str], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.latency = conditions.latency_ms / 1000
        self._conditions = conditions
        self._exists = exists
        self._clock = clock
        self._chance = random.Random(conditions.seed)  # noqa: S311 - failures by chance, no secrets
        self._buckets: dict[str, _Bucket] = {}
        self._guard = threading.Lock()

    def disturb(self) -> None:
        """Answers 429 or 500 as often as the conditions set."""
        with self._guard:
            drawn = self._chance.random()
        if drawn < self._conditions.throttled:
            why = "The request is being throttled as the limit has been reached. Please try again later."
            raise too_many("TooManyRequests", why, 1)
        if drawn < self._conditions.throttled + self._conditions.failing:
            raise AzureError(500, "InternalServerError", "Encountered internal server error.")

    def admit(self, method: str, path: str) -> dict[str, str]:
        """The headers with what is left, or Azure's 429; every request to a resource counts."""
        kind = {"GET": "read", "HEAD": "read", "DELETE": "delete"}.get(method, "write")
        headers = self._manager(kind)
        if counted := policy(method, path, self._exists):
            headers |= self._compute(*counted, headers)
        try:
            self.disturb()
        except AzureError as refusal:
            refusal.headers |= headers
            raise
        return headers

    def _manager(self, kind: str) -> dict[str, str]:
        limit = _MANAGER[kind]
        left, wait = self._take(kind, limit)
        everybody, _ = self._take(f"global {kind}", limit.times(_ALL_PRINCIPALS))
        name = "x-ms-ratelimit-remaining-subscription"
        headers = {f"{name}-{kind}s": str(left), f"{name}-global-{kind}s": str(everybody)}
        if wait:
            seconds = ceil(wait)
            raise too_many(
                "SubscriptionRequestsThrottled",
                f"Number of '{kind}' requests for subscription '{SUBSCRIPTION}' actor '{PRINCIPAL}' exceeded. "
                f"Please try again after '{seconds}' seconds.",
                seconds, headers,
            )  # fmt: skip
        return headers

    def _compute(self, name: str, key: str, headers: Mapping[str, str]) -> dict[str, str]:
        left = []
        for suffix, limit, of in zip(("Resource", "SubscriptionMaximum"), _COMPUTE[name], (key, ""), strict=True):
            if limit is None:
                continue
            remaining, wait = self._take(f"{name} {of}", limit)
            left.append(f"Microsoft.Compute/{name}{suffix};{remaining}")
            if wait:
                raise too_many(
                    "OperationNotAllowed",
                    "The server rejected the request because too many requests have been received for this "
                    f"subscription: policy {name}{suffix}.",
                    ceil(wait), {**headers, "x-ms-ratelimit-remaining-resource": ",".join(left)},
                )  # fmt: skip
        return {"x-ms-ratelimit-remaining-resource": ",".join(left)}

    def _take(self, name: str, limit: Limit) -> tuple[int, float]:
        with self._guard:
            now = self._clock()
            bucket = self._buckets.get(name)
            if bucket is None:
                bucket = self._buckets[name] = _Bucket(limit.times(self._conditions.share), now)
            return bucket.take(now)
