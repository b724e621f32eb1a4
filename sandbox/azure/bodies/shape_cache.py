"""The shapes of all kinds: read from the SDK once, which takes seconds, and kept in a file since."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from sandbox.azure.bodies.shapes import Field, Shape, Shapes
from sandbox.azure.resources.kinds import BACKEND_POOL, INSTALLS, KINDS

FORMAT = "4"
"""Changes when shapes are read otherwise, so that an old cache is not used."""


_MODELS = (*(kind.model for kind in KINDS), *INSTALLS.values(), BACKEND_POOL)


def build() -> Shapes:
    """Reads every model of the table from the SDK; takes seconds, so callers use `shapes`."""
    found = Shapes()
    for model in _MODELS:
        found.add(model)
    return found


def versions() -> str:
    """What the cached shapes depend on: the table and the SDK packages."""
    packages = sorted({f"azure-mgmt-{model.split('.')[2]}" for model in _MODELS})
    text = "|".join([FORMAT, *(f"{p}={metadata.version(p)}" for p in packages), *_MODELS])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def shapes(folder: Path | None = None) -> Mapping[str, Shape]:
    """The shapes of all kinds, from the cache in `folder` when the SDK has not changed since."""
    if folder is None:
        return build()
    kept = folder / f"shapes-{versions()}.json"
    try:
        return _load(kept.read_text())
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    found = build()
    folder.mkdir(parents=True, exist_ok=True)
    draft = kept.with_suffix(f".{os.getpid()}")
    draft.write_text(_dump(found))
    draft.replace(kept)
    return found


def _dump(found: Mapping[str, Shape]) -> str:
    def row(one: Field) -> list[Any]:
        return [one.path, one.type, int(one.readonly), int(one.required), one.choices]

    return json.dumps(
        {
            name: [{key: row(one) for key, one in shape.fields.items()}, shape.discriminator, dict(shape.subtypes)]
            for name, shape in found.items()
        },
        separators=(",", ":"),
    )


def _load(text: str) -> dict[str, Shape]:
    def fields(rows: Mapping[str, Any]) -> Iterator[tuple[str, Field]]:
        for name, (path, kind, readonly, required, choices) in rows.items():
            yield name, Field(tuple(path), kind, bool(readonly), bool(required), tuple(choices))

    return {
        name: Shape(dict(fields(rows)), discriminator, subtypes)
        for name, (rows, discriminator, subtypes) in json.loads(text).items()
    }
