"""What Azure's bodies look like, read from the metadata of the official SDK's own models.

A shape maps each name as Pulumi spells it to the field's path on the wire. Both generations of SDK models are
read: `_attribute_map` with dotted keys, and typed models whose `properties` are flattened.
"""

from __future__ import annotations

import datetime
import enum
import importlib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

READ_ONLY = ["read"]
LARGEST_ENUMERATION = 50
SHADOWED = "#"
"""Marks a field whose Pulumi name belongs to another one (`type` of an extension against `properties.type`)."""


@dataclass(frozen=True)
class Field:
    """One property: where it sits on the wire and what it may hold.

    `type` is `str`, `int`, `float`, `bool`, `any`, `[T]`, `{T}` or `@shape`.
    """

    path: tuple[str, ...]
    type: str
    readonly: bool = False
    required: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shape:
    """One object: its fields by Pulumi's name, and its subtypes when a discriminator chooses among them."""

    fields: Mapping[str, Field] = field(default_factory=dict)
    discriminator: str = ""
    subtypes: Mapping[str, str] = field(default_factory=dict)

    def at(self, path: tuple[str, ...]) -> dict[str, tuple[str | None, Field | None]]:
        """What stands below one wire path: wire name -> (Pulumi's name, field), or (None, None) for an inner object."""
        found: dict[str, tuple[str | None, Field | None]] = {}
        for name, one in self.fields.items():
            if one.path[: len(path)] == path and len(one.path) > len(path):
                inner = one.path[len(path)]
                found[inner] = (name, one) if len(one.path) == len(path) + 1 else found.get(inner, (None, None))
        return found


class Shapes(dict[str, Shape]):
    """All shapes reachable from the given models, by name."""

    def add(self, reference: str) -> str:
        """The shape of `module:Class`, with everything below it."""
        module, _, name = reference.partition(":")
        return self._add(module, getattr(importlib.import_module(module), name))

    def _add(self, module: str, model: type) -> str:
        key = f"{module.removeprefix('azure.mgmt.').removesuffix('.models')}.{model.__name__}"
        if key in self:
            return key
        self[key] = Shape()  # a model may hold itself
        read = self._mapped if hasattr(model, "_attribute_map") else self._typed
        fields: dict[str, Field] = {}
        for name, one in read(module, model):
            if name in fields and fields[name].readonly:
                fields[name + SHADOWED] = fields[name]
            elif name in fields:
                fields[name + SHADOWED] = one
                continue
            fields[name] = one
        discriminator = ""
        subtypes = dict(_subtypes(module, model))
        if subtypes:
            table = getattr(model, "_subtype_map", None)
            discriminator = (
                _keys(model._attribute_map[next(iter(table))]["key"])[-1]  # type: ignore[attr-defined]
                if table
                else next((one.path[-1] for one in fields.values() if one.type == "str!"), "")
            )
        fields = {
            name: Field(one.path, "str", one.readonly, True, one.choices) if one.type == "str!" else one
            for name, one in fields.items()
        }
        if discriminator:
            one = fields[discriminator]
            fields[discriminator] = Field(one.path, "str", False, True, tuple(subtypes))
        self[key] = Shape(fields, discriminator, {value: self._add(module, sub) for value, sub in subtypes.items()})
        return key

    def _mapped(self, module: str, model: Any) -> Iterator[tuple[str, Field]]:
        rules = getattr(model, "_validation", {})
        for attribute, entry in model._attribute_map.items():
            path = _keys(entry["key"])
            rule = rules.get(attribute, {})
            kind = self._named(module, entry["type"])
            yield path[-1], Field(path, kind, bool(rule.get("readonly")), bool(rule.get("required")))

    def _named(self, module: str, kind: str) -> str:
        if kind[0] in "[{":
            return f"{kind[0]}{self._named(module, kind[1:-1])}{kind[-1]}"
        simple = {"int": "int", "long": "int", "float": "float", "bool": "bool", "object": "any"}
        if kind in simple:
            return simple[kind]
        model: Any = getattr(importlib.import_module(module), kind, None)
        return f"@{self._add(module, model)}" if hasattr(model, "_attribute_map") else "str"

    def _typed(self, module: str, model: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, Field]]:
        model()  # fills _attr_to_rest_field
        hints = _hints(module, model)
        flattened = next((vars(c)[f] for c in model.__mro__ if (f := f"_{c.__name__}__flattened_items") in vars(c)), ())
        for attribute, rest in model._attr_to_rest_field.items():
            hint, required = _required(hints[attribute])
            path = (*prefix, rest._rest_name)
            if flattened and rest._rest_name == "properties":
                yield from self._typed(module, hint, path)
                continue
            kind, choices = self._annotated(module, hint)
            if rest._is_discriminator:
                kind = "str!"
            yield rest._rest_name, Field(path, kind, rest._visibility == READ_ONLY, required, choices)

    def _annotated(self, module: str, hint: Any) -> tuple[str, tuple[str, ...]]:
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (list, set):
            return f"[{self._annotated(module, arguments[0])[0]}]", ()
        if origin in (dict, Mapping):
            return f"{{{self._annotated(module, arguments[1])[0]}}}", ()
        if origin in (typing.Union, types.UnionType):
            enums = [a for a in arguments if isinstance(a, type) and issubclass(a, enum.Enum)]
            if enums:
                return "str", _choices(enums[0])
            return "any", ()
        if origin is typing.Literal:
            return "str", tuple(str(getattr(a, "value", a)) for a in arguments)
        if isinstance(hint, type):
            if issubclass(hint, bool):
                return "bool", ()
            if issubclass(hint, enum.Enum):
                return "str", _choices(hint)
            for native, kind in ((int, "int"), (float, "float"), (str, "str"), (bytes, "str")):
                if issubclass(hint, native):
                    return kind, ()
            if issubclass(hint, (datetime.datetime, datetime.date, datetime.time, datetime.timedelta)):
                return "str", ()
            if hasattr(hint, "_is_model"):
                return f"@{self._add(module, hint)}", ()
        return "any", ()


