"""Puts a metadata entry into a TFLite file without touching anything else in it.

The entry is put before everything else, with a new root that refers to the old content: every offset of a FlatBuffer
leads forward, so the new root and its longer vectors reach the old tables, which keep their bytes and, moved by a
multiple of `ALIGNMENT`, the alignment of their weights. The entry is padded, so that a later one replaces it in place.

Source: TensorFlow Lite's schema (tensorflow/lite/schema/schema.fbs); slots below are those of its tables.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aml_edge.formats.flatbuffer import FlatbufferError, Table

IDENTIFIER = b"TFL3"
ROOM_BYTES = 4096
"""An entry is padded with spaces to a multiple of this."""
ALIGNMENT = 64
"""What XNNPACK and vector units want of weights, and more than the 16 bytes that the schema asks for."""

MODEL_VERSION, MODEL_SUBGRAPHS, MODEL_BUFFERS, MODEL_METADATA, MODEL_SLOTS = 0, 2, 4, 6, 10
SUBGRAPH_OPERATORS = 3
OPERATOR_LARGE_OPTIONS_OFFSET = 9
BUFFER_DATA, BUFFER_OFFSET, BUFFER_SIZE = 0, 1, 2
METADATA_NAME, METADATA_BUFFER = 0, 1


def find_metadata(model: Table, name: bytes) -> range | None:
    """Returns the positions of the bytes of the metadata entry of that name, or None where there is none."""
    buffers = model.tables(MODEL_BUFFERS)
    for entry in model.tables(MODEL_METADATA):
        if entry.content(METADATA_NAME) == name:
            number = entry.unsigned(METADATA_BUFFER, 4)
            if number >= len(buffers):
                raise FlatbufferError(f"it refers to buffer {number} of {len(buffers)}")
            return extent_of(buffers[number])
    return None


def extent_of(buffer: Table) -> range | None:
    """Returns the positions of a buffer's bytes, inside the FlatBuffer or after it; None where it is empty."""
    offset, size = buffer.unsigned(BUFFER_OFFSET, 8), buffer.unsigned(BUFFER_SIZE, 8)
    if offset > 1:
        if offset + size > len(buffer.source.data):
            raise FlatbufferError(f"it refers to byte {offset + size} of {len(buffer.source.data)}")
        return range(offset, offset + size)
    return buffer.extent(BUFFER_DATA) or None


def with_metadata(model: Table, name: bytes, entry: bytes) -> bytearray:
    """Returns the file's bytes with the metadata entry of that name, padded with spaces, in place of an older one."""
    extent = find_metadata(model, name)
    if extent is not None and len(entry) <= len(extent):
        content = bytearray(model.source.data)
        content[extent.start : extent.stop] = entry.ljust(len(extent))
        return content
    return _prefixed(model, name, entry.ljust(math.ceil(len(entry) / ROOM_BYTES) * ROOM_BYTES))


def _prefixed(model: Table, name: bytes, entry: bytes) -> bytearray:
    if model.slots > MODEL_SLOTS:
        raise FlatbufferError(f"its root has {model.slots} fields, this aml-edge knows {MODEL_SLOTS}")
    buffers = [table.position for table in model.tables(MODEL_BUFFERS)]
    others = [table.position for table in model.tables(MODEL_METADATA) if table.content(METADATA_NAME) != name]
    kept = {
        slot: model.source.follow(position)
        for slot in range(MODEL_SLOTS)
        if slot not in (MODEL_VERSION, MODEL_BUFFERS, MODEL_METADATA) and (position := model.field(slot)) is not None
    }

    block = _Block()
    root = block.table((MODEL_VERSION, MODEL_BUFFERS, MODEL_METADATA, *kept))
    new_buffers = block.vector(len(buffers) + 1, width=4)
    new_metadata = block.vector(len(others) + 1, width=4)
    metadata = block.table((METADATA_NAME, METADATA_BUFFER))
    name_text = block.text(name + b"\0", length=len(name))
    buffer = block.table((BUFFER_DATA,))
    data = block.text(entry, length=len(entry), alignment=16)
    shift = math.ceil(len(block.content) / ALIGNMENT) * ALIGNMENT

    block.point([0], [root.position])
    block.content[4:8] = IDENTIFIER
    block.number(root.fields[MODEL_VERSION], model.unsigned(MODEL_VERSION, 4))
    block.point([root.fields[slot] for slot in kept], [position + shift for position in kept.values()])
    block.point(
        [root.fields[MODEL_BUFFERS], root.fields[MODEL_METADATA]], [new_buffers.start - 4, new_metadata.start - 4]
    )
    block.point(new_buffers, [*(position + shift for position in buffers), buffer.position])
    block.point(new_metadata, [*(position + shift for position in others), metadata.position])
    block.point([metadata.fields[METADATA_NAME], buffer.fields[BUFFER_DATA]], [name_text, data])
    block.number(metadata.fields[METADATA_BUFFER], len(buffers))
    return block.content.ljust(shift, b"\0") + _moved(model, shift)


