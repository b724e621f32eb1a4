"""Our YAML: what is read as what, what is refused with its line, and that setting one key changes one line."""

import difflib
from datetime import date, datetime, time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwave.base import documents
from patchwave.base.documents import as_document
from patchwave.base.errors import UsageError
from patchwave.base.model import Model
from patchwave.config import stackfile
from patchwave.config.settings import load_stack
from tests.unit.builders import FIXTURE, copy_desk

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


class Inner(Model):
    at: time | None = None
    day: date | None = None
    then: datetime | None = None
    text: str | None = None
    number: int | None = None
    texts: tuple[str, ...] | None = None


class Outer(Model):
    inner: Inner


def read(text: str | bytes) -> documents.Document:
    return as_document(text.encode() if isinstance(text, str) else text, "file.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10:30", "10:30"),
        ("22:00", "22:00"),
        ("2026-02-30", "2026-02-30"),
        ("1.0.0", "1.0.0"),
        ("2026-11-22.1", "2026-11-22.1"),
        ("12", 12),
        ("-1.5", -1.5),
        ("true", True),
        ("~", None),
        ("", None),
        ('"12"', "12"),
        ("'yes'", "yes"),
    ],
)
def test_times_and_dates_are_text_and_only_decimal_numbers_are_numbers(text: str, value: object) -> None:
    assert read(f"a: {text}\n").data == {"a": value}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", 5, "key 'c' stands there twice, first in line 3"),
        ("a: {b: 1,\n b: 2}\n", 2, "key 'b' stands there twice"),
        ("a:\n\t- b\n", 2, "indent with spaces"),
        ("a: 1\nb: yes\n", 2, "yes is read differently by different readers: write it in quotes"),
        ("a: 0644\n", 1, "0644 is read differently"),
        ("a: 1_000\n", 1, "1_000 is read differently"),
        ("a: &x [*x]\n", 1, "alias *x has no anchor"),
        ("a: {<<: b}\n", 1, "merge keys"),
        ("a: !!python/name:os.system x\n", 1, "tag tag:yaml.org,2002:python/name:os.system is not read here"),
        ("a: 1\n---\nb: 2\n", 2, "a second document begins"),
        (BOMB, 5, "more than 50000 values, aliases counted each time"),
        ("[" * 100_000, 1, "nested more than 50 deep"),
        ("a: [1\nb: 2\n", 2, "it is not YAML"),
        ("a: b: c\n", 1, "it is not YAML"),
        ("a: 1\nb: \x07\n", 2, "control character"),
        ("? [a]\n: b\n", 1, "a key must be a word"),
        (b"a: 1\nb: \xff\n", 2, "it is not UTF-8"),
        ("a: 1\n".encode("utf-16"), 1, "it is not UTF-8"),
    ],
)
def test_what_is_not_read_is_named_with_its_line(text: str | bytes, line: int, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(text)
    shown = str(caught.value)
    assert shown.startswith(f"file.yaml:{line}: ")
    assert message in shown
    assert "\n" not in shown


def test_one_anchor_may_be_used_again() -> None:
    assert read("a: &a {b: [1]}\nc: *a\n").data == {"a": {"b": [1]}, "c": {"b": [1]}}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("inner:\n  at: 9:00\n", 2, "inner.at: '9:00' is none: write a time of day as HH:MM"),
        ("inner:\n  at: 36000\n", 2, "write a time of day as HH:MM"),
        ("inner:\n  number: 1\n  day: 2026-02-30\n", 3, "'2026-02-30' is none: write a date"),
        ("inner:\n  then: 2026-12-24T25:00:00Z\n", 2, "write an instant such as 2026-12-24T09:30:00Z"),
        ("inner:\n  text: 12\n", 2, "write a text, in quotes"),
        ("inner:\n  texts:\n    - a\n    - 1\n", 4, "inner.texts.1: write a text"),
        ("inner:\n  other: 1\n", 2, "there is no such key here"),
        ("inner:\n", 1, "inner: write keys and values here"),
        ("inner: word\n", 1, "write keys and values here"),
    ],
)
def test_what_a_model_refuses_is_named_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(text).parse(Outer)
    assert str(caught.value).startswith(f"file.yaml:{line}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n", "word\n", "inner\n", "~\n"])
