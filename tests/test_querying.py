"""Who may ask an index: sides that share its space, followed by its whitening where that is still missing."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from aml_edge.artifact import Artifact, Format, Manifest, Precision
from aml_edge.errors import SpaceMismatchError, UsageError
from aml_edge.index import TeacherIndex
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.networks.whitening import Whitening
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Fit, Preprocessing
from aml_edge.querying import artifact_queries, sized, student_queries, teacher_queries

SIDE = 64


@pytest.fixture(scope="module")
def teacher() -> TeacherCheckpoint:
    torch.set_num_threads(1)
    return TeacherCheckpoint(Teacher(TeacherSpec("mobilenetv2_035"), seed=1).eval(), "tiny", Preprocessing(SIDE))


@pytest.fixture(scope="module")
def student(teacher: TeacherCheckpoint) -> StudentCheckpoint:
    network = Student(StudentSpec("mobilenetv2_035", teacher.teacher.dimension), seed=2).eval()
    return StudentCheckpoint(network, "small", teacher.space(), Preprocessing(SIDE), trained=True)


@pytest.fixture(scope="module")
def whitening(teacher: TeacherCheckpoint) -> Whitening:
    generator = torch.Generator().manual_seed(0)
    dimension = teacher.teacher.dimension
    return Whitening(torch.rand(dimension, generator=generator), torch.randn(5, dimension, generator=generator))


def index_in(teacher: TeacherCheckpoint, whitening: Whitening | None = None) -> TeacherIndex:
    """An index of one image; only its record matters here."""
    space = teacher.space(whitening)
    row = np.full((1, space.dimension), space.dimension**-0.5, np.float32)
    return TeacherIndex(Path("ix"), space, Preprocessing(32), ("a.jpg",), row, whitening)


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (SIDE, 48, 3), dtype=np.uint8)


def normalised(pixels: Pixels) -> Tensor:
    """ImageNet's normalisation, written out."""
    scaled = pixels.astype(np.float64) / 255
    images = (scaled - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return torch.from_numpy(images.transpose(2, 0, 1)[None]).float()


def whitened(row: Tensor, whitening: Whitening) -> Tensor:
    projected = whitening.projection.double() @ (row.double() - whitening.mean.double().flatten())
    return torch.nn.functional.normalize(projected, dim=0)


def test_a_student_asks_as_itself(student: StudentCheckpoint, teacher: TeacherCheckpoint, pixels: Pixels) -> None:
    embedder = student_queries(student, index_in(teacher))
    assert (embedder.space, embedder.preprocessing) == (teacher.space(), Preprocessing(SIDE))
    with torch.inference_mode():
        (expected,) = student.student(normalised(pixels))
    np.testing.assert_allclose(embedder.embed([pixels])[0], expected, atol=1e-5)  # float32 through 50 layers


def test_a_student_asks_a_whitened_index_through_its_whitening(
    student: StudentCheckpoint, teacher: TeacherCheckpoint, whitening: Whitening, pixels: Pixels
) -> None:
    index = index_in(teacher, whitening)
    embedder = student_queries(student, index)
    assert embedder.space == index.space
    assert embedder.space.dimension == 5
    with torch.inference_mode():
        (row,) = student.student(normalised(pixels))
    np.testing.assert_allclose(embedder.embed([pixels])[0], whitened(row, whitening), atol=1e-5)


def test_a_student_of_a_whitened_space_is_not_whitened_twice(
    teacher: TeacherCheckpoint, whitening: Whitening, pixels: Pixels
) -> None:
    index = index_in(teacher, whitening)
    network = Student(StudentSpec("mobilenetv2_035", 5), seed=2).eval()
    embedder = student_queries(StudentCheckpoint(network, "w", index.space, Preprocessing(SIDE), trained=True), index)
    with torch.inference_mode():
        (expected,) = network(normalised(pixels))
    np.testing.assert_allclose(embedder.embed([pixels])[0], expected, atol=1e-5)


def test_a_student_can_ask_at_another_size(student: StudentCheckpoint, teacher: TeacherCheckpoint) -> None:
    embedder = student_queries(student, index_in(teacher), image_side_px=96)
    assert embedder.preprocessing == Preprocessing(96)


def test_a_student_of_another_teacher_is_refused(student: StudentCheckpoint, teacher: TeacherCheckpoint) -> None:
    stranger = replace(student, space=replace(student.space, teacher="another"))
    with pytest.raises(SpaceMismatchError) as refusal:
        student_queries(stranger, index_in(teacher))
    message = str(refusal.value)
    assert message.startswith("student 'small' lives in another (")
    assert ", but the index ix in tiny (" in message
    assert "(different teacher)" in message


def test_the_teacher_asks_as_its_database_was_embedded(
    teacher: TeacherCheckpoint, whitening: Whitening, pixels: Pixels
) -> None:
    """With the index's size and whitening, not those of its file."""
    embedder = teacher_queries(teacher, index_in(teacher, whitening))
    assert embedder.preprocessing == Preprocessing(32)
    with torch.inference_mode():
        (row,) = teacher.teacher(normalised(pixels))
    np.testing.assert_allclose(embedder.embed([pixels])[0], whitened(row, whitening), atol=1e-5)


def test_another_teacher_may_not_ask(teacher: TeacherCheckpoint) -> None:
    other = TeacherCheckpoint(Teacher(TeacherSpec("mobilenetv2_035"), seed=3).eval(), "tiny", Preprocessing(SIDE))
    with pytest.raises(SpaceMismatchError, match=r"^teacher 'tiny' lives in .* \(different weights_sha256\)"):
        teacher_queries(other, index_in(teacher))


def test_a_file_of_another_space_is_refused_before_a_runtime_starts(
    teacher: TeacherCheckpoint, whitening: Whitening
) -> None:
    """An unwhitened file must not meet a whitened index: a phone sends what the file gives."""
    manifest = Manifest(
        space=teacher.space(),
        preprocessing=Preprocessing(SIDE, Fit.SQUASH),
        student="small",
        backbone="mobilenetv2_035",
        weights_sha256="1" * 64,
        format=Format.ONNX,
        precision=Precision.FP32,
        target="opset 20",
    )
    with pytest.raises(SpaceMismatchError, match=r"^the file no\.onnx lives in .*no whitening, but the index ix in"):
        artifact_queries(Artifact(Path("no.onnx"), manifest), index_in(teacher, whitening))


def test_a_size_is_given_or_stays() -> None:
    assert sized(Preprocessing(64), None) == Preprocessing(64)
    assert sized(Preprocessing(64, Fit.SQUASH), 32) == Preprocessing(32, Fit.SQUASH)
    with pytest.raises(UsageError, match="`image_side_px` is 0"):
        sized(Preprocessing(64), 0)


def test_queries_are_seen_at_the_index_s_scales_unless_told_otherwise(
    student: StudentCheckpoint, teacher: TeacherCheckpoint, pixels: Pixels
) -> None:
    index = replace(index_in(teacher), scales=(1.0, 0.5))
    whole = normalised(pixels)
    half = whole.reshape(1, 3, SIDE // 2, 2, 24, 2).mean((3, 5))  # what bilinear is at half the size
    by_student, by_teacher = partial(student_queries, student, index), partial(teacher_queries, teacher, index)
    for ask, network in ((by_student, student.student), (by_teacher, teacher.teacher)):
        with torch.inference_mode():
            rows = [network(one)[0].double() for one in (whole, half)]
        mean = ((rows[0] ** 3 + rows[1] ** 3) / 2) ** (1 / 3)
        expected = {None: mean / mean.norm(), (1.0,): rows[0], (0.5,): rows[1]}
        for scales, row in expected.items():
            np.testing.assert_allclose(ask(scales=scales).embed([pixels])[0], row, atol=1e-5)
        assert float((rows[0] - rows[1]).abs().max()) > 1e-4  # they can be told apart
