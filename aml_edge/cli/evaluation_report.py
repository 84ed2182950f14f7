"""What `aml-edge eval` prints and writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from aml_edge.protocol import Protocol
from aml_edge.scales import Scales, describe_scales

if TYPE_CHECKING:
    from aml_edge.contestants import Contestants
    from aml_edge.datasets.retrieval_dataset import RetrievalDataset
    from aml_edge.evaluated_rows import MeasuredRow, RetrievalRow
    from aml_edge.index import TeacherIndex


@dataclass(frozen=True)
class EvaluatedIndex:
    """An index that was asked.

    Args:
        path: its folder.
        space_fingerprint: of its space.
        image_side_px, scales, fit: as the teacher saw each image.
        whitening_sha256: of the whitening that it was built with.
        count: of its rows.
    """

    path: Path
    space_fingerprint: str
    image_side_px: int
    fit: str
    scales: Scales
    whitening_sha256: str | None
    count: int


@dataclass(frozen=True)
class EvaluationReport:
    """What `aml-edge eval` writes.

    Args:
        indexes: what was asked.
        distractors: what followed the data set's rows of the indexes that were made alike.
        dataset: its name.
        protocol: how answers are judged.
        queries, database_images: of the data set.
        rows: what was evaluated.
    """

    indexes: tuple[EvaluatedIndex, ...]
    distractors: tuple[EvaluatedIndex, ...]
    dataset: str
    protocol: Protocol
    queries: int
    database_images: int
    rows: Sequence[RetrievalRow | MeasuredRow]


def report_of_rows(
    rows: Sequence[RetrievalRow | MeasuredRow],
    dataset: RetrievalDataset,
    indexes: Sequence[TeacherIndex],
    distractors: Sequence[TeacherIndex],
) -> EvaluationReport:
    """Returns the report of what was evaluated."""
    return EvaluationReport(
        indexes=tuple(_evaluated(one) for one in indexes),
        distractors=tuple(_evaluated(one) for one in distractors),
        dataset=dataset.name,
        protocol=dataset.protocol,
        queries=len(dataset.query_items),
        database_images=len(dataset.database_ids),
        rows=rows,
    )


def print_evaluation(report: EvaluationReport, contestants: Contestants, console: Console) -> None:
    """Prints who asked what, and the table of how well that was answered."""
    from aml_edge.cli.retrieval_table import approximation_table, measures_table, retrieval_table
    from aml_edge.evaluated_rows import MeasuredRow, RetrievalRow

    for line in _who_asks(contestants):
        console.print(line, soft_wrap=True)
    for index in report.indexes:
        console.print(f"index: {_said(index)}", soft_wrap=True)
    for index in report.distractors:
        console.print(f"distractors: {_said(index)}, {index.count} images", soft_wrap=True)
    alone = dict.fromkeys(row.name for row in report.rows if not row.distractors)
    if report.distractors and alone:
        console.print(
            f"[yellow]{escape(', '.join(alone))}: on the data set's own {report.database_images} images alone, since "
            "no index of the distractors was made as its database is.[/]",
            soft_wrap=True,
        )
    settings = [row for row in report.rows if isinstance(row, RetrievalRow)]
    measured = [row for row in report.rows if isinstance(row, MeasuredRow)]
    console.print(measures_table(measured) if measured else retrieval_table(settings))
    if any(row.approximation is not None for row in report.rows):
        console.print("", approximation_table(report.rows))


def _who_asks(contestants: Contestants) -> Iterator[str]:
    """Yields what student and file are, and the pixels that each sees: they differ, so their mAPs do."""
    from aml_edge.querying import sized

    student, artifact = contestants.student, contestants.artifact
    if student is not None:
        own = sized(student.preprocessing, contestants.image_side_px)
        yield f"student: {escape(student.name)} ({student.weights_sha256[:8]}), {own.image_side_px} px, {own.fit} fit"
    if artifact is not None:
        files = artifact.manifest.preprocessing
        yield f"file: {escape(str(artifact.path))}, {files.image_side_px} px, {files.fit} fit, {artifact.standing}"


def _said(index: EvaluatedIndex) -> str:
    built = "no whitening" if index.whitening_sha256 is None else f"whitening {index.whitening_sha256[:8]}"
    scales = describe_scales(index.scales)
    at = f"scale {scales}" if len(index.scales) == 1 else f"scales {scales}"
    return f"{escape(str(index.path))}, {index.image_side_px} px, {index.fit} fit, {at}, {built}"


def _evaluated(index: TeacherIndex) -> EvaluatedIndex:
    return EvaluatedIndex(
        path=index.path,
        space_fingerprint=index.space.fingerprint,
        image_side_px=index.preprocessing.image_side_px,
        fit=str(index.preprocessing.fit),
        scales=index.scales,
        whitening_sha256=index.space.whitening_sha256,
        count=len(index.ids),
    )
