"""The fake that tests lean on: what it promises of its embeddings."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aml_edge.embedder import Embedder, FakeEmbedder
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace

SPACE = EmbeddingSpace("toy teacher", "a" * 64, 32)


def fake(noise: float = 0.0) -> Embedder:
    return FakeEmbedder(SPACE, Preprocessing(64), noise=noise)


@pytest.fixture
def images() -> list[Pixels]:
    """Images of different shapes, as a native fit gives them."""
    generator = np.random.default_rng(1)
    return [generator.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in ((64, 48), (40, 64), (64, 64))]


def test_rows_are_float32_and_of_unit_length(images: list[Pixels]) -> None:
    rows = fake().embed(images)
    assert rows.shape == (3, 32)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(3), abs=1e-6)


def test_the_same_image_gives_the_same_row_in_any_company(images: list[Pixels]) -> None:
    together = fake(noise=0.1).embed(images)
    alone = [fake(noise=0.1).embed([image])[0] for image in images]
    assert np.array_equal(together, np.stack(alone))


def test_near_images_are_nearer_than_others(images: list[Pixels]) -> None:
    image, other = images[2], images[0]
    brighter = np.clip(image.astype(np.int64) + 3, 0, 255).astype(np.uint8)
    original, near, far = fake().embed([image, brighter, other])
    assert original @ near > 0.9 > original @ far


def test_noise_moves_embeddings_by_its_size(images: list[Pixels]) -> None:
    clean = fake().embed(images)
    cosines = [float((clean * fake(noise).embed(images)).sum(axis=1).min()) for noise in (0.0, 0.01, 0.1, 1.0)]
    assert cosines[0] == pytest.approx(1, abs=1e-6)
    assert cosines == sorted(cosines, reverse=True)
    assert cosines[-1] < 0.95


def test_images_smaller_than_its_blocks_have_embeddings_too() -> None:
    row = fake().embed([np.full((1, 1, 3), 200, np.uint8)])[0]
    assert math.isclose(float(np.linalg.norm(row)), 1, abs_tol=1e-6)


def test_no_images_give_no_rows() -> None:
    assert fake().embed([]).shape == (0, 32)


def test_it_says_what_it_is_and_closes_twice() -> None:
    embedder = fake()
    assert (embedder.name, embedder.space, embedder.preprocessing) == ("fake", SPACE, Preprocessing(64))
    embedder.close()
    embedder.close()
