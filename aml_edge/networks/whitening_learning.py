"""Whitening learned from embeddings: from matching pairs, or without labels by PCA.

All of it in float64; the layer keeps float32. A row of the projection may be turned round without changing a
similarity; its largest entry is made positive, so that the same rows give the same SHA-256 (on one machine, with one
number of threads: LAPACK's last bits depend on both).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from aml_edge.errors import UsageError
from aml_edge.networks.whitening import Whitening
from aml_edge.networks.whitening_statistics import Matrix, Rows, pair_statistics, row_statistics
from aml_edge.progress import Progress

FIRST_REGULARISATION = 1e-10
"""What is added to a diagonal that must grow; ten times as much until it suffices. As published."""


@dataclass(frozen=True, eq=False)
class LearnedWhitening:
    """A whitening as it was computed.

    Args:
        mean: m, (D,) float64.
        projection: P, (D_out, D) float64, the direction in which rows vary most first.
        regularisation: what was added to the diagonal of the covariance that was inverted.
    """

    mean: Matrix
    projection: Matrix
    regularisation: float = 0.0

    @property
    def layer(self) -> Whitening:
        """The layer, in float32."""
        return Whitening(torch.from_numpy(self.mean), torch.from_numpy(self.projection))


def learn_whitening(
    rows: Rows,
    query_rows: Sequence[int],
    positive_rows: Sequence[int],
    *,
    dimension: int | None = None,
    regularisation: float = 0.0,
    progress: Progress | None = None,
) -> Whitening:
    """Returns the layer of `whitening_of_pairs`, which says what the arguments are."""
    return whitening_of_pairs(
        rows, query_rows, positive_rows, dimension=dimension, regularisation=regularisation, progress=progress
    ).layer


def pca_whitening(rows: Rows, dimension: int | None = None, *, progress: Progress | None = None) -> Whitening:
    """Returns the layer of `whitening_of_rows`, which says what the arguments are."""
    return whitening_of_rows(rows, dimension, progress=progress).layer


def whitening_of_pairs(
    rows: Rows,
    query_rows: Sequence[int],
    positive_rows: Sequence[int],
    *,
    dimension: int | None = None,
    regularisation: float = 0.0,
    progress: Progress | None = None,
) -> LearnedWhitening:
    """Returns the whitening that makes differences of matching pairs white, then turns all rows to their axes.

    m is the mean of the queries. With S the second moment of the differences and C that of all rows about m,
    P S Pᵀ is the identity and P C Pᵀ is diagonal, largest first: S is whitened, and the eigenvectors of what C then
    is turn the result.

    Args:
        rows: (N, D) embeddings.
        query_rows, positive_rows: which rows match, pair by pair.
        dimension: D_out, the first of D; all where None.
        regularisation: added to the diagonal of S. Where S is singular with it (fewer pairs than dimensions, or
            dimensions that never vary), 1e-10 is added, or ten times as much until it is not; the result says what was.
        progress: where the work is announced.

    Raises:
        UsageError: rows, pairs, dimension or regularisation cannot be used, or no two that match differ.

    Source: Radenović, Tolias, Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019, section
    3.4, after Mikolajczyk and Matas, "Improving descriptors for fast tree matching by optimal linear projection",
    ICCV 2007. The regularisation is that of the CNN Image Retrieval project; we judge by eigenvalues whether a matrix
    is singular, where a Cholesky decomposition may succeed on what rounding left.
    """
    if not (math.isfinite(regularisation) and regularisation >= 0):
        raise UsageError(f"`regularisation` is {regularisation}; it must be a number of at least 0.")
    kept = _kept_dimension(rows, dimension)
    statistics = pair_statistics(rows, query_rows, positive_rows, progress=progress)
    values, vectors = _eigen(statistics.within)
    if values[0] <= 0:
        raise UsageError(
            f"none of the {len(query_rows)} pairs differ in their embeddings; a whitening is learned from different "
            "images of the same thing: check the pairs, and whether the network tells images apart."
        )
    added = _sufficient(values, regularisation)
    whiten = (vectors / np.sqrt(np.maximum(values, 0) + added)).T  # (D, D)
    _, axes = _eigen(whiten @ statistics.whole @ whiten.T)
    return LearnedWhitening(statistics.mean, _oriented(axes.T[:kept] @ whiten), added)


def whitening_of_rows(
    rows: Rows, dimension: int | None = None, *, progress: Progress | None = None
) -> LearnedWhitening:
    """Returns the whitening by PCA: m is the mean, the rows of P are the main directions over their deviation.

    Args:
        rows: (N, D) embeddings.
        dimension: D_out, the first of D; all where None.
        progress: where the work is announced.

    Raises:
        UsageError: rows or dimension cannot be used, or rows vary in fewer directions than that.

    Source: Jégou and Chum, "Negative evidences and co-occurrences in image retrieval: the benefit of PCA and
    whitening", ECCV 2012.
    """
    kept = _kept_dimension(rows, dimension)
    statistics = row_statistics(rows, progress=progress)
    values, vectors = _eigen(statistics.covariance)
    rank = int((values > _noise(values)).sum())
    if kept > rank:
        raise UsageError(
            f"`dimension` is {kept}, but the {len(rows)} rows vary in {rank} directions only; "
            + ("they are all the same image." if not rank else f"ask for at most {rank}, or give more images.")
        )
    projection = (vectors[:, :kept] / np.sqrt(values[:kept])).T
    return LearnedWhitening(statistics.mean, _oriented(projection))


def _kept_dimension(rows: Rows, dimension: int | None) -> int:
    given: int = rows.shape[-1] if rows.ndim else 0
    if dimension is not None and not 1 <= dimension <= given:
        raise UsageError(f"`dimension` is {dimension}; embeddings of {given} values are whitened to 1 to {given}.")
    return given if dimension is None else dimension


def _eigen(symmetric: Matrix) -> tuple[Matrix, Matrix]:
    """Returns eigenvalues, largest first, and the eigenvectors in columns."""
    if not np.isfinite(symmetric).all():
        raise UsageError("the covariance of `rows` is not finite; L2-normalise the rows first.")
    values, vectors = np.linalg.eigh(symmetric)
    return values[::-1], vectors[:, ::-1]


def _noise(values: Matrix) -> float:
    """Returns what an eigenvalue that is zero may come out as, by rounding: the usual bound of a numerical rank."""
    return float(np.abs(values).max() * len(values) * np.finfo(np.float64).eps)


def _sufficient(values: Matrix, least: float) -> float:
    added, noise = least, _noise(values)
    while values.min() + added <= noise:
        added = max(10 * added, FIRST_REGULARISATION)
    return added


def _oriented(projection: Matrix) -> Matrix:
    largest = np.take_along_axis(projection, np.abs(projection).argmax(axis=1)[:, None], axis=1)  # (D_out, 1)
    return projection * np.where(largest < 0, -1.0, 1.0)
