"""Batches of a network's inputs, which may differ in shape, and how it takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aml_edge.image_loading import ImageItem, load_many
from aml_edge.preprocessing import Preprocessing

LOADING_WORKERS = 2


@dataclass(frozen=True)
class Batch:
    """Images of a training set: their rows in it, and what the network takes of each, pixels or features."""

    rows: tuple[int, ...]
    inputs: tuple[Tensor, ...]


def load_batches(
    items: Sequence[ImageItem], rows: Sequence[int], preprocessing: Preprocessing, batch_size: int
) -> Iterator[Batch]:
    """Yields the images at `rows` of `items` as (H, W, 3) uint8 pixels, in that order; the last batch may be smaller.

    Raises:
        ImageBatchError: after the last image, where some could not be read; all of them are listed.
    """
    held_rows: list[int] = []
    held_images: list[Tensor] = []
    wanted = [items[row] for row in rows]
    loaded = load_many(wanted, preprocessing, workers=LOADING_WORKERS, skip_unreadable=False)
    for row, image in zip(rows, loaded, strict=True):
        held_rows.append(row)
        held_images.append(torch.from_numpy(image.pixels))
        if len(held_rows) == batch_size:
            yield Batch(tuple(held_rows), tuple(held_images))
            held_rows, held_images = [], []
    if held_rows:
        yield Batch(tuple(held_rows), tuple(held_images))


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
