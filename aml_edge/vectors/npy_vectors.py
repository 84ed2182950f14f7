"""Vectors in one NumPy array on disk, `.npy`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aml_edge.errors import ForeignIndexError
from aml_edge.vectors.npy_header import NPY_MAGIC, read_npy_header
from aml_edge.vectors.source import SourceDescription, SourceOptions, VectorBlock, rows_at_once


class NpyVectors:
    """A VectorSource over a `.npy` file of (N, D) float16, float32 or float64; it has no ids.

    Args:
        location: the file.
        options: none of them is for it.

    Raises:
        ForeignIndexError: the file is damaged, or holds something else.
    """

    def __init__(self, location: str, options: SourceOptions) -> None:
        path = Path(location)
        try:
            with path.open("rb") as stream:
                header = read_npy_header(stream)
                start, size = stream.tell(), os.fstat(stream.fileno()).st_size
        except (OSError, ValueError) as problem:
            raise ForeignIndexError(f"{path} cannot be read: {problem}; save it again with numpy.save.") from None
        if not header.describes_vectors:
            raise ForeignIndexError(
                f"{path} holds {header.describe()}; vectors are an array of (N, D) float16, float32 or float64: "
                f"{header.remedy}."
            )
        if size != start + header.size_bytes:
            raise ForeignIndexError(
                f"{path} has {size} bytes, which {header.describe()} does not have; it is cut short or holds more than "
                "one array: save it again with numpy.save."
            )
        self.files: Sequence[Path] = (path,)
        self.description = SourceDescription(
            kind="NumPy array",
            name=path.name,
            count=header.shape[0],
            dimension=header.shape[1],
            dtype=header.vector_dtype,
        )
        self._header, self._start = header, start

    def blocks(self) -> Iterator[VectorBlock]:
        """Yields its rows, of whatever byte order or layout, as ordinary ones."""
        native = self._header.dtype.newbyteorder("=")
        at_once = rows_at_once(self.description.dimension, native.itemsize)
        read = self._read_columns if self._header.columns_first else self._read_rows
        for rows in read(at_once):
            yield VectorBlock(np.ascontiguousarray(rows, native))

    def close(self) -> None:
        """Nothing to free."""

    def _read_rows(self, at_once: int) -> Iterator[npt.NDArray[Any]]:
        count, dimension = self.description.count, self.description.dimension
        with self.files[0].open("rb") as stream:
            stream.seek(self._start)
            for start in range(0, count, at_once):
                size = min(at_once, count - start)
                values = np.fromfile(stream, self._header.dtype, size * dimension)
                if len(values) != size * dimension:
                    raise ForeignIndexError(f"{self.files[0]} became shorter while it was read; import it again.")
                yield values.reshape(size, dimension)

    def _read_columns(self, at_once: int) -> Iterator[npt.NDArray[Any]]:
        """Yields blocks of a file that is mapped, since each of their columns lies elsewhere in it."""
        rows = np.memmap(self.files[0], self._header.dtype, "r", self._start, self._header.shape, "F")
        for start in range(0, len(rows), at_once):
            yield rows[start : start + at_once]


def is_npy(location: str) -> bool:
    """Whether a path is a file that begins as NumPy's arrays do."""
    return head_of(location).startswith(NPY_MAGIC)


def head_of(location: str) -> bytes:
    """Returns the first bytes of a file, or none where the location is something else."""
    path = Path(location)
    if not path.is_file():
        return b""
    with path.open("rb") as stream:
        return stream.read(16)
