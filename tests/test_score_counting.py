"""Counts of similarities, tile by tile, against a slow loop over pairs, with ties within and across tiles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_edge.errors import UsageError
from aml_edge.score_counting import FEW, LOWEST, ScoreCounts

VALUES = [-np.inf, -2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0, np.inf]


def slow_ranks(scores: npt.NDArray[np.floating], rows: npt.NDArray[np.intp]) -> list[int]:
    """For each labelled row, how many others are higher, or equal and before it."""
    return [
        sum(other > scores[row] or (other == scores[row] and place < row) for place, other in enumerate(scores))
        for row in rows
    ]


@st.composite
def cases(draw: st.DrawFn) -> tuple[npt.NDArray[np.float32], list[npt.NDArray[np.intp]], list[int]]:
    """Scores of some queries, mostly low ones, so that few reach a threshold; labelled rows; where tiles begin."""
    queries, database = draw(st.integers(1, 3)), draw(st.integers(1, 120))
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    weights = np.array(draw(st.sampled_from([[1] * 9, [1, 90, 5, 1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0, 0, 0]])))
    scores = generator.choice(VALUES, (queries, database), p=weights / weights.sum()).astype(np.float32)
    sizes = [draw(st.integers(0, min(12, database))) for _ in range(queries)]
    labelled = [generator.permutation(database)[:size].astype(np.intp) for size in sizes]
    return scores, labelled, sorted({0, *draw(st.lists(st.integers(0, database - 1), max_size=4))})


@settings(max_examples=150, deadline=None)
@given(cases(), st.booleans(), st.integers(1, 3))
def test_equals_a_slow_loop_whatever_the_tiles(
    case: tuple[npt.NDArray[np.float32], list[npt.NDArray[np.intp]], list[int]], may_sort: bool, workers: int
) -> None:
    scores, labelled, starts = case
    counts = ScoreCounts(labelled)
    tiles = list(zip(starts, [*starts[1:], scores.shape[1]], strict=True))
    for start, stop in tiles:
        counts.note(start, scores[:, start:stop])
    for start, stop in tiles:
        counts.add(start, scores[:, start:stop].copy(), may_sort=may_sort, workers=workers)
    for row, rows, found in zip(scores, labelled, counts.ranks(), strict=True):
        assert found.tolist() == slow_ranks(row, rows)


@pytest.mark.parametrize("late", [0, 1, LOWEST, LOWEST + 1, 3 * LOWEST])
def test_images_that_are_found_late_are_counted_too(late: int) -> None:
    """Ten labelled images at the top of a thousand and some at its end: both ways of counting, and where they meet."""
    scores = np.random.default_rng(0).permutation(1000).astype(np.float32)[np.newaxis]
    order = np.argsort(-scores[0])
    labelled = np.concatenate([order[:10], order[len(order) - late :]])
    counts = ScoreCounts([labelled])
    counts.note(0, scores)
    counts.add(0, scores)
    (ranks,) = counts.ranks()
    assert ranks.tolist() == [*range(10), *range(1000 - late, 1000)]
    assert 10 * FEW < 1000


def test_a_tile_that_is_computed_again_keeps_the_scores_of_labelled_rows() -> None:
    """Rounded otherwise the second time, row 1 would come behind row 2."""
    counts = ScoreCounts([np.array([1, 2], np.intp)])
    counts.note(0, np.array([[0.0, 0.5, 0.5]], np.float32))
    again = np.array([[0.0, np.nextafter(np.float32(0.5), np.float32(0)), 0.5]], np.float32)
    counts.put_back(0, again)
    assert again.tolist() == [[0.0, 0.5, 0.5]]
    counts.add(0, again)
    assert [ranks.tolist() for ranks in counts.ranks()] == [[0, 1]]


def test_all_labelled_rows_are_known_in_order() -> None:
    counts = ScoreCounts([np.array([7, 3], np.intp), np.array([], np.intp), np.array([5, 3], np.intp)])
    assert counts.labelled_rows.tolist() == [3, 3, 5, 7]
    assert ScoreCounts([]).labelled_rows.tolist() == []


@pytest.mark.parametrize("labelled", [[], [0]])
def test_a_similarity_that_is_nan_is_refused_by_the_query_s_number(labelled: list[int]) -> None:
    scores = np.array([[0.0, 1.0], [0.0, np.nan]], np.float32)
    counts = ScoreCounts([np.array(labelled, np.intp)] * 2, first_query=40)
    counts.note(0, scores)
    for workers in (1, 2):
        with pytest.raises(UsageError, match="`similarities` holds NaN for query 41; "):
            counts.add(0, scores, workers=workers)
