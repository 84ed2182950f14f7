"""Learned and PCA whitening against published values, closed forms, and other ways to the same numbers.

Directions may be turned round, so similarities of whitened rows are compared, and `P S Pᵀ`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_edge.errors import UsageError
from aml_edge.networks.whitening import Whitening
from aml_edge.networks.whitening_learning import (
    LearnedWhitening,
    learn_whitening,
    pca_whitening,
    whitening_of_pairs,
    whitening_of_rows,
)

PUBLISHED = json.loads((Path(__file__).parents[1] / "data" / "whitening" / "published.json").read_text())
FLOAT64, FLOAT32 = 1e-9, 2e-6
"""Similarities of up to 1 after a few sums and inversions of well-conditioned matrices."""
SEEDS = st.integers(0, 2**32 - 1)


def made(seed: int, *, images: int = 40, dimension: int = 5) -> tuple[Any, Any, Any]:
    """Rows of images in twos that look alike, and which belong together."""
    generator = np.random.default_rng(seed)
    things = generator.normal(size=(images // 2, dimension)) * generator.uniform(0.5, 2, dimension)
    rows = np.repeat(things, 2, axis=0) + 0.3 * generator.normal(size=(images, dimension))
    return rows, np.arange(0, images, 2), np.arange(1, images, 2)


def similarities(whitening: LearnedWhitening, rows: Any) -> Any:
    """The published form, in float64: y = P(x − m) over its norm and 1e-6."""
    whitened = (rows - whitening.mean) @ whitening.projection.T
    whitened /= np.linalg.norm(whitened, axis=1, keepdims=True) + 1e-6
    return whitened @ whitened.T


def by_cholesky(rows: Any, queries: Any, positives: Any, added: float = 0.0) -> LearnedWhitening:
    """The way of the papers' code: a triangular factor whitens, an eigenbasis turns."""
    mean = rows[queries].mean(axis=0)
    differences = rows[queries] - rows[positives]
    within = differences.T @ differences / len(differences) + added * np.eye(rows.shape[1])
    whiten = np.linalg.inv(np.linalg.cholesky(within))
    whole = whiten @ (rows - mean).T @ (rows - mean) @ whiten.T
    return LearnedWhitening(mean, np.linalg.svd(whole)[2] @ whiten)


def test_published_learned_whitening() -> None:
    rows = np.array(PUBLISHED["X"])
    whitening = whitening_of_pairs(rows, PUBLISHED["query_rows"], PUBLISHED["positive_rows"])
    assert whitening.regularisation == 0
    np.testing.assert_allclose(similarities(whitening, rows), PUBLISHED["learned_gram"], atol=FLOAT64)
    layer = learn_whitening(rows, PUBLISHED["query_rows"], PUBLISHED["positive_rows"])
    whitened = layer(torch.from_numpy(rows).float()).double()
    np.testing.assert_allclose(whitened @ whitened.T, PUBLISHED["learned_gram"], atol=FLOAT32)


def test_published_pca_whitening() -> None:
    rows = np.array(PUBLISHED["X"])
    np.testing.assert_allclose(similarities(whitening_of_rows(rows), rows), PUBLISHED["pca_gram"], atol=FLOAT64)
    whitened = pca_whitening(rows)(torch.from_numpy(rows).float()).double()
    np.testing.assert_allclose(whitened @ whitened.T, PUBLISHED["pca_gram"], atol=FLOAT32)


def test_learned_whitening_in_closed_form() -> None:
    """Pairs differ by ±2 along x and ±1 along y, two pairs each: S = diag(2, 1/2). All rows: C = diag(0.4, 1.9)."""
    queries = [[1, 0], [-1, 0], [0, 0.5], [0, -0.5]]
    positives = [[-1, 0], [1, 0], [0, -0.5], [0, 0.5]]
    rows = np.array([*queries, *positives, [0, 3], [0, -3]])
    whitening = whitening_of_pairs(rows, range(4), range(4, 8))
    assert whitening.mean.tolist() == [0, 0]
    # y first: 1.9 / 0.5 is more than 0.4 / 2.
    np.testing.assert_allclose(whitening.projection, [[0, np.sqrt(2)], [np.sqrt(0.5), 0]], atol=1e-15)


