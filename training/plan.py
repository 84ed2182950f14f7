"""`TrainingPlan`: what is to be trained, how, and on what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aml_edge.errors import UsageError
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint
from aml_edge.training.recipe import Recipe
from aml_edge.training.run_folder import RunRecord, StudentStart, require_same_run
from aml_edge.training.training_set import TrainingSet

Checkpoint = StudentCheckpoint | TeacherCheckpoint


@dataclass(frozen=True)
class TrainingPlan:
    """What is to be trained, how, and on what.

    Args:
        start: what to start from; left as it is.
        recipe: how.
        training, validation: images to learn from and to judge by.
        data, index: where they came from, for whoever goes on with the run.
        notes: what whoever begins it should know.
        quantized_from: where `start` is from, if it is to learn what an int8 file will compute; else None.
    """

    start: Checkpoint
    recipe: Recipe
    training: TrainingSet
    validation: TrainingSet | None
    data: Path
    index: Path | None
    notes: tuple[str, ...] = ()
    quantized_from: StudentStart | None = None


def record_of(plan: TrainingPlan) -> RunRecord:
    """Returns what a run folder says of a training by this plan."""
    validation = None if plan.validation is None else plan.validation.fingerprint
    return RunRecord(plan.recipe, plan.data, plan.index, plan.training.fingerprint, validation, plan.quantized_from)


def is_run_of(plan: TrainingPlan, run: Path) -> bool:
    """Returns whether a folder holds a run of the plan, finished or not."""
    try:
        require_same_run(run, record_of(plan))
    except UsageError:
        return False
    return True
