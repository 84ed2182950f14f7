"""`TrainingReport`: what a training run did, and how its file ends the run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from aml_edge.errors import UsageError
from aml_edge.files import write_text_atomically
from aml_edge.training.run_folder import REPORT_FILE
from aml_edge.training.state import STATE_FILE


@dataclass(frozen=True)
class TrainingReport:
    """What a training run did.

    Args:
        run: the run folder.
        recipe: its name.
        images: of the training set.
        epochs, steps: done.
        first_loss, last_loss: means over the first and the last tenth of the steps.
        best_epoch: whose network is the run's: that of the lowest validation loss, or the last without validation.
        best_validation_loss: None without validation.
        preparing_seconds: before the first step: the frozen stages' pass over the images and the warm start, or the
            calibration.
        seconds: of the steps, mining and validation, since the run was begun or gone on with.
        images_per_second: that went forward and backward in this time.
    """

    run: Path
    recipe: str
    images: int
    epochs: int
    steps: int
    first_loss: float
    last_loss: float
    best_epoch: int
    best_validation_loss: float | None
    preparing_seconds: float
    seconds: float
    images_per_second: float


def read_report(run: Path) -> TrainingReport:
    """Returns the report of a finished run; raises `UsageError` where there is none or it cannot be read."""
    try:
        values = json.loads((run / REPORT_FILE).read_text(encoding="utf-8"))
        return TrainingReport(**{**values, "run": run})
    except (OSError, TypeError, ValueError, RecursionError) as problem:
        raise UsageError(f"{run / REPORT_FILE} cannot be read: {problem}; start again with --overwrite.") from None


def write_report(report: TrainingReport) -> None:
    """Ends a run: writes its report, which says that nothing is left to do, and removes its state."""
    text = json.dumps({**asdict(report), "run": str(report.run)}, indent=2)
    write_text_atomically(report.run / REPORT_FILE, text + "\n")
    (report.run / STATE_FILE).unlink(missing_ok=True)
