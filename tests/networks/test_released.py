"""Names: what `--student`, `--teacher` and `--whitening` find, and what they say where they find nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from aml_edge.errors import CheckpointError, SpaceMismatchError, UsageError
from aml_edge.networks import released
from aml_edge.networks.checkpoints import (
    STUDENT_FILE,
    StudentCheckpoint,
    TeacherCheckpoint,
    save_student,
    save_teacher,
)
from aml_edge.networks.released import (
    newest_student,
    resolve_student,
    resolve_teacher,
    resolve_whitening,
    student_of_weights,
    untrained_student,
)
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.networks.whitening import Whitening
from aml_edge.networks.whitening_file import WhiteningCheckpoint, save_whitening
from aml_edge.networks.whitening_record import WhiteningKind, WhiteningRecord
from aml_edge.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from aml_edge.space import EmbeddingSpace

BACKBONE = "mobilenetv2_035"
SPACE = EmbeddingSpace("a teacher", "a" * 64, 8)


@pytest.fixture(scope="module")
def students() -> list[StudentCheckpoint]:
    """Two students that differ in their weights."""
    made = []
    for seed, name in enumerate(("first", "second")):
        student = Student(StudentSpec(BACKBONE, 8), seed=seed).eval()
        made.append(StudentCheckpoint(student, name, SPACE, Preprocessing(64), trained=True))
    return made


@pytest.fixture
def runs(students: list[StudentCheckpoint], tmp_path: Path) -> Path:
    """A folder of two runs, the second one written last, and a run that has no student yet."""
    folder = tmp_path / "runs"
    for place, checkpoint in enumerate(students):
        save_student(checkpoint, folder / checkpoint.name)
        os.utime(folder / checkpoint.name / STUDENT_FILE, ns=(place, 1_000_000_000 + place))
    (folder / "under way").mkdir()
    return folder


@pytest.fixture(scope="module")
def teacher() -> TeacherCheckpoint:
    network = Teacher(TeacherSpec(BACKBONE)).eval()
    whitening = Whitening(torch.zeros(network.dimension), torch.eye(4, network.dimension))
    return TeacherCheckpoint(network, "small", Preprocessing(), {"retrieval-SfM-120k/ss": whitening})


def test_a_run_is_found_by_name_folder_and_file(runs: Path) -> None:
    names = ("first", str(runs / "first"), str(runs / "first" / STUDENT_FILE))
    assert {resolve_student(name, runs=runs).name for name in names} == {"first"}


def test_without_a_name_the_newest_run_is_taken(runs: Path) -> None:
    assert resolve_student(None, runs=runs).name == "second"
    os.utime(runs / "first" / STUDENT_FILE, ns=(0, 2_000_000_000))
    assert resolve_student(None, runs=runs).name == "first"


def test_of_runs_written_at_the_same_moment_one_is_always_taken(runs: Path) -> None:
    for name in ("first", "second"):
        os.utime(runs / name / STUDENT_FILE, ns=(0, 3_000_000_000))
    assert newest_student(runs) == runs / "second"


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_no_runs_have_no_newest(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    assert newest_student(tmp_path / name) is None


def test_without_any_run_an_untrained_student_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert released.UNTRAINED_SPEC == StudentSpec("efficientnet_b3", 2048)
    monkeypatch.setattr(released, "UNTRAINED_SPEC", StudentSpec(BACKBONE, 8))
    found = resolve_student(None, runs=tmp_path / "runs")
    assert found.trained is False
    assert found.name == "mobilenetv2_035-untrained"
    assert found.space == EmbeddingSpace("none", found.weights_sha256, 8)
    assert found.space.is_untrained
    assert (found.preprocessing.mean, found.preprocessing.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert not found.student.training


def test_untrained_weights_are_those_of_their_seed() -> None:
    spec = StudentSpec(BACKBONE, 8)
    same, again, other = (untrained_student(spec, seed=seed).weights_sha256 for seed in (3, 3, 4))
    assert same == again != other


def test_a_published_student_takes_the_space_that_is_named(published: Callable[[str], Any]) -> None:
    space = EmbeddingSpace("resnet101-gem", "b" * 64, 32)
    assert resolve_student(str(published("mobilenet_v2").path), space=space).space == space


def test_the_space_that_is_named_does_not_change_what_a_run_says(runs: Path) -> None:
    other = EmbeddingSpace("another", "b" * 64, 8)
    assert resolve_student("first", runs=runs, space=other).space == SPACE


def test_a_damaged_newest_run_is_an_error_and_not_passed_over(runs: Path) -> None:
    (runs / "second" / STUDENT_FILE).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"second/student\.safetensors is no safetensors file"):
        resolve_student(None, runs=runs)


@pytest.mark.parametrize("name", ["nothing", "", "under way", "runs"])
def test_a_student_that_is_nowhere_is_said(runs: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs.parent)
    with pytest.raises(UsageError) as refusal:
        resolve_student(name, runs=Path("runs"))
    assert str(refusal.value) == (
        f"`student` is {name!r}; it must be a student's file, a run's folder, the name of a run in runs, or aml:NAME "
        "as released."
    )


def test_the_demo_is_said_to_be_made_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        resolve_student("demo", runs=tmp_path)
    assert str(refusal.value) == (
        f"`student` is 'demo', but there is no {tmp_path}/demo/{STUDENT_FILE}; `aml-edge demo` makes it."
    )


def test_a_student_is_found_by_its_weights(runs: Path, students: list[StudentCheckpoint]) -> None:
    for wanted in students:
        found = student_of_weights(wanted.weights_sha256, runs=runs)
        assert found is not None
        assert (found.name, found.weights_sha256) == (wanted.name, wanted.weights_sha256)


def test_weights_that_no_run_has_are_not_found(runs: Path) -> None:
    assert student_of_weights("0" * 64, runs=runs) is None
    assert student_of_weights("0" * 64, runs=runs / "absent") is None


def test_damaged_runs_do_not_hide_the_right_one(runs: Path, students: list[StudentCheckpoint]) -> None:
    (runs / "first" / STUDENT_FILE).write_bytes(b"damaged")
    found = student_of_weights(students[1].weights_sha256, runs=runs)
    assert found is not None and found.name == "second"


def test_a_run_that_lies_of_its_weights_is_not_taken(runs: Path, students: list[StudentCheckpoint]) -> None:
    """The first run claims the second's weights; its own are other ones, which reading it finds out."""
    file = runs / "first" / STUDENT_FILE
    lie = file.read_bytes().replace(students[0].weights_sha256.encode(), students[1].weights_sha256.encode())
    file.write_bytes(lie)
    with pytest.raises(CheckpointError, match="holds other weights than its record says"):
        student_of_weights(students[1].weights_sha256, runs=runs)


