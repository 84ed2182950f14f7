"""Hard negatives against a loop over ranks, and the lot of random ones: ties, small pools, clusters of every size."""

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
from aml_edge.training.mining import NO_NEGATIVE, hardest_negatives, random_negatives


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


def clusters_of(*names: int) -> npt.NDArray[np.int64]:
    return np.array(names, np.int64)


@given(problems(), st.integers(0, 2**32))
@settings(deadline=None, max_examples=200)
def test_random_negatives_are_of_as_many_other_clusters_as_there_are(
    problem: tuple[Any, Any, Any, Any, int], seed: int
) -> None:
    _, query_clusters, _, pool_clusters, count = problem
    found = random_negatives(query_clusters, pool_clusters, count, np.random.default_rng(seed))
    assert found.shape == (len(query_clusters), count)
    for own, row in zip(query_clusters.tolist(), found.tolist(), strict=True):
        taken = [image for image in row if image != NO_NEGATIVE]
        others = {cluster for cluster in pool_clusters.tolist() if cluster != own}
        assert len(taken) == min(count, len(others))
        assert row[: len(taken)] == taken  # what is missing stands last
        drawn = [int(pool_clusters[image]) for image in taken]
        assert len(set(drawn)) == len(drawn)
        assert set(drawn) <= others


CRITICAL = {2: 13.816, 4: 18.467, 11: 31.264, 15: 37.697}
"""Of chi-square at 0.1 %, by degrees of freedom (NIST/SEMATECH e-Handbook, table 1.3.6.7.4)."""


def chi_square(counts: list[int]) -> float:
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts)


def test_clusters_are_drawn_alike_whatever_their_sizes() -> None:
    pool = clusters_of(*[1] * 1, *[2] * 5, *[3] * 40, *[4] * 9)
    found = random_negatives(np.full(30_000, 4), pool, 1, np.random.default_rng(0))
    counts = np.bincount(pool[found[:, 0]], minlength=5).tolist()
    assert counts[0] == counts[4] == 0
    assert chi_square(counts[1:4]) < CRITICAL[2]


def test_images_of_a_cluster_are_drawn_alike() -> None:
    pool = clusters_of(3, 1, 3, 2, 3, 3, 2, 3)
    found = random_negatives(np.full(30_000, 1), pool, 1, np.random.default_rng(0))
    counts = np.bincount(found[:, 0], minlength=8)
    assert chi_square(counts[pool == 3].tolist()) < CRITICAL[4]
    assert counts[1] == 0


def test_all_pairs_of_clusters_are_drawn_alike() -> None:
    """In either order: twelve of four clusters beside the query's own."""
    pool = clusters_of(0, 1, 2, 3, 4)
    found = random_negatives(np.full(30_000, 4), pool, 2, np.random.default_rng(0))
    counts = np.bincount(found[:, 0] * 4 + found[:, 1], minlength=16)
    drawn = [count for pair, count in enumerate(counts.tolist()) if pair // 4 != pair % 4]
    assert sum(drawn) == 30_000
    assert chi_square(drawn) < CRITICAL[11]


def test_queries_are_drawn_for_one_by_one() -> None:
    """Two queries meet all pairs of clusters alike, so neither follows the other."""
    pool = np.repeat(np.arange(4), 3)
    found = random_negatives(np.full(2 * 30_000, 9), pool, 1, np.random.default_rng(0)).reshape(-1, 2)
    counts = np.bincount(pool[found[:, 0]] * 4 + pool[found[:, 1]], minlength=16)
    assert chi_square(counts.tolist()) < CRITICAL[15]


def test_the_same_lot_gives_the_same_negatives_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    queries, pool = generator.integers(0, 40, 37), generator.integers(0, 40, 200)
    one, same, other = (random_negatives(queries, pool, 5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.tolist() == same.tolist() != other.tolist()
    monkeypatch.setattr(mining, "BLOCK_SIMILARITIES", 100)
    for row, own in zip(random_negatives(queries, pool, 5, np.random.default_rng(1)), queries, strict=True):
        assert len({own, *pool[row]}) == 6
