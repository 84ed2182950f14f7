"""From an image file to the pixels that a network takes; with `aml_edge.preprocessing` all that a phone must do.

decode → EXIF orientation → RGB (`aml_edge.decoding`) → crop to box → resize with antialias and fit. What follows
(scaling to [0, 1], mean and standard deviation) is `aml_edge.networks.normalisation`, which an exported file carries
inside itself.

Resizing is Pillow's BILINEAR, without its `reducing_gap` shortcut: a triangle filter that is as wide as two pixels of
the coarser of source and result, so that it averages where it reduces (antialias) and interpolates where it enlarges.
Columns first, then rows, each rounded to 8 bits. Sizes are rounded to the nearest pixel, halves up, at least one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from aml_edge.decoding import decode_upright_rgb, read_upright_rgb, read_upright_size
from aml_edge.errors import ImageError, ImageName, UsageError
from aml_edge.preprocessing import Fit, Preprocessing

Pixels = npt.NDArray[np.uint8]
"""One image as a network takes it: (H, W, 3) uint8 RGB, already cropped and fitted."""

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in px of the upright image."""


def load_pixels(path: Path, preprocessing: Preprocessing, box: Box | None = None) -> Pixels:
    """Returns the picture in a file as a network takes it.

    Args:
        path: the file.
        preprocessing: how to fit it.
        box: what to cut out first. Its edges are rounded to whole pixels (halves to even, as Pillow does) and end where
            the image ends. The native fit then reduces the cut-out as it would have reduced the whole image: its
            longest side becomes the side × its longest side / the image's longest side.

    Raises:
        ImageError: the file cannot be read, or the box holds nothing of it; the message names the file.
    """
    return _cut_and_fitted(read_upright_rgb(path), preprocessing, box, path)


def decode_pixels(content: bytes, preprocessing: Preprocessing, box: Box | None, name: ImageName) -> Pixels:
    """Returns the picture in a file's bytes as a network takes it, the same as `load_pixels` of that file.

    Args:
        content: all bytes of the file.
        preprocessing, box: as there.
        name: of the file or of what held its bytes, for a message.

    Raises:
        ImageError: they cannot be read, or the box holds nothing of the picture.
    """
    return _cut_and_fitted(decode_upright_rgb(content, name), preprocessing, box, name)


def read_fitted_size(path: Path, preprocessing: Preprocessing, box: Box | None = None) -> tuple[int, int]:
    """Returns width and height in px of what `load_pixels` gives of a file, from the file's header.

    Args:
        path, preprocessing, box: as there.

    Raises:
        ImageError: the header cannot be read, or the box holds nothing; what follows the header is not looked at.
    """
    whole = read_upright_size(path)
    left, top, right, bottom = (0, 0, *whole) if box is None else _box_within(whole, box, path)
    side = preprocessing.image_side_px
    if preprocessing.fit is not Fit.NATIVE:
        return side, side
    return _native_size((right - left, bottom - top), side, whole_longest_px=max(whole))


def fit_image(image: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Returns (H, W, 3) uint8 pixels of a whole image fitted as `load_pixels` does.

    Raises:
        UsageError: the array has another shape or type, or no pixel.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UsageError(
            f"`image` is {image.dtype} of shape {image.shape}; it must be uint8 of (H, W, 3), H and W > 0."
        )
    whole = Image.fromarray(image)
    return np.array(_fit(whole, preprocessing, whole_longest_px=max(whole.size)))


def _cut_and_fitted(image: Image.Image, preprocessing: Preprocessing, box: Box | None, path: ImageName) -> Pixels:
    part = image if box is None else image.crop(_box_within(image.size, box, path))
    return np.array(_fit(part, preprocessing, whole_longest_px=max(image.size)))


def _box_within(whole: tuple[int, int], box: Box, path: ImageName) -> tuple[int, int, int, int]:
    if not np.isfinite(box).all():
        raise ImageError(path, f"its box {tuple(box)} is not of four finite numbers")
    left, top, right, bottom = (round(edge) for edge in box)
    within = (max(0, left), max(0, top), min(whole[0], right), min(whole[1], bottom))
    if within[0] >= within[2] or within[1] >= within[3]:
        raise ImageError(path, f"its box {tuple(box)} holds no pixel of {whole[0]}×{whole[1]}")
    return within


def _fit(image: Image.Image, preprocessing: Preprocessing, *, whole_longest_px: int) -> Image.Image:
    side = preprocessing.image_side_px
    match preprocessing.fit:
        case Fit.NATIVE:
            size = _native_size(image.size, side, whole_longest_px=whole_longest_px)
            return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)
        case Fit.SQUASH:
            return image.resize((side, side), Image.Resampling.BILINEAR)
        case Fit.LETTERBOX:
            inner = image.resize(_scaled(image.size, side, max(image.size)), Image.Resampling.BILINEAR)
            colour = tuple(round(255 * value) for value in preprocessing.mean)
            square = Image.new("RGB", (side, side), colour)
            square.paste(inner, ((side - inner.width) // 2, (side - inner.height) // 2))
            return square
        case Fit.CENTER_CROP:
            cut = min(image.size)
            left, top = (image.width - cut) // 2, (image.height - cut) // 2
            middle = image.crop((left, top, left + cut, top + cut))
            return middle.resize((side, side), Image.Resampling.BILINEAR)


def _native_size(size: tuple[int, int], side: int, *, whole_longest_px: int) -> tuple[int, int]:
    return _scaled(size, side, whole_longest_px) if whole_longest_px > side else size


def _scaled(size: tuple[int, int], numerator: int, denominator: int) -> tuple[int, int]:
    """Returns both sides multiplied by a fraction, rounded to the nearest pixel, halves up, at least one."""
    width, height = (max(1, (2 * one * numerator + denominator) // (2 * denominator)) for one in size)
    return width, height
