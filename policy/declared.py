"""What a check is shown of a resource."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pulumi_policy.proxy import UnknownValueError

Props = Mapping[str, Any]
STACK = "patchwave:index:Stack"
TAG = "patchwave-stack"


class Declared(NamedTuple):
    """One resource; reading a property that only an update knows raises UnknownValueError."""

    type: str
    name: str
    props: Props
    urn: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether a component of Patchwave's Stack declares it."""
        return self.type == STACK or f"{STACK}$" in self.urn

    @property
    def pulumi_stack(self) -> str:
        """The stack of `urn:pulumi:STACK::PROJECT::TYPES::NAME`."""
        return self.urn.partition("::")[0].rpartition(":")[2]

    @property
    def tagged(self) -> str | None:
        """The stack that its tag names, or the tag that a dynamic scope selects machines by."""
        tags = known(self.props, "tags")
        if isinstance(tags, Mapping) and known(tags, TAG):
            return str(tags[TAG])
        filter_ = known(self.props, "filter")
        settings = known(filter_, "tagSettings") if isinstance(filter_, Mapping) else None
        selected = known(settings, "tags") if isinstance(settings, Mapping) else None
        return TAG if isinstance(selected, Mapping) and TAG in selected else None


def known(values: Props, key: str) -> Any:
    """A value, None where it is missing or only an update knows it."""
    try:
        return values.get(key)
    except UnknownValueError:
        return None


def given(values: Props, key: str) -> bool:
    """Whether there is a value, also one that only an update knows."""
    try:
        return values.get(key) is not None
    except UnknownValueError:
        return True


def document(value: Any) -> Any:
    """A value as the plain data that was declared: the engine passes whole numbers as fractions."""
    if isinstance(value, Mapping):
        return {key: document(value[key]) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [document(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
