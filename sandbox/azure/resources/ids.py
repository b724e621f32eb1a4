"""Azure's resource ids: parsed once, compared without regard to case."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from functools import cached_property

SUBSCRIPTION = "00000000-0000-4000-8000-000000000001"
TENANT = "00000000-0000-4000-8000-000000000002"
PRINCIPAL = str(uuid.uuid5(uuid.NAMESPACE_URL, "patchwave sandbox identity"))
"""The one identity of the sandbox, for which the identity endpoint gives tokens."""
_UNREAL = ("backupfabrics", "protectioncontainers")
_ID = re.compile(r"/subscriptions/[^/]+(/.*)?", re.IGNORECASE)


@dataclass(frozen=True)
class ResourceId:
    """One id or collection: its scope, its type and its names, as they were written."""

    text: str
    subscription: str = ""
    group: str = ""
    scope: str = ""
    type: str = ""
    names: tuple[str, ...] = ()
    collection: bool = False

    @classmethod
    def parse(cls, text: str) -> ResourceId | None:
        """None when the text is no id at all; `collection` when a type is not followed by its name."""
        parts = text.strip("/").split("/")
        if parts[0].lower() != "subscriptions" or not all(parts):
            return None
        subscription = parts[1] if len(parts) > 1 else ""
        group = parts[3] if len(parts) > 3 and parts[2].lower() == "resourcegroups" else ""
        lowered = [part.lower() for part in parts]
        text = "/" + "/".join(parts)
        if "providers" not in lowered:
            if len(parts) == 4 and group:
                return cls(
                    text,
                    subscription,
                    group,
                    f"/subscriptions/{subscription}",
                    "Microsoft.Resources/resourceGroups",
                    (group,),
                )
            if len(parts) == 3 and lowered[2] == "resourcegroups":
                return cls(
                    text,
                    subscription,
                    "",
                    f"/subscriptions/{subscription}",
                    "Microsoft.Resources/resourceGroups",
                    (),
                    True,
                )
            return cls(text, subscription, group) if len(parts) == 2 else None
        last = len(lowered) - 1 - lowered[::-1].index("providers")
        rest = parts[last + 1 :]
        if len(rest) < 2:
            return None
        type_ = "/".join([rest[0], *rest[1::2]])
        return cls(
            text, subscription, group, "/" + "/".join(parts[:last]), type_, tuple(rest[2::2]), len(rest) % 2 == 0
        )

    @cached_property
    def key(self) -> str:
        """The same for every spelling of the id."""
        return self.text.lower()

    @property
    def name(self) -> str:
        return self.names[-1] if self.names else ""

    @property
    def owner(self) -> str:
        """The key of what a collection is listed of: the outer resource, or the scope."""
        inner = ResourceId.parse(f"{self.text}/any")
        return inner.parent if inner and self.collection else self.scope.lower()

    @property
    def parent(self) -> str:
        """The key of the resource that must exist before this one: outer resource, extended resource or group."""
        if len(self.names) > 1:
            parts = self.key.split("/")[:-2]
            while parts[-2] in _UNREAL:
                parts = parts[:-2]
            return "/".join(parts)
        return self.scope.lower()

    @property
    def group_key(self) -> str:
        return f"/subscriptions/{self.subscription}/resourcegroups/{self.group}".lower()


def looks_like_id(value: object) -> bool:
    """Whether a string in a body points at a resource."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def under(key: str, ancestor: str) -> bool:
    """Whether a key is the ancestor's or below it."""
    return key == ancestor or key.startswith(f"{ancestor}/")
