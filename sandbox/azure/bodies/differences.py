"""What changed between two bodies as Azure sees it, and what Azure's answer means for what was declared."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sandbox.azure.bodies.wire import UNKNOWN

Json = Any
WRITE_ONLY = frozenset({"adminPassword", "customData", "protectedSettings", "endpointUrl"})
_PREFIX = re.compile(r"(/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.[^/]+/)(.*)", re.IGNORECASE)


def differences(olds: Json, news: Json, path: str = "") -> Iterator[tuple[str, str]]:
    """Path -> ADD, DELETE or UPDATE for whatever Azure would see as another value."""
    if isinstance(olds, Mapping) and isinstance(news, Mapping):
        for name in sorted({*olds, *news}):
            inner = _step(path, name)
            if olds.get(name) is None and news.get(name) is not None:
                yield inner, "ADD"
            elif olds.get(name) is not None and news.get(name) is None:
                yield inner, "DELETE"
            elif olds.get(name) is not None:
                yield from differences(olds[name], news[name], inner)
    elif isinstance(olds, list) and isinstance(news, list):
        for index in range(max(len(olds), len(news))):
            inner = f"{path}[{index}]"
            if index >= len(olds):
                yield inner, "ADD"
            elif index >= len(news):
                yield inner, "DELETE"
            else:
                yield from differences(olds[index], news[index], inner)
    elif not same(olds, news, path):
        yield path, "UPDATE"


def _step(path: str, name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_$][\w$]*", name):
        return f'{path}["{name}"]'
    return f"{path}.{name}" if path else name


def same(old: Json, new: Json, path: str = "") -> bool:
    """Equal for the official provider: of an id, the case of what precedes the type is nothing.

    The case of the resource's own type and name is something (https://github.com/pulumi/pulumi-azure-native/pull/2993),
    that of the resource's group and the spelling of its location are nothing.
    """
    if old == new and type(old) in (type(new), int, float):
        return bool(new != UNKNOWN)
    if isinstance(old, str) and isinstance(new, str):
        if path == "location":
            return re.sub(r"\s", "", old).lower() == re.sub(r"\s", "", new).lower()
        if path == "resourceGroupName":
            return old.lower() == new.lower()
        left, right = _PREFIX.fullmatch(old), _PREFIX.fullmatch(new)
        return bool(left and right and left[1].lower() == right[1].lower() and left[2] == right[2])
    return False


def refreshed(inputs: Json, olds: Json, news: Json) -> Json:
    """The inputs with whatever has changed between Azure's earlier answer and the present one, and nothing else.

    What Azure spells otherwise than it was declared is therefore no drift, as long as it is spelt the same each time.
    """
    if olds == news:
        return inputs
    if isinstance(inputs, Mapping) and isinstance(olds, Mapping) and isinstance(news, Mapping):
        kept = {name: value for name, value in inputs.items() if name not in olds or name in news}
        for name, new in news.items():
            if name in kept and name in olds:
                kept[name] = refreshed(kept[name], olds[name], new)
            elif olds.get(name) != new:
                kept[name] = new
        return kept
    if isinstance(inputs, list) and isinstance(olds, list) and isinstance(news, list):
        known = min(len(inputs), len(olds), len(news))
        return [refreshed(inputs[n], olds[n], news[n]) for n in range(known)] + news[known:]
    return news


def projected(olds: Json, fresh: Json, path: str = "") -> Json:
    """What Azure has now for what was declared; its own additions are no drift, lost or changed values are."""
    if isinstance(olds, Mapping) and isinstance(fresh, Mapping):
        if path == "tags":
            return dict(fresh)
        kept = {}
        for name, old in olds.items():
            if name in fresh:
                kept[name] = projected(old, fresh[name], _step(path, name))
            elif name in WRITE_ONLY or old in ({}, []):
                kept[name] = old
        return kept
    if isinstance(olds, list) and isinstance(fresh, list):
        return [projected(old, new, f"{path}[]") for old, new in zip(olds, fresh, strict=False)] + fresh[len(olds) :]
    if isinstance(olds, list) and isinstance(fresh, Mapping) and path.endswith("userAssignedIdentities"):
        return sorted(fresh)
    return olds if same(olds, fresh, path) else fresh
