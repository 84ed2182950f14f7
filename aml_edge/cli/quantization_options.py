"""Options of the commands that make a file in integers: which images calibrate, what stays in floating point."""

from __future__ import annotations

from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aml_edge.errors import UsageError
from aml_edge.quantization_record import Draw, SearchBy

if TYPE_CHECKING:
    from aml_edge.artifact import Precision
    from aml_edge.exporters.budget import Budget
    from aml_edge.exporters.student_preparation import IntegerSettings
    from aml_edge.quantization.calibration import CalibrationOptions
    from aml_edge.quantization.post_training import PostTrainingOptions

_CALIBRATION = "Calibration of int8 and int8-int16"
_FLOAT = "What stays in floating point in int8 and int8-int16"


@dataclass(frozen=True)
class QuantizationOptions:
    """How the integers of a calibrated precision are chosen."""

    calibrate_on: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_CALIBRATION, help="A folder of images or a data set; that of --dataset or --images."
        ),
    ] = None
    calibration_count: Annotated[
        int | None, typer.Option(rich_help_panel=_CALIBRATION, help="How many images; 128, at least 16.")
    ] = None
    calibration_seed: Annotated[int | None, typer.Option(rich_help_panel=_CALIBRATION, help="Seed of the draw; 0.")] = (
        None
    )
    calibration_draw: Annotated[
        Draw | None,
        typer.Option(rich_help_panel=_CALIBRATION, help="At random, or one of each cluster of embeddings; random."),
    ] = None
    float_blocks: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", rich_help_panel=_FLOAT, help="These blocks; `aml-edge quantize analyse` names them all."
        ),
    ] = None
    float_stem: Annotated[
        bool, typer.Option("--float-stem/--int8-stem", rich_help_panel=_FLOAT, help="The first block.")
    ] = True
    int8_head: Annotated[
        bool, typer.Option("--int8-head", rich_help_panel=_FLOAT, help="Not even GeM and L2; expect to lose much.")
    ] = False
    max_drop: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            rich_help_panel=_FLOAT,
            help="As few blocks as lose at most so many points of asymmetric mAP, interval included; needs --dataset.",
        ),
    ] = None
    search_by: Annotated[
        SearchBy | None,
        typer.Option(
            rich_help_panel=_FLOAT, help="What --max-drop makes small; size. Latency takes a conversion a block."
        ),
    ] = None

    def require_fitting(self, precision: Precision) -> None:
        """Raises `UsageError` where something is said of integers that the precision does not choose by images."""
        given = self._given()
        if given is not None and not precision.is_calibrated:
            raise UsageError(
                f"`{given.name}` is {getattr(self, given.name)}, but `precision` is '{precision}', which chooses no "
                "integers of activations by images; leave it out, or choose int8 or int8-int16."
            )
        if self.search_by is not None and self.max_drop is None:
            raise UsageError(f"`search_by` is '{self.search_by}', but nothing is searched; add --max-drop POINTS.")

    def require_queries(self, index: Path | None, dataset: Path | None) -> None:
        """Raises `UsageError` where a budget is given without what shows whether it is kept."""
        if self.max_drop is not None and (index is None or dataset is None):
            raise UsageError(
                f"`max_drop` is {self.max_drop:g} without `index` and `dataset`; queries choose what stays in floating "
                "point and judge the file: add --index and --dataset."
            )

    def integers(self, student: str | None, index_images: Path | None) -> IntegerSettings:
        """Returns what chooses the integers: what training stored with the student, else calibration images.

        Args:
            student: as `resolve_student` takes it.
            index_images: a folder or a data set of the index's own pictures, where one was named.

        Raises:
            UsageError: no images are named, or something is said that training has decided.
            QuantizationError: what training stored cannot be read.
        """
        from aml_edge.exporters.student_preparation import IntegerSettings
        from aml_edge.quantization.stored import load_quantization

        path = _path_of(student)
        stored = None if path is None else load_quantization(path)
        if stored is None:
            return IntegerSettings(self._calibration(index_images), self._post_training())
        given = self._given()
        if given is not None:
            raise UsageError(
                f"`{given.name}` is {getattr(self, given.name)}, but student {path} was trained for its integers, "
                "which chose them; leave it out."
            )
        return IntegerSettings(stored, self._post_training())

    def _calibration(self, index_images: Path | None) -> CalibrationOptions:
        """Returns which images calibrate; `UsageError` where none are named."""
        from aml_edge.quantization.calibration import CalibrationOptions, calibration_source

        chosen = {"count": self.calibration_count, "seed": self.calibration_seed, "draw": self.calibration_draw}
        given = {name: value for name, value in chosen.items() if value is not None}
        return CalibrationOptions(calibration_source(self.calibrate_on, index_images), **given)  # type: ignore[arg-type]

    def _post_training(self) -> PostTrainingOptions:
        """Returns how the student is quantized."""
        from aml_edge.quantization.post_training import PostTrainingOptions

        blocks = (self.float_blocks or "").split(",")
        return PostTrainingOptions(
            float_stem=self.float_stem,
            float_head=not self.int8_head,
            float_blocks=frozenset(block.strip() for block in blocks if block.strip()),
        )

    def _given(self) -> Field[object] | None:
        """Returns the first field that is not as it is by default."""
        return next((field for field in fields(self) if getattr(self, field.name) != field.default), None)

    def budget(self) -> Budget | None:
        """Returns what may be lost, or None where that was not said."""
        from aml_edge.exporters.budget import Budget

        return None if self.max_drop is None else Budget(self.max_drop, self.search_by or SearchBy.SIZE)


def is_trained_for_integers(student: str | None) -> bool:
    """Whether training stored integers with a student, as `resolve_student` takes it; raises `QuantizationError`."""
    from aml_edge.quantization.stored import load_quantization

    path = _path_of(student)
    return path is not None and load_quantization(path) is not None


def _path_of(student: str | None) -> Path | None:
    """Returns the file or folder that `resolve_student` takes for a name, or None where it takes none."""
    from aml_edge.networks.checkpoints import STUDENT_FILE
    from aml_edge.networks.released import RUNS, newest_student

    if student is None:
        return newest_student(RUNS)
    places = (Path(student), RUNS / student)
    return next((path for path in places if path.is_file() or (path / STUDENT_FILE).is_file()), None)
