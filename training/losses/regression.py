"""Reg: the student's embedding of an image goes where the teacher's stands; no labels, no mining.

Source: Budnik and Avrithis, "Asymmetric metric learning for knowledge transfer", CVPR 2021, the regression loss.
"""

from __future__ import annotations

from typing import Literal

import torch

from aml_edge.errors import UsageError

DIFFERENCE_EPS = 1e-6
"""The published runs measure the distance of a and b as ‖a − b + eps‖; 1e-6 moves the loss in its sixth decimal."""


def regression(
    anchor: torch.Tensor,
    teacher_anchor: torch.Tensor,
    *,
    reduction: Literal["mean", "sum"] = "mean",
    eps: float = DIFFERENCE_EPS,
) -> torch.Tensor:
    """Returns ½‖f(a) − g(a)‖² over the anchors a, a scalar; for unit rows and eps 0 it is 1 − cos(f(a), g(a)).

    Args:
        anchor: (B, D) student embeddings, rows L2-normalised.
        teacher_anchor: (B, D) teacher embeddings of the same images, rows L2-normalised.
        reduction: over the B anchors.
        eps: added to each element of the difference.

    Raises:
        UsageError: the shapes differ, or are not (B, D).
    """
    if anchor.ndim != 2 or anchor.shape != teacher_anchor.shape:
        raise UsageError(
            f"`anchor` is {tuple(anchor.shape)} and `teacher_anchor` {tuple(teacher_anchor.shape)}; "
            "both must be (B, D) embeddings of the same images."
        )
    per_anchor = 0.5 * (anchor - teacher_anchor + eps).square().sum(dim=1)  # (B,)
    return per_anchor.mean() if reduction == "mean" else per_anchor.sum()
