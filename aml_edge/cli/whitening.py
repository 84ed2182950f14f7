"""`aml-edge whitening`: learn the whitening that follows a teacher, or a student alone."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, write_json
from aml_edge.cli.option_groups import with_option_groups
from aml_edge.errors import UsageError
from aml_edge.networks.whitening_record import WhiteningKind, WhiteningRecord
from aml_edge.scales import scales_of
from aml_edge.space import EmbeddingSpace

if TYPE_CHECKING:
    from aml_edge.networks.whitening_file import WhiteningCheckpoint
    from aml_edge.progress import SayingProgress
    from aml_edge.whitening_building import NetworkRows, WhiteningImages

_REGULARISED = (
    "[yellow]images that match differ in fewer directions than the embeddings have:[/] {:g} was added to their "
    "covariance, as published. Compare with no whitening, with a larger --regularisation, and with more images."
)


@dataclass(frozen=True)
class LearningOptions:
    """How it is learned."""

    kind: Annotated[WhiteningKind, typer.Option(help="From pairs of images that match, or without labels.")] = (
        WhiteningKind.LEARNED
    )
    dimension: Annotated[int | None, typer.Option(help="Of whitened embeddings; as many as before.")] = None
    regularisation: Annotated[
        float, typer.Option(help="Added to the covariance of pairs; 0 is raised to 1e-10 or more where it must be.")
    ] = 0.0


@dataclass(frozen=True)
class NetworkOptions:
    """Whose embeddings it follows."""

    index: Annotated[
        Path | None, typer.Option(help="The teacher's index of the images, for a whitening of the teacher.")
    ] = None
    student: Annotated[
        str | None, typer.Option(help="A checkpoint, a run, or aml:NAME for a released one: its own whitening.")
    ] = None
    image_size: Annotated[int | None, typer.Option(help="Longest side that the student sees, px; its own.")] = None
    scales: Annotated[
        str | None, typer.Option(help="At which the student sees an image; published is 1, 0.7071, 0.5.")
    ] = None


@dataclass(frozen=True)
class WhiteningReport:
    """What `aml-edge whitening` writes.

    Args:
        path: the file.
        whitening: where it comes from.
        dimension_before, dimension: of an embedding.
        space, fingerprint: what it leads to.
    """

    path: Path
    whitening: WhiteningRecord
    dimension_before: int
    dimension: int
    space: EmbeddingSpace
    fingerprint: str


@with_option_groups
def whitening(
    *,
    network: NetworkOptions,
    data: Annotated[Path, typer.Option(help="The images: a training set in the SfM layout; for PCA any folder.")],
    out: Annotated[Path, typer.Option(help="The file to write, e.g. whitening.safetensors.")],
    learning: LearningOptions,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    json_target: JsonOption = None,
) -> None:
    """Learn a whitening; `index build --whitening` writes it into the space of an index."""
    from aml_edge.networks.whitening_file import save_whitening
    from aml_edge.whitening_building import WhiteningOptions, build_whitening, whitening_images

    console = console_for(json_target)
    progress = ConsoleProgress(console)
    _require_free(out, overwrite=overwrite)
    options = WhiteningOptions(learning.kind, learning.dimension, learning.regularisation)
    images = whitening_images(data, options.kind)
    checkpoint = build_whitening(images, _embedded(network, images, progress), options, progress=progress)
    save_whitening(checkpoint, out)
    report = _report_of(checkpoint, out)
    _print_report(report, console)
    if checkpoint.record.regularisation > learning.regularisation:
        console.print(_REGULARISED.format(checkpoint.record.regularisation), soft_wrap=True)
    write_json(report, json_target)


def _require_free(out: Path, *, overwrite: bool) -> None:
    if out.is_dir():
        raise UsageError(f"`out` is {out}, which is a folder; name a file in it.")
    if out.exists() and not overwrite:
        raise UsageError(f"`out` is {out}, which is there already; name another file, or pass --overwrite.")


def _embedded(network: NetworkOptions, images: WhiteningImages, progress: SayingProgress) -> NetworkRows:
    from aml_edge.index import open_index
    from aml_edge.networks.released import resolve_student
    from aml_edge.querying import sized
    from aml_edge.runtimes.checkpoint_embedders import student_embedder
    from aml_edge.whitening_building import rows_of_index, rows_of_student

    if (network.index is None) == (network.student is None):
        raise UsageError("give `--index` for a teacher's whitening or `--student` for a student's own; one of the two.")
    if network.index is not None:
        if network.image_size is not None or network.scales is not None:
            raise UsageError(
                "`--image-size` and `--scales` are the student's, and `--index` was given, which holds embeddings; "
                "leave them out, or build the index with them."
            )
        return rows_of_index(open_index(network.index), images.ids)
    student = resolve_student(network.student, progress=progress)
    shares = scales_of("1" if network.scales is None else network.scales)
    preprocessing = sized(student.preprocessing, network.image_size)
    with closing(student_embedder(student, preprocessing, scales=shares)) as embedder:
        return rows_of_student(student, embedder, images.items, progress=progress)


def _report_of(checkpoint: WhiteningCheckpoint, path: Path) -> WhiteningReport:
    return WhiteningReport(
        path=path,
        whitening=checkpoint.record,
        dimension_before=checkpoint.record.space.dimension,
        dimension=checkpoint.whitening.dimension,
        space=checkpoint.space,
        fingerprint=checkpoint.space.fingerprint,
    )


def _print_report(report: WhiteningReport, console: Console) -> None:
    record = report.whitening
    pairs = "" if record.pairs is None else f"{record.pairs} pairs of "
    console.print(f"[bold]{escape(str(report.path))}[/]", soft_wrap=True)
    for name, value in (
        ("whitening", f"{record.kind}, {report.dimension_before}-D to {report.dimension}-D"),
        ("SHA-256", record.whitening_sha256),
        ("learned from", f"{pairs}{record.rows} images of {record.dataset}"),
        ("follows", record.describe()),
        ("space", report.space.describe()),
        ("fingerprint", report.fingerprint),
    ):
        console.print(f"{name:<12}  {escape(value)}", soft_wrap=True)
