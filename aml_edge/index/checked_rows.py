"""`CheckedRows`: embeddings on disk, of which whoever reads some gets sound ones or an error that names an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from aml_edge.embedder import Embeddings
from aml_edge.errors import TeacherIndexError
from aml_edge.row_reading import as_float32, fetch_pages, readable_tensor, release_pages

LARGEST_NORM_ERROR = 1e-3
"""Rows of float16 are off by at most 2⁻¹¹; a whitened row of float32 by far less."""


class CheckedRows:
    """A view of (N, D) embeddings of an index, read by a slice or by row numbers.

    Args:
        path: folder of the index, for the message.
        ids: N ids.
        embeddings: (N, D), memory-mapped or not.
    """

    def __init__(self, path: Path, ids: Sequence[str], embeddings: npt.NDArray[np.floating]) -> None:
        self.shape: tuple[int, ...] = embeddings.shape
        self._path, self._ids, self._embeddings = path, ids, embeddings
        self._sound = np.zeros(len(embeddings), np.bool_)  # of what was read, so that it is not checked again

    def __len__(self) -> int:
        return len(self._embeddings)

    def __getitem__(self, rows: slice | npt.NDArray[np.intp]) -> Embeddings:
        """Returns (n, D) float32, a view where it can be; raises `TeacherIndexError` where a row cannot be right."""
        read: Embeddings = np.asarray(self._embeddings[rows], np.float32)
        self._require_sound(rows, read)
        return read

    def read_into(self, rows: slice | npt.NDArray[np.intp], buffer: Embeddings) -> Embeddings:
        """Returns (n, D) float32: a view where it can be, else the first n rows of the buffer, filled; raises alike."""
        stored = self._embeddings[rows]
        read = as_float32(stored, buffer)
        self._require_sound(rows, read)
        if read is not stored or not isinstance(rows, slice):
            release_pages(stored if isinstance(rows, slice) else self._embeddings)
        return read

    def fetch(self, rows: slice) -> None:
        """Has the disk bring rows into memory."""
        fetch_pages(self._embeddings[rows])

    def _require_sound(self, rows: slice | npt.NDArray[np.intp], read: Embeddings) -> None:
        if self._sound[rows].all():
            return
        unsound = unsound_rows(read)
        self._sound[rows] = len(unsound) == 0
        if len(unsound):
            first = int(unsound[0])
            self._refuse(int(np.arange(len(self))[rows][first]), read[first])

    def _refuse(self, row: int, embedding: Embeddings) -> None:
        with np.errstate(invalid="ignore"):  # a signalling NaN is not finite either
            length = np.linalg.norm(embedding.astype(np.float64))
        what = f"of length {length:.4g}, not 1" if np.isfinite(embedding).all() else "that is not finite"
        raise TeacherIndexError(
            f"the index {self._path} holds an embedding {what}, for {self._ids[row]}; "
            f"`aml-edge index verify {self._path}` finds all of them: copy the index again, or build it again."
        )


def unsound_rows(embeddings: Embeddings) -> npt.NDArray[np.intp]:
    """Returns which rows of (n, D) hold NaN or Inf, or are not of unit length."""
    lengths = torch.linalg.vector_norm(readable_tensor(embeddings), dim=1).numpy()  # (n,); NaN stays NaN
    return np.flatnonzero(~(np.abs(lengths - 1) <= LARGEST_NORM_ERROR))
