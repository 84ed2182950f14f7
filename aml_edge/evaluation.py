"""Symmetric and asymmetric testing on a data set in the revisited layout.

Symmetric: one network embeds queries and database. Asymmetric: a student, or the file made from it, embeds the queries
and the teacher's index is the database.

Source: Budnik and Avrithis, "Asymmetric metric learning for knowledge transfer", CVPR 2021, section 3.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from aml_edge.artifact import Artifact
from aml_edge.bootstrap import Interval, bootstrap_mean
from aml_edge.datasets.revisited import RevisitedDataset
from aml_edge.embedder import Embedder
from aml_edge.errors import UsageError
from aml_edge.image_loading import embed_items
from aml_edge.index import TeacherIndex
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint
from aml_edge.progress import Progress, SilentProgress
from aml_edge.querying import artifact_queries, sized, student_queries, teacher_queries
from aml_edge.ranking import RetrievalReport, SettingReport, evaluate_revisited
from aml_edge.runtimes.checkpoint_embedders import student_embedder
from aml_edge.space import require_same_space

BLOCK_ROWS = 8192
"""Database rows that are copied into memory at once."""
STUDENT, TEACHER, FILE = "student", "teacher", "file"


@dataclass(frozen=True)
class RetrievalRow:
    """How well one side's queries were answered by another side's database.

    Args:
        queries, database: what embedded them, in a word or two, e.g. ``"student"`` and ``"teacher"``.
        report: the three settings.
        easy_interval, medium_interval, hard_interval: of mAP, 95 % over queries; None where no query has a positive.
    """

    queries: str
    database: str
    report: RetrievalReport
    easy_interval: Interval | None
    medium_interval: Interval | None
    hard_interval: Interval | None

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


@dataclass(frozen=True)
class Contestants:
    """What is evaluated against a teacher's index; None leaves its rows out.

    Args:
        student: alone, and against the index.
        artifact: a file, against the index.
        teacher: against its own index.
        image_side_px: longest side of what the student sees; its own where None.
    """

    student: StudentCheckpoint | None = None
    artifact: Artifact | None = None
    teacher: TeacherCheckpoint | None = None
    image_side_px: int | None = None


def evaluate_contestants(
    contestants: Contestants, index: TeacherIndex, dataset: RevisitedDataset, *, progress: Progress | None = None
) -> tuple[RetrievalRow, ...]:
    """Returns the rows teacher → teacher, student → student, student → teacher, file → teacher, as far as given.

    Raises:
        SpaceMismatchError: one of them lives in another space than the index; said before anything is embedded.
        TeacherIndexError: the index lacks images of the data set.
        ImageBatchError: images cannot be read; all of them are listed.
    """
    index.rows_of(dataset.database_ids)
    pairs: list[tuple[str, Embedder, str, Embedder | TeacherIndex]] = []
    with ExitStack() as opened:
        if contestants.teacher is not None:
            pairs.append((TEACHER, teacher_queries(contestants.teacher, index), TEACHER, index))
        if contestants.student is not None:
            asking = student_queries(contestants.student, index, image_side_px=contestants.image_side_px)
            alone = student_embedder(
                contestants.student, sized(contestants.student.preprocessing, contestants.image_side_px)
            )
            pairs += [(STUDENT, alone, STUDENT, alone), (STUDENT, asking, TEACHER, index)]
        if contestants.artifact is not None:
            pairs.append((FILE, artifact_queries(contestants.artifact, index), TEACHER, index))
        for _, embedder, _, _ in pairs:
            opened.callback(embedder.close)
        return tuple(
            retrieval_row(
                queries, database, evaluate_retrieval(embedder, embedded, dataset, name=queries, progress=progress)
            )
            for queries, embedder, database, embedded in pairs
        )


def evaluate_retrieval(
    query_embedder: Embedder,
    database: TeacherIndex | Embedder,
    dataset: RevisitedDataset,
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
        TeacherIndexError: the index lacks images of the data set.
        ImageBatchError: images cannot be read; all of them are listed.
        UsageError: a query's embedding is not finite.
    """
    progress = progress or SilentProgress()
    right = f"the index {database.path}" if isinstance(database, TeacherIndex) else "the database"
    require_same_space(query_embedder.space, database.space, left_name=name, right_name=right)
    queries = embed_items(query_embedder, dataset.query_items, progress=progress, description=f"queries, {name}")
    broken = np.flatnonzero(~np.isfinite(queries).all(axis=1))
    if len(broken):
        raise UsageError(
            f"{name} gives {len(broken)} of {len(queries)} queries an embedding that is not finite, the first to "
            f"{dataset.query_items[broken[0]].path}; there is no ranking of those: train or export it again."
        )
    if isinstance(database, TeacherIndex):
        embeddings, rows = database.embeddings, database.rows_of(dataset.database_ids)
    else:
        described = f"database, {name}"
        embeddings = embed_items(database, dataset.database_items, progress=progress, description=described)
        rows = np.arange(len(embeddings))
    similarities = np.empty((len(queries), len(rows)), np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        similarities[:, start : start + BLOCK_ROWS] = queries @ embeddings[block].T
    return evaluate_revisited(similarities, dataset.ground_truth)


def retrieval_row(queries: str, database: str, report: RetrievalReport) -> RetrievalRow:
    """Returns a report with the names of its two sides and a 95 % bootstrap interval of each mAP."""
    easy, medium, hard = (_interval(setting) for setting in (report.easy, report.medium, report.hard))
    return RetrievalRow(queries, database, report, easy, medium, hard)


def _interval(setting: SettingReport) -> Interval | None:
    values = np.array(setting.average_precisions)
    present = values[~np.isnan(values)]
    return bootstrap_mean(present) if len(present) else None
