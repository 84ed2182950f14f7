"""Which network of a run is kept: the best by validation, and the last."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aml_edge.networks.checkpoints import StudentCheckpoint, load_student
from aml_edge.networks.normalisation import Normalise
from aml_edge.training.log import read_epochs
from aml_edge.training.plan import TrainingPlan
from aml_edge.training.recipe import Recipe
from aml_edge.training.report import TrainingReport
from aml_edge.training.run import RunOptions, train
from aml_edge.training.settings import Schedule, TrainingSettings
from aml_edge.training.training_set import TeacherEmbeddings, TrainingSet

SETTINGS = TrainingSettings(
    backbone="mobilenetv2_035",
    epochs=4,
    batch_size=6,
    image_side_px=64,
    frozen_stages=4,
    warm_start=False,
    schedule=Schedule.EXPONENTIAL,
    adaptor_rate_factor=1.0,
)
Images = list[npt.NDArray[np.uint8]]


def embedded(checkpoint: StudentCheckpoint, pixels: Images) -> npt.NDArray[np.float32]:
    """Returns what a student gives of each image, one by one."""
    normalise = Normalise(checkpoint.preprocessing.mean, checkpoint.preprocessing.std)
    with torch.inference_mode():
        return np.stack([checkpoint.student(normalise(torch.from_numpy(image)[None])).numpy()[0] for image in pixels])


@pytest.fixture(scope="module")
def plan(start: StudentCheckpoint, training_set: TrainingSet, pixels: Images) -> TrainingPlan:
    """Validated by embeddings that the student has at the start: what it learns leads away from them."""
    own = TeacherEmbeddings(embedded(start, pixels), start.space)
    validation = replace(training_set, teacher=own)
    return TrainingPlan(start, Recipe("small", {}, SETTINGS), training_set, validation, Path("data"), Path("index"))


@pytest.fixture(scope="module")
def finished(plan: TrainingPlan, tmp_path_factory: pytest.TempPathFactory) -> TrainingReport:
    return train(plan, tmp_path_factory.mktemp("runs") / "first")


def test_the_best_network_is_that_of_an_earlier_epoch(
    finished: TrainingReport, plan: TrainingPlan, pixels: Images
) -> None:
    epochs = read_epochs(finished.run)
    losses = [epoch.validation_loss for epoch in epochs if epoch.validation_loss is not None]
    assert len(losses) == 4
    best = int(np.argmin(losses))
    assert best < 3
    assert (finished.best_epoch, finished.best_validation_loss) == (1 + best, losses[best])
    assert plan.validation is not None and plan.validation.teacher is not None
    for file, epoch in (("student.safetensors", epochs[best]), ("last.safetensors", epochs[-1])):
        rows = embedded(load_student(finished.run / file), pixels)
        loss = 1 - (rows.astype(np.float64) * plan.validation.teacher.rows).sum(axis=1).mean()
        assert epoch.validation_loss == pytest.approx(loss, rel=1e-4)  # of float32 sums in another order


def test_the_best_network_is_what_a_run_of_so_many_epochs_gives(
    finished: TrainingReport, plan: TrainingPlan, tmp_path: Path
) -> None:
    shorter = replace(plan, recipe=replace(plan.recipe, settings=replace(SETTINGS, epochs=finished.best_epoch)))
    run = train(shorter, tmp_path / "first").run  # this schedule does not depend on their number
    assert (run / "last.safetensors").read_bytes() == (finished.run / "student.safetensors").read_bytes()
    assert (run / "last.safetensors").read_bytes() != (finished.run / "last.safetensors").read_bytes()
    assert json.loads((finished.run / "student.json").read_text())["name"] == "first"


@pytest.mark.parametrize(
    ("losses", "best", "stopped_after"),
    [
        ([0.4, 0.3, 0.2, 0.1], [True, True, True, True], None),
        ([0.3, 0.1, 0.2, 0.1], [True, True, False, False], 2),  # of equal ones the first
        ([0.3, 0.4, 0.2, 0.3], [True, False, True, False], 1),
        ([math.nan, 0.4, math.nan, 0.5], [True, True, False, False], 1),
        ([0.4, math.nan, 0.3, math.inf], [True, False, True, False], 2),
        ([math.nan] * 4, [True] * 4, 3),  # nothing can be told, the last is kept
        ([-0.5, 0.0, -0.25, -1.0], [True, False, False, True], None),
    ],
)
def test_the_lowest_validation_loss_decides(
    plan: TrainingPlan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    losses: list[float],
    best: list[bool],
    stopped_after: int | None,
) -> None:
    """Also where a run is stopped between two epochs, and goes on from what its state says of the best."""
    left = list(losses)

    def next_loss(split: object, *, seed: int) -> float:
        if len(losses) - len(left) == stopped_after:
            raise KeyboardInterrupt
        return left.pop(0)

    monkeypatch.setattr("aml_edge.training.run.validation_loss", next_loss)
    quick = replace(
        plan, recipe=replace(plan.recipe, settings=replace(SETTINGS, frozen_stages=6, batch_size=12))
    )  # one step an epoch
    if stopped_after is not None:
        with pytest.raises(KeyboardInterrupt):
            train(quick, tmp_path / "run")
        stopped_after = None
    report = train(quick, tmp_path / "run", RunOptions(resume=(tmp_path / "run").exists()))
    epochs = read_epochs(report.run)
    assert [epoch.best for epoch in epochs] == best
    assert [repr(epoch.validation_loss) for epoch in epochs] == [repr(loss) for loss in losses]
    assert report.best_epoch == max(epoch.epoch for epoch in epochs if epoch.best)
    files = [(report.run / name).read_bytes() for name in ("student.safetensors", "last.safetensors")]
    assert (files[0] == files[1]) is best[-1]
