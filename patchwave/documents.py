"""Files that a human writes: read as YAML, believed only after a closed model has parsed them."""

import json
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from patchwave.errors import Misuse
from patchwave.model import Model, first_problem

M = TypeVar("M", bound=Model)


def read_yaml(path: Path) -> Any:
    """The plain data of a YAML file."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Misuse(f"{path} is missing: restore it from git or name another project folder") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Misuse(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def parse(data: Any, model: type[M], where: str) -> M:
    """Plain data as a model; dates and durations are read from their text, nothing else is converted."""
    try:
        return model.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise Misuse(f"{where}: {first_problem(error)}") from None


def load_yaml(path: Path, model: type[M]) -> M:
    """A YAML file as a model."""
    return parse(read_yaml(path), model, str(path))
