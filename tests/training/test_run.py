"""A training run: what its folder holds, whatever happens."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from aml_edge.errors import ImageBatchError, SpaceMismatchError, TrainingError, UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.networks.checkpoints import StudentCheckpoint, load_student
from aml_edge.networks.normalisation import Normalise
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.progress import ProgressTask
from aml_edge.training.run import RUN_FILES, TrainingReport, prepare_run, train_student
from aml_edge.training.settings import TrainingSettings
from aml_edge.training.training_set import TrainingSet

SETTINGS = TrainingSettings(
    epochs=2, batch_size=4, image_side_px=64, learning_rate=1e-3, frozen_stages=1, warm_start_penalty=0.1
)
STEPS, IMAGES = 6, 12
Images = list[npt.NDArray[np.uint8]]


@pytest.fixture(scope="module")
def finished(
    start: StudentCheckpoint, training_set: TrainingSet, tmp_path_factory: pytest.TempPathFactory
) -> TrainingReport:
    return train_student(start, training_set, SETTINGS, tmp_path_factory.mktemp("runs") / "first")


def test_the_folder_holds_student_settings_and_log(finished: TrainingReport) -> None:
    assert sorted(path.name for path in finished.run.iterdir()) == sorted(RUN_FILES)
    assert TrainingSettings(**json.loads((finished.run / "settings.json").read_text())) == SETTINGS
    lines = (finished.run / "log.csv").read_text().splitlines()
    assert lines[0] == "step,epoch,images,loss,learning_rate"
    rows = [line.split(",") for line in lines[1:]]
    assert [(int(row[0]), int(row[1]), int(row[2])) for row in rows] == [
        (step, 1 + (step - 1) // 3, 4) for step in range(1, STEPS + 1)
    ]
    assert float(rows[0][3]) == finished.first_loss
    assert float(rows[-1][3]) == finished.last_loss


def test_the_student_is_the_trained_one_in_the_teachers_space(
    finished: TrainingReport, start: StudentCheckpoint
) -> None:
    trained = load_student(finished.run)
    assert trained.trained
    assert trained.name == "first"
    assert trained.space == start.space
    assert trained.preprocessing == Preprocessing(64, Fit.NATIVE)
    assert trained.weights_sha256 != start.weights_sha256


def mean_loss(checkpoint: StudentCheckpoint, training_set: TrainingSet, pixels: Images) -> float:
    """Returns one minus the mean cosine to the teacher's embeddings."""
    normalise = Normalise(checkpoint.preprocessing.mean, checkpoint.preprocessing.std)
    with torch.inference_mode():
        rows = [checkpoint.student(normalise(torch.from_numpy(image)[None])).numpy()[0] for image in pixels]
    return 1 - float((np.stack(rows) * training_set.teacher_embeddings).sum(axis=1).mean())


def test_the_loss_falls(start: StudentCheckpoint, training_set: TrainingSet, pixels: Images, tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=8, warm_start=False, adaptor_rate_factor=20.0)
    report = train_student(start, training_set, settings, tmp_path / "run")
    before = mean_loss(start, training_set, pixels)
    after = mean_loss(load_student(report.run), training_set, pixels)
    assert report.first_loss == pytest.approx(before, rel=0.3)  # of a third of the images
    assert report.last_loss < 0.6 * report.first_loss
    assert after < 0.6 * before


def test_a_warm_start_begins_nearer_to_the_teacher(
    finished: TrainingReport, start: StudentCheckpoint, training_set: TrainingSet, pixels: Images
) -> None:
    assert finished.first_loss < 0.1 * mean_loss(start, training_set, pixels)


def test_the_report_counts(finished: TrainingReport) -> None:
    assert (finished.images, finished.epochs, finished.steps) == (IMAGES, 2, STEPS)
    assert finished.preparing_seconds > 0
    assert finished.images_per_second == pytest.approx(2 * IMAGES / finished.seconds)


def test_the_start_is_left_as_it_is(start: StudentCheckpoint, training_set: TrainingSet, tmp_path: Path) -> None:
    before = start.weights_sha256
    train_student(start, training_set, replace(SETTINGS, epochs=1), tmp_path / "run")
    assert start.weights_sha256 == before
    assert not start.student.training
    assert all(weight.requires_grad for weight in start.student.parameters())


def test_the_same_run_gives_the_same_file(
    finished: TrainingReport, start: StudentCheckpoint, training_set: TrainingSet, tmp_path: Path
) -> None:
    again = train_student(start, training_set, SETTINGS, tmp_path / "first")
    for name in ("student.safetensors", "student.json", "settings.json", "log.csv"):
        assert (again.run / name).read_bytes() == (finished.run / name).read_bytes()


def test_without_a_warm_start_the_students_own_adaptor_is_trained(
    start: StudentCheckpoint, training_set: TrainingSet, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, epochs=1, warm_start=False, adaptor_rate_factor=0.0)
    report = train_student(start, training_set, settings, tmp_path / "run")
    assert torch.equal(load_student(report.run).student.adaptor.weight, start.student.adaptor.weight)


