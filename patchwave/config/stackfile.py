"""Names a release and waivers in a stack file, leaving every comment and every other line as it was."""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from patchwave.base.errors import UsageError
from patchwave.config.settings import stack_path
from patchwave.config.standard import StackName

KEY = "patchwave:release"
WAIVERS = "patchwave:waivers"


def set_release(project: Path, stack: StackName, release_id: str) -> bool:
    """Whether the file changed; it is replaced whole or not at all."""
    return _set(project, stack, KEY, release_id)


def set_waivers(project: Path, stack: StackName, ids: Sequence[str]) -> bool:
    """Whether the file changed; it names exactly these waivers afterwards."""
    return _set(project, stack, WAIVERS, list(ids) or None)


def _set(project: Path, stack: StackName, key: str, value: Any) -> bool:
    path = stack_path(project, stack)
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = path.read_text(encoding="utf-8")
    try:
        document = yaml.load(text)
    except YAMLError as error:
        raise UsageError(f"{path}: {' '.join(str(error).split('To suppress')[0].split())}: fix it by hand") from None
    if document["config"].get(key) == value:
        return False
    if value is None:
        del document["config"][key]
    else:
        document["config"][key] = value
    after = StringIO()
    yaml.dump(document, after)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(after.getvalue(), encoding="utf-8")
    fresh.replace(path)
    return True
