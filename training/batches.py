"""Batches of training images, which may differ in shape, and how a network takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aml_edge.image_loading import ImageItem, load_many
from aml_edge.pixels import Pixels
from aml_edge.preprocessing import Preprocessing

LOADING_WORKERS = 2


@dataclass(frozen=True)
class Batch:
    """Images of a training set: their rows in it, and their fitted pixels."""

    rows: tuple[int, ...]
    images: tuple[Pixels, ...]


def load_batches(
    items: Sequence[ImageItem], rows: Sequence[int], preprocessing: Preprocessing, batch_size: int
) -> Iterator[Batch]:
    """Yields the images at `rows` of `items`, in that order, `batch_size` at a time; the last batch may be smaller.

    Raises:
        ImageBatchError: after the last image, where some could not be read; all of them are listed.
    """
    held_rows: list[int] = []
    held_images: list[Pixels] = []
    wanted = [items[row] for row in rows]
    loaded = load_many(wanted, preprocessing, workers=LOADING_WORKERS, skip_unreadable=False)
    for row, image in zip(rows, loaded, strict=True):
        held_rows.append(row)
        held_images.append(image.pixels)
        if len(held_rows) == batch_size:
            yield Batch(tuple(held_rows), tuple(held_images))
            held_rows, held_images = [], []
    if held_rows:
        yield Batch(tuple(held_rows), tuple(held_images))


def forward_by_shape(network: Callable[[Tensor], Tensor], images: Sequence[Pixels]) -> Tensor:
    """Returns (B, ·), one row an image in the order of `images`; those of one shape go through the network together.

    Args:
        network: from (b, H, W, 3) uint8 pixels to (b, ·) rows.
        images: B of them.
    """
    places: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(image.shape, []).append(place)
    rows = [network(torch.from_numpy(np.stack([images[place] for place in group]))) for group in places.values()]
    came_as = torch.tensor([place for group in places.values() for place in group])
    return torch.cat(rows)[came_as.argsort()]
