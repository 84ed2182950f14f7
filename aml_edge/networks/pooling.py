"""GeM pooling and L2 normalisation, with the published eps.

Source: Radenović, Tolias, Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

GEM_EPS = 1e-6
L2_EPS = 1e-6
INITIAL_POWER = 3.0


def gem(features: Tensor, p: Tensor | float, eps: float = GEM_EPS) -> Tensor:
    """Returns the generalised mean of each channel, (B, C) of (B, C, h, w).

    Args:
        features: values below `eps` count as `eps`.
        p: the power; 1 is the mean, infinity the maximum.

    Features in half precision are widened first: a power of them may not be a number there.
    """
    if features.dtype in (torch.float16, torch.bfloat16):
        features = features.float()
    return features.clamp(min=eps).pow(p).mean((-2, -1)).pow(1.0 / p)


def l2_normalise(rows: Tensor, eps: float = L2_EPS) -> Tensor:
    """Returns (B, D) rows divided by (norm + eps), as published: a row of zeros stays zero."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / (norms + eps)


class GeM(nn.Module):
    """GeM pooling with a learned power.

    Args:
        p: the power to start from.
        eps: floor of the features.
    """

    def __init__(self, p: float = INITIAL_POWER, eps: float = GEM_EPS) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), p))
        self.eps = eps

    def forward(self, features: Tensor) -> Tensor:
        """Returns (B, C) of (B, C, h, w)."""
        return gem(features, self.p, self.eps)
