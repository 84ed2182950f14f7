"""Vectors of images that another tool keeps: one `VectorSource` a kind of file or database.

To add one: a module with a `VectorSource` that opens a location, and a line in `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aml_edge.vectors.faiss_vectors import FaissVectors, is_faiss
from aml_edge.vectors.npy_vectors import NpyVectors, is_npy
from aml_edge.vectors.npz_vectors import NpzVectors, is_npz
from aml_edge.vectors.parquet_vectors import ParquetVectors, is_parquet
from aml_edge.vectors.qdrant_folder import QdrantFolder, is_qdrant_folder
from aml_edge.vectors.qdrant_server import QdrantServer, is_qdrant_server
from aml_edge.vectors.source import SourceOptions, VectorSource

__all__ = ["SOURCES", "SourceKind"]


@dataclass(frozen=True)
class SourceKind:
    """A kind of place where vectors lie.

    Args:
        name: in words.
        recognises: whether a location, a path or a URL, is one, by its content.
        open: returns the source at a location.
        options: which fields of `SourceOptions` are for it.
    """

    name: str
    recognises: Callable[[str], bool]
    open: Callable[[str, SourceOptions], VectorSource]
    options: tuple[str, ...] = ()


_OF_QDRANT = ("collection", "vector_name", "id_field")
SOURCES: dict[str, SourceKind] = {
    "qdrant-server": SourceKind(
        "the URL of a Qdrant server (http://HOST:PORT)", is_qdrant_server, QdrantServer, _OF_QDRANT
    ),
    "npy": SourceKind("a NumPy array (.npy)", is_npy, NpyVectors),
    "npz": SourceKind("a NumPy archive (.npz)", is_npz, NpzVectors, ("key", "ids_key")),
    "parquet": SourceKind("a Parquet file or a folder of them", is_parquet, ParquetVectors, ("column", "id_column")),
    "faiss": SourceKind("a FAISS file", is_faiss, FaissVectors),
    "qdrant-folder": SourceKind("a folder of Qdrant's local mode", is_qdrant_folder, QdrantFolder, _OF_QDRANT),
}
