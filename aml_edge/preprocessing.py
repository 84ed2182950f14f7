"""One definition of preprocessing for training, evaluation, export and phone.

decode → EXIF orientation → RGB (`aml_edge.decoding`) → crop to box → resize with antialias and fit. What follows
(scaling to [0, 1], mean and standard deviation) is `aml_edge.networks.normalisation`, which an exported file carries
inside itself; so a phone does only what this module does.

Resizing is Pillow's BILINEAR, without its `reducing_gap` shortcut: a triangle filter that is as wide as two pixels of
the coarser of source and result, so that it averages where it reduces (antialias) and interpolates where it enlarges.
Columns first, then rows, each rounded to 8 bits. Sizes are rounded to the nearest pixel, halves up, at least one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from aml_edge.decoding import read_upright_rgb
from aml_edge.errors import ImageError, UsageError

Pixels = npt.NDArray[np.uint8]
"""One image as a network takes it: (H, W, 3) uint8 RGB, already cropped and fitted."""

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in px of the upright image."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Fit(StrEnum):
    """How an image meets a network's input.

    NATIVE keeps the aspect: the longest side becomes at most the side, never enlarged (as published). The others give
    a square, which a file with a fixed input needs, and enlarge where they must: SQUASH ignores the aspect, LETTERBOX
    resizes the longest side and pads both ends of the other with the mean colour, CENTER_CROP cuts the middle square
    and resizes it.
    """

    NATIVE = "native"
    SQUASH = "squash"
    LETTERBOX = "letterbox"
    CENTER_CROP = "center-crop"


@dataclass(frozen=True)
class Preprocessing:
    """How an image is made into a network's input; it belongs to the network, not to the space.

    Args:
        image_side_px: longest side (native fit) or side of the square, px.
        fit: see `Fit`.
        mean, std: per channel, on pixels scaled to [0, 1], in RGB order.
        colour_order: always ``"RGB"``; recorded because phones differ.
    """

    image_side_px: int = 362
    fit: Fit = Fit.NATIVE
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    colour_order: str = "RGB"

    def __post_init__(self) -> None:
        if self.image_side_px < 1:
            raise UsageError(f"`image_side_px` is {self.image_side_px}; an image has at least one pixel.")
        if self.colour_order != "RGB":
            raise UsageError(f"`colour_order` is {self.colour_order!r}; only 'RGB' exists.")
        if min(self.std) <= 0:
            raise UsageError(f"`std` is {self.std}; a standard deviation is positive.")

    def fitted(self, fit: Fit, image_side_px: int) -> Preprocessing:
        """Returns the same preprocessing with another fit and side."""
        return replace(self, fit=fit, image_side_px=image_side_px)

    def to_json(self) -> dict[str, object]:
        """Returns the record as JSON values."""
        return {**asdict(self), "fit": str(self.fit), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, record: Mapping[str, object]) -> Preprocessing:
        """Reads a record written by `to_json`; raises `UsageError` where a field is missing, unknown or mistyped."""
        names = {field.name for field in fields(cls)}
        if set(record) != names:
            raise UsageError(f"a preprocessing has the fields {sorted(names)}, this one has {sorted(record)}.")
        side, colour_order = record["image_side_px"], record["colour_order"]
        if not isinstance(side, int) or not isinstance(colour_order, str):
            raise UsageError(f"a field of the preprocessing {dict(record)} has the wrong type.")
        try:
            fit = Fit(str(record["fit"]))
        except ValueError:
            raise UsageError(f"`fit` is {record['fit']!r}; it must be one of {', '.join(Fit)}.") from None
        return cls(side, fit, _triple(record["mean"]), _triple(record["std"]), colour_order)


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
    image = read_upright_rgb(path)
    part = image if box is None else image.crop(_box_within(image, box, path))
    return np.array(_fit(part, preprocessing, whole_longest_px=max(image.size)))


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


def _box_within(image: Image.Image, box: Box, path: Path) -> tuple[int, int, int, int]:
    if not np.isfinite(box).all():
        raise ImageError(path, f"its box {tuple(box)} is not of four finite numbers")
    left, top, right, bottom = (round(edge) for edge in box)
    within = (max(0, left), max(0, top), min(image.width, right), min(image.height, bottom))
    if within[0] >= within[2] or within[1] >= within[3]:
        raise ImageError(path, f"its box {tuple(box)} holds no pixel of {image.width}×{image.height}")
    return within


def _fit(image: Image.Image, preprocessing: Preprocessing, *, whole_longest_px: int) -> Image.Image:
    side = preprocessing.image_side_px
    match preprocessing.fit:
        case Fit.NATIVE:
            return _resized(image, side, whole_longest_px) if whole_longest_px > side else image
        case Fit.SQUASH:
            return image.resize((side, side), Image.Resampling.BILINEAR)
        case Fit.LETTERBOX:
            inner = _resized(image, side, max(image.size))
            colour = tuple(round(255 * value) for value in preprocessing.mean)
            square = Image.new("RGB", (side, side), colour)
            square.paste(inner, ((side - inner.width) // 2, (side - inner.height) // 2))
            return square
        case Fit.CENTER_CROP:
            cut = min(image.size)
            left, top = (image.width - cut) // 2, (image.height - cut) // 2
            middle = image.crop((left, top, left + cut, top + cut))
            return middle.resize((side, side), Image.Resampling.BILINEAR)


def _resized(image: Image.Image, numerator: int, denominator: int) -> Image.Image:
    """Returns the image with both sides multiplied by a fraction."""
    width, height = (max(1, (2 * size * numerator + denominator) // (2 * denominator)) for size in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _triple(value: object) -> tuple[float, float, float]:
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(v, int | float) for v in value):
        raise UsageError(f"{value!r} must be three numbers, one a channel.")
    return (float(value[0]), float(value[1]), float(value[2]))
