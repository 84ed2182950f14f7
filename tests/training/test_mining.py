"""Hard negatives against a loop over ranks, with ties, small pools and clusters of every size."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aml_edge.errors import UsageError
from aml_edge.training import mining
from aml_edge.training.mining import NO_NEGATIVE, hardest_negatives


def slow(similarities: npt.NDArray[np.float32], query_clusters: Any, pool_clusters: Any, count: int) -> list[list[int]]:
    """The published way: down the ranking, one image after the other."""
    found = []
    for row, own in zip(similarities.tolist(), query_clusters.tolist(), strict=True):
        taken: list[int] = []
        seen = {own}
        for image in sorted(range(len(row)), key=lambda image: (-row[image], image)):
            if len(taken) < count and pool_clusters[image] not in seen:
                taken.append(image)
                seen.add(pool_clusters[image])
        found.append(taken + [NO_NEGATIVE] * (count - len(taken)))
    return found


@st.composite
def problems(draw: st.DrawFn) -> tuple[Any, Any, Any, Any, int]:
    """Few whole numbers, so that products are exact and ties common."""
    dimension, queries, pool = draw(st.integers(1, 3)), draw(st.integers(0, 5)), draw(st.integers(0, 12))
    whole = st.integers(-2, 2).map(float)
    names = st.integers(-3, 5)
    return (
        draw(hnp.arrays(np.float32, (queries, dimension), elements=whole)),
        draw(hnp.arrays(np.int64, queries, elements=names)),
        draw(hnp.arrays(np.float32, (pool, dimension), elements=whole)),
        draw(hnp.arrays(np.int64, pool, elements=names)),
        draw(st.integers(0, 6)),
    )


@given(problems())
@settings(deadline=None, max_examples=300)
def test_equals_a_loop_over_ranks(problem: tuple[Any, Any, Any, Any, int]) -> None:
    queries, query_clusters, pool, pool_clusters, count = problem
    expected = slow(queries @ pool.T, query_clusters, pool_clusters, count)
    found = hardest_negatives(queries, query_clusters, pool, pool_clusters, count)
    assert found.shape == (len(queries), count)
    assert found.tolist() == expected


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    queries, pool = (generator.normal(size=(rows, 8)).astype(np.float32) for rows in (37, 200))
    clusters = generator.integers(0, 40, 37), generator.integers(0, 40, 200)
    whole = hardest_negatives(queries, clusters[0], pool, clusters[1], 5)
    monkeypatch.setattr(mining, "BLOCK_SIMILARITIES", 1000)
    blocked = hardest_negatives(queries, clusters[0], pool, clusters[1], 5)
    assert (whole == blocked).mean() > 0.99  # a product of another block may round otherwise and swap a near tie
    assert whole.tolist() == slow(queries @ pool.T, *clusters, 5)


@pytest.mark.parametrize(
    ("queries", "query_clusters", "pool", "message"),
    [
        (np.zeros((2, 3)), np.zeros(3), np.zeros((4, 3)), r"`queries` is \(2, 3\) and its clusters are \(3,\)"),
        (np.zeros((2, 3)), np.zeros(2), np.zeros((4, 2)), r"`queries` is \(2, 3\), `pool` \(4, 2\)"),
        (np.full((2, 3), np.nan), np.zeros(2), np.zeros((4, 3)), "`queries` holds an embedding that is not finite"),
    ],
)
def test_what_cannot_be_ranked_is_refused(queries: Any, query_clusters: Any, pool: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        hardest_negatives(queries.astype(np.float32), query_clusters, pool.astype(np.float32), np.zeros(4, np.int64), 5)
