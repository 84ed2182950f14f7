"""Reads FlatBuffers without a schema, safely: whatever the bytes say, an answer or a `FlatbufferError`, soon.

Source: https://flatbuffers.dev/internals/ (tables, vtables, vectors, offsets; all little endian).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


class FlatbufferError(ValueError):
    """Bytes that are no FlatBuffer of the kind expected."""


@dataclass
class Flatbuffer:
    """The bytes of a FlatBuffer, every read within bounds.

    Entries of a true file do not share bytes, so all its vectors together have fewer entries than it has bytes. A file
    that asks for more refers to the same bytes over and over, and is refused before that takes long.
    """

    data: bytes | bytearray
    _entries_left: int = field(init=False)

    def __post_init__(self) -> None:
        self._entries_left = len(self.data)

    def root(self, identifier: bytes) -> Table:
        """Returns the root table of a file whose bytes 4 to 8 are `identifier`."""
        if bytes(self.data[4:8]) != identifier:
            raise FlatbufferError(f"bytes 4 to 8 are not {identifier.decode()}")
        return Table(self, self.follow(0))

    def unsigned(self, position: int, width: int) -> int:
        """Returns the unsigned integer of `width` bytes at a position."""
        self._check(position, width)
        value: int = struct.unpack_from("<" + _CODES[width], self.data, position)[0]
        return value

    def signed(self, position: int) -> int:
        """Returns the 32-bit signed integer at a position."""
        self._check(position, 4)
        value: int = struct.unpack_from("<i", self.data, position)[0]
        return value

    def follow(self, position: int) -> int:
        """Returns where the offset at a position leads."""
        return position + self.unsigned(position, 4)

    def vector(self, position: int, width: int) -> range:
        """Returns the positions of the entries, `width` bytes each, of the vector at a position."""
        length = self.unsigned(position, 4)
        self._check(position + 4, length * width)
        self._entries_left -= length
        if self._entries_left < 0:
            raise FlatbufferError("its vectors have more entries than the file has bytes")
        return range(position + 4, position + 4 + length * width, width)

    def _check(self, position: int, size: int) -> None:
        if position < 0 or position + size > len(self.data):
            raise FlatbufferError(f"it refers to byte {position + size} of {len(self.data)}")


@dataclass(frozen=True)
class Table:
    """A table at a position; fields are named by their slot, 0 for the schema's first."""

    source: Flatbuffer
    position: int

    def field(self, slot: int) -> int | None:
        """Returns the position of a field, or None where it has its default."""
        vtable = self.position - self.source.signed(self.position)
        entry = 4 + 2 * slot
        if entry + 2 > self.source.unsigned(vtable, 2):
            return None
        offset = self.source.unsigned(vtable + entry, 2)
        return self.position + offset if offset else None

    @property
    def slots(self) -> int:
        """The number of slots that the vtable has room for."""
        vtable = self.position - self.source.signed(self.position)
        return (self.source.unsigned(vtable, 2) - 4) // 2

    def unsigned(self, slot: int, width: int) -> int:
        """Returns an unsigned integer of `width` bytes; 0 where it is absent."""
        position = self.field(slot)
        return 0 if position is None else self.source.unsigned(position, width)

    def tables(self, slot: int) -> list[Table]:
        """Returns the tables of a vector; none where it is absent."""
        position = self.field(slot)
        if position is None:
            return []
        return [
            Table(self.source, self.source.follow(entry))
            for entry in self.source.vector(self.source.follow(position), 4)
        ]

    def integers(self, slot: int) -> list[int]:
        """Returns the 32-bit signed integers of a vector; none where it is absent."""
        position = self.field(slot)
        if position is None:
            return []
        return [self.source.signed(entry) for entry in self.source.vector(self.source.follow(position), 4)]

    def extent(self, slot: int) -> range | None:
        """Returns the positions of a vector of bytes or a string, or None where it is absent."""
        position = self.field(slot)
        if position is None:
            return None
        start = self.source.follow(position) + 4
        length = self.source.unsigned(start - 4, 4)
        self.source.unsigned(start + length - 1, 1)
        return range(start, start + length)

    def content(self, slot: int) -> bytes:
        """Returns the bytes of a vector of bytes or a string; none where it is absent."""
        extent = self.extent(slot)
        return b"" if extent is None else bytes(self.source.data[extent.start : extent.stop])
