"""What every completion needs: stable GUIDs, instants, etags, addresses, and the table of completions."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from sandbox.azure.arm.rules import dig
from sandbox.azure.resources.places import Places
from sandbox.azure.resources.store import Row, Store

Completion = Callable[[Row, Row | None, Store, Places], None]
COMPLETIONS: dict[str, Completion] = {}


def completes(type_: str) -> Callable[[Completion], Completion]:
    """Registers what completes bodies of a type."""

    def keep(one: Completion) -> Completion:
        COMPLETIONS[type_.lower()] = one
        return one

    return keep


def etag() -> str:
    return f'W/"{uuid.uuid4()}"'


def stable(text: str) -> str:
    """The same GUID for the same resource, at any time."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text.lower()))


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def kept(old: Row | None, path: str, otherwise: str) -> str:
    """What the resource had before at a path of its body, or what it gets when it is new."""
    return str(dig(old.body, path) if old else "") or otherwise


def allocate(store: Store, places: Places, also: Collection[str] = ()) -> str:
    """The first address of the lab's subnet that no resource holds; rows stored in this transaction count."""
    taken = {address for row in store.all() for address in row.hidden.get("addresses", [])}
    return places.free_address(taken.union(also))
