"""`aml-edge eval`: symmetric and asymmetric mAP on a data set with ground truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, write_json

if TYPE_CHECKING:
    from aml_edge.evaluation import Contestants, RetrievalRow


@dataclass(frozen=True)
class EvaluationReport:
    """What `aml-edge eval` writes.

    Args:
        index: its folder.
        space_fingerprint: of the index.
        dataset: its name.
        database_images: of the data set.
        rows: what was evaluated.
    """

    index: Path
    space_fingerprint: str
    dataset: str
    database_images: int
    rows: tuple[RetrievalRow, ...]


def evaluate(
    *,
    index: Annotated[Path, typer.Option(help="The teacher's index of the data set.")],
    dataset: Annotated[Path, typer.Option(help="A data set in the revisited layout: gnd_NAME.pkl beside jpg/.")],
    student: Annotated[
        str | None, typer.Option(help="A checkpoint, run or name; the newest run's if nothing is named.")
    ] = None,
    artifact: Annotated[Path | None, typer.Option(help="An exported file.")] = None,
    teacher: Annotated[str | None, typer.Option(help="The teacher, to see what its own queries reach.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Longest side that the student sees, px; its own.")] = None,
    json_target: JsonOption = None,
) -> None:
    """Measure how well a student's queries find images: in its own database, and in the teacher's index."""
    from aml_edge.cli.retrieval_table import retrieval_table
    from aml_edge.datasets.revisited import load_revisited
    from aml_edge.evaluation import Contestants, evaluate_contestants
    from aml_edge.formats import read_artifact
    from aml_edge.index import open_index
    from aml_edge.networks.released import resolve_student, resolve_teacher

    console = console_for(json_target)
    opened, data = open_index(index), load_revisited(dataset)
    named_another = artifact is not None or teacher is not None
    before = opened.space_before_whitening
    contestants = Contestants(
        student=None if named_another and student is None else resolve_student(student, space=before),
        artifact=None if artifact is None else read_artifact(artifact),
        teacher=None if teacher is None else resolve_teacher(teacher),
        image_side_px=image_size,
    )
    rows = evaluate_contestants(contestants, opened, data, progress=ConsoleProgress(console))
    for line in _who_asks(contestants):
        console.print(line, soft_wrap=True)
    console.print(retrieval_table(rows))
    report = EvaluationReport(index, opened.space.fingerprint, data.name, len(data.database_ids), rows)
    write_json(report, json_target)


def _who_asks(contestants: Contestants) -> Iterator[str]:
    """Yields what student and file are, and the pixels that each sees: they differ, so their mAPs do."""
    from aml_edge.querying import sized

    student, artifact = contestants.student, contestants.artifact
    if student is not None:
        own = sized(student.preprocessing, contestants.image_side_px)
        yield f"student: {escape(student.name)} ({student.weights_sha256[:8]}), {own.image_side_px} px, {own.fit} fit"
    if artifact is not None:
        files, verdict = artifact.manifest.preprocessing, artifact.manifest.verdict
        yield f"file: {escape(str(artifact.path))}, {files.image_side_px} px, {files.fit} fit, {verdict}"
