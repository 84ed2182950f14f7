"""`RememberingEmbedder`: an Embedder that embeds the same pixels once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from aml_edge.embedder import Embedder, Embeddings
from aml_edge.pixels import Pixels


class RememberingEmbedder:
    """Hands pixels that it has not seen to another Embedder and remembers what came back.

    Several files of one student are verified against the student's embeddings of the same images.

    Args:
        embedder: what embeds.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.name, self.space, self.preprocessing = embedder.name, embedder.space, embedder.preprocessing
        self._embedder = embedder
        self._rows: dict[bytes, Embeddings] = {}

    def embed(self, images: Sequence[Pixels]) -> Embeddings:
        """Returns (N, D) embeddings, rows L2-normalised."""
        keys = [digest(image) for image in images]
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in self._rows}
        if new:
            self._rows.update(zip(new, self._embedder.embed(list(new.values())), strict=True))
        return np.stack([self._rows[key] for key in keys])

    @property
    def distinct_images(self) -> int:
        """How many images it has seen that differ in a pixel."""
        return len(self._rows)

    def close(self) -> None:
        """Frees the other Embedder; what is remembered stays."""
        self._embedder.close()


def digest(image: Pixels) -> bytes:
    """Returns a hash of an image's shape and pixels."""
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).digest()
