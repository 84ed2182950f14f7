"""Evaluation as it is usually written, to be measured beside ours: all similarities, all of them sorted, a loop.

Every row of similarities is sorted by `argsort`, what is labelled is looked up in the ranking, ranks of positives are
shifted by the ignored images before them one by one, and AP is summed in Python. Written here after the description of
the protocol; the same trapezoids as `aml_edge.ranking`, whose tests compare both.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aml_edge.embedder import Embeddings
from aml_edge.ranking import QueryGroundTruth


@dataclass(frozen=True)
class UsualEvaluation:
    """What came out, and how long it took.

    Args:
        average_precisions: of easy, medium and hard, one a query; NaN where it has no positive.
        product_s, sort_s, loop_s: of the similarities, of sorting, of everything after that.
    """

    average_precisions: tuple[tuple[float, ...], ...]
    product_s: float
    sort_s: float
    loop_s: float


def evaluate_usually(
    queries: Embeddings, database: Embeddings, ground_truth: Sequence[QueryGroundTruth]
) -> UsualEvaluation:
    """Returns the AP of each query in the three settings.

    Args:
        queries: (N, D).
        database: (M, D), in memory.
        ground_truth: N, in rows of the database.
    """
    began = time.perf_counter()
    similarities = queries @ database.T  # (N, M)
    multiplied = time.perf_counter()
    ranking = np.argsort(-similarities, axis=1)  # (N, M)
    sorted_at = time.perf_counter()
    easy = [_average_precision(row, one.easy, (*one.hard, *one.junk)) for row, one in _pairs(ranking, ground_truth)]
    medium = [_average_precision(row, (*one.easy, *one.hard), one.junk) for row, one in _pairs(ranking, ground_truth)]
    hard = [_average_precision(row, one.hard, (*one.easy, *one.junk)) for row, one in _pairs(ranking, ground_truth)]
    return UsualEvaluation(
        average_precisions=(tuple(easy), tuple(medium), tuple(hard)),
        product_s=multiplied - began,
        sort_s=sorted_at - multiplied,
        loop_s=time.perf_counter() - sorted_at,
    )


def _pairs(
    ranking: npt.NDArray[np.intp], ground_truth: Sequence[QueryGroundTruth]
) -> Sequence[tuple[npt.NDArray[np.intp], QueryGroundTruth]]:
    return list(zip(ranking, ground_truth, strict=True))


def _average_precision(ranking: npt.NDArray[np.intp], positives: Sequence[int], ignored: Sequence[int]) -> float:
    """Returns trapezoidal AP of one query, whose (M,) ranking names rows, best first."""
    if not positives:
        return float("nan")
    found = np.flatnonzero(np.isin(ranking, positives)).tolist()
    removed = np.flatnonzero(np.isin(ranking, ignored)).tolist()
    area, before = 0.0, 0
    for hits, rank in enumerate(found):
        while before < len(removed) and removed[before] < rank:
            before += 1
        place = rank - before
        left = 1.0 if place == 0 else hits / place
        area += (left + (hits + 1) / (place + 1)) / 2 / len(positives)
    return area