class StoppedAfter:
    """A Progress at which someone presses Ctrl-C after some steps of the training."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[ProgressTask]:
        self.description = description
        yield self

    def advance(self, steps: int = 1, *, status: str = "") -> None:
        if self.description == "training":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


@pytest.mark.parametrize(("steps", "saved"), [(2, False), (5, True)])
def test_ctrl_c_leaves_the_last_epochs_student_and_the_log(
    start: StudentCheckpoint, training_set: TrainingSet, tmp_path: Path, steps: int, saved: bool
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_student(start, training_set, SETTINGS, tmp_path / "run", progress=StoppedAfter(steps))
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == (set(RUN_FILES) if saved else {"settings.json", "log.csv"})
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 1 + steps
    if saved:
        assert load_student(tmp_path / "run").trained


def test_a_loss_that_is_not_finite_leaves_the_last_epochs_student(
    start: StudentCheckpoint, training_set: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_epoch = train_student(start, training_set, replace(SETTINGS, epochs=1, warm_up=0), tmp_path / "one epoch")
    calls = 0

    def breaks_in_the_second_epoch(anchor: Tensor, teacher_anchor: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return (0.5 * (anchor - teacher_anchor + 1e-6).square().sum(dim=1)).mean() * (1 if calls < 5 else torch.nan)

    monkeypatch.setattr("aml_edge.training.losses.LOSSES", {"regression": breaks_in_the_second_epoch})
    with pytest.raises(TrainingError, match=r"the loss is nan .* at step 5 of 6 \(epoch 2\)"):
        train_student(start, training_set, SETTINGS, tmp_path / "run")
    kept = load_student(tmp_path / "run")
    assert all(weight.isfinite().all() for weight in kept.student.parameters())
    assert kept.weights_sha256 not in (start.weights_sha256, load_student(one_epoch.run).weights_sha256)
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 1 + 4


def test_unreadable_images_are_listed_and_nothing_is_saved(
    start: StudentCheckpoint, training_set: TrainingSet, tmp_path: Path
) -> None:
    broken = replace(training_set, items=(*training_set.items[:-1], ImageItem(tmp_path / "gone.png")))
    with pytest.raises(ImageBatchError, match=r"1 of 12 images cannot be read[\s\S]*gone\.png"):
        train_student(start, broken, SETTINGS, tmp_path / "run")
    assert not (tmp_path / "run" / "student.safetensors").exists()


def test_a_student_of_another_teacher_is_refused(
    start: StudentCheckpoint, training_set: TrainingSet, tmp_path: Path
) -> None:
    stranger = replace(start, space=replace(start.space, teacher="another"))
    with pytest.raises(
        SpaceMismatchError, match=r"student 'small' lives in another .* but the teacher's index in colours"
    ):
        train_student(stranger, training_set, SETTINGS, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "hinge"}, "`loss` is 'hinge'; it must be one of regression"),
        ({"frozen_stages": 20}, "`frozen_stages` is 20; this backbone has"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_any_work(
    start: StudentCheckpoint,
    training_set: TrainingSet,
    tmp_path: Path,
    changes: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(UsageError, match=message):
        train_student(start, training_set, replace(SETTINGS, **changes), tmp_path / "run")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_another_run_is_replaced_only_if_told_to(
    start: StudentCheckpoint, training_set: TrainingSet, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, epochs=1, warm_start=False)
    train_student(start, training_set, settings, tmp_path)
    first = load_student(tmp_path).weights_sha256
    with pytest.raises(UsageError, match="which holds another run"):
        train_student(start, training_set, replace(settings, seed=1), tmp_path)
    assert load_student(tmp_path).weights_sha256 == first
    with pytest.raises(UsageError, match="`frozen_stages` is 20"):
        train_student(start, training_set, replace(settings, frozen_stages=20), tmp_path, overwrite=True)
    assert load_student(tmp_path).weights_sha256 == first
    train_student(start, training_set, replace(settings, seed=1), tmp_path, overwrite=True)
    assert load_student(tmp_path).weights_sha256 != first


def test_a_folder_without_a_run_is_ready(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    prepare_run(tmp_path)
    prepare_run(tmp_path / "new")
    prepare_run(tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_with_a_run_is_refused(finished: TrainingReport) -> None:
    with pytest.raises(UsageError) as caught:
        prepare_run(finished.run)
    assert str(caught.value) == (
        f"`run` is {finished.run}, which holds another run (student.safetensors, student.json, settings.json, "
        "log.csv); name another folder, or pass --overwrite."
    )


def test_overwriting_removes_the_run_and_nothing_else(finished: TrainingReport, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished.run, run)
    (run / "notes.txt").write_text("mine")
    prepare_run(run, overwrite=True)
    assert [path.name for path in run.iterdir()] == ["notes.txt"]


def test_a_file_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UsageError, match="which is a file; name a folder"):
        prepare_run(tmp_path / "run", overwrite=True)
