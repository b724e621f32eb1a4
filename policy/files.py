"""Files of a project as rules read them: each once, until it changes."""

from functools import lru_cache
from pathlib import Path

from patchwave.config.settings import StackFile, load_stack, stack_path

Mark = tuple[int, int] | None
"""When a file was written and how long it is; None where there is none."""


def mark(path: Path) -> Mark:
    """What tells a file from what it was."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def stack_file(project: Path, stack: str) -> StackFile:
    """The decisions of one stack."""
    return _stack_file(project, stack, mark(stack_path(project, stack)))


@lru_cache(maxsize=8)
def _stack_file(project: Path, stack: str, mark: Mark) -> StackFile:
    return load_stack(project, stack)
