"""Files that people write: a strict part of YAML, used only after a closed model has parsed them.

One document of mappings, lists and scalars in UTF-8, at most `LARGEST` bytes and `NODES` values, aliases counted as
often as they are used. A plain scalar is text unless it is null, true, false or a decimal number: times and dates are
text, and notations that readers of YAML disagree about are refused.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import ValidationError

from patchwave.base.errors import UsageError
from patchwave.base.model import Model, first_problem

M = TypeVar("M", bound=Model)
Key = tuple[str | int, ...]
LARGEST = 1 << 20
NODES = 50_000
DEPTH = 50

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(0|[1-9]\d*)")
_FLOAT = re.compile(r"[-+]?(0|[1-9]\d*)(\.\d*)?([eE][-+]?\d+)?")
_DISPUTED = re.compile(
    r"(?i:yes|no|on|off|y|n)|[-+]?0[0-9_]+|[-+]?0[box][0-9a-fA-F_]+|[-+]?[0-9][0-9_]*_[0-9_]*|[-+]?\.(?i:inf)|\.(?i:nan)"
)


class Place(NamedTuple):
    """Where a key and its value stand: the line from 1 on, and offsets into the text."""

    line: int
    column: int
    key_ends: int
    starts: int
    ends: int
    flow: bool


@dataclass(frozen=True)
class Document:
    """The plain data of a file, and where each key of it stands; what lies behind an alias has the alias's place."""

    where: str
    text: str
    data: Any
    places: Mapping[Key, Place] = field(repr=False)

    def line(self, key: Key) -> int | None:
        """The line of a key, or of the nearest one around it; steps that a model has put between are left out."""
        known: Key = ()
        for step in key:
            if (*known, step) in self.places:
                known = (*known, step)
        return self.places[known].line if known in self.places else None

    def refusal(self, key: Key, why: str) -> UsageError:
        """What is wrong at a key, with its line where that is known."""
        line = self.line(key)
        return UsageError(f"{self.where}:{line}: {why}" if line else f"{self.where}: {why}")

    def parse(self, model: type[M], key: Key = ()) -> M:
        """What stands at a key as a model."""
        data = self.data
        for step in key:
            data = data[step]
        try:
            return model.model_validate_json(json.dumps(data))
        except ValidationError as error:
            why = first_problem(error, data)
            loc = error.errors(include_url=False)[0]["loc"] or tuple(re.split(r"[:\s]", why)[0].split("."))
            named = f"{key[-1]}: {why}" if key else why
            raise self.refusal((*key, *loc), named) from None


def read(path: Path) -> bytes:
    """The bytes of a file that must be there."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise UsageError(f"{path} is missing: restore it from git or name another project folder") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > LARGEST:
        raise UsageError(f"{path} has more than {LARGEST >> 20} MiB: no file of decisions is that large, restore it")
    return content


def read_document(path: Path) -> Document:
    """A YAML file with the places of its keys."""
    return as_document(read(path), str(path))


def as_document(content: bytes, where: str) -> Document:
    """The content of a YAML file with the places of its keys."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{where}:{line}: it is not UTF-8: save it in that encoding") from None
    builder = _Builder(where, text)
    return Document(where, text, builder.whole(), builder.places)


def parse(data: Any, model: type[M], where: str) -> M:
    """Plain data as a model; dates and durations are read from their text, nothing else is converted."""
    try:
        return model.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise UsageError(f"{where}: {first_problem(error, data)}") from None


def load_yaml(path: Path, model: type[M]) -> M:
    """A YAML file as a model."""
    return read_document(path).parse(model)


def scalar(text: str) -> str | int | float | bool | None:
    """A plain scalar as it is read; ValueError for a notation that readers of YAML disagree about."""
    if _NULL.fullmatch(text):
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text) and len(text) <= 18:
        return int(text)
    if _FLOAT.fullmatch(text) and len(text) <= 30:
        return float(text)
    if _DISPUTED.fullmatch(text):
        raise ValueError(
            f"{text} is read differently by different readers: write it in quotes, or as true, false or 10"
        )
    return text


