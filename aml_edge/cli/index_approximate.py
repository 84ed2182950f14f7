"""`aml-edge index approximate`: approximate indexes of an index that is there, built by FAISS beside its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from aml_edge.cli.ann_options import ANN_METAVAR, BUILT_ANN_HELP, specs_of
from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, unredirected, write_json

if TYPE_CHECKING:
    from aml_edge.approximate.building import ApproximateOptions
    from aml_edge.approximate.record import ApproximateRecord
    from aml_edge.approximate.specification import ApproximateSpec
    from aml_edge.index import TeacherIndex


def approximate(
    path: Annotated[Path, typer.Argument(metavar="INDEX")],
    *,
    ann: Annotated[list[str], typer.Option(metavar=ANN_METAVAR, help=BUILT_ANN_HELP)],
    training_rows: Annotated[
        int | None, typer.Option(help="To train on; 256 for each cluster that is made, within 2 GiB.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the rows to train on.")] = 0,
    restart: Annotated[bool, typer.Option("--restart", help="Make it again where there is one.")] = False,
    json_target: JsonOption = None,
) -> None:
    """Build approximate indexes beside an index's rows, which stay what they are; what is there already is kept.

    Parameters after the colon are those of every search that names none; the same command with others changes them.
    """
    from aml_edge.approximate.building import ApproximateOptions
    from aml_edge.index import open_index

    console, specs = console_for(json_target), specs_of(ann)
    index = open_index(path)
    records = build_all(index, specs, ApproximateOptions(training_rows, seed, restart=restart), console)
    console.print(f"[bold]{escape(str(path))}[/]", soft_wrap=True)
    for record in records:
        print_approximate(record, console)
    write_json(records, json_target)


def finishing(
    specs: Sequence[ApproximateSpec], dimension: int, images: int, console: Console
) -> Callable[[TeacherIndex], object] | None:
    """Returns what builds approximate indexes of an index to be, or None where none is asked for.

    Raises:
        UsageError, MissingExtraError: one of them could not be built of so many images.
    """
    from aml_edge.approximate.building import ApproximateOptions, require_factory

    for spec in specs:
        require_factory(spec, dimension, images)
    return (lambda index: build_all(index, specs, ApproximateOptions(), console)) if specs else None


def build_all(
    index: TeacherIndex, specs: Sequence[ApproximateSpec], options: ApproximateOptions, console: Console
) -> tuple[ApproximateRecord, ...]:
    """Returns the record of each approximate index, after those that were not there were built.

    All factories are tried before the first one is built, since building may take hours.
    """
    from aml_edge.approximate.building import build_approximate, require_factory

    for spec in specs:
        require_factory(spec, index.space.dimension, len(index.ids))
    with unredirected(console) as bar:  # FAISS's output is thrown away meanwhile
        progress = ConsoleProgress(bar)
        return tuple(build_approximate(index, spec, options, progress=progress).record for spec in specs)


def print_approximate(record: ApproximateRecord, console: Console) -> None:
    """Prints what is known of an approximate index, in a line or two."""
    console.print(f"{'approximate':<13}  {escape(_described(record))}", soft_wrap=True)
    for warning in _warnings(record):
        console.print(f"[yellow]{escape(warning)}[/]", soft_wrap=True)


def _described(record: ApproximateRecord) -> str:
    trained = f", trained on {record.training_rows} rows (seed {record.seed})" if record.training_rows else ""
    size = f"{record.size_bytes / 1e6:.1f} MB ({record.size_bytes / record.count:.0f} bytes a row)"
    return f"{record.spec}, {size}{trained}, FAISS {record.faiss_version}"


def _warnings(record: ApproximateRecord) -> Iterator[str]:
    from aml_edge.approximate.building import LEAST_ROWS_A_CLUSTER

    wanted = LEAST_ROWS_A_CLUSTER * record.clusters
    if record.training_rows < wanted:
        yield (
            f"trained on few rows: {record.training_rows} for {record.clusters} clusters, "
            f"for which FAISS asks for {wanted} at least"
        )
    if "IVF" in record.factory and "nprobe=" not in record.parameters:
        yield f"a search looks into one list only, unless it says more: {record.factory}:nprobe=16"
