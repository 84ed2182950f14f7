"""Training images and their rows of an index, and what tells two sets apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aml_edge.datasets.labelled_images import ImageLabels, LabelledImages
from aml_edge.errors import TeacherIndexError, UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.index import TeacherIndex
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace
from aml_edge.training.training_set import TeacherEmbeddings, TrainingSet, training_set_of

SPACE = EmbeddingSpace("toy", "0" * 64, 2)
ROWS = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, 0.6]], np.float32)
ITEMS = tuple(ImageItem(Path(name)) for name in ("c", "a", "d"))
LABELS = ImageLabels((4, 4, 9), (0,), (1,))
MakeIndex = Callable[..., TeacherIndex]


def images(*ids: str) -> LabelledImages:
    return LabelledImages(ids, tuple(ImageItem(Path(one)) for one in ids), LABELS)


@pytest.fixture
def index() -> MakeIndex:
    def make(rows: npt.NDArray[np.floating] = ROWS, whitening: Whitening | None = None) -> TeacherIndex:
        return TeacherIndex(Path("landmarks"), SPACE, Preprocessing(), ("a", "b", "c", "d"), rows, whitening)

    return make


def test_each_image_gets_its_own_row(index: MakeIndex) -> None:
    training_set = training_set_of(images("c", "a", "d"), index())
    assert training_set.items == ITEMS
    assert training_set.labels == LABELS
    assert training_set.teacher is not None
    assert training_set.teacher.space == SPACE
    np.testing.assert_array_equal(training_set.teacher.rows, ROWS[[2, 0, 3]])


def test_without_an_index_there_are_images_and_labels() -> None:
    assert training_set_of(images("c", "a", "d"), None) == TrainingSet(ITEMS, LABELS, None)


def test_rows_of_an_index_in_half_precision_are_widened(index: MakeIndex) -> None:
    training_set = training_set_of(images("d", "a"), index(ROWS.astype(np.float16)))
    assert training_set.teacher is not None
    assert training_set.teacher.rows.dtype == np.float32
    np.testing.assert_allclose(training_set.teacher.rows, ROWS[[3, 0]], atol=2**-12)


def test_images_that_the_index_lacks_are_named(index: MakeIndex) -> None:
    with pytest.raises(TeacherIndexError, match=r"index landmarks lacks 2 of 3 images \(x, y\)"):
        training_set_of(images("x", "a", "y"), index())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_named(index: MakeIndex, value: float) -> None:
    rows = ROWS.copy()
    rows[2, 1] = value
    with pytest.raises(TeacherIndexError) as caught:
        training_set_of(images("a", "c", "d"), index(rows))
    assert str(caught.value) == ("the index landmarks has NaN or Inf in 1 of 3 rows, the first for c; build it again.")


@pytest.mark.parametrize(("factor", "length"), [(0.0, "0"), (1.01, "1.01")])
def test_rows_of_another_length_are_named(index: MakeIndex, factor: float, length: str) -> None:
    rows = ROWS.copy()
    rows[2:] *= factor
    with pytest.raises(TeacherIndexError) as caught:
        training_set_of(images("a", "c", "d"), index(rows))
    assert str(caught.value) == (
        f"the index landmarks has 2 of 3 rows that are not of unit length, the first of {length} for c; build it again."
    )


def test_a_broken_row_of_another_image_does_not_matter(index: MakeIndex) -> None:
    rows = ROWS.copy()
    rows[1, 1] = np.nan
    teacher = training_set_of(images("a"), index(rows)).teacher
    assert teacher is not None
    np.testing.assert_array_equal(teacher.rows, ROWS[:1])


def test_a_whitened_index_is_refused(index: MakeIndex) -> None:
    with pytest.raises(UsageError) as caught:
        training_set_of(images("a"), index(whitening=Whitening(torch.zeros(2), torch.eye(2))))
    assert str(caught.value) == (
        "the index landmarks is whitened, and its embeddings have values below zero, which a student's ReLU cannot "
        "give; train on an index built without whitening, whose students serve the whitened one as well."
    )


def test_no_images_are_refused() -> None:
    with pytest.raises(UsageError, match="`items` is empty; training needs at least one image"):
        TrainingSet(())


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (3,)])
def test_embeddings_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        TrainingSet(ITEMS, teacher=TeacherEmbeddings(np.zeros(shape, np.float32), SPACE))
    assert str(caught.value) == (f"`teacher` has rows of {shape}; 3 images in a space of 2 dimensions need (3, 2).")


@pytest.fixture
def whole(tmp_path: Path) -> TrainingSet:
    """Three files of one, two and three bytes, with labels and a teacher."""
    paths = [tmp_path / name for name in "cad"]
    for size, path in enumerate(paths, start=1):
        path.write_bytes(b"x" * size)
    rows = TeacherEmbeddings(ROWS[[2, 0, 3]], SPACE)
    return TrainingSet(tuple(ImageItem(path) for path in paths), LABELS, rows)


def test_the_same_images_elsewhere_have_the_same_fingerprint(whole: TrainingSet, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for item in whole.items:
        (tmp_path / "there" / item.path.name).write_bytes(item.path.read_bytes())
    there = replace(whole, items=tuple(ImageItem(tmp_path / "there" / item.path.name) for item in whole.items))
    assert there.fingerprint == whole.fingerprint
    assert len(whole.fingerprint) == 64


def test_whatever_a_training_depends_on_is_in_the_fingerprint(whole: TrainingSet, tmp_path: Path) -> None:
    first, second, third = whole.items
    teacher = whole.teacher
    assert teacher is not None
    nudged = teacher.rows.copy()
    nudged[1, 0] = np.nextafter(nudged[1, 0], 2)
    longer, renamed = tmp_path / "longer" / "a", tmp_path / "e"
    longer.parent.mkdir()
    longer.write_bytes(b"x" * 9)
    renamed.write_bytes(b"x" * 2)
    others = [
        replace(whole, items=(second, first, third)),
        replace(whole, items=(first, ImageItem(renamed), third)),
        replace(whole, items=(first, ImageItem(longer), third)),
        replace(whole, items=(first, ImageItem(tmp_path / "missing" / "a"), third)),
        replace(whole, labels=None),
        replace(whole, labels=ImageLabels((4, 9, 9), (0,), (1,))),
        replace(whole, labels=ImageLabels((4, 4, 9), (1,), (0,))),
        replace(whole, labels=ImageLabels((4, 4, 9), (0, 1), ())),
        replace(whole, labels=ImageLabels((4, 4, 9), (), (0, 1))),
        replace(whole, teacher=None),
        replace(whole, teacher=TeacherEmbeddings(nudged, SPACE)),
        replace(whole, teacher=TeacherEmbeddings(teacher.rows, EmbeddingSpace("toy", "1" * 64, 2))),
    ]
    fingerprints = {one.fingerprint for one in (whole, *others)}
    assert len(fingerprints) == 1 + len(others)
