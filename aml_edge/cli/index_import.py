"""`aml-edge index import`: an index made of vectors that another tool keeps."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, write_json
from aml_edge.cli.import_options import CheckOptions, SpaceOptions, VectorOptions
from aml_edge.cli.index_report import print_report, report_of
from aml_edge.cli.option_groups import with_option_groups

if TYPE_CHECKING:
    from aml_edge.vectors.source import SourceDescription


@with_option_groups
def import_vectors(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A .npy, .npz, Parquet or FAISS file, a folder of Parquet or Qdrant, a URL.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="The index's folder; OUT.partial beside it until it is done.")],
    vectors: VectorOptions,
    space: SpaceOptions,
    check: CheckOptions,
    json_target: JsonOption = None,
) -> None:
    """Make an index of vectors that another tool keeps, without embedding anything again.

    Whose embeddings they are is what you say; with --teacher and --images a few are embedded again and compared.
    """
    from aml_edge.index.importing import ImportOptions, import_index
    from aml_edge.vectors.opening import open_vectors

    console = console_for(json_target)
    progress = ConsoleProgress(console)
    teacher = space.resolve_teacher(progress)
    with closing(open_vectors(source, vectors.source_options())) as opened:
        _print_source(opened.description, console)
        declared = space.declare(teacher, opened.description.dimension)
        options = ImportOptions(vectors.given_ids(), space.normalise, check.find(teacher, declared))
        report = report_of(import_index(opened, declared, out, options, progress=progress))
    print_report(report, console)
    write_json(report, json_target)


def _print_source(source: SourceDescription, console: Console) -> None:
    what = f"{source.count} vectors of {source.dimension} {source.dtype}: {source.name}, {source.kind}"
    console.print(escape(what), soft_wrap=True)
