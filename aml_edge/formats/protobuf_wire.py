"""Reads the bytes of a protobuf message field by field, without its schema, to tell one entry of a map from the rest.

A message that is parsed and written again may come out in other bytes; these are those of the file.

Source: https://protobuf.dev/programming-guides/encoding/ (tags, varints, wire types).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5
KEY = 1
"""Number of the field that holds an entry's key, in a map as in ONNX's `StringStringEntryProto`."""
_LONGEST_VARINT = 10


class WireError(ValueError):
    """Bytes that are no protobuf message."""


@dataclass(frozen=True)
class WireField:
    """A field of a message.

    Args:
        number: of the field.
        whole: positions of all its bytes.
        body: positions of its value where that is a message, text or bytes; None where it is a number.
    """

    number: int
    whole: range
    body: range | None


def content_without_entry(content: bytes, path: Sequence[int], key: bytes) -> Iterator[bytes]:
    """Yields the bytes of a message, in parts, without the entry of a map that has this key.

    Messages on the way to the map have their number in four bytes and the length of what is left of them in eight, in
    place of their tag and length, which change with the entry.

    Args:
        content: the message.
        path: numbers of the fields that lead to the entries of the map, outermost first.
        key: of the entry.

    Raises:
        WireError: it is no message.
    """
    yield from _kept(content, range(len(content)), tuple(path), key)


def fields_of(content: bytes, within: range) -> Iterator[WireField]:
    """Yields the fields of the message at some positions, in order; raises `WireError` where it is none."""
    position = within.start
    while position < within.stop:
        start = position
        tag, position = _varint(content, position, within.stop)
        number, wire_type, body = tag >> 3, tag & 7, None
        if wire_type == VARINT:
            _, position = _varint(content, position, within.stop)
        elif wire_type in (FIXED_64, FIXED_32):
            position += 8 if wire_type == FIXED_64 else 4
        elif wire_type == BYTES:
            length, position = _varint(content, position, within.stop)
            body = range(position, position + length)
            position += length
        else:
            raise WireError(f"it has a field of wire type {wire_type}")
        if position > within.stop:
            raise WireError("a field ends after its message")
        yield WireField(number, range(start, position), body)


def _kept(content: bytes, within: range, path: tuple[int, ...], key: bytes) -> Iterator[bytes]:
    for field in fields_of(content, within):
        if field.number != path[0] or field.body is None:
            yield _cut(content, field.whole)
        elif len(path) > 1:
            inside = list(_kept(content, field.body, path[1:], key))
            yield b"".join((field.number.to_bytes(4, "little"), sum(map(len, inside)).to_bytes(8, "little"), *inside))
        elif not _has_key(content, field.body, key):
            yield _cut(content, field.whole)


def _has_key(content: bytes, entry: range, key: bytes) -> bool:
    keys = [
        _cut(content, field.body)
        for field in fields_of(content, entry)
        if field.number == KEY and field.body is not None
    ]
    return keys[-1:] == [key]


def _varint(content: bytes, position: int, stop: int) -> tuple[int, int]:
    """Returns the number at a position and where it ends."""
    value = 0
    for place in range(_LONGEST_VARINT):
        if position + place >= stop:
            break
        byte = content[position + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, position + place + 1
    raise WireError("a number has no end")


def _cut(content: bytes, positions: range) -> bytes:
    return content[positions.start : positions.stop]
