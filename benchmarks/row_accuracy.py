"""What the queries of each row come to: an mAP, or for kernels that are too slow for that a sample of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from aml_edge.benchmarks.retrieval import AsymmetricMap, GroundTruth, answer_queries, open_row
from aml_edge.benchmarks.rows import Group, Row
from aml_edge.embedder import Embedder, Embeddings
from aml_edge.errors import ArtifactError
from aml_edge.image_loading import embed_items
from aml_edge.progress import Progress

SAMPLE = 16
"""Queries of a row whose kernels take about a second an image."""


@dataclass(frozen=True, eq=False)
class RowAccuracy:
    """A row's queries.

    Args:
        places: which of the data set's queries they are.
        embeddings: (Q, D), of those.
        found: their mAP; None for a sample.
        average_precisions: of each, medium, in 0..1; NaN without a positive. Empty where there is no mAP.
        refusal: why nothing was embedded; None where something was.
    """

    places: tuple[int, ...]
    embeddings: Embeddings
    found: AsymmetricMap | None
    average_precisions: tuple[float, ...] = ()
    refusal: str | None = None


def measure_accuracy(
    row: Row, group: Group, truth: GroundTruth | None, progress: Progress, *, refused: bool
) -> RowAccuracy | None:
    """Returns what a row's queries come to; None where there is no ground truth, or nothing here can embed them.

    A row that nobody named, and that was not started before, says why it cannot be opened; the others go on.

    Raises:
        ArtifactError, MissingExtraError: a runtime that was named cannot run the file.
        SpaceMismatchError: the row lives in another space than the index; both are named.
        TeacherIndexError: the index lacks images of the data set.
        ImageBatchError: images cannot be read; all of them are listed.
    """
    try:
        embedder = None if truth is None else open_row(row, group, truth.index, refused=refused)
    except ArtifactError as error:
        if not row.sampled:
            raise
        return RowAccuracy((), np.empty((0, 0), np.float32), None, refusal=str(error))
    if truth is None or embedder is None:
        return None
    with closing(embedder):
        if row.sampled:
            return _sample(embedder, truth, progress, row.label)
        answered = answer_queries(embedder, truth, progress, row.label)
    places = tuple(range(len(answered.embeddings)))
    return RowAccuracy(places, answered.embeddings, answered.found, answered.average_precisions)


def spread_places(count: int, wanted: int) -> tuple[int, ...]:
    """Returns so many of the places 0..count − 1 as far from each other as they can be; all where there are fewer."""
    places: Sequence[int] = np.linspace(0, count - 1, min(count, wanted)).round().astype(int).tolist()
    return tuple(places)


def _sample(embedder: Embedder, truth: GroundTruth, progress: Progress, label: str) -> RowAccuracy:
    items = truth.dataset.query_items
    places = spread_places(len(items), SAMPLE)
    described = f"{len(places)} queries, {label}"
    rows = embed_items(embedder, [items[place] for place in places], progress=progress, description=described)
    return RowAccuracy(places, rows, None)
