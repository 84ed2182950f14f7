"""Means and covariances against loops over rows, and what is refused before anything is summed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from aml_edge.errors import UsageError
from aml_edge.networks import whitening_statistics
from aml_edge.networks.whitening_statistics import pair_statistics, row_statistics

ROWS = np.random.default_rng(0).normal(size=(11, 4)).astype(np.float32)
QUERIES, POSITIVES = [0, 3, 3, 7, 10], [1, 4, 5, 8, 0]


class CountingProgress:
    """Remembers how many steps were announced, and how many were made."""

    def __init__(self) -> None:
        self.announced = self.made = 0

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[CountingProgress]:
        self.announced += total
        yield self

    def advance(self, steps: int = 1, *, status: str = "") -> None:
        self.made += steps


def outer_mean(vectors: list[Any]) -> Any:
    total = np.zeros((4, 4))
    for vector in vectors:
        for i in range(4):
            for j in range(4):
                total[i, j] += vector[i] * vector[j] / len(vectors)
    return total


@pytest.mark.parametrize("block", [1, 3, 11, 4096])
def test_rows_are_summed_block_by_block(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(whitening_statistics, "BLOCK_ROWS", block)
    exact = ROWS.astype(np.float64)
    found = row_statistics(ROWS)
    mean = [sum(row[i] for row in exact) / 11 for i in range(4)]
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(found.covariance, outer_mean([row - mean for row in exact]), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("block", [1, 2, 5, 4096])
def test_pairs_are_summed_block_by_block(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(whitening_statistics, "BLOCK_ROWS", block)
    exact = ROWS.astype(np.float64)
    found = pair_statistics(ROWS, QUERIES, POSITIVES)
    mean = [sum(exact[query][i] for query in QUERIES) / 5 for i in range(4)]
    differences = [exact[query] - exact[positive] for query, positive in zip(QUERIES, POSITIVES, strict=True)]
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(found.within, outer_mean(differences), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.whole, outer_mean([row - mean for row in exact]), rtol=1e-12, atol=1e-15)
    assert (found.within == found.within.T).all()


def test_small_differences_of_large_numbers_are_not_lost() -> None:
    """Summed in float32 they would be: 4096 and a variance of 1 need more than its 24 bits."""
    rows = np.array([[4095.0], [4097.0]] * 50, np.float32)
    assert row_statistics(rows).covariance.tolist() == [[1.0]]


def test_every_step_that_is_announced_is_made() -> None:
    progress = CountingProgress()
    row_statistics(ROWS, progress=progress)
    assert progress.announced == progress.made == 2 * 11
    pair_statistics(ROWS, QUERIES, POSITIVES, progress=progress)
    assert progress.announced == progress.made == 2 * 11 + 3 * 5 + 11


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.zeros(3), "`rows` is (3,) float64; "),
        (np.zeros((0, 3), np.float32), "`rows` is (0, 3) float32; "),
        (np.zeros((3, 0)), "`rows` is (3, 0) float64; "),
        (np.zeros((3, 2, 1)), "`rows` is (3, 2, 1) float64; "),
        (np.zeros((3, 2), complex), "`rows` is (3, 2) complex128; "),
        (np.full((3, 2), "a"), "`rows` is (3, 2) <U1; "),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(rows: Any, said: str) -> None:
    for learn in (row_statistics, lambda table: pair_statistics(table, [0], [0])):
        with pytest.raises(UsageError) as refusal:
            learn(rows)
        assert str(refusal.value) == said + "a whitening is learned from numbers (N, D), N, D ≥ 1."


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 6, 10])
def test_a_row_that_is_not_finite_is_named(monkeypatch: pytest.MonkeyPatch, value: float, row: int) -> None:
    """Also one that no pair names: it is in the mean of all."""
    monkeypatch.setattr(whitening_statistics, "BLOCK_ROWS", 4)
    broken = ROWS.copy()
    broken[row, 2] = value
    for learn in (row_statistics, lambda table: pair_statistics(table, QUERIES, POSITIVES)):
        with pytest.raises(UsageError) as refusal:
            learn(broken)
        assert str(refusal.value) == (
            f"`rows` has NaN or Inf, first in row {row} of 11; embed that image again, or leave it out."
        )


@pytest.mark.parametrize(
    ("queries", "positives", "said"),
    [
        ([0, 1], [2], "`query_rows` has 2 entries and `positive_rows` 1; they are pairs."),
        ([0, 11], [1, 2], "`query_rows` names row 11, but there are 11, counted from 0."),
        ([0, 1], [-1, 2], "`positive_rows` names row -1, but there are 11, counted from 0."),
        ([0.0, 1.0], [1, 2], "`query_rows` is (2,) float64; it must be one row number a pair."),
        ([[0], [1]], [1, 2], "`query_rows` is (2, 1) int64; it must be one row number a pair."),
        ([0, 1], [True, False], "`positive_rows` is (2,) bool; it must be one row number a pair."),
        (
            [],
            [],
            "there are 0 pairs of images that match; a learned whitening needs them: give a data set with pairs, or "
            "learn one of kind 'pca', which needs none.",
        ),
    ],
)
def test_pairs_that_are_none_are_refused(queries: Any, positives: Any, said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        pair_statistics(ROWS, queries, positives)
    assert str(refusal.value) == said
