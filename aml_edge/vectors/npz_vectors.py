"""Vectors in one of the arrays of a NumPy archive, `.npz`, and their ids in another one.

An archive is a zip file. Its parts are read as streams of which no more than a block is held, and what their headers
claim is compared with what the archive says of them before anything of that size is read.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from aml_edge.errors import ForeignIndexError, UsageError
from aml_edge.vectors.npy_header import NpyHeader, read_npy_header
from aml_edge.vectors.npy_vectors import head_of
from aml_edge.vectors.source import SourceDescription, SourceOptions, VectorBlock, rows_at_once

LARGEST_RATIO = 200
"""By which a part may have been compressed; embeddings hardly shrink, and names by ten."""
LARGEST_ID_BYTES = 1 << 16
_ZIP_MAGIC = b"PK\x03\x04"
_SUFFIX = ".npy"
_BROKEN = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""Of zipfile; RuntimeError where a part is encrypted, NotImplementedError among it for unknown compressions."""


class NpzVectors:
    """A VectorSource over an array of (N, D) numbers in a `.npz` file, with an array of N ids where one is named.

    Args:
        location: the file.
        options: `key` names the array, found by itself where there is one such; `ids_key` that of ids.

    Raises:
        ForeignIndexError: the file is damaged, hostile, or holds no vectors.
        UsageError: a key names nothing, or several arrays could be meant.
    """

    def __init__(self, location: str, options: SourceOptions) -> None:
        path = Path(location)
        self._path = path
        self.files: Sequence[Path] = (path,)
        with self._reading():
            self._archive = zipfile.ZipFile(path)
            self._headers = {
                part.filename.removesuffix(_SUFFIX): self._header(part)
                for part in self._archive.infolist()
                if part.filename.endswith(_SUFFIX)
            }
        self._key = self._vectors_key(options.key)
        vectors = self._headers[self._key]
        self._ids_key = None if options.ids_key is None else self._require_ids(options.ids_key, vectors.shape[0])
        other = [key for key, header in self._headers.items() if _can_be_ids(header, vectors.shape[0])]
        self.description = SourceDescription(
            kind=f"NumPy archive, array '{self._key}'",
            name=path.name,
            count=vectors.shape[0],
            dimension=vectors.shape[1],
            dtype=vectors.vector_dtype,
            has_ids=self._ids_key is not None,
            other_ids=f"name its array of ids with --ids-key ({', '.join(other)})" if other else None,
        )

    def blocks(self) -> Iterator[VectorBlock]:
        """Yields its rows and, where an array of ids was named, their ids."""
        count, dimension = self.description.count, self.description.dimension
        at_once = rows_at_once(dimension, self._headers[self._key].dtype.itemsize)
        with self._reading(), ExitStack() as opened:
            rows = self._open(opened, self._key)
            ids = None if self._ids_key is None else self._open(opened, self._ids_key)
            for start in range(0, count, at_once):
                size = min(at_once, count - start)
                block = _read(rows, self._headers[self._key].dtype, size * dimension).reshape(size, dimension)
                names = None
                if ids is not None and self._ids_key is not None:
                    names = _texts(_read(ids, self._headers[self._ids_key].dtype, size))
                yield VectorBlock(block, names)

    def close(self) -> None:
        """Closes the file."""
        self._archive.close()

    def _header(self, part: zipfile.ZipInfo) -> NpyHeader:
        with self._archive.open(part.filename) as stream:
            header = read_npy_header(stream)
            start = stream.tell()
        if part.file_size != start + header.size_bytes and not header.dtype.hasobject:
            raise ValueError(f"'{part.filename}' has {part.file_size} bytes, which {header.describe()} does not have")
        if part.file_size > LARGEST_RATIO * max(part.compress_size, 1 << 12):
            raise ValueError(f"'{part.filename}' is {part.file_size} bytes in {part.compress_size}, as no vectors are")
        return header

    def _vectors_key(self, key: str | None) -> str:
        found = [name for name, header in self._headers.items() if header.describes_vectors]
        held = ", ".join(f"{name}: {header.describe()}" for name, header in self._headers.items()) or "no array"
        if key is not None and key not in found:
            raise UsageError(f"`key` is '{key}', which is no array of (N, D) numbers in {self._path} ({held}).")
        if not found:
            raise ForeignIndexError(f"{self._path} holds no array of (N, D) numbers ({held}); save one in it.")
        if key is None and len(found) > 1:
            raise UsageError(f"{self._path} holds several arrays of vectors ({held}); name one with --key.")
        return found[0] if key is None else key

    def _require_ids(self, key: str, count: int) -> str:
        header = self._headers.get(key)
        if header is None or not _can_be_ids(header, count):
            held = "not there" if header is None else header.describe()
            raise UsageError(
                f"`ids_key` is '{key}', which is {held} in {self._path}; it must be {count} texts or whole numbers: "
                "name another array, or give a file with --ids."
            )
        return key

    def _open(self, opened: ExitStack, key: str) -> IO[bytes]:
        stream: IO[bytes] = opened.enter_context(self._archive.open(key + _SUFFIX))
        header = read_npy_header(stream)
        if header.columns_first and len(header.shape) > 1:
            raise ValueError(f"'{key}' lies column by column, which numpy.ascontiguousarray changes")
        return stream

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except _BROKEN as problem:
            raise ForeignIndexError(
                f"{self._path} cannot be read: {problem or type(problem).__name__}; save it again with numpy.savez."
            ) from None


def is_npz(location: str) -> bool:
    """Whether a path is a file that begins as a zip file does."""
    return head_of(location).startswith(_ZIP_MAGIC)


def _can_be_ids(header: NpyHeader, count: int) -> bool:
    fits = header.shape == (count,) and not header.dtype.hasobject and header.dtype.itemsize <= LARGEST_ID_BYTES
    return fits and header.dtype.kind in "USiu"


def _read(stream: IO[bytes], dtype: np.dtype[Any], count: int) -> npt.NDArray[Any]:
    size = dtype.itemsize * count
    content = stream.read(size)
    if len(content) != size:
        raise ValueError("it is cut short")
    return np.frombuffer(content, dtype).astype(dtype.newbyteorder("="), copy=False)


def _texts(ids: npt.NDArray[Any]) -> tuple[str, ...]:
    if ids.dtype.kind == "S":
        return tuple(one.decode("utf-8") for one in ids.tolist())
    return tuple(str(one) for one in ids.tolist())
