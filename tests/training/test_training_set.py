"""Training images and their rows of an index."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aml_edge.errors import TeacherIndexError, UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.index import TeacherIndex
from aml_edge.networks.whitening import Whitening
from aml_edge.preprocessing import Preprocessing
from aml_edge.space import EmbeddingSpace
from aml_edge.training.training_set import TrainingSet, training_set_of

SPACE = EmbeddingSpace("toy", "0" * 64, 2)
ROWS = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, 0.6]], np.float32)
ITEMS = tuple(ImageItem(Path(name)) for name in ("c", "a", "d"))
MakeIndex = Callable[..., TeacherIndex]


@pytest.fixture
def index() -> MakeIndex:
    def make(rows: npt.NDArray[np.float32] = ROWS, whitening: Whitening | None = None) -> TeacherIndex:
        return TeacherIndex(Path("landmarks"), SPACE, Preprocessing(), ("a", "b", "c", "d"), rows, whitening)

    return make


def test_each_image_gets_its_own_row(index: MakeIndex) -> None:
    training_set = training_set_of(("c", "a", "d"), ITEMS, index())
    assert training_set.items == ITEMS
    assert training_set.space == SPACE
    np.testing.assert_array_equal(training_set.teacher_embeddings, ROWS[[2, 0, 3]])


def test_images_that_the_index_lacks_are_named(index: MakeIndex) -> None:
    with pytest.raises(TeacherIndexError, match=r"index landmarks lacks 2 of 3 images \(x, y\)"):
        training_set_of(("x", "a", "y"), ITEMS, index())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_named(index: MakeIndex, value: float) -> None:
    rows = ROWS.copy()
    rows[2, 1] = value
    with pytest.raises(TeacherIndexError) as caught:
        training_set_of(("a", "c", "d"), ITEMS, index(rows))
    assert str(caught.value) == ("the index landmarks has NaN or Inf in 1 of 3 rows, the first for c; build it again.")


def test_a_broken_row_of_another_image_does_not_matter(index: MakeIndex) -> None:
    rows = ROWS.copy()
    rows[1, 1] = np.nan
    np.testing.assert_array_equal(training_set_of(("a",), ITEMS[:1], index(rows)).teacher_embeddings, ROWS[:1])


def test_a_whitened_index_is_refused(index: MakeIndex) -> None:
    with pytest.raises(UsageError) as caught:
        training_set_of(("a",), ITEMS[:1], index(whitening=Whitening(torch.zeros(2), torch.eye(2))))
    assert str(caught.value) == (
        "the index landmarks is whitened, and its embeddings have values below zero, which a student's ReLU cannot "
        "give; train on an index built without whitening, whose students serve the whitened one as well."
    )


def test_no_images_are_refused() -> None:
    with pytest.raises(UsageError, match="`items` is empty; training needs at least one image"):
        TrainingSet((), np.zeros((0, 2), np.float32), SPACE)


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (3,)])
def test_embeddings_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"3 images in a space of 2 dimensions need \(3, 2\)"):
        TrainingSet(ITEMS, np.zeros(shape, np.float32), SPACE)
