"""The network that a plan trains: how it is made, made faster while it trains, and kept."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from aml_edge.errors import UsageError
from aml_edge.networks.checkpoints import (
    STUDENT_FILE,
    TEACHER_FILE,
    StudentCheckpoint,
    TeacherCheckpoint,
    save_student,
    save_teacher,
    weights_sha256,
)
from aml_edge.networks.student import Student
from aml_edge.networks.teacher import Teacher
from aml_edge.progress import Progress
from aml_edge.quantization.stored import StoredQuantization, save_quantization
from aml_edge.space import EmbeddingSpace
from aml_edge.training.cpu_speed import without_needless_copies
from aml_edge.training.folded_batch_norm import folded_batch_norm
from aml_edge.training.optimisation import freeze_stages
from aml_edge.training.plan import TrainingPlan
from aml_edge.training.processes import Processes
from aml_edge.training.quantization_aware import QuantizationAwareStudent
from aml_edge.training.quantization_start import quantization_aware
from aml_edge.training.run_folder import LAST_FILE
from aml_edge.training.settings import BatchNorm, Mode, TrainingSettings
from aml_edge.training.trainable import Trainable


def float_network(plan: TrainingPlan) -> Student | Teacher:
    """Returns a copy of what a plan starts from, its first stages frozen as the settings say.

    Raises:
        UsageError: it has fewer stages.
    """
    start = plan.start.student if isinstance(plan.start, StudentCheckpoint) else plan.start.teacher
    network = copy.deepcopy(start).eval()
    freeze_stages(network.backbone, plan.recipe.settings.frozen_stages)
    return network


def quantization_aware_network(plan: TrainingPlan, progress: Progress) -> QuantizationAwareStudent:
    """Returns the student of a plan, prepared for integers on some of its training images.

    Raises:
        QuantizationError, ImageBatchError: as of `quantization_aware`.
    """
    assert isinstance(plan.start, StudentCheckpoint)
    return quantization_aware(
        plan.start, plan.training, plan.data, seed=plan.recipe.settings.seed, progress=progress
    ).eval()


def require_single_precision(processes: Processes) -> None:
    """Raises `UsageError` where a network would run in half precision, in which integers are not what a file has."""
    precision = processes.accelerator.mixed_precision
    if precision != "no":
        raise UsageError(
            f"`mixed_precision` is '{precision}', which rounds once more than an int8 file; it must be 'no' for --qat."
        )


@contextmanager
def sped_up(network: Trainable, settings: TrainingSettings) -> Iterator[None]:
    """Makes the steps of a network shorter, and changes nothing in them; undone at the end."""
    if isinstance(network, QuantizationAwareStudent):  # its batch normalisations are gone, and nothing is in place
        yield
        return
    frozen = settings.batch_norm is BatchNorm.FROZEN
    with folded_batch_norm(network.backbone.trunk) if frozen else nullcontext(), without_needless_copies(network):
        yield


def keep_network(plan: TrainingPlan, network: Trainable, run: Path, *, best: bool) -> None:
    """Writes the network as it is now into a run folder, as the newest and, where it is, as the best one so far.

    Args:
        plan: of the run.
        network: that it trains.
        run: the folder, for which the network is named.
        best: whether to replace the best one too.
    """
    checkpoint = _named(plan, network, run.resolve().name)
    if isinstance(checkpoint, TeacherCheckpoint):
        for file in (TEACHER_FILE, LAST_FILE) if best else (LAST_FILE,):
            save_teacher(checkpoint, run, file_name=file)
        return
    for file in (STUDENT_FILE, LAST_FILE) if best else (LAST_FILE,):
        save_student(checkpoint, run, file_name=file)
        if isinstance(network, QuantizationAwareStudent):
            stored = StoredQuantization(network.quantization, network.record, checkpoint.weights_sha256)
            save_quantization(stored, run / file)


def _named(plan: TrainingPlan, network: Trainable, name: str) -> StudentCheckpoint | TeacherCheckpoint:
    """Returns the trained network under a name; one that was trained alone has a space of its own."""
    start = plan.start
    if isinstance(start, TeacherCheckpoint):
        assert isinstance(network, Teacher)
        return TeacherCheckpoint(network, name, start.preprocessing)
    if isinstance(network, QuantizationAwareStudent):
        network = network.trained_student()
    assert isinstance(network, Student)
    space = start.space
    if plan.recipe.settings.mode is Mode.SYMMETRIC:
        space = EmbeddingSpace(name, weights_sha256(network), network.dimension)
    return replace(start, student=network, name=name, space=space, trained=True, file=None)
