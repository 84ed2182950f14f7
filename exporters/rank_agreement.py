"""Whether student and artifact rank a teacher's index alike: top-k overlap and Spearman's rank correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aml_edge.embedder import Embeddings
from aml_edge.exporters.agreement import Vector, evenly_spaced
from aml_edge.index.row_views import IndexRows
from aml_edge.search import top_k

CUT_OFFS = (10, 100)
MOST_CORRELATED_ROWS = 10_000
"""More rows of a large index would make sorting long and the third digit of a correlation no surer."""


@dataclass(frozen=True)
class TopKOverlap:
    """How many of the student's first k the artifact finds among its own first k, as a share, over queries.

    Args:
        k: the cut-off.
        mean, smallest: over queries.
        chance: what two rankings without relation would share, k / M.
    """

    k: int
    mean: float
    smallest: float
    chance: float


@dataclass(frozen=True)
class RankAgreement:
    """How alike two embedders rank a teacher's index of M images.

    Args:
        queries: how many images were searched with.
        database_images: M.
        overlaps: one for each cut-off below M.
        correlated_rows: how many rows of the index, evenly taken, the correlation is over; M unless that is large.
        mean_correlation, smallest_correlation: Spearman's, of the similarities to those rows, over queries.
    """

    queries: int
    database_images: int
    overlaps: tuple[TopKOverlap, ...]
    correlated_rows: int
    mean_correlation: float
    smallest_correlation: float


def measure_rank_agreement(
    student: Embeddings, artifact: Embeddings, database: IndexRows | Embeddings
) -> RankAgreement:
    """Returns how alike the (Q, D) embeddings of the same images rank a database of (M, D).

    A row of the artifact that is not finite finds nothing: its overlap is zero, and the correlations become NaN.
    """
    size = len(database)
    cut_offs = [k for k in CUT_OFFS if k < size]
    sampled = evenly_spaced(size, MOST_CORRELATED_ROWS)
    correlations = _correlations(student, artifact, np.asarray(database[sampled], np.float64))
    return RankAgreement(
        queries=len(student),
        database_images=size,
        overlaps=_overlaps(student, artifact, database, cut_offs) if cut_offs else (),
        correlated_rows=len(sampled),
        mean_correlation=float(correlations.mean()),
        smallest_correlation=float(correlations.min()),
    )


def spearman(left: npt.ArrayLike, right: npt.ArrayLike) -> float:
    """Returns Spearman's rank correlation of two (M,) vectors: Pearson's of their ranks, ties sharing their mean rank.

    NaN where a value is not finite or all values of one side are equal, since there is no ranking then.

    Source: C. Spearman, The proof and measurement of association between two things, 1904.
    """
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return float("nan")
    left_ranks, right_ranks = (_centred_mean_ranks(values) for values in (left, right))
    lengths = float(np.linalg.norm(left_ranks) * np.linalg.norm(right_ranks))
    return float(left_ranks @ right_ranks) / lengths if lengths > 0 else float("nan")


def overlap(left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> Vector:
    """Returns (Q,) shares of the rows of (Q, K) that two rankings have in common."""
    shared = [len(np.intersect1d(ours, theirs)) for ours, theirs in zip(left, right, strict=True)]
    shares: Vector = np.array(shared, np.float64) / left.shape[1]
    return shares


def _overlaps(
    student: Embeddings, artifact: Embeddings, database: IndexRows | Embeddings, cut_offs: list[int]
) -> tuple[TopKOverlap, ...]:
    found = np.isfinite(artifact).all(axis=1) & np.isfinite(student).all(axis=1)
    ours = top_k(student[found], database, cut_offs[-1]).rows
    theirs = top_k(artifact[found], database, cut_offs[-1]).rows
    overlaps = []
    for k in cut_offs:
        shares = np.zeros(len(student))
        shares[found] = overlap(ours[:, :k], theirs[:, :k])
        overlaps.append(TopKOverlap(k, float(shares.mean()), float(shares.min()), k / len(database)))
    return tuple(overlaps)


def _correlations(student: Embeddings, artifact: Embeddings, database: npt.NDArray[np.float64]) -> Vector:
    with np.errstate(all="ignore"):
        pairs = ((database @ ours, database @ theirs) for ours, theirs in zip(student, artifact, strict=True))
        return np.array([spearman(ours, theirs) for ours, theirs in pairs])


def _centred_mean_ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2  # of each distinct value, from 1
    ranks: npt.NDArray[np.float64] = mean_ranks[places] - (len(values) + 1) / 2
    return ranks
