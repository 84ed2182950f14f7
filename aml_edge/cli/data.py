"""`aml-edge data`: make a data set that needs no download, get a published one, or look at one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, write_json
from aml_edge.cli.data_download import download
from aml_edge.cli.description_table import print_description
from aml_edge.cli.option_groups import with_option_groups
from aml_edge.datasets.synthetic.spec import SyntheticSpec

if TYPE_CHECKING:
    from aml_edge.datasets.synthetic.writing import SyntheticReport

DEFAULTS = SyntheticSpec()

app = typer.Typer(help="Make a data set, get a published one, or look at one.", no_args_is_help=True)


@dataclass(frozen=True)
class SyntheticOptions:
    """The fields of `aml_edge.datasets.synthetic.spec.SyntheticSpec`, as options."""

    name: Annotated[str, typer.Option(help="OUT/train/NAME and OUT/test/NAME are written.")] = DEFAULTS.name
    seed: Annotated[int, typer.Option(help="Another seed, other landmarks.")] = DEFAULTS.seed
    image_size: Annotated[int, typer.Option(help="Longest side of an image, px.")] = DEFAULTS.image_side_px
    landmarks_train: Annotated[int, typer.Option(help="Landmarks to train on.")] = DEFAULTS.landmarks_train
    landmarks_val: Annotated[int | None, typer.Option(help="To validate on; a sixth of those to train on.")] = None
    views_train: Annotated[int, typer.Option(help="Images of each of these.")] = DEFAULTS.views_train
    landmarks_test: Annotated[int, typer.Option(help="Landmarks to test on; none is trained on.")] = (
        DEFAULTS.landmarks_test
    )
    queries: Annotated[int, typer.Option(help="Queries of each test landmark.")] = DEFAULTS.queries
    easy: Annotated[int, typer.Option(help="Easy views of each.")] = DEFAULTS.easy
    hard: Annotated[int, typer.Option(help="Hard views of each.")] = DEFAULTS.hard
    junk: Annotated[int, typer.Option(help="Views of each in which it cannot be recognised.")] = DEFAULTS.junk
    distractors: Annotated[int, typer.Option(help="Images of other landmarks in the test set.")] = DEFAULTS.distractors


@app.command()
@with_option_groups
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder, or an unfinished one.")],
    *,
    options: SyntheticOptions,
    workers: Annotated[int | None, typer.Option(help="Processes; one for each processor.")] = None,
    json_target: JsonOption = None,
) -> None:
    """Draw landmarks under many views, in the layouts of retrieval-SfM and of revisited Oxford."""
    from aml_edge.datasets.synthetic.writing import write_synthetic

    console = console_for(json_target)
    landmarks_val = options.landmarks_val
    spec = SyntheticSpec(
        name=options.name,
        seed=options.seed,
        image_side_px=options.image_size,
        landmarks_train=options.landmarks_train,
        landmarks_val=max(1, options.landmarks_train // 6) if landmarks_val is None else landmarks_val,
        views_train=options.views_train,
        landmarks_test=options.landmarks_test,
        queries=options.queries,
        easy=options.easy,
        hard=options.hard,
        junk=options.junk,
        distractors=options.distractors,
    )
    processes = os.cpu_count() or 1 if workers is None else workers
    report = write_synthetic(out, spec, progress=ConsoleProgress(console), workers=processes)
    _print_synthetic(report, console)
    write_json(report, json_target)


app.command()(download)


@app.command()
def info(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="A data set, a folder of data sets, or of images.")],
    *,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image, to find truncated ones.")] = False,
    json_target: JsonOption = None,
) -> None:
    """Say what a data set holds, and what is wrong with it."""
    from aml_edge.datasets.inspection import inspect

    console = console_for(json_target)
    descriptions = inspect(path, decode=decode, progress=ConsoleProgress(console))
    below = [one for one in descriptions if one.root != path]
    if below:
        what = "a data set" if len(below) == 1 else f"{len(below)} data sets"
        console.print(
            f"[yellow]{escape(str(path))} is no data set, but holds {what}; name the folder of one, as below, where a "
            "command takes a data set or images.[/]",
            soft_wrap=True,
        )
    for description in descriptions:
        print_description(description, console)
    write_json(descriptions, json_target)


def _print_synthetic(report: SyntheticReport, console: Console) -> None:
    spec = report.spec
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("landmarks", justify="right")
    table.add_column("images", justify="right")
    table.add_row("training", str(spec.landmarks_train), str(report.train_images))
    table.add_row("validation", str(spec.landmarks_val), str(report.val_images))
    table.add_row("queries", str(spec.landmarks_test), str(report.queries))
    table.add_row("database", str(spec.landmarks_test), str(report.database_images))
    console.print(table)
    old = report.train_images + report.val_images + report.queries + report.database_images - report.new_images
    there = f", {old} were there" if old else ""
    console.print(f"{report.new_images} images drawn in {report.seconds:.1f} s{there}")
    for name, path in (
        ("to train on", report.train_root),
        ("to test on", report.test_root),
        ("to look at", report.contact_sheet),
    ):
        console.print(f"{name}: {escape(str(path))}", soft_wrap=True)
