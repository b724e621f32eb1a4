"""Between Pulumi's flattened inputs and Azure's wire bodies, guided by the SDK's shapes; nothing unknown passes."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.azure.bodies.shapes import SHADOWED, Field, Shape

Json = Any
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""The engine's word for a value that is known only after the update."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a body: where, and in what way."""

    path: str
    reason: str
    code: str = "InvalidRequestContent"


class Wire:
    """Folding, unfolding and checking of bodies against one set of shapes."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self._shapes = shapes

    def fields(self, shape: str) -> Mapping[str, Field]:
        """The shape's properties by Pulumi's name."""
        return self._shapes[shape].fields

    def unfold(self, inputs: Mapping[str, Json], shape: str) -> dict[str, Json]:
        """The wire body of Pulumi's inputs; names that the shape lacks are left out (see `complaints`)."""
        chosen = self._chosen(shape, inputs)
        body: dict[str, Json] = {}
        for name, value in inputs.items():
            if (one := chosen.fields.get(name)) is None or value is None:
                continue
            target = body
            for part in one.path[:-1]:
                target = target.setdefault(part, {})
            target[one.path[-1]] = self._each(one.type, value, self.unfold, one)
        return body

    def fold(self, body: Mapping[str, Json], shape: str) -> dict[str, Json]:
        """Pulumi's properties of a wire body."""
        chosen = self._chosen(shape, body)
        outputs: dict[str, Json] = {}
        for name, one in chosen.fields.items():
            if name.endswith(SHADOWED):
                continue
            value: Json = body
            for part in one.path:
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is not None:
                outputs[name] = self._each(one.type, value, self.fold, one)
        return outputs

    def foreseen(self, inputs: Mapping[str, Json], shape: str) -> dict[str, Json]:
        """The outputs as far as the inputs determine them; every other property, also of nested objects, is unknown."""
        outputs: dict[str, Json] = {}
        for name, one in self._chosen(shape, inputs).fields.items():
            if not name.endswith(SHADOWED):
                value = inputs.get(name)
                outputs[name] = UNKNOWN if value is None else self._each(one.type, value, self.foreseen, one)
        return outputs

    def complaints(self, inputs: Mapping[str, Json], shape: str, at: str = "") -> Iterator[Problem]:
        """What is wrong with Pulumi's inputs: unknown names, wrong types, missing values; unknown values pass."""
        chosen = self._chosen(shape, inputs)
        for name, value in inputs.items():
            one = chosen.fields.get(name)
            if one is None:
                yield Problem(f"{at}{name}", f"unknown property '{name}'{_nearest(name, chosen.fields)}")
            elif value is not None:
                yield from self._wrong(one, value, f"{at}{name}", self.complaints)
        for name, one in chosen.fields.items():
            if one.required and not one.readonly and inputs.get(name) is None:
                yield Problem(f"{at}{name}", "missing required property")

    def problems(self, body: Mapping[str, Json], shape: str, at: str = "") -> Iterator[Problem]:
        """What is wrong with a wire body, in Azure's terms."""
        yield from self._below(self._chosen(shape, body), (), body, at)

    def _below(self, shape: Shape, path: tuple[str, ...], body: Mapping[str, Json], at: str) -> Iterator[Problem]:
        known = shape.at(path)
        for name, value in body.items():
            if name not in known:
                where = f"{at}{name}"
                yield Problem(where, f"Could not find member '{name}' on object. Path '{where}'.")
                continue
            one = known[name][1]
            if value is None:
                continue
            if one is None:
                if isinstance(value, Mapping):
                    yield from self._below(shape, (*path, name), value, f"{at}{name}.")
                else:
                    yield Problem(f"{at}{name}", f"Error converting value to an object. Path '{at}{name}'.")
            else:
                yield from self._wrong(one, value, f"{at}{name}", self.problems)
        for name, (_, one) in known.items():
            if one is not None and one.required and not one.readonly and body.get(name) is None:
                where = f"{at}{name}"
                yield Problem(where, f"Required parameter '{where}' is missing (null).", "InvalidParameter")

    def writable(self, body: Mapping[str, Json], shape: str) -> dict[str, Json]:
        """The body without what only Azure may set."""
        return self._writable(self._chosen(shape, body), (), body)

    def _writable(self, shape: Shape, path: tuple[str, ...], body: Mapping[str, Json]) -> dict[str, Json]:
        known = shape.at(path)
        kept: dict[str, Json] = {}
        for name, value in body.items():
            one = known[name][1] if name in known else None
            if one is None and isinstance(value, Mapping) and name in known:
                kept[name] = self._writable(shape, (*path, name), value)
            elif one is not None and not one.readonly and value is not None:
                kept[name] = self._each(one.type, value, self.writable, one)
        return kept

    def children(self, shape: str) -> Iterator[tuple[str, ...]]:
        """Wire paths of the lists whose members are resources of their own (name, id and etag)."""
        for one in self._shapes[shape].fields.values():
            if one.type.startswith("[@") and not one.readonly:
                inner = self._shapes[one.type[2:-1]].fields
                if "etag" in inner and "id" in inner and "name" in inner:
                    yield one.path

    def _chosen(self, name: str, value: Mapping[str, Json]) -> Shape:
        shape = self._shapes[name]
        if shape.discriminator and (sub := shape.subtypes.get(str(value.get(shape.discriminator)))):
            return self._shapes[sub]
        return shape

    def _each(self, kind: str, value: Json, visit: Callable[[Mapping[str, Json], str], Json], one: Field) -> Json:
        if kind[0] == "@" and isinstance(value, Mapping):
            return visit(value, kind[1:])
        if kind[0] == "[" and isinstance(value, list):
            return [self._each(kind[1:-1], item, visit, one) for item in value]
        if kind[0] == "{":
            if one.path[-1] == "userAssignedIdentities" and isinstance(value, list):
                return {identity: {} for identity in value}
            if isinstance(value, Mapping):
                return {key: self._each(kind[1:-1], item, visit, one) for key, item in value.items()}
        if kind == "int" and isinstance(value, float) and value.is_integer():
            return int(value)
        if one.choices and isinstance(value, str):
            return next((choice for choice in one.choices if choice.lower() == value.lower()), value)
        return value

    def _wrong(
        self, one: Field, value: Json, at: str, visit: Callable[[Mapping[str, Json], str, str], Iterator[Problem]]
    ) -> Iterator[Problem]:
        yield from self._wrong_type(one, one.type, value, at, visit)

    def _wrong_type(
        self, one: Field, kind: str, value: Json, at: str,
        visit: Callable[[Mapping[str, Json], str, str], Iterator[Problem]],
    ) -> Iterator[Problem]:  # fmt: skip
        if value == UNKNOWN or kind == "any" or value is None:
            return
        if kind[0] == "@":
            if isinstance(value, Mapping):
                yield from visit(value, kind[1:], f"{at}.")
            else:
                yield _mistyped(value, "an object", at)
        elif kind[0] == "[":
            if isinstance(value, list):
                for index, item in enumerate(value):
                    yield from self._wrong_type(one, kind[1:-1], item, f"{at}[{index}]", visit)
            else:
                yield _mistyped(value, "a list", at)
        elif kind[0] == "{":
            if one.path[-1] == "userAssignedIdentities" and isinstance(value, list):
                return
            if isinstance(value, Mapping):
                for key, item in value.items():
                    yield from self._wrong_type(one, kind[1:-1], item, f"{at}.{key}", visit)
            else:
                yield _mistyped(value, "a map", at)
        else:
            yield from _wrong_scalar(one, kind, value, at)


def _wrong_scalar(one: Field, kind: str, value: Json, at: str) -> Iterator[Problem]:
    right = {
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
        "int": isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer(),
        "float": isinstance(value, int | float) and not isinstance(value, bool),
    }[kind]
    if not right:
        yield _mistyped(
            value, {"str": "a string", "bool": "a boolean", "int": "an integer", "float": "a number"}[kind], at
        )
    elif one.choices and not one.readonly and str(value).lower() not in (choice.lower() for choice in one.choices):
        allowed = ", ".join(one.choices)
        yield Problem(at, f"The value '{value}' of parameter '{at}' is not allowed. Allowed values are '{allowed}'.",
                      "InvalidParameter")  # fmt: skip


def _mistyped(value: Json, wanted: str, at: str) -> Problem:
    shown = repr(value) if isinstance(value, str | int | float | bool) else type(value).__name__
    return Problem(at, f"Error converting value {shown} to {wanted}. Path '{at}'.")


def _nearest(name: str, fields: Mapping[str, Field]) -> str:
    writable = [known for known, one in fields.items() if not one.readonly]
    close = difflib.get_close_matches(name, writable, 1, 0.6)
    return f": did you mean '{close[0]}'?" if close else ""
