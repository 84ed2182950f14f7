"""`Embedder`: the one Protocol that runs anything, and the fake that tests and newcomers can hold.

PyTorch, ONNX Runtime, LiteRT, Core ML and the MIL evaluator are Embedders; verification, latency and mAP need
nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace

Embeddings = npt.NDArray[np.float32]
"""(N, D) float32, rows are images, rows L2-normalised."""


class EmbeddingSource(Protocol):
    """What is known of embeddings before there is one: by an embedder, or what will open one."""

    @property
    def name(self) -> str:
        """What runs, for a table row, e.g. ``"onnxruntime cpu"``."""
        ...

    @property
    def space(self) -> EmbeddingSpace:
        """The space the embeddings live in."""
        ...

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image must be fitted before it is embedded."""
        ...


class Embedder(EmbeddingSource, Protocol):
    """Anything that turns fitted pixels into embeddings of a space."""

    def embed(self, images: Sequence[Pixels]) -> Embeddings:
        """Returns (N, D) float32 embeddings, rows L2-normalised; images may differ in shape where the fit is native."""
        ...

    def close(self) -> None:
        """Frees the session; calling it twice is harmless."""
        ...


class FakeEmbedder:
    """An Embedder without a network: a fixed random projection of each image's 8×8 block means.

    Near-equal images get near-equal embeddings, so search, verification and reports can be tried on it.

    Args:
        space: the space to claim.
        preprocessing: the preprocessing to ask for.
        noise: standard deviation of noise added before normalisation, to play a lossy export; seeded per image.
    """

    def __init__(self, space: EmbeddingSpace, preprocessing: Preprocessing, *, noise: float = 0.0) -> None:
        self.name = "fake"
        self.space = space
        self.preprocessing = preprocessing
        self._noise = noise
        self._projection = np.random.default_rng(0).normal(size=(8 * 8 * 3, space.dimension))

    def embed(self, images: Sequence[Pixels]) -> Embeddings:
        """Returns (N, D) embeddings, rows L2-normalised."""
        means = np.array([self._block_means(image) for image in images]).reshape(len(images), 8 * 8 * 3)
        rows = means @ self._projection  # (N, D)
        for row, image in zip(rows, images, strict=True):
            row += self._noise * np.random.default_rng(int(image.sum())).normal(size=row.shape)
        normalised: Embeddings = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return normalised

    def close(self) -> None:
        """Nothing to free."""

    @staticmethod
    def _block_means(image: Pixels) -> npt.NDArray[np.float64]:
        bands = [np.array_split(band, 8, axis=1) for band in np.array_split(image.astype(np.float64) / 255 - 0.5, 8)]
        return np.array(
            [block.mean(axis=(0, 1)) if block.size else np.zeros(3) for band in bands for block in band]
        ).ravel()
