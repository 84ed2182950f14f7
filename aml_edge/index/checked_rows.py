"""`CheckedRows`: embeddings on disk, of which whoever reads some gets sound ones or an error that names an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aml_edge.embedder import Embeddings
from aml_edge.errors import TeacherIndexError

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

    def __len__(self) -> int:
        return len(self._embeddings)

    def __getitem__(self, rows: slice | npt.NDArray[np.intp]) -> Embeddings:
        """Returns (n, D) float32, a view where it can be; raises `TeacherIndexError` where a row cannot be right."""
        read: Embeddings = np.asarray(self._embeddings[rows], np.float32)
        unsound = unsound_rows(read)
        if len(unsound):
            first = int(unsound[0])
            self._refuse(int(np.arange(len(self))[rows][first]), read[first])
        return read

    def _refuse(self, row: int, embedding: Embeddings) -> None:
        length = np.linalg.norm(embedding.astype(np.float64))
        what = f"of length {length:.4g}, not 1" if np.isfinite(embedding).all() else "that is not finite"
        raise TeacherIndexError(
            f"the index {self._path} holds an embedding {what}, for {self._ids[row]}; "
            f"`aml-edge index verify {self._path}` finds all of them: copy the index again, or build it again."
        )


def unsound_rows(embeddings: Embeddings) -> npt.NDArray[np.intp]:
    """Returns which rows of (n, D) hold NaN or Inf, or are not of unit length."""
    with np.errstate(all="ignore"):
        lengths = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings))  # n rows, d values; NaN stays NaN
        return np.flatnonzero(~(np.abs(lengths - 1) <= LARGEST_NORM_ERROR))
