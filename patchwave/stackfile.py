"""Names a release in a stack file, leaving every comment and every other line as it was."""

from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML

from patchwave.settings import stack_path
from patchwave.standard import StackName

KEY = "patchwave:release"


def set_release(project: Path, stack: StackName, release_id: str) -> bool:
    """Whether the file changed; it is replaced whole or not at all."""
    path = stack_path(project, stack)
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = path.read_text(encoding="utf-8")
    document = yaml.load(text)
    if document["config"].get(KEY) == release_id:
        return False
    document["config"][KEY] = release_id
    after = StringIO()
    yaml.dump(document, after)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(after.getvalue(), encoding="utf-8")
    fresh.replace(path)
    return True
