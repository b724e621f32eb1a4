"""Files that a human writes: read as YAML, believed only after a closed model has parsed them."""

import json
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from patchwave.base.errors import UsageError
from patchwave.base.model import Model, first_problem

M = TypeVar("M", bound=Model)


def read_yaml(path: Path) -> Any:
    """The plain data of a YAML file."""
    return plain(read(path), str(path))


def read(path: Path) -> bytes:
    """The bytes of a file that must be there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path} is missing: restore it from git or name another project folder") from None


def plain(content: bytes, where: str) -> Any:
    """The plain data of YAML."""
    try:
        return yaml.safe_load(content.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{where} is not YAML: {' '.join(str(error).split())}") from None


def parse(data: Any, model: type[M], where: str) -> M:
    """Plain data as a model; dates and durations are read from their text, nothing else is converted."""
    try:
        return model.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise UsageError(f"{where}: {first_problem(error)}") from None


def load_yaml(path: Path, model: type[M]) -> M:
    """A YAML file as a model."""
    return parse(read_yaml(path), model, str(path))
