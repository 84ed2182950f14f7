"""`aml-edge train --qat`: from a trained student to one that has learned what its int8 file will compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState

from aml_edge.datasets.image_source import image_source
from aml_edge.datasets.synthetic.spec import SyntheticSpec
from aml_edge.datasets.synthetic.writing import write_synthetic
from aml_edge.embedder import FakeEmbedder
from aml_edge.index.building import build_index
from aml_edge.networks.checkpoints import StudentCheckpoint, load_student, save_student
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.quantization.stored import load_quantization
from aml_edge.space import EmbeddingSpace
from aml_edge.training.loop import StepRecord, Training

SPACE = EmbeddingSpace("block means", "b" * 64, 16)
SPEC = SyntheticSpec(
    image_side_px=64, landmarks_train=9, landmarks_val=2, views_train=2, landmarks_test=1, distractors=0
)
FEW_STEPS = ("--set", "epochs=2", "--set", "queries_per_epoch=4", "--set", "batch_size=2")

CommandLine = Callable[..., Any]


@pytest.fixture(autouse=True)
def new_accelerate() -> Iterator[None]:
    """A process of the real command line makes one Accelerator, which remembers its precision."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighteen images to learn from, four to judge by; no test may change it."""
    return write_synthetic(tmp_path_factory.mktemp("synthetic") / "data", SPEC).train_root


