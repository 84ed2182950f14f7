"""What a step's network takes: pixels read from files, or what the frozen stages gave of them, kept in memory.

Frozen stages are most of a trunk's work, and what they give of an image is the same in every epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from aml_edge.errors import ImageError
from aml_edge.networks.normalisation import Normalise
from aml_edge.pixels import read_fitted_size
from aml_edge.preprocessing import Preprocessing
from aml_edge.progress import Progress
from aml_edge.training.batches import LOADING_WORKERS, Group, forward_by_shape, load_groups
from aml_edge.training.frozen_front import split_backbone
from aml_edge.training.quantization_aware import QuantizationAwareStudent
from aml_edge.training.trainable import Trainable
from aml_edge.training.training_set import TrainingSet

MOST_KEPT_BYTES = 2**30
"""More is not kept, and every epoch starts from the files again."""
READING_GROUP = 16

Shape = tuple[int, ...]


@dataclass(frozen=True)
class InputOptions:
    """How inputs are made.

    Args:
        frozen_stages: as in `TrainingSettings`.
        workers: threads that read ahead.
        most_bytes: what may be kept at most.
    """

    frozen_stages: int
    workers: int = LOADING_WORKERS
    most_bytes: int = MOST_KEPT_BYTES


class TrainingInputs(Protocol):
    """Where a network's inputs come from, and the part of the trunk that still has to run on them."""

    @property
    def trunk(self) -> Callable[[Tensor], Tensor]:
        """From a stack of inputs of one shape to the trunk's feature map (b, C, h, w)."""
        ...

    def groups(self, groups: Sequence[Sequence[int]]) -> Iterator[Group]:
        """Yields the inputs of each group of rows, in order."""
        ...

    def shape_of(self, row: int) -> Shape:
        """Returns what inputs that go through the network together have in common; known without reading pixels."""
        ...


class PixelInputs:
    """Pixels, read from the files each time.

    Args:
        network: whose whole trunk runs.
        training_set: images.
        preprocessing: of them.
        workers: threads that read ahead.
    """

    def __init__(
        self,
        network: Trainable,
        training_set: TrainingSet,
        preprocessing: Preprocessing,
        *,
        workers: int = LOADING_WORKERS,
    ) -> None:
        self.trunk: Callable[[Tensor], Tensor] = network.backbone
        if not isinstance(network, QuantizationAwareStudent):  # which normalises within its graph
            normalise = Normalise(preprocessing.mean, preprocessing.std).to(network.pool.p.device)
            self.trunk = nn.Sequential(normalise, network.backbone)
        self._items, self._preprocessing, self._workers = training_set.items, preprocessing, workers
        self._shapes: dict[int, Shape] = {}

    def groups(self, groups: Sequence[Sequence[int]]) -> Iterator[Group]:
        """Yields the images of each group; raises `ImageBatchError` after the last where some cannot be read."""
        return load_groups(self._items, groups, self._preprocessing, workers=self._workers)

    def shape_of(self, row: int) -> Shape:
        """Returns the image's width and height as fitted, from its file's header; () where that cannot be read."""
        if row not in self._shapes:
            item = self._items[row]
            try:
                self._shapes[row] = read_fitted_size(item.path, self._preprocessing, item.box)
            except ImageError:  # said by who reads its pixels, together with the others
                self._shapes[row] = ()
        return self._shapes[row]


@dataclass(frozen=True)
class KeptInputs:
    """What the frozen stages gave, one an image, kept.

    Args:
        trunk: the stages that learn.
        features: (C, h, w) of each image.
    """

    trunk: Callable[[Tensor], Tensor]
    features: tuple[Tensor, ...]

    def groups(self, groups: Sequence[Sequence[int]]) -> Iterator[Group]:
        """Yields what is kept of the images of each group."""
        for group in groups:
            yield tuple(self.features[row] for row in group)

    def shape_of(self, row: int) -> Shape:
        """Returns the shape of what is kept of the image."""
        return tuple(self.features[row].shape)


def training_inputs(
    network: Trainable,
    training_set: TrainingSet,
    preprocessing: Preprocessing,
    options: InputOptions,
    *,
    progress: Progress,
) -> TrainingInputs:
    """Returns kept inputs where stages are frozen, the trunk can be split there and memory holds them; else pixels.

    Args:
        network: in evaluation mode, its frozen stages as they will stay.
        training_set: images.
        preprocessing: of them.
        options: what is kept.
        progress: where the pass over the images is announced.

    Raises:
        ImageBatchError: images cannot be read; all of them are listed.
    """
    pixels = PixelInputs(network, training_set, preprocessing, workers=options.workers)
    if isinstance(network, QuantizationAwareStudent):
        return pixels
    split = split_backbone(network.backbone, options.frozen_stages)
    if split is None:
        return pixels
    device = network.pool.p.device
    normalise = Normalise(preprocessing.mean, preprocessing.std).to(device)
    front = nn.Sequential(normalise, split.front)
    count = len(training_set.items)
    groups = [range(start, min(start + READING_GROUP, count)) for start in range(0, count, READING_GROUP)]
    kept: list[Tensor] = []
    with torch.no_grad(), progress.task("frozen stages", count) as task:
        for group in pixels.groups(groups):
            kept.extend(one.cpu() for one in forward_by_shape(lambda stack: front(stack.to(device)), group))
            task.advance(len(group))
            if _bytes_of(kept) * count > options.most_bytes * len(kept):
                return pixels
    return KeptInputs(split.back, tuple(kept))


def _bytes_of(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
