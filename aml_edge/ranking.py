"""The revisited protocol: AP, mAP and mP@k in the easy, medium and hard setting.

Positives are the easy images, the easy and hard ones, or the hard ones; what else is labelled is ignored: it is taken
out of the ranking before anything is counted. A query without a positive has no AP and counts in no mean.
AP is the area under the precision-recall curve by trapezoids, where precision before the first image counts as one.
mP@k takes precision at k, or at the place of the last positive where that comes before k.
Equal similarities are ranked in database order.

Source: Radenović, Iscen, Tolias, Avrithis, Chum, "Revisiting Oxford and Paris", CVPR 2018, section 3.3 and its
published evaluation, whose mP@k is this one; Philbin et al., "Object retrieval with large vocabularies", CVPR 2007,
for the area.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from aml_edge.embedder import Embeddings
from aml_edge.errors import UsageError
from aml_edge.ground_truth import QueryGroundTruth as QueryGroundTruth
from aml_edge.labelled_ranks import MEMORY_BYTES, LabelledRanks, labelled_ranks, labelled_ranks_of
from aml_edge.progress import Progress
from aml_edge.search import Rows as Database

Rows = npt.NDArray[np.intp]


class EmbeddedDatabase(Protocol):
    """An index, or several one after the other."""

    @property
    def checked_embeddings(self) -> Database:
        """(M, D), of which none is read that cannot be an embedding."""
        ...


@dataclass(frozen=True)
class SettingReport:
    """How well the queries of one setting were answered, all in 0..1.

    Args:
        mean_average_precision: over queries with a positive; NaN where there is none.
        average_precisions: one a query, in their order; NaN where it has no positive.
        mean_precision_at_1, mean_precision_at_5, mean_precision_at_10: over queries with a positive.
    """

    mean_average_precision: float
    average_precisions: tuple[float, ...]
    mean_precision_at_1: float
    mean_precision_at_5: float
    mean_precision_at_10: float


@dataclass(frozen=True)
class RetrievalReport:
    """The three settings of the revisited protocol."""

    easy: SettingReport
    medium: SettingReport
    hard: SettingReport


def evaluate_revisited(similarities: npt.ArrayLike, ground_truth: Sequence[QueryGroundTruth]) -> RetrievalReport:
    """Returns how well (N, M) similarities, higher is better, rank M database images for N queries.

    Raises:
        UsageError: shapes do not belong together, or a similarity is NaN, which has no rank.
        DatasetError: the ground truth names a row that the database does not have.
    """
    scores = np.asarray(similarities)
    if scores.ndim != 2 or len(scores) != len(ground_truth):
        raise UsageError(
            f"`similarities` has shape {scores.shape}, but there are {len(ground_truth)} queries with ground truth; "
            "it must be (queries, database images)."
        )
    return revisited_report(labelled_ranks_of(scores, ground_truth))


def evaluate_index(
    query_embeddings: Embeddings,
    index: EmbeddedDatabase,
    ground_truth: Sequence[QueryGroundTruth],
    *,
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress | None = None,
) -> RetrievalReport:
    """Returns how well queries rank the rows of an index by inner product; its embeddings are streamed from disk.

    Args:
        query_embeddings: (N, D), in the space of the index.
        index: M embeddings: `TeacherIndex`, or `JoinedIndex` of several.
        ground_truth: N, in rows of the index.
        memory_bytes: of embeddings and similarities that are held at once.
        progress: where the work is announced.

    Raises:
        UsageError: shapes do not belong together, or a query's embedding is not finite.
        DatasetError: the ground truth names a row that the index does not have.
        TeacherIndexError: the index holds an embedding that cannot be one.
    """
    rows = index.checked_embeddings
    return revisited_report(
        labelled_ranks(query_embeddings, rows, ground_truth, memory_bytes=memory_bytes, progress=progress)
    )


def revisited_report(ranks: Sequence[LabelledRanks]) -> RetrievalReport:
    """Returns the three settings, from the ranks of what is labelled for each query."""
    return RetrievalReport(
        easy=_setting([(one.easy, [*one.hard, *one.junk]) for one in ranks]),
        medium=_setting([([*one.easy, *one.hard], one.junk) for one in ranks]),
        hard=_setting([(one.hard, [*one.easy, *one.junk]) for one in ranks]),
    )


def ranks_without_ignored(positives: npt.ArrayLike, ignored: npt.ArrayLike) -> Rows:
    """Returns the ascending ranks, from 0, of positives after ignored images are taken out of a ranking.

    Args:
        positives, ignored: (P,) and (I,) ranks in the whole ranking, in any order, none in both.
    """
    kept, removed = np.sort(np.asarray(positives, np.intp)), np.sort(np.asarray(ignored, np.intp))
    ranks: Rows = kept - np.searchsorted(removed, kept)
    return ranks


def average_precision(ranks: Rows) -> float:
    """Returns the trapezoidal AP of positives at these ascending (P,) ranks, counted from 0; NaN where P is 0."""
    if not len(ranks):
        return float("nan")
    found = np.arange(len(ranks))
    before = np.divide(found, ranks, out=np.ones(len(ranks)), where=ranks > 0)
    after = (found + 1) / (ranks + 1)
    return float((before + after).mean() / 2)


def precision_at(k: int, ranks: Rows) -> float:
    """Returns precision at k, or at the last positive where that comes earlier, of ascending ranks; NaN without any."""
    if not len(ranks):
        return float("nan")
    cut_off = min(k, int(ranks[-1]) + 1)
    return int(np.count_nonzero(ranks < cut_off)) / cut_off


def _setting(labelled: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]]) -> SettingReport:
    ranks = [ranks_without_ignored(positives, ignored) for positives, ignored in labelled]
    average_precisions = tuple(average_precision(one) for one in ranks)
    return SettingReport(
        mean_average_precision=_mean(average_precisions),
        average_precisions=average_precisions,
        mean_precision_at_1=_mean([precision_at(1, one) for one in ranks]),
        mean_precision_at_5=_mean([precision_at(5, one) for one in ranks]),
        mean_precision_at_10=_mean([precision_at(10, one) for one in ranks]),
    )


def _mean(values: Sequence[float]) -> float:
    present = [value for value in values if value == value]
    return sum(present) / len(present) if present else float("nan")
