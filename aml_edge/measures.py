"""Measures of a ranking other than those of the revisited protocol: recall@k, MAP@R, mAP@k, in one report a protocol.

All are counted from the ascending ranks, from 0, of a query's positives after ignored images are taken out
(`aml_edge.ranking.ranks_without_ignored`). A query without a positive has no value, NaN, and counts in no mean.

- recall@k of metric learning is 1 where one of the first k images is a positive, else 0: it is not the share of the
  positives that were found.
- MAP@R of a query with R positives looks at the first R images alone: precision at each positive among them, summed
  and divided by R.
- AP@k of Google Landmarks sums precision at each positive among the first k, divided by the lesser of k and the number
  of positives. It is a sum over positives, not an area by trapezoids as mAP of the revisited protocol and INSTRE is.

Source: Musgrave, Belongie, Lim, "A metric learning reality check", ECCV 2020, section 3.2; Jégou, Douze, Schmid,
"Product quantization for nearest neighbor search", TPAMI 2011, for this recall; Weyand, Araujo, Cao, Sim, "Google
Landmarks Dataset v2", CVPR 2020, where mAP@100 is defined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from aml_edge.errors import UsageError
from aml_edge.protocol import RECALL_AT, Protocol
from aml_edge.ranking import Rows, average_precision, precision_at

LANDMARKS_CUT_OFF = 100
PRECISION_AT = (1, 5, 10)

_OfQuery = Callable[[Rows], float]


@dataclass(frozen=True)
class Measure:
    """One measure of all queries, in 0..1.

    Args:
        name: as it is published, e.g. ``"mAP@100"``.
        mean: over queries with a positive; NaN where there is none.
        values: one a query, in their order; NaN where it has no positive.
    """

    name: str
    mean: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class MeasuresReport:
    """What a protocol says of how queries were answered.

    Args:
        protocol: which.
        measures: the main one first.
    """

    protocol: Protocol
    measures: tuple[Measure, ...]

    @property
    def main(self) -> Measure:
        """The measure that results are compared by."""
        return self.measures[0]


def measure(
    protocol: Protocol, ranks_per_query: Sequence[Rows], recall_at: Sequence[int] = RECALL_AT
) -> MeasuresReport:
    """Returns the measures of a protocol; of the revisited one those of a single setting.

    Args:
        protocol: which.
        ranks_per_query: of each query the ascending (P,) ranks of its positives, from 0, ignored images taken out.
        recall_at: cut-offs of recall@k, where the protocol has it; the first is the main measure.

    Raises:
        UsageError: there is no cut-off, or one below 1.
    """
    if not recall_at or min(recall_at) < 1:
        raise UsageError(f"`recall_at` is {tuple(recall_at)}; recall needs cut-offs, each 1 or more.")
    of_query = _measures_of(protocol, recall_at)
    return MeasuresReport(protocol, tuple(_measure(name, value, ranks_per_query) for name, value in of_query.items()))


def recall_at_k(k: int, ranks: Rows) -> float:
    """Returns 1 where a positive is among the first k, else 0; NaN without positives."""
    return float(ranks[0] < k) if len(ranks) else float("nan")


def average_precision_at_k(k: int, ranks: Rows) -> float:
    """Returns the sum of precision at each positive among the first k, over the lesser of k and P; NaN where P is 0."""
    if not len(ranks):
        return float("nan")
    found = ranks[: np.searchsorted(ranks, k)]
    precisions = np.arange(1, len(found) + 1) / (found + 1)
    return float(precisions.sum()) / min(k, len(ranks))


def average_precision_at_r(ranks: Rows) -> float:
    """Returns MAP@R of one query, where R is the number of its positives; NaN where R is 0."""
    return average_precision_at_k(len(ranks), ranks)


def _measures_of(protocol: Protocol, recall_at: Sequence[int]) -> Mapping[str, _OfQuery]:
    """Returns what is measured of a query, by name, the main measure first."""
    precisions = {f"mP@{k}": partial(precision_at, k) for k in PRECISION_AT}
    landmarks = partial(average_precision_at_k, LANDMARKS_CUT_OFF)
    recalls = {f"recall@{k}": partial(recall_at_k, k) for k in recall_at}
    table: Mapping[Protocol, Mapping[str, _OfQuery]] = {
        Protocol.REVISITED: {"mAP": average_precision, **precisions},
        Protocol.INSTANCES: {"mAP": average_precision, **precisions},
        Protocol.LANDMARKS: {f"mAP@{LANDMARKS_CUT_OFF}": landmarks},
        Protocol.METRIC_LEARNING: {**recalls, "MAP@R": average_precision_at_r},
    }
    return table[protocol]


def _measure(name: str, of_query: _OfQuery, ranks_per_query: Sequence[Rows]) -> Measure:
    values = tuple(of_query(ranks) for ranks in ranks_per_query)
    present = [value for value in values if value == value]
    return Measure(name, sum(present) / len(present) if present else float("nan"), values)
