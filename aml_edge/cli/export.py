"""`aml-edge export`: a student becomes files for phones."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from aml_edge.artifact import Format, Precision
from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, write_json
from aml_edge.preprocessing import Fit

if TYPE_CHECKING:
    from aml_edge.exporters.export import ExportReport

FEW_VALUES = 1000
"""A dtype with fewer stored values is shapes and axes, not weights."""


class FormatChoice(StrEnum):
    """What ``--format`` takes."""

    ONNX = "onnx"
    TFLITE = "tflite"
    COREML = "coreml"
    ALL = "all"


def export(
    *,
    format_choice: Annotated[FormatChoice, typer.Option("--format", help="The file format, or all of them.")],
    precision: Annotated[Precision, typer.Option(help="What the weights are stored in.")] = Precision.FP32,
    image_size: Annotated[int | None, typer.Option(help="Side of the square input, px; the student's own.")] = None,
    fit: Annotated[Fit, typer.Option(help="How a phone makes an image square.")] = Fit.SQUASH,
    student: Annotated[str | None, typer.Option(help="A checkpoint, run or name; the newest run's.")] = None,
    index: Annotated[Path | None, typer.Option(help="The teacher's index; its whitening goes into the file.")] = None,
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("artifacts"),
    json_target: JsonOption = None,
) -> None:
    """Write a student as a file for phones: raw pixels in, final embedding out."""
    from aml_edge.exporters import EXPORTERS
    from aml_edge.exporters.export import export_student, report_of
    from aml_edge.exporters.export_spec import ExportSpec
    from aml_edge.index import open_index
    from aml_edge.networks.released import resolve_student

    console = console_for(json_target)
    checkpoint = resolve_student(student)
    if not checkpoint.trained:
        console.print(f"[yellow]{checkpoint.name} has random weights: its files are good for sizes and speeds only.[/]")
    teacher = None if index is None else open_index(index)
    formats = tuple(Format) if format_choice is FormatChoice.ALL else (Format(format_choice),)
    side = checkpoint.preprocessing.image_side_px if image_size is None else image_size
    specs = [ExportSpec(model_format, precision, side, fit) for model_format in formats]
    for spec in specs:
        EXPORTERS[spec.format].versions()  # a missing extra is said before any work
    reports: list[ExportReport] = []
    with _unredirected(console) as bar, ConsoleProgress(bar).task("exporting", len(specs)) as task:
        for spec in specs:
            started = time.perf_counter()
            whitening, space = (None, None) if teacher is None else (teacher.whitening, teacher.space)
            artifact = export_student(checkpoint, spec, out, whitening=whitening, space=space)
            reports.append(report_of(artifact, seconds=time.perf_counter() - started))
            task.advance(status=str(spec.format))
    for report in reports:
        _print_report(report, console)
    write_json(reports, json_target)


@contextmanager
def _unredirected(console: Console) -> Iterator[Console]:
    """Yields a console on the same terminal that still reaches it while a converter's output goes to a log."""
    if not console.is_terminal:
        yield console
        return
    with os.fdopen(os.dup(console.file.fileno()), "w") as terminal:
        yield Console(file=terminal, highlight=False)


def _print_report(report: ExportReport, console: Console) -> None:
    census = report.census
    weights = ", ".join(
        f"{dtype} {count / 1e6:.2f} M" for dtype, count in census.weight_values.items() if count >= FEW_VALUES
    )
    console.print(f"[bold]{escape(str(report.path))}[/]", soft_wrap=True)
    console.print(
        f"  {report.size_bytes / 1e6:.2f} MB; {sum(census.operators.values())} operators, "
        f"{census.transposes} transposes; weights {weights or 'none'}; {report.seconds:.1f} s",
        soft_wrap=True,
    )
