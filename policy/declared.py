"""What a rule is shown."""

from collections.abc import Mapping
from typing import Any, NamedTuple

Props = Mapping[str, Any]


class Declared(NamedTuple):
    """One resource as the engine shows it to a rule; only a rule over the whole stack sees what it depends on."""

    type: str
    name: str
    props: Props
    urn: str = ""
    depends_on: frozenset[str] = frozenset()
