"""Reading a database in blocks of rows: the disk works one block ahead of whoever computes, and memory does not grow.

What is stored as float32 is computed with where it lies, in the pages of its file, and these pages are given back
block by block; else a process would seem to hold all of a file that it has read. Everything else goes through one
buffer. A thread touches the pages of the next block and does no more: what it computed would be taken from the product.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from aml_edge.embedder import Embeddings
from aml_edge.read_ahead import read_ahead


class Rows(Protocol):
    """A database of (M, D) embeddings, read in blocks: an array, memory-mapped or not, or a checked view of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(M, D)."""
        ...

    def __len__(self) -> int:
        """Returns M."""
        ...

    def __getitem__(self, rows: slice, /) -> npt.NDArray[np.floating]:
        """Returns (n, D)."""
        ...


@runtime_checkable
class BufferedRows(Rows, Protocol):
    """A database that can be read without new memory for each block."""

    def read_into(self, rows: slice, buffer: Embeddings, /) -> Embeddings:
        """Returns (n, D): a view of what is there, or the first n rows of the buffer, filled."""
        ...

    def fetch(self, rows: slice, /) -> None:
        """Has the disk bring rows into memory, where they lie in a mapped file."""
        ...


def row_blocks(
    database: Rows, block_rows: int, starts: Sequence[int] | None = None
) -> Iterator[tuple[int, Embeddings]]:
    """Yields the first row's number and (n, D) float32 of each block; a block is good until the next one is asked for.

    Args:
        database: (M, D).
        block_rows: rows of a block; the last one may have fewer.
        starts: of the blocks that are wanted, multiples of `block_rows`; all of them where None.
    """
    wanted = range(0, len(database), block_rows) if starts is None else starts
    buffer = np.empty((min(block_rows, len(database)), database.shape[1]), np.float32)

    def fetch(start: int) -> slice:
        rows = slice(start, min(start + block_rows, len(database)))
        if isinstance(database, BufferedRows):
            database.fetch(rows)
        else:
            fetch_pages(database[rows])
        return rows

    with closing(read_ahead(fetch, wanted, workers=1)) as fetched:  # one block in use, the next on its way
        for rows in fetched:
            stored = database.read_into(rows, buffer) if isinstance(database, BufferedRows) else database[rows]
            yield rows.start, as_float32(stored, buffer)
            release_pages(stored)


def as_float32(rows: npt.NDArray[np.floating], buffer: Embeddings) -> Embeddings:
    """Returns float32 rows: the very ones, or the first of the buffer; PyTorch converts halves six times as fast."""
    if rows.dtype == np.float32:
        return rows
    filled = buffer[: len(rows)]
    if rows.dtype == np.float16 and rows.flags.c_contiguous:
        torch.from_numpy(filled).copy_(readable_tensor(rows))
    else:
        np.copyto(filled, rows, casting="same_kind")
    return filled


def readable_tensor(rows: npt.NDArray[np.floating]) -> torch.Tensor:
    """Returns a tensor of the same memory that must only be read: PyTorch warns of arrays that cannot be written to."""
    return torch.from_numpy(rows if rows.flags.writeable else np.asarray(_Unlocked(rows)))


def fetch_pages(rows: npt.NDArray[np.floating]) -> None:
    """Reads a value of each page of a read-only mapped file that rows lie in; other threads go on meanwhile."""
    if _mapping_of(rows) is not None and rows.flags.c_contiguous:
        rows.reshape(-1)[:: mmap.PAGESIZE // rows.itemsize].max(initial=0)


def release_pages(rows: npt.NDArray[np.floating]) -> None:
    """Gives the pages of a read-only mapped file back that rows lie in; whoever reads them again reads the file."""
    mapped = _mapping_of(rows)
    if mapped is None or not rows.size or not hasattr(mmap, "MADV_DONTNEED"):
        return
    whole = np.frombuffer(mapped, np.uint8)
    low, high = np.lib.array_utils.byte_bounds(rows)
    start = whole.__array_interface__["data"][0]
    first = (low - start) // mmap.PAGESIZE * mmap.PAGESIZE
    mapped.madvise(mmap.MADV_DONTNEED, first, high - start - first)


def _mapping_of(rows: npt.NDArray[np.floating]) -> mmap.mmap | None:
    """Returns the mapping that rows are a view of; None where they are in memory, or the mapping can be written to."""
    base: Any = rows
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return None
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


class _Unlocked:
    """The memory of a read-only array, as one that could be written to."""

    def __init__(self, rows: npt.NDArray[np.floating]) -> None:
        self._rows = rows
        address, _ = rows.__array_interface__["data"]
        self.__array_interface__ = rows.__array_interface__ | {"data": (address, False)}
