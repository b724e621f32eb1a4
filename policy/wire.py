"""Properties as the engine's messages hold them, and as the rules read them."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from google.protobuf.struct_pb2 import Struct, Value

from patchwave.base.protocol import without_the_sdk
from policy.declared import Props

with without_the_sdk():
    from pulumi_policy import proxy

# https://github.com/pulumi/pulumi/blob/master/sdk/go/common/resource/sig/sig.go
SIGNATURE = "4dabf18193072939515e22adb298388d"
HIDDEN_SIG = "1b47061264138c4ac30d75fd1eb44270"
ASSET_SIG = "c44067f5952c0a294b673a41bacd8c17"
OUTPUT_SIG = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
REFERENCE_SIG = "5cf8f73096256a8f31e491e813e4eb8e"
UnknownValueError = proxy.UnknownValueError
UNKNOWNS = frozenset(value for name, value in vars(proxy).items() if name.startswith("UNKNOWN_"))


class SecretText(str):
    """A text that the engine keeps as a secret."""


def known(values: Mapping[str, Any], key: str) -> Any:
    """A value, None where it is missing or only an update knows it."""
    try:
        return values.get(key)
    except UnknownValueError:
        return None


def given(values: Mapping[str, Any], key: str) -> bool:
    """Whether there is a value, also one that only an update knows."""
    try:
        return values.get(key) is not None
    except UnknownValueError:
        return True


def texts(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every text inside of a value, by its dotted path; what only an update knows is left out."""
    if isinstance(value, str):
        yield where, value
        return
    keys: Sequence[Any] = ()
    if isinstance(value, Mapping):
        keys = sorted(value)  # a message keeps no order
    elif isinstance(value, Sequence):
        keys = range(len(value))
    for key in keys:
        try:
            inner = value[key]
        except UnknownValueError:
            continue
        yield from texts(inner, f"{where}.{key}" if where else str(key))


def props_of(message: Struct) -> Props:
    """A resource's properties; reading one that only an update knows raises UnknownValueError."""
    reader = _Reader()
    found: Props = reader.table(message, secret=False)
    return proxy.unknown_checking_proxy(dict(found)) if reader.met_unknown else found


class LateProps(Mapping[str, Any]):
    """A resource's properties, read when a rule first asks for one: most rules over a stack ask for few."""

    def __init__(self, message: Struct) -> None:
        self._message = message

    @cached_property
    def _props(self) -> Props:
        return props_of(self._message)

    def __getitem__(self, key: str) -> Any:
        return self._props[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._props)

    def __len__(self) -> int:
        return len(self._props)


class _Reader:
    def __init__(self) -> None:
        self.met_unknown = False

    def table(self, message: Struct, *, secret: bool) -> Any:
        fields = message.fields
        if SIGNATURE in fields:
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
        kind = fields[SIGNATURE].string_value
        if kind == OUTPUT_SIG and "value" not in fields:
            self.met_unknown = True
            return proxy.UNKNOWN_OBJECT_VALUE
        if kind in (HIDDEN_SIG, OUTPUT_SIG):
            hidden = kind == HIDDEN_SIG or ("secret" in fields and fields["secret"].bool_value)
            return self._value(fields["value"], secret=secret or hidden)
        if kind == REFERENCE_SIG:
            return fields["urn"].string_value
        if kind == ASSET_SIG:
            return next(
                (self._value(fields[key], secret=secret) for key in ("text", "path", "uri") if key in fields), ""
            )
        return {}
