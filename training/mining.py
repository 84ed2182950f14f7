"""Negatives of a query: the most similar images of a pool, or any; at most one a cluster, none of the query's own.

Source: Radenović, Tolias, Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019, section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from aml_edge.embedder import Embeddings
from aml_edge.errors import UsageError

Clusters = npt.NDArray[np.int64]
PoolRows = npt.NDArray[np.int64]

NO_NEGATIVE = -1
"""Stands where a query has fewer clusters to be told from than negatives were asked for."""
BLOCK_SIMILARITIES = 2**24
"""How many similarities are held at once: 64 MB."""
_LAST = np.iinfo(np.int64).max


def hardest_negatives(
    queries: Embeddings, query_clusters: Clusters, pool: Embeddings, pool_clusters: Clusters, count: int
) -> PoolRows:
    """Returns (Q, count) rows of the pool, the most similar first, `NO_NEGATIVE` where there are no more clusters.

    Of a cluster only its most similar image counts; equal similarities are ranked in pool order. So the negatives are
    the `count` best clusters by their maximum, and no ranking of the whole pool is made.

    Args:
        queries: (Q, D), embedded by whatever the training compares.
        query_clusters: (Q,) of each query; its own cluster gives no negative.
        pool: (M, D).
        pool_clusters: (M,).
        count: negatives of each query.

    Raises:
        UsageError: shapes do not belong together, or an embedding is not finite.
    """
    _require(queries, query_clusters, "queries")
    _require(pool, pool_clusters, "pool")
    if queries.shape[1] != pool.shape[1] or count < 0:
        raise UsageError(
            f"`queries` is {queries.shape}, `pool` {pool.shape} and `count` {count}; dimensions must be equal and no "
            "count below 0."
        )
    found = np.full((len(queries), count), NO_NEGATIVE, np.int64)
    if not (len(pool) and count):
        return found
    order = np.argsort(pool_clusters, kind="stable")  # images of a cluster side by side, in pool order
    clusters, starts = np.unique(pool_clusters[order], return_index=True)
    grouped = pool[order].T
    kept = min(count, len(clusters))
    for rows in _blocks(len(queries), len(pool)):
        keys = _cluster_keys(queries[rows] @ grouped, order, starts)  # (b, C)
        keys[query_clusters[rows, None] == clusters] = _LAST
        best = np.sort(np.partition(keys, kept - 1, axis=1)[:, :kept], axis=1)
        found[rows, :kept] = np.where(best == _LAST, NO_NEGATIVE, best & 0xFFFFFFFF)
    return found


def random_negatives(
    query_clusters: Clusters, pool_clusters: Clusters, count: int, generator: np.random.Generator
) -> PoolRows:
    """Returns (Q, count) rows of the pool by lot, each of another cluster, none of the query's own.

    A cluster is drawn first, each as likely as any other, then one of its images. `NO_NEGATIVE` stands last where
    there are no more clusters.

    Args:
        query_clusters: (Q,).
        pool_clusters: (M,).
        count: negatives of each query.
        generator: the lot.
    """
    found = np.full((len(query_clusters), count), NO_NEGATIVE, np.int64)
    if not (len(pool_clusters) and count):
        return found
    order = np.argsort(pool_clusters, kind="stable")
    clusters, starts, sizes = np.unique(pool_clusters[order], return_index=True, return_counts=True)
    kept = min(count, len(clusters))
    for rows in _blocks(len(query_clusters), len(clusters)):
        lots = generator.random((rows.stop - rows.start, len(clusters)))
        lots[query_clusters[rows, None] == clusters] = 2.0  # after every other
        drawn = np.argsort(lots, axis=1)[:, :kept]  # (b, kept) places of clusters
        within = (generator.random(drawn.shape) * sizes[drawn]).astype(np.int64)
        own = np.take_along_axis(lots, drawn, axis=1) == 2.0
        found[rows, :kept] = np.where(own, NO_NEGATIVE, order[starts[drawn] + within])
    return found


def _cluster_keys(similarities: npt.NDArray[np.float32], order: PoolRows, starts: PoolRows) -> PoolRows:
    """Returns (b, C) integers that rise as the best image of a cluster gets worse; their lower half is its pool row.

    Args:
        similarities: (b, M), columns grouped by cluster.
        order: (M,) pool row of each column, rising within a cluster.
        starts: (C,) first column of each cluster.
    """
    best = np.maximum.reduceat(similarities, starts, axis=1)
    sizes = np.diff(starts, append=similarities.shape[1])
    is_best = similarities == np.repeat(best, sizes, axis=1)
    rows = np.minimum.reduceat(np.where(is_best, order, _LAST), starts, axis=1)
    return (_falling(best).astype(np.int64) << 32) | rows


def _falling(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """Returns integers in the opposite order of finite floats, equal where these are equal.

    The bits of IEEE 754 numbers are ordered as sign and magnitude; below 0 the magnitude is turned round.
    """
    bits = (values + np.float32(0)).view(np.int32)  # −0 becomes 0
    return ~(bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF)))


def _blocks(queries: int, pool: int) -> Iterator[slice]:
    size = max(1, BLOCK_SIMILARITIES // pool)
    for start in range(0, queries, size):
        yield slice(start, min(start + size, queries))


def _require(embeddings: Embeddings, clusters: Clusters, name: str) -> None:
    if embeddings.ndim != 2 or clusters.shape != (len(embeddings),):
        raise UsageError(
            f"`{name}` is {embeddings.shape} and its clusters are {clusters.shape}; they must be (N, D) and (N,)."
        )
    if not np.isfinite(embeddings).all():
        raise UsageError(f"`{name}` holds an embedding that is not finite; nothing can be ranked by it.")
