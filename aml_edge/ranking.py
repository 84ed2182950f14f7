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

import numpy as np
import numpy.typing as npt

from aml_edge.errors import DatasetError, UsageError

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class QueryGroundTruth:
    """Database rows that show what one query shows.

    Args:
        easy, hard: plainly, or under difficult conditions.
        junk: so little that nobody can tell; neither right nor wrong to find.

    Raises:
        DatasetError: a row is negative, or labelled twice.
    """

    easy: tuple[int, ...]
    hard: tuple[int, ...]
    junk: tuple[int, ...]

    def __post_init__(self) -> None:
        labelled = (*self.easy, *self.hard, *self.junk)
        if labelled and min(labelled) < 0:
            raise DatasetError(f"a query's ground truth names database row {min(labelled)}; rows are counted from 0.")
        if len(set(labelled)) < len(labelled):
            twice = next(row for place, row in enumerate(labelled) if row in labelled[:place])
            raise DatasetError(f"a query's ground truth labels database row {twice} twice; label it once.")


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
    places = [_places(row, truth, query) for query, (row, truth) in enumerate(zip(scores, ground_truth, strict=True))]
    return RetrievalReport(
        easy=_setting([(one.easy, [*one.hard, *one.junk]) for one in places]),
        medium=_setting([([*one.easy, *one.hard], [*one.junk]) for one in places]),
        hard=_setting([(one.hard, [*one.easy, *one.junk]) for one in places]),
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


@dataclass(frozen=True)
class _Places:
    """Ranks, from 0, of what is labelled for one query."""

    easy: Sequence[int]
    hard: Sequence[int]
    junk: Sequence[int]


def _places(scores: npt.NDArray[np.floating], truth: QueryGroundTruth, query: int) -> _Places:
    labelled = (*truth.easy, *truth.hard, *truth.junk)
    if labelled and max(labelled) >= len(scores):
        raise DatasetError(
            f"the ground truth of query {query} names database row {max(labelled)}, "
            f"but the database has {len(scores)} images; use the database that it was made for."
        )
    if np.isnan(scores).any():
        raise UsageError(f"`similarities` holds NaN for query {query}; an embedding that is not finite has no rank.")
    ranks = np.empty(len(scores), np.intp)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    easy, hard, junk = (ranks[list(rows)].tolist() for rows in (truth.easy, truth.hard, truth.junk))
    return _Places(easy, hard, junk)


def _setting(places: Sequence[tuple[Sequence[int], Sequence[int]]]) -> SettingReport:
    ranks = [ranks_without_ignored(positives, ignored) for positives, ignored in places]
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
