"""What changed between two bodies as Azure sees it, and what Azure's answer means for what was declared."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .ids import looks_like_id
from .wire import UNKNOWN

Json = Any
WRITE_ONLY = frozenset({"adminPassword", "customData", "protectedSettings"})


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
    """Equal for Azure: ids without regard to case, locations without regard to their spelling."""
    if old == new and type(old) in (type(new), int, float):
        return bool(new != UNKNOWN)
    if isinstance(old, str) and isinstance(new, str):
        if path == "location":
            return re.sub(r"\s", "", old).lower() == re.sub(r"\s", "", new).lower()
        return looks_like_id(old) and old.lower() == new.lower()
    return False


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
