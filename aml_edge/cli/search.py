"""`aml-edge search`: what a phone's query would find in the teacher's index."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, write_json
from aml_edge.errors import UsageError
from aml_edge.progress import SayingProgress
from aml_edge.scales import SINGLE_SCALE, Scales, describe_scales

if TYPE_CHECKING:
    from aml_edge.embedder import Embedder
    from aml_edge.index import TeacherIndex


@dataclass(frozen=True)
class FoundImage:
    """One answer: its rank from 1, its id in the index, and the cosine to the query."""

    rank: int
    id: str
    similarity: float


@dataclass(frozen=True)
class Answer:
    """What one image found, nearest first."""

    image: Path
    found: tuple[FoundImage, ...]


def search(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Image files, one query each.")],
    *,
    index: Annotated[Path, typer.Option(help="The teacher's index.")],
    artifact: Annotated[Path | None, typer.Option(help="An exported file, as a phone would run it.")] = None,
    student: Annotated[
        str | None, typer.Option(help="A checkpoint, a run, or aml:NAME for a released one, instead of a file.")
    ] = None,
    runtime: Annotated[str | None, typer.Option(help="What runs the file; its format's default.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many images to find.")] = 10,
    json_target: JsonOption = None,
) -> None:
    """Find the images of a teacher's index that are nearest to a query."""
    from aml_edge.index import open_index

    console = console_for(json_target)
    opened = open_index(index)
    opened_embedder, who = _open(opened, artifact, student, runtime, ConsoleProgress(console))
    with closing(opened_embedder) as embedder:
        answers = find(images, embedder, opened, k)
    console.print(f"queries by {escape(who)}", soft_wrap=True)
    for answer in answers:
        console.print(f"[bold]{escape(str(answer.image))}[/]", soft_wrap=True)
        console.print(_table(answer))
    write_json(answers, json_target)


def find(images: list[Path], embedder: Embedder, index: TeacherIndex, k: int) -> tuple[Answer, ...]:
    """Returns what each image finds; images that cannot be read end the search with an error that names them all."""
    from aml_edge.image_loading import ImageItem, embed_items
    from aml_edge.search import top_k

    absent = [str(image) for image in images if not image.exists()]
    if absent:
        raise UsageError(f"{', '.join(absent)} {'do' if len(absent) > 1 else 'does'} not exist; name image files.")
    queries = embed_items(embedder, [ImageItem(image) for image in images])
    result = top_k(queries, index.checked_embeddings, k)
    return tuple(
        Answer(
            image,
            tuple(
                FoundImage(rank, index.ids[row], similarity)
                for rank, (row, similarity) in enumerate(zip(rows, similarities, strict=True), start=1)
            ),
        )
        for image, rows, similarities in zip(images, result.rows.tolist(), result.similarities.tolist(), strict=True)
    )


def _open(
    index: TeacherIndex, artifact: Path | None, student: str | None, runtime: str | None, progress: SayingProgress
) -> tuple[Embedder, str]:
    """Returns what embeds the queries, and what it is in a few words."""
    from aml_edge.formats import read_artifact
    from aml_edge.networks.released import resolve_student
    from aml_edge.querying import artifact_queries, student_queries

    if artifact is not None:
        if student is not None:
            raise UsageError("`artifact` and `student` are both given, but one of them embeds a query; give one.")
        file = read_artifact(artifact)
        who = f"file {file.path}, {file.standing}{_scales_said(SINGLE_SCALE, index)}"
        return artifact_queries(file, index, runtime=runtime), who
    if runtime is not None:
        raise UsageError(f"`runtime` is {runtime!r}, but a student runs in PyTorch; give a file with --artifact.")
    checkpoint = resolve_student(student, space=index.space_before_whitening, progress=progress)
    who = f"student {checkpoint.name} ({checkpoint.weights_sha256[:8]}){_scales_said(index.scales, index)}"
    return student_queries(checkpoint, index), who


def _scales_said(scales: Scales, index: TeacherIndex) -> str:
    """Returns what there is to say of the scales of a query and of the index, beyond one each."""
    if scales == index.scales == SINGLE_SCALE:
        return ""
    asked, stored = describe_scales(scales), describe_scales(index.scales)
    return f", at scale {asked}" if asked == stored else f", at scale {asked}; the index at {stored}"


def _table(answer: Answer) -> Table:
    table = Table(header_style="bold")
    table.add_column("rank", justify="right")
    table.add_column("image", overflow="fold")
    table.add_column("cosine", justify="right")
    for one in answer.found:
        table.add_row(str(one.rank), escape(one.id), f"{one.similarity:.4f}")
    return table
