"""What a whitening is learned from: mean and covariances of rows, summed block by block in float64.

Rows may be memory-mapped and larger than memory; a block at a time is copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aml_edge.errors import UsageError
from aml_edge.progress import Progress, ProgressTask, SilentProgress

BLOCK_ROWS = 4096
Rows = npt.NDArray[Any]
"""(N, D) numbers, rows are images."""
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RowStatistics:
    """What rows say without labels.

    Args:
        mean: (D,) of the rows.
        covariance: (D, D), divided by N.
    """

    mean: Matrix
    covariance: Matrix


@dataclass(frozen=True, eq=False)
class PairStatistics:
    """What rows and matching pairs of them say.

    Args:
        mean: (D,) of the queries, one a pair.
        within: (D, D) second moment of the difference of two that match, about zero.
        whole: (D, D) second moment of all rows about `mean`.
    """

    mean: Matrix
    within: Matrix
    whole: Matrix


def row_statistics(rows: Rows, *, progress: Progress | None = None) -> RowStatistics:
    """Returns mean and covariance of rows; raises `UsageError` where they are none, or not finite."""
    _require_rows(rows)
    everything = np.arange(len(rows))
    with (progress or SilentProgress()).task("covariance", 2 * len(rows)) as task, _overflowing_to_infinity():
        mean = _mean(rows, everything, task)
        covariance = _moment((block - mean for block in _blocks(rows, everything, task)), rows.shape[1], len(rows))
    return RowStatistics(mean, covariance)


def pair_statistics(
    rows: Rows, query_rows: Sequence[int], positive_rows: Sequence[int], *, progress: Progress | None = None
) -> PairStatistics:
    """Returns what a learned whitening needs to know of rows.

    Args:
        rows: (N, D).
        query_rows, positive_rows: which of them match, pair by pair; a row may be in many pairs.
        progress: where the work is announced.

    Raises:
        UsageError: there are no rows or no pairs, a value is not finite, or a pair names a row that is not there.
    """
    _require_rows(rows)
    queries, positives = (
        _places(rows, places, name) for name, places in (("query_rows", query_rows), ("positive_rows", positive_rows))
    )
    if len(queries) != len(positives):
        raise UsageError(
            f"`query_rows` has {len(queries)} entries and `positive_rows` {len(positives)}; they are pairs."
        )
    if not len(queries):
        raise UsageError(
            "there are 0 pairs of images that match; a learned whitening needs them: give a data set with pairs, or "
            "learn one of kind 'pca', which needs none."
        )
    dimension, everything = rows.shape[1], np.arange(len(rows))
    steps = 3 * len(queries) + len(rows)
    with (progress or SilentProgress()).task("covariances", steps) as task, _overflowing_to_infinity():
        mean = _mean(rows, queries, task)
        sides = (_blocks(rows, places, task) for places in (queries, positives))
        within = _moment((left - right for left, right in zip(*sides, strict=True)), dimension, len(queries))
        whole = _moment((block - mean for block in _blocks(rows, everything, task)), dimension, len(rows))
    return PairStatistics(mean, within, whole)


def _overflowing_to_infinity() -> np.errstate:
    """Returns a context without NumPy's warnings; who inverts a covariance looks whether it is finite."""
    return np.errstate(over="ignore", invalid="ignore")


def _require_rows(rows: Rows) -> None:
    if rows.ndim != 2 or not rows.size or rows.dtype.kind not in "fiu":
        raise UsageError(f"`rows` is {rows.shape} {rows.dtype}; a whitening is learned from numbers (N, D), N, D ≥ 1.")
    for start in range(0, len(rows), BLOCK_ROWS):
        broken = np.flatnonzero(~np.isfinite(rows[start : start + BLOCK_ROWS]).all(axis=1))
        if len(broken):
            raise UsageError(
                f"`rows` has NaN or Inf, first in row {start + int(broken[0])} of {len(rows)}; embed that image again, "
                "or leave it out."
            )


def _places(rows: Rows, places: Sequence[int], name: str) -> npt.NDArray[np.intp]:
    found = np.asarray(places) if len(places) else np.empty(0, np.intp)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise UsageError(f"`{name}` is {found.shape} {found.dtype}; it must be one row number a pair.")
    outside = found[(found < 0) | (found >= len(rows))]
    if len(outside):
        raise UsageError(f"`{name}` names row {outside[0]}, but there are {len(rows)}, counted from 0.")
    return found.astype(np.intp)


def _blocks(rows: Rows, places: npt.NDArray[np.intp], task: ProgressTask) -> Iterator[Matrix]:
    for start in range(0, len(places), BLOCK_ROWS):
        block = rows[places[start : start + BLOCK_ROWS]].astype(np.float64)
        yield block
        task.advance(len(block))


def _mean(rows: Rows, places: npt.NDArray[np.intp], task: ProgressTask) -> Matrix:
    total = np.zeros(rows.shape[1])
    for block in _blocks(rows, places, task):
        total += block.sum(axis=0)
    mean: Matrix = total / len(places)
    return mean


def _moment(blocks: Iterator[Matrix], dimension: int, count: int) -> Matrix:
    """Returns (D, D), the mean of each row's product with itself, exactly symmetric."""
    total = np.zeros((dimension, dimension))
    for block in blocks:
        total += block.T @ block
    moment: Matrix = (total + total.T) / (2 * count)
    return moment
