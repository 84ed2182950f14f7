"""`write_rows`: `embeddings.npy` and `images.sha256` of an index, from its shards one after the other."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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
    header, digest = io.BytesIO(), hashlib.sha256()
    shape = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (len(ids), dimension)}
    np.lib.format.write_array_header_1_0(header, shape)
    hashes: list[str] = []
    with (folder / EMBEDDINGS_FILE).open("wb") as stream:
        stream.write(header.getbuffer())
        digest.update(header.getbuffer())
        for shard in shards:
            rows = np.ascontiguousarray(shard.rows, dtype)
            stream.write(rows.data)
            digest.update(rows.data)
            hashes += shard.hashes
        stream.flush()
        os.fsync(stream.fileno())
    images = encode_image_hashes(ids, hashes)
    (folder / IMAGES_FILE).write_bytes(images)
    return WrittenRows(digest.hexdigest(), hashlib.sha256(images).hexdigest())