class _Builder:
    """Builds plain data from the events of PyYAML's parser."""

    def __init__(self, where: str, text: str) -> None:
        self.where, self.places = where, dict[Key, Place]()
        self._events: Iterator[yaml.Event] = yaml.parse(text, yaml.SafeLoader)
        self._text, self._nodes, self._ends = text, 0, 0
        self._anchors: dict[str, tuple[Any, int]] = {}

    def whole(self) -> Any:
        """The data of the only document; UsageError names the line of what is wrong."""
        try:
            data = None
            next(self._events)  # the stream's start
            if isinstance(next(self._events), yaml.DocumentStartEvent):
                data = self._node(next(self._events), ())
                next(self._events)
                if isinstance(event := next(self._events), yaml.DocumentStartEvent):
                    raise self._wrong(event, "a second document begins: keep one a file")
            return data
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            why = " ".join(str(error.problem or error.context).split())
            fix = "indent with spaces" if "'\\t'" in why else "look at its indentation, quotes and brackets"
            raise UsageError(f"{self.where}:{line}: it is not YAML, {why}: {fix}") from None
        except yaml.reader.ReaderError as error:
            line = self._text.count("\n", 0, error.position) + 1
            raise UsageError(f"{self.where}:{line}: it is not YAML, it holds a control character: remove it") from None
        except RecursionError:
            raise UsageError(f"{self.where}: it is nested too deeply: write it flatter") from None

    def _wrong(self, event: yaml.Event, why: str) -> UsageError:
        return UsageError(f"{self.where}:{_begins(event).line + 1}: {why}")

    def _count(self, event: yaml.Event, key: Key, nodes: int = 1) -> None:
        self._nodes += nodes
        if self._nodes > NODES:
            raise self._wrong(event, f"it has more than {NODES} values, aliases counted each time: write less")
        if len(key) > DEPTH:
            raise self._wrong(event, f"it is nested more than {DEPTH} deep: write it flatter")

    def _node(self, event: yaml.Event, key: Key) -> Any:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._wrong(event, f"alias *{event.anchor} has no anchor &{event.anchor} before it: name one")
            data, nodes = self._anchors[event.anchor]
            self._count(event, key, nodes)
            self._ends = _ends(event)
            return data
        self._count(event, key)
        before = self._nodes
        assert isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent))
        if event.tag is not None:
            raise self._wrong(event, f"tag {event.tag} is not read here: leave it out, quotes make a text")
        if isinstance(event, yaml.ScalarEvent):
            self._ends = _ends(event)
            data = self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent):
            data = self._mapping(key)
        else:
            data = self._sequence(key)
        if event.anchor is not None:
            self._anchors[event.anchor] = data, self._nodes - before + 1
        return data

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        if event.style is not None:
            return event.value
        try:
            return scalar(event.value)
        except ValueError as error:
            raise self._wrong(event, str(error)) from None

    def _mapping(self, key: Key) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
                raise self._wrong(event, "a key must be a word")
            name = event.value
            if name == "<<" and event.style is None:
                raise self._wrong(event, "merge keys (<<) are not read here: write the keys out")
            if name in found:
                first = self.places[(*key, name)].line
                raise self._wrong(event, f"key {name!r} stands there twice, first in line {first}: keep one of them")
            found[name] = None
            found[name] = self._placed(event, next(self._events), (*key, name))
        self._close(event)
        return found

    def _sequence(self, key: Key) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            found.append(self._placed(event, event, (*key, len(found))))
        self._close(event)
        return found

    def _close(self, event: yaml.Event) -> None:
        if _begins(event).index != _ends(event):  # a bracket; a block ends where its last value does
            self._ends = _ends(event)

    def _placed(self, name: yaml.Event, value: yaml.Event, key: Key) -> Any:
        mark = _begins(name)
        flow = isinstance(value, yaml.CollectionStartEvent) and bool(value.flow_style)
        place = Place(mark.line + 1, mark.column, _ends(name), _begins(value).index, 0, flow)
        self.places[key] = place
        data = self._node(value, key)
        self.places[key] = place._replace(ends=self._ends)
        return data


def _begins(event: yaml.Event) -> yaml.Mark:
    assert isinstance(event.start_mark, yaml.Mark)
    return event.start_mark


def _ends(event: yaml.Event) -> int:
    assert event.end_mark is not None
    return event.end_mark.index
