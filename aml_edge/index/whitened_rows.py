"""Rows that were embedded without whitening, whitened: y = L2(P (x − m)), at once or as they are read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from aml_edge.embedder import Embeddings
from aml_edge.index.row_views import IndexRows
from aml_edge.networks.whitening import Whitening
from aml_edge.row_reading import release_pages

BLOCK_ROWS = 8192
"""Rows that are whitened at once."""


def whitened_rows(rows: npt.NDArray[np.float32], whitening: Whitening) -> Embeddings:
    """Returns (N, D_out) of (N, D), in memory or memory-mapped, rows L2-normalised."""
    return _whiten(rows, whitening, np.empty((len(rows), whitening.dimension), np.float32))


class WhitenedRows:
    """A view of (N, D) rows as (N, D_out), whitened as they are read; read by a slice or by row numbers.

    Args:
        rows: of an index that was built without whitening.
        whitening: takes D values.
    """

    def __init__(self, rows: IndexRows, whitening: Whitening) -> None:
        self.shape: tuple[int, ...] = (len(rows), whitening.dimension)
        self._rows, self._whitening = rows, whitening

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | npt.NDArray[np.intp]) -> Embeddings:
        """Returns (n, D_out) float32; raises what reading the rows raises."""
        return whitened_rows(self._rows[rows], self._whitening)

    def read_into(self, rows: slice | npt.NDArray[np.intp], buffer: Embeddings) -> Embeddings:
        """Returns (n, D_out) float32: the first n rows of the buffer, filled."""
        read = self._rows[rows]
        whitened = _whiten(read, self._whitening, buffer[: len(read)])
        release_pages(read)
        return whitened

    def fetch(self, rows: slice) -> None:
        """Has the disk bring rows into memory."""
        self._rows.fetch(rows)


def _whiten(rows: npt.NDArray[np.float32], whitening: Whitening, whitened: Embeddings) -> Embeddings:
    with torch.inference_mode():
        for start in range(0, len(rows), BLOCK_ROWS):
            block = np.array(rows[start : start + BLOCK_ROWS])  # a copy, since a mapped file cannot be written to
            whitened[start : start + BLOCK_ROWS] = whitening(torch.from_numpy(block)).numpy()
    return whitened
