"""Top-k overlap and Spearman's correlation against closed forms, slow loops and scipy where it is installed."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from aml_edge.exporters import rank_agreement
from aml_edge.exporters.rank_agreement import measure_rank_agreement, overlap, spearman

Rows = npt.NDArray[np.float32]
NAN = float("nan")


def unit_rows(count: int, dimension: int = 12, seed: int = 0) -> Rows:
    rows = np.random.default_rng(seed).normal(size=(count, dimension))
    normalised: Rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return normalised


def test_spearman_without_ties_is_the_closed_form() -> None:
    ours, theirs = np.array([1, 2, 3, 4, 5, 6]), np.array([2, 1, 4, 3, 6, 5])
    # 1 − 6 Σd² / (n (n² − 1)), six differences of one
    assert spearman(ours, theirs) == pytest.approx(1 - 6 * 6 / (6 * 35))


def test_spearman_is_of_ranks_not_of_values() -> None:
    values = np.array([0.1, 0.5, 0.2, 0.9])
    assert spearman(values, np.exp(20 * values)) == pytest.approx(1)
    assert spearman(values, -(values**3)) == pytest.approx(-1)


def test_tied_values_share_their_mean_rank() -> None:
    # ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5, variances 4.5 and 5
    assert spearman([10, 20, 20, 30], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_spearman_equals_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(3)
    for size in (3, 10, 500):
        ours = generator.integers(0, 1 + size // 2, size)
        theirs = ours + generator.integers(-2, 3, size)
        if len(set(ours)) > 1 and len(set(theirs)) > 1:
            assert spearman(ours, theirs) == pytest.approx(stats.spearmanr(ours, theirs).statistic)


@pytest.mark.parametrize("broken", [[1.0, 1.0, 1.0], [1.0, NAN, 3.0], [1.0, math.inf, 3.0]])
def test_no_ranking_has_no_correlation(broken: list[float]) -> None:
    assert math.isnan(spearman(broken, [1.0, 2.0, 3.0]))


def test_overlap_ignores_order_within_the_first_k() -> None:
    ours, theirs = np.array([[1, 2, 3, 4], [5, 6, 7, 8]]), np.array([[4, 3, 2, 1], [5, 6, 0, 9]])
    assert overlap(ours, theirs).tolist() == [1.0, 0.5]


def test_measures_by_slow_loops() -> None:
    database, student = unit_rows(150, seed=1), unit_rows(7, seed=2)
    artifact = student + 0.1 * unit_rows(7, seed=3)
    measured = measure_rank_agreement(student, artifact, database)
    for found in measured.overlaps:
        shares = []
        for ours, theirs in zip(student @ database.T, artifact @ database.T, strict=True):
            first, second = (
                {row for row in range(150) if sum(other > values[row] for other in values) < found.k}
                for values in (ours, theirs)
            )
            shares.append(len(first & second) / found.k)
        assert found.mean == pytest.approx(np.mean(shares))
        assert found.smallest == pytest.approx(min(shares))
        assert found.chance == pytest.approx(found.k / 150)
    assert [found.k for found in measured.overlaps] == [10, 100]
    correlations = [
        spearman(database @ ours, database @ theirs) for ours, theirs in zip(student, artifact, strict=True)
    ]
    assert measured.mean_correlation == pytest.approx(np.mean(correlations), abs=1e-4)
    assert measured.smallest_correlation == pytest.approx(min(correlations), abs=1e-4)
    assert (measured.queries, measured.database_images, measured.correlated_rows) == (7, 150, 150)


def test_equal_embeddings_rank_alike() -> None:
    student, database = unit_rows(5), unit_rows(120, seed=1)
    measured = measure_rank_agreement(student, student, database)
    assert [(found.mean, found.smallest) for found in measured.overlaps] == [(1.0, 1.0), (1.0, 1.0)]
    assert measured.smallest_correlation == pytest.approx(1)


def test_a_cut_off_that_takes_the_whole_index_is_left_out() -> None:
    assert [found.k for found in measure_rank_agreement(unit_rows(3), unit_rows(3), unit_rows(100)).overlaps] == [10]
    assert measure_rank_agreement(unit_rows(3), unit_rows(3), unit_rows(10)).overlaps == ()


def test_a_row_that_is_not_finite_finds_nothing() -> None:
    student, database = unit_rows(4), unit_rows(120, seed=1)
    artifact = student.copy()
    artifact[2, 0] = NAN
    measured = measure_rank_agreement(student, artifact, database)
    assert [(found.mean, found.smallest) for found in measured.overlaps] == [(0.75, 0.0), (0.75, 0.0)]
    assert math.isnan(measured.mean_correlation)
    assert math.isnan(measured.smallest_correlation)


def test_all_rows_broken_find_nothing() -> None:
    broken = np.full((3, 12), NAN, np.float32)
    measured = measure_rank_agreement(unit_rows(3), broken, unit_rows(50))
    assert [(found.k, found.mean) for found in measured.overlaps] == [(10, 0.0)]


def test_a_large_index_is_sampled_for_the_correlation_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_agreement, "MOST_CORRELATED_ROWS", 40)
    student, database = unit_rows(4), unit_rows(200, seed=1)
    artifact = student + 0.3 * unit_rows(4, seed=2)
    measured = measure_rank_agreement(student, artifact, database)
    every_fifth = database[::5].astype(np.float64)
    correlations = [
        spearman(every_fifth @ ours, every_fifth @ theirs) for ours, theirs in zip(student, artifact, strict=True)
    ]
    assert measured.correlated_rows == 40
    assert measured.database_images == 200
    assert measured.mean_correlation == pytest.approx(np.mean(correlations))
