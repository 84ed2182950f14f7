"""`train`: a run folder with the network, its recipe, its log, and the state that an unfinished run goes on from."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aml_edge.errors import ImageError, QuantizationError, UsageError
from aml_edge.networks.checkpoints import StudentCheckpoint
from aml_edge.networks.student import Student
from aml_edge.progress import Progress, SilentProgress
from aml_edge.space import require_same_space
from aml_edge.training.adaptor_warm_start import warm_start_adaptor
from aml_edge.training.batches import LOADING_WORKERS
from aml_edge.training.cpu_speed import keep_kernels_and_memory
from aml_edge.training.inputs import InputOptions, training_inputs
from aml_edge.training.interruption import interruption
from aml_edge.training.log import EpochRecord, RunLog, read_epochs, read_steps
from aml_edge.training.loop import StepRecord, Training
from aml_edge.training.objective import Objective
from aml_edge.training.plan import TrainingPlan, record_of
from aml_edge.training.processes import Processes
from aml_edge.training.report import TrainingReport, read_report, write_report
from aml_edge.training.run_folder import (
    RunRecord,
    begin_run,
    forget_lock,
    holds_work,
    is_finished,
    prepare_run,
    remove_halves,
    require_same_run,
    sole_training,
)
from aml_edge.training.settings import Mode
from aml_edge.training.split import Split
from aml_edge.training.state import STATE_FILE, Identity, restore_state, save_state
from aml_edge.training.trainable import Trainable
from aml_edge.training.trained_network import (
    float_network,
    keep_network,
    quantization_aware_network,
    require_single_precision,
    sped_up,
)
from aml_edge.training.training_set import TrainingSet
from aml_edge.training.tuples import anchors_per_epoch, require_drawable
from aml_edge.training.validation import validation_loss

if TYPE_CHECKING:
    from accelerate import Accelerator

STATE_SECONDS = 60.0
"""So much work a killed run loses at most, and so often its state is written."""


@dataclass(frozen=True)
class RunOptions:
    """What changes nothing in the weights.

    Args:
        resume: go on with the training of the run folder.
        overwrite: replace another run that is there.
        workers: threads that read ahead.
        state_seconds: so much work a killed run loses at most.
        accelerator: device, precision and processes; by default one process on the CPU.
        progress: where the work is announced.
    """

    resume: bool = False
    overwrite: bool = False
    workers: int = LOADING_WORKERS
    state_seconds: float = STATE_SECONDS
    accelerator: Accelerator | None = None
    progress: Progress = field(default_factory=SilentProgress)


def train(plan: TrainingPlan, run: Path, options: RunOptions | None = None) -> TrainingReport:
    """Trains a network in a run folder and returns what was done; a run that was stopped goes on to the same weights.

    After each epoch the folder gets the newest network, and the best one so far, named for the folder. The same weights
    need the same number of threads and processes. A run that is finished is left as it is and its report returned.

    Args:
        plan: what is to be trained, how, and on what.
        run: the run folder; made where it is missing. Files that no run writes are left alone.
        options: what changes nothing in the weights.

    Raises:
        SpaceMismatchError: the student lives in another space than the teacher embeddings.
        UsageError: settings do not belong together or do not fit the data, or `run` holds another run.
        TrainingError: the loss is not finite, or the state or the log to go on from is damaged.
        ImageBatchError: images cannot be read; all of them are listed.
        QuantizationError: the student cannot be prepared for integers.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the state is saved.
    """
    options = options or RunOptions()
    if options.resume and options.overwrite:
        raise UsageError("`resume` and `overwrite` exclude each other; go on with the run, or replace it.")
    _require_fitting(plan)
    record = record_of(plan)
    if options.resume:
        require_same_run(run, record)
        if is_finished(run):
            forget_lock(run)
            return read_report(run)
    keep_kernels_and_memory()
    processes = Processes(options.accelerator or _one_process())
    network: Trainable | None = None
    if plan.quantized_from is None:  # what cannot be is refused before anything is removed
        network = float_network(plan)
    else:
        require_single_precision(processes)
    with sole_training(run) if processes.is_main else nullcontext():
        if processes.is_main:
            if not options.resume:
                prepare_run(run, overwrite=options.overwrite)
                begin_run(run, record)
            remove_halves(run)
        processes.wait()
        started = time.perf_counter()
        try:
            if network is None:
                network = quantization_aware_network(plan, options.progress if processes.is_main else SilentProgress())
            with sped_up(network, plan.recipe.settings):
                return _Run(plan, run, options, record, processes, network).train(started)
        except (ImageError, QuantizationError):
            if processes.is_main and not holds_work(run):  # with other images it would be another run
                prepare_run(run, overwrite=True)
            raise


class _Run:
    """One call of `train`, after all that can be refused was refused."""

    def __init__(
        self,
        plan: TrainingPlan,
        run: Path,
        options: RunOptions,
        record: RunRecord,
        processes: Processes,
        network: Trainable,
    ) -> None:
        self.plan, self.run, self.options, self.processes, self.network = plan, run, options, processes, network
        self.settings = plan.recipe.settings
        self.progress = options.progress if processes.is_main else SilentProgress()
        self.identity = Identity(
            self.settings.to_json(),
            record.training_fingerprint,
            record.validation_fingerprint,
            processes.count,
            processes.accelerator.mixed_precision,
        )
        self.best_loss: float | None = None
        self.images = 0

    def train(self, started: float) -> TrainingReport:
        """Returns what was done; `started`, by `perf_counter`, is when the preparation began."""
        self.network.to(self.processes.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its overloads
        goes_on = self.options.resume and (self.run / STATE_FILE).is_file()
        split = self._split(self.plan.training, warm_start=self.settings.warm_start and not goes_on)
        validation = (
            None if self.plan.validation is None else self._split(self.plan.validation, bank=split.objective.bank)
        )
        training = Training(self.network, split, self.settings, self.processes)
        if goes_on:
            self.best_loss = restore_state(training, self.identity, self.run / STATE_FILE)
        self.processes.share(self.network)
        begun = time.perf_counter()
        self._run_epochs(training, split, validation)
        return self._report(begun - started, time.perf_counter() - begun)

    def _split(self, images: TrainingSet, *, warm_start: bool = False, bank: Tensor | None = None) -> Split:
        inputs = training_inputs(
            self.network,
            images,
            self.plan.start.preprocessing,
            InputOptions(self.settings.frozen_stages, self.options.workers),
            progress=self.progress,
        )
        if warm_start and isinstance(self.network, Student) and images.teacher is not None:
            penalty = self.settings.warm_start_penalty
            rows = images.teacher.rows
            weights = warm_start_adaptor(self.network, inputs, rows, penalty=penalty, progress=self.progress)
            with torch.no_grad():
                self.network.adaptor.weight.copy_(weights)
        return Split(self.network, inputs, images, self.settings, self.processes, bank=bank)

    def _run_epochs(self, training: Training, split: Split, validation: Split | None) -> None:
        total = self.settings.epochs * split.anchors_per_epoch
        with (
            RunLog(self.run, after=training.position, writes=self.processes.is_main) as log,
            interruption() as told,
            self.progress.task("training", total) as task,
        ):
            task.advance((training.position.epoch - 1) * split.anchors_per_epoch)
            task.advance(min(training.position.batch * self.settings.batch_size, split.anchors_per_epoch))
            started = saved = time.monotonic()
            while not training.is_done:
                for record in training.steps_of_epoch():
                    self.images += record.images
                    speed = self.images / (time.monotonic() - started)
                    log.step(record, speed)
                    task.advance(record.anchors, status=_status(record, speed))
                    asked = self.processes.any(told.asked)
                    if asked or time.monotonic() - saved > self.options.state_seconds:
                        self._save_state(training, log)
                        saved = time.monotonic()
                    if asked:
                        raise KeyboardInterrupt
                self._end_epoch(training, validation, log)
                saved = time.monotonic()
                if self.processes.any(told.asked) and not training.is_done:
                    raise KeyboardInterrupt

    def _end_epoch(self, training: Training, validation: Split | None, log: RunLog) -> None:
        """Judges the network, keeps it, and the state with it: in this order, so that a kill in between loses none."""
        epoch, step = training.position.epoch, training.position.step
        loss = None if validation is None else validation_loss(validation, seed=self.settings.seed)
        best = loss is None or self.best_loss is None or loss < self.best_loss
        if loss is not None and best and math.isfinite(loss):
            self.best_loss = loss
        if self.processes.is_main:
            losses = [(one.loss, one.anchors) for one in read_steps(self.run) if one.epoch == epoch]
            mean = sum(loss * anchors for loss, anchors in losses) / sum(anchors for _, anchors in losses)
            log.epoch(EpochRecord(epoch, step, mean, loss, best))
            keep_network(self.plan, self.network, self.run, best=best)
        training.end_epoch()
        self._save_state(training, log)

    def _save_state(self, training: Training, log: RunLog) -> None:
        if self.processes.is_main:
            log.sync()
            save_state(training, self.identity, self.best_loss, self.run / STATE_FILE)

    def _report(self, preparing_seconds: float, seconds: float) -> TrainingReport:
        self.processes.wait()
        steps, epochs = read_steps(self.run), read_epochs(self.run)
        tenth = max(1, len(steps) // 10)
        best = [epoch for epoch in epochs if epoch.best][-1]
        report = TrainingReport(
            run=self.run,
            recipe=self.plan.recipe.name,
            images=len(self.plan.training.items),
            epochs=len(epochs),
            steps=len(steps),
            first_loss=sum(one.loss for one in steps[:tenth]) / tenth,
            last_loss=sum(one.loss for one in steps[-tenth:]) / tenth,
            best_epoch=best.epoch,
            best_validation_loss=best.validation_loss,
            preparing_seconds=preparing_seconds,
            seconds=seconds,
            images_per_second=self.images / seconds,
        )
        if self.processes.is_main:
            write_report(report)
        return report


def _require_fitting(plan: TrainingPlan) -> None:
    settings, teacher = plan.recipe.settings, plan.training.teacher
    for images in (plan.training, plan.validation):
        if images is not None:
            objective = Objective(settings, images)
            require_drawable(images, settings)
            objective.require_batch(min(settings.batch_size, anchors_per_epoch(images, settings)))
    if isinstance(plan.start, StudentCheckpoint) and settings.mode is Mode.ASYMMETRIC and teacher is not None:
        require_same_space(
            plan.start.space, teacher.space, left_name=f"student '{plan.start.name}'", right_name="the teacher's index"
        )


def _status(record: StepRecord, images_per_second: float) -> str:
    return f"epoch {record.epoch}, loss {record.loss:.4f}, {images_per_second:.1f} images/s"


def _one_process() -> Accelerator:
    from accelerate import Accelerator

    return Accelerator(cpu=True)