def test_pca_whitening_in_closed_form() -> None:
    rows = np.array([[5, 1], [1, 1], [3, 2], [3, 0]])  # mean (3, 1), variances 2 and 1/2
    whitening = pca_whitening(rows)
    assert whitening.mean.tolist() == [3, 1]
    np.testing.assert_allclose(whitening.projection, [[np.sqrt(0.5), 0], [0, np.sqrt(2)]], atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_learned_whitening_by_another_decomposition(seed: int) -> None:
    rows, queries, positives = made(seed)
    expected = similarities(by_cholesky(rows, queries, positives), rows)
    np.testing.assert_allclose(similarities(whitening_of_pairs(rows, queries, positives), rows), expected, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_pca_whitening_by_singular_values(seed: int) -> None:
    """Of centred rows U S Vᵀ, whitened rows are √N U."""
    rows, _, _ = made(seed)
    left = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[0]
    whitening = whitening_of_rows(rows, 3)
    whitened = (rows - whitening.mean) @ whitening.projection.T
    np.testing.assert_allclose(np.abs(whitened), np.abs(left[:, :3]) * np.sqrt(len(rows)), atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_differences_of_pairs_become_white_and_all_rows_lie_along_the_axes(seed: int) -> None:
    rows, queries, positives = made(seed)
    whitening = whitening_of_pairs(rows, queries, positives)
    whitened = (rows - whitening.mean) @ whitening.projection.T
    differences = whitened[queries] - whitened[positives]
    np.testing.assert_allclose(differences.T @ differences / len(differences), np.eye(5), atol=1e-8)
    moment = whitened.T @ whitened / len(whitened)
    lengths = np.diag(moment)
    np.testing.assert_allclose(moment, np.diag(lengths), atol=1e-8 * lengths[0])
    assert (np.diff(lengths) <= 1e-12 * lengths[0]).all()


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_rows_whitened_by_pca_are_white(seed: int) -> None:
    rows, _, _ = made(seed)
    whitening = whitening_of_rows(rows)
    whitened = (rows - whitening.mean) @ whitening.projection.T
    np.testing.assert_allclose(whitened.T @ whitened / len(rows), np.eye(5), atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, scale=st.sampled_from([-1.0, 1e-3, 40.0]))
def test_turned_moved_and_scaled_rows_are_as_similar_as_before(seed: int, scale: float) -> None:
    rows, queries, positives = made(seed)
    generator = np.random.default_rng(seed)
    turn = np.linalg.qr(generator.normal(size=(5, 5)))[0]
    moved = scale * rows @ turn + scale * generator.normal(size=5)
    for learn in (lambda table: whitening_of_pairs(table, queries, positives), whitening_of_rows):
        before, after = similarities(learn(rows), rows), similarities(learn(moved), moved)
        np.testing.assert_allclose(after, before, atol=1e-6)


def test_the_order_of_pairs_and_of_two_that_match_does_not_count() -> None:
    rows, queries, positives = made(0)
    order = np.random.default_rng(1).permutation(len(queries))
    usual = whitening_of_pairs(rows, queries, positives)
    np.testing.assert_allclose(
        whitening_of_pairs(rows, queries[order], positives[order]).projection, usual.projection, rtol=1e-9
    )
    both = whitening_of_pairs(rows, [*queries, *positives], [*positives, *queries])
    swapped = whitening_of_pairs(rows, [*positives, *queries], [*queries, *positives])
    np.testing.assert_allclose(swapped.projection, both.projection, rtol=1e-9)


@pytest.mark.parametrize("dimension", [1, 3, 5])
def test_fewer_dimensions_are_the_first_ones(dimension: int) -> None:
    rows, queries, positives = made(2)
    learned = learn_whitening(rows, queries, positives, dimension=dimension)
    assert torch.equal(learned.projection, learn_whitening(rows, queries, positives).projection[:dimension])
    pca = pca_whitening(rows, dimension)
    assert torch.equal(pca.projection, pca_whitening(rows).projection[:dimension])
    assert (learned.dimension, pca.dimension) == (dimension, dimension)


def test_the_same_rows_give_the_same_hash_and_no_direction_is_turned_round() -> None:
    rows, queries, positives = made(3)
    first, again = (learn_whitening(rows.copy(), queries, positives) for _ in range(2))
    assert first.sha256 == again.sha256
    assert pca_whitening(rows).sha256 == pca_whitening(rows.copy()).sha256
    for projection in (first.projection, pca_whitening(rows).projection):
        largest = projection.gather(1, projection.abs().argmax(1, keepdim=True))
        assert (largest > 0).all()


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e4])
def test_a_singular_covariance_is_regularised_as_little_as_suffices(scale: float) -> None:
    """Three pairs in five dimensions: powers of ten from 1e-10 on are tried until NumPy calls the rank full."""
    rows, queries, positives = made(4)
    rows, queries, positives = scale * rows, queries[:3], positives[:3]
    differences = rows[queries] - rows[positives]
    within = differences.T @ differences / 3
    assert np.linalg.matrix_rank(within, hermitian=True) == 3
    added = 1e-10
    while np.linalg.matrix_rank(within + added * np.eye(5), hermitian=True) < 5:
        added *= 10
    whitening = whitening_of_pairs(rows, queries, positives)
    assert whitening.regularisation == pytest.approx(added, rel=1e-12)


def test_a_covariance_regularised_is_the_one_that_is_inverted() -> None:
    rows, queries, positives = made(4)
    expected = similarities(by_cholesky(rows, queries[:3], positives[:3], 1e-10), rows)
    whitening = whitening_of_pairs(rows, queries[:3], positives[:3])
    # The condition number is 1e10, so six of sixteen digits are left.
    np.testing.assert_allclose(similarities(whitening, rows), expected, atol=1e-5)


def test_dimensions_that_never_vary_do_no_harm() -> None:
    rows, queries, positives = made(5)
    padded = np.concatenate([rows, np.full((len(rows), 2), 0.5)], axis=1)
    whitening = whitening_of_pairs(padded, queries, positives)
    assert whitening.regularisation == 1e-10
    expected = similarities(whitening_of_pairs(rows, queries, positives), rows)
    np.testing.assert_allclose(similarities(whitening, padded), expected, atol=1e-6)


def test_regularisation_that_is_asked_for_is_added() -> None:
    rows, queries, positives = made(6)
    whitening = whitening_of_pairs(rows, queries, positives, regularisation=0.25)
    assert whitening.regularisation == 0.25
    expected = similarities(by_cholesky(rows, queries, positives, 0.25), rows)
    np.testing.assert_allclose(similarities(whitening, rows), expected, atol=1e-7)


def test_much_regularisation_leaves_only_the_turn() -> None:
    """P becomes a rotation over a number: similarities are those of centred rows."""
    rows, queries, positives = made(7)
    centred = rows - rows[queries].mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    whitening = whitening_of_pairs(rows, queries, positives, regularisation=1e9)
    whitened = (rows - whitening.mean) @ whitening.projection.T
    whitened /= np.linalg.norm(whitened, axis=1, keepdims=True)
    np.testing.assert_allclose(whitened @ whitened.T, centred @ centred.T, atol=1e-7)


def test_pairs_that_do_not_differ_are_refused() -> None:
    rows, queries, _ = made(8)
    with pytest.raises(UsageError) as refusal:
        learn_whitening(rows, queries, queries)
    assert str(refusal.value) == (
        "none of the 20 pairs differ in their embeddings; a whitening is learned from different images of the same "
        "thing: check the pairs, and whether the network tells images apart."
    )


@pytest.mark.parametrize("dimension", [0, -1, 6])
def test_a_dimension_that_there_is_not_is_refused(dimension: int) -> None:
    rows, queries, positives = made(9)
    attempts: tuple[Callable[[], Whitening], ...] = (
        lambda: learn_whitening(rows, queries, positives, dimension=dimension),
        lambda: pca_whitening(rows, dimension),
    )
    for learn in attempts:
        with pytest.raises(UsageError) as refusal:
            learn()
        assert str(refusal.value) == (f"`dimension` is {dimension}; embeddings of 5 values are whitened to 1 to 5.")


@pytest.mark.parametrize("value", [-1e-3, np.nan, np.inf])
def test_a_regularisation_that_is_none_is_refused(value: float) -> None:
    rows, queries, positives = made(10)
    with pytest.raises(UsageError) as refusal:
        learn_whitening(rows, queries, positives, regularisation=value)
    assert str(refusal.value) == f"`regularisation` is {value}; it must be a number of at least 0."


def test_pca_does_not_make_up_directions() -> None:
    rows = made(11)[0][:4]
    with pytest.raises(UsageError) as refusal:
        pca_whitening(rows)
    assert str(refusal.value) == (
        "`dimension` is 5, but the 4 rows vary in 3 directions only; ask for at most 3, or give more images."
    )
    assert pca_whitening(rows, 3).dimension == 3


@pytest.mark.parametrize("count", [1, 4])
def test_pca_of_one_image_is_refused(count: int) -> None:
    with pytest.raises(UsageError, match=r"1, but the \d rows vary in 0 directions only; they are all the same image"):
        pca_whitening(np.ones((count, 3)), 1)


def test_numbers_too_large_to_square_are_refused_without_a_warning() -> None:
    rows, queries, positives = made(12)
    attempts: tuple[Callable[[], Whitening], ...] = (
        lambda: learn_whitening(rows * 1e200, queries, positives),
        lambda: pca_whitening(rows * 1e200),
    )
    for learn in attempts:
        with pytest.raises(UsageError) as refusal:
            learn()
        assert str(refusal.value) == "the covariance of `rows` is not finite; L2-normalise the rows first."
