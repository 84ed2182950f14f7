"""Exact top-k search of a database of embeddings, in blocks, so that a memory-mapped one of any size will do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from aml_edge.embedder import Embeddings
from aml_edge.errors import UsageError

BLOCK_VALUES = 1 << 23
"""Values of the database, or similarities, that are held at once: 32 MiB of each in float32."""


class Rows(Protocol):
    """A database of (M, D) embeddings, read in blocks: an array, memory-mapped or not, or a checked view of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(M, D)."""
        ...

    def __len__(self) -> int:
        """Returns M."""
        ...

    def __getitem__(self, rows: slice, /) -> npt.NDArray[np.floating]:
        """Returns (n, D)."""
        ...


@dataclass(frozen=True)
class TopK:
    """The K nearest database rows of each query, nearest first; K is k, or the whole database where that is smaller.

    Args:
        rows: (Q, K).
        similarities: (Q, K) float32, not increasing along a row.
    """

    rows: npt.NDArray[np.int64]
    similarities: npt.NDArray[np.float32]


def top_k(query_embeddings: Embeddings, database: Rows, k: int) -> TopK:
    """Returns the k database rows of highest inner product with each query; the cosine, since rows are L2-normalised.

    Similarities are computed in float32, whatever the database is stored in. Equal ones come in database order.

    Args:
        query_embeddings: (Q, D).
        database: (M, D) float32 or float16; read once, in order.
        k: at least 1.

    Raises:
        UsageError: k or a shape cannot be, or a row of either side is not finite.
    """
    queries = np.asarray(query_embeddings, np.float32)
    _require_search(queries, database, k)
    best = TopK(np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32))
    if not len(queries):
        width = min(k, len(database))
        return TopK(best.rows.reshape(0, width), best.similarities.reshape(0, width))
    block_rows = max(1, BLOCK_VALUES // max(queries.shape))
    for start in range(0, len(database), block_rows):
        block = np.asarray(database[start : start + block_rows], np.float32)
        with np.errstate(all="ignore"):  # what is not finite is refused below
            similarities = queries @ block.T  # (Q, block)
        if not np.isfinite(similarities).all():
            _raise_not_finite(queries, block, start)
        best = _merge(best, similarities, start, k)
    return best


def _merge(best: TopK, similarities: npt.NDArray[np.float32], start: int, k: int) -> TopK:
    """Returns the k best of what was found and of a block; what was found comes first, since its rows come before."""
    rows = np.arange(start, start + similarities.shape[1], dtype=np.int64)
    candidates = np.concatenate([best.similarities, similarities], axis=1)
    width = min(k, candidates.shape[1])
    thresholds = np.partition(candidates, -width, axis=1)[:, -width]
    merged = TopK(np.empty((len(candidates), width), np.int64), np.empty((len(candidates), width), np.float32))
    for query, (values, threshold) in enumerate(zip(candidates, thresholds, strict=True)):
        places = np.flatnonzero(values >= threshold)
        places = places[np.argsort(-values[places], kind="stable")[:width]]
        merged.rows[query] = np.concatenate([best.rows[query], rows])[places]
        merged.similarities[query] = values[places]
    return merged


def _require_search(queries: Embeddings, database: Rows, k: int) -> None:
    if k < 1:
        raise UsageError(f"`k` is {k}; a search finds at least one image.")
    if queries.ndim != 2 or len(database.shape) != 2 or queries.shape[1] != database.shape[1]:
        raise UsageError(
            f"`query_embeddings` has shape {queries.shape} and `database` {database.shape}; "
            "both must be (rows, D) with the same D."
        )
    if not len(database):
        raise UsageError("`database` is empty; a search needs at least one image.")


def _raise_not_finite(queries: Embeddings, block: Embeddings, start: int) -> None:
    for name, rows, first in (("query_embeddings", queries, 0), ("database", block, start)):
        broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(broken):
            raise UsageError(f"row {first + broken[0]} of `{name}` is not finite; embed that image again.")
    raise UsageError("a similarity overflows; search with rows that are L2-normalised.")
