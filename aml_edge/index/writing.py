"""The large files of an index, `embeddings.npy` and `images.sha256`, written from one part after the other."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aml_edge.index.images import IMAGES_FILE, encode_image_hashes
from aml_edge.index.record import IndexDtype
from aml_edge.index.shards import Shard
from aml_edge.index.teacher_index import EMBEDDINGS_FILE


@dataclass(frozen=True)
class WrittenRows:
    """The SHA-256 of each of the two files."""

    embeddings_sha256: str
    images_sha256: str


def write_rows(
    folder: Path, ids: Sequence[str], dimension: int, shards: Iterable[Shard], *, dtype: IndexDtype = "float32"
) -> WrittenRows:
    """Returns what was written into a folder: the embedding and the SHA-256 of each image.

    Args:
        folder: of the index.
        ids: N, of the images that have an embedding.
        dimension: of an embedding.
        shards: of these images, in order; one is held at a time.
        dtype: in which the embeddings are written.
    """
    hashes: list[str] = []

    def blocks() -> Iterator[npt.NDArray[np.floating]]:
        for shard in shards:
            hashes.extend(shard.hashes)
            yield shard.rows

    embeddings_sha256 = write_embeddings(folder, (len(ids), dimension), blocks(), dtype=dtype)
    images = encode_image_hashes(ids, hashes)
    (folder / IMAGES_FILE).write_bytes(images)
    return WrittenRows(embeddings_sha256, hashlib.sha256(images).hexdigest())


def write_embeddings(
    folder: Path, shape: tuple[int, int], blocks: Iterable[npt.NDArray[np.floating]], *, dtype: IndexDtype = "float32"
) -> str:
    """Returns the SHA-256 of `embeddings.npy`, after it was written into a folder.

    Args:
        folder: of the index.
        shape: (N, D).
        blocks: (n, D) rows each, N in all; one block is held at a time.
        dtype: in which the embeddings are written.
    """
    header, digest = io.BytesIO(), hashlib.sha256()
    fields = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, fields)
    with (folder / EMBEDDINGS_FILE).open("wb") as stream:
        stream.write(header.getbuffer())
        digest.update(header.getbuffer())
        for block in blocks:
            rows = np.ascontiguousarray(block, dtype)
            stream.write(rows.data)
            digest.update(rows.data)
        stream.flush()
        os.fsync(stream.fileno())
    return digest.hexdigest()
