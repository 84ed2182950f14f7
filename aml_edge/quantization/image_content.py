"""What an image shows, as far as calibration asks: a picture, one colour, or noise.

Noise drives activations where no picture does, and one colour drives them nowhere; ranges taken from either ruin a
file. Noise is told by its neighbours, which know nothing of each other: at its own size, and at a half and a quarter
of it. In a picture they do, at one of these sizes at least: of a halftone at a quarter.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from PIL import Image

from aml_edge.pixels import Pixels

NOISE_CORRELATION = 0.4
"""Between neighbours, of the highest of the sizes. The lowest of 2 588 stamps is .69, of 3 080 synthetic landmarks .61,
of scikit-image's photographs, each also at 64 px, .42 (gravel, grass); the highest of noise of 64 px and more is .13 as
PNG, WebP or JPEG of quality 75, and .33 where it was reduced to its half."""
SMALLEST_CONTRAST = 8
"""Of 255, between the darkest and the lightest pixel of a channel; less is one colour."""
LOOKED_AT_PX = 1024
"""A larger image is reduced first, by whole numbers, which leaves noise noise."""
SMALLEST_SIDE_PX = 16
"""A smaller reduction has too few neighbours to tell."""


class ImageContent(StrEnum):
    """What an image shows."""

    PICTURE = "a picture"
    ONE_COLOUR = "one colour"
    NOISE = "noise"


def content_of(image: Pixels) -> ImageContent:
    """Returns what an image shows.

    Args:
        image: (H, W, 3) uint8 RGB, whole, neither reduced nor padded.
    """
    looked_at = Image.fromarray(image).reduce(max(1, -(-max(image.shape[:2]) // LOOKED_AT_PX)))
    if int(np.ptp(np.asarray(looked_at), axis=(0, 1)).max()) < SMALLEST_CONTRAST:
        return ImageContent.ONE_COLOUR
    grey = looked_at.convert("L")
    if all(neighbour_correlation(np.asarray(one)) < NOISE_CORRELATION for one in _reductions(grey)):
        return ImageContent.NOISE
    return ImageContent.PICTURE


def neighbour_correlation(grey: npt.ArrayLike) -> float:
    """Returns the larger of the correlations of (H, W) pixels with their right and their lower neighbours.

    It is 1 where the pixels do not differ, and stripes have it along them.
    """
    values = np.asarray(grey, np.float64)
    pairs = ((values[:, :-1], values[:, 1:]), (values[:-1], values[1:]))
    return max(_correlation(first - first.mean(), second - second.mean()) for first, second in pairs if first.size)


def _correlation(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    power = float((first**2).sum() * (second**2).sum()) ** 0.5
    return float((first * second).sum()) / power if power else 1.0


def _reductions(grey: Image.Image) -> Iterator[Image.Image]:
    yield grey
    for factor in (2, 4):
        if min(grey.size) >= factor * SMALLEST_SIDE_PX:
            yield grey.reduce(factor)
