"""`TrainingSet`: training images, each with the embedding that the teacher gave it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aml_edge.embedder import Embeddings
from aml_edge.errors import TeacherIndexError, UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.index import TeacherIndex
from aml_edge.space import EmbeddingSpace


@dataclass(frozen=True)
class TrainingSet:
    """Training images, each with the embedding that the teacher gave it.

    Args:
        items: N images.
        teacher_embeddings: (N, D) float32, rows L2-normalised, in the order of `items`.
        space: the space that the embeddings live in.
    """

    items: tuple[ImageItem, ...]
    teacher_embeddings: Embeddings
    space: EmbeddingSpace

    def __post_init__(self) -> None:
        if not self.items:
            raise UsageError("`items` is empty; training needs at least one image.")
        if self.teacher_embeddings.shape != (len(self.items), self.space.dimension):
            raise UsageError(
                f"`teacher_embeddings` is {self.teacher_embeddings.shape}; {len(self.items)} images in a space of "
                f"{self.space.dimension} dimensions need ({len(self.items)}, {self.space.dimension})."
            )


def training_set_of(ids: Sequence[str], items: Sequence[ImageItem], index: TeacherIndex) -> TrainingSet:
    """Returns the images with their rows of a teacher's index, found by id.

    Args:
        ids: of the images, as the index calls them.
        items: the same images, in the same order.
        index: of the training images; rows of other images are left alone.

    Raises:
        TeacherIndexError: an image is not in the index, or its row is not finite.
        UsageError: the index is whitened.
    """
    if index.whitening is not None:
        raise UsageError(
            f"the index {index.path} is whitened, and its embeddings have values below zero, which a student's ReLU "
            "cannot give; train on an index built without whitening, whose students serve the whitened one as well."
        )
    embeddings = np.asarray(index.embeddings[index.rows_of(ids)], dtype=np.float32)  # (N, D)
    broken = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(broken):
        raise TeacherIndexError(
            f"the index {index.path} has NaN or Inf in {len(broken)} of {len(ids)} rows, the first for "
            f"{ids[int(broken[0])]}; build it again."
        )
    return TrainingSet(tuple(items), embeddings, index.space)
