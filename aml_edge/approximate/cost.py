"""What approximate search costs beside exact search of the same rows by the same queries: in measures, and in lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol as Shape

import numpy as np

from aml_edge.approximate.approximate_index import QUERIES_AT_ONCE
from aml_edge.approximate.database import ApproximateDatabase
from aml_edge.approximate.found_ranks import found_ranks
from aml_edge.bootstrap import Interval, paired_bootstrap
from aml_edge.embedder import Embeddings
from aml_edge.ground_truth import QueryGroundTruth
from aml_edge.labelled_ranks import LabelledRanks
from aml_edge.measures import measure
from aml_edge.progress import Progress, SilentProgress
from aml_edge.protocol import Protocol
from aml_edge.ranking import ranks_without_ignored, revisited_report
from aml_edge.search import Rows, top_k

CUT_OFFS = (10, 100)


class Judged(Shape):
    """What a data set says of answers to its queries."""

    @property
    def database_ids(self) -> tuple[str, ...]:
        """Of the database's images."""
        ...

    @property
    def ground_truth(self) -> Sequence[QueryGroundTruth]:
        """Of each query, in rows of the database."""
        ...

    @property
    def protocol(self) -> Protocol:
        """How answers are judged."""
        ...

    @property
    def recall_at(self) -> tuple[int, ...]:
        """Cut-offs of recall@k, where the protocol has it."""
        ...


@dataclass(frozen=True)
class MeasureCost:
    """One measure, in 0..1, of exact and of approximate search.

    Args:
        name: e.g. ``"medium mAP"``.
        queries: how many have a positive.
        exact, approximate: means over these queries.
        difference: approximate − exact.
        interval: of the difference; paired bootstrap over queries, 95 %.
    """

    name: str
    queries: int
    exact: float
    approximate: float
    difference: float
    interval: Interval


@dataclass(frozen=True)
class FoundShare:
    """How much of the k nearest rows of an exact search is among the k that an approximate one found, in 0..1.

    Args:
        k: the cut-off.
        mean, smallest: over queries; the mean is what is called recall@k of a search.
    """

    k: int
    mean: float
    smallest: float


@dataclass(frozen=True)
class ApproximationCost:
    """What an approximate index costs.

    Args:
        ann: the factory and the parameters of a search.
        database_images: how many rows it has.
        depth: how many images each search was asked for, for the measures; it may find fewer.
        queries: how many asked.
        measures: empty without ground truth; easy, medium and hard mAP in the revisited protocol.
        found: one for each cut-off below the number of rows; empty where lists were not compared.
    """

    ann: str
    database_images: int
    depth: int
    queries: int
    measures: tuple[MeasureCost, ...]
    found: tuple[FoundShare, ...] = ()


def approximate_ranks(
    query_embeddings: Embeddings,
    database: ApproximateDatabase,
    dataset: Judged,
    depth: int,
    *,
    progress: Progress | None = None,
) -> tuple[LabelledRanks, ...]:
    """Returns the ranks of a data set's labelled images in the lists that an approximate search returns.

    Args:
        query_embeddings: (N, D).
        database: whose first part holds the data set's images; rows of further ones are distractors.
        dataset: with N queries.
        depth: how many images are returned; see `aml_edge.approximate.found_ranks` for what is not.
        progress: where the work is announced, one step a query.

    Raises:
        UsageError: the depth or a shape cannot be, or a row is not finite.
        TeacherIndexError: the first part lacks images, or a structure is damaged.
    """
    places, ranks = database.places_after(dataset.database_ids), list[LabelledRanks]()
    with (progress or SilentProgress()).task(f"searching {database.description}", len(query_embeddings)) as task:
        for start in range(0, len(query_embeddings), QUERIES_AT_ONCE):
            block = slice(start, start + QUERIES_AT_ONCE)
            found = database.search(query_embeddings[block], depth).rows
            ranks += found_ranks(places[found], dataset.ground_truth[block])
            task.advance(len(found))
    return tuple(ranks)


def measured_cost(
    database: ApproximateDatabase,
    dataset: Judged,
    exact: Sequence[LabelledRanks],
    approximate: Sequence[LabelledRanks],
    depth: int,
) -> ApproximationCost:
    """Returns what an approximate search of that depth costs, by the ranks of both searches alone."""
    costs, depth = measure_costs(dataset, exact, approximate), min(depth, database.count)
    return ApproximationCost(database.description, database.count, depth, len(exact), costs)


def measure_costs(
    dataset: Judged, exact: Sequence[LabelledRanks], approximate: Sequence[LabelledRanks]
) -> tuple[MeasureCost, ...]:
    """Returns what the measures of a data set's protocol lose, from the ranks of both searches.

    A measure that no query has a value of is left out.
    """
    pairs = zip(_values(dataset, exact), _values(dataset, approximate), strict=True)
    costs = (_cost(name, ours, theirs) for (name, ours), (_, theirs) in pairs)
    return tuple(cost for cost in costs if cost is not None)


def found_shares(query_embeddings: Embeddings, database: ApproximateDatabase, exact: Rows) -> tuple[FoundShare, ...]:
    """Returns how much of what an exact search of the same rows finds an approximate one finds, for 10 and 100."""
    cut_offs = [k for k in CUT_OFFS if k < len(exact)]
    if not cut_offs or not len(query_embeddings):
        return ()
    ours = top_k(query_embeddings, exact, cut_offs[-1]).rows
    theirs = database.search(query_embeddings, cut_offs[-1]).rows
    shares = []
    for k in cut_offs:
        shared = [len(np.intersect1d(left[:k], right[:k])) / k for left, right in zip(ours, theirs, strict=True)]
        shares.append(FoundShare(k, float(np.mean(shared)), float(np.min(shared))))
    return tuple(shares)


def _values(dataset: Judged, ranks: Sequence[LabelledRanks]) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Yields the name of each measure and its value for each query."""
    if dataset.protocol is Protocol.REVISITED:
        report = revisited_report(ranks)
        for name, setting in (("easy", report.easy), ("medium", report.medium), ("hard", report.hard)):
            yield f"{name} mAP", setting.average_precisions
        return
    positives = [ranks_without_ignored([*one.easy, *one.hard], one.junk) for one in ranks]
    for one in measure(dataset.protocol, positives, dataset.recall_at).measures:
        yield one.name, one.values


def _cost(name: str, exact: Sequence[float], approximate: Sequence[float]) -> MeasureCost | None:
    ours, theirs = np.asarray(exact), np.asarray(approximate)
    present = ~np.isnan(ours)
    if not present.any():
        return None
    ours, theirs = ours[present], theirs[present]
    mean, found = float(ours.mean()), float(theirs.mean())
    return MeasureCost(name, len(ours), mean, found, found - mean, paired_bootstrap(ours, theirs))
