"""Symmetric and asymmetric testing on a data set with ground truth.

Symmetric: one network embeds queries and database. Asymmetric: a student, or the file made from it, embeds the queries
and the teacher's index is the database. Each side is embedded once for all rows, and whitened afterwards. An index is
streamed from disk; distractors, indexes of images that answer no query, follow the data set's rows of it. Where
approximate indexes are named, each row against an index is followed by one against each of them.

Source: Budnik and Avrithis, "Asymmetric metric learning for knowledge transfer", CVPR 2021, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TypeVar

from aml_edge.approximate.cost import ApproximationCost, approximate_ranks, measured_cost
from aml_edge.approximate.searches import EXACT_ONLY, NONE_OPENED, ApproximateSearches
from aml_edge.contestants import TEACHER, Contestants, Pairing, pairings
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.embedded_sides import EmbeddedSides, embed_database, embed_queries
from aml_edge.embedder import Embedder, Embeddings
from aml_edge.errors import UsageError
from aml_edge.evaluated_rows import MeasuredRow, RetrievalRow, measured_row, retrieval_row
from aml_edge.index import TeacherIndex
from aml_edge.index.joined import JoinedIndex, join_fitting
from aml_edge.index.whitened_rows import whitened_rows
from aml_edge.labelled_ranks import LabelledRanks, labelled_ranks
from aml_edge.measures import measure
from aml_edge.networks.whitening import Whitening
from aml_edge.progress import Progress, SilentProgress
from aml_edge.protocol import Protocol
from aml_edge.ranking import RetrievalReport, ranks_without_ignored, revisited_report
from aml_edge.search import Rows
from aml_edge.space import require_same_space

__all__ = ["RetrievalRow", "evaluate_contestants", "evaluate_retrieval", "measure_contestants", "retrieval_row"]

LONG_PRODUCT = 10**11
"""Multiplications from which on a ranking takes seconds, and is announced."""

Row = TypeVar("Row", RetrievalRow, MeasuredRow)


def evaluate_contestants(
    contestants: Contestants,
    databases: Sequence[TeacherIndex],
    dataset: RetrievalDataset,
    *,
    distractors: Sequence[TeacherIndex] = (),
    searches: ApproximateSearches = EXACT_ONLY,
    progress: Progress | None = None,
) -> tuple[RetrievalRow, ...]:
    """Returns the rows teacher → teacher, student → student, student → teacher, file → teacher, as far as given.

    Args:
        contestants: who asks, at which scales.
        databases: the teacher's indexes of the data set, which differ in scales or whitening.
        dataset: queries, database and ground truth, of the revisited protocol.
        distractors: indexes of further images, each to follow those databases that were made as it was.
        searches: approximate indexes of these indexes, for further rows; a database that is whitened as it is read has
            none.
        progress: where the work is announced.

    Raises:
        SpaceMismatchError: one of them lives in another space than the indexes; said before anything is embedded.
        UsageError: the data set has another protocol, distractors were made otherwise than every database, or an index
            lacks an approximate one.
        TeacherIndexError: an index lacks images of the data set, holds an embedding of one that cannot be, or
            distractors hold an image that a database holds.
        ImageBatchError: images cannot be read; all of them are listed.
    """
    if dataset.protocol is not Protocol.REVISITED:
        raise UsageError(
            f"`dataset` is {dataset.name}, whose results are published as {dataset.protocol}, without settings; "
            "measure it with `measure_contestants`."
        )
    planned = _Plan(contestants, join_fitting(databases, distractors), searches)
    answers = _answers(planned, dataset, progress or SilentProgress())
    return tuple(
        one.conditioned(retrieval_row(one.queries, one.database, revisited_report(one.ranks))) for one in answers
    )


def measure_contestants(
    contestants: Contestants,
    databases: Sequence[TeacherIndex],
    dataset: RetrievalDataset,
    *,
    distractors: Sequence[TeacherIndex] = (),
    searches: ApproximateSearches = EXACT_ONLY,
    progress: Progress | None = None,
) -> tuple[MeasuredRow, ...]:
    """Returns the rows of `evaluate_contestants` in the measures of the data set's protocol; raises as it does.

    Hard images count as positives, as in the medium setting.
    """
    planned = _Plan(contestants, join_fitting(databases, distractors), searches)
    return tuple(
        one.conditioned(
            measured_row(
                one.queries,
                one.database,
                measure(
                    dataset.protocol,
                    [ranks_without_ignored([*ranks.easy, *ranks.hard], ranks.junk) for ranks in one.ranks],
                    dataset.recall_at,
                ),
            )
        )
        for one in _answers(planned, dataset, progress or SilentProgress())
    )


def evaluate_retrieval(
    query_embedder: Embedder,
    database: TeacherIndex | Embedder,
    dataset: RetrievalDataset,
    *,
    name: str = "queries",
    progress: Progress | None = None,
) -> RetrievalReport:
    """Returns how well a data set's queries are answered, by the revisited protocol.

    Args:
        query_embedder: embeds the queries, cropped to their boxes.
        database: a teacher's index of the data set's database, or what embeds that database now.
        dataset: queries, database and ground truth.
        name: of what embeds the queries, for messages and progress.
        progress: where the work is announced.

    Raises:
        SpaceMismatchError: queries and database live in different spaces.
        TeacherIndexError: the index lacks images of the data set, or holds an embedding of one that cannot be.
        ImageBatchError: images cannot be read; all of them are listed.
        UsageError: the data set has another protocol, or a query's embedding is not finite.
    """
    dataset.require_settings()
    progress = progress or SilentProgress()
    right = f"the index {database.path}" if isinstance(database, TeacherIndex) else "the database"
    require_same_space(query_embedder.space, database.space, left_name=name, right_name=right)
    queries = embed_queries(query_embedder, dataset, name=name, progress=progress)
    if isinstance(database, TeacherIndex):
        rows: Rows = JoinedIndex(database).rows_after(dataset.database_ids)
    else:
        rows = embed_database(database, dataset, progress=progress, said=name)
    return revisited_report(_ranks(queries, rows, dataset, progress))


@dataclass(frozen=True, eq=False)
class _Plan:
    """Who asks which databases, and how."""

    contestants: Contestants
    databases: tuple[JoinedIndex, ...]
    searches: ApproximateSearches


@dataclass(frozen=True, eq=False)
class _Answer:
    """Where one side's queries found what is labelled in another side's database."""

    pairing: Pairing
    distractors: int
    ranks: tuple[LabelledRanks, ...]
    approximation: ApproximationCost | None = None

    @property
    def queries(self) -> str:
        return self.pairing.queries.name

    @property
    def database(self) -> str:
        return TEACHER if isinstance(self.pairing.database, TeacherIndex) else self.pairing.database.name

    def conditioned(self, row: Row) -> Row:
        """Returns a row that says under which conditions the answer was given."""
        database, sha256, index = self.pairing.database, None, None
        if isinstance(database, TeacherIndex):
            sha256, index = database.space.whitening_sha256, database.path
        elif self.pairing.whitening is not None:
            sha256 = self.pairing.whitening.sha256
        return replace(
            row,
            query_scales=self.pairing.queries.scales,
            database_scales=database.scales,
            whitening=None if sha256 is None else self.database,
            whitening_sha256=sha256,
            index=index,
            distractors=self.distractors,
            approximation=self.approximation,
        )


def _answers(plan: _Plan, dataset: RetrievalDataset, progress: Progress) -> Iterator[_Answer]:
    """Yields what each pairing of the contestants comes to; refuses before anything is embedded."""
    joined = {id(one.first): one for one in plan.databases}
    rows = {name: one.rows_after(dataset.database_ids) for name, one in joined.items()}
    planned = pairings(plan.contestants, [one.first for one in plan.databases])
    opened = {
        name: plan.searches.open(one.first, *one.others)
        for name, one in joined.items()
        if not one.first.whitened_as_read
    }
    with closing(EmbeddedSides(dataset, progress)) as sides:
        for pairing in planned:
            sides.open(pairing.queries)
        for pairing in planned:
            queries = _followed(sides.queries(pairing.queries), pairing.whitening)
            database = pairing.database
            if not isinstance(database, TeacherIndex):
                own = _followed(sides.database(database), pairing.whitening)
                yield _Answer(pairing, 0, _ranks(queries, own, dataset, progress))
                continue
            stored = rows[id(database)]
            further = len(stored) - len(dataset.database_ids)
            exact = _ranks(queries, stored, dataset, progress)
            yield _Answer(pairing, further, exact)
            approximates = opened.get(id(database), NONE_OPENED)
            depth = approximates.depth
            for approximate in approximates.databases:
                ranks = approximate_ranks(queries, approximate, dataset, depth, progress=progress)
                yield _Answer(pairing, further, ranks, measured_cost(approximate, dataset, exact, ranks, depth))


def _followed(rows: Embeddings, whitening: Whitening | None) -> Embeddings:
    return rows if whitening is None else whitened_rows(rows, whitening)


def _ranks(
    queries: Embeddings, database: Rows, dataset: RetrievalDataset, progress: Progress
) -> tuple[LabelledRanks, ...]:
    long = len(queries) * database.shape[0] * database.shape[1] >= LONG_PRODUCT
    return labelled_ranks(queries, database, dataset.ground_truth, progress=progress if long else None)
