"""Checkpoints as embedders: the network's own numbers, the right space, a name that says what computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint
from aml_edge.networks.multi_scale import MultiScale
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.networks.whitening import Whitening
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Preprocessing
from aml_edge.runtimes.checkpoint_embedders import student_embedder, teacher_embedder
from aml_edge.space import EmbeddingSpace

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
PREPROCESSING = Preprocessing(64, mean=MEAN, std=STD)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    """Small operators on few cores: a second thread only waits."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def teacher() -> TeacherCheckpoint:
    return TeacherCheckpoint(Teacher(TeacherSpec("mobilenetv2_035"), seed=1).eval(), "tiny", PREPROCESSING)


@pytest.fixture(scope="module")
def whitening(teacher: TeacherCheckpoint) -> Whitening:
    generator = torch.Generator().manual_seed(0)
    dimension = teacher.teacher.dimension
    return Whitening(torch.rand(dimension, generator=generator), torch.randn(7, dimension, generator=generator))


@pytest.fixture
def two_shapes() -> list[Pixels]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in ((64, 48), (40, 64))]


def rows_of(network: torch.nn.Module, images: list[Pixels]) -> torch.Tensor:
    """One image at a time through plain PyTorch."""
    normalised = [(image / 255.0 - MEAN) / STD for image in images]
    batches = [torch.from_numpy(image.transpose(2, 0, 1)[None]).float() for image in normalised]
    with torch.inference_mode():
        return torch.cat([network(batch) for batch in batches])


def test_a_teacher_embeds_into_its_space(teacher: TeacherCheckpoint, two_shapes: list[Pixels]) -> None:
    embedder = teacher_embedder(teacher, PREPROCESSING)
    assert embedder.space == EmbeddingSpace("tiny", teacher.space().weights_sha256, teacher.teacher.dimension)
    assert embedder.preprocessing == PREPROCESSING
    np.testing.assert_allclose(embedder.embed(two_shapes), rows_of(teacher.teacher, two_shapes), atol=1e-5)


def test_its_whitening_follows(teacher: TeacherCheckpoint, whitening: Whitening, two_shapes: list[Pixels]) -> None:
    embedder = teacher_embedder(teacher, PREPROCESSING, whitening=whitening)
    assert (embedder.space.dimension, embedder.space.whitening_sha256) == (7, whitening.sha256)
    projected = (rows_of(teacher.teacher, two_shapes).double() - whitening.mean) @ whitening.projection.double().T
    np.testing.assert_allclose(embedder.embed(two_shapes), torch.nn.functional.normalize(projected), atol=1e-5)


def test_a_teacher_s_name_says_what_its_last_bits_depend_on(teacher: TeacherCheckpoint) -> None:
    """An unfinished index goes on only under the same name."""
    assert teacher_embedder(teacher, PREPROCESSING).name == f"torch {torch.__version__}, 1 threads"
    assert teacher_embedder(teacher, PREPROCESSING, threads=2).name == f"torch {torch.__version__}, 2 threads"


def test_a_student_embeds_into_the_space_that_it_claims(
    teacher: TeacherCheckpoint, whitening: Whitening, two_shapes: list[Pixels]
) -> None:
    network = Student(StudentSpec("mobilenetv2_035", teacher.teacher.dimension), seed=2).eval()
    student = StudentCheckpoint(network, "small", teacher.space(), PREPROCESSING, trained=True)
    plain = student_embedder(student, PREPROCESSING)
    assert (plain.name, plain.space) == ("student small", teacher.space())
    np.testing.assert_allclose(plain.embed(two_shapes), rows_of(network, two_shapes), atol=1e-5)
    whitened = student_embedder(student, PREPROCESSING, whitening=whitening)
    assert whitened.space == teacher.space(whitening)
    assert whitened.embed(two_shapes).shape == (2, 7)


def test_scales_come_before_the_whitening(
    teacher: TeacherCheckpoint, whitening: Whitening, two_shapes: list[Pixels]
) -> None:
    """The space stays what it is: scales are of images."""
    network = Student(StudentSpec("mobilenetv2_035", teacher.teacher.dimension), seed=2).eval()
    student = StudentCheckpoint(network, "small", teacher.space(), PREPROCESSING, trained=True)
    embedders = (
        teacher_embedder(teacher, PREPROCESSING, whitening=whitening, scales=(1.0, 0.5)),
        student_embedder(student, PREPROCESSING, whitening=whitening, scales=(1.0, 0.5)),
    )
    networks: tuple[Teacher | Student, ...] = (teacher.teacher, network)
    for embedder, single in zip(embedders, networks, strict=True):
        rows = rows_of(MultiScale(single, (1.0, 0.5)), two_shapes).double()
        projected = (rows - whitening.mean) @ whitening.projection.double().T
        np.testing.assert_allclose(embedder.embed(two_shapes), torch.nn.functional.normalize(projected), atol=1e-5)
        assert embedder.space == teacher.space(whitening)
        assert float((rows - rows_of(single, two_shapes)).abs().max()) > 1e-4
