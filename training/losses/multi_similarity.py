"""MS: soft maxima of the negatives' similarities and of the positives' lack of it.

Source: Wang et al., "Multi-similarity loss with general pair weighting for deep metric learning", CVPR 2019, equation
10, without its mining; as used by Budnik and Avrithis, CVPR 2021. It fixes relations to a threshold, not coordinates:
the paper's asymmetric runs with it fail.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from aml_edge.training.losses.embedding_rows import (
    Reduction,
    in_full_precision,
    positives_of,
    reduced,
    require_negatives,
    similarities,
)


@in_full_precision
def multi_similarity(
    anchor: Tensor,
    positive: Tensor,
    negatives: Tensor,
    *,
    threshold: float = 0.5,
    alpha: float = 2.0,
    beta: float = 40.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Returns log(1 + Σ_p exp(−A (s(a, p) − t))) / A + log(1 + Σ_n exp(B (s(a, n) − t))) / B over the anchors a.

    Args:
        anchor: (B, D) student embeddings, rows L2-normalised.
        positive: (B, D) or (B, P, D), likewise; P may be 0.
        negatives: (B, N, D), likewise; N may be 0.
        threshold: t.
        alpha, beta: A and B, sharpness for positives and for negatives; the defaults are the paper's.
        reduction: over the B anchors.

    Raises:
        UsageError: the shapes do not belong together.
    """
    positives = positives_of(anchor, positive)
    require_negatives(anchor, negatives)
    pulled = _log_one_plus_sum(-alpha * (similarities(anchor, positives) - threshold)) / alpha
    pushed = _log_one_plus_sum(beta * (similarities(anchor, negatives) - threshold)) / beta
    return reduced(pulled + pushed, reduction)


def _log_one_plus_sum(exponents: Tensor) -> Tensor:
    """Returns log(1 + Σ e^x), (B,) of (B, N), without overflow."""
    return torch.logsumexp(functional.pad(exponents, (0, 1)), dim=1)
