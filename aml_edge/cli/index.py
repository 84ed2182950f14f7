"""`aml-edge index`: build a teacher's index of images, say what is in one, and whether that is what was built."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, write_json
from aml_edge.preprocessing import Preprocessing
from aml_edge.scales import Scales, describe_scales, scales_of
from aml_edge.space import EmbeddingSpace

if TYPE_CHECKING:
    from aml_edge.index import TeacherIndex

app = typer.Typer(help="Build a teacher's index of images, look at one, or check one.", no_args_is_help=True)


@dataclass(frozen=True)
class IndexReport:
    """What an index is.

    Args:
        path: its folder.
        space, fingerprint: what its embeddings live in.
        count, dimension, dtype: of the embeddings.
        size_bytes: of all files.
        preprocessing: of the teacher's images.
        scales: at which the teacher saw each of them.
        median_pair_distance: of at most 512 rows, 1 − cosine; nearly 0 where the teacher tells nothing apart.
        skipped: ids of images that could not be read.
    """

    path: Path
    space: EmbeddingSpace
    fingerprint: str
    count: int
    dimension: int
    dtype: str
    size_bytes: int
    preprocessing: Preprocessing
    scales: Scales
    median_pair_distance: float
    skipped: tuple[str, ...]


@app.command()
def build(
    *,
    teacher: Annotated[
        str, typer.Option(help="A teacher's file, gem:NAME for a released one, or imagenet:efficientnet_lite2.")
    ],
    images: Annotated[Path, typer.Option(help="A folder of images, or a data set in a published layout.")],
    out: Annotated[Path, typer.Option(help="The index's folder; OUT.partial beside it until it is done.")],
    image_size: Annotated[int | None, typer.Option(help="Longest side of an image, px; the teacher's own.")] = None,
    scales: Annotated[
        str, typer.Option(help="At which the teacher sees an image; published: 1, 0.7071, 0.5 and their mean.")
    ] = "1",
    whitening: Annotated[str | None, typer.Option(help="A whitening's file, or one that came with it.")] = None,
    device: Annotated[str, typer.Option(help="Where PyTorch runs: cpu, cuda.")] = "cpu",
    skip_unreadable: Annotated[bool, typer.Option("--skip-unreadable", help="Leave such images out.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away an unfinished build.")] = False,
    json_target: JsonOption = None,
) -> None:
    """Embed images with the teacher; the same command goes on where one was interrupted."""
    from aml_edge.datasets.image_source import image_source
    from aml_edge.index.building import IndexOptions, build_index
    from aml_edge.networks.released import resolve_teacher, resolve_whitening
    from aml_edge.networks.whitening_names import whitening_name
    from aml_edge.querying import sized
    from aml_edge.runtimes.checkpoint_embedders import teacher_embedder

    console, shares = console_for(json_target), scales_of(scales)
    progress = ConsoleProgress(console)
    source, checkpoint = image_source(images), resolve_teacher(teacher, progress=progress)
    layer = None
    if whitening is not None:
        layer = resolve_whitening(whitening_name(whitening, checkpoint, shares), checkpoint)
    preprocessing = sized(checkpoint.preprocessing, image_size)
    embedder = teacher_embedder(checkpoint, preprocessing, whitening=layer, scales=shares, device=device)
    console.print(f"{len(source.ids)} images: {source.kind}, {escape(str(source.root))}", soft_wrap=True)
    options = IndexOptions(layer, shares, skip_unreadable=skip_unreadable, restart=restart)
    report = report_of(build_index(embedder, source, out, options, progress=progress))
    _print_report(report, console)
    write_json(report, json_target)


@app.command()
def info(path: Annotated[Path, typer.Argument(metavar="INDEX")], *, json_target: JsonOption = None) -> None:
    """Say what an index holds and which space it lives in."""
    from aml_edge.index import open_index

    console = console_for(json_target)
    report = report_of(open_index(path))
    _print_report(report, console)
    write_json(report, json_target)


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(metavar="INDEX")],
    *,
    images: Annotated[Path | None, typer.Option(help="The folder that it was built from, to compare it too.")] = None,
    json_target: JsonOption = None,
) -> None:
    """Read all of an index, and say whether it still is what was built. Exit codes: 0 it is; 1 something differs."""
    from aml_edge.index.verification import require_verified, verify_index

    console = console_for(json_target)
    verification = verify_index(path, images, progress=ConsoleProgress(console))
    console.print(f"[bold]{escape(str(path))}[/]", soft_wrap=True)
    for check in verification.checks:
        style = {None: "yellow", False: "red", True: "none"}[check.holds]
        console.print(Text(f"{check.name:<19}  {check.found}", style), soft_wrap=True)
    write_json(verification, json_target)
    require_verified(verification)


def report_of(index: TeacherIndex) -> IndexReport:
    """Returns what there is to say of an opened index; reads 512 of its rows at most."""
    from aml_edge.exporters.agreement import evenly_spaced, median_pair_distance

    sample = index.embeddings[evenly_spaced(len(index.ids), 512)].astype("float32", copy=False)
    return IndexReport(
        path=index.path,
        space=index.space,
        fingerprint=index.space.fingerprint,
        count=len(index.ids),
        dimension=index.space.dimension,
        dtype=str(index.embeddings.dtype),
        size_bytes=index.size_bytes,
        preprocessing=index.preprocessing,
        scales=index.scales,
        median_pair_distance=median_pair_distance(sample),
        skipped=index.skipped,
    )


def _print_report(report: IndexReport, console: Console) -> None:
    distance = report.median_pair_distance
    console.print(f"[bold]{escape(str(report.path))}[/]", soft_wrap=True)
    for name, value in (
        ("space", report.space.describe()),
        ("fingerprint", report.fingerprint),
        ("embeddings", f"{report.count} × {report.dimension} {report.dtype}, {report.size_bytes / 1e6:.1f} MB"),
        ("images", f"{report.preprocessing.image_side_px} px, {report.preprocessing.fit} fit"),
        ("scales", describe_scales(report.scales)),
        ("pair distance", "–" if math.isnan(distance) else f"{distance:.3f} (median of 1 − cosine)"),
    ):
        console.print(f"{name:<13}  {escape(value)}", soft_wrap=True)
    if report.skipped:
        console.print(f"[yellow]{len(report.skipped)} images could not be read and were left out:[/]")
        for one in report.skipped:
            console.print(f"  {escape(one)}", soft_wrap=True)