def test_an_imagenet_teacher_is_gem_over_its_backbone() -> None:
    found = resolve_teacher("imagenet:efficientnet_lite0")
    assert found.name == "efficientnet_lite0-gem-imagenet"
    assert (found.preprocessing.mean, found.preprocessing.std) == ((0.5,) * 3, (0.5,) * 3)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = found.teacher.backbone(images).clamp(min=1e-6)
        pooled = (features**3).mean(dim=(2, 3)) ** (1 / 3)
        expected = pooled / (pooled.norm(dim=1, keepdim=True) + 1e-6)
        torch.testing.assert_close(found.teacher(images), expected)
    assert found.space().dimension == 1280
    assert found.space() == resolve_teacher("imagenet:efficientnet_lite0").space()


def test_a_published_teacher_is_read_from_its_file(published: Callable[[str], Any]) -> None:
    assert resolve_teacher(str(published("resnet50").path)).name == "resnet50-gem"


@pytest.mark.parametrize("name", ["nothing", "efficientnet_lite2", ""])
def test_a_teacher_that_is_nowhere_is_said(name: str) -> None:
    with pytest.raises(UsageError) as refusal:
        resolve_teacher(name)
    assert str(refusal.value) == (
        f"`teacher` is {name!r}; it must be a teacher's file, a run's folder, gem:NAME as released, or "
        "imagenet:BACKBONE."
    )


