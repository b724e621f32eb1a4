"""Are the tests their own: the fast suite passes in a copy of the project whose decisions are all other ones.

`python -m tests.independence` runs it, or the files of it that are named; `pytest -p tests.independence` names, in the
project itself, each test that opens a shipped decision.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tools.change_decisions import main as change_decisions

PROJECT = Path(__file__).resolve().parents[1]
SHIPPED = {PROJECT / "policy" / "standard.yaml", *PROJECT.glob("Pulumi.*.yaml")}
opened: list[str] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str) and arguments[0].endswith(".yaml"):
        path = Path(os.path.abspath(arguments[0]))  # noqa: PTH100 - resolving would open links, which are files as well
        if path in SHIPPED:
            opened.append(path.name)


def pytest_configure(config: pytest.Config) -> None:
    sys.addaudithook(_watch)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    before = len(opened)
    yield
    if found := sorted({*opened[before:]}):
        pytest.fail(f"it reads {', '.join(found)}: take a file of tests/fixtures", pytrace=False)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if opened and not session.testsfailed:
        session.exitstatus = 1
        sys.stderr.write(f"modules or fixtures read {', '.join(sorted({*opened}))}: take files of tests/fixtures\n")


def main(arguments: list[str]) -> int:
    """Pytest's exit code in the changed copy."""
    with TemporaryDirectory(prefix="patchwave-") as folder:
        copy = Path(folder) / "project"
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=PROJECT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        for name in filter(None, listed.stdout.split("\0")):
            if (PROJECT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(PROJECT / name, copy / name)
        change_decisions(copy)
        subprocess.run(["git", "init", "-q"], cwd=copy, check=True)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *(arguments or ["tests/unit"])]
        environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, cwd=copy, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
