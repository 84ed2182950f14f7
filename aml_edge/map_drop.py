"""How much asymmetric mAP a quantization costs, with its interval, and which queries choose and which judge.

What is chosen by some queries looks better on them than it is, so a choice and its verdict use different ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from aml_edge.bootstrap import bootstrap_mean, paired_differences
from aml_edge.embedder import Embeddings
from aml_edge.errors import UsageError
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.ranking import RetrievalReport, evaluate_revisited

FEWEST_QUERIES = 20
"""With a positive, of which half choose: a bootstrap of fewer than ten claims to know more than it does."""
POINTS = 100.0


class Setting(StrEnum):
    """Which images are positives."""

    MEDIUM = "medium"
    HARD = "hard"


@dataclass(frozen=True)
class Drop:
    """What of mAP is lost, in points of 100; below zero is a gain. NaN where an embedding is not finite.

    Args:
        points: mean over queries.
        low, high: ends of its 95 % interval, by a paired bootstrap over queries.
        queries: how many had a positive.
    """

    points: float
    low: float
    high: float
    queries: int

    def holds(self, max_drop: float) -> bool:
        """Returns whether at most so many points are lost, the whole interval considered."""
        return self.high <= max_drop


@dataclass(frozen=True)
class QuerySplit:
    """Places of the queries that choose a file, and of those that judge it, both ascending."""

    selection: tuple[int, ...]
    verdict: tuple[int, ...]


def split_queries(ground_truth: Sequence[QueryGroundTruth], *, seed: int = 0) -> QuerySplit:
    """Returns two halves, drawn at random, of the queries that have an easy or hard positive; the verdict's may be one
    more.

    Raises:
        UsageError: there are too few to choose by some and judge by others.
    """
    answered = places_with_positive(ground_truth, Setting.MEDIUM)
    if len(answered) < FEWEST_QUERIES:
        raise UsageError(
            f"`dataset` has {len(answered)} queries with a positive; a search chooses by half of them and is judged by "
            f"the others, which takes {FEWEST_QUERIES}: name a data set with more, or say which blocks stay in "
            "floating point yourself."
        )
    drawn = np.random.default_rng(seed).permutation(answered)
    half = len(drawn) // 2
    return QuerySplit(tuple(sorted(drawn[:half].tolist())), tuple(sorted(drawn[half:].tolist())))


def measure_drop(
    student_rows: Embeddings,
    file_rows: Embeddings,
    database: Embeddings,
    ground_truth: Sequence[QueryGroundTruth],
    queries: Sequence[int],
    *,
    setting: Setting = Setting.MEDIUM,
) -> Drop:
    """Returns how much lower the mAP of a file is than that of its student, both against the teacher's database.

    Args:
        student_rows, file_rows: (N, D) embeddings of all queries.
        database: (M, D) the teacher's.
        ground_truth: N, in rows of the database.
        queries: places of those that count; of them, those with a positive do.
        setting: which images are positives.

    Raises:
        UsageError: none of them has a positive.
    """
    counted = places_with_positive([ground_truth[place] for place in queries], setting)
    if not counted:
        raise UsageError(
            f"`queries` are {len(queries)}, none with a positive of the setting {setting}; there is no mAP to lose: "
            "name a data set with others."
        )
    places = [queries[place] for place in counted]
    truth = [ground_truth[place] for place in places]
    before, after = (_average_precisions(rows[places], database, truth, setting) for rows in (student_rows, file_rows))
    if before is None or after is None:
        return Drop(np.nan, np.nan, np.nan, len(places))
    return drop_between(before, after)


def drop_between(before: npt.ArrayLike, after: npt.ArrayLike) -> Drop:
    """Returns how much lower the mean of (N,) average precisions is than that of others of the same queries.

    Raises:
        UsageError: there is no query, or a value is not finite.
    """
    lost = POINTS * paired_differences(after, before)
    interval = bootstrap_mean(lost)
    return Drop(float(lost.mean()), interval.low, interval.high, len(lost))


def places_with_positive(ground_truth: Sequence[QueryGroundTruth], setting: Setting) -> tuple[int, ...]:
    """Returns the places of the queries that have a positive."""
    easy_counts = setting is Setting.MEDIUM
    return tuple(place for place, one in enumerate(ground_truth) if one.hard or (easy_counts and one.easy))


def _average_precisions(
    rows: Embeddings, database: Embeddings, ground_truth: Sequence[QueryGroundTruth], setting: Setting
) -> npt.NDArray[np.float64] | None:
    """Returns (N,) average precisions, or None where an embedding is not finite: a query is not left out."""
    if not np.isfinite(rows).all():
        return None
    report: RetrievalReport = evaluate_revisited(rows @ database.T, ground_truth)
    chosen = report.medium if setting is Setting.MEDIUM else report.hard
    return np.asarray(chosen.average_precisions, np.float64)
