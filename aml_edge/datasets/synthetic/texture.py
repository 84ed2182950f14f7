"""Pictures on planes: a texture at several sizes, and how a plane of the world shows in a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

Homography = npt.NDArray[np.float64]
"""(3, 3), from homogeneous pixels of a texture to homogeneous pixels of a picture."""

MARGIN = 2
"""Transparent pixels around a texture, so that its edges are smooth when it is warped."""

SMALLEST_MIP_PX = 16
ENLARGED_BELOW = 1.4
"""Texture pixels a picture pixel, below which a texture is interpolated; above it, smoothed pixels are just picked."""


@dataclass(frozen=True)
class Texture:
    """A picture on a plane, premultiplied by alpha (RGBa).

    Args:
        sharp: the picture.
        smooth: the same at full size and at each half of it; each pixel is the mean of four, so that the picture is
            displaced by half a pixel to the right and down.
    """

    sharp: Image.Image
    smooth: tuple[Image.Image, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height at full size, px."""
        return self.sharp.size


@dataclass(frozen=True)
class Warped:
    """The part of a picture that a texture covers: pixels premultiplied by alpha, and where their corner is."""

    pixels: Image.Image
    corner: tuple[int, int]


def texture_of(image: Image.Image) -> Texture:
    """Returns the texture of an RGBA image."""
    mip = sharp = image.convert("RGBa")
    smooth = [_smoothed(mip)]
    while min(mip.size) >= 2 * SMALLEST_MIP_PX:
        mip = mip.reduce(2)
        smooth.append(_smoothed(mip))
    return Texture(sharp, tuple(smooth))


def warp(texture: Texture, plane: Homography, size: tuple[int, int]) -> Warped | None:
    """Returns how the texture shows in a picture of `size`, or None where it does not.

    Interpolating costs four times as much as picking; picking from a picture that is smoothed and about twice as fine
    displaces nothing by more than a quarter of a pixel.
    """
    width, height = texture.size
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]]) @ plane.T
    corners = corners[:, :2] / corners[:, 2:]
    left, top = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)), size).astype(int).tolist()
    if right <= left or bottom <= top:
        return None
    fineness = _fineness(corners, width, height)
    if fineness < ENLARGED_BELOW:
        source, resample, displaced = texture.sharp, Image.Resampling.BILINEAR, 0.0
    else:
        level = min(math.floor(math.log2(fineness / ENLARGED_BELOW)), len(texture.smooth) - 1)
        source, resample, displaced = texture.smooth[level], Image.Resampling.NEAREST, 0.5
    to_source = np.array([[source.width / width, 0, displaced], [0, source.height / height, displaced], [0, 0, 1.0]])
    from_corner = np.array([[1, 0, left], [0, 1, top], [0, 0, 1.0]])
    inverse = to_source @ np.linalg.inv(plane) @ from_corner
    data = (inverse / inverse[2, 2]).ravel()[:8].tolist()
    pixels = source.transform((right - left, bottom - top), Image.Transform.PERSPECTIVE, data, resample)
    return Warped(pixels, (left, top))


def _fineness(corners: npt.NDArray[np.float64], width: int, height: int) -> float:
    """Texture pixels a picture pixel, in the direction in which they are fewest."""
    across = max(math.dist(corners[0], corners[1]), math.dist(corners[3], corners[2]))
    down = max(math.dist(corners[0], corners[3]), math.dist(corners[1], corners[2]))
    return min(width / max(across, 1.0), height / max(down, 1.0))


def _smoothed(image: Image.Image) -> Image.Image:
    across = Image.blend(image, ImageChops.offset(image, 1, 0), 0.5)
    return Image.blend(across, ImageChops.offset(across, 0, 1), 0.5)
