"""`aml-edge index`: build a teacher's index of images, say what is in one, and whether that is what was built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.text import Text

from aml_edge.cli.ann_options import ANN_METAVAR, BUILT_ANN_HELP, specs_of
from aml_edge.cli.build_options import EngineSettings, SourceOptions
from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, write_json
from aml_edge.cli.index_approximate import approximate, finishing
from aml_edge.cli.index_import import import_vectors
from aml_edge.cli.index_report import print_report, report_of
from aml_edge.cli.option_groups import with_option_groups
from aml_edge.scales import scales_of

SOME_LEFT_OUT = 4
"""What a build exits with that is done, but left out images that cannot be read."""

app = typer.Typer(help="Build or import a teacher's index of images, look at one, or check one.", no_args_is_help=True)
app.command()(approximate)
app.command("import")(import_vectors)


@app.command()
@with_option_groups
def build(
    *,
    teacher: Annotated[
        str, typer.Option(help="A teacher's file, gem:NAME for a released one, or imagenet:efficientnet_lite2.")
    ],
    source: SourceOptions,
    out: Annotated[Path, typer.Option(help="The index's folder; OUT.partial beside it until it is done.")],
    image_size: Annotated[int | None, typer.Option(help="Longest side of an image, px; the teacher's own.")] = None,
    scales: Annotated[
        str, typer.Option(help="At which the teacher sees an image; published: 1, 0.7071, 0.5 and their mean.")
    ] = "1",
    whitening: Annotated[str | None, typer.Option(help="A whitening's file, or one that came with it.")] = None,
    ann: Annotated[list[str] | None, typer.Option(metavar=ANN_METAVAR, help=BUILT_ANN_HELP)] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave such images out; exit code 4 where there were some.")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away an unfinished build.")] = False,
    engine: EngineSettings,
    json_target: JsonOption = None,
) -> None:
    """Embed images with the teacher; the same command goes on where one was interrupted.

    Exit codes: 0 every image is in it; 1 an error, such as images that cannot be read; 4 done, without such images.
    """
    from aml_edge.engines import ENGINES, TeacherRecipe
    from aml_edge.index.building import IndexOptions, build_index_with
    from aml_edge.networks.released import resolve_teacher, resolve_whitening
    from aml_edge.networks.whitening_names import whitening_name
    from aml_edge.querying import sized

    console, shares, specs = console_for(json_target), scales_of(scales), specs_of(ann)
    progress = ConsoleProgress(console)
    images, checkpoint = source.find(progress), resolve_teacher(teacher, progress=progress)
    layer = None
    if whitening is not None:
        layer = resolve_whitening(whitening_name(whitening, checkpoint, shares), checkpoint)
    preprocessing = sized(checkpoint.preprocessing, image_size)
    recipe = TeacherRecipe(checkpoint, preprocessing, engine.torch_threads, layer, shares, engine.device)
    opened = ENGINES[engine.engine](recipe, engine.options(progress.say))
    console.print(f"{len(images.ids)} images: {images.kind}, {escape(str(images.root))}", soft_wrap=True)
    finish = finishing(specs, opened.space.dimension, len(images.ids), console)
    options = IndexOptions(layer, shares, skip_unreadable=skip_unreadable, restart=restart, finishing=finish)
    report = report_of(build_index_with(opened, images, out, options, progress=progress))
    print_report(report, console)
    write_json(report, json_target)
    if report.skipped:
        raise typer.Exit(SOME_LEFT_OUT)


@app.command()
def info(path: Annotated[Path, typer.Argument(metavar="INDEX")], *, json_target: JsonOption = None) -> None:
    """Say what an index holds and which space it lives in."""
    from aml_edge.index import open_index

    console = console_for(json_target)
    report = report_of(open_index(path))
    print_report(report, console)
    write_json(report, json_target)


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(metavar="INDEX")],
    *,
    images: Annotated[Path | None, typer.Option(help="The folder that it was built from, to compare it too.")] = None,
    json_target: JsonOption = None,
) -> None:
    """Read all of an index, and say whether it still is what was built. Exit codes: 0 it is; 1 something differs."""
    from aml_edge.approximate.verification import check_approximate
    from aml_edge.index import open_index
    from aml_edge.index.verification import require_verified, verify_index

    console = console_for(json_target)
    verification = verify_index(path, images, progress=ConsoleProgress(console))
    verification = replace(verification, checks=(*verification.checks, *check_approximate(open_index(path))))
    console.print(f"[bold]{escape(str(path))}[/]", soft_wrap=True)
    for check in verification.checks:
        style = {None: "yellow", False: "red", True: "none"}[check.holds]
        console.print(Text(f"{check.name:<19}  {check.found}", style), soft_wrap=True)
    write_json(verification, json_target)
    require_verified(verification)