def test_what_is_no_mapping_is_refused_by_the_model(text: str) -> None:
    with pytest.raises(UsageError, match=r"^file\.yaml: write keys and values here$"):
        read(text).parse(Outer)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"#" * (documents.LARGEST + 1))
    (tmp_path / "loop").symlink_to("loop")
    for name, message in (
        ("large", "more than 1 MiB"),
        ("loop", "cannot be read"),
        ("none", "missing"),
        (".", "direc"),
    ):
        with pytest.raises(UsageError, match=message):
            documents.read(tmp_path / name)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    refused = ""
    try:
        read(text.encode("utf-8", "replace"))
    except UsageError as error:
        refused = str(error)
    assert "\n" not in refused


DESK = (FIXTURE / "Pulumi.dev.yaml").read_text(encoding="utf-8")
LAYOUTS = {
    "our own": DESK,
    "CRLF": DESK.replace("\n", "\r\n"),
    "Pulumi's own": "salt: v1:x\nconfig:\n    azure-native:location: x\n    a:\n        - b: 1\n          c: é # d\n",
    "lists that are not indented": "config:\n  a:\n  - b\n  - c # d\n\n# the end\nz: 1\n",
    "one line": "config: {a: b, c: [d]} # e\n",
    "a byte order mark": "\ufeffconfig:\n  a: b\n",
    "a block of text": "config:\n  a: |\n    b\n    c\nz: 1\n",
}


def differing(before: bytes, after: bytes) -> tuple[list[str], list[str]]:
    """The lines that went and those that came."""
    lines = [text.decode().splitlines(keepends=True) for text in (before, after)]
    found = [one for one in difflib.unified_diff(*lines, n=0) if not one.startswith(("---", "+++", "@@"))]
    return [one[1:] for one in found if one[0] == "-"], [one[1:] for one in found if one[0] == "+"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_key_of_a_stack_file_changes_its_own_line_only(tmp_path: Path, layout: str) -> None:
    project = copy_desk(tmp_path)
    path = project / "Pulumi.dev.yaml"
    path.write_bytes(LAYOUTS[layout].encode())
    whole = layout == "one line"
    for release, gone in (("2026-11-23.1", whole), ("2026-11-24.1", True)):
        before = path.read_bytes()
        assert stackfile.set_release(project, "dev", release)
        went, came = differing(before, path.read_bytes())
        assert (len(went), len(came)) == (gone, 1)
        assert came[0].endswith("\r\n") == (layout == "CRLF")
        assert not stackfile.set_release(project, "dev", release)
    named = path.read_bytes()
    for ids in (["W-1", "123"], ["W-1"]):
        assert stackfile.set_waivers(project, "dev", ids)
        assert documents.read_document(path).data["config"]["patchwave:waivers"] == ids
    assert stackfile.set_waivers(project, "dev", [])
    assert path.read_bytes() == (named if not whole else named.replace(b"}", b", patchwave:waivers: []}"))


@pytest.mark.parametrize(
    ("text", "came"),
    [
        ("config:\n  patchwave:release:\n  a: b\n", ["  patchwave:release: 2026-11-23.1\n"]),
        ('config:\n  "patchwave:release" : "1" # why\n', ['  "patchwave:release": 2026-11-23.1 # why\n']),
        ("config:\n  a: b", ["  a: b\n", "  patchwave:release: 2026-11-23.1"]),
    ],
)
def test_a_key_that_is_there_already_keeps_its_line_and_comment(tmp_path: Path, text: str, came: list[str]) -> None:
    path = copy_desk(tmp_path) / "Pulumi.dev.yaml"
    path.write_text(text, encoding="utf-8")
    assert stackfile.set_release(tmp_path, "dev", "2026-11-23.1")
    assert differing(text.encode(), path.read_bytes())[1] == came


@pytest.mark.parametrize(
    "text", ["config:\n", "config: {}\n", "[]\n", "config:\n  patchwave:release: &r 2026-01-01.1\n  b: *r\n"]
)
def test_a_layout_that_cannot_take_a_key_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = copy_desk(tmp_path) / "Pulumi.dev.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="by hand"):
        stackfile.set_release(tmp_path, "dev", "2026-11-23.1")
    assert path.read_text(encoding="utf-8") == text
    assert [one.name for one in tmp_path.glob(".Pulumi*")] == []


def test_setting_keys_changes_nothing_that_is_decided(tmp_path: Path) -> None:
    project = copy_desk(tmp_path)
    before = load_stack(project, "dev")
    stackfile.set_release(project, "dev", "2026-11-22.1")
    stackfile.set_waivers(project, "dev", ["W-1", "W-2"])
    after = load_stack(project, "dev")
    assert (after.settings, after.release, after.waivers) == (before.settings, "2026-11-22.1", ("W-1", "W-2"))
