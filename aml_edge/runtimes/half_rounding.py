"""IEEE half precision, simulated in single: what every evaluator of a half-precision program does after each step."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_HALF = 65504.0
SMALLEST_NORMAL_HALF = 2.0**-14


def rounded_to_half(values: Tensor) -> Tensor:
    """Returns float32 values rounded to half precision: infinite above its range, zero below its normal numbers."""
    half = values.half().float()
    return torch.where(half.abs() < SMALLEST_NORMAL_HALF, torch.zeros_like(half), half)
