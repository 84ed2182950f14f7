"""`train_student`: a run folder with the student, its settings and its log."""

from __future__ import annotations

import copy
import json
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch

from aml_edge.errors import UsageError
from aml_edge.files import write_text_atomically
from aml_edge.networks.checkpoints import STUDENT_FILE, STUDENT_RECORD, StudentCheckpoint, save_student
from aml_edge.preprocessing import Fit
from aml_edge.progress import Progress, SilentProgress
from aml_edge.space import require_same_space
from aml_edge.training.adaptor_warm_start import warm_start_adaptor
from aml_edge.training.inputs import training_inputs
from aml_edge.training.loop import StepRecord, training_steps
from aml_edge.training.losses import named_loss
from aml_edge.training.optimisation import freeze_stages
from aml_edge.training.settings import TrainingSettings
from aml_edge.training.training_set import TrainingSet

SETTINGS_FILE = "settings.json"
LOG_FILE = "log.csv"
RUN_FILES = (STUDENT_FILE, STUDENT_RECORD, SETTINGS_FILE, LOG_FILE)


@dataclass(frozen=True)
class TrainingReport:
    """What a training run did.

    Args:
        run: the run folder.
        images: of the training set; each was seen `epochs` times.
        epochs, steps: done.
        first_loss, last_loss: means over the first and the last tenth of the steps.
        preparing_seconds: before the first step: the frozen stages' pass over the images, and the warm start.
        seconds: of the steps.
        images_per_second: in the steps, reading included.
    """

    run: Path
    images: int
    epochs: int
    steps: int
    first_loss: float
    last_loss: float
    preparing_seconds: float
    seconds: float
    images_per_second: float


def prepare_run(run: Path, *, overwrite: bool = False) -> None:
    """Makes sure that a run folder holds no other run; files that no run writes are left alone.

    Args:
        run: the folder; it need not exist.
        overwrite: remove the files of another run that are there.

    Raises:
        UsageError: `run` is a file, or holds another run that is not to be removed.
    """
    if run.exists() and not run.is_dir():
        raise UsageError(f"`run` is {run}, which is a file; name a folder.")
    there = [name for name in RUN_FILES if (run / name).exists()]
    if there and not overwrite:
        raise UsageError(
            f"`run` is {run}, which holds another run ({', '.join(there)}); name another folder, or pass --overwrite."
        )
    for name in there:
        (run / name).unlink()


def train_student(
    start: StudentCheckpoint,
    training_set: TrainingSet,
    settings: TrainingSettings,
    run: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> TrainingReport:
    """Trains a student and writes it into the run folder after each epoch, named for the folder.

    The folder gets `student.safetensors`, `student.json`, `settings.json` and `log.csv` (one line a step); whatever
    else is in it is left alone. The log is written also when the training ends early.

    Args:
        start: what to start from; it is left as it is.
        training_set: images and their teacher embeddings.
        settings: how to train.
        run: the run folder; made where it is missing.
        overwrite: replace another run that is there.
        progress: where the work is announced.

    Raises:
        SpaceMismatchError: the student lives in another space than the teacher embeddings.
        UsageError: there is no such loss, the trunk has fewer stages than are to be frozen, or `run` holds another run.
        TrainingError: the loss is not finite; the folder keeps the student of the last whole epoch.
        ImageBatchError: images cannot be read; all of them are listed.
    """
    require_same_space(
        start.space, training_set.space, left_name=f"student '{start.name}'", right_name="the teacher's index"
    )
    named_loss(settings.loss)  # a wrong name is said before any work
    progress = progress or SilentProgress()
    preprocessing = start.preprocessing.fitted(Fit.NATIVE, settings.image_side_px)
    student = copy.deepcopy(start.student).eval()
    freeze_stages(student.backbone, settings.frozen_stages)
    trained = replace(start, student=student, name=run.resolve().name, preprocessing=preprocessing, trained=True)
    prepare_run(run, overwrite=overwrite)
    write_text_atomically(run / SETTINGS_FILE, json.dumps(settings.to_json(), indent=2) + "\n")

    started = time.perf_counter()
    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's overloads
    inputs = training_inputs(
        student, training_set, preprocessing, frozen_stages=settings.frozen_stages, progress=progress
    )
    targets = training_set.teacher_embeddings
    if settings.warm_start:
        weights = warm_start_adaptor(student, inputs, targets, penalty=settings.warm_start_penalty, progress=progress)
        with torch.no_grad():
            student.adaptor.weight.copy_(weights)
    warm = time.perf_counter()

    records: list[StepRecord] = []
    count = len(training_set.items)
    seen = 0
    try:
        with progress.task("training", settings.epochs * count) as task:
            for record in training_steps(student, inputs, targets, settings):
                records.append(record)
                seen += record.images
                speed = seen / (time.perf_counter() - warm)
                task.advance(record.images, status=f"loss {record.loss:.4f}, {speed:.1f} images/s")
                if seen % count == 0:
                    save_student(trained, run)
    finally:
        write_text_atomically(run / LOG_FILE, _log_text(records))
    seconds = time.perf_counter() - warm
    tenth = max(1, len(records) // 10)
    return TrainingReport(
        run=run,
        images=count,
        epochs=settings.epochs,
        steps=len(records),
        first_loss=sum(one.loss for one in records[:tenth]) / tenth,
        last_loss=sum(one.loss for one in records[-tenth:]) / tenth,
        preparing_seconds=warm - started,
        seconds=seconds,
        images_per_second=seen / seconds,
    )


def _log_text(records: list[StepRecord]) -> str:
    names = [field.name for field in fields(StepRecord)]
    lines = [",".join(names), *(",".join(repr(getattr(record, name)) for name in names) for record in records)]
    return "\n".join(lines) + "\n"
