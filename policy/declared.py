"""What a rule is shown."""

from collections.abc import Mapping
from typing import Any, NamedTuple

Props = Mapping[str, Any]


class Declared(NamedTuple):
    """One resource as the engine shows it to a rule."""

    type: str
    name: str
    props: Props
