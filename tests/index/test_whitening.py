"""Whitening what was embedded already, by the formula, and which whitening a name stands for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aml_edge.errors import CheckpointError, SpaceMismatchError, TeacherIndexError, UsageError
from aml_edge.index import TeacherIndex
from aml_edge.index import whitened_rows as whitening_rows
from aml_edge.index.whitened_rows import WhitenedRows, whitened_rows
from aml_edge.index.whitening import resolve_index_whitening, resolve_student_whitening, whitened_index
from aml_edge.networks.checkpoints import StudentCheckpoint, TeacherCheckpoint
from aml_edge.networks.student import Student, StudentSpec
from aml_edge.networks.teacher import Teacher, TeacherSpec
from aml_edge.networks.whitening import Whitening
from aml_edge.networks.whitening_file import WhiteningCheckpoint, save_whitening
from aml_edge.networks.whitening_record import WhiteningKind, WhiteningRecord
from aml_edge.preprocessing import Preprocessing
from aml_edge.scales import PUBLISHED_SCALES
from aml_edge.space import EmbeddingSpace

DIMENSION = 6
TEACHER = Teacher(TeacherSpec("mobilenetv2_035"))


def layer(seed: int, inputs: int = DIMENSION, outputs: int = 4) -> Whitening:
    generator = torch.Generator().manual_seed(seed)
    return Whitening(torch.rand(inputs, generator=generator), torch.randn(outputs, inputs, generator=generator))


@pytest.fixture
def space() -> EmbeddingSpace:
    return EmbeddingSpace("toy", "a" * 64, DIMENSION)


@pytest.fixture
def index(space: EmbeddingSpace, tmp_path: Path) -> TeacherIndex:
    rows = np.random.default_rng(0).random((5, DIMENSION)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    ids = tuple(f"{number}.jpg" for number in range(5))
    return TeacherIndex(Path("ix"), space, Preprocessing(32), ids, mapped, None, scales=(1.0, 0.5))


def by_hand(rows: npt.NDArray[np.float32], whitening: Whitening) -> npt.NDArray[np.float64]:
    """y = L2(P (x - m)), row by row in float64."""
    projected = []
    for row in rows:
        centred = row.astype(np.float64) - whitening.mean.double().numpy()
        projected.append(whitening.projection.double().numpy() @ centred)
    return np.stack([row / np.linalg.norm(row) for row in projected])


@pytest.mark.parametrize("block", [1, 2, 5, 8192])
def test_rows_are_whitened_whatever_the_block(index: TeacherIndex, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(whitening_rows, "BLOCK_ROWS", block)
    whitened = whitened_rows(index.embeddings, layer(1))
    assert whitened.dtype == np.float32
    np.testing.assert_allclose(whitened, by_hand(index.embeddings, layer(1)), atol=2e-6)  # L2 adds 1e-6 to the norm
    assert whitened_rows(index.embeddings[:0], layer(1)).shape == (0, 4)


def test_an_index_becomes_what_it_would_have_been(index: TeacherIndex, space: EmbeddingSpace) -> None:
    whitened = whitened_index(index, layer(1))
    assert whitened.space == replace(space, dimension=4, whitening_sha256=layer(1).sha256)
    assert whitened.space_before_whitening == space
    assert (whitened.ids, whitened.scales, whitened.path) == (index.ids, (1.0, 0.5), Path("ix"))
    expected = by_hand(index.embeddings, layer(1))
    np.testing.assert_allclose(whitened.checked_embeddings[:], expected, atol=2e-6)
    assert whitened.embeddings is index.embeddings  # nothing is held in memory
    assert index.space == space  # and the index itself is left alone


def test_rows_are_whitened_as_they_are_read(index: TeacherIndex) -> None:
    rows, expected = WhitenedRows(index.checked_embeddings, layer(1)), by_hand(index.embeddings, layer(1))
    assert (rows.shape, len(rows)) == ((5, 4), 5)
    rows.fetch(slice(0, 5))
    buffer = np.zeros((4, 4), np.float32)
    read = rows.read_into(slice(1, 4), buffer)
    assert np.shares_memory(read, buffer)
    np.testing.assert_allclose(read, expected[1:4], atol=2e-6)
    assert (buffer[3] == 0).all()
    np.testing.assert_allclose(rows[np.array([4, 0])], expected[[4, 0]], atol=2e-6)
    np.testing.assert_allclose(rows.read_into(np.array([4, 0]), buffer), expected[[4, 0]], atol=2e-6)


def test_an_embedding_that_cannot_be_one_is_not_whitened(index: TeacherIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whitening gives every row unit length, so nobody would see it afterwards."""
    monkeypatch.setattr(whitening_rows, "BLOCK_ROWS", 2)
    rows = np.array(index.embeddings)
    rows[3] *= 1.5
    with pytest.raises(TeacherIndexError, match=r"the index ix holds an embedding of length 1\.5, not 1, for 3\.jpg; "):
        whitened_index(replace(index, embeddings=rows), layer(1)).checked_embeddings[:]


def test_an_index_is_not_whitened_twice(index: TeacherIndex) -> None:
    sha256 = layer(1).sha256[:8]
    with pytest.raises(UsageError) as refusal:
        whitened_index(whitened_index(index, layer(1)), layer(2, inputs=4))
    assert str(refusal.value) == (
        f"`whitening` is {layer(2, inputs=4).sha256[:8]}, but the index ix is whitened already ({sha256}); "
        "leave it out, or give an index that was built without."
    )
    with pytest.raises(UsageError, match=r"^`whitening` is 'no file', but the index ix is whitened already"):
        resolve_index_whitening("no file", whitened_index(index, layer(1)), None)


