"""`ExportSpec`: what file is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from aml_edge.artifact import Format, Precision
from aml_edge.errors import UsageError
from aml_edge.preprocessing import SQUARE_FIT, Fit

SMALLEST_SIDE_PX = 32
"""Below it a trunk of stride 32 has no output pixel left."""


@dataclass(frozen=True)
class ExportSpec:
    """What file is asked for.

    Args:
        format, precision: what the file is.
        image_side_px: side of the square input.
        fit: how a caller makes an image square; native is refused, since a file has one input shape.
    """

    format: Format
    precision: Precision = Precision.FP32
    image_side_px: int = 362
    fit: Fit = SQUARE_FIT

    def __post_init__(self) -> None:
        if self.image_side_px < SMALLEST_SIDE_PX:
            raise UsageError(
                f"`image_side_px` is {self.image_side_px}; a network of stride 32 needs at least {SMALLEST_SIDE_PX}."
            )
        if self.fit is Fit.NATIVE:
            square = ", ".join(fit for fit in Fit if fit is not Fit.NATIVE)
            raise UsageError(f"`fit` is 'native'; a file has one input shape, so choose one of {square}.")

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the file's input: (1, H, W, 3) uint8 RGB."""
        return (1, self.image_side_px, self.image_side_px, 3)
