"""Properties as the engine sends them: plain values as they are, secrets marked, unknowns an error only when read."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st
from pulumi_policy.deserialize import (
    SPECIAL_ARCHIVE_SIG,
    SPECIAL_ASSET_SIG,
    SPECIAL_SECRET_SIG,
    SPECIAL_SIG_KEY,
    deserialize_properties,
)
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, UnknownValueError

from policy.wire import OUTPUT_SIG, REFERENCE_SIG, UNKNOWNS, SecretText, known, props_of, texts
from policy.wire import given as is_given

KEYS = st.text(max_size=5).filter(lambda key: key != SPECIAL_SIG_KEY)
TEXTS = st.text().filter(lambda text: text not in UNKNOWNS)
SCALARS = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
PLAIN = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


def secret(value: Any) -> dict[str, Any]:
    return {SPECIAL_SIG_KEY: SPECIAL_SECRET_SIG, "value": value}


def output(**fields: Any) -> dict[str, Any]:
    return {SPECIAL_SIG_KEY: OUTPUT_SIG, **fields}


WITH_SECRETS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3) | inner.map(secret)
)


def sent(props: Mapping[str, Any]) -> Struct:
    """Properties as a message."""
    return json_format.ParseDict(props, Struct())


def read(props: Mapping[str, Any]) -> Any:
    return props_of(sent(props))


@given(st.dictionaries(KEYS, PLAIN))
def test_plain_values_are_what_was_sent(props: dict[str, Any]) -> None:
    assert read(props) == props


@given(st.dictionaries(KEYS, WITH_SECRETS))
def test_it_reads_what_the_official_reader_reads(props: dict[str, Any]) -> None:
    assert read(props) == deserialize_properties(props)


def open_texts(value: Any) -> list[str]:
    """Every text that stands in no secret."""
    if isinstance(value, dict):
        if SPECIAL_SIG_KEY in value:
            return []
        return [text for inner in value.values() for text in open_texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in open_texts(inner)]
    return [value] if isinstance(value, str) else []


@given(st.dictionaries(KEYS, WITH_SECRETS))
def test_a_text_is_marked_exactly_when_it_stands_in_a_secret(props: dict[str, Any]) -> None:
    found = [text for _, text in texts(read(props)) if not isinstance(text, SecretText)]
    assert sorted(found) == sorted(open_texts(props))


@pytest.mark.parametrize("unknown", sorted(UNKNOWNS))
@pytest.mark.parametrize("wrap", [lambda value: value, secret, lambda value: {"deep": [value]}])
def test_what_only_an_update_knows_is_an_error_where_it_is_read_and_nowhere_else(unknown: str, wrap: Any) -> None:
    props = read({"a": wrap(unknown), "b": {"c": [1, 2]}})
    assert props["b"]["c"][1] == 2
    assert list(props) == ["a", "b"]
    with pytest.raises(UnknownValueError):
        list(texts_strictly(props["a"]))


def texts_strictly(value: Any) -> Any:
    """Reads every value."""
    if isinstance(value, Mapping):
        return [texts_strictly(value[key]) for key in value]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [texts_strictly(inner) for inner in value]
    return value


def test_an_output_without_a_value_is_unknown_and_one_with_a_value_is_that_value() -> None:
    props = read(
        {
            "unknown": output(),
            "known": output(value="a"),
            "hidden": output(value={"deep": ["b"]}, secret=True),
        }
    )
    assert props["known"] == "a"
    assert not isinstance(props["known"], SecretText)
    assert isinstance(props["hidden"]["deep"][0], SecretText)
    with pytest.raises(UnknownValueError):
        props["unknown"]


def test_references_and_assets_are_read_as_what_they_name() -> None:
    props = read(
        {
            "reference": {SPECIAL_SIG_KEY: REFERENCE_SIG, "urn": "urn:pulumi:a", "id": "1"},
            "text": {SPECIAL_SIG_KEY: SPECIAL_ASSET_SIG, "text": "echo"},
            "path": secret({SPECIAL_SIG_KEY: SPECIAL_ASSET_SIG, "path": "run.sh"}),
            "archive": {SPECIAL_SIG_KEY: SPECIAL_ARCHIVE_SIG, "path": "all.zip"},
        }
    )
    assert props == {"reference": "urn:pulumi:a", "text": "echo", "path": "run.sh", "archive": {}}
    assert isinstance(props["path"], SecretText)


def test_what_is_unknown_is_passed_over_and_yet_is_there() -> None:
    props = read({"a": UNKNOWN_STRING_VALUE, "b": "text", "c": None, "d": ["x", UNKNOWN_STRING_VALUE]})
    assert [known(props, key) for key in "abz"] == [None, "text", None]
    assert [is_given(props, key) for key in "abcz"] == [True, True, False, False]
    assert list(texts(props)) == [("b", "text"), ("d.0", "x")]
