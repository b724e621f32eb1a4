"""Plain data with some of it changed."""

import json
from collections.abc import Mapping
from types import EllipsisType
from typing import Any

Change = Mapping[str, Any | EllipsisType]
"""Values by dotted path; `...` takes a value out."""


def changed(base: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """A copy of a base with values put in or taken out, by dotted path."""
    copy: dict[str, Any] = json.loads(json.dumps(base))
    for path, value in change.items():
        *above, last = path.split(".")
        place: Any = copy
        for key in above:
            place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
        if value is ...:
            place.pop(last, None)
        elif isinstance(place, list):
            place[int(last) : int(last) + 1] = [value]
        else:
            place[last] = json.loads(json.dumps(value))
    return copy
