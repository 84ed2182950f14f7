"""`aml-edge eval`: symmetric and asymmetric mAP on a data set with ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aml_edge.cli.ann_options import SearchOptions
from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, write_json
from aml_edge.cli.option_groups import with_option_groups
from aml_edge.errors import UsageError
from aml_edge.progress import SayingProgress
from aml_edge.scales import Scales, scales_of

if TYPE_CHECKING:
    from aml_edge.contestants import Contestants
    from aml_edge.index import TeacherIndex
    from aml_edge.networks.checkpoints import TeacherCheckpoint


@dataclass(frozen=True)
class ContestantOptions:
    """Who asks, and what is done to what they embed."""

    student: Annotated[
        str | None, typer.Option(help="A checkpoint, a run, or aml:NAME for a released one; the newest run's.")
    ] = None
    artifact: Annotated[Path | None, typer.Option(help="An exported file.")] = None
    teacher: Annotated[
        str | None, typer.Option(help="The teacher, as for index build: what its own queries reach.")
    ] = None
    image_size: Annotated[int | None, typer.Option(help="Longest side that the student sees, px; its own.")] = None
    scales: Annotated[
        list[str] | None,
        typer.Option(
            help="At which student and teacher see a query, and the student its own database: published is 1, 0.7071, "
            "0.5 and their mean; those of the index. Give it again for further rows."
        ),
    ] = None
    student_whitening: Annotated[
        Path | None, typer.Option(help="The student's own, aml:NAME/whitening if released: further rows of it alone.")
    ] = None


@dataclass(frozen=True)
class DatabaseOptions:
    """What is asked, besides the student's own database."""

    index: Annotated[
        list[Path] | None,
        typer.Option(
            help="The teacher's index of the data set. Give it again for one of other scales; leave it out for a "
            "student that was trained alone."
        ),
    ] = None
    distractors: Annotated[
        list[Path] | None,
        typer.Option(
            help="The teacher's index of images that answer no query, e.g. of R1M, to follow the data set's; give it "
            "again for more."
        ),
    ] = None
    whitening: Annotated[
        str | None,
        typer.Option(help="A whitening's file, or one that came with the teacher, for an index without: further rows."),
    ] = None


@with_option_groups
def evaluate(
    *,
    dataset: Annotated[Path, typer.Option(help="A data set with queries: `aml-edge data info` says what a folder is.")],
    subset: Annotated[str | None, typer.Option(help="Of its queries, where they are published in parts.")] = None,
    asked: DatabaseOptions,
    options: ContestantOptions,
    search: SearchOptions,
    json_target: JsonOption = None,
) -> None:
    """Measure how well a student's queries find images: in its own database, and in the teacher's index."""
    from aml_edge.cli.evaluation_report import print_evaluation, report_of_rows
    from aml_edge.datasets.loading import load_test_set
    from aml_edge.evaluation import evaluate_contestants, measure_contestants
    from aml_edge.index import open_index
    from aml_edge.protocol import Protocol

    console = console_for(json_target)
    progress = ConsoleProgress(console)
    indexes, further = ([open_index(path) for path in paths or ()] for paths in (asked.index, asked.distractors))
    data = load_test_set(dataset, subset, progress=progress)
    _require_enough(indexes, asked, options)
    _require_different(indexes)
    searches = search.searches()
    if searches.specs and not indexes:
        raise UsageError(f"`ann` is '{searches.specs[0]}', but no index is given that has it; add --index.")
    contestants = _contestants(options, indexes[0] if indexes else None, progress)
    databases, distractors = (_databases(some, asked.whitening, contestants.teacher) for some in (indexes, further))
    run = evaluate_contestants if data.protocol is Protocol.REVISITED else measure_contestants
    rows = run(contestants, databases, data, distractors=distractors, searches=searches, progress=progress)
    report = report_of_rows(rows, data, indexes, further)
    print_evaluation(report, contestants, console)
    write_json(report, json_target)


def _contestants(options: ContestantOptions, index: TeacherIndex | None, progress: SayingProgress) -> Contestants:
    """Returns who was named, or the newest run's student where nobody was."""
    from aml_edge.contestants import Contestants
    from aml_edge.formats import read_artifact
    from aml_edge.index.whitening import resolve_student_whitening
    from aml_edge.networks.released import resolve_student, resolve_teacher

    scales = tuple(dict.fromkeys(scales_of(text) for text in options.scales or ()))
    named_another = options.artifact is not None or options.teacher is not None
    if options.image_size is not None and options.student is None and named_another:
        raise UsageError(
            f"`image_size` is {options.image_size}, but it is the student's, and none is evaluated: a file has one "
            "size, and the teacher that of its index; leave it out, or add --student."
        )
    # The teacher first: with its weights at hand a released student's space is known, and not taken on trust.
    teacher = None if options.teacher is None else resolve_teacher(options.teacher, progress=progress)
    student = None
    if options.student is not None or not named_another:
        space = None if index is None else index.space_before_whitening
        student = resolve_student(options.student, space=space, progress=progress)
    own = options.student_whitening
    if own is not None and student is None:
        raise UsageError(f"`student_whitening` is '{own}', but no student is evaluated; add --student.")
    if scales and student is None and options.teacher is None:
        raise UsageError("`scales` are given, but a file sees an image at one scale; add --student or --teacher.")
    layer = None
    if own is not None and student is not None:
        layer = resolve_student_whitening(own, student, progress=progress)
    return Contestants(
        student=student,
        artifact=None if options.artifact is None else read_artifact(options.artifact),
        teacher=teacher,
        image_side_px=options.image_size,
        scales=scales,
        student_whitening=layer,
    )


def _databases(
    indexes: Sequence[TeacherIndex], whitening: str | None, teacher: TeacherCheckpoint | None
) -> tuple[TeacherIndex, ...]:
    """Returns the indexes, and after each what it becomes with a whitening where one is given."""
    from aml_edge.index.whitening import resolve_index_whitening, whitened_index

    if whitening is None:
        return tuple(indexes)
    layers = [resolve_index_whitening(whitening, index, teacher) for index in indexes]
    pairs = zip(indexes, layers, strict=True)
    return tuple(database for index, layer in pairs for database in (index, whitened_index(index, layer)))


def _require_enough(indexes: Sequence[TeacherIndex], asked: DatabaseOptions, options: ContestantOptions) -> None:
    """Raises `UsageError` where something is to be compared with an index and there is none."""
    given = {"teacher": options.teacher, "artifact": options.artifact, "whitening": asked.whitening}
    for name, value in given.items():
        if not indexes and value is not None:
            raise UsageError(f"`{name}` is '{value}', but no index is given to compare it with; add --index.")


def _require_different(indexes: Sequence[TeacherIndex]) -> None:
    """Raises `UsageError` where two indexes could not be told apart in the table."""
    seen: dict[tuple[Scales, str | None], Path] = {}
    for one in indexes:
        first = seen.setdefault((one.scales, one.space.whitening_sha256), one.path)
        if first is not one.path:
            raise UsageError(
                f"`index` is {first} and {one.path}, which have the same scales and whitening; "
                "rows could not be told apart: evaluate them one by one."
            )
