"""An entry of a map told from the rest of a message, judged by protobuf itself; and bytes that are no message."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from aml_edge.formats.coreml_messages import dump_model, parse_model
from aml_edge.formats.protobuf_wire import WireError, content_without_entry, fields_of

PROPS = (14,)
USER_DEFINED = (2, 100, 100)


def model(**metadata: str) -> Any:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("image", "embedding")]
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["embedding"])], "graph", values[:1], values[1:])
    made = helper.make_model(graph)
    for key, value in metadata.items():
        made.metadata_props.add(key=key, value=value)
    return made


def without(content: bytes, path: tuple[int, ...], key: bytes) -> bytes:
    return b"".join(content_without_entry(content, path, key))


@pytest.mark.parametrize("text", ["", "a manifest", "x" * 20_000])
def test_what_is_left_is_what_protobuf_writes_without_the_entry(text: str) -> None:
    """ONNX's entries are fields of the message itself, so no length depends on them."""
    content = model(author="another tool", manifest=text, licence="none").SerializeToString()
    assert without(content, PROPS, b"manifest") == model(author="another tool", licence="none").SerializeToString()
    assert without(content, PROPS, b"absent") == content


def test_an_entry_is_known_by_its_key_and_not_by_its_value() -> None:
    content = model(author="manifest", manifests="", MANIFEST="").SerializeToString()
    assert without(content, PROPS, b"manifest") == content


def test_entries_of_one_key_all_go_and_the_order_of_key_and_value_does_not_count() -> None:
    entry = onnx.StringStringEntryProto(value="first").SerializeToString() + b"\x0a\x01k"
    twice = b"".join(b"\x72" + bytes([len(one)]) + one for one in (entry, b"\x0a\x01k", b"\x0a\x01m"))
    assert without(twice, PROPS, b"k") == b"\x72\x03\x0a\x01m"


def test_the_last_key_of_an_entry_counts_as_for_protobuf() -> None:
    entry = b"\x0a\x01k\x0a\x01m"
    parsed = onnx.StringStringEntryProto()
    parsed.ParseFromString(entry)
    assert parsed.key == "m"
    content = b"\x72\x06" + entry
    assert without(content, PROPS, b"k") == content
    assert without(content, PROPS, b"m") == b""


def core_ml(**user_defined: str) -> bytes:
    made = parse_model(b"")
    made.specificationVersion = 8
    made.description.input.add(name="image")
    made.mlProgram.version = 1
    for key, value in user_defined.items():
        made.description.metadata.userDefined[key] = value
    return dump_model(made)


@pytest.mark.parametrize("text", ["", "a manifest", "x" * 20_000])
def test_lengths_of_what_holds_the_entry_do_not_count(text: str) -> None:
    """By hand: number and length of description, its input, number and length of metadata, its other entry."""
    left = without(core_ml(author="me", manifest=text), USER_DEFINED, b"manifest")
    assert left == without(core_ml(author="me"), USER_DEFINED, b"manifest")
    entry = b"\xa2\x06\x0c\x0a\x06author\x12\x02me"
    metadata = (100).to_bytes(4, "little") + len(entry).to_bytes(8, "little") + entry
    description = b"\x0a\x07\x0a\x05image" + metadata
    assert left == (
        b"\x08\x08"
        + (2).to_bytes(4, "little")
        + len(description).to_bytes(8, "little")
        + description
        + b"\xb2\x1f\x02\x08\x01"
    )


def test_the_same_bytes_elsewhere_are_another_content() -> None:
    """What is moved out of the description is not what was in it."""
    inside = b"\x12\x07\x0a\x05image"
    outside = b"\x12\x00\x0a\x05image"
    assert without(inside, USER_DEFINED, b"k") != without(outside, USER_DEFINED, b"k")


def test_numbers_of_every_wire_type_are_passed_over() -> None:
    content = b"\x08\x96\x01" + b"\x11" + bytes(8) + b"\x1d" + bytes(4) + b"\x22\x02ab"
    fields = [(field.number, len(field.whole), field.body is None) for field in fields_of(content, range(len(content)))]
    assert fields == [(1, 3, True), (2, 9, True), (3, 5, True), (4, 4, False)]
    assert without(content, PROPS, b"k") == content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80", "a number has no end"),
        (b"\xff" * 11, "a number has no end"),
        (b"\x08", "a number has no end"),
        (b"\x72\x05abc", "a field ends after its message"),
        (b"\x11\x00", "a field ends after its message"),
        (b"\x1d\x00", "a field ends after its message"),
        (b"\x0b", "it has a field of wire type 3"),
        (b"\x0e", "it has a field of wire type 6"),
        (b"\x72\x02\x0a\x05", "a field ends after its message"),
    ],
)
def test_what_is_no_message_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(WireError, match=said):
        without(content, PROPS, b"k")


@given(st.binary(max_size=200))
def test_any_bytes_have_an_answer_or_an_error(content: bytes) -> None:
    for path in (PROPS, USER_DEFINED):
        try:
            without(content, path, b"k")
        except WireError:
            continue
