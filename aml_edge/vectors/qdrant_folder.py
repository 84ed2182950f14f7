"""Vectors in a folder of Qdrant's local mode, the one that `QdrantClient(path=…)` keeps.

A folder of `meta.json` and, for each collection, `storage.sqlite` with a row for each point: a pickle of its
`PointStruct`. Qdrant's client would run whatever such a pickle asks for, would hold all points at once, and writes into
the folder; here it is opened for reading, and the pickles are read as `aml_edge.safe_pickle` does, around a stand-in.

Source: qdrant-client, `qdrant_client/local/qdrant_local.py` and `persistence.py`, versions 1.15 to 1.20.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import numpy as np

from aml_edge.errors import ForeignIndexError, UnsafePickleError
from aml_edge.safe_pickle import unpickled
from aml_edge.vectors.qdrant_points import (
    COSINE,
    UNNAMED,
    QdrantPoint,
    block_of,
    choose_vectors,
    require_collection,
)
from aml_edge.vectors.source import SourceDescription, SourceOptions, VectorBlock, rows_at_once

META_FILE, COLLECTIONS, STORAGE_FILE = "meta.json", "collection", "storage.sqlite"
LARGEST_POINT_BYTES = 1 << 26
_MODELS = "qdrant_client.http.models.models"


class _StoredPoint:
    """Stands in for Qdrant's `PointStruct`."""

    fields: Mapping[str, object] = {}

    def __setstate__(self, state: object) -> None:
        """Takes the fields of a pydantic model."""
        fields = state.get("__dict__") if isinstance(state, dict) else None
        if not isinstance(fields, dict):
            raise ValueError("it holds a point with a broken state")
        self.fields = fields


class _Other(_StoredPoint):
    """Stands in for what a point can hold beside dense vectors."""


_KNOWN: Mapping[str, object] = {f"{_MODELS}.PointStruct": _StoredPoint, f"{_MODELS}.SparseVector": _Other}


class QdrantFolder:
    """A VectorSource over a collection in a folder of Qdrant's local mode.

    Args:
        location: the folder.
        options: `collection`, and where needed `vector_name` and `id_field`.

    Raises:
        ForeignIndexError: the folder is damaged, hostile, or written by a client that keeps it otherwise.
        UsageError: a name names nothing.
    """

    def __init__(self, location: str, options: SourceOptions) -> None:
        self._folder = Path(location)
        meta = self._read_meta()
        collections, aliases = _mapping(meta, "collections"), meta.get("aliases")
        names = {*collections, *(aliases if isinstance(aliases, dict) else ())}
        collection = require_collection(options, names, location)
        stored = collection if collection in collections else str(_mapping(meta, "aliases")[collection])
        self._vectors = choose_vectors(collection, self._declared(collections, stored), options)
        file = self._folder / COLLECTIONS / stored / STORAGE_FILE
        self.files: Sequence[Path] = (file,)
        with self._reading():
            if Path(stored).name != stored or not file.is_file():
                raise ValueError(f"{COLLECTIONS}/{stored}/{STORAGE_FILE} is not there")
            self._storage = sqlite3.connect(f"file:{quote(str(file.resolve()))}?mode=ro", uri=True)
        try:
            count = self._count()
        except BaseException:
            self.close()
            raise
        if not count:
            self.close()
            raise ForeignIndexError(f"the collection '{collection}' of {location} has no point; name another one.")
        self.description = SourceDescription(
            kind=self._vectors.kind,
            name=f"{self._folder.name}/{collection}",
            count=count,
            dimension=self._vectors.size,
            dtype=self._vectors.dtype,
            has_ids=True,
            normalises=self._vectors.distance == COSINE,
        )

    def blocks(self) -> Iterator[VectorBlock]:
        """Yields the points' rows and ids, in the order in which they were written."""
        with self._reading():
            found = self._storage.execute("SELECT point FROM points ORDER BY rowid")
            while some := found.fetchmany(rows_at_once(self._vectors.size, 4)):
                block = block_of([_point(content) for (content,) in some], self._vectors)
                yield self._normalised(block) if self.description.normalises else block

    def close(self) -> None:
        """Closes the database."""
        self._storage.close()

    def _normalised(self, block: VectorBlock) -> VectorBlock:
        """Returns rows as Qdrant gives those of a collection of cosines, which it keeps here as they came."""
        rows = block.rows.astype(np.float64)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        with np.errstate(all="ignore"):
            unit = np.where(lengths > 0, rows / lengths, rows)
        return VectorBlock(unit.astype(self._vectors.dtype), block.ids)

    def _read_meta(self) -> dict[str, object]:
        with self._reading():
            meta = json.loads((self._folder / META_FILE).read_text(encoding="utf-8"))
            if not isinstance(meta, dict) or not isinstance(meta.get("collections"), dict):
                raise ValueError(f"{META_FILE} does not name its collections")
            return meta

    def _declared(self, collections: Mapping[str, object], name: str) -> dict[str, Mapping[str, object]]:
        with self._reading():
            vectors = _mapping(_mapping(collections, name), "vectors")
            if "size" in vectors:
                return {UNNAMED: vectors}
            return {one: _mapping(vectors, one) for one in vectors}

    def _count(self) -> int:
        """Returns how many points there are; refuses a view in place of the table: it could compute without end."""
        with self._reading():
            self._storage.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_POINT_BYTES)
            found = self._storage.execute("SELECT type FROM sqlite_master WHERE name = 'points'").fetchall()
            if found != [("table",)]:
                raise ValueError(f"{STORAGE_FILE} has no table of points")
            (count,) = self._storage.execute("SELECT count(*) FROM points").fetchone()
            return int(count)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except UnsafePickleError as wanted:
            raise ForeignIndexError(
                f"{self._folder} holds a point that asks for {wanted}, which a point does not need and which could run "
                "code; nothing of it was run. Do not trust the folder."
            ) from None
        except (OSError, ValueError, KeyError, TypeError, RecursionError, sqlite3.Error) as problem:
            raise ForeignIndexError(
                f"{self._folder} cannot be read as a folder of Qdrant's local mode: {problem}; copy it again, or give "
                "the URL of a server that has the collection."
            ) from None


def is_qdrant_folder(location: str) -> bool:
    """Whether a path is a folder as Qdrant's local mode keeps it."""
    path = Path(location)
    return (path / META_FILE).is_file() and (path / COLLECTIONS).is_dir()


def _point(content: object) -> QdrantPoint:
    if not isinstance(content, bytes):
        raise ValueError("a point is no pickle")
    try:
        point = unpickled(content, _KNOWN)
    except UnsafePickleError:
        raise
    except Exception as problem:  # a damaged pickle raises anything
        raise ValueError(f"a point cannot be read ({type(problem).__name__}: {problem})") from None
    if type(point) is not _StoredPoint:
        raise ValueError("a point is something else")
    return QdrantPoint(*(point.fields.get(name) for name in ("id", "vector", "payload")))


def _mapping(record: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = record.get(key)
    if not isinstance(value, dict):
        raise ValueError(f"{META_FILE} does not say what '{key}' is")
    return value