def _moved(model: Table, shift: int) -> bytearray:
    """Returns the old bytes with the positions that count from the start of the file, not from themselves, changed."""
    content = bytearray(model.source.data)
    buffer_offsets = {table.field(BUFFER_OFFSET) for table in model.tables(MODEL_BUFFERS)}
    option_offsets = {
        operator.field(OPERATOR_LARGE_OPTIONS_OFFSET)
        for subgraph in model.tables(MODEL_SUBGRAPHS)
        for operator in subgraph.tables(SUBGRAPH_OPERATORS)
    }
    for position in buffer_offsets | option_offsets:
        if position is not None and (offset := model.source.unsigned(position, 8)) > 1:
            struct.pack_into("<Q", content, position, offset + shift)
    return content


@dataclass(frozen=True)
class _NewTable:
    position: int
    fields: dict[int, int]


class _Block:
    """The bytes that go before the old file, laid out first and filled in when all positions are known."""

    def __init__(self) -> None:
        self.content = bytearray(8)

    def table(self, slots: Sequence[int]) -> _NewTable:
        """Adds a table whose fields at `slots` are four bytes each; returns where they are."""
        vtable_size, table_size = 4 + 2 * (max(slots) + 1), 4 + 4 * len(slots)
        start = self._reserve(vtable_size + vtable_size % 4 + table_size, alignment=4, skew=0)
        position = start + vtable_size + vtable_size % 4
        struct.pack_into("<HH", self.content, start, vtable_size, table_size)
        struct.pack_into("<i", self.content, position, position - start)
        for number, slot in enumerate(slots):
            struct.pack_into("<H", self.content, start + 4 + 2 * slot, 4 + 4 * number)
        return _NewTable(position, {slot: position + 4 + 4 * number for number, slot in enumerate(slots)})

    def vector(self, length: int, *, width: int, alignment: int = 4) -> range:
        """Adds a vector of zeros; returns the positions of its entries."""
        start = self._reserve(4 + length * width, alignment=alignment, skew=4) + 4
        self.number(start - 4, length)
        return range(start, start + length * width, width)

    def text(self, content: bytes, *, length: int, alignment: int = 4) -> int:
        """Adds a vector of bytes that says it has `length`; returns its position."""
        start = self.vector(len(content), width=1, alignment=alignment).start
        self.number(start - 4, length)
        self.content[start : start + len(content)] = content
        return start - 4

    def number(self, position: int, value: int) -> None:
        """Writes an unsigned integer of 32 bits."""
        struct.pack_into("<I", self.content, position, value)

    def point(self, positions: Iterable[int], targets: Iterable[int]) -> None:
        """Writes at each position the offset that leads to its target."""
        for position, target in zip(positions, targets, strict=True):
            self.number(position, target - position)

    def _reserve(self, size: int, *, alignment: int, skew: int) -> int:
        """Adds zeros, aligned after the first `skew` of them; returns where they start."""
        start = -(-(len(self.content) + skew) // alignment) * alignment - skew
        self.content = self.content.ljust(start + size, b"\0")
        return start
