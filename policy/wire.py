"""Properties as the engine's messages hold them, and as the rules read them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.struct_pb2 import Struct, Value
from pulumi_policy import proxy
from pulumi_policy.deserialize import SPECIAL_ASSET_SIG, SPECIAL_SECRET_SIG, SPECIAL_SIG_KEY

from policy.declared import Props

# https://github.com/pulumi/pulumi/blob/master/sdk/go/common/resource/sig/sig.go
OUTPUT_SIG = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
REFERENCE_SIG = "5cf8f73096256a8f31e491e813e4eb8e"
UNKNOWNS = frozenset(value for name, value in vars(proxy).items() if name.startswith("UNKNOWN_"))


class SecretText(str):
    """A text that the engine keeps as a secret."""


def known(values: Mapping[str, Any], key: str) -> Any:
    """A value, None where it is missing or only an update knows it."""
    try:
        return values.get(key)
    except proxy.UnknownValueError:
        return None


def given(values: Mapping[str, Any], key: str) -> bool:
    """Whether there is a value, also one that only an update knows."""
    try:
        return values.get(key) is not None
    except proxy.UnknownValueError:
        return True


def texts(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every text inside of a value, by its dotted path; what only an update knows is left out."""
    if isinstance(value, str):
        yield where, value
        return
    keys: Sequence[Any] = ()
    if isinstance(value, Mapping):
        keys = list(value)
    elif isinstance(value, Sequence):
        keys = range(len(value))
    for key in keys:
        try:
            inner = value[key]
        except proxy.UnknownValueError:
            continue
        yield from texts(inner, f"{where}.{key}" if where else str(key))


def props_of(message: Struct) -> Props:
    """A resource's properties; reading one that only an update knows raises UnknownValueError."""
    reader = _Reader()
    found: Props = reader.table(message, secret=False)
    return proxy.unknown_checking_proxy(dict(found)) if reader.met_unknown else found


class _Reader:
    def __init__(self) -> None:
        self.met_unknown = False

    def table(self, message: Struct, *, secret: bool) -> Any:
        fields = message.fields
        if SPECIAL_SIG_KEY in fields:
            return self._special(fields, secret=secret)
        return {key: self._value(value, secret=secret) for key, value in fields.items()}

    def _value(self, message: Value, *, secret: bool) -> Any:
        kind = message.WhichOneof("kind")
        if kind == "string_value":
            text = message.string_value
            if text in UNKNOWNS:
                self.met_unknown = True
                return text
            return SecretText(text) if secret else text
        if kind == "struct_value":
            return self.table(message.struct_value, secret=secret)
        if kind == "list_value":
            return [self._value(one, secret=secret) for one in message.list_value.values]
        return message.bool_value if kind == "bool_value" else message.number_value if kind == "number_value" else None

    def _special(self, fields: Mapping[str, Value], *, secret: bool) -> Any:
        """A value that carries more than itself: a secret, an output, a reference, an asset."""
        kind = fields[SPECIAL_SIG_KEY].string_value
        if kind == OUTPUT_SIG and "value" not in fields:
            self.met_unknown = True
            return proxy.UNKNOWN_OBJECT_VALUE
        if kind in (SPECIAL_SECRET_SIG, OUTPUT_SIG):
            hidden = kind == SPECIAL_SECRET_SIG or ("secret" in fields and fields["secret"].bool_value)
            return self._value(fields["value"], secret=secret or hidden)
        if kind == REFERENCE_SIG:
            return fields["urn"].string_value
        if kind == SPECIAL_ASSET_SIG:
            return next(
                (self._value(fields[key], secret=secret) for key in ("text", "path", "uri") if key in fields), ""
            )
        return {}
