"""`TrainingSet`: the images of one split with their labels, and with the embeddings that the teacher gave them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aml_edge.datasets.labelled_images import ImageLabels, LabelledImages
from aml_edge.embedder import Embeddings
from aml_edge.errors import TeacherIndexError, UsageError
from aml_edge.image_loading import ImageItem
from aml_edge.index import TeacherIndex
from aml_edge.space import EmbeddingSpace


@dataclass(frozen=True)
class TeacherEmbeddings:
    """What the teacher gave of the images.

    Args:
        rows: (N, D) float32, rows L2-normalised, in the order of the images.
        space: the space that they live in.
    """

    rows: Embeddings
    space: EmbeddingSpace


@dataclass(frozen=True)
class TrainingSet:
    """The images of one split.

    Args:
        items: N images.
        labels: which of them match, or None.
        teacher: their teacher embeddings, or None where the network learns alone.
    """

    items: Sequence[ImageItem]
    labels: ImageLabels | None = None
    teacher: TeacherEmbeddings | None = None

    def __post_init__(self) -> None:
        if not self.items:
            raise UsageError("`items` is empty; training needs at least one image.")
        if self.teacher is not None:
            expected = (len(self.items), self.teacher.space.dimension)
            if self.teacher.rows.shape != expected:
                raise UsageError(
                    f"`teacher` has rows of {self.teacher.rows.shape}; {len(self.items)} images in a space of "
                    f"{expected[1]} dimensions need {expected}."
                )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what a training depends on: each file's name and size, the labels, the teacher's embeddings."""
        digest = hashlib.sha256()
        for item in self.items:
            size = item.path.stat().st_size if item.path.is_file() else -1
            digest.update(f"{item.path.name} {size}\n".encode(errors="surrogateescape"))
        if self.labels is not None:
            for rows in (self.labels.clusters, self.labels.query_rows, self.labels.positive_rows):
                digest.update(np.array([len(rows), *rows], "<i8").tobytes())
        if self.teacher is not None:
            digest.update(self.teacher.space.fingerprint.encode())
            digest.update(np.ascontiguousarray(self.teacher.rows, "<f4").data)
        return digest.hexdigest()


def training_set_of(images: LabelledImages, index: TeacherIndex | None) -> TrainingSet:
    """Returns the images of a split with their rows of a teacher's index, found by id.

    Args:
        images: of the split.
        index: of these images, rows of others are left alone; None where the network learns alone.

    Raises:
        TeacherIndexError: an image is not in the index, or its row is not a finite one of unit length.
        UsageError: the index is whitened.
    """
    if index is None:
        return TrainingSet(images.items, images.labels)
    if index.whitening is not None:
        raise UsageError(
            f"the index {index.path} is whitened, and its embeddings have values below zero, which a student's ReLU "
            "cannot give; train on an index built without whitening, whose students serve the whitened one as well."
        )
    rows = np.asarray(index.embeddings[index.rows_of(images.ids)], dtype=np.float32)  # (N, D)
    _require_sound(rows, images.ids, index)
    return TrainingSet(images.items, images.labels, TeacherEmbeddings(rows, index.space))


def _require_sound(rows: Embeddings, ids: Sequence[str], index: TeacherIndex) -> None:
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(broken):
        raise TeacherIndexError(
            f"the index {index.path} has NaN or Inf in {len(broken)} of {len(ids)} rows, the first for "
            f"{ids[int(broken[0])]}; build it again."
        )
    norms = np.linalg.norm(rows, axis=1)
    odd = np.flatnonzero(np.abs(norms - 1) > 1e-3)
    if len(odd):
        raise TeacherIndexError(
            f"the index {index.path} has {len(odd)} of {len(ids)} rows that are not of unit length, the first of "
            f"{norms[odd[0]]:g} for {ids[int(odd[0])]}; build it again."
        )