@pytest.fixture(scope="module")
def index(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    teacher = FakeEmbedder(SPACE, Preprocessing(64))
    return build_index(teacher, image_source(data), tmp_path_factory.mktemp("indexes") / "index").path


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a student that says it was trained."""
    network = Student(StudentSpec("mobilenetv2_035", 16)).eval()
    folder = tmp_path_factory.mktemp("runs") / "first"
    save_student(StudentCheckpoint(network, "first", SPACE, Preprocessing(64), trained=True), folder)
    return folder


@pytest.fixture
def arguments(data: Path, index: Path, student: Path, tmp_path: Path) -> tuple[object, ...]:
    """A command that works."""
    out = tmp_path / "mine-qat"
    places = ("--from", student, "--data", data, "--index", index, "--out", out)
    return ("train", "--qat", *places, *FEW_STEPS, "--cpu")


def test_a_student_learns_its_integers_and_goes_on_where_it_was_stopped(
    command_line: CommandLine,
    arguments: tuple[object, ...],
    data: Path,
    student: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, steps_of_epoch = tmp_path / "mine-qat", Training.steps_of_epoch

    def stopped(training: Training) -> Iterator[StepRecord]:
        for record in steps_of_epoch(training):
            yield record
            if record.step == 3:
                raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Training, "steps_of_epoch", stopped)
        done = command_line(*arguments)
    assert done.code == 130
    assert f"stopped: {run} holds the network of epoch 1 in last.safetensors." in done.out.splitlines()
    done = command_line("train", "--out", run, "--resume", "--cpu")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0] == f"recipe qat; 18 images, 4 for validation: {data}"
    trained, stored = load_student(run), load_quantization(run)
    assert stored is not None and stored.weights_sha256 == trained.weights_sha256
    assert stored.record.calibration is not None
    assert (stored.record.calibration.source, stored.record.calibration.count) == (str(data), 18)
    assert trained.name == "mine-qat"
    assert trained.space == SPACE
    assert trained.preprocessing == load_student(student).preprocessing.fitted(Fit.LETTERBOX, 64)


def test_without_a_student_it_is_asked_for(command_line: CommandLine, data: Path, tmp_path: Path) -> None:
    done = command_line("train", "--qat", "--data", data, "--out", tmp_path / "run", "--cpu")
    assert (done.code, done.err) == (
        2,
        "error: `qat` starts from a trained student, and `from` is missing; name its run folder: --from RUN.\n",
    )


def test_a_student_that_is_not_there_is_wrong_usage(command_line: CommandLine, data: Path, tmp_path: Path) -> None:
    done = command_line("train", "--qat", "--from", "nowhere", "--data", data, "--out", tmp_path / "run", "--cpu")
    assert (done.code, done.err) == (
        2,
        "error: `from` is nowhere, which does not exist; name a run's folder, or the file of a student.\n",
    )
    assert not (tmp_path / "run").exists()


def test_a_student_without_qat_is_refused(command_line: CommandLine, arguments: tuple[object, ...]) -> None:
    student = arguments[3]
    done = command_line(*(one for one in arguments if one != "--qat"))
    assert (done.code, done.err) == (
        2,
        f"error: `from` is {student}, which only a quantization-aware training starts from; add --qat, or leave --from "
        "out: a recipe makes its own network.\n",
    )


def test_a_run_does_not_replace_what_it_starts_from(
    command_line: CommandLine, arguments: tuple[object, ...], student: Path
) -> None:
    for start in (student, student / "student.safetensors"):
        done = command_line(*arguments, "--from", start, "--out", student, "--overwrite")
        assert (done.code, done.err) == (
            2,
            f"error: `out` is {student}, where the student of --from lies; name another folder.\n",
        )


def test_a_run_that_was_begun_without_qat_does_not_go_on_with_it(
    command_line: CommandLine, data: Path, index: Path, student: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    settings = ("backbone=mobilenetv2_035", "epochs=1", "image_side_px=64", "queries_per_epoch=2")
    changes = [part for one in settings for part in ("--set", one)]
    assert command_line("train", "--data", data, "--index", index, "--out", run, "--cpu", *changes).code == 0
    assert load_quantization(run) is None
    done = command_line("train", "--out", run, "--resume", "--qat", "--from", student, "--cpu")
    assert (done.code, done.err) == (
        2,
        f"error: `run` is {run}, whose training was begun without --qat; leave --qat and --from out.\n",
    )


def test_a_student_with_random_weights_is_refused(
    command_line: CommandLine, arguments: tuple[object, ...], student: Path, tmp_path: Path
) -> None:
    save_student(replace(load_student(student), trained=False), tmp_path / "untrained")
    done = command_line(*arguments, "--from", tmp_path / "untrained")
    assert done.code == 2
    assert done.err.startswith("error: `from` is student 'first', whose weights are random; ")
    assert not (tmp_path / "mine-qat").exists()


def test_a_student_of_another_space_is_refused(
    command_line: CommandLine, arguments: tuple[object, ...], student: Path, tmp_path: Path
) -> None:
    save_student(replace(load_student(student), space=EmbeddingSpace("other", "c" * 64, 16)), tmp_path / "other")
    done = command_line(*arguments, "--from", tmp_path / "other")
    assert done.code == 1
    assert done.err.startswith(
        "error: student 'first' lives in other (cccccccc), 16-D, no whitening, but the teacher's "
    )
    assert not (tmp_path / "mine-qat").exists()


def test_a_recipe_that_cannot_be_quantized_is_refused(
    command_line: CommandLine, arguments: tuple[object, ...], tmp_path: Path
) -> None:
    done = command_line(*arguments, "--recipe", "small-reg")
    assert done.code == 2
    assert done.err.startswith("error: recipe 'small-reg' cannot train for integers: `fit` is native and must be ")
    assert not (tmp_path / "mine-qat").exists()


def test_the_recipe_needs_a_student(
    command_line: CommandLine, arguments: tuple[object, ...], data: Path, index: Path, tmp_path: Path
) -> None:
    done = command_line(
        "train", "--recipe", "qat", "--data", data, "--index", index, "--out", tmp_path / "run", "--cpu"
    )
    assert (done.code, done.err) == (
        2,
        "error: `backbone` is 'any', which takes that of a trained student; name the student: --qat --from RUN, or set "
        "`backbone`.\n",
    )


def test_its_recipe_is_shown(command_line: CommandLine) -> None:
    done = command_line("train", "--qat", "--show")
    assert done.code == 0
    assert "Jacob et al." in done.out