def _subtypes(module: str, model: Any) -> Iterator[tuple[str, type]]:
    """The classes that a discriminator's values stand for, those of the subtypes' own subtypes included."""
    for table in vars(model).get("_subtype_map", {}).values():
        models = importlib.import_module(module)
        for value, name in table.items():
            yield value, getattr(models, name)
            yield from _subtypes(module, getattr(models, name))
    for value, inner in vars(model).get("__mapping__", {}).items():
        yield value, inner
        yield from _subtypes(module, inner)


def _choices(values: type[enum.Enum]) -> tuple[str, ...]:
    """An enumeration's values; one of a hundred sizes is a list of what there once was, and no limit."""
    found = tuple(str(member.value) for member in values)
    return found if len(found) <= LARGEST_ENUMERATION else ()


def _keys(key: str) -> tuple[str, ...]:
    """A dotted key in parts; `\\.` is a dot of the name itself."""
    return tuple(part.replace("\0", ".") for part in key.replace("\\.", "\0").split("."))


@cache
def _hints(module: str, model: Any) -> dict[str, Any]:
    models = importlib.import_module(module)
    names: dict[str, Any] = {}
    for parent in reversed(model.__mro__):
        scope = {**vars(importlib.import_module(parent.__module__)), "_models": models}
        for name, hint in vars(parent).get("__annotations__", {}).items():
            names[name] = eval(hint, scope) if isinstance(hint, str) else hint  # noqa: S307 - the SDK's own annotations
    return {name: _resolved(hint, models) for name, hint in names.items()}


def _resolved(hint: Any, models: Any) -> Any:
    class Holder:
        __annotations__ = {"it": hint}

    return typing.get_type_hints(Holder, globalns={"_models": models, **vars(typing)})["it"]


def _required(hint: Any) -> tuple[Any, bool]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        left = [a for a in typing.get_args(hint) if a is not type(None)]
        if len(left) < len(typing.get_args(hint)):
            return (left[0] if len(left) == 1 else typing.Union[tuple(left)]), False  # noqa: UP007 - built at run time
    return hint, True
