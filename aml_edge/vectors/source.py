"""`VectorSource`: vectors that another tool keeps, read in order and in blocks, so that a million fit in any memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from aml_edge.progress import Progress

VectorDtype = Literal["float16", "float32", "float64"]
VECTOR_DTYPES: tuple[VectorDtype, ...] = get_args(VectorDtype)
BLOCK_BYTES = 1 << 24
"""Of vectors, held at once."""
HASHED_BYTES = 1 << 24
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class SourceOptions:
    """What to take of a source that holds several things; None where it was not said.

    Args:
        key, ids_key: arrays of a `.npz` file.
        column, id_column: of a Parquet table.
        collection, vector_name, id_field: of Qdrant; the field is one of a point's payload.
    """

    key: str | None = None
    ids_key: str | None = None
    column: str | None = None
    id_column: str | None = None
    collection: str | None = None
    vector_name: str | None = None
    id_field: str | None = None


@dataclass(frozen=True)
class SourceDescription:
    """What a source is.

    Args:
        kind: in words, e.g. ``"FAISS IndexFlatIP, inner product"``.
        name: of the file, folder or collection, without the folders above it.
        count: N.
        dimension: D.
        dtype: of the vectors there.
        has_ids: whether its blocks say which vector is whose.
        approximate: whether it gives vectors back with a loss, as product quantisation does.
        normalises: whether it scales vectors to unit length, as a Qdrant collection of cosines does.
        other_ids: how its own ids could be had, in words, where it has some that were not asked for.
    """

    kind: str
    name: str
    count: int
    dimension: int
    dtype: VectorDtype
    has_ids: bool = False
    approximate: bool = False
    normalises: bool = False
    other_ids: str | None = None


@dataclass(frozen=True, eq=False)
class VectorBlock:
    """Some vectors of a source.

    Args:
        rows: (n, D) of a floating-point type, as they are there: of any length, finite or not.
        ids: n of them, where the source has ids.
    """

    rows: npt.NDArray[np.floating]
    ids: tuple[str, ...] | None = None


class VectorSource(Protocol):
    """Anything that holds vectors of images, opened.

    What a source raises in `blocks` is a `ForeignIndexError` that names it.
    """

    @property
    def description(self) -> SourceDescription:
        """What it is."""
        ...

    @property
    def files(self) -> Sequence[Path]:
        """The files that it consists of; none where it is a database."""
        ...

    def blocks(self) -> Iterator[VectorBlock]:
        """Yields its vectors in order, N in all; can be asked once."""
        ...

    def close(self) -> None:
        """Frees what it holds; calling it twice is harmless."""
        ...


def rows_at_once(dimension: int, itemsize: int) -> int:
    """Returns how many rows make a block."""
    return max(1, BLOCK_BYTES // (dimension * itemsize))


def files_sha256(files: Sequence[Path], progress: Progress) -> str | None:
    """Returns the SHA-256 of the bytes of files one after the other; None for no file."""
    if not files:
        return None
    digest, total = hashlib.sha256(), sum(file.stat().st_size for file in files)
    with progress.task("hashing, MiB", -(-total // MEBIBYTE)) as task:
        done = 0
        for file in files:
            with file.open("rb") as stream:
                while content := stream.read(HASHED_BYTES):
                    digest.update(content)
                    task.advance((done + len(content)) // MEBIBYTE - done // MEBIBYTE)
                    done += len(content)
        task.advance(-(-total // MEBIBYTE) - done // MEBIBYTE)
    return digest.hexdigest()
