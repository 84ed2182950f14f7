"""`read_mat`: the variables of a MATLAB file: numbers, text, cells and structures, and nothing else.

Only what ground truths need is read of the Level 5 format (MATLAB's versions 5 to 7.2). A file is parsed as data; every
length in it is checked against what is there before anything of that length is made.

Source: The MathWorks, "MAT-File Format", chapter "MAT-File Level 5 File Format".
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from aml_edge.errors import DatasetError

MOST_BYTES, MOST_ELEMENTS = 2**25, 2**20
"""Of a file, and of what it is compressed from; the ground truth of INSTRE takes a sixth."""
DEEPEST = 8
"""Cells within cells."""

_HEADER_BYTES, _TAG_BYTES = 128, 8
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin1", 2: "latin1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
"""Encodings by the type of the stored element."""
_CELL, _STRUCT, _CHARACTERS = 1, 2, 4
_NUMERIC = range(6, 16)
_COMPLEX = 0x08


class _MatError(Exception):
    """What is wrong, in words that go on from the file's name."""


@dataclass(frozen=True)
class _Element:
    """A stored element: its type, and its bytes without padding."""

    kind: int
    content: memoryview


def read_mat(path: Path) -> Mapping[str, object]:
    """Returns the variables of a file by name.

    An array of numbers comes as a tuple in MATLAB's order, column by column, whole numbers as `int`; a row of
    characters as `str`; cells as a tuple; a structure array as a tuple with a dictionary for each structure.

    Raises:
        DatasetError: the file is missing, none of this format, damaged, or holds something else.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _MatError(f"is larger than {MOST_BYTES} bytes")
        content = memoryview(path.read_bytes())
        reader = _Reader(_byte_order(content))
        return dict(reader.variables(content[_HEADER_BYTES:]))
    except OSError as problem:
        raise DatasetError(f"{path} cannot be read: {problem.strerror}.") from None
    except _MatError as problem:
        raise DatasetError(f"{path} {problem}; it is no MATLAB file that can be read here, get it again.") from None


def _byte_order(content: memoryview) -> str:
    """Returns ``<`` or ``>``, as the file's header says."""
    if len(content) < _HEADER_BYTES:
        raise _MatError("has no header of the Level 5 format")
    mark = bytes(content[126:128])
    if mark not in (b"IM", b"MI"):
        raise _MatError("has no header of the Level 5 format")
    order = "<" if mark == b"IM" else ">"
    (version,) = struct.unpack_from(f"{order}H", content, 124)
    if version != 0x0100:
        raise _MatError(f"is of version {version >> 8}.{version & 0xFF}, not of 1.0 (save -v7 writes that)")
    return order


