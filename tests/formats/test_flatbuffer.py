"""Our reader against the FlatBuffers library's writer, and against bytes that lie."""

from __future__ import annotations

import random
import struct

import flatbuffers
import pytest

from aml_edge.formats.flatbuffer import Flatbuffer, FlatbufferError, Table


def written() -> bytes:
    """Returns a table with a number, a default, a string, numbers, and two inner tables."""
    builder = flatbuffers.Builder(0)
    text = builder.CreateString("façade")
    builder.StartVector(4, 3, 4)
    for number in (-1, 0, 7):
        builder.PrependInt32(number)
    numbers = builder.EndVector()
    inner = []
    for number in (11, 12):
        builder.StartObject(1)
        builder.PrependUint64Slot(0, number, 0)
        inner.append(builder.EndObject())
    builder.StartVector(4, 2, 4)
    for table in reversed(inner):
        builder.PrependUOffsetTRelative(table)
    tables = builder.EndVector()
    builder.StartObject(6)
    builder.PrependUint8Slot(0, 200, 0)
    builder.PrependUOffsetTRelativeSlot(2, text, 0)
    builder.PrependUOffsetTRelativeSlot(3, numbers, 0)
    builder.PrependUOffsetTRelativeSlot(4, tables, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"TEST")
    return bytes(builder.Output())


def everything(root: Table) -> object:
    """Returns all that `written` holds, read back."""
    inner = [table.unsigned(0, 8) for table in root.tables(4)]
    return root.unsigned(0, 1), root.unsigned(1, 4), root.content(2).decode(), root.integers(3), inner, root.field(5)


def test_reads_what_the_library_wrote() -> None:
    root = Flatbuffer(written()).root(b"TEST")
    assert everything(root) == (200, 0, "façade", [7, 0, -1], [11, 12], None)
    assert root.field(99) is None
    assert root.tables(5) == [] and root.integers(5) == [] and root.content(5) == b"" and root.extent(5) is None


def test_extent_is_where_the_bytes_are() -> None:
    content = written()
    extent = Flatbuffer(content).root(b"TEST").extent(2)
    assert extent is not None
    assert content[extent.start : extent.stop].decode() == "façade"


def test_another_identifier_is_refused() -> None:
    with pytest.raises(FlatbufferError, match="bytes 4 to 8 are not TFL3"):
        Flatbuffer(written()).root(b"TFL3")


@pytest.mark.parametrize("length", range(0, len(written()), 3))
def test_a_cut_file_is_refused_or_read_within_its_bounds(length: int) -> None:
    try:
        everything(Flatbuffer(written()[:length]).root(b"TEST"))
    except (FlatbufferError, UnicodeDecodeError):
        return
    assert length > len(written()) - 8  # only padding and the end of the last string were cut


def test_random_damage_gives_an_answer_or_our_error() -> None:
    chance = random.Random(0)
    for _ in range(3000):
        content = bytearray(written())
        for _ in range(chance.randint(1, 6)):
            content[chance.randrange(8, len(content))] = chance.randrange(256)
        try:
            everything(Flatbuffer(content).root(b"TEST"))
        except (FlatbufferError, UnicodeDecodeError):
            continue


def test_a_vector_that_is_read_over_and_over_is_refused() -> None:
    content = bytearray(4096)
    struct.pack_into("<I4s", content, 0, 20, b"BOMB")
    struct.pack_into("<HHH", content, 8, 6, 8, 4)  # vtable: one slot, at byte 4 of the table
    struct.pack_into("<iI", content, 20, 12, 4)  # table: its vtable is 12 before, its vector 4 after the field
    struct.pack_into("<I", content, 28, 1000)
    for entry in range(32, 32 + 4000, 4):
        struct.pack_into("<I", content, entry, (20 - entry) % 2**32)
    root = Flatbuffer(content).root(b"BOMB")
    with pytest.raises(FlatbufferError, match="more entries than the file has bytes"):
        for _ in range(10):
            root.tables(0)
