"""Asymmetric mAP of a row: queries by the file or the student, the database by the teacher's index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from aml_edge.approximate.cost import ApproximationCost, approximate_ranks, found_shares, measured_cost
from aml_edge.approximate.searches import NONE_OPENED, OpenedSearches
from aml_edge.benchmarks.rows import Group, Row, simulator_of
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.embedder import Embedder, Embeddings
from aml_edge.errors import UsageError
from aml_edge.evaluation import evaluate_retrieval
from aml_edge.index import TeacherIndex
from aml_edge.index.joined import JoinedIndex
from aml_edge.labelled_ranks import labelled_ranks
from aml_edge.pixels import Pixels
from aml_edge.progress import Progress
from aml_edge.runtimes import open_artifact
from aml_edge.runtimes.torch_runtime import TorchEmbedder

NAN = float("nan")


@dataclass(frozen=True)
class GroundTruth:
    """What queries are evaluated with.

    Args:
        index: holds the data set's database.
        dataset: queries and ground truth.
        searches: approximate indexes of the index, whose cost is measured too.

    Raises:
        UsageError: the data set has no easy, medium and hard setting.
    """

    index: TeacherIndex
    dataset: RetrievalDataset
    searches: OpenedSearches = NONE_OPENED

    def __post_init__(self) -> None:
        self.dataset.require_settings()


@dataclass(frozen=True)
class AsymmetricMap:
    """Asymmetric mAP in the settings of the revisited protocol, in 0..1.

    Args:
        runtime: what embedded the queries, e.g. ``"litert cpu"``.
        dataset: name of the data set.
        queries: how many it has.
        non_finite: queries whose embedding holds NaN or infinity; one of them is enough for no mAP.
        easy, medium, hard: NaN where no query has a positive, or an embedding is not finite.
        approximation: what each approximate index that was named costs; empty where an embedding is not finite.
    """

    runtime: str
    dataset: str
    queries: int
    non_finite: int
    easy: float
    medium: float
    hard: float
    approximation: tuple[ApproximationCost, ...] = ()


@dataclass(frozen=True, eq=False)
class AnsweredQueries:
    """What came of a row's queries.

    Args:
        found: their mAP.
        embeddings: (Q, D).
        average_precisions: of each, medium, in 0..1; NaN without a positive. Empty where an embedding is not finite.
    """

    found: AsymmetricMap
    embeddings: Embeddings
    average_precisions: tuple[float, ...]


def measure_asymmetric_map(embedder: Embedder, truth: GroundTruth, progress: Progress, label: str) -> AsymmetricMap:
    """Returns the mAP of an embedder's queries against the index; raises as `answer_queries`."""
    return answer_queries(embedder, truth, progress, label).found


def answer_queries(embedder: Embedder, truth: GroundTruth, progress: Progress, label: str) -> AnsweredQueries:
    """Returns what an embedder's queries find in the index, and in its approximate indexes.

    Raises:
        SpaceMismatchError: the embedder lives in another space than the index; both are named.
        TeacherIndexError: the index lacks images of the data set.
        ImageBatchError: images cannot be read; all of them are listed.
    """
    watched = _WatchedEmbedder(embedder)
    easy = medium = hard = NAN
    by_query: tuple[float, ...] = ()
    try:
        report = evaluate_retrieval(watched, truth.index, truth.dataset, name=label, progress=progress)
        easy, medium, hard = (setting.mean_average_precision for setting in (report.easy, report.medium, report.hard))
        by_query = report.medium.average_precisions
    except UsageError:
        if not watched.non_finite:
            raise
    queries, rows = len(truth.dataset.query_items), watched.embedded
    costs = () if watched.non_finite else _approximation(rows, truth)
    found = AsymmetricMap(embedder.name, truth.dataset.name, queries, watched.non_finite, easy, medium, hard, costs)
    return AnsweredQueries(found, rows, by_query)


def _approximation(queries: Embeddings, truth: GroundTruth) -> tuple[ApproximationCost, ...]:
    searches, dataset = truth.searches, truth.dataset
    if not searches.databases:
        return ()
    rows = JoinedIndex(truth.index).rows_after(dataset.database_ids)
    exact = labelled_ranks(queries, rows, dataset.ground_truth)
    costs = []
    for database in searches.databases:
        ranks = approximate_ranks(queries, database, dataset, searches.depth)
        cost = measured_cost(database, dataset, exact, ranks, searches.depth)
        costs.append(replace(cost, found=found_shares(queries, database, truth.index.checked_embeddings)))
    return tuple(costs)


class _WatchedEmbedder:
    """An Embedder that keeps what it hands on, and counts what is not finite: that is a result here, not an error."""

    def __init__(self, embedder: Embedder) -> None:
        self.name, self.space, self.preprocessing = embedder.name, embedder.space, embedder.preprocessing
        self.non_finite = 0
        self._embedder = embedder
        self._rows: list[Embeddings] = []

    @property
    def embedded(self) -> Embeddings:
        """All rows so far, in the order in which they were asked for."""
        return np.concatenate([np.empty((0, self.space.dimension), np.float32), *self._rows])

    def embed(self, images: Sequence[Pixels]) -> Embeddings:
        rows = self._embedder.embed(images)
        self.non_finite += int(len(rows) - np.isfinite(rows).all(axis=1).sum())
        self._rows.append(rows)
        return rows

    def close(self) -> None:
        self._embedder.close()


def open_row(row: Row, group: Group, index: TeacherIndex, *, refused: bool) -> Embedder | None:
    """Returns what embeds the queries of a row, or None where nothing here can.

    The student is followed by the whitening of the index, where it has one that the student does not know.

    Args:
        row: the file or the student.
        group: that the row belongs to.
        index: what the queries are to be compared with.
        refused: the row's runtime does not run here; a simulation of it may.
    """
    if row.artifact is not None:
        simulator = simulator_of(row.artifact.manifest.format) if refused else None
        if refused and simulator is None:
            return None
        return open_artifact(row.artifact, row.runtime if simulator is None else simulator.name)
    checkpoint = group.checkpoint
    if checkpoint is None or refused:
        return None
    whitening = index.whitening_for(checkpoint.space, name=f"student '{checkpoint.name}'")
    network: nn.Module = checkpoint.student if whitening is None else nn.Sequential(checkpoint.student, whitening)
    preprocessing = group.manifest.preprocessing
    name = f"torch eager {row.device}"
    return TorchEmbedder(network, space=index.space, preprocessing=preprocessing, name=name, device=row.device)
