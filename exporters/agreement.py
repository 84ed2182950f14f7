"""How far two sets of embeddings of the same images agree: numbers only, no opinion.

Everything is computed in double precision, and nothing is cleaned: where a row holds NaN or an infinity, what depends
on it is NaN, which no tolerance accepts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aml_edge.embedder import Embeddings

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

BLOCK_ROWS = 512
"""Rows of a pairwise matrix that are held at once; also how many rows a spread is taken from."""


@dataclass(frozen=True)
class Spread:
    """The low end and the middle of a set of values; NaN where one of them is."""

    smallest: float
    first_percentile: float
    median: float


@dataclass(frozen=True)
class PairError:
    """By how much the similarity of two images changes: absolute, over all pairs of different images."""

    largest: float
    mean: float


@dataclass(frozen=True)
class EmbeddingAgreement:
    """How near an artifact's embeddings are to the student's, of the same pixels.

    Args:
        cosine, centred_cosine: over images; the second with the student's mean embedding subtracted from both.
        pair_error: of the similarities between images.
        non_finite: images whose embedding holds NaN or an infinity.
        largest_norm_error: the largest | ‖embedding‖ − 1 |.
    """

    cosine: Spread
    centred_cosine: Spread
    pair_error: PairError
    non_finite: int
    largest_norm_error: float


def agreement_of(student: Embeddings, artifact: Embeddings) -> EmbeddingAgreement:
    """Returns how near the (N, D) embeddings of the same images are."""
    return EmbeddingAgreement(
        cosine=spread_of(cosines(student, artifact)),
        centred_cosine=spread_of(centred_cosines(student, artifact)),
        pair_error=pair_error(student, artifact),
        non_finite=non_finite_rows(artifact),
        largest_norm_error=largest_norm_error(artifact),
    )


def spread_of(values: Vector) -> Spread:
    """Returns smallest, first percentile (linear between neighbours) and median of some values."""
    if not np.isfinite(values).all():
        return Spread(np.nan, np.nan, np.nan)
    return Spread(float(values.min()), float(np.percentile(values, 1)), float(np.median(values)))


def cosines(left: npt.ArrayLike, right: npt.ArrayLike) -> Vector:
    """Returns (N,) cosines of each row of (N, D) with its counterpart; NaN where a row is zero or not finite."""
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        products: Vector = (left * right).sum(axis=1) / lengths
    return products


def centred_cosines(student: Embeddings, artifact: Embeddings) -> Vector:
    """Returns (N,) cosines after the student's mean embedding is subtracted from both sides.

    Embeddings after ReLU and GeM share a large common part, which makes any two of them look alike.
    """
    mean = student.mean(axis=0, dtype=np.float64)
    with np.errstate(all="ignore"):
        return cosines(student - mean, artifact - mean)


def pair_error(student: Embeddings, artifact: Embeddings) -> PairError:
    """Returns how much the similarities within the student's images change when the artifact embeds them."""
    count = len(student)
    if count < 2 or not (np.isfinite(student).all() and np.isfinite(artifact).all()):
        return PairError(np.nan, np.nan)
    left, right = student.astype(np.float64), artifact.astype(np.float64)
    largest, total = 0.0, 0.0
    for start in range(0, count, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        errors = np.abs(left[block] @ left.T - right[block] @ right.T)  # (block, N)
        errors[np.arange(len(errors)), np.arange(start, start + len(errors))] = 0.0
        largest, total = max(largest, float(errors.max())), total + float(errors.sum())
    return PairError(largest, total / (count * (count - 1)))


def median_pair_distance(rows: Embeddings) -> float:
    """Returns the median of 1 − cosine over all pairs of rows, of at most 512 rows evenly taken."""
    rows = rows[evenly_spaced(len(rows), BLOCK_ROWS)].astype(np.float64)
    if len(rows) < 2 or not np.isfinite(rows).all():
        return float("nan")
    lengths = np.linalg.norm(rows, axis=1)
    with np.errstate(all="ignore"):
        distances = 1.0 - (rows @ rows.T) / np.outer(lengths, lengths)
    return float(np.median(distances[np.triu_indices(len(rows), k=1)]))


def own_teacher_first(rows: Embeddings, teacher_rows: Embeddings) -> float:
    """Returns how often an image lies nearer to its own teacher embedding than to another image's.

    Over all ordered pairs of images, an equal distance counting half: 1 where every image knows its own, 0.5 by
    chance, whatever the number of images. NaN where there are fewer than two images or a value is not finite.
    """
    if len(rows) < 2 or not (np.isfinite(rows).all() and np.isfinite(teacher_rows).all()):
        return float("nan")
    similarities = rows.astype(np.float64) @ np.asarray(teacher_rows, np.float64).T  # (N, N)
    own = similarities.diagonal()[:, np.newaxis]
    nearer = (own > similarities).sum() + 0.5 * ((own == similarities).sum() - len(rows))
    return float(nearer / (len(rows) * (len(rows) - 1)))


def largest_norm_error(rows: Embeddings) -> float:
    """Returns the largest |‖row‖ − 1|; NaN where a value is not finite."""
    with np.errstate(all="ignore"):
        norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    return float(np.abs(norms - 1).max()) if np.isfinite(norms).all() else float("nan")


def non_finite_rows(rows: Embeddings) -> int:
    """Returns how many rows hold a NaN or an infinity."""
    return int((~np.isfinite(rows)).any(axis=1).sum())


def evenly_spaced(count: int, at_most: int) -> npt.NDArray[np.intp]:
    """Returns at most `at_most` of the numbers below `count`, evenly spaced, in order, the first one included."""
    return np.unique(np.arange(min(count, at_most)) * count // max(1, min(count, at_most)))
