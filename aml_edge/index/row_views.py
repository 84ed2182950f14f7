"""Views of embeddings of indexes: some rows of one, or those of several one after the other; nothing is copied ahead.

`aml_edge.row_reading` reads them in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Protocol

import numpy as np
import numpy.typing as npt

from aml_edge.embedder import Embeddings
from aml_edge.row_reading import BufferedRows, release_pages


class IndexRows(Protocol):
    """The (N, D) embeddings of an index, read by a slice or by row numbers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""
        ...

    def __len__(self) -> int:
        """Returns N."""
        ...

    def __getitem__(self, rows: slice | npt.NDArray[np.intp], /) -> Embeddings:
        """Returns (n, D) float32."""
        ...

    def read_into(self, rows: slice | npt.NDArray[np.intp], buffer: Embeddings, /) -> Embeddings:
        """Returns (n, D) float32: a view of what is there, or the first n rows of the buffer, filled."""
        ...

    def fetch(self, rows: slice, /) -> None:
        """Has the disk bring rows into memory."""
        ...


class SelectedRows:
    """Some rows of an index, in an order of one's own.

    Args:
        rows: of the index.
        selection: (n,) row numbers.
    """

    def __init__(self, rows: IndexRows, selection: npt.NDArray[np.intp]) -> None:
        self.shape: tuple[int, ...] = (len(selection), rows.shape[1])
        self._rows, self._selection = rows, selection

    def __len__(self) -> int:
        return len(self._selection)

    def __getitem__(self, rows: slice) -> Embeddings:
        """Returns (n, D) float32."""
        return self._rows[self._selected(rows)]

    def read_into(self, rows: slice, buffer: Embeddings) -> Embeddings:
        """Returns (n, D) float32: a view of what is there, or the first n rows of the buffer, filled."""
        return self._rows.read_into(self._selected(rows), buffer)

    def fetch(self, rows: slice) -> None:
        """Has the disk bring rows into memory, where they follow each other."""
        selected = self._selected(rows)
        if isinstance(selected, slice):
            self._rows.fetch(selected)

    def _selected(self, rows: slice) -> slice | npt.NDArray[np.intp]:
        """Returns the wanted rows' numbers, as a slice where they follow each other."""
        wanted = self._selection[rows]
        if len(wanted) and (np.diff(wanted) == 1).all():
            return slice(int(wanted[0]), int(wanted[-1]) + 1)
        return wanted


class JoinedRows:
    """Rows of several databases of one dimension, one after the other.

    Args:
        parts: at least one.
    """

    def __init__(self, parts: Sequence[BufferedRows]) -> None:
        self._parts = parts
        self._starts = list(accumulate((len(part) for part in parts), initial=0))
        self.shape: tuple[int, ...] = (self._starts[-1], parts[0].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Embeddings:
        """Returns (n, D) float32, in memory."""
        start, stop, _ = rows.indices(len(self))
        return np.array(self.read_into(rows, np.empty((max(0, stop - start), self.shape[1]), np.float32)))

    def read_into(self, rows: slice, buffer: Embeddings) -> Embeddings:
        """Returns (n, D) float32: a view where one part has all of them, or the first n rows of the buffer, filled."""
        pieces = list(self._pieces(rows))
        if len(pieces) == 1:
            part, of_part = pieces[0]
            return part.read_into(of_part, buffer)
        filled = 0
        for part, of_part in pieces:
            room = buffer[filled : filled + of_part.stop - of_part.start]
            read = part.read_into(of_part, room)
            if not np.shares_memory(read, room):
                room[:] = read
                release_pages(read)
            filled += len(room)
        return buffer[:filled]

    def fetch(self, rows: slice) -> None:
        """Has the disk bring rows into memory."""
        for part, of_part in self._pieces(rows):
            part.fetch(of_part)

    def _pieces(self, rows: slice) -> Iterator[tuple[BufferedRows, slice]]:
        """Yields each part that has some of the rows, with which of its own they are."""
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError("joined rows are read one after the other, by a slice without a step")
        for part, first in zip(self._parts, self._starts[:-1], strict=True):
            low, high = max(start - first, 0), min(stop - first, len(part))
            if low < high:
                yield part, slice(low, high)
