"""A training run from its beginning to its end: what its folder holds, and what is told meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint, load_student, load_teacher
from aml_edge.networks.normalisation import Normalise
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.progress import ProgressTask
from aml_edge.space import EmbeddingSpace
from aml_edge.training.log import read_epochs, read_steps
from aml_edge.training.plan import TrainingPlan
from aml_edge.training.report import TrainingReport, read_report
from aml_edge.training.run import RunOptions, train
from aml_edge.training.run_folder import read_run_record
from aml_edge.training.settings import Mode, Network
from aml_edge.training.training_set import TrainingSet

STEPS, IMAGES = 6, 12
STUDENT_FILES = {"student.safetensors", "student.json", "last.safetensors", "last.json"}
LOG_FILES = {"run.json", "log.csv", "epochs.csv", "report.json", "tensorboard"}
Images = list[npt.NDArray[np.uint8]]
Planned = Callable[..., TrainingPlan]
Contents = Callable[[Path], dict[str, bytes]]


def test_the_folder_holds_networks_record_and_log(finished: TrainingReport, plan: TrainingPlan) -> None:
    assert {path.name for path in finished.run.iterdir()} == STUDENT_FILES | LOG_FILES
    record = read_run_record(finished.run)
    assert record.recipe == plan.recipe
    assert (record.data, record.index) == (plan.data, plan.index)
    assert (record.training_fingerprint, record.validation_fingerprint) == (plan.training.fingerprint, None)
    steps = read_steps(finished.run)
    assert [(one.step, one.epoch, one.anchors, one.images) for one in steps] == [
        (step, 1 + (step - 1) // 3, 4, 4) for step in range(1, STEPS + 1)
    ]
    assert [(one.epoch, one.step, one.validation_loss, one.best) for one in read_epochs(finished.run)] == [
        (1, 3, None, True),
        (2, 6, None, True),
    ]
    for epoch in read_epochs(finished.run):
        of_epoch = [step.loss for step in steps if step.epoch == epoch.epoch]
        assert epoch.training_loss == pytest.approx(np.mean(of_epoch), rel=1e-12)


def test_the_report_counts_and_is_kept(finished: TrainingReport) -> None:
    steps = read_steps(finished.run)
    assert (finished.recipe, finished.images, finished.epochs, finished.steps) == ("small", IMAGES, 2, STEPS)
    assert (finished.first_loss, finished.last_loss) == (steps[0].loss, steps[-1].loss)
    assert (finished.best_epoch, finished.best_validation_loss) == (2, None)
    assert finished.preparing_seconds > 0
    assert finished.images_per_second == pytest.approx(2 * IMAGES / finished.seconds)
    assert read_report(finished.run) == finished
    values = json.loads((finished.run / "report.json").read_text())
    assert values == {**asdict(finished), "run": str(finished.run)}


def test_first_and_last_loss_are_means_over_a_tenth_of_the_steps(planned: Planned, tmp_path: Path) -> None:
    report = train(planned("small", epochs=2, batch_size=1, frozen_stages=5), tmp_path / "run")
    losses = [step.loss for step in read_steps(report.run)]
    assert report.steps == len(losses) == 24
    assert report.first_loss == pytest.approx(sum(losses[:2]) / 2, rel=1e-12)
    assert report.last_loss == pytest.approx(sum(losses[-2:]) / 2, rel=1e-12)


def test_the_student_is_the_trained_one_in_the_teacher_s_space(
    finished: TrainingReport, start: StudentCheckpoint
) -> None:
    trained = load_student(finished.run)
    assert trained.trained
    assert trained.name == "first"
    assert trained.space == start.space
    assert trained.preprocessing == Preprocessing(64, Fit.NATIVE)
    assert trained.weights_sha256 != start.weights_sha256


def test_without_validation_the_last_network_is_the_run_s(finished: TrainingReport, contents: Contents) -> None:
    files = contents(finished.run)
    assert files["student.safetensors"] == files["last.safetensors"]
    assert files["student.json"] == files["last.json"]


def mean_loss(checkpoint: StudentCheckpoint, training_set: TrainingSet, pixels: Images) -> float:
    """Returns one minus the mean cosine to the teacher's embeddings."""
    assert training_set.teacher is not None
    normalise = Normalise(checkpoint.preprocessing.mean, checkpoint.preprocessing.std)
    with torch.inference_mode():
        rows = [checkpoint.student(normalise(torch.from_numpy(image)[None])).numpy()[0] for image in pixels]
    return 1 - float((np.stack(rows) * training_set.teacher.rows).sum(axis=1).mean())


