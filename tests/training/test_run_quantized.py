"""A quantization-aware run: what its folder holds, that it fits together, and that it goes on to the same bytes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from aml_edge.errors import QuantizationError, SpaceMismatchError, UsageError
from aml_edge.networks.checkpoints import StudentCheckpoint, load_student
from aml_edge.networks.deployable import DeployableStudent
from aml_edge.pixels import load_pixels
from aml_edge.preprocessing import Fit
from aml_edge.progress import ProgressTask
from aml_edge.quantization.fake_quantized import FakeQuantizedNetwork
from aml_edge.quantization.graph import site_graph
from aml_edge.quantization.stored import load_quantization
from aml_edge.space import EmbeddingSpace
from aml_edge.training.log import read_epochs
from aml_edge.training.plan import TrainingPlan
from aml_edge.training.report import TrainingReport
from aml_edge.training.run import RunOptions, train
from aml_edge.training.run_folder import StudentStart, prepare_run, read_run_record

STUDENT_FILES = {"student.safetensors", "student.json", "quantization.json"}
LAST_FILES = {"last.safetensors", "last.json", "last.quantization.json"}
LOG_FILES = {"run.json", "log.csv", "epochs.csv"}
ROUNDING = 1e-6
"""Of a mean of cosines in single precision, summed in another order."""


@pytest.fixture(scope="module")
def unbroken(quantized_plan: TrainingPlan, tmp_path_factory: pytest.TempPathFactory) -> TrainingReport:
    """The report of the run; no test may change the folder."""
    return train(quantized_plan, tmp_path_factory.mktemp("unbroken") / "mine-qat")


def test_the_folder_holds_an_ordinary_student_and_its_integers(
    unbroken: TrainingReport, quantized_plan: TrainingPlan, trained_start: StudentCheckpoint
) -> None:
    names = {path.name for path in unbroken.run.iterdir()}
    assert names == STUDENT_FILES | LAST_FILES | LOG_FILES | {"report.json", "tensorboard"}
    student = load_student(unbroken.run)
    assert (student.name, student.space, student.trained) == ("mine-qat", trained_start.space, True)
    assert student.preprocessing == trained_start.preprocessing
    assert student.preprocessing.fit is Fit.LETTERBOX
    assert student.weights_sha256 != trained_start.weights_sha256
    assert read_run_record(unbroken.run).quantized_from == quantized_plan.quantized_from


def test_the_loss_falls(unbroken: TrainingReport) -> None:
    assert unbroken.steps == 6
    assert unbroken.last_loss < unbroken.first_loss


@pytest.mark.parametrize("file", ["student.safetensors", "last.safetensors"])
def test_student_and_integers_compute_what_was_validated(
    unbroken: TrainingReport, quantized_plan: TrainingPlan, file: str
) -> None:
    """The files alone give the validation loss of their epoch: both images and teacher embeddings are known."""
    student, stored = load_student(unbroken.run / file), load_quantization(unbroken.run / file)
    validation = quantized_plan.validation
    assert stored is not None and validation is not None and validation.teacher is not None
    graph = site_graph(DeployableStudent(student.student, student.preprocessing), 64)
    images = np.stack([load_pixels(item.path, student.preprocessing) for item in validation.items])
    with torch.inference_mode():
        rows = FakeQuantizedNetwork(graph, stored.quantization)(torch.from_numpy(images)).numpy()
    loss = 1 - float((rows * validation.teacher.rows).sum(axis=1).mean())
    epochs = read_epochs(unbroken.run)
    epoch = epochs[-1] if file == "last.safetensors" else [one for one in epochs if one.best][-1]
    assert loss == pytest.approx(epoch.validation_loss, abs=ROUNDING)


class StoppedAt:
    """A Progress at which a signal comes to this process after some steps of training."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[ProgressTask]:
        self.trains = description == "training"
        yield self

    def advance(self, steps: int = 1, *, status: str = "") -> None:
        if self.trains and status:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    unbroken: TrainingReport,
    quantized_plan: TrainingPlan,
    contents: Callable[[Path], dict[str, bytes]],
    tmp_path: Path,
) -> None:
    run = tmp_path / "mine-qat"
    with pytest.raises(KeyboardInterrupt):
        train(quantized_plan, run, RunOptions(progress=StoppedAt(4)))
    assert load_quantization(run / "last.safetensors") is not None
    assert (run / "state.safetensors").is_file()
    report = train(quantized_plan, run, RunOptions(resume=True))
    assert (report.steps, report.last_loss) == (unbroken.steps, unbroken.last_loss)
    ours, theirs = contents(run), contents(unbroken.run)
    for name in STUDENT_FILES | LAST_FILES | LOG_FILES:
        assert ours[name] == theirs[name], name


def test_another_start_does_not_go_on(unbroken: TrainingReport, quantized_plan: TrainingPlan) -> None:
    for start in (StudentStart(Path("runs/first"), "0" * 64), None):
        with pytest.raises(UsageError) as caught:
            train(replace(quantized_plan, quantized_from=start), unbroken.run, RunOptions(resume=True))
        assert str(caught.value) == (
            f"`run` is {unbroken.run}, whose training was begun with other weights to start from (--qat --from); go on "
            "with the same, or start again with --overwrite."
        )


def test_a_run_that_is_replaced_leaves_no_integers_behind(tmp_path: Path) -> None:
    for name in STUDENT_FILES | LAST_FILES | LOG_FILES | {"notes.txt", ".quantization.7.partial.json"}:
        (tmp_path / name).write_text("{}")
    prepare_run(tmp_path, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", ".quantization.7.partial.json"}


def test_too_few_images_leave_no_run_behind(quantized_plan: TrainingPlan, tmp_path: Path) -> None:
    teacher = quantized_plan.training.teacher
    assert teacher is not None
    few = replace(
        quantized_plan.training,
        items=quantized_plan.training.items[:12],
        teacher=replace(teacher, rows=teacher.rows[:12]),
    )
    with pytest.raises(QuantizationError, match="of which 12 distinct images were drawn to calibrate"):
        train(replace(quantized_plan, training=few), tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_student_of_another_space_is_refused(
    quantized_plan: TrainingPlan, trained_start: StudentCheckpoint, tmp_path: Path
) -> None:
    other = replace(trained_start, space=EmbeddingSpace("another", "d" * 64, 16))
    with pytest.raises(SpaceMismatchError, match=r"student 'small' lives in another \(dddddddd\)"):
        train(replace(quantized_plan, start=other), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_half_precision_is_refused(quantized_plan: TrainingPlan, tmp_path: Path) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        with pytest.raises(UsageError) as caught:
            train(
                quantized_plan,
                tmp_path / "run",
                RunOptions(accelerator=Accelerator(cpu=True, mixed_precision="bf16")),
            )
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert str(caught.value) == (
        "`mixed_precision` is 'bf16', which rounds once more than an int8 file; it must be 'no' for --qat."
    )
    assert not (tmp_path / "run").exists()
