"""Groups of a network's inputs, which may differ in shape, and how it takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from aml_edge.image_loading import ImageItem, load_many
from aml_edge.preprocessing import Preprocessing

LOADING_WORKERS = 2

Group = tuple[Tensor, ...]
"""What a network takes of some images, pixels or features, each without a batch dimension."""


def load_groups(
    items: Sequence[ImageItem],
    groups: Sequence[Sequence[int]],
    preprocessing: Preprocessing,
    *,
    workers: int = LOADING_WORKERS,
) -> Iterator[Group]:
    """Yields for each group of rows of `items` their (H, W, 3) uint8 pixels, in order; images are read ahead.

    Raises:
        ImageBatchError: after the last image, where some could not be read; all of them are listed.
    """
    loaded = load_many(
        [items[row] for group in groups for row in group], preprocessing, workers=workers, skip_unreadable=False
    )
    for group in groups:
        held: list[Tensor] = []
        while len(held) < len(group):
            image = next(loaded, None)
            if image is None:
                raise AssertionError("load_many raises where it yields less than it was asked for")
            held.append(torch.from_numpy(image.pixels))
        yield tuple(held)


def forward_by_shape(network: Callable[[Tensor], Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Returns what a network gives of each input, in their order; those of one shape go through it together.

    Args:
        network: from a stack (b, ·) of inputs of one shape to (b, ·).
        inputs: any number, without a batch dimension.
    """
    places: dict[tuple[int, ...], list[int]] = {}
    for place, one in enumerate(inputs):
        places.setdefault(tuple(one.shape), []).append(place)
    outputs: dict[int, Tensor] = {}
    for group in places.values():
        outputs.update(zip(group, network(torch.stack([inputs[place] for place in group])), strict=True))
    return [outputs[place] for place in range(len(inputs))]
