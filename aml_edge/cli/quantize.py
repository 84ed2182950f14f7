"""`aml-edge quantize`: where integers cost a student, before there is a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from aml_edge.artifact import Format, Precision
from aml_edge.cli.console import ConsoleProgress, JsonOption, at_least_wide, console_for, write_json
from aml_edge.cli.option_groups import with_option_groups
from aml_edge.errors import UsageError
from aml_edge.preprocessing import SQUARE_FIT, Fit, Preprocessing
from aml_edge.quantization_record import CalibrationRecord, Draw

if TYPE_CHECKING:
    from aml_edge.datasets.retrieval_dataset import RetrievalDataset
    from aml_edge.exporters.quantization.analysis import QuantizationAnalysis
    from aml_edge.index import TeacherIndex
    from aml_edge.networks.checkpoints import StudentCheckpoint
    from aml_edge.progress import Progress
    from aml_edge.quantization.calibration import CalibrationOptions

app = typer.Typer(help="See where integers cost a student, before there is a file.", no_args_is_help=True)


class IntegerPrecision(StrEnum):
    """What ``--precision`` takes: those of `Precision` whose activations are in integers by calibration."""

    INT8 = "int8"
    INT8_INT16 = "int8-int16"

    @property
    def activation_bits(self) -> int:
        """8 or 16."""
        return 8 if self is IntegerPrecision.INT8 else 16


@dataclass(frozen=True)
class QuantizedFileOptions:
    """What file is simulated, and what chooses its integers."""

    precision: Annotated[IntegerPrecision, typer.Option(help="What activations are stored in.")] = IntegerPrecision.INT8
    image_size: Annotated[int | None, typer.Option(help="Side of the square input, px; the student's own.")] = None
    fit: Annotated[Fit, typer.Option(help="How a phone makes an image square.")] = SQUARE_FIT
    calibrate_on: Annotated[
        Path | None, typer.Option(help="A folder of images or a data set that shows ranges; that of --dataset.")
    ] = None
    calibration_count: Annotated[int | None, typer.Option(help="How many images; 128, at least 16.")] = None
    calibration_seed: Annotated[int | None, typer.Option(help="Seed of the draw; 0.")] = None
    calibration_draw: Annotated[
        Draw | None, typer.Option(help="At random, or one of each cluster of embeddings; random.")
    ] = None

    def calibration(self, student: str | None, dataset: Path) -> CalibrationOptions:
        """Returns which images calibrate; raises `UsageError` where training chose the integers."""
        from aml_edge.cli.quantization_options import QuantizationOptions
        from aml_edge.quantization.calibration import CalibrationOptions

        chosen = QuantizationOptions(
            self.calibrate_on, self.calibration_count, self.calibration_seed, self.calibration_draw
        )
        source = chosen.integers(student, dataset).source
        if isinstance(source, CalibrationOptions):
            return source
        raise UsageError(
            f"`student` is {student or 'the newest run'}, which was trained for its integers; an analysis chooses them "
            "by images: name the student that it started from with --student."
        )


@dataclass(frozen=True)
class AnalysisReport:
    """What `aml-edge quantize analyse` writes.

    Args:
        student, dataset: by their names.
        index: the teacher's.
        precision, preprocessing: of the file that is simulated.
        calibration: the images that chose its integers.
        analysis: what was found.
        plot: the picture, where one was asked for.
    """

    student: str
    dataset: str
    index: Path
    precision: IntegerPrecision
    preprocessing: Preprocessing
    calibration: CalibrationRecord
    analysis: QuantizationAnalysis
    plot: Path | None


@dataclass(frozen=True)
class _Asked:
    """What file is simulated, which images choose its integers, and how many of the database are looked at."""

    file: QuantizedFileOptions
    calibration: CalibrationOptions
    max_images: int


@app.callback()
def _group() -> None:
    """See where integers cost a student, before there is a file."""


@app.command()
@with_option_groups
def analyse(
    *,
    index: Annotated[Path, typer.Option(help="The teacher's index of the data set.")],
    dataset: Annotated[Path, typer.Option(help="A data set with queries: `aml-edge data info` says what a folder is.")],
    student: Annotated[
        str | None, typer.Option(help="A checkpoint, a run, or aml:NAME for a released one; the newest run's.")
    ] = None,
    file: QuantizedFileOptions,
    max_images: Annotated[int, typer.Option(help="At most so many of the database, beside the queries.")] = 64,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it too, as .svg or .png; needs the extra 'plot'.")
    ] = None,
    json_target: JsonOption = None,
) -> None:
    """Find the blocks that integers cost most: each quantized alone, and how far activations drift along the network.

    Everything is simulated, so it holds for all formats. Pass the worst to `aml-edge export --float-blocks`, or let
    `--max-drop` choose.
    """
    from aml_edge.datasets.loading import load_test_set
    from aml_edge.exporters.quantization.plots import require_plottable, write_plot
    from aml_edge.index import open_index
    from aml_edge.networks.released import resolve_student

    console = console_for(json_target)
    progress = ConsoleProgress(console)
    if plot is not None:
        require_plottable(plot)
    if max_images < 0:
        raise UsageError(f"`max_images` is {max_images}; 0 or more of the database are looked at beside the queries.")
    calibration = file.calibration(student, dataset)
    teacher = open_index(index)
    checkpoint = resolve_student(student, space=teacher.space_before_whitening, progress=progress)
    data = load_test_set(dataset, progress=progress)
    report = _analysed(checkpoint, teacher, data, _Asked(file, calibration, max_images), progress)
    _print(report, console)
    if plot is not None:
        write_plot(report.analysis, f"{report.student}, {report.precision}, on {report.dataset}", plot)
        console.print(f"drawn: {escape(str(plot))}", soft_wrap=True)
    write_json(replace(report, plot=plot), json_target)


def _analysed(
    checkpoint: StudentCheckpoint,
    index: TeacherIndex,
    dataset: RetrievalDataset,
    asked: _Asked,
    progress: Progress,
) -> AnalysisReport:
    from aml_edge.exporters.agreement import evenly_spaced
    from aml_edge.exporters.export_spec import ExportSpec
    from aml_edge.exporters.quantization.analysis import analyse_quantization
    from aml_edge.exporters.quantization.query_set import load_pixels_of, load_query_set
    from aml_edge.networks.deployable import DeployableStudent
    from aml_edge.quantization.calibration import calibration_images
    from aml_edge.quantization.post_training import PostTrainingOptions, observed_for_quantization
    from aml_edge.runtimes.checkpoint_embedders import student_embedder

    whitening = index.whitening_for(checkpoint.space, name=f"student '{checkpoint.name}'")
    side = checkpoint.preprocessing.image_side_px if asked.file.image_size is None else asked.file.image_size
    spec = ExportSpec(Format.ONNX, Precision(asked.file.precision), side, asked.file.fit)  # refuses what no file can be
    preprocessing = checkpoint.preprocessing.fitted(spec.fit, spec.image_side_px)
    queries = load_query_set(dataset, index, preprocessing, progress)
    taken = evenly_spaced(len(dataset.database_items), asked.max_images)
    others = load_pixels_of(
        [dataset.database_items[row] for row in taken], preprocessing, "reading images of the database", progress
    )
    embedder = student_embedder(checkpoint, preprocessing, whitening=whitening)
    calibration = calibration_images(asked.calibration, embedder, progress)
    network = DeployableStudent(checkpoint.student, checkpoint.preprocessing, whitening)
    options = PostTrainingOptions(activation_bits=asked.file.precision.activation_bits)
    post_training = observed_for_quantization(network, calibration.images, options, progress)
    analysis = analyse_quantization(post_training, queries, others, progress)
    return AnalysisReport(
        checkpoint.name,
        dataset.name,
        index.path,
        asked.file.precision,
        preprocessing,
        calibration.record,
        analysis,
        None,
    )


def _print(report: AnalysisReport, console: Console) -> None:
    from aml_edge.exporters.quantization.analysis_tables import WIDEST_COLUMNS, render_analysis

    console.print(
        f"student: {escape(report.student)}, {report.precision}, {report.preprocessing.image_side_px} px, "
        f"{report.preprocessing.fit} fit\ndata set: {escape(report.dataset)}, index: {escape(str(report.index))}\n"
        f"calibrated on {report.calibration.count} images of {escape(report.calibration.source)}, "
        f"{report.calibration.draw} draw, seed {report.calibration.seed}\n",
        soft_wrap=True,
    )
    with at_least_wide(console, WIDEST_COLUMNS):
        console.print(render_analysis(report.analysis), crop=False)
