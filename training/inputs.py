"""What a step's network takes: pixels read from files, or what the frozen stages gave of them, kept in memory.

Frozen stages are most of a trunk's work, and what they give of an image is the same in every epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from aml_edge.networks.normalisation import Normalise
from aml_edge.networks.student import Student
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import Progress
from aml_edge.training.batches import Batch, forward_by_shape, load_batches
from aml_edge.training.frozen_front import split_backbone
from aml_edge.training.training_set import TrainingSet

MOST_KEPT_BYTES = 2**30
"""More is not kept, and every epoch starts from the files again."""
READING_BATCH = 16


class TrainingInputs(Protocol):
    """Where batches come from, and the part of the trunk that still has to run on them."""

    @property
    def trunk(self) -> Callable[[Tensor], Tensor]:
        """From a stack of inputs of one shape to the trunk's feature map (b, C, h, w)."""
        ...

    def batches(self, rows: Sequence[int], batch_size: int) -> Iterator[Batch]:
        """Yields the inputs at the rows, in order; the last batch may be smaller."""
        ...


class PixelInputs:
    """Pixels, read from the files each time.

    Args:
        student: whose whole trunk runs.
        training_set: images.
        preprocessing: of them.
    """

    def __init__(self, student: Student, training_set: TrainingSet, preprocessing: Preprocessing) -> None:
        self.trunk: Callable[[Tensor], Tensor] = nn.Sequential(
            Normalise(preprocessing.mean, preprocessing.std), student.backbone
        )
        self._items, self._preprocessing = training_set.items, preprocessing

    def batches(self, rows: Sequence[int], batch_size: int) -> Iterator[Batch]:
        """Yields the images at the rows; raises `ImageBatchError` after the last where some cannot be read."""
        return load_batches(self._items, rows, self._preprocessing, batch_size)


@dataclass(frozen=True)
class KeptInputs:
    """What the frozen stages gave, one an image, kept.

    Args:
        trunk: the stages that learn.
        features: (C, h, w) of each image.
    """

    trunk: Callable[[Tensor], Tensor]
    features: tuple[Tensor, ...]

    def batches(self, rows: Sequence[int], batch_size: int) -> Iterator[Batch]:
        """Yields what is kept of the images at the rows."""
        for start in range(0, len(rows), batch_size):
            taken = tuple(rows[start : start + batch_size])
            yield Batch(taken, tuple(self.features[row] for row in taken))


def training_inputs(
    student: Student,
    training_set: TrainingSet,
    preprocessing: Preprocessing,
    *,
    frozen_stages: int,
    progress: Progress,
    most_bytes: int = MOST_KEPT_BYTES,
) -> TrainingInputs:
    """Returns kept inputs where stages are frozen, the trunk can be split there and memory holds them; else pixels.

    Args:
        student: in evaluation mode, its frozen stages as they will stay.
        training_set: images.
        preprocessing: of them.
        frozen_stages: as in `TrainingSettings`.
        progress: where the pass over the images is announced.
        most_bytes: what may be kept at most.

    Raises:
        ImageBatchError: images cannot be read; all of them are listed.
    """
    pixels = PixelInputs(student, training_set, preprocessing)
    split = split_backbone(student.backbone, frozen_stages)
    if split is None:
        return pixels
    front = nn.Sequential(Normalise(preprocessing.mean, preprocessing.std), split.front)
    count = len(training_set.items)
    kept: list[Tensor] = []
    with torch.no_grad(), progress.task("frozen stages", count) as task:
        for batch in pixels.batches(range(count), READING_BATCH):
            kept.extend(forward_by_shape(front, batch.inputs))
            task.advance(len(batch.rows))
            if _bytes_of(kept) * count > most_bytes * len(kept):
                return pixels
    return KeptInputs(split.back, tuple(kept))


def _bytes_of(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