class _Reader:
    """Reads the elements of a file of one byte order, and counts what was read and decompressed."""

    def __init__(self, order: str) -> None:
        self._order = order
        self._bytes_left, self._elements_left = MOST_BYTES, MOST_ELEMENTS

    def variables(self, content: memoryview) -> list[tuple[str, object]]:
        found = []
        for element in self._elements(content):
            inner = element
            if element.kind == _COMPRESSED:
                inner = self._first(self._decompressed(element.content))
            if inner.kind != _MATRIX:
                raise _MatError(f"holds an element of type {inner.kind} where a variable belongs")
            found.append(self._matrix(inner.content, 0))
        return found

    def _matrix(self, content: memoryview, depth: int) -> tuple[str, object]:
        """Returns name and value; an element without content is an empty array."""
        if not content:
            return "", ()
        if depth > DEEPEST:
            raise _MatError(f"nests cells more than {DEEPEST} deep")
        parts = self._elements(content)
        if len(parts) < 3:
            raise _MatError("holds a variable without flags, dimensions and name")
        flags, dimensions, name, *values = parts
        if len(flags.content) != 8:
            raise _MatError("holds a variable with broken flags")
        (word,) = struct.unpack_from(f"{self._order}I", flags.content)
        kind, count = word & 0xFF, self._count(dimensions)
        title = self._text(name)
        if kind in _NUMERIC and not word >> 8 & _COMPLEX and len(values) == 1:
            return title, self._numbers(values[0], count)
        if kind == _CHARACTERS and len(values) == 1:
            return title, self._text(values[0])
        if kind == _CELL:
            return title, self._matrices(values, count, depth)
        if kind == _STRUCT and len(values) >= 2:
            names = self._field_names(values[0], values[1])
            fields = self._matrices(values[2:], count * len(names), depth)
            starts = range(0, len(fields), len(names)) if names else ()
            return title, tuple(dict(zip(names, fields[start : start + len(names)], strict=True)) for start in starts)
        raise _MatError(f"holds a variable {title[:100]!a} of class {kind}, which no ground truth needs")

    def _matrices(self, values: list[_Element], count: int, depth: int) -> tuple[object, ...]:
        if len(values) != count or any(value.kind != _MATRIX for value in values):
            raise _MatError(f"holds {len(values)} values where {count} belong")
        return tuple(self._matrix(value.content, depth + 1)[1] for value in values)

    def _field_names(self, length: _Element, names: _Element) -> list[str]:
        (size,) = self._numbers(length, 1)
        text = bytes(names.content)
        if type(size) is not int or size < 1 or len(text) % size:
            raise _MatError("holds a structure with broken field names")
        return [text[start : start + size].partition(b"\0")[0].decode("latin1") for start in range(0, len(text), size)]

    def _count(self, dimensions: _Element) -> int:
        sides = self._numbers(dimensions, len(dimensions.content) // 4)
        if len(sides) < 2 or any(type(side) is not int or side < 0 for side in sides):
            raise _MatError("holds an array with broken dimensions")
        return int(prod(sides))

    def _numbers(self, element: _Element, count: int) -> tuple[float, ...]:
        dtype = _NUMBERS.get(element.kind)
        if dtype is None or len(element.content) != count * np.dtype(dtype).itemsize:
            raise _MatError(f"holds an array of {count} numbers in {len(element.content)} bytes")
        values = np.frombuffer(element.content, f"{self._order}{dtype}")
        with np.errstate(invalid="ignore"):  # a signalling NaN, which is no whole number
            whole = values.dtype.kind == "f" and bool(np.all(values % 1 == 0) and np.all(np.abs(values) < 2**53))
        return tuple((values.astype(np.int64) if whole else values).tolist())

    def _text(self, element: _Element) -> str:
        encoding = _TEXTS.get(element.kind, "")
        if encoding == "utf-16":
            encoding += "-le" if self._order == "<" else "-be"
        try:
            return bytes(element.content).decode(encoding)
        except (LookupError, UnicodeDecodeError):
            raise _MatError(f"holds text of type {element.kind} that cannot be read") from None

    def _decompressed(self, content: memoryview) -> memoryview:
        decompressor = zlib.decompressobj()
        try:
            made = decompressor.decompress(content, self._bytes_left + 1)
        except zlib.error:
            raise _MatError("holds a compressed variable that is damaged") from None
        self._bytes_left -= len(made)
        if self._bytes_left < 0:
            raise _MatError(f"holds more than {MOST_BYTES} bytes, compressed")
        return memoryview(made)

    def _first(self, content: memoryview) -> _Element:
        elements = self._elements(content)
        if len(elements) != 1:
            raise _MatError("holds a compressed element that is not one variable")
        return elements[0]

    def _elements(self, content: memoryview) -> list[_Element]:
        """Returns the elements that stand one after the other; four bytes or fewer stand in their tag."""
        found, place = [], 0
        while place < len(content):
            if len(content) - place < _TAG_BYTES:
                raise _MatError("ends within an element")
            kind, size = struct.unpack_from(f"{self._order}II", content, place)
            start = place + _TAG_BYTES
            if kind >> 16:
                kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
                if size > 4:
                    raise _MatError("holds a short element that is too long")
                place += _TAG_BYTES
            else:
                place = start + size if kind == _COMPRESSED else start + size + -size % 8
            if start + size > len(content):
                raise _MatError("ends within an element")
            found.append(_Element(kind, content[start : start + size]))
            self._elements_left -= 1
            if not self._elements_left:
                raise _MatError(f"holds {MOST_ELEMENTS} elements or more")
        return found
