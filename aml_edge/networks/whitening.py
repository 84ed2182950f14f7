"""Learned whitening as a layer: y = L2(P (x − m))."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from aml_edge.errors import UsageError
from aml_edge.networks.pooling import l2_normalise


class Whitening(nn.Module):
    """Centres rows, projects them and normalises them again.

    Args:
        mean: m, (D,).
        projection: P, (D_out, D) with D_out ≤ D or not.

    Raises:
        UsageError: the shapes do not belong together, or a value is not finite.
    """

    mean: Tensor
    projection: Tensor

    def __init__(self, mean: Tensor, projection: Tensor) -> None:
        super().__init__()
        if mean.ndim != 1 or projection.ndim != 2 or projection.shape[1] != mean.shape[0] or projection.shape[0] < 1:
            raise UsageError(
                f"`mean` is {tuple(mean.shape)} and `projection` {tuple(projection.shape)}; "
                "a whitening has a mean (D,) and a projection (D_out, D)."
            )
        if not (bool(mean.isfinite().all()) and bool(projection.isfinite().all())):
            raise UsageError("a whitening holds NaN or Inf; learn it again.")
        self.register_buffer("mean", mean.detach().to(torch.float32, copy=True).contiguous())
        self.register_buffer("projection", projection.detach().to(torch.float32, copy=True).contiguous())

    def forward(self, rows: Tensor) -> Tensor:
        """Returns (B, D_out) of (B, D), rows L2-normalised."""
        return l2_normalise((rows - self.mean) @ self.projection.T)

    @property
    def dimension(self) -> int:
        """Length D_out of a whitened embedding."""
        return self.projection.shape[0]

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical bytes: both shapes, then m and P as little-endian float32 in row order."""
        digest = hashlib.sha256(f"m {tuple(self.mean.shape)} P {tuple(self.projection.shape)}\n".encode())
        for tensor in (self.mean, self.projection):
            digest.update(tensor.cpu().contiguous().numpy().astype("<f4").tobytes())
        return digest.hexdigest()