def published(path: Path, whitening: Whitening) -> Path:
    torch.save({"m": whitening.mean[:, None], "P": whitening.projection}, path)
    return path


def ours(path: Path, whitening: Whitening, space: EmbeddingSpace, weights_sha256: str) -> Path:
    record = WhiteningRecord(
        whitening.sha256, WhiteningKind.PCA, "a network", weights_sha256, space, "toys", 10, None, 0.0
    )
    save_whitening(WhiteningCheckpoint(whitening, record), path)
    return path


def test_a_file_is_read_in_either_form(index: TeacherIndex, space: EmbeddingSpace, tmp_path: Path) -> None:
    files = (
        published(tmp_path / "w.pth", layer(1)),
        ours(tmp_path / "w.safetensors", layer(1), space, space.weights_sha256),
    )
    for file in files:
        assert resolve_index_whitening(str(file), index, None).sha256 == layer(1).sha256


def test_one_that_came_with_the_teacher_goes_by_its_scales(index: TeacherIndex) -> None:
    both = {"sfm/ss": layer(1), "sfm/ms": layer(2)}
    teacher = TeacherCheckpoint(TEACHER, "toy", Preprocessing(32), both)
    assert resolve_index_whitening("sfm/ss", index, teacher) is both["sfm/ss"]
    assert resolve_index_whitening("sfm", index, teacher) is both["sfm/ms"]
    assert resolve_index_whitening("sfm", replace(index, scales=(1.0,)), teacher) is both["sfm/ss"]
    assert resolve_index_whitening("sfm", replace(index, scales=PUBLISHED_SCALES), teacher) is both["sfm/ms"]


def test_a_name_that_says_nothing_is_refused(index: TeacherIndex) -> None:
    teacher = TeacherCheckpoint(TEACHER, "toy", Preprocessing(32), {"sfm/ss": layer(1)})
    for given, known in (
        (None, "name it with --teacher"),
        (teacher, "sfm/ss"),
        (replace(teacher, whitenings={}), "none"),
    ):
        with pytest.raises(UsageError) as refusal:
            resolve_index_whitening("nope", index, given)
        assert str(refusal.value) == (
            f"`whitening` is 'nope'; it must be a whitening's file, or one that came with the teacher: {known}."
        )


def test_another_dimension_is_refused(index: TeacherIndex, tmp_path: Path) -> None:
    file = published(tmp_path / "w.pth", layer(1, inputs=7))
    with pytest.raises(UsageError) as refusal:
        resolve_index_whitening(str(file), index, None)
    assert str(refusal.value) == (
        f"`whitening` is '{file}', which takes 7 values, but the index ix holds 6; "
        "give one that was learned for its teacher."
    )


def test_one_of_another_network_is_refused(index: TeacherIndex, space: EmbeddingSpace, tmp_path: Path) -> None:
    stranger = ours(tmp_path / "stranger", layer(1), replace(space, teacher="another"), space.weights_sha256)
    with pytest.raises(SpaceMismatchError, match="different teacher"):
        resolve_index_whitening(str(stranger), index, None)
    student = ours(tmp_path / "student", layer(1), space, "b" * 64)
    with pytest.raises(SpaceMismatchError, match=r"was learned for student 'a network' \(bbbbbbbb\), not for teacher"):
        resolve_index_whitening(str(student), index, None)


@pytest.fixture(scope="module")
def student() -> StudentCheckpoint:
    network = Student(StudentSpec("mobilenetv2_035", DIMENSION), seed=2).eval()
    return StudentCheckpoint(network, "s", EmbeddingSpace("toy", "a" * 64, DIMENSION), Preprocessing(32), trained=True)


def test_a_student_s_own_is_read_in_either_form(student: StudentCheckpoint, tmp_path: Path) -> None:
    files = (
        published(tmp_path / "w.pth", layer(1)),
        ours(tmp_path / "w.safetensors", layer(1), student.space, student.weights_sha256),
    )
    for file in files:
        assert resolve_student_whitening(file, student).sha256 == layer(1).sha256


def test_what_is_not_the_student_s_own_is_refused(student: StudentCheckpoint, tmp_path: Path) -> None:
    nowhere, other, large, broken = (tmp_path / name for name in ("nowhere", "other", "large", "broken"))
    with pytest.raises(UsageError) as missing:
        resolve_student_whitening(nowhere, student)
    assert str(missing.value) == (
        f"`student_whitening` is '{nowhere}', which is no file; make one: `aml-edge whitening`."
    )
    with pytest.raises(SpaceMismatchError, match=r"not for student 's' \("):
        resolve_student_whitening(ours(other, layer(1), student.space, student.space.weights_sha256), student)
    with pytest.raises(UsageError) as another:
        resolve_student_whitening(published(large, layer(1, inputs=7)), student)
    assert str(another.value) == (
        f"`student_whitening` is '{large}', which takes 7 values, but student 's' gives 6; "
        "give the one that was learned for this student."
    )
    broken.write_bytes(b"no whitening")
    with pytest.raises(CheckpointError):
        resolve_student_whitening(broken, student)