def test_a_teacher_of_a_run_is_found_by_its_folder_and_by_its_name(teacher: TeacherCheckpoint, tmp_path: Path) -> None:
    save_teacher(replace(teacher, name="tuned", whitenings={}), tmp_path / "runs" / "tuned")
    assert resolve_teacher("tuned", runs=tmp_path / "runs").space() == replace(teacher, name="tuned").space()
    assert resolve_teacher(str(tmp_path / "runs" / "tuned")).name == "tuned"


def test_a_whitening_that_came_with_the_teacher_is_found_by_name(teacher: TeacherCheckpoint) -> None:
    assert resolve_whitening("retrieval-SfM-120k/ss", teacher) is teacher.whitenings["retrieval-SfM-120k/ss"]


def test_a_whitening_is_read_from_a_published_file(teacher: TeacherCheckpoint, tmp_path: Path) -> None:
    dimension = teacher.teacher.dimension
    mean, projection = torch.arange(float(dimension)), torch.eye(3, dimension) * 2
    torch.save({"m": mean[:, None], "P": projection}, tmp_path / "whitening.pth")
    found = resolve_whitening(str(tmp_path / "whitening.pth"), teacher)
    assert torch.equal(found.mean, mean)
    assert torch.equal(found.projection, projection)


def test_a_whitening_of_ours_is_read_and_one_of_another_teacher_refused(
    teacher: TeacherCheckpoint, tmp_path: Path
) -> None:
    whitening = Whitening(torch.ones(teacher.teacher.dimension), torch.eye(2, teacher.teacher.dimension))
    another = EmbeddingSpace("x", "a" * 64, teacher.teacher.dimension)
    for name, space in (("right", teacher.space()), ("wrong", another)):
        record = WhiteningRecord(
            whitening.sha256, WhiteningKind.PCA, space.teacher, space.weights_sha256, space, "stamps", 40, None, 0.0
        )
        save_whitening(WhiteningCheckpoint(whitening, record), tmp_path / name)
    assert resolve_whitening(str(tmp_path / "right"), teacher).sha256 == whitening.sha256
    with pytest.raises(SpaceMismatchError, match=r"wrong follows lives in x \(aaaaaaaa\), .*, but teacher 'small' in "):
        resolve_whitening(str(tmp_path / "wrong"), teacher)


def test_a_file_that_is_no_whitening_is_said(teacher: TeacherCheckpoint, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(CheckpointError, match="text is no whitening's file, or a damaged one: "):
        resolve_whitening(str(tmp_path / "text"), teacher)


def test_a_whitening_of_another_dimension_is_refused(teacher: TeacherCheckpoint, tmp_path: Path) -> None:
    path = tmp_path / "whitening.pth"
    torch.save({"m": torch.zeros(5, 1), "P": torch.eye(5)}, path)
    with pytest.raises(UsageError) as refusal:
        resolve_whitening(str(path), teacher)
    assert str(refusal.value) == (
        f"`whitening` is {str(path)!r}, which takes 5 values, but teacher 'small' gives {teacher.teacher.dimension}; "
        "give one that was learned for this teacher."
    )


def test_a_whitening_that_is_nowhere_is_said(teacher: TeacherCheckpoint) -> None:
    with pytest.raises(UsageError) as refusal:
        resolve_whitening("nothing", teacher)
    assert str(refusal.value) == (
        "`whitening` is 'nothing'; it must be a whitening's file, or one that came with teacher 'small': "
        "retrieval-SfM-120k/ss."
    )
