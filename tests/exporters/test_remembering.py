"""The same pixels are embedded once, and distinct ones are counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.embedder import FakeEmbedder
from aml_edge.exporters.remembering import RememberingEmbedder, digest
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.space import EmbeddingSpace

SPACE = EmbeddingSpace("toy teacher", "a" * 64, 8)


class Counting(FakeEmbedder):
    """A FakeEmbedder that counts what it was given."""

    embedded = 0
    closed = False

    def embed(self, images: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        """Returns (N, D) embeddings."""
        self.embedded += len(images)
        return super().embed(images)

    def close(self) -> None:
        """Notes that it was closed."""
        self.closed = True


@pytest.fixture
def pixels() -> list[Pixels]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(4)]


def test_rows_are_those_of_the_other_embedder_in_order(pixels: list[Pixels]) -> None:
    counting = Counting(SPACE, Preprocessing(16, Fit.SQUASH))
    remembering = RememberingEmbedder(counting)
    asked = [pixels[0], pixels[2], pixels[0].copy(), pixels[3]]
    assert np.array_equal(remembering.embed(asked), counting.embed(asked))


def test_the_same_pixels_are_embedded_once(pixels: list[Pixels]) -> None:
    counting = Counting(SPACE, Preprocessing(16, Fit.SQUASH))
    remembering = RememberingEmbedder(counting)
    remembering.embed([pixels[0], pixels[0].copy(), pixels[1]])
    remembering.embed(pixels)
    assert counting.embedded == 4
    assert remembering.distinct_images == 4


def test_it_stands_for_the_other_embedder(pixels: list[Pixels]) -> None:
    counting = Counting(SPACE, Preprocessing(16, Fit.SQUASH))
    remembering = RememberingEmbedder(counting)
    assert (remembering.name, remembering.space, remembering.preprocessing) == ("fake", SPACE, counting.preprocessing)
    remembering.close()
    assert counting.closed


def test_shape_and_pixels_make_the_digest() -> None:
    wide, high = np.zeros((2, 8, 3), np.uint8), np.zeros((8, 2, 3), np.uint8)
    assert digest(wide) != digest(high)
    assert digest(wide) == digest(wide.copy())
    assert digest(np.asfortranarray(wide)) == digest(wide)
