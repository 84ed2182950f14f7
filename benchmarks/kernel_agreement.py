"""How near the embeddings of a file's fast kernels are to those of its exact ones: numbers, no opinion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aml_edge.benchmarks.kernels import fast_runtime
from aml_edge.benchmarks.row_accuracy import RowAccuracy
from aml_edge.benchmarks.rows import Row


@dataclass(frozen=True)
class KernelAgreement:
    """A row of exact kernels beside the row of the same file in the same runtime's fast ones.

    Args:
        fast: label of that row.
        images: queries that both embedded.
        smallest, median: cosine between the two embeddings of a query; NaN where one is not finite.
    """

    fast: str
    images: int
    smallest: float
    median: float


def compare_kernels(
    rows: Sequence[Row], accuracies: Sequence[RowAccuracy | None]
) -> tuple[KernelAgreement | None, ...]:
    """Returns the agreement of each row of exact kernels; None for the others, and where one side embedded nothing.

    Args:
        rows: of one group.
        accuracies: of the same rows.
    """
    measured = {
        (row.artifact.path, row.runtime): (row.label, accuracy)
        for row, accuracy in zip(rows, accuracies, strict=True)
        if row.artifact is not None and accuracy is not None and accuracy.refusal is None
    }
    agreements: list[KernelAgreement | None] = []
    for row, exact in zip(rows, accuracies, strict=True):
        runtime = fast_runtime(row.runtime)
        fast = None if row.artifact is None or runtime is None else measured.get((row.artifact.path, runtime))
        agreements.append(
            None if fast is None or exact is None or exact.refusal is not None else _agreement(fast[0], fast[1], exact)
        )
    return tuple(agreements)


def _agreement(label: str, fast: RowAccuracy, exact: RowAccuracy) -> KernelAgreement:
    shared = [place for place in exact.places if place in set(fast.places)]
    left, right = (
        side.embeddings[[side.places.index(place) for place in shared]].astype(np.float64) for side in (fast, exact)
    )
    with np.errstate(all="ignore"):
        cosines = (left * right).sum(axis=1) / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1))
    if not len(cosines) or not np.isfinite(cosines).all():
        return KernelAgreement(label, len(cosines), float("nan"), float("nan"))
    return KernelAgreement(label, len(cosines), float(cosines.min()), float(np.median(cosines)))