def test_the_loss_falls(plan: TrainingPlan, planned: Planned, pixels: Images, tmp_path: Path) -> None:
    report = train(planned("small", epochs=8, warm_start=False, adaptor_rate_factor=20.0), tmp_path / "run")
    assert isinstance(plan.start, StudentCheckpoint)
    before = mean_loss(plan.start, plan.training, pixels)
    after = mean_loss(load_student(report.run), plan.training, pixels)
    assert report.first_loss == pytest.approx(before, rel=0.3)  # of a third of the images
    assert report.last_loss < 0.6 * report.first_loss
    assert after < 0.6 * before


def test_a_warm_start_begins_nearer_to_the_teacher(
    finished: TrainingReport, start: StudentCheckpoint, training_set: TrainingSet, pixels: Images
) -> None:
    assert finished.first_loss < 0.1 * mean_loss(start, training_set, pixels)


def test_without_a_warm_start_the_student_s_own_adaptor_is_trained(
    planned: Planned, start: StudentCheckpoint, tmp_path: Path
) -> None:
    report = train(planned("small", epochs=1, warm_start=False, adaptor_rate_factor=0.0), tmp_path / "run")
    assert torch.equal(load_student(report.run).student.adaptor.weight, start.student.adaptor.weight)


def test_the_start_is_left_as_it_is(planned: Planned, start: StudentCheckpoint, tmp_path: Path) -> None:
    before = start.weights_sha256
    train(planned("small", epochs=1), tmp_path / "run")
    assert start.weights_sha256 == before
    assert not start.student.training
    assert all(weight.requires_grad for weight in start.student.parameters())


def test_the_same_run_gives_the_same_files(
    finished: TrainingReport, plan: TrainingPlan, contents: Contents, tmp_path: Path
) -> None:
    again, before = contents(train(plan, tmp_path / "first").run), contents(finished.run)
    for name in (*STUDENT_FILES, "run.json", "log.csv", "epochs.csv"):
        assert again[name] == before[name]


def test_a_network_that_is_trained_alone_has_a_space_of_its_own(
    planned: Planned, labelled_set: TrainingSet, tmp_path: Path
) -> None:
    alone = replace(labelled_set, teacher=None)
    plan = planned("mined", mode=Mode.SYMMETRIC, epochs=1)
    train(replace(plan, training=alone, validation=alone, index=None), tmp_path / "mine")
    for path in (tmp_path / "mine", tmp_path / "mine" / "last.safetensors"):
        trained = load_student(path)
        assert trained.space == EmbeddingSpace("mine", trained.weights_sha256, 16)
    assert read_run_record(tmp_path / "mine").index is None


def test_a_teacher_is_trained_into_a_file_of_its_own(
    planned: Planned, labelled_set: TrainingSet, tmp_path: Path
) -> None:
    start = TeacherCheckpoint(Teacher(TeacherSpec("mobilenetv2_035"), seed=3).eval(), "start", Preprocessing(64))
    alone = replace(labelled_set, teacher=None)
    plan = planned("mined", mode=Mode.SYMMETRIC, epochs=1, network=Network.TEACHER)
    report = train(replace(plan, start=start, training=alone), tmp_path / "teacher-run")
    names = {name.replace("student", "teacher") for name in STUDENT_FILES}
    assert {path.name for path in report.run.iterdir()} == names | LOG_FILES
    trained = load_teacher(report.run)
    assert (trained.name, trained.preprocessing, dict(trained.whitenings)) == ("teacher-run", start.preprocessing, {})
    assert trained.space().weights_sha256 != start.space().weights_sha256
    assert load_teacher(report.run / "last.safetensors").space() == trained.space()


class Watched:
    """A Progress that notes how far each task has come, and what is said last."""

    def __init__(self) -> None:
        self.tasks: list[list[Any]] = []

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[ProgressTask]:
        self.tasks.append([description, total, 0, ""])
        yield self

    def advance(self, steps: int = 1, *, status: str = "") -> None:
        self.tasks[-1][2] += steps
        self.tasks[-1][3] = status


def test_progress_is_told_in_images_and_anchors(plan: TrainingPlan, tmp_path: Path) -> None:
    progress = Watched()
    report = train(plan, tmp_path / "run", RunOptions(progress=progress))
    assert [task[:3] for task in progress.tasks] == [
        ["frozen stages", IMAGES, IMAGES],
        ["warm start", IMAGES, IMAGES],
        ["training", 2 * IMAGES, 2 * IMAGES],
    ]
    assert progress.tasks[-1][3].startswith(f"epoch 2, loss {report.last_loss:.4f}, ")
    assert progress.tasks[-1][3].endswith(" images/s")
