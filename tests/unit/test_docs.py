"""The pages keep to the code: links lead somewhere, and fields, rules, kinds and commands are all named as they are."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import typer.main
import yaml
from pydantic import BaseModel

from patchwave import cli
from patchwave.base.documents import load_yaml, read_document
from patchwave.config.settings import SETTINGS, Settings, read_stack
from patchwave.config.standard import Remedy, Standard
from patchwave.evidence.chain import FILE, SIGNATURE
from patchwave.schedule import sla
from patchwave.wave import run as wave
from patchwave.wave.states import State
from policy.judge import CHECKS
from sandbox.estate import Estates

PROJECT = Path(__file__).resolve().parents[2]
EXAMPLES = (("services", "docs/services.md"), ("stacks", "docs/sandbox.md"))
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")])


def text(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in heads}, target


def commands(page: str) -> Iterator[list[str]]:
    """Each `patchwave …` that a page prints in code, without its comment."""
    for line in re.findall(r"`([^`\n]+)`|^((?:uv run )?patchwave .+)$", text(page), re.MULTILINE):
        code = "".join(line).removeprefix("uv run ")
        if code.startswith("patchwave ") and "evidence.jsonl" not in code:
            yield shlex.split(code, comments=True)[1:]


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{path.name}" for path in sorted((PROJECT / "docs").glob("*.md")))]
)
def test_every_printed_command_exists_with_its_options(page: str) -> None:
    for words in commands(page):
        here: Any = typer.main.get_command(cli.app)
        while words and hasattr(here, "commands"):
            assert words[0] in here.commands, f"patchwave {' '.join(words)}"
            here = here.commands[words.pop(0)]
        known = {option for parameter in here.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, words


def fields(model: type[BaseModel]) -> Iterator[str]:
    """Every field's name as it is written in the file, also of nested models."""
    for name, info in model.model_fields.items():
        yield info.alias or name
        yield from (inner for part in parts(info.annotation) for inner in fields(part))


def parts(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not None:
        for argument in get_args(annotation):
            yield from parts(argument)


@pytest.mark.parametrize("model", [Settings, Standard])
def test_every_field_is_explained(model: type[BaseModel]) -> None:
    words = set(re.findall(r"[a-z_]+", text("docs/settings.md")))
    assert {field for field in fields(model) if field not in words} == set()


def test_printed_examples_are_accepted(tmp_path: Path) -> None:
    printed = [re.search(rf"```yaml\n({key}:.*?)```", text(page), re.DOTALL) for key, page in EXAMPLES]
    services, estate = (one[1] for one in printed if one)
    stack = yaml.safe_load(text("tests/fixtures/desk/Pulumi.dev.yaml"))
    stack["config"][SETTINGS] |= yaml.safe_load(services)
    for name, content in (("stack.yaml", yaml.safe_dump(stack)), ("estate.yaml", estate)):
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert {*read_stack(read_document(tmp_path / "stack.yaml")).settings.services} == {"site", "orders"}
    assert load_yaml(tmp_path / "estate.yaml", Estates).stacks["qa"].machines


def test_every_rule_has_its_row() -> None:
    rows = re.findall(r"^\| (?:\*\*)?\[?([a-z]+(?:-[a-z]+)+)(?:[\]*<]| \|)", text("docs/rules.md"), re.MULTILINE)
    assert sorted({*rows}) == sorted(CHECKS)


def test_every_kind_of_record_and_every_end_state_is_explained() -> None:
    page = text("docs/wave.md")
    written = set(re.findall(r'_record\(\s*"([a-z-]+)"', Path(wave.__file__).read_text(encoding="utf-8")))
    assert len(written) > 5
    assert {kind for kind in written if f"| `{kind}` |" not in page} == set()
    assert {state for state in get_args(State) if f"| `{state}` |" not in page} == set()
    assert FILE in page
    assert SIGNATURE in page


def test_every_state_of_a_fix_and_every_remedy_is_explained() -> None:
    page = text("docs/sla.md")
    assert {word for word in (*get_args(sla.State), *get_args(Remedy)) if f"| `{word}` |" not in page} == set()


def test_make_targets_that_are_printed_exist() -> None:
    made = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    printed = {
        word for page in PAGES for word in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(encoding="utf-8"), re.M)
    }
    assert printed <= made
