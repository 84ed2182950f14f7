"""From pixels to a network's input: the one place where pixels are scaled, centred and divided by a deviation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

WHITE = 255.0


class Normalise(nn.Module):
    """Scales pixels to [0, 1], subtracts the mean, divides by the standard deviation, puts channels first.

    Args:
        mean, std: one value a channel, on pixels scaled to [0, 1], in RGB order.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(tuple(mean), dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(tuple(std), dtype=torch.float32), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns (B, 3, H, W) float32 of (B, H, W, 3) pixels, uint8 or float in 0 to 255."""
        return ((pixels.float() / WHITE - self.mean) / self.std).permute(0, 3, 1, 2)
