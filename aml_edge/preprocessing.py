"""`Preprocessing`: the record of how an image becomes a network's input. `aml_edge.pixels` carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from math import isfinite

from aml_edge.errors import UsageError

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


SQUARE_FIT = Fit.LETTERBOX
"""What exported files ask for unless told otherwise: the square that costs least mAP (`aml_edge.benchmarks.fits`)."""


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
        for name in ("mean", "std"):
            if not all(isfinite(value) for value in getattr(self, name)):
                raise UsageError(f"`{name}` is {getattr(self, name)}; it must be three finite numbers.")
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


def _triple(value: object) -> tuple[float, float, float]:
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(v, int | float) for v in value):
        raise UsageError(f"{value!r} must be three numbers, one a channel.")
    try:
        return (float(value[0]), float(value[1]), float(value[2]))
    except OverflowError:
        raise UsageError("a number of three, one a channel, is too large.") from None
