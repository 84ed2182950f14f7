"""Symmetric and asymmetric testing on a data set in the revisited layout.

Symmetric: one network embeds queries and database. Asymmetric: a student, or the file made from it, embeds the queries
and the teacher's index is the database. Each side is embedded once for all rows, and whitened afterwards.

Source: Budnik and Avrithis, "Asymmetric metric learning for knowledge transfer", CVPR 2021, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aml_edge.bootstrap import Interval, bootstrap_mean
from aml_edge.contestants import TEACHER, Contestants, Pairing, pairings
from aml_edge.datasets.retrieval_dataset import RetrievalDataset
from aml_edge.embedded_sides import EmbeddedSides, embed_database, embed_queries
from aml_edge.embedder import Embedder, Embeddings
from aml_edge.index import TeacherIndex
from aml_edge.index.checked_rows import CheckedRows
from aml_edge.index.whitening import whitened_rows
from aml_edge.networks.whitening import Whitening
from aml_edge.progress import Progress, SilentProgress
from aml_edge.ranking import RetrievalReport, SettingReport, evaluate_revisited
from aml_edge.scales import SINGLE_SCALE, Scales
from aml_edge.space import require_same_space

BLOCK_ROWS = 8192
"""Database rows that are copied into memory at once."""


@dataclass(frozen=True)
class RetrievalRow:
    """How well one side's queries were answered by another side's database.

    Args:
        queries, database: what embedded them, in a word or two, e.g. ``"student"`` and ``"teacher"``.
        report: the three settings.
        easy_interval, medium_interval, hard_interval: of mAP, 95 % over queries; None where no query has a positive.
        query_scales, database_scales: at which each side saw an image.
        whitening: whose whitening the database's embeddings went through, ``"teacher"`` or ``"student"``.
        whitening_sha256: of that whitening.
        index: folder of the index, where the database is one.
    """

    queries: str
    database: str
    report: RetrievalReport
    easy_interval: Interval | None
    medium_interval: Interval | None
    hard_interval: Interval | None
    query_scales: Scales = SINGLE_SCALE
    database_scales: Scales = SINGLE_SCALE
    whitening: str | None = None
    whitening_sha256: str | None = None
    index: Path | None = None

    @property
    def name(self) -> str:
        """Queries and database in one, for a table."""
        return f"{self.queries} → {self.database}"

    @property
    def settings(self) -> tuple[tuple[str, SettingReport, Interval | None], ...]:
        """(name, report, interval of mAP) of each setting."""
        return (
            ("easy", self.report.easy, self.easy_interval),
            ("medium", self.report.medium, self.medium_interval),
            ("hard", self.report.hard, self.hard_interval),
        )


def evaluate_contestants(
    contestants: Contestants,
    databases: Sequence[TeacherIndex],
    dataset: RetrievalDataset,
    *,
    progress: Progress | None = None,
) -> tuple[RetrievalRow, ...]:
    """Returns the rows teacher → teacher, student → student, student → teacher, file → teacher, as far as given.

    Args:
        contestants: who asks, at which scales.
        databases: the teacher's indexes of the data set, which differ in scales or whitening.
        dataset: queries, database and ground truth.
        progress: where the work is announced.

    Raises:
        SpaceMismatchError: one of them lives in another space than the indexes; said before anything is embedded.
        TeacherIndexError: an index lacks images of the data set, or holds an embedding of one that cannot be.
        ImageBatchError: images cannot be read; all of them are listed.
    """
    for database in databases:
        database.rows_of(dataset.database_ids)
    planned = pairings(contestants, databases)
    with closing(EmbeddedSides(dataset, progress or SilentProgress())) as sides:
        for pairing in planned:
            sides.open(pairing.queries)
        return tuple(_row(pairing, sides, dataset) for pairing in planned)


def evaluate_retrieval(
    query_embedder: Embedder,
    database: TeacherIndex | Embedder,
    dataset: RetrievalDataset,
    *,
    name: str = "queries",
    progress: Progress | None = None,
) -> RetrievalReport:
    """Returns how well a data set's queries are answered.

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
        UsageError: a query's embedding is not finite.
    """
    progress = progress or SilentProgress()
    right = f"the index {database.path}" if isinstance(database, TeacherIndex) else "the database"
    require_same_space(query_embedder.space, database.space, left_name=name, right_name=right)
    queries = embed_queries(query_embedder, dataset, name=name, progress=progress)
    if isinstance(database, TeacherIndex):
        return _ranked(queries, database, dataset)
    return _ranked(queries, embed_database(database, dataset, progress=progress, said=name), dataset)


def retrieval_row(queries: str, database: str, report: RetrievalReport) -> RetrievalRow:
    """Returns a report with the names of its two sides and a 95 % bootstrap interval of each mAP."""
    easy, medium, hard = (_interval(setting) for setting in (report.easy, report.medium, report.hard))
    return RetrievalRow(queries, database, report, easy, medium, hard)


def _row(pairing: Pairing, sides: EmbeddedSides, dataset: RetrievalDataset) -> RetrievalRow:
    asking, database, whitening = pairing.queries, pairing.database, pairing.whitening
    queries = _followed(sides.queries(asking), whitening)
    if isinstance(database, TeacherIndex):
        report = _ranked(queries, database, dataset)
        name, folder, sha256 = TEACHER, database.path, database.space.whitening_sha256
    else:
        report = _ranked(queries, _followed(sides.database(database), whitening), dataset)
        name, folder, sha256 = database.name, None, None if whitening is None else whitening.sha256
    return replace(
        retrieval_row(asking.name, name, report),
        query_scales=asking.scales,
        database_scales=database.scales,
        whitening=None if sha256 is None else name,
        whitening_sha256=sha256,
        index=folder,
    )


def _followed(rows: Embeddings, whitening: Whitening | None) -> Embeddings:
    return rows if whitening is None else whitened_rows(rows, whitening)


def _ranked(queries: Embeddings, database: TeacherIndex | Embeddings, dataset: RetrievalDataset) -> RetrievalReport:
    """Returns how the queries rank the data set's database: its rows of an index, or all rows of an array."""
    if isinstance(database, TeacherIndex):
        return _ranked_rows(queries, database.checked_embeddings, database.rows_of(dataset.database_ids), dataset)
    return _ranked_rows(queries, database, np.arange(len(database)), dataset)


def _ranked_rows(
    queries: Embeddings, embeddings: CheckedRows | Embeddings, rows: npt.NDArray[np.intp], dataset: RetrievalDataset
) -> RetrievalReport:
    similarities = np.empty((len(queries), len(rows)), np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        similarities[:, start : start + BLOCK_ROWS] = queries @ embeddings[block].T
    return evaluate_revisited(similarities, dataset.ground_truth)


def _interval(setting: SettingReport) -> Interval | None:
    values = np.array(setting.average_precisions)
    present = values[~np.isnan(values)]
    return bootstrap_mean(present) if len(present) else None
