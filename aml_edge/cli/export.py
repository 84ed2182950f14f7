"""`aml-edge export`: a student becomes files for phones."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from aml_edge.artifact import Format, Precision
from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, unredirected, write_json
from aml_edge.cli.option_groups import with_option_groups
from aml_edge.cli.verification_options import ImageOptions, ToleranceOptions
from aml_edge.errors import UsageError
from aml_edge.preprocessing import SQUARE_FIT, Fit

if TYPE_CHECKING:
    from aml_edge.exporters.export import ExportReport
    from aml_edge.exporters.export_spec import ExportSpec
    from aml_edge.exporters.verification import VerificationOptions, Verifier
    from aml_edge.exporters.verification_images import VerificationImages
    from aml_edge.index import TeacherIndex
    from aml_edge.networks.checkpoints import StudentCheckpoint

FEW_VALUES = 1000
"""A dtype with fewer stored values is shapes and axes, not weights."""


class FormatChoice(StrEnum):
    """What ``--format`` takes."""

    ONNX = "onnx"
    TFLITE = "tflite"
    COREML = "coreml"
    ALL = "all"


@dataclass(frozen=True)
class FileOptions:
    """What file is asked for."""

    format_choice: Annotated[FormatChoice, typer.Option("--format", help="The file format, or all of them.")]
    precision: Annotated[Precision, typer.Option(help="What the weights are stored in.")] = Precision.FP32
    image_size: Annotated[int | None, typer.Option(help="Side of the square input, px; the student's own.")] = None
    fit: Annotated[Fit, typer.Option(help="How a phone makes an image square.")] = SQUARE_FIT

    def specs(self, checkpoint: StudentCheckpoint) -> tuple[ExportSpec, ...]:
        """Returns one spec a format; `MissingExtraError` where a converter is not installed, before any work."""
        from aml_edge.exporters import EXPORTERS
        from aml_edge.exporters.export_spec import ExportSpec

        formats = tuple(Format) if self.format_choice is FormatChoice.ALL else (Format(self.format_choice),)
        side = checkpoint.preprocessing.image_side_px if self.image_size is None else self.image_size
        specs = tuple(ExportSpec(model_format, self.precision, side, self.fit) for model_format in formats)
        for spec in specs:
            EXPORTERS[spec.format].versions()
        return specs


@with_option_groups
def export(
    *,
    files: FileOptions,
    student: Annotated[
        str | None, typer.Option(help="A checkpoint, a run, or aml:NAME for a released one; the newest run's.")
    ] = None,
    index: Annotated[Path | None, typer.Option(help="The teacher's index; its whitening goes into the file.")] = None,
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("artifacts"),
    images: ImageOptions,
    tolerances: ToleranceOptions,
    json_target: JsonOption = None,
) -> None:
    """Write a student as a file for phones: raw pixels in, final embedding out.

    With an index and images each file is verified at the end, as `aml-edge verify` does. Exit codes: 0 done; 3 a file
    failed verification; 1 one was not run, or an error; 2 wrong usage.
    """
    from aml_edge.exporters.verdicts import require_all_verified
    from aml_edge.exporters.verification import VerificationOptions, Verifier
    from aml_edge.index import open_index
    from aml_edge.networks.released import resolve_student

    console = console_for(json_target)
    teacher = None if index is None else open_index(index)
    space = None if teacher is None else teacher.space_before_whitening
    checkpoint = resolve_student(student, space=space, progress=ConsoleProgress(console))
    if not checkpoint.trained:
        console.print(
            f"[yellow]{escape(checkpoint.name)} has random weights: its files are good for sizes and speeds only.[/]"
        )
    specs = files.specs(checkpoint)
    to_verify_on = _images(images, teacher, console)
    reports = _export(checkpoint, specs, out, teacher, console)
    if teacher is not None and to_verify_on is not None:
        options = VerificationOptions(tolerances=asdict(tolerances), progress=ConsoleProgress(console))
        reports = _verify(reports, Verifier(checkpoint, teacher, to_verify_on), options)
    for report in reports:
        _print_report(report, console)
    if checkpoint.trained and to_verify_on is None:
        paths = shlex.join(str(report.path) for report in reports)
        console.print(
            f"[yellow]not verified;[/] to do so: aml-edge verify {escape(paths)} "
            f"--index {escape(shlex.quote(str(index or 'INDEX')))} --dataset DIR",
            soft_wrap=True,
        )
    write_json(reports, json_target)
    require_all_verified([(one.path, one.verification.judgement) for one in reports if one.verification is not None])


def _images(options: ImageOptions, teacher: TeacherIndex | None, console: Console) -> VerificationImages | None:
    """Returns the images to verify on, found and read before any work, or None where none were named."""
    from aml_edge.exporters.verification_images import require_readable

    found = options.find(ConsoleProgress(console))
    if found is not None and teacher is None:
        given = "dataset" if options.dataset is not None else "images"
        raise UsageError(f"`{given}` is given without `index`; a file is verified against an index: add --index.")
    if found is not None and not options.skip_unreadable:
        require_readable(found, ConsoleProgress(console))  # an earlier file and its verdict are not lost for nothing
    return found


def _export(
    checkpoint: StudentCheckpoint,
    specs: Sequence[ExportSpec],
    out: Path,
    teacher: TeacherIndex | None,
    console: Console,
) -> list[ExportReport]:
    from aml_edge.exporters.export import export_student, report_of

    name = f"student '{checkpoint.name}'"
    whitening = None if teacher is None else teacher.whitening_for(checkpoint.space, name=name)
    space = None if teacher is None else teacher.space
    reports: list[ExportReport] = []
    with unredirected(console) as bar, ConsoleProgress(bar).task("exporting", len(specs)) as task:
        for spec in specs:
            started = time.perf_counter()
            artifact = export_student(checkpoint, spec, out, whitening=whitening, space=space)
            reports.append(report_of(artifact, seconds=time.perf_counter() - started))
            task.advance(status=str(spec.format))
    return reports


def _verify(reports: Sequence[ExportReport], verifier: Verifier, options: VerificationOptions) -> list[ExportReport]:
    from aml_edge.formats import read_artifact

    return [report.verified_by(verifier.verify(read_artifact(report.path), options)) for report in reports]


def _print_report(report: ExportReport, console: Console) -> None:
    from aml_edge.exporters.verification_summary import summarise_verification

    census = report.census
    weights = ", ".join(
        f"{dtype} {count / 1e6:.2f} M" for dtype, count in census.weight_values.items() if count >= FEW_VALUES
    )
    console.print(f"[bold]{escape(str(report.path))}[/]", soft_wrap=True)
    console.print(
        f"  {report.size_bytes / 1e6:.2f} MB; operators {sum(census.operators.values())}, "
        f"transposes {census.transposes}; weights {weights or 'none'}; {report.seconds:.1f} s",
        soft_wrap=True,
    )
    if report.verification is not None:
        console.print(Padding(summarise_verification(report.verification), (0, 0, 0, 2)))
