"""`aml-edge export`: a student becomes files for phones."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from aml_edge.artifact import Format, Precision, Verdict
from aml_edge.cli.console import ConsoleProgress, JsonOption, console_for, write_json
from aml_edge.cli.export_job import ExportJob, budget_search, export_files, make_ready, require_writable, verify_file
from aml_edge.cli.option_groups import with_option_groups
from aml_edge.cli.quantization_options import QuantizationOptions, is_trained_for_integers
from aml_edge.cli.verification_options import ImageOptions, ToleranceOptions
from aml_edge.errors import UsageError
from aml_edge.preprocessing import SQUARE_FIT, Fit

if TYPE_CHECKING:
    from aml_edge.exporters.export import ExportReport
    from aml_edge.exporters.export_spec import ExportSpec
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
    precision: Annotated[
        Precision, typer.Option(help="What it computes and is stored in; not every format has each.")
    ] = Precision.FP32
    image_size: Annotated[int | None, typer.Option(help="Side of the square input, px; the student's own.")] = None
    fit: Annotated[Fit, typer.Option(help="How a phone makes an image square.")] = SQUARE_FIT

    @property
    def formats(self) -> tuple[Format, ...]:
        """The formats that are asked for."""
        return tuple(Format) if self.format_choice is FormatChoice.ALL else (Format(self.format_choice),)

    def require_possible(self) -> None:
        """Raises `UsageError` where a format lacks the precision, `MissingExtraError` where it lacks its converter."""
        from aml_edge.exporters import EXPORTERS, require_precision

        for model_format in self.formats:
            require_precision(model_format, self.precision)
        for model_format in self.formats:
            EXPORTERS[model_format].versions()

    def specs(self, checkpoint: StudentCheckpoint) -> tuple[ExportSpec, ...]:
        """Returns one spec a format."""
        from aml_edge.exporters.export_spec import ExportSpec

        side = checkpoint.preprocessing.image_side_px if self.image_size is None else self.image_size
        return tuple(ExportSpec(model_format, self.precision, side, self.fit) for model_format in self.formats)


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
    quantization: QuantizationOptions,
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

    quantization.require_fitting(files.precision)
    files.require_possible()
    calibrated = files.precision.is_calibrated
    integers = quantization.integers(student, images.dataset or images.images) if calibrated else None
    quantization.require_queries(index, images.dataset)
    require_writable(out)  # an hour's search is not lost for nothing
    console = console_for(json_target)
    teacher = None if index is None else open_index(index)
    space = None if teacher is None else teacher.space_before_whitening
    checkpoint = resolve_student(student, space=space, progress=ConsoleProgress(console))
    if not checkpoint.trained:
        console.print(
            f"[yellow]{escape(checkpoint.name)} has random weights: its files are good for sizes and speeds only.[/]"
        )
    if not calibrated and is_trained_for_integers(student):
        console.print(
            f"[yellow]{escape(checkpoint.name)} was trained for its integers: in {files.precision} it computes "
            "something else; export it as int8.[/]"
        )
    specs = files.specs(checkpoint)
    search = budget_search(quantization, images, checkpoint, teacher, console)
    to_verify_on = _images(images, teacher, console)
    job = ExportJob(checkpoint, teacher, integers, search, () if to_verify_on is None else to_verify_on.items)
    exported = export_files(job, make_ready(job, specs, console), out, console)
    reports = [report for report, _ in exported]
    if teacher is not None and to_verify_on is not None:
        options = VerificationOptions(tolerances=asdict(tolerances), progress=ConsoleProgress(console))
        verifier = Verifier(checkpoint, teacher, to_verify_on)
        reports = [verify_file(report, ready.chosen, search, verifier, options) for report, ready in exported]
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


def _print_report(report: ExportReport, console: Console) -> None:
    from aml_edge.exporters.quantization_summary import next_step, summarise_convolutions, summarise_quantization
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
    if report.manifest.precision.has_integer_weights:
        console.print(f"  {summarise_convolutions(census)}", soft_wrap=True)
    if report.manifest.quantization is not None:
        for line in summarise_quantization(report.manifest.quantization):
            console.print(f"  {line}", markup=False, soft_wrap=True)
    if report.verification is not None:
        console.print(Padding(summarise_verification(report.verification), (0, 0, 0, 2)))
        if report.verification.judgement.verdict is Verdict.FAILED and (step := next_step(report.manifest)):
            console.print(f"  [yellow]{escape(step)}[/]", soft_wrap=True)
