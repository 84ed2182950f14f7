"""Vectors in a column of lists of a Parquet file, or of a folder of such files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aml_edge.errors import ForeignIndexError, MissingExtraError, UsageError
from aml_edge.vectors.npy_vectors import head_of
from aml_edge.vectors.source import SourceDescription, SourceOptions, VectorBlock, VectorDtype, rows_at_once

PARQUET_MAGIC = b"PAR1"
_BUFFER_BYTES = 1 << 20
"""Read at once of a column, so that a row group may be larger than memory."""
_DTYPES: dict[str, VectorDtype] = {"halffloat": "float16", "float": "float32", "double": "float64"}
_SUFFIX = "*.parquet"


class ParquetVectors:
    """A VectorSource over a column whose cells are lists of as many float16, float32 or float64.

    Args:
        location: a file, or a folder whose files are read in the order of their names.
        options: `column` names that of vectors, found by itself where there is one such; `id_column` that of ids.

    Raises:
        ForeignIndexError: a file is damaged, or has no such column.
        UsageError: a column names nothing, or several could be meant.
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, location: str, options: SourceOptions) -> None:
        try:
            import pyarrow.compute
            import pyarrow.parquet
        except ImportError:
            raise MissingExtraError("pyarrow", "parquet", "reading a Parquet file") from None
        self._arrow: Any = pyarrow
        path = Path(location)
        self.files: Sequence[Path] = _files(path)
        with self._reading(self.files[0]):
            schema = self._open(self.files[0]).schema_arrow
        self._column = self._vectors_column(path, schema, options.column)
        self._id_column = None if options.id_column is None else self._require_ids(path, schema, options.id_column)
        count = 0
        for file in self.files:
            with self._reading(file):
                opened = self._open(file)
                if not opened.schema_arrow.equals(schema):
                    raise ValueError(f"its columns are not those of {self.files[0].name}")
                count += opened.metadata.num_rows
        if not count:
            raise ForeignIndexError(f"{path} has no row; write vectors into it first.")
        dtype = _DTYPES[str(schema.field(self._column).type.value_type)]
        others = [one.name for one in schema if self._can_be_ids(one.type)]
        self.description = SourceDescription(
            kind=f"Parquet, column '{self._column}'",
            name=path.name,
            count=count,
            dimension=self._first_length(schema),
            dtype=dtype,
            has_ids=self._id_column is not None,
            other_ids=f"name its column of ids with --id-column ({', '.join(others)})" if others else None,
        )

    def blocks(self) -> Iterator[VectorBlock]:
        """Yields its rows and, where a column of ids was named, their ids."""
        columns = [self._column] if self._id_column is None else [self._column, self._id_column]
        at_once = rows_at_once(self.description.dimension, np.dtype(self.description.dtype).itemsize)
        for file in self.files:
            row = 0
            with self._reading(file):
                for batch in self._open(file).iter_batches(at_once, columns=columns, use_threads=False):
                    rows = self._rows(batch.column(self._column), row)
                    yield VectorBlock(rows, None if self._id_column is None else self._ids(batch, row))
                    row += len(rows)

    def close(self) -> None:
        """Nothing to free."""

    def _open(self, file: Path) -> Any:
        return self._arrow.parquet.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)

    def _vectors_column(self, path: Path, schema: Any, wanted: str | None) -> str:
        found = [field.name for field in schema if self._can_be_vectors(field.type)]
        held = ", ".join(f"{field.name}: {field.type}" for field in schema)
        if wanted is not None and wanted not in found:
            raise UsageError(f"`column` is '{wanted}', which is no column of lists of numbers in {path} ({held}).")
        if not found:
            raise ForeignIndexError(
                f"{path} has no column of lists of float16, float32 or float64 ({held}); write one of vectors."
            )
        if wanted is None and len(found) > 1:
            raise UsageError(f"{path} has several columns of vectors ({held}); name one with --column.")
        return found[0] if wanted is None else wanted

    def _require_ids(self, path: Path, schema: Any, wanted: str) -> str:
        found = [field.name for field in schema if self._can_be_ids(field.type)]
        if wanted not in found:
            held = ", ".join(found) or "it has none"
            raise UsageError(f"`id_column` is '{wanted}', which is no column of texts or whole numbers ({held}).")
        return wanted

    def _can_be_vectors(self, kind: Any) -> bool:
        types = self._arrow.types
        is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        return is_list and str(kind.value_type) in _DTYPES

    def _can_be_ids(self, kind: Any) -> bool:
        types = self._arrow.types
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind))

    def _first_length(self, schema: Any) -> int:
        kind = schema.field(self._column).type
        if self._arrow.types.is_fixed_size_list(kind):
            length = kind.list_size
        else:
            with self._reading(self.files[0]):
                files = (self._open(file) for file in self.files)
                batches = (batch for file in files for batch in file.iter_batches(1, columns=[self._column]))
                first = next((batch for batch in batches if len(batch)), None)
                if first is None:
                    raise ValueError("it has no rows, but says that it has")
                length = len(first.column(0)[0].as_py() or [])
        if not length:
            raise ForeignIndexError(f"{self.files[0]} begins with an empty vector; leave such rows out.")
        return int(length)

    def _rows(self, column: Any, first: int) -> npt.NDArray[np.floating]:
        """Returns (n, D) of a part of the column that begins at a row."""
        dimension = self.description.dimension
        lengths = self._arrow.compute.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(lengths != dimension)
        if len(wrong):
            raise ValueError(f"row {first + wrong[0]} has {lengths[wrong[0]]} values, and the first one {dimension}")
        flat = column.flatten()
        if flat.null_count:
            missing = np.flatnonzero(flat.is_null().to_numpy(zero_copy_only=False))[0] // dimension
            raise ValueError(f"row {first + missing} has a value that is missing")
        rows: npt.NDArray[np.floating] = flat.to_numpy(zero_copy_only=False).reshape(-1, dimension)
        return rows

    def _ids(self, batch: Any, first: int) -> tuple[str, ...]:
        column = batch.column(self._id_column)
        if column.null_count:
            missing = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0]
            raise ValueError(f"row {first + missing} has no id in '{self._id_column}'")
        return tuple(str(one) for one in column.to_pylist())

    @contextmanager
    def _reading(self, file: Path) -> Iterator[None]:
        try:
            yield
        except (self._arrow.ArrowException, OSError, ValueError, MemoryError) as problem:
            reason = str(problem).strip().partition("\n")[0].rstrip(".")
            raise ForeignIndexError(f"{file} cannot be read: {reason}; write it again.") from None


def is_parquet(location: str) -> bool:
    """Whether a path is a file that begins as Parquet files do, or a folder with such files in it."""
    if head_of(location).startswith(PARQUET_MAGIC):
        return True
    path = Path(location)
    return path.is_dir() and next(path.rglob(_SUFFIX), None) is not None


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob(_SUFFIX)) if path.is_dir() else [path]
