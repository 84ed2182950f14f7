"""A few images stand for many: one a cluster."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.quantization.diverse import diverse_rows

Rows = npt.NDArray[np.float32]


def clusters(sizes: list[int], *, spread: float = 0.02, seed: int = 0) -> tuple[Rows, npt.NDArray[np.intp]]:
    """Unit rows in a plane, around angles that are evenly spaced, in a random order, and the cluster of each."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    angles = labels * 2 * np.pi / len(sizes) + generator.uniform(-spread, spread, len(labels))
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32), labels


@pytest.mark.parametrize("seed", range(5))
def test_each_cluster_gives_one_whatever_its_size(seed: int) -> None:
    rows, labels = clusters([60, 20, 5, 3, 1])
    assert sorted(labels[diverse_rows(rows, 5, seed=seed)]) == [0, 1, 2, 3, 4]


def test_the_image_in_the_middle_stands_for_its_cluster() -> None:
    angles = np.array([-0.2, 0.01, 0.2, 3.0, 3.11, 3.3])
    rows = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    assert diverse_rows(rows, 2, seed=0).tolist() == [1, 4]


def test_places_are_different_and_in_order() -> None:
    rows = np.random.default_rng(3).normal(size=(40, 8)).astype(np.float32)
    places = diverse_rows(rows, 17, seed=1)
    assert places.tolist() == sorted(set(places.tolist()))
    assert len(places) == 17


def test_the_same_seed_gives_the_same_and_another_another() -> None:
    rows = np.random.default_rng(4).normal(size=(80, 8)).astype(np.float32)
    first = diverse_rows(rows, 16, seed=7).tolist()
    assert diverse_rows(rows, 16, seed=7).tolist() == first
    assert any(diverse_rows(rows, 16, seed=seed).tolist() != first for seed in range(3))


def test_a_permutation_of_the_images_keeps_the_clusters() -> None:
    rows, labels = clusters([9, 9, 9, 9])
    order = np.random.default_rng(5).permutation(len(rows))
    assert sorted(labels[order][diverse_rows(rows[order], 4, seed=0)]) == [0, 1, 2, 3]


def test_all_are_taken_where_all_are_wanted() -> None:
    rows = np.random.default_rng(6).normal(size=(12, 4)).astype(np.float32)
    assert diverse_rows(rows, 12, seed=0).tolist() == list(range(12))


def test_equal_embeddings_still_give_so_many_different_places() -> None:
    rows = np.ones((10, 4), np.float32)
    assert len(set(diverse_rows(rows, 6, seed=0).tolist())) == 6
    rows[0] = -1.0
    assert 0 in diverse_rows(rows, 2, seed=0)
